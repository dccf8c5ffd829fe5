# SPDX-License-Identifier: Apache-2.0
"""Gate-level simulation of one block in Icarus Verilog: what each cycle costs in energy.

The cells are modelled from the functions of the Liberty file: a table for each gate, with the delays of its
instance from static timing (rise and fall, inertial). An edge of a net adds the net's energy (gates.timing)
to a counter inside the simulation: there are no waveforms. The block's inputs are nets like others: somebody
outside drives them, and what their edges cost is part of the block's energy. Leakage is apart.

    cycle k:   rising edge | inputs take row k | falling edge | outputs are compared with row k

Before the first cycle all inputs and registers are 0 and the block is quiet; nothing is ever unknown.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import GatesError
from gates.functions import function_names, truth_table, verilog_expression
from gates.liberty import Cell, Floats, Flop, Library
from gates.netlist import Bit, Instance, Netlist, Port
from gates.timing import Timing, analyse
from gates.tools import find_tool

Delays = Literal["zero", "cells", "wires"]
"""zero: no delays, hence no glitches: a lower bound. cells: the cells' delays. wires: and a load of wires."""

INPUT_DELAY_NS = 0.1
"""When inputs change after the rising edge: about where the registers outside would put them."""

MARGIN = 1.1
"""Of a period that is chosen here, over the slowest path."""

ENERGY_BITS = 44
"""Bits of the 64 of a cycle's counter that hold energy; those above count edges."""

EDGES_BOUND = 128
"""Edges per net and cycle, on average, that the energy's bits have room for."""


WORD = 64
"""Nets that the simulation writes as one number: Icarus is slow with very wide ones."""

STATES_AT_ONCE = 256
"""Rows of the nets' values that are worked on together: more would only need more memory."""

Integers = npt.NDArray[np.int64]
Values = Sequence[int] | npt.NDArray[Any]
"""One number per cycle; arrays of objects hold wide ones."""

KnownValues = Sequence[int | None] | npt.NDArray[Any]
"""As above, None where it is not known."""


@dataclass(frozen=True)
class Stimulus:
    """What happens at a block's ports.

    Attributes:
        inputs: width and value in each cycle of every input but the clock.
        expected: value of outputs in each cycle, None where it is not known.
        clock: the clock's port; None for a block without one.
    """

    inputs: Mapping[str, tuple[int, Values]]
    expected: Mapping[str, KnownValues]
    clock: str | None = "clk_i"

    @property
    def cycles(self) -> int:
        """How many cycles there are."""
        return max((len(values) for _, values in self.inputs.values()), default=0)


@dataclass(frozen=True, eq=False)
class Replay:
    """What a simulation found.

    Attributes:
        energy_pj: [cycles] dynamic energy.
        toggles: [cycles] edges of all nets.
        leakage_nw: of all cells.
        period_ns: the clock's period.
    """

    energy_pj: Floats
    toggles: Integers
    leakage_nw: float
    period_ns: float


# --- checks


def _check(netlist: Netlist, stimulus: Stimulus) -> None:
    """Refuse a stimulus that is not for this netlist."""

    def wrong(fault: str) -> GatesError:
        return GatesError(f"replay of {netlist.name}: {fault}")

    def differs(fault: str) -> GatesError:
        return GatesError(f"{netlist.path}: netlist {netlist.name} does not match the RTL: {fault}")

    clock = [stimulus.clock] if stimulus.clock is not None else []
    for names, direction in (([*stimulus.inputs, *clock], "input"), ([*stimulus.expected], "output")):
        for name in names:
            port = netlist.ports.get(name)
            if port is None or port.direction != direction:
                raise differs(f"it has no {direction} {name!r}")
    for port in netlist.ports_of("input"):
        if port.name not in stimulus.inputs and port.name != stimulus.clock:
            raise differs(f"its input {port.name!r} has no values")
    if stimulus.cycles == 0:
        raise wrong("the stimulus has no cycles")
    for name, (width, values) in stimulus.inputs.items():
        if width != len(netlist.ports[name].bits):
            raise differs(f"input {name!r} has {len(netlist.ports[name].bits)} bits there and {width} here")
        if len(values) != stimulus.cycles:
            raise wrong(f"input {name!r} has {len(values)} of {stimulus.cycles} cycles")
        if any(not 0 <= int(value) < 1 << width for value in values):
            raise wrong(f"a value of input {name!r} does not fit {width} bits")
    for name, expected in stimulus.expected.items():
        if len(expected) != stimulus.cycles:
            raise wrong(f"output {name!r} has {len(expected)} of {stimulus.cycles} cycles")


def _compare(netlist: Netlist, stimulus: Stimulus, name: str, got: Sequence[str]) -> None:
    """Compare an output, as hexadecimal text, with what is expected."""
    for cycle, (text, expected) in enumerate(zip(got, stimulus.expected[name], strict=True)):
        if expected is None:
            continue
        known = all(digit in "0123456789abcdef" for digit in text)
        if not known or int(text, 16) != int(expected):
            raise GatesError(
                f"replay of {netlist.name}: output {name!r} is 0x{text} in cycle {cycle}, expected "
                f"{int(expected):#x}: the netlist {netlist.path} does not compute what the RTL does, "
                "or the clock is too fast"
            )


# --- the models


@dataclass
class _Writer:
    """Writes a netlist as Verilog."""

    netlist: Netlist
    library: Library
    timing: Timing
    delayed: bool
    index: dict[int, int] = field(init=False)
    primitives: dict[str, str] = field(default_factory=dict)
    registers: int = 0

    def __post_init__(self) -> None:
        self.index = {bit: number for number, bit in enumerate(self.timing.bits)}

    def net(self, bit: Bit) -> str:
        """Return a bit's name; unconnected and unknown bits are 0."""
        if isinstance(bit, int):
            return f"n{self.index[bit]}"
        return "1'b1" if bit == "1" else "1'b0"

    def bits(self, bits: Iterable[Bit]) -> str:
        """Return a concatenation of bits that are given from the least significant on."""
        names = [self.net(bit) for bit in bits]
        return f"{{{', '.join(reversed(names))}}}"

    def delay(self, bit: Bit) -> str:
        """Return the delay of a net's driver."""
        if not self.delayed or not isinstance(bit, int):
            return ""
        rise, fall = self.timing.delay_ns[:, self.index[bit]]
        return f"#({max(1, round(1000 * rise))}, {max(1, round(1000 * fall))}) "

    def instance(self, instance: Instance) -> list[str]:
        """Return the lines of an instance."""
        cell = self.library.cell(instance.cell)
        outputs = [(pin, instance.pins[pin.name][0]) for pin in cell.outputs if instance.pins.get(pin.name)]
        names = {pin: self.net(bits[0]) for pin, bits in instance.pins.items() if bits}
        lines = []
        if cell.flop is not None:
            state = f"q{self.registers}"
            self.registers += 1
            lines += _register(cell.flop, state, names)
            names |= {cell.flop.state: state, cell.flop.inverted_state: f"~{state}"}
        for pin, bit in outputs:
            function = pin.function or ""
            if cell.flop is not None or not function_names(function):
                lines.append(f"assign {self.delay(bit)}{self.net(bit)} = {_expression(function, names)};")
            else:
                primitive = self.primitive(cell, pin.name, function)
                pins = ", ".join([self.net(bit), *(names[pin.name] for pin in cell.inputs)])
                lines.append(f"{primitive} {self.delay(bit)}({pins});")
        return lines

    def primitive(self, cell: Cell, pin: str, function: str) -> str:
        """Return the name of the primitive of a gate's output: tables simulate faster than expressions."""
        name = f"{cell.name}__{pin}"
        if name not in self.primitives:
            inputs = [item.name for item in cell.inputs]
            values = truth_table(function, inputs)
            rows = [
                f"{' '.join(str(number >> position & 1) for position in range(len(inputs)))} : {int(value)};"
                for number, value in enumerate(values)
            ]
            pins = ", ".join(inputs)
            head = f"primitive {name} (output_, {pins}); output output_; input {pins};"
            self.primitives[name] = "\n".join([head, "table", *rows, "endtable", "endprimitive"])
        return name

    def body(self) -> list[str]:
        """Return the nets and the instances."""
        lines = [f"wire n{number};" for number in range(len(self.timing.bits))]
        for instance in self.netlist.instances:
            lines += self.instance(instance)
        return lines


def _expression(function: str, names: Mapping[str, str]) -> str:
    return verilog_expression(function, names.__getitem__)


def _register(flop: Flop, state: str, names: Mapping[str, str]) -> list[str]:
    """Return a flop's register. It starts at 0; the clock has no effect before the simulation says so."""
    names = {**names, flop.state: state, flop.inverted_state: f"~{state}"}
    lines = [f"reg {state} = 1'b0;", f"wire {state}_clock = {_expression(flop.clocked_on, names)};"]
    events = [f"posedge {state}_clock"]
    choices = []
    for function, value in ((flop.clear, 0), (flop.preset, 1)):
        if function is not None and _expression(function, names) not in ("~1'b1", "1'b0"):
            wire = f"{state}_{'preset' if value else 'clear'}"
            lines.append(f"wire {wire} = {_expression(function, names)};")
            events.append(f"posedge {wire}")
            choices.append(f"if ({wire}) {state} <= 1'b{value};")
    choices.append(f"if (running) {state} <= {_expression(flop.next_state, names)};")
    lines.append(f"always @({' or '.join(events)}) {' else '.join(choices)}")
    return lines


# --- the bench


def _energy_scale(timing: Timing) -> float:
    """Return the units of the energy counter in a pJ: a power of two that leaves room for busy cycles."""
    bound = EDGES_BOUND * float(np.abs(timing.energy_pj).sum()) + 1e-30
    return float(2.0 ** (ENERGY_BITS - 2 - math.ceil(math.log2(bound))))


def _counters(timing: Timing, scale: float) -> list[str]:
    """Return what adds up energies and edges: one sum for both, since additions are what costs time."""
    lines = []
    for number, (rise, fall) in enumerate(timing.energy_pj.T):
        up, down = ((1 << ENERGY_BITS) + round(float(energy) * scale) for energy in (rise, fall))
        lines.append(
            f"always @(n{number}) if (n{number}) total = total + 64'd{up}; else total = total + 64'd{down};"
        )
    return lines


def _bench(
    writer: _Writer,
    stimulus: Stimulus,
    ports: Sequence[Port],
    outputs: Sequence[Port],
    period_ps: int,
    scale: float,
) -> str:
    """Return the simulation's Verilog."""
    width = sum(len(port.bits) for port in ports)
    first = max(1, round(1000 * INPUT_DELAY_NS))
    high = period_ps // 2
    bits: list[Bit] = [*writer.timing.bits]
    bits += ["0"] * (-len(bits) % WORD)
    nets = [writer.bits(bits[start : start + WORD]) for start in range(0, len(bits), WORD)]
    shown = ", ".join(writer.bits(port.bits) for port in outputs)
    formats = " ".join(["%h"] * len(outputs))
    sample = f'$fdisplay(states, "{"%h" * len(nets)}", {", ".join(nets)});'
    zero = not writer.delayed
    clock = writer.netlist.ports[stimulus.clock].bits[0] if stimulus.clock is not None else None
    body = writer.body()
    return "\n".join(
        [
            "`timescale 1ps / 1ps",
            *writer.primitives.values(),
            "module replay;",
            "reg running = 1'b0;",
            "reg clock = 1'b0;",
            "reg [63:0] total = 64'd0;",
            f"reg [{max(width, 1) - 1}:0] now = 0;",
            f"reg [{max(width, 1) - 1}:0] rows [0:{stimulus.cycles - 1}];",
            "integer cycle, states, results;",
            *body,
            *([f"assign {writer.bits(bit for port in ports for bit in port.bits)} = now;"] if ports else []),
            *([f"assign {writer.net(clock)} = clock;"] if clock is not None else []),
            *([] if zero else _counters(writer.timing, scale)),
            "initial begin",
            '  $readmemh("inputs.hex", rows);',
            '  results = $fopen("results.txt", "w");',
            *(['  states = $fopen("states.txt", "w");'] if zero else []),
            f"  #{period_ps - 2} running = 1'b1;",
            f"  #1 total = 64'd0; {sample if zero else ''}",
            "  #1;",
            f"  for (cycle = 0; cycle < {stimulus.cycles}; cycle = cycle + 1) begin",
            "    clock = 1'b1;",
            f"    #{first} now = rows[cycle];",
            f"    #{high - first - 1} {sample if zero else ''}",
            "    #1 clock = 1'b0;",
            f"    #{period_ps - high - 1} {sample if zero else ''}",
            f'    $fdisplay(results, "%h {formats}", total{", " + shown if shown else ""});',
            "    #1 total = 64'd0;",
            "  end",
            "  $finish(0);",
            "end",
            "endmodule",
            "",
        ]
    )


def _rows(stimulus: Stimulus, ports: Sequence[Port]) -> str:
    """Return the inputs as the simulation reads them, one hexadecimal number a cycle."""
    rows = [0] * stimulus.cycles
    position = 0
    for port in ports:
        width, values = stimulus.inputs[port.name]
        for cycle, value in enumerate(values):
            rows[cycle] |= int(value) << position
        position += width
    return "\n".join(f"{row:x}" for row in rows) + "\n"


def _run(command: Sequence[str], folder: Path, block: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        text = (done.stderr + done.stdout).strip().splitlines()
        tool = Path(command[0]).name
        raise GatesError(f"replay of {block}: {tool} failed: {text[0] if text else 'no message'}")


def _from_states(path: Path, timing: Timing) -> tuple[Floats, Integers]:
    """Return energies and edges per cycle from the nets' values before each clock edge: no glitches."""
    count = len(timing.bits)
    digits = -(-count // WORD) * WORD // 4
    lines = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, digits + 1)[:, :digits]
    energies, edges = [], []
    for start in range(0, len(lines) - 1, STATES_AT_ONCE):
        text = lines[start : start + STATES_AT_ONCE + 1]
        values = np.where(text >= ord("a"), text - ord("a") + 10, text - ord("0")).astype(np.uint8)
        if (values > 15).any():
            raise GatesError(f"replay: an unknown value in {path.name}, although everything starts known")
        bits = np.unpackbits(values[:, :, None], axis=2)[:, :, 4:].reshape(len(values), -1, WORD)
        nets = (
            bits[:, :, ::-1].reshape(len(values), -1)[:, :count].astype(np.int8)
        )  # a word's first net is last
        change = np.diff(nets, axis=0)
        energies.append((change > 0) @ timing.energy_pj[0] + (change < 0) @ timing.energy_pj[1])
        edges.append(np.count_nonzero(change, axis=1))
    energy = np.concatenate(energies).reshape(-1, 2).sum(axis=1)
    return energy, np.concatenate(edges).reshape(-1, 2).sum(axis=1).astype(np.int64)


def _from_totals(totals: Sequence[str], scale: float) -> tuple[Floats, Integers]:
    """Return energies and edges per cycle from the simulation's counter. An energy may be negative."""
    half = 1 << (ENERGY_BITS - 1)
    numbers = [int(text, 16) for text in totals]
    edges = [(number + half) >> ENERGY_BITS for number in numbers]
    energy = [(number - (count << ENERGY_BITS)) / scale for number, count in zip(numbers, edges, strict=True)]
    return np.array(energy), np.array(edges, np.int64)


def replay(
    netlist: Netlist,
    library: Library,
    stimulus: Stimulus,
    period_ns: float | None = None,
    delays: Delays = "cells",
    wire_ff_per_fanout: float = 3.0,
) -> Replay:
    """Simulate a flat netlist, compare its outputs in every cycle, and return its energy.

    Args:
        netlist: cells of the library only.
        library: the cells.
        stimulus: inputs and expected outputs.
        period_ns: the clock's period; None chooses one that the slowest path fits into.
        delays: see :data:`Delays`.
        wire_ff_per_fanout: capacitance in fF of a net's wires for each pin that it drives, with "wires".

    Raises:
        GatesError: an output differs; the netlist lacks a port, has others, or is damaged; the period is too
            short for it; Icarus is missing or fails.
    """
    _check(netlist, stimulus)
    timing = analyse(netlist, library, wire_ff_per_fanout if delays == "wires" else 0.0)
    if period_ns is None:
        slowest = max(timing.path.ns, timing.settle_ns) + INPUT_DELAY_NS
        period_ns = max(MARGIN * slowest, 4 * INPUT_DELAY_NS)
    elif period_ns < max(timing.path.ns, 4 * INPUT_DELAY_NS):
        raise GatesError(
            f"replay of {netlist.name}: its path from {timing.path.start} to {timing.path.end} takes "
            f"{timing.path.ns:.3f} ns, more than the period of {period_ns:.3f} ns: choose a longer one"
        )
    ports = [netlist.ports[name] for name in stimulus.inputs]
    outputs = [netlist.ports[name] for name in stimulus.expected]
    scale = _energy_scale(timing)
    writer = _Writer(netlist, library, timing, delayed=delays != "zero")
    with tempfile.TemporaryDirectory(prefix="npuloop-replay-") as temporary:
        folder = Path(temporary)
        bench = _bench(writer, stimulus, ports, outputs, round(1000 * period_ns), scale)
        (folder / "replay.v").write_text(bench)
        (folder / "inputs.hex").write_text(_rows(stimulus, ports))
        _run([find_tool("iverilog"), "-g2012", "-o", "replay.vvp", "replay.v"], folder, netlist.name)
        _run([find_tool("vvp"), "-n", "replay.vvp"], folder, netlist.name)
        lines = [line.split() for line in (folder / "results.txt").read_text().splitlines()]
        if len(lines) != stimulus.cycles:
            raise GatesError(f"replay of {netlist.name}: vvp stopped after {len(lines)} cycles")
        for position, port in enumerate(outputs, 1):
            _compare(netlist, stimulus, port.name, [line[position] for line in lines])
        if delays == "zero":
            energy, toggles = _from_states(folder / "states.txt", timing)
        else:
            energy, toggles = _from_totals([line[0] for line in lines], scale)
    leakage = sum(library.cell(instance.cell).leakage_nw for instance in netlist.instances)
    return Replay(energy, toggles, leakage, period_ns)
