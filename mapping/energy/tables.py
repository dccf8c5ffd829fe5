# SPDX-License-Identifier: Apache-2.0
"""Energy tables: what each thing that happens in a unit takes, where that comes from, and how good it is.

A table is a YAML file beside the core's cost table, called like it, such as `w4a8_16x32.energy.yaml`.
Energies have three values: `lower` without glitches, `value`, and `upper` with the load of wires; null where
such a bound does not exist. Those of features are slopes: the energy of an event grows with how much its
operands change, which its mean features (`LayerStatistics`) describe.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from common.errors import NpuloopError
from common.files import read_yaml, write_atomically
from common.stamp import check_stamp, stamped
from hw.core import CoreConfig
from hw.sources import rtl_hash
from hw.system import System
from mapping.cost.tables import FOLDER, TableError, core_parameters, table_name

SCHEMA = 1
REMEDY = "make it with `npuloop characterize-energy`"

Method = Literal["gate-measured", "modelled", "literature", "scaled"]
METHODS: tuple[Method, ...] = get_args(Method)
Group = Literal[
    "array", "accumulators", "requantiser", "control", "scratchpads", "bus", "external_memory", "idle"
]
GROUPS: tuple[Group, ...] = get_args(Group)
"""Parts of a breakdown."""
When = Literal["event", "busy", "awake", "always"]
"""When an energy is due: with an event; in a cycle in which the unit has work, in which its clock runs, or in
every cycle."""


@dataclass(frozen=True)
class Coefficient:
    """The energy of something that happens.

    Attributes:
        name: of the energy, in pJ.
        group: part of the breakdown.
        per: what one event is.
        meaning: what is in it.
        each: the hardware that takes it at the same time: once, for each column, for each lane.
        when: it is due.
    """

    name: str
    group: Group
    per: str
    meaning: str
    each: Literal["unit", "column", "lane"] = "unit"
    when: When = "event"


COEFFICIENTS = (
    Coefficient(
        "column_idle",
        "idle",
        "column and cycle",
        "clock of a column's gates and ungated registers",
        "column",
        "awake",
    ),
    Coefficient(
        "operand_idle", "idle", "cycle", "the same of operand and slide registers, shadow tile", when="awake"
    ),
    Coefficient(
        "accumulator_idle", "idle", "column and cycle", "the same of an accumulator", "column", "awake"
    ),
    Coefficient(
        "requantiser_idle", "idle", "lane and cycle", "the same of a lane of the requantiser", "lane", "awake"
    ),
    Coefficient("control_idle", "idle", "cycle", "the same of everything else in the unit", when="awake"),
    Coefficient("leakage", "idle", "cycle", "leakage of the unit's logic and memories", when="always"),
    Coefficient(
        "control_busy", "control", "cycle", "gated clocks of the control, whatever happens", when="busy"
    ),
    Coefficient("control_command", "control", "command", "gated clocks: fetch, queues, set-up of engines"),
    Coefficient(
        "control_word", "control", "ROWS bytes", "gated clocks: word on its way to the array or past it"
    ),
    Coefficient(
        "control_result", "control", "16 bytes", "gated clocks: word of results, drain to scratchpad"
    ),
    Coefficient("control_beat", "control", "16 bytes", "gated clocks: word of the bus, beside its engine"),
    Coefficient("column_beat", "array", "column and multiplying beat", "a beat, whatever its operands"),
    Coefficient("operand_word", "array", "ROWS bytes", "operands shifted into the array"),
    Coefficient("weight_word", "array", "32 bytes", "weights into the shadow tile"),
    Coefficient("tile_swap", "array", "column and pass", "the shadow tile becomes active"),
    Coefficient("accumulate", "accumulators", "column and accumulation", "a sum, whatever its operands"),
    Coefficient("accumulator_read", "accumulators", "column and sum", "a sum read, to add to it or to drain"),
    Coefficient("requantise", "requantiser", "result of a lane", "a result, whatever its operands"),
    Coefficient("activation_read", "scratchpads", "ROWS bytes", "word of the activation scratchpad read"),
    Coefficient("activation_write", "scratchpads", "16 bytes", "part of a word written"),
    Coefficient("weight_read", "scratchpads", "32 bytes", "word of the weight scratchpad read"),
    Coefficient("weight_write", "scratchpads", "16 bytes", "half of a word written"),
    Coefficient("parameter_read", "scratchpads", "16 bytes", "word of the parameter scratchpad read"),
    Coefficient("parameter_write", "scratchpads", "16 bytes", "word written"),
    Coefficient("bus_beat", "bus", "16 bytes", "word through the load, store or fetch engine"),
    Coefficient("external_byte", "external_memory", "byte", "read from or written to external memory"),
)
"""All energies but those of features; what is of a column is counted by the column."""
FEATURE_GROUPS: Mapping[str, Group] = {
    "mac": "array", "accumulate": "accumulators", "requantise": "requantiser",
}  # fmt: skip
"""Energies `<kind>.<feature>`: for each MAC, accumulation and result, and for each unit of the feature."""
NAMES = tuple(item.name for item in COEFFICIENTS)
FITTED = ("column_beat", "tile_swap", "accumulate", "accumulator_read", "requantise")
"""Energies that were fitted together with features, for each bound: only their sums are in order."""


class EnergyTableError(TableError):
    """An energy table that is missing, damaged, of a newer format, or of other hardware."""


@dataclass(frozen=True)
class Energy:
    """The energy of an event, or of a unit of a feature.

    Attributes:
        lower, value, upper: pJ; lower and upper may not exist.
        method: how it was found.
        per: what one event is.
        source: where exactly it comes from.
    """

    lower: float | None
    value: float
    upper: float | None
    method: Method
    per: str
    source: str

    @property
    def bounds(self) -> tuple[float, float, float]:
        """Lower, value and upper; the value where a bound does not exist."""
        return (
            self.value if self.lower is None else self.lower,
            self.value,
            self.value if self.upper is None else self.upper,
        )


@dataclass(frozen=True)
class LayerStatistics:
    """Mean features of the events of a layer on a unit.

    Attributes:
        nonzero, zero: of a MAC with a weight that is not zero, and with one that is (`mac.<feature>`).
        others: of accumulations and requantised results (`accumulate.<feature>`, `requantise.<feature>`).
        zero_share: share of the layer's weights on the unit that are zero, 0 to 1.
    """

    nonzero: Mapping[str, float] = field(default_factory=dict)
    zero: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    zero_share: float = 0.0

    @property
    def means(self) -> dict[str, float]:
        """Mean of each feature per event; of a MAC's features at `zero_share`."""
        z = self.zero_share
        mixed = {name: (1 - z) * value + z * self.zero[name] for name, value in self.nonzero.items()}
        return mixed | dict(self.others)

    def at(self, zero_share: float) -> LayerStatistics:
        """Return the statistics with another share of zero weights."""
        return replace(self, zero_share=zero_share)


@dataclass(frozen=True)
class EnergyTable:
    """A table.

    Attributes:
        core: key of the core.
        library: `name` and `sha256` of the cell library.
        rtl_sha256: hash of the RTL and the test bench.
        parameters: of the core, by name.
        period_ns: clock period, which idle energies and leakage are for.
        tools: versions.
        date: ISO 8601.
        energies: by name; see COEFFICIENTS and FEATURE_GROUPS.
        features: names of the features, `mac.<name>`, `accumulate.<name>` and `requantise.<name>`, in order.
        statistics: mean features where a network's are not known.
        errors: how far the sum was from replayed validation windows, and the like.
        stimulus: what the gates were measured on.
    """

    core: str
    library: Mapping[str, str]
    rtl_sha256: str
    parameters: Mapping[str, int]
    period_ns: float
    tools: Mapping[str, str]
    date: str
    energies: Mapping[str, Energy]
    features: tuple[str, ...]
    statistics: LayerStatistics
    errors: Mapping[str, Any]
    stimulus: Mapping[str, Any]


def energy_path(core: CoreConfig, config: System, folder: Path = FOLDER) -> Path:
    """Return the path of the energy table of a unit of a system."""
    return folder / f"{table_name([core], config.axi_bits)}.energy.yaml"


# ---------------------------------------------------------------------------------------------------- files
def energy_text(table: EnergyTable) -> str:
    """Return a table as YAML."""
    check_energies(table.energies, table.features, table.statistics)
    order = [*NAMES, *table.features]
    document = {
        "schema": SCHEMA,
        "core": table.core,
        "date": table.date,
        "library": dict(table.library),
        "rtl_sha256": table.rtl_sha256,
        "parameters": dict(table.parameters),
        "period_ns": float(table.period_ns),
        "tools": dict(table.tools),
        "energies": {name: _entry(table.energies[name]) for name in order},
        "features": list(table.features),
        "statistics": {
            "zero_share": _short(table.statistics.zero_share),
            **{
                kind: {name: _short(value) for name, value in getattr(table.statistics, kind).items()}
                for kind in ("nonzero", "zero", "others")
            },
        },
        "errors": dict(table.errors),
        "stimulus": dict(table.stimulus),
    }
    head = (
        "# Written by `npuloop characterize-energy`, in pJ; docs/reference/cost-tables.md says what the "
        "fields mean.\n"
    )
    return head + yaml.safe_dump(stamped(document), sort_keys=False, width=120, default_flow_style=None)


def _entry(energy: Energy) -> dict[str, Any]:
    bounds = {
        name: None if value is None else _short(value)
        for name, value in (("lower", energy.lower), ("value", energy.value), ("upper", energy.upper))
    }
    return bounds | {"method": energy.method, "per": energy.per, "source": energy.source}


def _short(value: float) -> float:
    """Return a number with six significant digits."""
    return float(f"{float(value):.6g}")


def save_energy_table(table: EnergyTable, path: Path) -> None:
    """Write a table, whole or not at all.

    Raises:
        EnergyTableError: an energy is missing, unknown or no energy.
        NpuloopError: the file cannot be written.
    """
    try:
        text = energy_text(table)
    except (ValueError, KeyError) as error:
        raise EnergyTableError(f"{path}: not written: {error}") from None
    write_atomically(path, lambda file: file.write(text.encode()))


def load_energy_table(path: Path) -> EnergyTable:
    """Read a table.

    Raises:
        EnergyTableError: it is missing, no table, damaged, or of a newer schema; names file and field.
    """
    if not path.exists():
        raise EnergyTableError(f"{path}: there is no energy table; {REMEDY}")
    document = read_yaml(path, EnergyTableError, "energy table")
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise EnergyTableError(
            f"{path}: has schema {schema}; this npuloop reads up to {SCHEMA}: update it, or {REMEDY}"
        )
    if schema != SCHEMA:
        raise EnergyTableError(f"{path}: is no energy table; its `schema` is {schema!r}; {REMEDY}")
    try:
        table = _table(document)
    except KeyError as error:
        raise EnergyTableError(f"{path}: the field {error} is missing; {REMEDY}") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError, NpuloopError) as error:
        raise EnergyTableError(f"{path}: is damaged ({error}); {REMEDY}") from None
    check_stamp(path, document, EnergyTableError, REMEDY)
    return table


def _table(document: Mapping[str, Any]) -> EnergyTable:
    energies = {}
    for name, entry in document["energies"].items():
        bounds = [None if entry[key] is None else float(entry[key]) for key in ("lower", "value", "upper")]
        lower, value, upper = bounds
        if value is None:
            raise ValueError(f"{name} has no value")
        energies[str(name)] = Energy(
            lower, value, upper, entry["method"], str(entry["per"]), str(entry["source"])
        )
    features = tuple(str(name) for name in document["features"])
    given = document["statistics"]
    means = {
        kind: {str(name): float(value) for name, value in given[kind].items()}
        for kind in ("nonzero", "zero", "others")
    }
    statistics = LayerStatistics(**means, zero_share=float(given["zero_share"]))
    check_energies(energies, features, statistics)
    period = float(document["period_ns"])
    if not 0 < period < math.inf:
        raise ValueError(f"period_ns is {period:g}")
    return EnergyTable(
        core=str(document["core"]),
        library={key: str(document["library"][key]) for key in ("name", "sha256")},
        rtl_sha256=str(document["rtl_sha256"]),
        parameters={str(name): int(value) for name, value in document["parameters"].items()},
        period_ns=period,
        tools=dict(document["tools"]),
        date=str(document["date"]),
        energies=energies,
        features=features,
        statistics=statistics,
        errors=dict(document["errors"]),
        stimulus=dict(document["stimulus"]),
    )


def check_energies(
    energies: Mapping[str, Energy], features: tuple[str, ...], statistics: LayerStatistics
) -> None:
    """Refuse energies that are incomplete or impossible.

    Slopes of features may be negative, and their bounds in any order: only sums have a meaning.

    Raises:
        ValueError: names what is wrong.
    """
    for name in features:
        kind, dot, rest = name.partition(".")
        if kind not in FEATURE_GROUPS or not dot or not rest:
            raise ValueError(f"feature {name!r}: its name begins with {', '.join(FEATURE_GROUPS)} and a dot")
    names = (*NAMES, *features)
    if len(set(names)) != len(names):
        raise ValueError("a feature stands twice")
    for name in names:
        if name not in energies:
            raise ValueError(f"the energy {name} is missing")
    for name, energy in energies.items():
        if name not in names:
            raise ValueError(f"unknown energy {name}")
        if energy.method not in METHODS:
            raise ValueError(f"{name} has the method {energy.method!r}; there are {', '.join(METHODS)}")
        lower, value, upper = energy.bounds
        if not all(math.isfinite(bound) for bound in energy.bounds):
            raise ValueError(f"{name} is no number")
        if name in FITTED and min(energy.bounds) < 0:
            raise ValueError(f"{name} is negative")
        if name in NAMES and name not in FITTED and not 0 <= lower <= value <= upper:
            raise ValueError(f"{name} is not 0 <= lower <= value <= upper: {lower:g}, {value:g}, {upper:g}")
    macs = {name for name in features if name.startswith("mac.")}
    for means, expected in (
        (statistics.nonzero, macs), (statistics.zero, macs), (statistics.others, set(features) - macs),
    ):  # fmt: skip
        if set(means) != expected:
            odd = ", ".join(sorted(set(means) ^ expected))
            raise ValueError(f"statistics and features do not agree on {odd}")
        if not all(math.isfinite(value) for value in means.values()):
            raise ValueError("a mean in the statistics is no number")
    if not 0 <= statistics.zero_share <= 1:
        raise ValueError(f"zero_share is {statistics.zero_share:g}, not 0 to 1")


@functools.lru_cache
def _cached(path: Path, stamp: int) -> EnergyTable:  # noqa: ARG001  # the stamp tells versions apart
    return load_energy_table(path)


def energy_table_of(core: CoreConfig, config: System, folder: Path = FOLDER) -> EnergyTable:
    """Return the energy table of a unit of a system, made for the present RTL.

    Raises:
        EnergyTableError: there is none, it cannot be read, or it is of other parameters or other RTL.
    """
    path = energy_path(core, config, folder)
    try:
        table = _cached(path, path.stat().st_mtime_ns)
    except OSError:
        table = load_energy_table(path)
    if table.parameters != core_parameters(core, config):
        raise EnergyTableError(f"{path}: is of other parameters of {core.key}; {REMEDY}")
    if table.rtl_sha256 != rtl_hash():
        raise EnergyTableError(f"{path}: stale: it was measured on other RTL; {REMEDY}")
    return table
