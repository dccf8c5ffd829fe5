# SPDX-License-Identifier: Apache-2.0
"""The area model: area, registers and frequency of any core, from laws of its blocks.

A core is the sum of its blocks. What all blocks of a kind take together is linear in a few terms of the
core's parameters, such as one for each multiplier of the array and one for each bit of an accumulator;
coefficients come from cores that were synthesised (`npuloop synth --family`). Delays are linear in logarithms
of sizes, and the slowest block sets the frequency. Memories are composed of macros whose area is interpolated
over their words. docs/decisions/0035-any-core-priced.md says how good it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import NpuloopError
from common.files import read_yaml
from common.stamp import check_stamp
from gates.memories import compositions
from gates.open_macros import core_open_areas
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from hw.system import System
from mapping.cost.tables import FOLDER, Basis, between, core_parameters

FILE = FOLDER / "area_family.yaml"
SCHEMA = 1
REMEDY = "make it with `npuloop synth --family`"
SUMS = ("area_um2", "flops", "gated_flops", "clock_gates", "leakage_nw")
"""What the blocks of a kind take together."""
DELAYS = ("path_ns", "wired_ns")
"""What the slowest block of a kind takes, without and with wires."""
OPEN_MACROS = "sky130"
"""The library beside which memories are also counted as published open macros."""

Term = Callable[[CoreConfig], float]


def _multipliers(core: CoreConfig) -> int:
    return core.rows * core.columns


def _multipliers_of(core: CoreConfig, w_bits: int) -> int:
    """Return the multipliers of a core whose weights have so many bits; of others none."""
    return _multipliers(core) if core.w_bits == w_bits else 0


def _accumulator_bits(core: CoreConfig) -> float:
    """Return the bits of all accumulators: the first slice of 16 columns has 32 each."""
    return CHANNEL_BLOCK * (32 + (core.columns / CHANNEL_BLOCK - 1) * core.acc_bits)


TERMS: Mapping[str, Term] = {
    "one": lambda core: 1.0,  # noqa: ARG005
    "rows": lambda core: core.rows,
    "slices": lambda core: core.columns / CHANNEL_BLOCK,
    "lanes": lambda core: core.lanes,
    "taps": lambda core: core.dw_taps,
    "banks": lambda core: core.act_banks,
    "pixel_bits": lambda core: math.ceil(math.log2(core.stripe_depth)),
    "act_bits": lambda core: math.log2(core.act_kib),
    "weight_bits": lambda core: math.log2(core.weight_kib),
    "param_bits": lambda core: math.log2(core.param_kib),
    **{f"multipliers_w{bits}": functools.partial(_multipliers_of, w_bits=bits) for bits in range(2, 9)},
    "multiplier_operands": lambda core: _multipliers(core) * core.a_bits,
    "multiplier_products": lambda core: _multipliers(core) * core.a_bits * core.w_bits,
    "tap_operands": lambda core: core.dw_taps * core.rows * core.a_bits,
    "tap_products": lambda core: core.dw_taps * core.rows * (core.a_bits + core.w_bits),
    "row_sums": lambda core: core.rows * (core.a_bits + core.w_bits),
    "operand_bits": lambda core: core.rows * core.a_bits,
    "slice_operands": lambda core: core.columns / CHANNEL_BLOCK * core.rows * core.a_bits,
    "tile_words": lambda core: math.ceil(_multipliers(core) * core.w_bits / 256),
    "accumulator_bits": _accumulator_bits,
    "stored_sums": lambda core: _accumulator_bits(core) * core.stripe_depth,
    "stripe_slices": lambda core: core.columns / CHANNEL_BLOCK * core.stripe_depth,
    "counter_bits": lambda core: math.log2(_multipliers(core)),
}
"""What areas are linear in."""

LAWS: Mapping[str, tuple[str, ...]] = {
    "npu_column": (
        *(f"multipliers_w{bits}" for bits in range(2, 9)), "multiplier_operands", "multiplier_products",
        "tap_operands", "slices",
    ),
    "npu_array_structural": ("slice_operands", "tap_operands", "one"),
    "npu_tap_sum": ("tap_products", "row_sums", "rows"),
    "npu_tile_word": ("tile_words",),
    "npu_operands": ("operand_bits", "tap_operands", "one"),
    "npu_acc_columns": ("stored_sums", "accumulator_bits", "stripe_slices", "slices"),
    "npu_acc_structural": ("stripe_slices", "slices", "one"),
    "npu_act_spm": ("one", "banks", "rows", "act_bits"),
    "npu_paired_spm": ("one", "weight_bits", "param_bits"),
    "npu_compute": ("one", "slices", "lanes", "pixel_bits", "act_bits", "taps", "rows"),
    "npu_agu": ("one", "rows", "taps", "slices", "act_bits"),
    "npu_operator_check": ("one", "pixel_bits", "taps", "slices"),
    "npu_drain": ("one", "slices", "lanes", "rows", "act_bits", "param_bits"),
    "npu_fifo": ("one", "act_bits", "param_bits", "lanes"),
    "npu_weight_loader": ("one", "weight_bits", "act_bits", "param_bits"),
    "npu_requant_structural": ("one", "lanes", "act_bits", "rows"),
    "npu_requant_lane": ("lanes",),
    "npu_core_counters": ("one", "counter_bits"),
    "npu_load": ("one", "act_bits", "weight_bits", "param_bits"),
    "npu_store": ("one", "act_bits"),
}  # fmt: skip
"""The terms of each module; of any other it is always the same."""
CONSTANT = ("one",)
DELAY_TERMS: tuple[Term, ...] = (
    lambda core: 1.0,  # noqa: ARG005
    lambda core: math.log2(core.rows),
    lambda core: math.log2(core.columns),
    lambda core: math.log2(core.stripe_depth),
    lambda core: math.log2(core.lanes),
    lambda core: core.w_bits,
    lambda core: core.a_bits,
    lambda core: core.dw_taps,
)
"""What delays are linear in."""


class AreaModelError(NpuloopError):
    """A file of the area model that is missing, damaged, or has not what is asked."""


def kind_of(group: str, module: str) -> str:
    """Return what the file calls the blocks of a module in a group."""
    return f"{group}/{module}"


def sum_terms(kind: str, core: CoreConfig) -> list[float]:
    """Return the terms of what the blocks of a kind take together."""
    return [float(TERMS[name](core)) for name in LAWS.get(kind.rpartition("/")[2], CONSTANT)]


def delay_terms(core: CoreConfig) -> list[float]:
    """Return the terms of a block's delay."""
    return [float(term(core)) for term in DELAY_TERMS]


@dataclass(frozen=True)
class AreaModel:
    """The model in cells of one library.

    Attributes:
        library: its name.
        sums: for each kind of block and each of SUMS its coefficients, in the order of `sum_terms`.
        delays: the same for each of DELAYS, in the order of `delay_terms`; without kinds that are all wires,
            or that a core of the fit lacks.
        macros: words of 128 bits, and the area of such a macro in µm², in rising order.
        parameters: of each core that was synthesised, by key.
        interval_90: half of a 90 % interval, relative: of `area`, `max_mhz`, `max_mhz_wired`.
    """

    library: str
    sums: Mapping[str, Mapping[str, tuple[float, ...]]]
    delays: Mapping[str, Mapping[str, tuple[float, ...]]]
    macros: tuple[tuple[int, float], ...]
    parameters: Mapping[str, Mapping[str, int]]
    interval_90: Mapping[str, float]

    def basis(self, core: CoreConfig) -> Basis:
        """Return whether a core lies between those that were synthesised; see `Basis`."""
        return between([core_parameters(core, System((core,)))], self.parameters.values())

    def total(self, quantity: str, core: CoreConfig) -> float:
        """Return one of SUMS of a whole core."""
        return sum(self.kinds(quantity, core).values())

    def kinds(self, quantity: str, core: CoreConfig) -> dict[str, float]:
        """Return one of SUMS of each kind of block."""
        return {kind: float(np.dot(law[quantity], sum_terms(kind, core))) for kind, law in self.sums.items()}

    def groups_um2(self, core: CoreConfig) -> dict[str, float]:
        """Return the cells' area by group, the largest first."""
        groups: dict[str, float] = {}
        for kind, area in self.kinds("area_um2", core).items():
            group = kind.rpartition("/")[0]
            groups[group] = groups.get(group, 0.0) + area
        return dict(sorted(groups.items(), key=lambda entry: -entry[1]))

    def slowest(self, delay: str, core: CoreConfig) -> tuple[str, float]:
        """Return the module of the slowest block, and its delay in ns."""
        terms = delay_terms(core)
        kind, law = max(self.delays.items(), key=lambda item: float(np.dot(item[1][delay], terms)))
        return kind.rpartition("/")[2], float(np.dot(law[delay], terms))

    def memories_um2(self, core: CoreConfig) -> dict[str, float]:
        """Return the area of each of a core's memories."""
        words, areas = zip(*self.macros, strict=True)
        return {
            name: item.count * item.macros * float(np.interp(item.words, words, areas))
            for name, item in compositions(core).items()
        }

    def area_um2(self, core: CoreConfig) -> float:
        """Return the area of a core with its memories."""
        return self.total("area_um2", core) + sum(self.memories_um2(core).values())

    def entry(self, core: CoreConfig) -> dict[str, Any]:
        """Return what the area table would have of a core, with `basis` and intervals; see the reference."""
        block, path_ns = self.slowest("path_ns", core)
        wired_block, wired_ns = self.slowest("wired_ns", core)
        opened = {name: area.area_um2 for name, area in core_open_areas(core).items()}
        return {
            "basis": self.basis(core),
            "groups_um2": self.groups_um2(core),
            "memories_um2": self.memories_um2(core),
            **({"open_memories_um2": opened} if self.library == OPEN_MACROS else {}),
            "max_frequency_mhz": 1000 / path_ns,
            "critical_path": {"block": block, "ns": path_ns},
            "max_frequency_wired_mhz": 1000 / wired_ns,
            "critical_path_wired": {"block": wired_block, "ns": wired_ns},
            "interval_90": dict(self.interval_90),
            **{name: round(self.total(name, core)) for name in ("flops", "gated_flops", "clock_gates")},
            "leakage_uw": self.total("leakage_nw", core) / 1000,
        }


@functools.lru_cache
def _read(path: Path, stamp: int) -> Mapping[str, Any]:  # noqa: ARG001  # the stamp tells versions apart
    document = read_yaml(path, AreaModelError, "file of the area model")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise AreaModelError(f"{path}: is no file of the area model of schema {SCHEMA}; {REMEDY}")
    check_stamp(path, document, AreaModelError, REMEDY)
    return document


def read_area_model(library: str, path: Path = FILE) -> AreaModel:
    """Read the model in cells of a library.

    Raises:
        AreaModelError: the file is missing, damaged or newer than this program, or lacks the library.
    """
    if not path.exists():
        raise AreaModelError(f"{path}: there is no area model; {REMEDY}")
    document = _read(path, path.stat().st_mtime_ns)
    try:
        entry = document["models"].get(library)
        if entry is None:
            known = ", ".join(document["models"])
            raise AreaModelError(f"{path}: has no model in cells of {library!r}; it has {known}")
        return AreaModel(
            library=library,
            sums=_laws(entry["sums"], SUMS),
            delays=_laws(entry["delays"], DELAYS),
            macros=tuple((int(words), float(area)) for words, area in entry["macros"]),
            parameters=entry["parameters"],
            interval_90={name: float(value) for name, value in entry["interval_90"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AreaModelError(f"{path}: is damaged ({error}); {REMEDY}") from None


def _laws(entry: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, dict[str, tuple[float, ...]]]:
    laws = {}
    for kind, law in entry.items():
        expected = len(DELAY_TERMS) if names == DELAYS else len(LAWS.get(kind.rpartition("/")[2], CONSTANT))
        laws[str(kind)] = {name: tuple(float(value) for value in law[name]) for name in names}
        if any(len(values) != expected for values in laws[kind].values()):
            raise ValueError(f"{kind} has not {expected} coefficients")
    return laws


def rtl_of(path: Path = FILE) -> str:
    """Return the hash of the RTL that the model was made of; errors as in `read_area_model`."""
    if not path.exists():
        raise AreaModelError(f"{path}: there is no area model; {REMEDY}")
    return str(_read(path, path.stat().st_mtime_ns).get("rtl_sha256"))
