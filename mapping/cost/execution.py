# SPDX-License-Identifier: Apache-2.0
"""The engines of all units at work on their command lists, which may start at any time: see `timing`.

All units share the memory's port: it takes their addresses in turn, and data follow in the order of these. A
list that is started on a unit that has run others before finds the port as these have left it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter

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
WRITES_AHEAD = 16
"""Write bursts of all units whose data are not through."""
FETCH_GAP = 2
"""Cycles from one address of a unit's commands to the next."""
COMMAND_WORDS = 4
"""16-byte words of a command."""
COMMAND = 3
"""Stands for the engine, where a command is read."""

LAUNCH, STAGGER, FETCH = TERM["launch_cycles"], TERM["stagger_cycles"], TERM["fetch_cycles"]
ENQUEUE, TOKEN, EVENT = TERM["queue_cycles"], TERM["token_cycles"], TERM["event_cycles"]
LATENCY = {LOAD: TERM["load_latency_cycles"], STORE: TERM["store_start_cycles"]}
WORD = {LOAD: TERM["load_word_cycles"], STORE: TERM["store_word_cycles"]}
BANK = {LOAD: TERM["load_bank_cycles"], STORE: TERM["store_bank_cycles"]}
BURST, ANSWER = TERM["burst_cycles"], TERM["store_latency_cycles"]
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
    flying: deque[float] = field(default_factory=deque)  # ends of the bursts in flight
    through: float = 0.0  # when its last burst was through the port


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


@dataclass(frozen=True)
class Ask:
    """An address that the port takes.

    Attributes:
        time: when it takes it.
        unit: whose it is.
        number: the engine whose transfer it belongs to, or `COMMAND`.
        until: before that no other engine asks, of those of which it is known when.
    """

    time: float
    unit: ListRun
    number: int
    until: float


_request_of = itemgetter(0)


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
        # of reads and of writes: the unit of the last address, when the next is taken; when the last word was
        self.addresses: dict[int, tuple[str, float]] = {LOAD: ("", 0.0), STORE: ("", 0.0)}
        self.port = {LOAD: 0.0, STORE: 0.0}
        self._half = 0.5 * min(values[WORD[LOAD]] for values in timeline.values.values())  # of a cycle
        self.writes: deque[float] = deque(maxlen=WRITES_AHEAD)  # when the last write bursts were through

    def start(self, run: ListRun) -> None:
        """Start a list on a unit that has none, or whose list before is done."""
        others = [unit for unit in self.units if unit.name != run.name]
        assert len(others) == len(self.units) or all(u.done for u in self.units if u.name == run.name)
        self.units = sorted([*others, run], key=lambda unit: self._order[unit.name])

    def settle(self) -> None:
        """Start and end all commands of which it is known when."""
        while sum(self._advance(unit) for unit in self.units):
            pass

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
            engine.move = _Move(work, self._request(engine, start))
        return True

    def _request(self, engine: _Engine, point: float) -> float:
        """Return when the next burst can be asked for: of those in flight one may have to end first."""
        return max(point, engine.flying.popleft()) if len(engine.flying) == BURSTS_AHEAD else point

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
    def next_ask(self) -> Ask | None:
        """Return the address that the port takes next; None if nobody asks.

        It takes one in a cycle for reads and one for writes, of several units in turn. A unit's commands go
        before its loads, those that are asked for in the same cycle: within half a one of each other, as
        coefficients are no whole cycles.

        Whatever is still unknown is asked for later: it depends on something that is known.
        """
        chosen: tuple[float, ListRun, int] | None = None
        best, until = math.inf, math.inf
        for channel in (LOAD, STORE):
            asks: list[tuple[float, ListRun, int]] = []
            for unit in self.units:
                move = unit.engines[channel].move
                request = move.request if move else math.inf
                if channel == LOAD and unit.requests:
                    if unit.requests[0] <= request + self._half:
                        until = min(until, request)
                        asks.append((unit.requests[0], unit, COMMAND))
                        continue
                    until = min(until, unit.requests[0])
                if move:
                    asks.append((request, unit, channel))
            if not asks:
                continue
            asks.sort(key=_request_of)
            time = self._taken(channel, asks[0][0])
            if len(asks) > 1:
                turn = self._order.get(self.addresses[channel][0], -1) + 1
                ready = [ask for ask in asks if ask[0] <= time + self._half]
                first = min(ready, key=lambda ask: (self._order[ask[1].name] - turn) % len(self._order))
                until = min(until, asks[asks[0] is first][0])
            else:
                first = asks[0]
            if time < best:
                until = min(until, best)
                chosen, best = first, time
            else:
                until = min(until, time)
        return Ask(best, chosen[1], chosen[2], until - self._half) if chosen else None

    def _taken(self, channel: int, request: float) -> float:
        """Return when the port takes an address that is asked for at some time."""
        _, free = self.addresses[channel]
        if channel == STORE and len(self.writes) == WRITES_AHEAD:
            return max(request, free, self.writes[0])
        return max(request, free)

    def serve(self, ask: Ask, until: float = math.inf) -> bool:
        """Serve what is asked for next, and what follows of its transfer before another engine asks.

        Args:
            ask: what is asked for next.
            until: from then on nothing that follows is served.

        Returns:
            Whether a command has come or a transfer is through.
        """
        unit, number, after = ask.unit, ask.number, self.timeline.after
        until = min(until, ask.until)
        if number == COMMAND:
            taken = self._take(unit, LOAD, unit.requests.popleft())
            if unit.requests:
                gap = after(unit.name, [taken], (WORD[LOAD], FETCH_GAP))
                unit.requests[0] = max(unit.requests[0], gap)
            end = self._through(unit, LOAD, taken, FETCH, COMMAND_WORDS, 0.0)
            unit.fetched.append(after(unit.name, [end], (ENQUEUE, 1.0)))
            return True
        engine = unit.engines[number]
        move = engine.move
        assert move is not None
        bursts = move.work.bursts
        overlap = unit.overlap if move.work.activations else None
        while True:
            words, bank = bursts[move.next], 0.0
            taken = self._take(unit, number, move.request)
            if overlap:
                begin = max(taken, self.port[number])
                bank = words * overlap.share(begin, begin + words)
            end = self._through(unit, number, taken, LATENCY[number], words, bank)
            if number == STORE:
                self.writes.append(end)
                end = after(unit.name, [end], (ANSWER, 1.0))
            engine.flying.append(end)
            move.next += 1
            free = after(unit.name, [taken], (BURST, 1.0))
            if move.next == len(bursts):
                break
            move.request = self._request(engine, free)
            if self._taken(number, move.request) >= until:
                return False
        engine.free = end if number == STORE else free  # all are asked for: the next load can start
        engine.move = None
        self._end(unit, number, end)
        return True

    def _take(self, unit: ListRun, channel: int, request: float) -> float:
        """Take an address; return when."""
        taken = self._taken(channel, request)
        self.addresses[channel] = (unit.name, self.timeline.after(unit.name, [taken], (WORD[channel], 1.0)))
        return taken

    def _through(
        self, unit: ListRun, channel: int, taken: float, latency: int, words: int, bank: float
    ) -> float:
        """Return when the last word of a burst is through the port.

        A loaded word that waits for its bank holds the port. Words to store wait before it, while those of
        another unit are on it.
        """
        engine, after = unit.engines[channel], self.timeline.after
        first = after(unit.name, [taken], (latency, 1.0))
        end = after(unit.name, [first, self.port[channel]], (WORD[channel], words))
        if bank:
            before = engine.through if channel == STORE else self.port[channel]
            end = max(end, after(unit.name, [first, before], (WORD[channel], words), (BANK[channel], bank)))
        self.port[channel] = engine.through = end
        return end
