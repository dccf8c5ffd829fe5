# SPDX-License-Identifier: Apache-2.0
"""A unit at work on a command list: what its engines have done, what they wait for, and when that was."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hw.core import CoreConfig
from hw.interface import ENGINES
from mapping.compiler.schedule import Entry
from mapping.cost.banks import NOTHING_LOST, Losses
from mapping.cost.work import Transfer

QUEUE = 4
"""Commands that an engine's queue holds, that are fetched ahead, that are in an engine's datapath."""
MOST_LOST = 0.9
"""The largest share of its cycles that a transfer is taken to lose."""
_WAITS = tuple(f"wait_{name}" for name in ENGINES)
_POSTS = tuple(f"post_{name}" for name in ENGINES)


class Step(NamedTuple):
    """What a command waits for and posts, beside its turn.

    Attributes:
        engine: who executes it.
        name: the command.
        ordered: it starts when the commands before it of its own engine are complete.
        waits, posts: pairs of engines whose tokens it takes and gives.
        event: of a SIGNAL or a WAIT.
    """

    engine: int
    name: str
    ordered: bool
    waits: tuple[tuple[int, int], ...]
    posts: tuple[tuple[int, int], ...]
    event: int


def step_of(entry: Entry) -> Step:
    """Return what a command waits for and posts."""
    fields, engine = entry.fields, entry.engine
    return Step(
        engine=engine,
        name=entry.name,
        ordered=entry.name in ("wait", "signal") or bool(fields.get("fence")),
        waits=tuple((other, engine) for other, name in enumerate(_WAITS) if fields.get(name)),
        posts=tuple((engine, other) for other, name in enumerate(_POSTS) if fields.get(name)),
        event=fields.get("event_id", 0),
    )


@dataclass
class Move:
    """A transfer whose bursts are being asked for."""

    work: Transfer
    request: float  # when the next burst is asked for
    next: int = 0


@dataclass
class Engine:
    """An engine: what it has to do, and when it did what it has done: points of its commands, in order."""

    queue: list[int] = field(default_factory=list)
    dispatched: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)  # complete
    free: float = 0.0  # when the datapath can take the next command
    move: Move | None = None
    flying: deque[float] = field(default_factory=deque)  # ends of the bursts in flight
    through: float = 0.0  # when its last burst was through the port


@dataclass
class Drain:
    """The drain: when the last two stripes left their banks, and when parameters can be read."""

    older: float = 0.0
    newer: float = 0.0
    taken: float = 0.0


@dataclass
class Events:
    """Events of lists that were started together: when each was signalled, and how many were waited for."""

    signals: dict[int, list[float]] = field(default_factory=dict)
    waits: dict[int, int] = field(default_factory=dict)


class Array:
    """How busy a unit's array keeps the scratchpad's banks, by its operators in order, as far as known.

    When a burst is asked for, it is known when all words before it on the port are through, and so when the
    operators work that the burst can meet.
    """

    def __init__(self) -> None:
        self._edges = [0.0]  # where an operator begins and ends, in turn
        self._lost = [NOTHING_LOST]  # until there, by a transfer that lasts as long

    def work(self, begin: float, end: float, lost: Losses) -> None:
        """Note an operator.

        Args:
            begin, end: of the array's work on it, cycles.
            lost: what a transfer loses meanwhile.
        """
        total = self._lost[-1]
        self._edges += [max(begin, self._edges[-1]), max(end, self._edges[-1])]
        self._lost += [total, total.plus(lost)]

    def waits(self, begin: float, cycles: float, behind: float) -> float:
        """Return how much longer a transfer takes that meets operands and results in its banks.

        Args:
            begin: its first cycle.
            cycles: that it takes if it meets none.
            behind: share of it that goes behind slow results.
        """
        share = self._share(begin, begin + cycles, behind)
        if not share:
            return 0.0
        share = self._share(begin, begin + cycles / (1.0 - share), behind)  # what it loses makes it longer
        return cycles * share / (1.0 - share)

    def _share(self, begin: float, end: float, behind: float) -> float:
        """Return the share of some cycles that a transfer loses."""
        lost = self._until(end).plus(self._until(begin), -1.0)
        return min(MOST_LOST, (lost.met + behind * lost.behind) / max(end - begin, 1.0))

    def _until(self, time: float) -> Losses:
        edges, lost = self._edges, self._lost
        place = bisect_right(edges, time)
        if place == len(edges):
            return lost[-1]
        if place % 2:  # between two operators
            return lost[place - 1]
        width = edges[place] - edges[place - 1]
        before, after = lost[place - 1], lost[place]
        return before.plus(after.plus(before, -1.0), (time - edges[place - 1]) / width)


class ListRun:
    """A unit at work on a list.

    Attributes:
        start: when its commands are first asked for.
        ends: when each command is complete, in cycles, in the order of the list; None while it is not known.
        array: how busy its array keeps the scratchpad's banks.
    """

    def __init__(self, core: CoreConfig, entries: Sequence[Entry], start: float, events: Events) -> None:
        self.name = core.name
        self.core = core
        self.entries = entries
        self.start = start
        self.events = events
        self.engines = [Engine() for _ in range(3)]
        self.drain = Drain()
        self.requests = deque([start] * min(QUEUE, len(entries)))  # when the next commands are asked for
        self.fetched: list[float] = []
        self.before = start  # dispatch of the command before
        self.next = 0
        self.steps: list[Step] = []
        self.posts: dict[tuple[int, int], list[float]] = {}
        self.taken: dict[tuple[int, int], int] = {}
        self.ends: list[float | None] = [None] * len(entries)
        self.left = len(entries)
        self.array = Array()

    @property
    def done(self) -> bool:
        """Whether it is known when every command is complete."""
        return not self.left

    @property
    def complete(self) -> tuple[float, ...]:
        """When each command is complete, of a list that is done."""
        return tuple(end for end in self.ends if end is not None)
