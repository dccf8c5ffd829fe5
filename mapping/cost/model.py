"""The cost model: cycles of a layer or a network from its command lists and the calibrated tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UnsupportedError
from hw.core import CoreConfig
from hw.memory import MemoryModel
from hw.system import System
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.compile import compile_graph
from mapping.compiler.legalise import legalise
from mapping.compiler.program import Program
from mapping.cost.coefficients import TERM, Vector, named
from mapping.cost.shapes import Shape, blank_layer
from mapping.cost.tables import FOLDER, CostTable, TableError, memory_settings, table_of
from mapping.cost.timing import Timing, time_lists

PAIR = "pair"
"""What stands for the unit of a shape that several units share."""
SHARED = tuple(TERM[name] for name in ("stagger_cycles", "event_cycles", "port_cycles"))
"""Coefficients that matter where units run at the same time: fitted for the pair."""
WAITING = tuple(TERM[name] for name in ("load_bank_cycles", "store_bank_cycles", "port_cycles"))
"""Coefficients of waiting for a bank or for another unit."""


@dataclass(frozen=True)
class Prediction:
    """Predicted cycles.

    Attributes:
        cycles: first start to last interrupt.
        low, high: 90 % interval.
        inside: whether a layer's sizes lie in the calibrated range; None for a network.
        terms: cycles of every phase on the chain that ends last, of each unit; they sum to `cycles`.
        ends: when each part of a layer is complete, by layer and unit.
    """

    cycles: float
    low: float
    high: float
    inside: bool | None
    terms: Mapping[str, Mapping[str, float]]
    ends: Mapping[tuple[str, str], float]


class CostModel:
    """Predicts for a system whose units have tables.

    Args:
        config: the system.
        folder: where the tables are.
        memory: the memory that they must be for; by default any, but one and the same.

    Raises:
        TableError: when tables are needed that are missing, of other hardware, or do not belong together.
    """

    def __init__(self, config: System, folder: Path = FOLDER, memory: MemoryModel | None = None) -> None:
        self.config = config
        self.folder = folder
        self.memory = memory_settings(memory) if memory else None

    def table(self, *units: str) -> CostTable:
        """Return the table of a unit, or of units together."""
        cores = [self.config.cores[self.config.index(unit)] for unit in units]
        return table_of(sorted(cores, key=self.config.cores.index), self.config, self.folder)

    def coefficients(self, units: Sequence[str]) -> dict[str, Vector]:
        """Return each unit's coefficients where these units run at the same time."""
        tables = {unit: self.table(unit) for unit in units}
        values = {unit: table.coefficients.copy() for unit, table in tables.items()}
        together = self.table(*units)
        for table in (*tables.values(), together):
            if (table.rtl_sha256, table.memory) != (together.rtl_sha256, self.memory or together.memory):
                raise TableError(
                    f"{self.folder}: the tables of {table.unit} and {together.unit} are of different RTL, or "
                    "not of this memory; run `npuloop calibrate --all`"
                )
        if len(units) > 1:
            for mine in values.values():
                mine[list(SHARED)] = together.coefficients[list(SHARED)]
        return values

    def layer(self, shape: Shape, unit: str = PAIR) -> Prediction:
        """Return what a layer takes whose input and output are in memory.

        Args:
            shape: the layer.
            unit: the unit; PAIR for a shape with a split.

        Raises:
            UnsupportedError, CapacityError: the unit cannot run it, see `compile_graph`.
            TableError: see the class.
        """
        units = tuple(shape.split) if shape.split else (unit,)
        return self.program(shape_program(shape, unit, self.config), self.table(*units).inside(shape))

    def program(self, program: Program, inside: bool | None = None) -> Prediction:
        """Return what a compiled layer or network takes."""
        units = list(program.lists)
        coefficients = self.coefficients(units)
        timing = time_lists(program.lists, self.config.cores, coefficients, self.config.axi_bits // 8)
        return _prediction(program, timing, coefficients, self.table(*units), inside)


def _prediction(
    program: Program,
    timing: Timing,
    coefficients: Mapping[str, Vector],
    table: CostTable,
    inside: bool | None,
) -> Prediction:
    terms = {unit: counts * coefficients[unit] for unit, counts in timing.counts.items()}
    half = table.spread.half(timing.cycles, waiting_cycles(timing.counts, coefficients))
    ends = {}
    for unit, entries in program.lists.items():
        for entry, end in zip(entries, timing.ends[unit], strict=True):
            if entry.name == "mark":
                ends[program.graph.ops[entry.layer].name, unit] = end
    return Prediction(
        cycles=timing.cycles,
        low=timing.cycles - half,
        high=timing.cycles + half,
        inside=inside,
        terms={unit: named(values) for unit, values in terms.items()},
        ends=ends,
    )


def waiting_cycles(counts: Mapping[str, Vector], coefficients: Mapping[str, Vector]) -> float:
    """Return the cycles of waiting for a bank or for another unit on a chain of phases."""
    places = list(WAITING)
    return float(sum((counts[unit][places] * coefficients[unit][places]).sum() for unit in counts))


def cores_of(shape: Shape, unit: str, config: System) -> list[CoreConfig]:
    """Return the units that have work.

    Raises:
        UnsupportedError: PAIR without a split, or a split on one unit.
        ConfigError: a unit that the system does not have.
    """
    if (unit == PAIR) != bool(shape.split):
        raise UnsupportedError(
            f"shape {shape.name!r} on {unit}: a shape with a split, and no other, runs on {PAIR!r}"
        )
    return [config.cores[config.index(name)] for name in shape.split or (unit,)]


def owners(shape: Shape, unit: str, config: System) -> ChannelAssignment:
    """Return the index of the unit of every output channel: those of a split's first unit come first."""
    split = shape.split or {unit: shape.out_channels}
    return np.repeat([config.index(name) for name in split], list(split.values()))


def shape_program(shape: Shape, unit: str, config: System) -> Program:
    """Return a shape's command lists, without a memory image; errors as in `CostModel.layer`."""
    cores_of(shape, unit, config)
    return compile_graph(
        legalise(blank_layer(shape)), config.cores, {shape.name: owners(shape, unit, config)},
        mem_bytes=config.mem_bytes, port_bytes=config.axi_bits // 8, image_wanted=False,
    )  # fmt: skip
