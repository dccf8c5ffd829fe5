# SPDX-License-Identifier: Apache-2.0
"""The engines of all units at work on their command lists, which may start at any time: see `timing`.

All units share the memory's port: bursts are served in the order in which they are asked for. A list that is
started on a unit that has run others before finds the port as these have left it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hw.core import CoreConfig
from hw.interface import ENGINES
from mapping.compiler.emit import COMPUTE, LOAD, STORE
from mapping.compiler.schedule import Entry
from mapping.cost.banks import PARAMETER_CYCLES
from mapping.cost.coefficients import TERM
from mapping.cost.timeline import Term, Timeline
from mapping.cost.work import Stripe, Transfer, stripes, transfer

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

LAUNCH, STAGGER, FETCH = TERM["launch_cycles"], TERM["stagger_cycles"], TERM["fetch_cycles"]
ENQUEUE, TOKEN, EVENT = TERM["queue_cycles"], TERM["token_cycles"], TERM["event_cycles"]
LATENCY = {LOAD: TERM["load_latency_cycles"], STORE: TERM["store_start_cycles"]}
WORD = {LOAD: TERM["load_word_cycles"], STORE: TERM["store_word_cycles"]}
BANK = {LOAD: TERM["load_bank_cycles"], STORE: TERM["store_bank_cycles"]}
BURST, ANSWER, PORT = TERM["burst_cycles"], TERM["store_latency_cycles"], TERM["port_cycles"]
OPERATOR, ARRAY, HANDOVER = TERM["operator_cycles"], TERM["array_cycles"], TERM["handover_cycles"]
ARRAY_BANK = TERM["array_bank_cycles"]
DRAIN, REQUANT, ADD = TERM["drain_cycles"], TERM["requant_cycles"], TERM["add_cycles"]


@dataclass
class _Move:
    """A transfer whose bursts are being asked for."""

    work: Transfer
    request: float  # when the next burst is asked for
    next: int = 0


@dataclass
class _Engine:
    """An engine: what it has to do, and when it did what it has done: points of its commands, in order."""

    queue: list[int] = field(default_factory=list)
    dispatched: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)  # complete
    free: float = 0.0  # when the datapath can take the next command
    move: _Move | None = None
    flying: deque[tuple[float, int]] = field(default_factory=deque)  # bursts in flight: their end, how many
    in_flight: int = 0


@dataclass
class _Drain:
    """The drain: when the last two stripes left their banks, and when parameters can be read."""

    older: float = 0.0
    newer: float = 0.0
    taken: float = 0.0


@dataclass
class Events:
    """Events of lists that were started together: when each was signalled, and how many were waited for."""

    signals: dict[int, list[float]] = field(default_factory=dict)
    waits: dict[int, int] = field(default_factory=dict)


class Overlap:
    """How busy a unit's compute engine kept the scratchpad's banks, in an earlier run of the same list.

    Args:
        operators: for each operator when the array began and ended, and what transfers lost; see `ListRun`.
        shift: how much later the list is started than in that run, cycles.
    """

    def __init__(self, operators: Sequence[tuple[float, float, float]], shift: float = 0.0) -> None:
        spans = np.array(operators, float).reshape(-1, 3)
        self._shift = shift
        self._edges = np.concatenate([[0.0], spans[:, :2].reshape(-1)])
        steps = np.stack([np.zeros(len(spans)), spans[:, 2]], axis=1)
        self._lost = np.concatenate([[0.0], np.cumsum(steps.reshape(-1))])

    def share(self, begin: float, end: float) -> float:
        """Return in what share of an interval a transfer meets operands and results in its banks."""
        interval = [begin - self._shift, end - self._shift]
        lost = np.interp(interval, self._edges, self._lost)
        return float((lost[1] - lost[0]) / max(end - begin, 1.0))


class ListRun:
    """A unit at work on a list.

    Attributes:
        start: when its commands are first asked for.
        ends: when each command is complete, in cycles, in the order of the list; None while it is not known.
        operators: of each operator when the array began and ended, and the cycles that a transfer of a word
            in every cycle would have lost to it meanwhile.
    """

    def __init__(
        self,
        core: CoreConfig,
        entries: Sequence[Entry],
        start: float,
        events: Events,
        overlap: Overlap | None = None,
    ) -> None:
        self.name = core.name
        self.core = core
        self.entries = entries
        self.start = start
        self.events = events
        self.overlap = overlap
        self.engines = [_Engine() for _ in range(3)]
        self.drain = _Drain()
        self.requests = deque([start] * min(QUEUE, len(entries)))  # when the next commands are asked for
        self.fetched: list[float] = []
        self.before = start  # dispatch of the command before
        self.next = 0
        self.posts: dict[tuple[int, int], list[float]] = {}
        self.taken: dict[tuple[int, int], int] = {}
        self.ends: list[float | None] = [None] * len(entries)
        self.left = len(entries)
        self.operators: list[tuple[float, float, float]] = []

    @property
    def done(self) -> bool:
        """Whether it is known when every command is complete."""
        return not self.left

    @property
    def complete(self) -> tuple[float, ...]:
        """When each command is complete, of a list that is done."""
        return tuple(end for end in self.ends if end is not None)


class Works:
    """What commands ask of their engines, worked out once for each command of lists that run often."""

    def __init__(self, port_bytes: int) -> None:
        self.port_bytes = port_bytes
        self._transfers: dict[int, tuple[Entry, Transfer]] = {}
        self._stripes: dict[tuple[int, CoreConfig], tuple[Entry, tuple[int, list[Stripe]]]] = {}

    def transfer(self, entry: Entry) -> Transfer:
        """Return what a transfer command moves."""
        if id(entry) not in self._transfers:  # the entry is kept, so that the number stays its own
            self._transfers[id(entry)] = (entry, transfer(entry.name, entry.fields, self.port_bytes))
        return self._transfers[id(entry)][1]

    def stripes(self, entry: Entry, core: CoreConfig) -> tuple[int, list[Stripe]]:
        """Return the words of an operator's first weight tile, and its stripes."""
        key = (id(entry), core)
        if key not in self._stripes:
            self._stripes[key] = (entry, stripes(entry.name, entry.fields, core))
        return self._stripes[key][1]


class Execution:
    """The units of a system at work.

    Args:
        cores: the units of the system.
        timeline: makes the points in time.
        works: what the commands ask of the engines, for this port.
    """

    def __init__(self, cores: Sequence[CoreConfig], timeline: Timeline, works: Works) -> None:
        self.timeline = timeline
        self.works = works
        self._order = {core.name: i for i, core in enumerate(cores)}
        self.units: list[ListRun] = []  # the last list of each unit, in the order of the system
        self.port = {LOAD: ("", 0.0), STORE: ("", 0.0)}  # unit of the last burst, and when it was through

    def start(self, run: ListRun) -> None:
        """Start a list on a unit that has none, or whose list before is done."""
        others = [unit for unit in self.units if unit.name != run.name]
        assert len(others) == len(self.units) or all(u.done for u in self.units if u.name == run.name)
        self.units = sorted([*others, run], key=lambda unit: self._order[unit.name])

    def settle(self) -> None:
        """Start and end all commands of which it is known when."""
        while sum(self._advance(unit) for unit in self.units):
            pass

    def asked(self) -> float:
        """Return when the port is asked next; infinity if nobody asks."""
        times = [unit.requests[0] for unit in self.units if unit.requests]
        times += [engine.move.request for unit in self.units for engine in unit.engines if engine.move]
        return min(times, default=math.inf)

    # --------------------------------------------------------------------------------------- commands
    def _advance(self, unit: ListRun) -> int:
        """Start what can start; return how many commands did."""
        started = 0
        while True:
            self._dispatch(unit)
            more = sum(self._start(unit, engine) for engine in (LOAD, COMPUTE, STORE))
            if not more:
                return started
            started += more

    def _dispatch(self, unit: ListRun) -> None:
        """Hand commands to their engines, as far as it is known when."""
        while unit.next < len(unit.fetched):
            engine = unit.engines[unit.entries[unit.next].engine]
            room = len(engine.dispatched) - QUEUE
            if room >= len(engine.started):
                break
            points = [unit.fetched[unit.next], unit.before]
            if room >= 0:
                points.append(engine.started[room])
            unit.before = max(points)
            at = self.timeline.after(unit.name, [unit.before], (ENQUEUE, 1.0))
            if len(unit.fetched) + len(unit.requests) < len(unit.entries):
                unit.requests.append(at)
            engine.queue.append(unit.next)
            engine.dispatched.append(at)
            unit.next += 1

    def _start(self, unit: ListRun, number: int) -> bool:
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
            place = unit.events.waits.get(event, 0)
            if place >= len(unit.events.signals.get(event, [])):
                return False
            points.append(unit.events.signals[event][place])
            unit.events.waits[event] = place + 1
        for pair in pairs:
            unit.taken[pair] = unit.taken.get(pair, 0) + 1
        start = max(points)
        engine.started.append(start)
        if control:
            end = engine.free = self.timeline.after(unit.name, [start], (EVENT, 1.0))
            if entry.name == "signal":
                unit.events.signals.setdefault(entry.fields["event_id"], []).append(end)
            self._end(unit, number, end)
        elif number == COMPUTE:
            self._compute(unit, entry, start)
        else:
            work = self.works.transfer(entry)
            engine.move = _Move(work, self._request(engine, start, work.bursts[0][1]))
        return True

    def _request(self, engine: _Engine, point: float, bursts: int) -> float:
        """Return when some bursts can be asked for: of those in flight some may have to end first."""
        points = [point]
        while engine.in_flight + bursts > BURSTS_AHEAD:
            end, count = engine.flying.popleft()
            engine.in_flight -= count
            points.append(end)
        engine.in_flight += bursts
        return max(points)

    def _end(self, unit: ListRun, number: int, end: float) -> None:
        """Note that an engine's oldest command is complete: it posts its tokens."""
        engine = unit.engines[number]
        place = engine.queue[len(engine.ended)]
        end = max(end, *engine.ended[-1:]) if engine.ended else end
        engine.ended.append(end)
        unit.ends[place] = end
        unit.left -= 1
        fields = unit.entries[place].fields
        for consumer, name in enumerate(ENGINES):
            if fields.get(f"post_{name}"):
                point = self.timeline.after(unit.name, [end], (TOKEN, 1.0))
                unit.posts.setdefault((number, consumer), []).append(point)

    # --------------------------------------------------------------------------------------- operators
    def _compute(self, unit: ListRun, entry: Entry, start: float) -> None:
        after, name, drain = self.timeline.after, unit.name, unit.drain
        lead, pieces = self.works.stripes(entry, unit.core)
        array = after(name, [start], (ARRAY, lead) if lead else (OPERATOR, 1.0))
        full = array
        for piece in pieces:
            turn = [(ADD, 1.0)] if piece.addition else []
            waits = [(ARRAY_BANK, piece.waits)] if piece.waits else []
            begin = [array, drain.older]
            group = max(piece.drain, PARAMETER_CYCLES)
            if piece.count > 1:  # in step: the array, the drain, or each bank in turn
                sums = max(0, piece.groups - 1) * group + piece.drain
                paced = piece.groups * group if piece.parameters else sums
                turns: list[list[Term]] = [
                    [(ARRAY, piece.array), *waits],
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
            begun = max(begin)
            array = after(name, [begun], (ARRAY, piece.array), *waits)
            full = after(name, [begun], (ARRAY, piece.array - piece.tail), *waits, (HANDOVER, 1.0), *turn)
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
        lost = sum(piece.count * piece.losses for piece in pieces)
        unit.operators.append((float(start), float(array), lost))
        kept = not pieces[-1].groups
        self._end(unit, COMPUTE, full if kept else after(name, [drain.newer], (REQUANT, 1.0)))

    # --------------------------------------------------------------------------------------- the port
    def serve(self) -> bool:
        """Serve what was asked for first; return whether a command has come or a transfer is through.

        Whatever is still unknown is asked for later: it depends on something that is known.
        """
        best: tuple[float, ListRun, int] | None = None
        for unit in self.units:
            if unit.requests and (best is None or unit.requests[0] < best[0]):
                best = (unit.requests[0], unit, COMMAND)
            for number in (LOAD, STORE):
                move = unit.engines[number].move
                if move and (best is None or move.request < best[0]):
                    best = (move.request, unit, number)
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
        if move.work.activations and unit.overlap:
            begin = max(move.request, self.port[number][1])
            bank = words * unit.overlap.share(begin, begin + words)
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

    def _through(
        self, unit: ListRun, number: int, request: float, latency: int, words: int, bank: float
    ) -> float:
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
