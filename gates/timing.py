# SPDX-License-Identifier: Apache-2.0
"""Static timing and energy per edge of a flat netlist, from the tables of a cell library.

Slews and loads propagate through the netlist in topological order; where arcs meet, the slower slew goes on.
The clock is ideal, and so are the clocks behind clock gates: the tree behind a gate is taken to be balanced
with that of the clock. A load is the capacitance of a net's pins, and an assumed capacitance of wire for
each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import GatesError
from gates.functions import function_names
from gates.liberty import Arc, Cell, Floats, Library, Power
from gates.netlist import Bit, Instance, Netlist

INPUT_SLEW_NS = 0.05
"""Slew of the block's inputs and of its clock."""

RISE, FALL = 0, 1
EDGES = (RISE, FALL)
Ints = npt.NDArray[np.intp]

_ENDING_KINDS = ("setup_rising", "setup_falling")
_STARTING_KINDS = ("rising_edge", "falling_edge")
_IGNORED_KINDS = ("clear", "preset")
"""Asynchronous reset: no path of a running clock goes through it."""


@dataclass(frozen=True)
class Path:
    """The slowest path of a block.

    Attributes:
        start, end: the port or register (`instance/pin`) where it starts and ends.
        nets: the nets on the way.
        ns: its time, from the clock's edge to the edge that takes the result, set-up time included.
    """

    start: str
    end: str
    nets: tuple[str, ...]
    ns: float

    @property
    def max_mhz(self) -> float:
        """Fastest clock."""
        return 1000.0 / self.ns


@dataclass(frozen=True, eq=False)
class Timing:
    """Delays and energies by net. First axis 0: the net rises, 1: it falls.

    Attributes:
        bits: the netlist's number of each net, in the order of the second axis.
        names: `instance/pin` that drives it, or `port[bit]`.
        load_pf: [nets].
        slew_ns: [2, nets] of its driver.
        delay_ns: [2, nets] of its driver, the slowest of its arcs; 0 for ports.
        energy_pj: [2, nets] of everything that an edge costs: half of C V² of the load, the driver's internal
            energy, and the internal energy of pins on the net that spend some (flops' data and clock).
        path: the slowest path.
        settle_ns: when the last net is quiet if every cell takes its slowest arc's delay: at least the path
            without its set-up time.
    """

    bits: tuple[int, ...]
    names: tuple[str, ...]
    load_pf: Floats
    slew_ns: Floats
    delay_ns: Floats
    energy_pj: Floats
    path: Path
    settle_ns: float


@dataclass(frozen=True)
class _Output:
    """An output pin that drives a net."""

    instance: Instance
    cell: Cell
    pin: str
    net: int


class _Nets:
    """The nets of a netlist, numbered densely, with what drives each and what hangs on each."""

    def __init__(self, netlist: Netlist, library: Library) -> None:
        self.netlist = netlist
        self.index: dict[int, int] = {}
        self.names: list[str] = []
        self.outputs: list[_Output] = []
        self.cells = [library.cell(instance.cell) for instance in netlist.instances]
        for port in netlist.ports_of("input"):
            for position, bit in enumerate(port.bits):
                self._drive(bit, f"{port.name}[{position}]" if len(port.bits) > 1 else port.name)
        self.inputs = len(self.names)
        for instance, cell in zip(netlist.instances, self.cells, strict=True):
            if not cell.usable:
                raise GatesError(
                    f"{netlist.path}: {instance.name} is a {cell.name}, neither gate, flop nor clock gate"
                )
            for pin in cell.outputs:
                for bit in instance.pins.get(pin.name, ()):
                    net = self._drive(bit, f"{instance.name}/{pin.name}")
                    self.outputs.append(_Output(instance, cell, pin.name, net))

    def _drive(self, bit: Bit, name: str) -> int:
        if not isinstance(bit, int) or bit in self.index:
            other = f", as does {self.names[self.index[bit]]}" if isinstance(bit, int) else ""
            raise GatesError(f"{self.netlist.path}: {name} drives net {bit}{other}")
        self.index[bit] = len(self.names)
        self.names.append(name)
        return self.index[bit]

    def of(self, instance: Instance, pin: str) -> int:
        """Return the net of an instance's input pin, -1 where it is constant."""
        bits = instance.pins.get(pin, ())
        if len(bits) != 1:
            raise GatesError(f"{self.netlist.path}: pin {instance.name}/{pin} ({instance.cell}) has no net")
        return self.number(bits[0], f"{instance.name}/{pin}")

    def number(self, bit: Bit, where: str) -> int:
        """Return a bit's net, -1 where it is constant."""
        if not isinstance(bit, int):
            return -1
        if bit not in self.index:
            raise GatesError(f"{self.netlist.path}: nothing drives net {bit} at {where}")
        return self.index[bit]


def clock_pins(cell: Cell) -> tuple[str, ...]:
    """Return the pins that the clock of a flop or of a clock gate comes from; none for a gate."""
    return () if cell.clock is None else function_names(cell.clock)


def _levels(nets: _Nets) -> list[list[_Output]]:
    """Return the outputs level by level: everything that a level depends on lies in earlier ones."""
    level = [0] * nets.inputs + [-1] * (len(nets.names) - nets.inputs)
    waiting: dict[int, list[int]] = defaultdict(list)
    missing = [0] * len(nets.outputs)
    depends: list[list[int]] = []
    for number, output in enumerate(nets.outputs):
        names = clock_pins(output.cell) or tuple(pin.name for pin in output.cell.inputs)
        depends.append([net for net in (nets.of(output.instance, name) for name in names) if net >= 0])
        for net in depends[-1]:
            if level[net] < 0:
                waiting[net].append(number)
                missing[number] += 1
    ready = [number for number, count in enumerate(missing) if count == 0]
    levels: list[list[_Output]] = []
    done = 0
    while ready:
        depth = len(levels) + 1
        levels.append([nets.outputs[number] for number in ready])
        done += len(ready)
        following = []
        for number in ready:
            net = nets.outputs[number].net
            level[net] = depth
            for waiter in waiting.pop(net, ()):
                missing[waiter] -= 1
                if missing[waiter] == 0:
                    following.append(waiter)
        ready = following
    if done != len(nets.outputs):
        stuck = next(output for output in nets.outputs if level[output.net] < 0)
        raise GatesError(f"{nets.netlist.path}: {nets.names[stuck.net]} is in a combinational loop")
    return levels


def _loads(nets: _Nets, wire_ff_per_fanout: float) -> Floats:
    """Return each net's load in pF."""
    load = np.zeros(len(nets.names))
    wire = wire_ff_per_fanout / 1000
    for instance, cell in zip(nets.netlist.instances, nets.cells, strict=True):
        for pin in cell.inputs:
            net = nets.of(instance, pin.name)
            if net >= 0:
                load[net] += pin.capacitance_pf + wire
    for port in nets.netlist.ports_of("output"):
        for bit in port.bits:
            net = nets.number(bit, port.name)
            if net >= 0:
                load[net] += wire
    return load


def _causes(unate: str, edge: int) -> tuple[int, ...]:
    """Return the edges of an arc's start that cause an edge at its end."""
    if unate == "positive_unate":
        return (edge,)
    if unate == "negative_unate":
        return (1 - edge,)
    return EDGES


def _arc_causes(arc: Arc, edge: int) -> tuple[int, ...]:
    """Return the edges of an arc's start that cause an edge at its end; a clock has one active edge."""
    if arc.kind == "rising_edge":
        return (RISE,)
    if arc.kind == "falling_edge":
        return (FALL,)
    return _causes(arc.unate, edge)


def _by_cell(outputs: Iterable[_Output]) -> dict[tuple[str, str], list[_Output]]:
    groups: dict[tuple[str, str], list[_Output]] = defaultdict(list)
    for output in outputs:
        groups[output.cell.name, output.pin].append(output)
    return groups


class _Analysis:
    """State of one analysis: what is known of each net so far."""

    def __init__(self, nets: _Nets, library: Library, load: Floats) -> None:
        count = len(nets.names)
        self.nets = nets
        self.load = load
        self.slew = np.zeros((2, count))
        self.slew[:, : nets.inputs] = INPUT_SLEW_NS
        self.delay = np.zeros((2, count))
        self.arrival = np.zeros((2, count))
        self.settled = np.zeros(count)
        self.before = np.full((2, count, 2), -1, np.intp)
        """Edge and net that each net's latest edge comes from."""
        self.energy = np.tile(0.5 * load * library.voltage_v**2, (2, 1))

    def propagate(self, outputs: list[_Output]) -> None:
        """Work out one pin of one cell, all instances of a level."""
        cell = outputs[0].cell
        pin = cell.pins[outputs[0].pin]
        targets = np.array([output.net for output in outputs])
        sources = {
            name: np.array([self.nets.of(output.instance, name) for output in outputs])
            for name in {arc.related_pin for arc in pin.arcs} | {power.related_pin for power in pin.powers}
            if name is not None
        }
        arcs = [arc for arc in pin.arcs if arc.kind not in _IGNORED_KINDS]
        if cell.clock_gate is not None:
            self.slew[:, targets] = INPUT_SLEW_NS
            self._internal(pin.powers, arcs, sources, targets)
            return
        if not any(arc.rise or arc.fall for arc in arcs):
            if sources or cell.inputs:
                raise GatesError(f"library: cell {cell.name} has no timing for its output {pin.name}")
            return
        quiet = np.zeros(len(outputs))
        for arc in arcs:
            source = sources[arc.related_pin]
            quiet = np.maximum(quiet, np.where(source >= 0, self.settled[source], 0.0))
            for edge in EDGES:
                self._arc(arc, edge, source, targets)
        self.settled[targets] = quiet + self.delay[:, targets].max(axis=0)
        self._internal(pin.powers, arcs, sources, targets)

    def _arc(self, arc: Arc, edge: int, source: Ints, targets: Ints) -> None:
        """Take one arc into account for one edge of its end."""
        delays, slews = ((arc.rise, arc.rise_slew), (arc.fall, arc.fall_slew))[edge]
        if delays is None or slews is None:
            return
        live = source >= 0
        source, targets = source[live], targets[live]
        load = self.load[targets]
        for cause in _arc_causes(arc, edge):
            slew = self.slew[cause, source]
            delay = np.maximum(delays.at(slew, load), 0.0)
            arrival = self.arrival[cause, source] + delay
            later = (arrival > self.arrival[edge, targets]) | (self.before[edge, targets, 1] < 0)
            self.arrival[edge, targets[later]] = arrival[later]
            self.before[edge, targets[later], 0] = cause
            self.before[edge, targets[later], 1] = source[later]
            self.delay[edge, targets] = np.maximum(self.delay[edge, targets], delay)
            self.slew[edge, targets] = np.maximum(self.slew[edge, targets], slews.at(slew, load))

    def _internal(
        self, powers: tuple[Power, ...], arcs: list[Arc], sources: dict[str, Ints], targets: Ints
    ) -> None:
        """Add an output's internal energy: the mean over its inputs and conditions."""
        load = self.load[targets]
        for edge in EDGES:
            total = np.zeros(len(targets))
            terms = 0
            for power in powers:
                table = (power.rise, power.fall)[edge]
                if table is None:
                    continue
                related = [arc for arc in arcs if arc.related_pin == power.related_pin]
                if related and all(arc.kind in _IGNORED_KINDS for arc in related):
                    continue  # an output that a running clock moves is not moved by a reset
                causes = sorted({cause for arc in related for cause in _arc_causes(arc, edge)}) or list(EDGES)
                slew = np.full(len(targets), INPUT_SLEW_NS)
                if power.related_pin is not None:
                    source = sources[power.related_pin]
                    known = self.slew[causes][:, source].mean(axis=0)
                    slew = np.where(source >= 0, known, INPUT_SLEW_NS)
                total += table.at(slew, load)
                terms += 1
            if terms:
                self.energy[edge, targets] += total / terms

    def hidden(self) -> None:
        """Add what input pins spend by themselves to the nets that they hang on."""
        groups: dict[tuple[str, str], tuple[tuple[Power, ...], list[int]]] = {}
        for instance, cell in zip(self.nets.netlist.instances, self.nets.cells, strict=True):
            for pin in cell.inputs:
                if pin.powers:
                    net = self.nets.of(instance, pin.name)
                    if net >= 0:
                        groups.setdefault((cell.name, pin.name), (pin.powers, []))[1].append(net)
        for powers, numbers in groups.values():
            targets = np.array(numbers)
            for edge in EDGES:
                tables = [table for power in powers if (table := (power.rise, power.fall)[edge]) is not None]
                for table in tables:
                    values = table.at(self.slew[edge, targets]) / len(tables)
                    np.add.at(self.energy[edge], targets, values)

    def path(self) -> Path:
        """Return the slowest path to a port or a flop."""
        worst, where, edge, net = 0.0, "", RISE, -1
        for port in self.nets.netlist.ports_of("output"):
            for position, bit in enumerate(port.bits):
                number = self.nets.number(bit, port.name)
                for way in EDGES:
                    if number >= 0 and self.arrival[way, number] > worst:
                        worst, edge, net = float(self.arrival[way, number]), way, number
                        where = f"{port.name}[{position}]" if len(port.bits) > 1 else port.name
        for instance, cell in zip(self.nets.netlist.instances, self.nets.cells, strict=True):
            for pin in cell.inputs:
                for arc in pin.arcs:
                    number = self.nets.of(instance, pin.name)
                    if arc.kind not in _ENDING_KINDS or number < 0:
                        continue
                    for way, table in zip(EDGES, (arc.rise, arc.fall), strict=True):
                        total = float(self.arrival[way, number])
                        if table is not None:
                            total += float(table.at(self.slew[way, number], INPUT_SLEW_NS))
                        if total > worst:
                            worst, edge, net = total, way, number
                            where = f"{instance.name}/{pin.name}"
        names: list[str] = []
        while net >= 0:
            names.append(self.nets.names[net])
            edge, net = (int(value) for value in self.before[edge, net])
        names.reverse()
        # A path through a flop starts at its output: the clock's own net is not part of it.
        start = next((name for name in names[1:2] if self._is_flop(name)), names[0] if names else "")
        return Path(start, where, tuple(names), worst)

    def _is_flop(self, name: str) -> bool:
        return any(
            output.cell.flop is not None and self.nets.names[output.net] == name
            for output in self.nets.outputs
        )


def analyse(netlist: Netlist, library: Library, wire_ff_per_fanout: float = 0.0) -> Timing:
    """Return the timing and the energies of a flat netlist.

    Args:
        netlist: cells of the library only.
        library: the cells.
        wire_ff_per_fanout: assumed capacitance of a net's wires in fF for each pin or port that it drives.

    Raises:
        GatesError: a cell is not in the library, or is a latch by itself; a net is undriven, driven twice or
            in a loop.
    """
    nets = _Nets(netlist, library)
    analysis = _Analysis(nets, library, _loads(nets, wire_ff_per_fanout))
    for level in _levels(nets):
        for outputs in _by_cell(level).values():
            analysis.propagate(outputs)
    analysis.hidden()
    return Timing(
        bits=tuple(nets.index),
        names=tuple(nets.names),
        load_pf=analysis.load,
        slew_ns=analysis.slew,
        delay_ns=analysis.delay,
        energy_pj=analysis.energy,
        path=analysis.path(),
        settle_ns=float(analysis.settled.max(initial=0.0)),
    )
