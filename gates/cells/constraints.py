"""Finds set-up and hold times of flops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import GatesError
from gates.cells.bench import LOADS_PF, SETTLE_S, SLEWS_NS, Bench, Event, Script
from gates.cells.measured import Constraint, Edges
from gates.cells.selection import FlipFlop
from gates.cells.spice import VDD_V, Transient

CONSTRAINT_SLEWS_NS = (0.0531329, 0.5)
SEARCH_S = (-1.2e-9, 1.6e-9)
SEARCH_STEPS = 9
"""Set-up and hold times are sought in this range by halving it; 5 ps are left."""

DEGRADATION = 1.1
"""A flop's set-up or hold time is met as long as its clock-to-output delay grows by less than this factor."""


@dataclass(frozen=True)
class Search:
    """One set-up or hold time to be times_ns, of a rising or falling edge of D."""

    hold: bool
    rise: bool
    clock_slew_ns: float
    data_slew_ns: float

    @property
    def value(self) -> bool:
        """What the flop takes over: D before the edge of a hold time, D after that of a set-up time."""
        return self.rise != self.hold

    def transient(self, cell: FlipFlop, offset_s: float | None) -> tuple[Transient, Event]:
        """Return the run in which D arrives this long before the clock, or leaves this long after it.

        Args:
            offset_s: None stands for very long.
        """
        others = {cell.asynchronous: True} if cell.asynchronous else {}
        script = Script({"CLK": False, "D": not self.value} | others)
        for _ in range(2):
            script.edge("CLK", SLEWS_NS[0], SETTLE_S)
        clock_s = script.now_s + 4e-9
        middle = {"clock": clock_s, "data": clock_s - 3e-9}
        if offset_s is not None and not self.hold:
            middle["data"] = clock_s - offset_s
        half = {"clock": self.clock_slew_ns * 0.5e-9 / 0.6, "data": self.data_slew_ns * 0.5e-9 / 0.6}
        low, high = VDD_V * (not self.value), VDD_V * self.value
        script.corners["D"] += [(middle["data"] - half["data"], low), (middle["data"] + half["data"], high)]
        if offset_s is not None and self.hold:
            leaves = max(clock_s + offset_s - half["data"], middle["data"] + half["data"] + 1e-12)
            script.corners["D"] += [(leaves, high), (leaves + 2 * half["data"], low)]
        script.corners["CLK"] += [(clock_s - half["clock"], 0.0), (clock_s + half["clock"], VDD_V)]
        end_s = clock_s + half["clock"] + 3e-9
        script.now_s = end_s
        return script.transient("Q", LOADS_PF[1]), Event("CLK", True, clock_s - half["clock"], clock_s, end_s)


def constraints(bench_: Bench) -> tuple[Constraint, ...]:
    """Find set-up and hold times of D by halving a range, all of them side by side.

    Raises:
        GatesError: ngspice fails, or a time lies outside the range.
    """
    cell = bench_.cell
    assert isinstance(cell, FlipFlop)
    searches = [
        Search(hold, rise, clock_slew, data_slew)
        for hold in (False, True)
        for rise in (True, False)
        for clock_slew in CONSTRAINT_SLEWS_NS
        for data_slew in CONSTRAINT_SLEWS_NS
    ]

    def delays(offsets: Sequence[float | None]) -> list[float]:
        runs = [search.transient(cell, offset) for search, offset in zip(searches, offsets, strict=True)]
        waves = bench_.run([run for run, _ in runs])
        results = []
        for search, (_, event), wave in zip(searches, runs, waves, strict=True):
            right = abs(wave.voltage("Q", event.end_s - 1e-12) - VDD_V * search.value) < 0.1 * VDD_V
            results.append(event.delay_ns(wave, "Q") if right else np.inf)
        return results

    nominal = delays([None] * len(searches))
    fails = np.full(len(searches), SEARCH_S[0])
    meets = np.full(len(searches), SEARCH_S[1])
    for _ in range(SEARCH_STEPS):
        middle = (fails + meets) / 2
        good = np.array(delays(list(middle))) < DEGRADATION * np.array(nominal)
        meets, fails = np.where(good, middle, meets), np.where(good, fails, middle)
    if not np.isfinite(nominal).all() or (meets == SEARCH_S[1]).any():
        raise GatesError(f"{cell.name}: a set-up or hold time lies outside {SEARCH_S} s")
    shape = (2, 2, len(CONSTRAINT_SLEWS_NS), len(CONSTRAINT_SLEWS_NS))
    times_ns = meets.reshape(shape) * 1e9
    return tuple(
        Constraint(kind, Edges(times_ns[number, 0], times_ns[number, 1]))
        for number, kind in enumerate(("setup_rising", "hold_rising"))
    )
