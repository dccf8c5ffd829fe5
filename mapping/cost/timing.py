# SPDX-License-Identifier: Apache-2.0
"""What command lists take: the engines of all units run side by side, each phase with a coefficient.

The lists are those that the units would fetch, so the tiling is the compiler's own. Each engine takes its
commands in order, waits for tokens and events as the hardware does, and spends on each command a few phases;
the time of a phase is a count (words, stripes, beats of the cycle law) times a calibrated coefficient
(`PHASES`). Where phases overlap, the later one counts. The critical path leads from the end back to the
start: the counts of its segments, times the coefficients, sum to the total.

All units share the memory's port: bursts are served in the order in which they are asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from common.arrays import Floats
from hw.core import CoreConfig
from hw.interface import ENGINES, PARAM_GROUP_WORDS
from mapping.compiler.emit import COMPUTE, LOAD, STORE
from mapping.compiler.schedule import Entry
from mapping.cost.coefficients import NAMES, TERM
from mapping.cost.work import Transfer, stripes, transfer

QUEUE = 4
"""Commands that an engine's queue holds, that are fetched ahead, that are in an engine's datapath."""
LOADS_AHEAD = 3
"""Loads that may have started and are not complete."""
BURSTS_AHEAD = 8
"""Bursts of an engine in flight."""
COMMAND_WORDS = 4
"""16-byte words of a command."""
COMMAND = 3
"""Stands for the engine, where a command is read."""
PARAMETER_CYCLES = PARAM_GROUP_WORDS + 1
"""Cycles in which the parameters of 16 channels are read, while the 16 before are requantised."""

LAUNCH, STAGGER, FETCH = TERM["launch_cycles"], TERM["stagger_cycles"], TERM["fetch_cycles"]
ENQUEUE, TOKEN, EVENT = TERM["queue_cycles"], TERM["token_cycles"], TERM["event_cycles"]
LATENCY = {LOAD: TERM["load_latency_cycles"], STORE: TERM["store_start_cycles"]}
WORD = {LOAD: TERM["load_word_cycles"], STORE: TERM["store_word_cycles"]}
BANK = {LOAD: TERM["load_bank_cycles"], STORE: TERM["store_bank_cycles"]}
BURST, ANSWER, PORT = TERM["burst_cycles"], TERM["store_latency_cycles"], TERM["port_cycles"]
OPERATOR, ARRAY, HANDOVER = TERM["operator_cycles"], TERM["array_cycles"], TERM["handover_cycles"]
DRAIN, REQUANT, ADD = TERM["drain_cycles"], TERM["requant_cycles"], TERM["add_cycles"]

Term = tuple[int, float]
"""Place of a coefficient in NAMES, and how often it counts."""


class PathSegment(NamedTuple):
    """A phase on the critical path: `number` times a unit's coefficient `term`."""

    unit: str
    term: int
    number: float
    begin: float
    end: float


@dataclass(frozen=True, eq=False)
class Timing:
    """What command lists take.

    Attributes:
        cycles: first start to last interrupt.
        path: the critical path, from the start on, without a gap.
        counts: for each unit, (len(NAMES),) counts on that path; their products with the units' coefficients
            sum to `cycles`.
        ends: for each unit when each of its commands is complete, in the order of its list, in cycles.
    """

    cycles: float
    path: tuple[PathSegment, ...]
    counts: Mapping[str, Floats]
    ends: Mapping[str, tuple[float, ...]]


class _Timeline:
    """Points in time: each is the latest of some points before it, and then some phases of a unit."""

    def __init__(self, coefficients: Mapping[str, Floats]) -> None:
        self.values = {unit: values.tolist() for unit, values in coefficients.items()}
        self.times = [0.0]
        self._before = [-1]
        self._phases: list[tuple[str, tuple[Term, ...]]] = [("", ())]

    def after(self, unit: str, points: Sequence[int], *terms: Term) -> int:
        """Return the point some phases after the latest of some points."""
        latest = self.latest(points)
        values = self.values[unit]
        time = self.times[latest]
        for term, count in terms:
            time += values[term] * count
        self.times.append(time)
        self._before.append(latest)
        self._phases.append((unit, terms))
        return len(self.times) - 1

    def latest(self, points: Sequence[int]) -> int:
        """Return the latest of some points."""
        return points[0] if len(points) == 1 else max(points, key=self.times.__getitem__)

    def path(self, point: int) -> tuple[PathSegment, ...]:
        """Return the path that ends at a point: what it was waiting for, from the start on."""
        segments: list[PathSegment] = []
        while point > 0:
            unit, terms = self._phases[point]
            end = self.times[point]
            for term, count in reversed(terms):
                begin = end - self.values[unit][term] * count
                segments.append(PathSegment(unit, term, count, begin, end))
                end = begin
            point = self._before[point]
        return tuple(reversed(segments))


@dataclass
class _Move:
    """A transfer whose bursts are being asked for."""

    work: Transfer
    request: int  # when the next burst is asked for
    next: int = 0


@dataclass
class _Engine:
    """An engine: what it has to do, and when it did what it has done: points of its commands, in order."""

    queue: list[int] = field(default_factory=list)
    dispatched: list[int] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)  # complete
    free: int = 0  # when the datapath can take the next command
    move: _Move | None = None
    flying: deque[tuple[int, int]] = field(default_factory=deque)  # bursts in flight: their end, and how many
    in_flight: int = 0


@dataclass
class _Drain:
    """The drain: when the last two stripes left their banks, and when parameters can be read."""

    older: int = 0
    newer: int = 0
    taken: int = 0


class _Unit:
    """A unit at work on its list."""

    def __init__(self, core: CoreConfig, entries: Sequence[Entry], start: int) -> None:
        self.name = core.name
        self.core = core
        self.entries = entries
        self.engines = [_Engine() for _ in range(3)]
        self.drain = _Drain()
        self.requests = deque([start] * min(QUEUE, len(entries)))  # when the next commands are asked for
        self.fetched: list[int] = []
        self.before = start  # dispatch of the command before
        self.next = 0
        self.posts: dict[tuple[int, int], list[int]] = {}
        self.taken: dict[tuple[int, int], int] = {}
        self.ends = [-1] * len(entries)
        self.operators: list[tuple[float, float, int]] = []  # when the array worked, and words drained

    @property
    def done(self) -> bool:
        return -1 not in self.ends


def time_lists(
    lists: Mapping[str, Sequence[Entry]],
    cores: Sequence[CoreConfig],
    coefficients: Mapping[str, Floats],
    port_bytes: int = 16,
) -> Timing:
    """Return what the units take for their command lists, started one after the other.

    Args:
        lists: each unit's commands.
        cores: the units of the system, in the order in which they are started.
        coefficients: for each unit that has a list, (len(NAMES),) cycles.
        port_bytes: width of the memory's port.
    """
    active = [core for core in cores if core.name in lists]
    first = _Run(active, lists, coefficients, port_bytes, {})
    first.timing()
    # transfers wait for banks that the array uses: when it works is known from the first run
    overlap = {unit.name: _Overlap(unit.operators) for unit in first.units}
    return _Run(active, lists, coefficients, port_bytes, overlap).timing()


class _Overlap:
    """How busy a unit's compute engine kept the scratchpad, in an earlier run of the same lists."""

    def __init__(self, operators: Sequence[tuple[float, float, int]]) -> None:
        spans = np.array(operators, float).reshape(-1, 3)
        lengths = spans[:, 1] - spans[:, 0]
        self._edges = np.concatenate([[0.0], spans[:, :2].reshape(-1)])
        self._worked = {}
        for number, work in ((STORE, lengths), (LOAD, spans[:, 2])):
            steps = np.stack([np.zeros(len(spans)), work], axis=1)
            self._worked[number] = np.concatenate([[0.0], np.cumsum(steps.reshape(-1))])

    def share(self, number: int, begin: float, end: float) -> float:
        """Return in what share of an interval it read operands (for stores) or wrote results (for loads)."""
        worked = np.interp([begin, end], self._edges, self._worked[number])
        return float((worked[1] - worked[0]) / max(end - begin, 1.0))


class _Run:
    """The units of a system at work."""

    def __init__(
        self,
        cores: Sequence[CoreConfig],
        lists: Mapping[str, Sequence[Entry]],
        coefficients: Mapping[str, Floats],
        port_bytes: int,
        overlap: Mapping[str, _Overlap],
    ) -> None:
        self.port_bytes = port_bytes
        self.overlap = overlap
        self.timeline = _Timeline(coefficients)
        self.units: list[_Unit] = []
        for i, core in enumerate(cores):
            stagger = [(STAGGER, float(i))] if i else []
            start = self.timeline.after(core.name, [0], (LAUNCH, 1.0), *stagger)
            self.units.append(_Unit(core, lists[core.name], start))
        self.signals: dict[int, list[int]] = {}
        self.waits: dict[int, int] = {}
        self.port = {LOAD: ("", 0), STORE: ("", 0)}  # the unit of the last burst, and when it was through

    def timing(self) -> Timing:
        """Run everything to its end."""
        while not all(unit.done for unit in self.units):
            if not sum(self._advance(unit) for unit in self.units):
                while not self._serve():
                    pass
        last = self.timeline.latest([point for unit in self.units for point in unit.ends])
        times, path = self.timeline.times, self.timeline.path(last)
        counts = {unit.name: np.zeros(len(NAMES)) for unit in self.units}
        for segment in path:
            counts[segment.unit][segment.term] += segment.number
        return Timing(
            cycles=times[last],
            path=path,
            counts=counts,
            ends={unit.name: tuple(times[point] for point in unit.ends) for unit in self.units},
        )

    # --------------------------------------------------------------------------------------- commands
    def _advance(self, unit: _Unit) -> int:
        """Start what can start; return how many commands did."""
        started = 0
        while True:
            self._dispatch(unit)
            more = sum(self._start(unit, engine) for engine in (LOAD, COMPUTE, STORE))
            if not more:
                return started
            started += more

    def _dispatch(self, unit: _Unit) -> None:
        """Hand commands to their engines, as far as it is known when."""
        while unit.next < len(unit.fetched):
            engine = unit.engines[unit.entries[unit.next].engine]
            room = len(engine.dispatched) - QUEUE
            if room >= len(engine.started):
                break
            points = [unit.fetched[unit.next], unit.before]
            if room >= 0:
                points.append(engine.started[room])
            unit.before = self.timeline.latest(points)
            at = self.timeline.after(unit.name, [unit.before], (ENQUEUE, 1.0))
            if len(unit.fetched) + len(unit.requests) < len(unit.entries):
                unit.requests.append(at)
            engine.queue.append(unit.next)
            engine.dispatched.append(at)
            unit.next += 1

    def _start(self, unit: _Unit, number: int) -> bool:
        """Start an engine's next command, if it is known when; return whether it did."""
        engine = unit.engines[number]
        index = len(engine.started)
        if index >= len(engine.queue) or engine.move:
            return False
        entry = unit.entries[engine.queue[index]]
        points = [engine.dispatched[index], engine.free]
        control = entry.name in ("wait", "signal")
        if control or entry.fields.get("fence"):
            if len(engine.ended) < index:
                return False
            points += engine.ended[-1:]
        ahead = LOADS_AHEAD if number == LOAD else QUEUE
        if index >= ahead:
            if len(engine.ended) <= index - ahead:
                return False
            points.append(engine.ended[index - ahead])
        pairs = [(p, number) for p, name in enumerate(ENGINES) if entry.fields.get(f"wait_{name}")]
        for pair in pairs:
            posts = unit.posts.get(pair, [])
            place = unit.taken.get(pair, 0)
            if place >= len(posts):
                return False
            points.append(posts[place])
        if entry.name == "wait":
            event = entry.fields["event_id"]
            place = self.waits.get(event, 0)
            if place >= len(self.signals.get(event, [])):
                return False
            points.append(self.signals[event][place])
            self.waits[event] = place + 1
        for pair in pairs:
            unit.taken[pair] = unit.taken.get(pair, 0) + 1
        start = self.timeline.latest(points)
        engine.started.append(start)
        if control:
            end = engine.free = self.timeline.after(unit.name, [start], (EVENT, 1.0))
            if entry.name == "signal":
                self.signals.setdefault(entry.fields["event_id"], []).append(end)
            self._end(unit, number, end)
        elif number == COMPUTE:
            self._compute(unit, entry, start)
        else:
            work = transfer(entry.name, entry.fields, self.port_bytes)
            engine.move = _Move(work, self._request(engine, start, work.bursts[0][1]))
        return True

    def _request(self, engine: _Engine, point: int, bursts: int) -> int:
        """Return when some bursts can be asked for: of those in flight some may have to end first."""
        points = [point]
        while engine.in_flight + bursts > BURSTS_AHEAD:
            end, count = engine.flying.popleft()
            engine.in_flight -= count
            points.append(end)
        engine.in_flight += bursts
        return self.timeline.latest(points)

    def _end(self, unit: _Unit, number: int, end: int) -> None:
        """Note that an engine's oldest command is complete: it posts its tokens."""
        engine = unit.engines[number]
        place = engine.queue[len(engine.ended)]
        end = self.timeline.latest([end, *engine.ended[-1:]])
        engine.ended.append(end)
        unit.ends[place] = end
        fields = unit.entries[place].fields
        for consumer, name in enumerate(ENGINES):
            if fields.get(f"post_{name}"):
                point = self.timeline.after(unit.name, [end], (TOKEN, 1.0))
                unit.posts.setdefault((number, consumer), []).append(point)

    # --------------------------------------------------------------------------------------- operators
    def _compute(self, unit: _Unit, entry: Entry, start: int) -> None:
        after, name, drain = self.timeline.after, unit.name, unit.drain
        lead, pieces = stripes(entry.name, entry.fields, unit.core)
        array = after(name, [start], (ARRAY, lead) if lead else (OPERATOR, 1.0))
        full = array
        for piece in pieces:
            turn = [(ADD, 1.0)] if piece.addition else []
            begin = [array, drain.older]
            group = max(piece.drain, PARAMETER_CYCLES)
            if piece.count > 1:  # in step: the array, the drain, or each bank in turn
                sums = max(0, piece.groups - 1) * group + piece.drain
                paced = piece.groups * group if piece.parameters else sums
                turns: list[list[Term]] = [
                    [(ARRAY, piece.array)],
                    [(DRAIN, paced)],
                    [
                        (ARRAY, 0.5 * piece.array),
                        (HANDOVER, 0.5),
                        (DRAIN, 0.5 * sums),
                        *((t, 0.5) for t, _ in turn),
                    ],
                ]
                values = self.timeline.values[name]
                slowest = max(turns, key=lambda terms: sum(values[term] * n for term, n in terms))
                begin = [after(name, begin, *((term, n * (piece.count - 1)) for term, n in slowest))]
            begun = self.timeline.latest(begin)
            array = after(name, [begun], (ARRAY, piece.array))
            full = after(name, [begun], (ARRAY, piece.array - piece.tail), (HANDOVER, 1.0), *turn)
            if not piece.groups:
                continue
            points = [full, drain.newer]
            if piece.parameters:
                points.append(after(name, [begun, drain.taken], (DRAIN, PARAMETER_CYCLES)))
            last = after(name, points, (DRAIN, (piece.groups - 1) * group))
            drain.taken = last
            drain.older, drain.newer = drain.newer, after(name, [last], (DRAIN, piece.drain))
        engine = unit.engines[COMPUTE]
        engine.free = full
        drained = sum(piece.count * piece.groups * piece.drain for piece in pieces)
        unit.operators.append((self.timeline.times[start], self.timeline.times[array], drained))
        kept = not pieces[-1].groups
        self._end(unit, COMPUTE, full if kept else after(name, [drain.newer], (REQUANT, 1.0)))

    # --------------------------------------------------------------------------------------- the port
    def _serve(self) -> bool:
        """Serve what was asked for first; return whether a command has come or a transfer is through.

        Whatever is still unknown is asked for later: it depends on something that is known.
        """
        times = self.timeline.times
        best: tuple[float, _Unit, int] | None = None
        for unit in self.units:
            if unit.requests and (best is None or times[unit.requests[0]] < best[0]):
                best = (times[unit.requests[0]], unit, COMMAND)
            for number in (LOAD, STORE):
                move = unit.engines[number].move
                if move and (best is None or times[move.request] < best[0]):
                    best = (times[move.request], unit, number)
        assert best is not None, "the lists wait for each other"
        _, unit, number = best
        if number == COMMAND:
            request = unit.requests.popleft()
            unit.fetched.append(self._through(unit, LOAD, request, FETCH, COMMAND_WORDS, 0.0))
            return True
        engine = unit.engines[number]
        move = engine.move
        assert move is not None
        words, bursts = move.work.bursts[move.next]
        bank = 0.0
        if move.work.activations and self.overlap:
            begin = max(times[move.request], times[self.port[number][1]])
            bank = words * self.overlap[unit.name].share(number, begin, begin + words)
        end = self._through(unit, number, move.request, LATENCY[number], words, bank)
        if number == STORE:
            end = self.timeline.after(unit.name, [end], (ANSWER, 1.0))
        engine.flying.append((end, bursts))
        move.next += 1
        free = self.timeline.after(unit.name, [move.request], (BURST, bursts))
        if move.next < len(move.work.bursts):
            move.request = self._request(engine, free, move.work.bursts[move.next][1])
            return False
        engine.free = end if number == STORE else free  # all are asked for: the next load can start
        engine.move = None
        self._end(unit, number, end)
        return True

    def _through(self, unit: _Unit, number: int, request: int, latency: int, words: int, bank: float) -> int:
        """Return when the last word of a burst is through the port."""
        owner, free = self.port[number]
        first = self.timeline.after(unit.name, [request], (latency, 1.0))
        terms: list[Term] = [(WORD[number], words)]
        if bank:
            terms.append((BANK[number], bank))
        if owner not in ("", unit.name):
            terms.append((PORT, 1.0))
        end = self.timeline.after(unit.name, [first, free], *terms)
        self.port[number] = (unit.name, end)
        return end
