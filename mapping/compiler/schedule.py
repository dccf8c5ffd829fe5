# SPDX-License-Identifier: Apache-2.0
"""Scheduling pass: who waits for whom, and in which order each unit's commands stand in its list.

Dependencies follow from the words that commands read and write. Inside a unit they become tokens, and fences
where the compute engine reads what it has just written; between units SIGNAL and WAIT. Commands of an engine
complete in order, so a wait for a command covers all that the engine did before and what the command waited
for.

The lists are ordered by the time at which each command can start, estimated with the engines running side by
side: a prefetch stands in the list as early as its place is free. It is an order in which the commands could
run one by one, and no more than MAX_AHEAD tokens of a pair of engines are outstanding in it, so the lists
cannot dead-lock (docs/explanation/hardware.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from common.errors import UnsupportedError
from hw.interface import ENGINES
from mapping.compiler.emit import COMPUTE, Command

MAX_AHEAD = 40
"""Most tokens of a pair of engines (or events) that may be outstanding in a list's order.

The counters hold 63; the queues let an engine run a few commands ahead of the list's order.
"""
EVENTS = 16
"""Event counters of the system."""

Engine = tuple[int, int]
"""Unit and engine."""


class Entry(NamedTuple):
    """One entry of a command list: name, engine, fields with tokens."""

    name: str
    engine: int
    fields: dict[str, int]
    layer: int


@dataclass(frozen=True)
class Schedule:
    """The commands, in order.

    Attributes:
        lists: each unit's command list, with tokens, fences and events.
        sequence: the commands' numbers in the order of their estimated starts: each list is in that order.
        cycles: estimated cycles of all.
    """

    lists: tuple[tuple[Entry, ...], ...]
    sequence: tuple[int, ...]
    cycles: int


@dataclass
class Dependencies:
    """What a command waits for and posts.

    Attributes:
        waits: commands whose completion it takes a token or an event for; one for each engine at most.
        posts: engines that it posts to.
        fence: it waits for the commands before it of its own engine.
    """

    waits: dict[Engine, int] = field(default_factory=dict)
    posts: set[Engine] = field(default_factory=set)
    fence: bool = False


class _History:
    """For every word of every memory, the last command of each engine that read it, and that wrote it.

    Words between two edges of all accesses are one cell.

    Args:
        commands: all commands.
    """

    def __init__(self, commands: Sequence[Command]) -> None:
        edges: dict[tuple[str, int], set[int]] = {}
        for command in commands:
            for memory, unit, first, end in (*command.reads, *command.writes):
                edges.setdefault((memory, unit), set()).update((first, end))
        self._cells = {key: {edge: i for i, edge in enumerate(sorted(found))} for key, found in edges.items()}
        self._last: dict[tuple[str, int], dict[tuple[Engine, bool], list[int]]] = {key: {} for key in edges}

    def before(self, command: Command) -> dict[Engine, int]:
        """Return the last command of each engine that the command depends on."""
        latest: dict[Engine, int] = {}
        for accesses, readers_too in ((command.reads, False), (command.writes, True)):
            for memory, unit, first, end in accesses:
                cells = self._cells[memory, unit]
                start, stop = cells[first], cells[end]
                for (engine, write), last in self._last[memory, unit].items():
                    if write or readers_too:
                        number = max(last[start:stop], default=-1)
                        if number > latest.get(engine, -1):
                            latest[engine] = number
        return latest

    def results(self, command: Command, engine: Engine) -> int:
        """Return the last command of an engine that wrote what the command reads, or -1."""
        latest = -1
        for memory, unit, first, end in command.reads:
            last = self._last[memory, unit].get((engine, True))
            if last is not None:
                cells = self._cells[memory, unit]
                latest = max(latest, max(last[cells[first] : cells[end]], default=-1))
        return latest

    def record(self, number: int, command: Command) -> None:
        """Note what a command has read and written."""
        engine = (command.unit, command.engine)
        for accesses, write in ((command.reads, False), (command.writes, True)):
            for memory, unit, first, end in accesses:
                cells, arrays = self._cells[memory, unit], self._last[memory, unit]
                if (engine, write) not in arrays:
                    arrays[engine, write] = [-1] * len(cells)
                start, stop = cells[first], cells[end]
                arrays[engine, write][start:stop] = [number] * (stop - start)


def schedule(commands: Sequence[Command], units: int, first_event: int = 0) -> Schedule:
    """Return each unit's command list.

    Afterwards a command starts only when those are complete whose words it reads or overwrites, however fast
    the engines are; the lists run to their ends one entry after the other, and in that order no pair of
    engines has more than MAX_AHEAD + 1 tokens outstanding.

    Args:
        commands: the commands of all units, in an order in which they could run one by one.
        units: number of units in the system.
        first_event: the first event counter that they use.

    Raises:
        UnsupportedError: more pairs of engines of different units than there are event counters.
    """
    dependencies = dependencies_of(commands)
    sequence, cycles = start_order(commands, dependencies)
    outstanding = most_outstanding(sequence, dependencies, commands)
    assert outstanding <= MAX_AHEAD + 1, "a counter could overflow: see merge_waits, start_order"
    entries = _entries(commands, dependencies, sequence, units, first_event)
    return Schedule(entries, tuple(sequence), cycles)


def dependencies_of(commands: Sequence[Command]) -> list[Dependencies]:
    """Return what each command waits for and posts."""
    history = _History(commands)
    dependencies = [Dependencies() for _ in commands]
    complete: list[dict[Engine, int]] = []  # by command: of each engine, the last one complete when it starts
    last: dict[Engine, int] = {}
    fenced: dict[Engine, int] = {}
    pairs: dict[tuple[Engine, Engine], list[tuple[int, int]]] = {}
    for number, command in enumerate(commands):
        engine = (command.unit, command.engine)
        known = dict(complete[last[engine]]) if engine in last else {}
        depends = history.before(command)
        for other in command.after:
            producer = (commands[other].unit, commands[other].engine)
            depends[producer] = max(depends.get(producer, -1), other)
        # the latest first: what they had waited for may cover the others
        for producer, other in sorted(depends.items(), key=lambda item: -item[1]):
            if producer == engine or other <= known.get(producer, -1):
                continue
            pairs.setdefault((producer, engine), []).append((other, number))
            for far, far_number in (*complete[other].items(), (producer, other)):
                known[far] = max(known.get(far, -1), far_number)
        # commands start in order; only results may still be on their way into the scratchpad
        if command.engine == COMPUTE and history.results(command, engine) > fenced.get(engine, -1):
            dependencies[number].fence = True
            fenced[engine] = number - 1  # it covers what came before, not the command itself
        history.record(number, command)
        complete.append(known)
        last[engine] = number
    for (producer, consumer), waits in pairs.items():
        for other, number in merge_waits(waits):
            dependencies[number].waits[producer] = other
            dependencies[other].posts.add(consumer)
    return dependencies


def merge_waits(waits: list[tuple[int, int]], limit: int = MAX_AHEAD) -> list[tuple[int, int]]:
    """Return waits of a pair of engines, of which no more than `limit` are outstanding at any command.

    Where more are, neighbours are merged: the first of two waiting commands waits for what the second one
    needs, which lies before it too, and the second one need not wait any more.

    Args:
        waits: (posting command, waiting command) by number, both ascending.
        limit: most posts that nobody has taken yet, the commands running one after the other.
    """
    first = 0
    while first < len(waits):
        # those that are outstanding when the command runs that waits first
        end = first
        while end < len(waits) and waits[end][0] < waits[first][1]:
            end += 1
        if end - first <= limit:
            first += 1
            continue
        merged = [(waits[min(i + 1, end - 1)][0], waits[i][1]) for i in range(first, end, 2)]
        waits = waits[:first] + merged + waits[end:]
    return waits


def most_outstanding(
    sequence: Sequence[int], dependencies: Sequence[Dependencies], commands: Sequence[Command]
) -> int:
    """Return the most tokens or events of a pair of engines that are outstanding in an order."""
    counts: dict[tuple[Engine, Engine], int] = {}
    most = 0
    for number in sequence:
        engine = (commands[number].unit, commands[number].engine)
        for producer in dependencies[number].waits:
            counts[producer, engine] -= 1
        for consumer in dependencies[number].posts:
            counts[engine, consumer] = counts.get((engine, consumer), 0) + 1
            most = max(most, counts[engine, consumer])
    return most


def start_order(commands: Sequence[Command], dependencies: Sequence[Dependencies]) -> tuple[list[int], int]:
    """Return the commands' numbers in the order of their estimated starts, and the cycles of all."""
    start = [0] * len(commands)
    complete = [0] * len(commands)
    free: dict[Engine, int] = {}
    last: dict[Engine, int] = {}
    posts: dict[tuple[Engine, Engine], int] = {}
    waiting: dict[tuple[Engine, Engine], list[int]] = {}  # commands that take a pair's tokens, in order
    for number, (command, item) in enumerate(zip(commands, dependencies, strict=True)):
        for producer in item.waits:
            waiting.setdefault((producer, (command.unit, command.engine)), []).append(number)
    for number, (command, item) in enumerate(zip(commands, dependencies, strict=True)):
        engine = (command.unit, command.engine)
        at = max([free.get(engine, 0), *(complete[other] for other in item.waits.values())])
        if item.fence and engine in last:
            at = max(at, complete[last[engine]])
        for consumer in item.posts:
            pair = (engine, consumer)
            ahead = posts.get(pair, 0) - MAX_AHEAD
            posts[pair] = posts.get(pair, 0) + 1
            if ahead >= 0:  # `merge_waits` has seen to it that this command comes before
                at = max(at, start[waiting[pair][ahead]])
        start[number] = at
        free[engine] = at + command.cycles
        before = complete[last[engine]] if engine in last else 0
        complete[number] = max(at + command.cycles + command.tail, before)
        last[engine] = number
    sequence = sorted(range(len(commands)), key=lambda number: (start[number], number))
    return sequence, max(complete, default=0)


def _entries(
    commands: Sequence[Command],
    dependencies: Sequence[Dependencies],
    sequence: Sequence[int],
    units: int,
    first_event: int,
) -> tuple[tuple[Entry, ...], ...]:
    """Return each unit's list: commands with their tokens and fences, waits before them, signals behind."""
    events: dict[tuple[Engine, Engine], int] = {}
    entries: list[list[Entry]] = [[] for _ in range(units)]
    for number in sequence:
        command, item = commands[number], dependencies[number]
        of_unit, engine = entries[command.unit], (command.unit, command.engine)
        tokens: dict[str, int] = {"fence": 1} if item.fence else {}
        for producer in sorted(item.waits):
            if producer[0] == command.unit:
                tokens[f"wait_{ENGINES[producer[1]]}"] = 1
            else:
                event = events.setdefault((producer, engine), first_event + len(events))
                fields = {"event_id": event, "amount": 1}
                of_unit.append(Entry("wait", command.engine, fields, command.layer))
        signals = []
        for consumer in sorted(item.posts):
            if consumer[0] == command.unit:
                tokens[f"post_{ENGINES[consumer[1]]}"] = 1
            else:
                event = events.setdefault((engine, consumer), first_event + len(events))
                signals.append(Entry("signal", command.engine, {"event_id": event}, command.layer))
        of_unit.append(Entry(command.name, command.engine, tokens | command.fields, command.layer))
        of_unit += signals
    if first_event + len(events) > EVENTS:
        rest = f", of which {first_event} are for others" if first_event else ""
        raise UnsupportedError(
            f"{len(events)} pairs of engines of {units} units wait for each other; "
            f"there are {EVENTS} event counters{rest}"
        )
    return tuple(tuple(of_unit) for of_unit in entries)
