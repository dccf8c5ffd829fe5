"""Scheduling pass: who waits for whom, and in which order each unit's commands stand in its list.

Dependencies follow from the words that steps read and write. Inside a unit they become tokens, and fences
where the compute engine reads what it has just written; between units SIGNAL and WAIT. Commands of an engine
complete in order, so a wait for a step covers all that the engine did before and what the step waited for.

The lists are ordered by the time at which each step can start, estimated with the engines running side by
side: a prefetch stands in the list as early as its place is free. It is an order in which the steps could run
one by one, and no more than MAX_AHEAD tokens of a pair of engines are outstanding in it, so the lists cannot
dead-lock (docs/hardware.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common.errors import UnsupportedError
from hw.interface import ENGINES
from mapping.compiler.emit import COMPUTE, Step

MAX_AHEAD = 40
"""Most tokens of a pair of engines (or events) that may be outstanding in a list's order.

The counters hold 63; the queues let an engine run a few commands ahead of the list's order.
"""
EVENTS = 16
"""Event counters of the system."""

Engine = tuple[int, int]
"""Unit and engine."""


@dataclass
class _Links:
    """What a step waits for and posts.

    Attributes:
        waits: steps whose completion it takes a token or an event for; one for each engine at most.
        posts: engines that it posts to.
        fence: it waits for the steps before it of its own engine.
    """

    waits: dict[Engine, int] = field(default_factory=dict)
    posts: set[Engine] = field(default_factory=set)
    fence: bool = False


@dataclass(frozen=True)
class Entry:
    """One entry of a command list: name, engine, fields with tokens."""

    name: str
    engine: int
    fields: dict[str, int]
    layer: int


class _History:
    """For every word of every memory, the last step of each engine that read it, and that wrote it."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], dict[tuple[Engine, bool], npt.NDArray[np.int32]]] = {}

    def before(self, step: Step) -> dict[Engine, int]:
        """Return the last step of each engine that the step depends on."""
        found: dict[Engine, int] = {}
        for accesses, readers_too in ((step.reads, False), (step.writes, True)):
            for memory, unit, first, end in accesses:
                for (engine, write), last in self._last.get((memory, unit), {}).items():
                    if write or readers_too:
                        latest = int(last[first:end].max(initial=-1))
                        found[engine] = max(found.get(engine, -1), latest)
        return found

    def results(self, step: Step, engine: Engine) -> int:
        """Return the last step of an engine that wrote what the step reads, or -1."""
        latest = -1
        for memory, unit, first, end in step.reads:
            last = self._last.get((memory, unit), {}).get((engine, True))
            if last is not None:
                latest = max(latest, int(last[first:end].max(initial=-1)))
        return latest

    def record(self, number: int, step: Step) -> None:
        """Note what a step has read and written."""
        engine = (step.unit, step.engine)
        for accesses, write in ((step.reads, False), (step.writes, True)):
            for memory, unit, first, end in accesses:
                arrays = self._last.setdefault((memory, unit), {})
                last = arrays.get((engine, write), np.empty(0, np.int32))
                if len(last) < end:
                    last = np.concatenate([last, np.full(max(end, 2 * len(last)) - len(last), -1, np.int32)])
                    arrays[engine, write] = last
                last[first:end] = number


def link(steps: Sequence[Step]) -> list[_Links]:
    """Return what each step waits for and posts."""
    history = _History()
    links = [_Links() for _ in steps]
    known: list[dict[Engine, int]] = []  # by step: of each engine, the last step complete when it starts
    last: dict[Engine, int] = {}
    fenced: dict[Engine, int] = {}
    pairs: dict[tuple[Engine, Engine], list[tuple[int, int]]] = {}
    for number, step in enumerate(steps):
        me = (step.unit, step.engine)
        mine = dict(known[last[me]]) if me in last else {}
        depends = history.before(step)
        for other in step.after:
            engine = (steps[other].unit, steps[other].engine)
            depends[engine] = max(depends.get(engine, -1), other)
        # the latest first: what they had waited for may cover the others
        for engine, other in sorted(depends.items(), key=lambda item: -item[1]):
            if engine == me or other <= mine.get(engine, -1):
                continue
            pairs.setdefault((engine, me), []).append((other, number))
            for far, step_there in (*known[other].items(), (engine, other)):
                mine[far] = max(mine.get(far, -1), step_there)
        # commands start in order; only results may still be on their way into the scratchpad
        if step.engine == COMPUTE and history.results(step, me) > fenced.get(me, -1):
            links[number].fence = True
            fenced[me] = number - 1  # it covers what came before, not the step itself
        history.record(number, step)
        known.append(mine)
        last[me] = number
    for (producer, consumer), waits in pairs.items():
        for other, number in thin(waits):
            links[number].waits[producer] = other
            links[other].posts.add(consumer)
    return links


def thin(waits: list[tuple[int, int]], limit: int = MAX_AHEAD) -> list[tuple[int, int]]:
    """Return waits of a pair of engines, of which no more than `limit` are outstanding at any step.

    Where more are, neighbours are merged: the first of two waiting steps waits for what the second one needs,
    which lies before it too, and the second one need not wait any more.

    Args:
        waits: (posting step, waiting step) by number, both ascending.
        limit: most posts that nobody has taken yet, the steps running one after the other.
    """
    first = 0
    while first < len(waits):
        # those that are outstanding when the step runs that waits first
        end = first
        while end < len(waits) and waits[end][0] < waits[first][1]:
            end += 1
        if end - first <= limit:
            first += 1
            continue
        merged = [(waits[min(i + 1, end - 1)][0], waits[i][1]) for i in range(first, end, 2)]
        waits = waits[:first] + merged + waits[end:]
    return waits


def most_outstanding(sequence: Sequence[int], links: Sequence[_Links], steps: Sequence[Step]) -> int:
    """Return the most tokens or events of a pair of engines that are outstanding in an order."""
    counts: dict[tuple[Engine, Engine], int] = {}
    most = 0
    for number in sequence:
        me = (steps[number].unit, steps[number].engine)
        for engine in links[number].waits:
            counts[engine, me] -= 1
        for consumer in links[number].posts:
            counts[me, consumer] = counts.get((me, consumer), 0) + 1
            most = max(most, counts[me, consumer])
    return most


def order(steps: Sequence[Step], links: Sequence[_Links]) -> tuple[list[int], int]:
    """Return the steps' numbers in the order of their estimated starts, and the estimated cycles of all."""
    start = [0] * len(steps)
    complete = [0] * len(steps)
    free: dict[Engine, int] = {}
    last: dict[Engine, int] = {}
    posts: dict[tuple[Engine, Engine], int] = {}
    waiting: dict[tuple[Engine, Engine], list[int]] = {}  # steps that take the tokens of a pair, in order
    for number, (step, item) in enumerate(zip(steps, links, strict=True)):
        for engine in item.waits:
            waiting.setdefault((engine, (step.unit, step.engine)), []).append(number)
    for number, (step, item) in enumerate(zip(steps, links, strict=True)):
        me = (step.unit, step.engine)
        at = max([free.get(me, 0), *(complete[other] for other in item.waits.values())])
        if item.fence and me in last:
            at = max(at, complete[last[me]])
        for consumer in item.posts:
            pair = (me, consumer)
            ahead = posts.get(pair, 0) - MAX_AHEAD
            posts[pair] = posts.get(pair, 0) + 1
            if ahead >= 0:  # `thin` has seen to it that this step comes before
                at = max(at, start[waiting[pair][ahead]])
        start[number] = at
        free[me] = at + step.cycles
        complete[number] = max(at + step.cycles + step.tail, complete[last[me]] if me in last else 0)
        last[me] = number
    return sorted(range(len(steps)), key=lambda number: (start[number], number)), max(complete, default=0)


def lists(steps: Sequence[Step], units: int) -> tuple[list[list[Entry]], int]:
    """Return each unit's commands, with tokens, fences and events, and the estimated cycles.

    Raises:
        UnsupportedError: more pairs of engines of different units than there are event counters.
    """
    links = link(steps)
    sequence, cycles = order(steps, links)
    assert most_outstanding(sequence, links, steps) <= MAX_AHEAD + 1, "a counter could overflow: thin, order"
    events: dict[tuple[Engine, Engine], int] = {}
    made: list[list[Entry]] = [[] for _ in range(units)]
    for number in sequence:
        step, item = steps[number], links[number]
        tokens: dict[str, int] = {"fence": 1} if item.fence else {}
        for (unit, engine), _ in sorted(item.waits.items()):
            if unit == step.unit:
                tokens[f"wait_{ENGINES[engine]}"] = 1
            else:
                event = events.setdefault(((unit, engine), (step.unit, step.engine)), len(events))
                made[step.unit].append(
                    Entry("wait", step.engine, {"event_id": event, "amount": 1}, step.layer)
                )
        signals = []
        for unit, engine in sorted(item.posts):
            if unit == step.unit:
                tokens[f"post_{ENGINES[engine]}"] = 1
            else:
                event = events.setdefault(((step.unit, step.engine), (unit, engine)), len(events))
                signals.append(Entry("signal", step.engine, {"event_id": event}, step.layer))
        made[step.unit].append(Entry(step.name, step.engine, tokens | step.fields, step.layer))
        made[step.unit] += signals
    if len(events) > EVENTS:
        raise UnsupportedError(
            f"{len(events)} pairs of engines of {units} units wait for each other; "
            f"there are {EVENTS} event counters"
        )
    return made, cycles
