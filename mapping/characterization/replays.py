# SPDX-License-Identifier: Apache-2.0
"""Windows of a block replayed on its netlist, and what explains their energies."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import lsq_linear

import gates
from common.arrays import Floats
from common.errors import GatesError
from common.files import write_atomically
from gates.clock_gating import WIRE_FF
from gates.liberty import Library
from gates.netlist import Netlist
from gates.replay import Delays, Stimulus, replay
from gates.timing import analyse
from gates.tools import tool_versions
from mapping.characterization.windows import Window, segments
from mapping.energy.features import Totals

BOUNDS: tuple[Delays, ...] = ("zero", "cells", "wires")
"""How the replays of lower, value and upper are annotated."""
FREE = ("mac.negative_bits", "mac.crowded_bits")
"""Features that say where others take less than usual: their slopes may be negative."""
PERIOD_NS = 30.0
"""Clock period of all units: longer than every block's slowest path, with the load of wires too."""


@functools.cache
def method() -> str:
    """Return a hash of the programs that an energy depends on."""
    folder = Path(gates.__file__).parent
    names = ("liberty", "netlist", "timing", "cell_models", "replay")
    return hashlib.sha256(b"".join((folder / f"{name}.py").read_bytes() for name in names)).hexdigest()


@dataclass(frozen=True)
class Gates:
    """A block in cells, ready to be replayed.

    Attributes:
        netlist: its cells.
        library: the cells.
        folder: where replays are kept.
    """

    netlist: Netlist
    library: Library
    folder: Path

    def clock_pj(self, wires: bool = False) -> float:
        """Return what the clock takes in a cycle in which nothing else moves."""
        timing = analyse(self.netlist, self.library, WIRE_FF if wires else 0.0)
        clock = self.netlist.ports.get("clk_i") or self.netlist.ports.get("clk")
        if clock is None:
            return 0.0
        (bit,) = clock.bits
        return float(timing.energy_pj[:, timing.bits.index(int(bit))].sum())

    def energies(self, stimulus: Stimulus, delays: Delays) -> Floats:
        """Return the energy of each cycle, pJ; kept under a hash of everything that it depends on.

        Raises:
            GatesError: an output differs from the recording, or a tool fails.
        """
        digest = hashlib.sha256()
        setup = [delays, PERIOD_NS, WIRE_FF, self.library.sha256, tool_versions("iverilog"), method()]
        for item in (setup, stimulus.inputs, stimulus.expected):
            digest.update(json.dumps(item, sort_keys=True).encode())
        digest.update(self.netlist.path.read_bytes())
        file = self.folder / f"{self.netlist.name}-{delays}-{digest.hexdigest()[:20]}.npy"
        if file.exists():
            kept: Floats = np.load(file, allow_pickle=False)
            return kept
        energy_pj = replay(self.netlist, self.library, stimulus, PERIOD_NS, delays, WIRE_FF).energy_pj
        write_atomically(file, lambda part: np.save(part, energy_pj, allow_pickle=False), GatesError)
        return energy_pj


Totalling = Callable[[Window], Totals]


@dataclass(frozen=True)
class Observed:
    """Windows of a block: what happened in each, and what it took.

    Attributes:
        windows: the windows.
        totals: events and features of each.
        energy_pj: [bounds, windows].
    """

    windows: tuple[Window, ...]
    totals: tuple[Totals, ...]
    energy_pj: Floats

    def column(self, name: str) -> Floats:
        """Return the sums of an event or a feature, by window."""
        return np.array([totals[name] for totals in self.totals])

    @property
    def cycles(self) -> Floats:
        """Cycles of each window."""
        return np.array([window.end - window.begin for window in self.windows], float)


def observe(gates: Gates, windows: Sequence[Window], totals: Totalling, pool: ThreadPoolExecutor) -> Observed:
    """Replay windows of a block, for each bound."""
    joined = segments(windows, gates.netlist)
    energies = pool.map(lambda delays: gates.energies(joined.stimulus, delays), BOUNDS)
    sums = [[float(energy[a:b].sum()) for a, b in joined.spans] for energy in energies]
    return Observed(tuple(windows), tuple(totals(window) for window in windows), np.array(sums))


def fit(observed: Observed, idle_pj: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Return the energy of each event or feature, (lower, value, upper), by weighted least squares.

    Args:
        observed: the fit's windows.
        idle_pj: clock energy of a cycle, by bound.
        names: events and features of the block.

    Errors count relative to the root of the energy with the clock: between relative errors, which idle
    windows would rule, and absolute ones. Nothing takes less than nothing, but for the features of `FREE`.
    """
    events = np.stack([observed.column(name) for name in names], axis=1)
    solutions = []
    for energy, idle in zip(observed.energy_pj, idle_pj, strict=True):
        moving = energy - idle * observed.cycles
        scale = 1 / np.sqrt(energy)
        known = events.any(axis=0)
        size = np.abs(events[:, known]).max(axis=0)
        least = [-np.inf if name in FREE else 0.0 for name in np.array(names)[known]]
        design = events[:, known] / size * scale[:, None]
        solution = np.zeros(len(names))
        solution[known] = lsq_linear(design, moving * scale, (least, np.inf), method="bvls").x / size
        solutions.append(solution)
    return dict(zip(names, np.array(solutions).T, strict=True))


def modelled(observed: Observed, idle_pj: Floats, energies: Mapping[str, Floats]) -> Floats:
    """Return what the fit says of windows, [bounds, windows]."""
    total = idle_pj[:, None] * observed.cycles[None, :]
    for name, values in energies.items():
        total = total + values[:, None] * observed.column(name)[None, :]
    return np.asarray(total)
