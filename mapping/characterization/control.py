# SPDX-License-Identifier: Apache-2.0
"""What the gated clocks of a unit's control take: of all blocks whose energy is not replayed by events.

Each instance of such a block is replayed without delays, from the start of an inference on, with its ports as
they were recorded. That counts how often each gate lets the clock through, exactly; every output is compared,
and every gated clock with its enable. What a gated clock takes is known from the netlist. The energies of the
windows of the recording are explained by what happens in them: commands, words, results, beats, and cycles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from common.arrays import Floats, Int64
from common.errors import GatesError
from common.files import write_atomically
from gates.blocks import Block, Pin
from gates.clock_gating import WIRE_FF, gated
from gates.liberty import Library
from gates.netlist import Netlist
from gates.replay import Stimulus, clock_pulses
from gates.timing import analyse
from gates.tools import tool_versions
from hw.layout import CHANNEL_BLOCK
from mapping.characterization.recording import Signals
from mapping.characterization.replays import method

CYCLES = 4000
"""Of an inference that are replayed."""
WINDOW_CYCLES = 50
"""Cycles whose energies are explained together."""
RESET_CYCLES = 2
CLOCK = "clk_i"
BUSY, COMMAND, WORD, RESULT, BEAT, ACCUMULATION = (
    "control_busy", "control_command", "control_word", "control_result", "control_beat", "accumulate",
)  # fmt: skip
"""Energies that the gated clocks of control are part of."""
ACCUMULATORS = "accumulators"
"""The group of blocks whose gated clocks go with sums, not with the rest of the control."""
SIGNAL_PATHS = ("i_fetch", "i_compute.i_agu", "i_act_spm", "i_load", "i_store")
"""Modules whose signals say what happens."""


class UnseenError(GatesError):
    """A port whose values were not recorded."""


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
        seen: whether the block's ports were recorded; else nothing is known: the value is that of a clock
            that is always shut, the upper bound that of one that is always open.
    """

    block: str
    path: str
    gate: str
    flops: tuple[str, ...]
    energy_pj: Floats
    pulses: Int64
    seen: bool = True


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
        width, values = _signal(modules[joined(path, pin.instance)], pin.name, joined(path, pin.instance))
        if max(pin.bits) >= width:
            raise GatesError(f"{joined(path, pin.instance)}.{pin.name} has {width} bits in the recording")
        picked = {value: _picked(value, pin, width) for value in set(values[:cycles])}
        return [picked[value] for value in values[:cycles]]

    inputs, expected = {}, {}
    for port in netlist.ports_of("input"):
        if port.name != CLOCK:
            values = recorded(port.name)
            lead = 0 if port.name == "rst_ni" else values[0]
            inputs[port.name] = (len(port.bits), [lead] * RESET_CYCLES + values)
    for port in netlist.ports_of("output"):
        expected[port.name] = [*[None] * RESET_CYCLES, *recorded(port.name)]
    return Stimulus(inputs, expected, CLOCK if CLOCK in netlist.ports else None)


def _signal(signals: Signals, name: str, path: str) -> tuple[int, Sequence[int]]:
    """Return a signal; of an unpacked array, all elements as one, the first in the highest bits.

    Raises:
        GatesError: it was not recorded.
    """
    if name in signals:
        return signals[name]
    elements: list[tuple[int, list[int]]] = []
    while f"{name}[{len(elements)}]" in signals:
        elements.append(signals[f"{name}[{len(elements)}]"])
    if not elements:
        raise UnseenError(f"{path}.{name} was not recorded")
    width, total = elements[0][0], 0
    joined_values = np.zeros(len(elements[0][1]), object)
    for _, values in elements:
        joined_values = (joined_values << width) + np.array(values, object)
        total += width
    return total, joined_values.tolist()


def _picked(value: int, pin: Pin, width: int) -> int:
    """Return the bits of a signal that a port has."""
    if pin.bits == tuple(range(width)):
        return value
    return sum((value >> bit & 1) << place for place, bit in enumerate(pin.bits))


def gated_clocks(
    block: Block, path: str, library: Library, modules: Mapping[str, Signals], cycles: int, folder: Path
) -> list[GatedClock]:
    """Return the gated clocks of an instance of a block, counted in a recording; counts are kept in a folder.

    Raises:
        GatesError: an output differs from the recording, or a gated clock from its enable.
    """
    netlist = block.netlist(library)
    behind = gated(netlist, library)
    if not behind:
        return []
    seen = True
    try:
        stimulus = stimulus_of(block, path, netlist, library, modules, cycles)
        pulses = _pulses(netlist, library, stimulus, list(behind), folder)
    except UnseenError:
        seen, pulses = False, np.ones((len(behind), RESET_CYCLES + cycles), np.int64)
    without, wires = analyse(netlist, library), analyse(netlist, library, WIRE_FF)
    nets = {name: number for number, name in enumerate(without.names)}
    found = []
    for place, (gate, flops) in enumerate(behind.items()):
        net = nets[f"{gate}/{_output(netlist, gate, library)}"]
        one, other = (float(timing.energy_pj[:, net].sum()) for timing in (without, wires))
        energy = np.array([one, one, other]) if seen else np.array([0.0, 0.0, other])
        found.append(
            GatedClock(block.name, path, gate, tuple(flops), energy, pulses[place, RESET_CYCLES:], seen)
        )
    return found


def _pulses(
    netlist: Netlist, library: Library, stimulus: Stimulus, gates: Sequence[str], folder: Path
) -> Int64:
    """Return [gates, cycles] whether each lets the clock through; kept under a hash of what it depends on."""
    digest = hashlib.sha256(json.dumps([library.sha256, tool_versions("iverilog"), method()]).encode())
    for item in (stimulus.inputs, stimulus.expected):
        digest.update(json.dumps(item, sort_keys=True).encode())
    digest.update(netlist.path.read_bytes())
    file = folder / f"{netlist.name}-clocks-{digest.hexdigest()[:20]}.npy"
    if file.exists():
        kept: Int64 = np.load(file, allow_pickle=False).astype(np.int64)
        return kept
    counted = clock_pulses(netlist, library, stimulus)
    pulses = np.stack([counted[gate] for gate in gates])
    write_atomically(file, lambda part: np.save(part, pulses.astype(np.int8), allow_pickle=False), GatesError)
    return pulses


def _output(netlist: Netlist, gate: str, library: Library) -> str:
    (cell,) = (item.cell for item in netlist.instances if item.name == gate)
    pins = library.cell(cell).clock_gate
    assert pins is not None
    return pins.output


def all_gated_clocks(
    blocks: Sequence[Block], library: Library, modules: Mapping[str, Signals], cycles: int, pool: Executor,
    folder: Path,
) -> list[GatedClock]:  # fmt: skip
    """Return the gated clocks of all instances of some blocks."""
    places = [(block, path) for block in blocks for path in block.paths]

    def one(place: tuple[Block, str]) -> list[GatedClock]:
        return gated_clocks(place[0], place[1], library, modules, cycles, folder)

    each = pool.map(one, places)
    return [clock for clocks in each for clock in clocks]


def events_of(modules: Mapping[str, Signals], cycles: int) -> dict[str, Int64]:
    """Return what happens in each cycle, by the name of the energy that it is counted by.

    Raises:
        GatesError: a signal was not recorded.
    """

    def values(path: str, name: str) -> Int64:
        if name not in modules.get(path, {}):
            raise GatesError(f"{path}.{name} was not recorded")
        return np.array(modules[path][name][1][:cycles], np.int64)

    adds = [path for path, signals in modules.items() if "add_i" in signals and _is_slice(path)]
    return {
        BUSY: np.ones(cycles, np.int64),
        COMMAND: ((values("i_fetch", "cmd_valid_o") & values("i_fetch", "cmd_ready_i")) != 0).astype(
            np.int64
        ),
        WORD: values("i_compute.i_agu", "valid_o") & values("i_compute.i_agu", "ready_i"),
        RESULT: values("i_act_spm", "res_we_i"),
        BEAT: values("i_load", "r_go") + values("i_store", "w_go"),
        ACCUMULATION: CHANNEL_BLOCK
        * sum((values(path, "add_i") for path in adds), np.zeros(cycles, np.int64)),
    }


def _is_slice(path: str) -> bool:
    """Return whether a path is that of the accumulators of a slice of columns."""
    return path.startswith("i_compute.gen_acc[") and path.endswith(".gen_structural.i_form")


def energy_of(clocks: Iterable[GatedClock], cycles: int) -> Floats:
    """Return what gated clocks take together: [bounds, cycles]."""
    total = np.zeros((3, cycles))
    for clock in clocks:
        total += clock.energy_pj[:, None] * clock.pulses[None, :cycles]
    return total


@dataclass(frozen=True)
class Control:
    """What gated clocks of the control take.

    Attributes:
        energies: by name of the energy they are part of, [bounds], for each event.
        error: of the windows' energies, root mean square, relative to that of the energies.
        clocks: how many gated clocks were counted.
        share: of the cycles in which a register's clock is let through, on average over registers.
        unseen: registers of blocks whose ports cannot be recorded.
    """

    energies: Mapping[str, Floats]
    error: float
    clocks: int
    share: float
    unseen: int


def control_of(
    clocks: Sequence[GatedClock], groups: Mapping[tuple[str, str], str], events: Mapping[str, Int64]
) -> Control:
    """Explain the energies of gated clocks by events.

    Args:
        clocks: the gated clocks.
        groups: what the instance of a block, by both names, is counted as.
        events: [cycles] of each event how often it happens.
    """
    cycles = len(events[BUSY])
    sums = [clock for clock in clocks if groups[clock.block, clock.path] == ACCUMULATORS]
    others = [clock for clock in clocks if groups[clock.block, clock.path] != ACCUMULATORS]
    adding, _ = explained(energy_of(sums, cycles), {ACCUMULATION: events[ACCUMULATION]})
    rest = {name: values for name, values in events.items() if name != ACCUMULATION}
    energies, error = explained(energy_of(others, cycles), rest)
    counted = [clock for clock in clocks if clock.seen]
    flops = sum(len(clock.flops) for clock in counted)
    opened = sum(len(clock.flops) * float(clock.pulses[:cycles].mean()) for clock in counted)
    unseen = sum(len(clock.flops) for clock in clocks if not clock.seen)
    return Control(energies | adding, error, len(counted), opened / max(flops, 1), unseen)


def explained(energy_pj: Floats, events: Mapping[str, Int64]) -> tuple[dict[str, Floats], float]:
    """Return the energy of each event, by bound, and how far the windows are off: root mean square, relative.

    Args:
        energy_pj: [bounds, cycles].
        events: [cycles] of each event whether it happens, or how often.
    """
    count = energy_pj.shape[1] // WINDOW_CYCLES

    def windows(values: Floats | Int64) -> Floats:
        return np.asarray(values[: count * WINDOW_CYCLES].reshape(count, WINDOW_CYCLES).sum(axis=1), float)

    design = np.stack([windows(values) for values in events.values()], axis=1)
    solutions, off = [], 0.0
    for number, energy in enumerate(energy_pj):
        target = windows(energy)
        solution, rest = nnls(design, target)
        solutions.append(solution)
        if number == 1:
            off = float(rest / max(np.linalg.norm(target), 1e-12))
    return dict(zip(events, np.array(solutions).T, strict=True)), off
