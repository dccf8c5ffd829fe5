# SPDX-License-Identifier: Apache-2.0
"""The energy model: what a layer or a network takes, from its events, its cycles and the units' tables.

Everything that happens is counted (`mapping.energy.events`) and priced by the table of its unit; what the
clocks of registers take that an event opens is in the event's energy. In every cycle all units of the system
leak; in those in which its clock runs (`UnitCycles`), a unit takes what its clock gates and ungated registers
take, without work too. Padding of the array counts as MACs with zero weights; columns without channels see
zeros and take nothing. What the vector operators' own path takes is not in the tables, but for its clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from common.arrays import Floats
from hw.core import CoreConfig
from hw.interface import TRANSFER_WORD_BYTES
from hw.system import System
from mapping.compiler.program import Program
from mapping.cost.model import CostModel, shape_program
from mapping.cost.shapes import Shape
from mapping.cost.tables import FOLDER
from mapping.energy.events import NAMES as COUNTS, Events, events
from mapping.energy.tables import (
    COEFFICIENTS,
    FEATURE_GROUPS,
    GROUPS,
    REMEDY,
    EnergyTable,
    EnergyTableError,
    Group,
    LayerStatistics,
    energy_path,
    energy_table_of,
)

Statistics: TypeAlias = Mapping[tuple[str, str], LayerStatistics]
"""Statistics of layers on units, by both names."""
LOWER, VALUE, UPPER = range(3)

AWAKE_TAIL = 4
"""Cycles for which a unit's clock runs on after its last part is complete until its root gate stops it: those
until the unit is ready, and two more."""

_MOVED = {"bus_beat": 1, "external_byte": TRANSFER_WORD_BYTES, "control_beat": 1}
PRICED: Mapping[str, Mapping[str, int]] = {
    "column_beats": {"column_beat": 1},
    "operand_words": {"operand_word": 1, "control_word": 1},
    "vector_words": {"control_word": 1},
    "weight_words": {"weight_word": 1, "weight_read": 1},
    "column_swaps": {"tile_swap": 1},
    "accumulations": {"accumulate": 1},
    "accumulator_reads": {"accumulator_read": 1},
    "drain_reads": {"accumulator_read": 1},
    "requantised": {"requantise": 1},
    "operand_reads": {"activation_read": 1},
    "result_words": {"activation_write": 1, "control_result": 1},
    "parameter_reads": {"parameter_read": 1},
    "activation_loads": {"activation_write": 1} | _MOVED,
    "weight_loads": {"weight_write": 1} | _MOVED,
    "parameter_loads": {"parameter_write": 1} | _MOVED,
    "stores": {"activation_read": 1} | _MOVED,
    "marks": _MOVED,
    "fetches": _MOVED,
    "commands": {"control_command": 1},
}
"""For each count of `Events` the energies that one takes, and how many times."""


@dataclass(frozen=True)
class UnitCycles:
    """Cycles of a unit: all, those in which its clock runs, and those in which it has work."""

    all: float
    awake: float
    busy: float


@dataclass(frozen=True)
class Breakdown:
    """Energy by part of the hardware.

    Attributes:
        groups: (lower, value, upper) of each group, pJ. Bounds that do not exist are the value.
    """

    groups: Mapping[Group, tuple[float, float, float]]

    @property
    def lower_pj(self) -> float:
        """Sum of the lower bounds."""
        return sum(item[LOWER] for item in self.groups.values())

    @property
    def value_pj(self) -> float:
        """Sum of the values."""
        return sum(item[VALUE] for item in self.groups.values())

    @property
    def upper_pj(self) -> float:
        """Sum of the upper bounds."""
        return sum(item[UPPER] for item in self.groups.values())


@dataclass(frozen=True)
class NetworkEnergy:
    """Energy of a compiled layer or network.

    Attributes:
        total: everything.
        layers: by layer, in the order in which they are complete; they sum to the total. A layer bears the
            energy that all units take in every cycle, from the end of the layer before to its own.
        units: by unit of the system; they sum to the total.
        cycles: of all.
        period_ns: clock period.
    """

    total: Breakdown
    layers: Mapping[str, Breakdown]
    units: Mapping[str, Breakdown]
    cycles: float
    period_ns: float

    @property
    def value_pj(self) -> float:
        """Everything, pJ."""
        return self.total.value_pj

    @property
    def power_mw(self) -> float:
        """Mean power at the tables' clock."""
        return self.value_pj / (self.cycles * self.period_ns) if self.cycles else 0.0


class _Prices:
    """A unit's table as arrays: (bounds, groups, counts) for events, (bounds, groups) for a cycle by kind."""

    def __init__(self, core: CoreConfig, table: EnergyTable) -> None:
        self.core, self.table = core, table
        self._fixed = np.zeros((3, len(GROUPS), len(COUNTS)))
        self._cycle = {when: np.zeros((3, len(GROUPS))) for when in ("always", "awake", "busy")}
        several = {"unit": 1, "column": core.columns, "lane": core.lanes}
        for item in COEFFICIENTS:
            group, energy = GROUPS.index(item.group), self._energy(item.name) * several[item.each]
            if item.when != "event":
                self._cycle[item.when][:, group] += energy
            for count, energies in PRICED.items():
                self._fixed[:, group, COUNTS.index(count)] += energy * energies.get(item.name, 0)
        self._usual_means = table.statistics.means
        self.usual = self.priced(table.statistics)

    def waiting(self, cycles: UnitCycles) -> Floats:
        """Return what cycles take, whatever happens in them."""
        times = {"always": cycles.all, "awake": cycles.awake, "busy": cycles.busy}
        return sum((self._cycle[when] * count for when, count in times.items()), np.zeros((3, len(GROUPS))))

    def _energy(self, name: str) -> Floats:
        return np.array(self.table.energies[name].bounds)

    def priced(self, statistics: LayerStatistics) -> Floats:
        """Return the prices, (bounds, groups, counts), with given means, else the table's."""
        prices: Floats = self._fixed.copy()
        means = self._usual_means | statistics.means
        zeros = {**self.table.statistics.zero, **statistics.zero}
        for name in self.table.features:
            kind = name.partition(".")[0]
            group, slope = GROUPS.index(FEATURE_GROUPS[kind]), self._energy(name)
            if kind == "mac":
                prices[:, group, COUNTS.index("macs_useful")] += slope * means[name]
                prices[:, group, COUNTS.index("macs_padding")] += slope * zeros[name]
                prices[:, group, COUNTS.index("macs_between")] += slope * means[name]
            else:
                count = "accumulations" if kind == "accumulate" else "requantised"
                prices[:, group, COUNTS.index(count)] += slope * means[name]
        return prices

    def zero_slope(self, statistics: LayerStatistics) -> float:
        """Return the value's change, pJ, of a MAC if its share of zeros goes from 0 to 1."""
        return sum(
            self.table.energies[name].value * (statistics.zero[name] - nonzero)
            for name, nonzero in statistics.nonzero.items()
        )


class EnergyModel:
    """Energies for a system all of whose units have tables.

    Args:
        config: the system.
        folder: where the energy tables are.
        costs: predicts the cycles of layers; by default with the tables of this repository.

    Raises:
        EnergyTableError: a table that is missing, of other RTL or parameters, or of another library or clock
            than the others.
    """

    def __init__(self, config: System, folder: Path = FOLDER, costs: CostModel | None = None) -> None:
        self.config = config
        self.costs = costs or CostModel(config)
        self.tables = {core.name: energy_table_of(core, config, folder) for core in config.cores}
        (first, *others) = self.tables.values()
        for core, table in zip(config.cores[1:], others, strict=True):
            if (dict(table.library), table.period_ns) != (dict(first.library), first.period_ns):
                raise EnergyTableError(
                    f"{energy_path(core, config, folder)}: is of another library or clock than the table of "
                    f"{first.core}; {REMEDY}"
                )
        self.period_ns = first.period_ns
        self._prices = {core.name: _Prices(core, self.tables[core.name]) for core in config.cores}

    def energy(
        self, unit: str, counts: Events, cycles: float | UnitCycles = 0.0,
        statistics: LayerStatistics | None = None,
    ) -> Breakdown:  # fmt: skip
        """Return what events on a unit take, and what some cycles take whatever happens.

        Args:
            unit: the unit.
            counts: what happens.
            cycles: of the unit; one number if it is awake and has work in all of them.
            statistics: mean features of the events; by default the table's.
        """
        prices = self._prices[unit]
        priced = prices.usual if statistics is None else prices.priced(statistics)
        given = UnitCycles(cycles, cycles, cycles) if not isinstance(cycles, UnitCycles) else cycles
        return _breakdown(priced @ np.array(astuple(counts), float) + prices.waiting(given))

    def program_energy(
        self,
        program: Program,
        cycles: float,
        ends: Mapping[tuple[str, str], float] | None = None,
        statistics: Statistics | None = None,
        awake: Mapping[str, float] | None = None,
    ) -> NetworkEnergy:
        """Return what a compiled layer or network takes.

        Args:
            program: its command lists.
            cycles: first start to last interrupt, predicted or measured.
            ends: when each part of a layer is complete, by layer and unit, cycles; without them the idle
                energy is shared out by the compiler's bounds on the layers' cycles.
            statistics: of layers on units; by default, and where they lack one, the table's.
            awake: cycles in which the clock of a unit runs, by unit; by default those until its last part is
                complete.
        """
        moving: dict[str, dict[str, Floats]] = {}
        for (layer, unit), counts in events(program, self.config).items():
            given = (statistics or {}).get((layer, unit))
            prices = self._prices[unit]
            priced = prices.usual if given is None else prices.priced(given)
            moving.setdefault(layer, {})[unit] = priced @ np.array(astuple(counts), float)
        spent = self._unit_cycles(program, cycles, ends, awake or {})
        waiting = {unit: prices.waiting(spent[unit]) for unit, prices in self._prices.items()}
        together = np.sum(list(waiting.values()), axis=0) / (cycles or 1.0)
        zero = np.zeros((3, len(GROUPS)))
        shares = _spans(program, list(moving), cycles, ends)
        layers = {
            layer: np.sum(list(moving[layer].values()), axis=0) + together * share
            for layer, share in shares.items()
        }
        units = {
            unit: sum((parts[unit] for parts in moving.values() if unit in parts), zero) + waiting[unit]
            for unit in self._prices
        }
        return NetworkEnergy(
            total=_breakdown(np.sum(list(units.values()), axis=0)),
            layers={layer: _breakdown(values) for layer, values in layers.items()},
            units={unit: _breakdown(values) for unit, values in units.items()},
            cycles=cycles,
            period_ns=self.period_ns,
        )

    def _unit_cycles(
        self,
        program: Program,
        cycles: float,
        ends: Mapping[tuple[str, str], float] | None,
        awake: Mapping[str, float],
    ) -> dict[str, UnitCycles]:
        """Return the cycles of each unit."""
        found = {}
        for unit in self._prices:
            last = max((end for (_, where), end in (ends or {}).items() if where == unit), default=cycles)
            busy = min(last, cycles) if any(unit in item.lists for item in program.sections) else 0.0
            runs = awake.get(unit, min(busy + AWAKE_TAIL, cycles) if busy else 0.0)
            found[unit] = UnitCycles(cycles, runs, min(busy, runs))
        return found

    def predicted(self, program: Program, statistics: Statistics | None = None) -> NetworkEnergy:
        """Return what a compiled layer or network takes in the cycles that the cost model predicts."""
        prediction = self.costs.program(program)
        return self.program_energy(program, prediction.cycles, prediction.ends, statistics)

    def layer(
        self, shape: Shape, unit: str | None = None, statistics: Statistics | None = None
    ) -> NetworkEnergy:
        """Return what a layer takes whose input and output are in memory; errors as in `CostModel.layer`."""
        return self.predicted(shape_program(shape, unit, self.config), statistics)

    def zero_slopes(self, program: Program) -> dict[str, float]:
        """Return for each unit the change, pJ, if the share of zeros among its weights goes from 0 to 1."""
        slopes = dict.fromkeys(self._prices, 0.0)
        for (_, unit), counts in events(program, self.config).items():
            prices = self._prices[unit]
            macs = counts.macs_useful + counts.macs_between
            slopes[unit] += macs * prices.zero_slope(prices.table.statistics)
        return slopes


def _breakdown(values: Floats) -> Breakdown:
    """Return (bounds, groups) as a breakdown."""
    lower, value, upper = values.tolist()
    return Breakdown(dict(zip(GROUPS, zip(lower, value, upper, strict=True), strict=True)))


def _spans(
    program: Program, layers: Sequence[str], cycles: float, ends: Mapping[tuple[str, str], float] | None
) -> dict[str, float]:
    """Return the cycles that each layer answers for; they sum to all."""
    if not ends:
        bounds = dict.fromkeys(layers, 0)
        for part in program.parts:
            bounds[part.layer] = max(bounds.get(part.layer, 0), part.bound_cycles)
        whole = sum(bounds.values()) or 1
        return {layer: cycles * bound / whole for layer, bound in bounds.items()}
    last: dict[str, float] = {}
    for (layer, _), end in ends.items():
        last[layer] = max(last.get(layer, 0.0), end)
    spans, before = {}, 0.0
    ordered = sorted(last, key=lambda layer: last[layer])
    for layer in ordered:
        end = cycles if layer == ordered[-1] else last[layer]
        spans[layer], before = end - before, end
    return spans
