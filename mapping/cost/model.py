# SPDX-License-Identifier: Apache-2.0
"""The cost model: cycles of a layer or a network from its command lists and the calibrated tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.arrays import Floats
from common.errors import ConfigError, UnsupportedError
from hw.core import CoreConfig
from hw.memory import MemoryModel
from hw.system import System
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.compile import compile_graph
from mapping.compiler.legalise import legalise
from mapping.compiler.program import Program
from mapping.cost.coefficients import TERM, named
from mapping.cost.shapes import Shape, blank_layer
from mapping.cost.tables import FOLDER, Basis, CostTable, TableError, memory_settings, table_for
from mapping.cost.timing import Timing, cycles_of, time_lists

SHARED = tuple(TERM[name] for name in ("stagger_cycles", "event_cycles"))
"""Coefficients that matter where units run at the same time: fitted for them together."""
WAITING = tuple(TERM[name] for name in ("array_bank_cycles", "load_bank_cycles", "store_bank_cycles"))
"""Coefficients of waiting for a bank."""


@dataclass(frozen=True)
class Prediction:
    """Predicted cycles.

    Attributes:
        cycles: first start to last interrupt.
        low, high: 90 % interval.
        basis: whether the units have been measured, together if several of them run.
        inside: whether a layer's sizes lie in the calibrated range; None for a network.
        terms: cycles of every phase on the critical path, of each unit; they sum to `cycles`.
        ends: when each part of a layer is complete, by layer and unit.
    """

    cycles: float
    low: float
    high: float
    basis: Basis
    inside: bool | None
    terms: Mapping[str, Mapping[str, float]]
    ends: Mapping[tuple[str, str], float]

    @property
    def layer_cycles(self) -> dict[str, float]:
        """Cycles that each layer answers for: from the end of the layer before to its own; they sum to all.

        Layers are in the order in which they are complete.
        """
        last: dict[str, float] = {}
        for (layer, _), end in self.ends.items():
            last[layer] = max(last.get(layer, 0.0), end)
        order = sorted(last, key=lambda layer: last[layer])
        bounds = [0.0, *(last[layer] for layer in order[:-1]), self.cycles]
        return {layer: bounds[i + 1] - bounds[i] for i, layer in enumerate(order)}


class CostModel:
    """Predicts for a system whose units have tables, each its own or the family's.

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
        """Return the table that prices a unit, or units together."""
        return table_for(self._cores(units), self.config, self.folder)

    def basis(self, *units: str) -> Basis:
        """Return what prices of a unit, or of units together, stand on."""
        cores = self._cores(units)
        return table_for(cores, self.config, self.folder).basis(cores, self.config)

    def _cores(self, units: Sequence[str]) -> list[CoreConfig]:
        return [self.config.core(unit) for unit in sorted(units, key=self.config.index)]

    def coefficients(self, units: Sequence[str]) -> dict[str, Floats]:
        """Return each unit's coefficients where these units run at the same time.

        Raises:
            TableError: see the class.
        """
        tables = {unit: self.table(unit) for unit in units}
        values = {unit: table.coefficients.copy() for unit, table in tables.items()}
        together = self.table(*units)
        for table in (*tables.values(), together):
            self._check_same(table, together)
        if len(units) > 1:
            for coefficients in values.values():
                coefficients[list(SHARED)] = together.coefficients[list(SHARED)]
        return values

    def _check_same(self, table: CostTable, together: CostTable) -> None:
        if (table.rtl_sha256, table.memory) != (together.rtl_sha256, self.memory or together.memory):
            raise TableError(
                f"{self.folder}: the tables of {table.cores} and {together.cores} are of different RTL, "
                "or not of this memory; run `npuloop calibrate --all`, and with --family"
            )

    def layer(self, shape: Shape, unit: str | None = None) -> Prediction:
        """Return what a layer takes whose input and output are in memory.

        Args:
            shape: the layer.
            unit: the unit of a shape without a split; a split names its own.

        Raises:
            UnsupportedError, CapacityError: the unit cannot run it, see `compile_graph`.
            TableError: see the class.
        """
        units = units_of(shape, unit, self.config)
        return self.program(shape_program(shape, unit, self.config), self.table(*units).inside(shape))

    def program(self, program: Program, inside: bool | None = None) -> Prediction:
        """Return what a compiled layer or network takes."""
        units = list(program.lists)
        coefficients = self.coefficients(units)
        timing = time_lists(program.lists, self.config.cores, coefficients, self.config.axi_bits // 8)
        return self._prediction(program, timing, coefficients, inside)

    def cycles(self, program: Program) -> float:
        """Return the cycles that `program` predicts, of several sections their sum, in half of its time."""
        cycles = 0.0
        for section in program.sections:
            coefficients = self.coefficients(list(section.lists))
            cycles += cycles_of(section.lists, self.config.cores, coefficients, self.config.axi_bits // 8)
        return cycles

    def _prediction(
        self, program: Program, timing: Timing, coefficients: Mapping[str, Floats], inside: bool | None
    ) -> Prediction:
        terms = {unit: counts * coefficients[unit] for unit, counts in timing.counts.items()}
        table = self.table(*program.lists)
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
            basis=self.basis(*program.lists),
            inside=inside,
            terms={unit: named(values) for unit, values in terms.items()},
            ends=ends,
        )


def planning_price(config: System) -> Callable[[Program], float]:
    """Return what plans are chosen by: predicted cycles, or where tables cannot be used the estimate."""
    model = CostModel(config)

    def price(program: Program) -> float:
        try:
            return model.cycles(program)
        except TableError:
            return float(program.estimate)

    return price


def waiting_cycles(counts: Mapping[str, Floats], coefficients: Mapping[str, Floats]) -> float:
    """Return the cycles of waiting for a bank on a critical path."""
    places = list(WAITING)
    return float(sum((counts[unit][places] * coefficients[unit][places]).sum() for unit in counts))


def units_of(shape: Shape, unit: str | None, config: System) -> tuple[str, ...]:
    """Return the units that have work, in the order of the system.

    Args:
        shape: the layer.
        unit: the unit of a shape without a split; a split names its own.
        config: the system.

    Raises:
        UnsupportedError: a shape without a split, and no unit.
        ConfigError: a unit that the system does not have.
    """
    if not shape.split and unit is None:
        raise UnsupportedError(f"shape {shape.name!r}: has no split; give the unit that runs it")
    try:
        return tuple(sorted(shape.split or (str(unit),), key=config.index))
    except ConfigError as error:
        raise ConfigError(f"shape {shape.name!r}: {error}") from None


def cores_of(shape: Shape, unit: str | None, config: System) -> list[CoreConfig]:
    """Return the parameters of the units that have work; see `units_of`."""
    return [config.core(name) for name in units_of(shape, unit, config)]


def owners(shape: Shape, unit: str | None, config: System) -> ChannelAssignment:
    """Return the index of the unit of every output channel: those of the system's first unit come first."""
    units = units_of(shape, unit, config)
    channels = [shape.split[name] if shape.split else shape.out_channels for name in units]
    return np.repeat([config.index(name) for name in units], channels)


def shape_program(shape: Shape, unit: str | None, config: System) -> Program:
    """Return a shape's command lists, without a memory image; errors as in `CostModel.layer`."""
    return compile_graph(
        legalise(blank_layer(shape)), config.cores, {shape.name: owners(shape, unit, config)},
        mem_bytes=config.mem_bytes, port_bytes=config.axi_bits // 8, image_wanted=False,
    )  # fmt: skip
