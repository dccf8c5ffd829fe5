# SPDX-License-Identifier: Apache-2.0
"""What the gated clocks of a unit's control take: of all blocks whose energy is not replayed by events.

Each instance of such a block is replayed without delays, from the start of an inference on, with its ports as
they were recorded. That counts how often each gate lets the clock through, exactly; every output is compared,
and every gated clock with its enable. What a gated clock takes is known from the netlist. The energies of the
windows of the recording are explained by what happens in them: commands, words, results, beats, and cycles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from common.arrays import Floats, Int64
from common.errors import GatesError
from gates.blocks import Block, Pin
from gates.clock_gating import gated
from gates.liberty import Library
from gates.netlist import Netlist
from gates.replay import Stimulus, clock_pulses
from gates.timing import analyse
from mapping.characterization.recording import Signals

CYCLES = 6000
"""Of an inference that are replayed."""
WINDOW_CYCLES = 50
"""Cycles whose energies are explained together."""
RESET_CYCLES = 2
CLOCK = "clk_i"
WIRE_FF = 3.0

EVENTS: Mapping[str, Callable[[Mapping[str, Signals]], Int64]] = {}


@dataclass(frozen=True, eq=False)
class GatedClock:
    """The clock behind a gate of an instance of a block.

    Attributes:
        block: the block, and which variant of it.
        path: its instance, from the core on.
        gate: the clock gate.
        flops: registers behind it, by name.
        energy_pj: [bounds] of a cycle in which it is let through.
        pulses: [cycles] whether it is.
    """

    block: str
    path: str
    gate: str
    flops: tuple[str, ...]
    energy_pj: Floats
    pulses: Int64


def module_paths(blocks: Iterable[Block], library: Library) -> list[str]:
    """Return the paths of the modules whose signals the blocks' ports are."""
    paths: dict[str, None] = {}
    for block in blocks:
        boxes = {pin.instance for pin in block.pins(library).values() if pin.instance}
        for path in block.paths:
            paths |= dict.fromkeys([path, *(joined(path, box) for box in sorted(boxes))])
    return list(paths)


def joined(path: str, instance: str) -> str:
    """Return the path of an instance in a module; the module itself if there is none."""
    return ".".join(part for part in (path, instance) if part)


def stimulus_of(
    block: Block, path: str, netlist: Netlist, library: Library, modules: Mapping[str, Signals], cycles: int
) -> Stimulus:
    """Return what happened at the ports of an instance of a block, after two cycles of reset.

    Raises:
        GatesError: a port was not recorded.
    """
    pins = block.pins(library)

    def recorded(name: str) -> list[int]:
        pin = pins[name]
        signals = modules[joined(path, pin.instance)]
        if pin.name not in signals:
            raise GatesError(f"{joined(path, pin.instance)}.{pin.name} was not recorded")
        width, values = signals[pin.name]
        if max(pin.bits) >= width:
            raise GatesError(f"{joined(path, pin.instance)}.{pin.name} has {width} bits in the recording")
        return [_picked(value, pin, width) for value in values[:cycles]]

    inputs, expected = {}, {}
    for port in netlist.ports_of("input"):
        if port.name != CLOCK:
            values = recorded(port.name)
            lead = 0 if port.name == "rst_ni" else values[0]
            inputs[port.name] = (len(port.bits), [lead] * RESET_CYCLES + values)
    for port in netlist.ports_of("output"):
        expected[port.name] = [*[None] * RESET_CYCLES, *recorded(port.name)]
    return Stimulus(inputs, expected, CLOCK if CLOCK in netlist.ports else None)


def _picked(value: int, pin: Pin, width: int) -> int:
    """Return the bits of a signal that a port has."""
    if pin.bits == tuple(range(width)):
        return value
    return sum((value >> bit & 1) << place for place, bit in enumerate(pin.bits))


def gated_clocks(
    block: Block, path: str, library: Library, modules: Mapping[str, Signals], cycles: int
) -> list[GatedClock]:
    """Return the gated clocks of an instance of a block, counted in a recording.

    Raises:
        GatesError: an output differs from the recording, or a gated clock from its enable.
    """
    netlist = block.netlist(library)
    behind = gated(netlist, library)
    if not behind:
        return []
    stimulus = stimulus_of(block, path, netlist, library, modules, cycles)
    pulses = clock_pulses(netlist, library, stimulus)
    without, wires = analyse(netlist, library), analyse(netlist, library, WIRE_FF)
    nets = {name: number for number, name in enumerate(without.names)}
    found = []
    for gate, flops in behind.items():
        net = nets[f"{gate}/{_output(netlist, gate, library)}"]
        one, other = (float(timing.energy_pj[:, net].sum()) for timing in (without, wires))
        energy = np.array([one, one, other])
        found.append(GatedClock(block.name, path, gate, tuple(flops), energy, pulses[gate][RESET_CYCLES:]))
    return found


def _output(netlist: Netlist, gate: str, library: Library) -> str:
    (cell,) = (item.cell for item in netlist.instances if item.name == gate)
    pins = library.cell(cell).clock_gate
    assert pins is not None
    return pins.output


def all_gated_clocks(
    blocks: Sequence[Block], library: Library, modules: Mapping[str, Signals], cycles: int, pool: Executor
) -> list[GatedClock]:
    """Return the gated clocks of all instances of some blocks."""
    places = [(block, path) for block in blocks for path in block.paths]
    each = pool.map(lambda place: gated_clocks(*place, library, modules, cycles), places)
    return [clock for clocks in each for clock in clocks]


def energy_of(clocks: Iterable[GatedClock], cycles: int) -> Floats:
    """Return what gated clocks take together: [bounds, cycles]."""
    total = np.zeros((3, cycles))
    for clock in clocks:
        total += clock.energy_pj[:, None] * clock.pulses[None, :cycles]
    return total


def explained(energy_pj: Floats, events: Mapping[str, Int64]) -> tuple[dict[str, Floats], float]:
    """Return the energy of each event, by bound, and how far the windows are off: root mean square, relative.

    Args:
        energy_pj: [bounds, cycles].
        events: [cycles] of each event whether it happens, or how often.
    """
    count = energy_pj.shape[1] // WINDOW_CYCLES

    def windows(values: Floats | Int64) -> Floats:
        return values[: count * WINDOW_CYCLES].reshape(count, WINDOW_CYCLES).sum(axis=1).astype(float)

    design = np.stack([windows(values) for values in events.values()], axis=1)
    solutions, off = [], 0.0
    for number, energy in enumerate(energy_pj):
        target = windows(energy)
        solution, rest = nnls(design, target)
        solutions.append(solution)
        if number == 1:
            off = float(rest / max(np.linalg.norm(target), 1e-12))
    return dict(zip(events, np.array(solutions).T, strict=True)), off
