# SPDX-License-Identifier: Apache-2.0
"""Gate-level simulation of one block in Icarus Verilog: what each cycle costs in energy.

The cells are modelled from the functions of the Liberty file: a table for each gate, with the delays of its
instance from static timing (rise and fall, inertial). An edge of a net adds the net's energy (gates.timing)
to a counter inside the simulation: there are no waveforms. The block's inputs are nets like others: somebody
outside drives them, and what their edges cost is part of the block's energy. Leakage is apart.

    cycle k:   rising edge | inputs take row k | falling edge | outputs are compared with row k

Before the first cycle all inputs and registers are 0 and the block is quiet; nothing is ever unknown. The
clock behind a clock gate is checked in every cycle: it rises once if the gate's enable was up before, else
never.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import GatesError
from gates.cell_models import Writer
from gates.liberty import Floats, Library
from gates.netlist import Bit, Netlist, Port
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
        clock_pulses: [cycles] rising edges of the output of each clock gate, by its instance: 0 or 1.
    """

    energy_pj: Floats
    toggles: Integers
    leakage_nw: float
    period_ns: float
    clock_pulses: Mapping[str, Integers]


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


def _pulses(clocks: Sequence[str]) -> list[str]:
    """Return what counts the rising edges of gated clocks in a cycle: two bits each, the first's lowest."""
    lines = []
    for number, clock in enumerate(clocks):
        field = f"pulses[{2 * number + 1}:{2 * number}]"
        lines.append(f"always @(posedge {clock}) if ({field} != 2'd3) {field} = {field} + 2'd1;")
    return lines


def _bench(
    writer: Writer,
    stimulus: Stimulus,
    ports: Sequence[Port],
    outputs: Sequence[Port],
    period_ps: int,
    sampled: bool,
) -> str:
    """Return the simulation's Verilog; the nets' values before each edge are written if they are sampled."""
    width = sum(len(port.bits) for port in ports)
    first = max(1, round(1000 * INPUT_DELAY_NS))
    high = period_ps // 2
    bits: list[Bit] = [*writer.timing.bits]
    bits += ["0"] * (-len(bits) % WORD)
    nets = [writer.bits(bits[start : start + WORD]) for start in range(0, len(bits), WORD)]
    shown = "".join(f", {writer.bits(port.bits)}" for port in outputs)
    formats = " ".join(["%h"] * len(outputs))
    sample = f'$fdisplay(states, "{"%h" * len(nets)}", {", ".join(nets)});' if sampled else ""
    scale = _energy_scale(writer.timing)
    clock = writer.netlist.ports[stimulus.clock].bits[0] if stimulus.clock is not None else None
    body = writer.body()
    enables = [enable for _, enable, _ in writer.clock_gates] or ["1'b0"]
    return "\n".join(
        [
            "`timescale 1ps / 1ps",
            *writer.primitives.values(),
            "module replay;",
            "reg running = 1'b0;",
            "reg clock = 1'b0;",
            "reg [63:0] total = 64'd0;",
            f"reg [{len(enables) - 1}:0] enabled = 0;",
            f"reg [{2 * len(enables) - 1}:0] pulses = 0;",
            f"reg [{max(width, 1) - 1}:0] now = 0;",
            f"reg [{max(width, 1) - 1}:0] rows [0:{stimulus.cycles - 1}];",
            "integer cycle, states, results;",
            *body,
            *([f"assign {writer.bits(bit for port in ports for bit in port.bits)} = now;"] if ports else []),
            *([f"assign {writer.net(clock)} = clock;"] if clock is not None else []),
            *(_counters(writer.timing, scale) if writer.delayed else []),
            *_pulses([clock for *_, clock in writer.clock_gates]),
            "initial begin",
            '  $readmemh("inputs.hex", rows);',
            '  results = $fopen("results.txt", "w");',
            *(['  states = $fopen("states.txt", "w");'] if sampled else []),
            f"  #{period_ps - 2} running = 1'b1;",
            f"  #1 total = 64'd0; {sample}",
            "  #1;",
            f"  for (cycle = 0; cycle < {stimulus.cycles}; cycle = cycle + 1) begin",
            f"    enabled = {{{', '.join(reversed(enables))}}}; pulses = 0;",
            "    clock = 1'b1;",
            f"    #{first} now = rows[cycle];",
            f"    #{high - first - 1} {sample}",
            "    #1 clock = 1'b0;",
            f"    #{period_ps - high - 1} {sample}",
            f'    $fdisplay(results, "%h %b %b {formats}", total, enabled, pulses{shown});',
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


def _clock_pulses(netlist: Netlist, gates: Sequence[str], lines: Sequence[list[str]]) -> dict[str, Integers]:
    """Return the rising edges of the gated clocks: one in a cycle before which the gate's enable was up.

    Raises:
        GatesError: a gated clock has more edges, or fewer.
    """
    if not gates:
        return {}
    enabled = np.array([[int(bit) for bit in reversed(line[1])] for line in lines], np.int64)
    bits = np.array([[int(bit) for bit in reversed(line[2])] for line in lines], np.int64)
    pulses = bits[:, ::2] + 2 * bits[:, 1::2]
    wrong = np.argwhere(pulses != enabled)
    if len(wrong):
        cycle, number = wrong[0]
        raise GatesError(
            f"replay of {netlist.name}: the clock behind {gates[number]} rises {pulses[cycle, number]} times "
            f"in cycle {cycle}, and its enable was {enabled[cycle, number]} before: {netlist.path}"
        )
    return {gate: pulses[:, number] for number, gate in enumerate(gates)}


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
        GatesError: an output differs, or a gated clock from its enable; the netlist lacks a port, has
            others, or is damaged; the period is too short for it; Icarus is missing or fails.
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
    writer = Writer(netlist, library, timing, delayed=delays != "zero")
    with tempfile.TemporaryDirectory(prefix="npuloop-replay-") as temporary:
        folder = Path(temporary)
        totals, pulses = _simulate(writer, stimulus, period_ns, folder, sampled=delays == "zero")
        if delays == "zero":
            energy, toggles = _from_states(folder / "states.txt", timing)
        else:
            energy, toggles = _from_totals(totals, _energy_scale(timing))
    leakage = sum(library.cell(instance.cell).leakage_nw for instance in netlist.instances)
    return Replay(energy, toggles, leakage, period_ns, pulses)


def clock_pulses(netlist: Netlist, library: Library, stimulus: Stimulus) -> Mapping[str, Integers]:
    """Simulate a flat netlist without delays and energies: many times faster than `replay`.

    Returns:
        As in `Replay`: [cycles] rising edges behind each clock gate.

    Raises:
        GatesError: as `replay`.
    """
    _check(netlist, stimulus)
    writer = Writer(netlist, library, analyse(netlist, library), delayed=False)
    with tempfile.TemporaryDirectory(prefix="npuloop-replay-") as temporary:
        return _simulate(writer, stimulus, 10 * INPUT_DELAY_NS, Path(temporary), sampled=False)[1]


def _simulate(
    writer: Writer, stimulus: Stimulus, period_ns: float, folder: Path, *, sampled: bool
) -> tuple[list[str], dict[str, Integers]]:
    """Run a simulation, compare its outputs, and return its counters and the edges of gated clocks."""
    netlist = writer.netlist
    ports = [netlist.ports[name] for name in stimulus.inputs]
    outputs = [netlist.ports[name] for name in stimulus.expected]
    bench = _bench(writer, stimulus, ports, outputs, round(1000 * period_ns), sampled)
    (folder / "replay.v").write_text(bench)
    (folder / "inputs.hex").write_text(_rows(stimulus, ports))
    _run([find_tool("iverilog"), "-g2012", "-o", "replay.vvp", "replay.v"], folder, netlist.name)
    _run([find_tool("vvp"), "-n", "replay.vvp"], folder, netlist.name)
    lines = [line.split() for line in (folder / "results.txt").read_text().splitlines()]
    if len(lines) != stimulus.cycles:
        raise GatesError(f"replay of {netlist.name}: vvp stopped after {len(lines)} cycles")
    for position, port in enumerate(outputs, 3):
        _compare(netlist, stimulus, port.name, [line[position] for line in lines])
    gates = [name for name, *_ in writer.clock_gates]
    return [line[0] for line in lines], _clock_pulses(netlist, gates, lines)
