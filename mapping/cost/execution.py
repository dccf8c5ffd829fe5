# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: FURB136  # max() takes twice as long, in loops in which searches spend most of their time
"""The engines of all units at work on their command lists, which may start at any time: see `timing`.

All units share the memory's port: it takes their addresses in turn, and data follow in the order of these. A
list that is started on a unit that has run others before finds the port as these have left it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from hw.core import CoreConfig
from hw.interface import COMMAND_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.emit import COMPUTE, LOAD, STORE
from mapping.compiler.schedule import Entry
from mapping.cost.banks import NOTHING_LOST, PARAMETER_CYCLES, behind_share
from mapping.cost.coefficients import TERM
from mapping.cost.list_run import QUEUE, Engine, ListRun, Move, Step, step_of
from mapping.cost.timeline import Term, Timeline
from mapping.cost.work import Stripe, Transfer, stripes, transfer

LOADS_AHEAD = 3
"""Loads that may have started and are not complete."""
BURSTS_AHEAD = 8
"""Bursts of an engine in flight."""
WRITES_AHEAD = 16
"""Write bursts of all units whose data are not through."""
FETCH_GAP = 2
"""Cycles from one address of a unit's commands to the next."""
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


class Ask(NamedTuple):
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
        self._stripes: dict[tuple[int, str], tuple[Entry, tuple[int, tuple[Stripe, ...]]]] = {}
        self._steps: dict[int, tuple[Entry, Step]] = {}

    def step(self, entry: Entry) -> Step:
        """Return what a command waits for and posts."""
        if id(entry) not in self._steps:  # the entry is kept, so that the number stays its own
            self._steps[id(entry)] = (entry, step_of(entry))
        return self._steps[id(entry)][1]

    def transfer(self, entry: Entry) -> Transfer:
        """Return what a transfer command moves."""
        if id(entry) not in self._transfers:
            self._transfers[id(entry)] = (entry, transfer(entry.name, entry.fields, self.port_bytes))
        return self._transfers[id(entry)][1]

    def stripes(self, entry: Entry, core: CoreConfig) -> tuple[int, tuple[Stripe, ...]]:
        """Return the words of an operator's first weight tile, and its stripes."""
        key = (id(entry), core.name)
        if key not in self._stripes:
            self._stripes[key] = (entry, stripes(entry.name, entry.fields, core, self.port_bytes))
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
        self._stirred: list[ListRun] = []  # those of which more is known since `settle`
        # of reads and of writes: the unit of the last address, when the next is taken; when the last word was
        self.turn = {LOAD: "", STORE: ""}
        self.free = {LOAD: 0.0, STORE: 0.0}
        self.port = {LOAD: 0.0, STORE: 0.0}
        self._command: tuple[int, ...] = (COMMAND_BYTES // works.port_bytes,)
        self._half = 0.5 * min(values[WORD[LOAD]] for values in timeline.values.values())  # of a cycle
        self.writes: deque[float] = deque(maxlen=WRITES_AHEAD)  # when the last write bursts were through

    def start(self, run: ListRun) -> None:
        """Start a list on a unit that has none, or whose list before is done."""
        others = [unit for unit in self.units if unit.name != run.name]
        assert len(others) == len(self.units) or all(u.done for u in self.units if u.name == run.name)
        self.units = sorted([*others, run], key=lambda unit: self._order[unit.name])
        run.steps = [self.works.step(entry) for entry in run.entries]
        self._stirred.append(run)

    def settle(self) -> None:
        """Start and end all commands of which it is known when."""
        while self._stirred:
            self._advance(self._stirred.pop())

    # --------------------------------------------------------------------------------------- commands
    def _advance(self, unit: ListRun) -> None:
        """Start what can start."""
        more = True
        while more:
            self._dispatch(unit)
            more = False
            for number, engine in enumerate(unit.engines):
                while not engine.move and len(engine.started) < len(engine.queue):
                    if not self._start(unit, number, engine):
                        break
                    more = True

    def _dispatch(self, unit: ListRun) -> None:
        """Hand commands to their engines, as far as it is known when."""
        while unit.next < len(unit.fetched):
            engine = unit.engines[unit.steps[unit.next].engine]
            room = len(engine.dispatched) - QUEUE
            if room >= len(engine.started):
                break
            before = max(unit.fetched[unit.next], unit.before)
            if room >= 0:  # a place in its queue is free in the cycle after the start
                before = max(before, self.timeline.after(unit.name, [engine.started[room]], (ENQUEUE, 1.0)))
            unit.before = before
            at = before + self.timeline.values[unit.name][ENQUEUE]
            if self.timeline.recording:
                at = self.timeline.point(at, unit.name, before, ((ENQUEUE, 1.0),))
            if len(unit.fetched) + len(unit.requests) < len(unit.entries):
                unit.requests.append(at)
            engine.queue.append(unit.next)
            engine.dispatched.append(at)
            unit.next += 1

    def _start(self, unit: ListRun, number: int, engine: Engine) -> bool:
        """Start an engine's next command, if it is known when; return whether it did."""
        index = len(engine.started)
        place = engine.queue[index]
        step, ended = unit.steps[place], engine.ended
        ahead = LOADS_AHEAD if number == LOAD else QUEUE
        if len(ended) < index and (step.ordered or len(ended) <= index - ahead):
            return False
        points = [engine.dispatched[index], engine.free]
        if step.ordered and ended:
            control = step.name in ("wait", "signal")  # an event's cycles are the completion's too
            points.append(ended[-1] if control else self.timeline.after(unit.name, ended[-1:], (TOKEN, 1.0)))
        if index >= ahead:
            points.append(ended[index - ahead])
        for pair in step.waits:
            posts, taken = unit.posts.get(pair, ()), unit.taken.get(pair, 0)
            if taken >= len(posts):
                return False
            points.append(posts[taken])
        name, events = step.name, unit.events
        if name == "wait":
            signals, taken = events.signals.get(step.event, ()), events.waits.get(step.event, 0)
            if taken >= len(signals):
                return False
            points.append(signals[taken])
            events.waits[step.event] = taken + 1
        for pair in step.waits:
            unit.taken[pair] = unit.taken.get(pair, 0) + 1
        start = max(points)
        engine.started.append(start)
        if name in ("wait", "signal"):
            end = engine.free = self.timeline.after(unit.name, [start], (EVENT, 1.0))
            if name == "signal":
                events.signals.setdefault(step.event, []).append(end)
                self._stirred += [other for other in self.units if other is not unit]
            self._end(unit, number, end)
        elif number == COMPUTE:
            self._compute(unit, unit.entries[place], start)
        else:
            work = self.works.transfer(unit.entries[place])
            engine.move = Move(work, self._request(engine, start))
        return True

    def _request(self, engine: Engine, point: float) -> float:
        """Return when the next burst can be asked for: of those in flight one may have to end first."""
        return max(point, engine.flying.popleft()) if len(engine.flying) == BURSTS_AHEAD else point

    def _end(self, unit: ListRun, number: int, end: float) -> None:
        """Note that an engine's oldest command is complete: it posts its tokens."""
        engine = unit.engines[number]
        place = engine.queue[len(engine.ended)]
        end = max(end, engine.ended[-1]) if engine.ended else end
        engine.ended.append(end)
        unit.ends[place] = end
        unit.left -= 1
        for pair in unit.steps[place].posts:
            point = self.timeline.after(unit.name, [end], (TOKEN, 1.0))
            unit.posts.setdefault(pair, []).append(point)

    # --------------------------------------------------------------------------------------- operators
    def _compute(self, unit: ListRun, entry: Entry, start: float) -> None:
        after, name, drain = self.timeline.after, unit.name, unit.drain
        point, recording, values = self.timeline.point, self.timeline.recording, self.timeline.values[name]
        lead, pieces = self.works.stripes(entry, unit.core)
        array = after(name, [start], (ARRAY, lead) if lead else (OPERATOR, 1.0))
        full, lost = array, NOTHING_LOST
        for piece in pieces:  # a long way round is too slow here: the phases are added in place
            times, cycles, tail, groups, drained, parameters, addition, waits, losses = piece
            lost = lost.plus(losses, times)
            begun = array if array >= drain.older else drain.older
            group = PARAMETER_CYCLES if drained <= PARAMETER_CYCLES else drained
            if times > 1:  # all are a row of equal stripes later
                row = self._instep_of(name, piece, group)
                begun = after(name, [begun], *row)
                drain.newer, drain.taken = after(name, [drain.newer], *row), after(name, [drain.taken], *row)
            array = begun + values[ARRAY] * cycles
            full = begun + values[ARRAY] * (cycles - tail)
            if waits:
                array += values[ARRAY_BANK] * waits
                full += values[ARRAY_BANK] * waits
            full += values[HANDOVER]
            if addition:
                full += values[ADD]
            if recording:
                waiting = ((ARRAY_BANK, waits),) if waits else ()
                array = point(array, name, begun, ((ARRAY, cycles), *waiting))
                turn: tuple[Term, ...] = (HANDOVER, 1.0), *(((ADD, 1.0),) if addition else ())
                full = point(full, name, begun, ((ARRAY, cycles - tail), *waiting, *turn))
            if not groups:
                continue
            latest = full if full >= drain.newer else drain.newer
            if parameters:
                begin = begun if begun >= drain.taken else drain.taken
                read = begin + values[DRAIN] * PARAMETER_CYCLES
                if read > latest:
                    latest = point(read, name, begin, ((DRAIN, PARAMETER_CYCLES),)) if recording else read
            last = latest + values[DRAIN] * ((groups - 1) * group)
            ready = last + values[DRAIN] * drained
            if recording:
                last = point(last, name, latest, ((DRAIN, (groups - 1) * group),))
                ready = point(ready, name, last, ((DRAIN, drained),))
            drain.taken, drain.older, drain.newer = last, drain.newer, ready
        engine = unit.engines[COMPUTE]
        engine.free = full
        kept = not pieces[-1].groups
        slow = unit.core.lanes < CHANNEL_BLOCK and not kept  # results outlast the array's work
        unit.array.work(float(start), float(drain.newer if slow else array), lost)
        self._end(unit, COMPUTE, full if kept else after(name, [drain.newer], (REQUANT, 1.0)))

    def _instep_of(self, name: str, piece: Stripe, group: int) -> list[Term]:
        """Return what the last of some equal stripes is later by: array, drain, or each bank in turn."""
        sums = max(0, piece.groups - 1) * group + piece.drain
        paced = piece.groups * group if piece.parameters else sums
        turns: list[list[Term]] = [
            [(ARRAY, piece.array), *([(ARRAY_BANK, piece.waits)] if piece.waits else ())],
            [(DRAIN, paced)],
            [
                (ARRAY, 0.5 * piece.array),
                (HANDOVER, 0.5),
                (DRAIN, 0.5 * sums),
                *([(ADD, 0.5)] if piece.addition else ()),
            ],
        ]
        values = self.timeline.values[name]
        slowest = max(turns, key=lambda terms: sum(values[term] * n for term, n in terms))
        return [(term, n * (piece.times - 1)) for term, n in slowest]

    # --------------------------------------------------------------------------------------- the port
    def next_ask(self) -> Ask | None:
        """Return the address that the port takes next; None if nobody asks.

        It takes one in a cycle for reads and one for writes, of several units in turn. A unit's commands go
        before its loads, those that are asked for in the same cycle: within half a one of each other, as
        coefficients are no whole cycles.

        Whatever is still unknown is asked for later: it depends on something that is known.
        """
        chosen: tuple[float, ListRun, int] | None = None
        best, until, half = math.inf, math.inf, self._half
        for channel in (LOAD, STORE):
            asks: list[tuple[float, ListRun, int]] = []
            for unit in self.units:
                move = unit.engines[channel].move
                if channel == LOAD and unit.requests:
                    request = unit.requests[0]
                    if not move or request <= move.request + half:
                        asks.append((request, unit, COMMAND))
                        if move and move.request < until:
                            until = move.request
                        continue
                    if request < until:
                        until = request
                if move:
                    asks.append((move.request, unit, channel))
            if not asks:
                continue
            if len(asks) > 1:
                asks.sort(key=_request_of)
            first = asks[0]
            time = self._taken(channel, first[0], self.free[channel])
            if len(asks) > 1:
                if asks[1][0] <= time + half:
                    first = self._next_in_turn(channel, [ask for ask in asks if ask[0] <= time + half])
                other = asks[1] if first is asks[0] else asks[0]
                if other[0] < until:
                    until = other[0]
            if time < best:
                until = min(until, best)
                chosen, best = first, time
            else:
                until = min(until, time)
        return Ask(best, chosen[1], chosen[2], until - half) if chosen else None

    def _next_in_turn(
        self, channel: int, ready: Sequence[tuple[float, ListRun, int]]
    ) -> tuple[float, ListRun, int]:
        """Return whose turn it is of those that ask at once."""
        turn, count = self._order.get(self.turn[channel], -1) + 1, len(self._order)
        return min(ready, key=lambda ask: (self._order[ask[1].name] - turn) % count)

    def _taken(self, channel: int, request: float, free: float) -> float:
        """Return when the port, which is free from then on, takes an address that is asked for."""
        taken = request if request >= free else free
        if channel == STORE and len(self.writes) == WRITES_AHEAD:
            return max(taken, self.writes[0])
        return taken

    def serve(self, ask: Ask, until: float = math.inf) -> bool:
        """Serve what is asked for next, and what follows of its transfer before another engine asks.

        Args:
            ask: what is asked for next.
            until: from then on nothing that follows is served.

        Returns:
            Whether a command has come or a transfer is through.
        """
        unit, number, name = ask.unit, ask.number, ask.unit.name
        point, recording, values = self.timeline.point, self.timeline.recording, self.timeline.values[name]
        until = min(until, ask.until)
        channel, move, met, behind = LOAD, None, None, 0.0
        if number == COMMAND:
            bursts, place, latency = self._command, 0, FETCH
            request = unit.requests.popleft()
        else:
            channel, move, latency = number, unit.engines[number].move, LATENCY[number]
            assert move is not None
            bursts, place, request = move.work.bursts, move.next, move.request
            met = unit.array if move.work.activations else None
            behind = behind_share(move.work.line, unit.core.act_banks)
        engine, term, bank_term = unit.engines[channel], WORD[channel], BANK[channel]
        word, start, gap, answer = values[term], values[latency], values[BURST], values[ANSWER]
        flying = engine.flying
        writes: Sequence[float] = self.writes if channel == STORE else ()
        free, busy, through = self.free[channel], self.port[channel], engine.through
        while True:
            words = bursts[place]
            taken = request if request >= free else free
            if len(writes) == WRITES_AHEAD and writes[0] > taken:
                taken = writes[0]
            free, first = taken + word, taken + start
            if recording:
                free = point(free, name, taken, ((term, 1.0),))
                first = point(first, name, taken, ((latency, 1.0),))
            begin = first if first >= busy else busy
            end = begin + word * words
            if recording:
                end = point(end, name, begin, ((term, words),))
            if met:
                at = taken if taken >= busy else busy
                bank = met.waits(at, words, behind)
                if bank:  # a loaded word that waits holds the port; those to store wait before it
                    before = through if channel == STORE else busy
                    begin = first if first >= before else before
                    late = begin + word * words + values[bank_term] * bank
                    if late > end:
                        terms = ((term, words), (bank_term, bank))
                        end = point(late, name, begin, terms) if recording else late
            busy = through = end
            if move is None:
                break
            if channel == STORE:
                self.writes.append(end)
                end = point(end + answer, name, end, ((ANSWER, 1.0),)) if recording else end + answer
                flying.append(point(end + word, name, end, ((term, 1.0),)) if recording else end + word)
            else:
                flying.append(end)
            place += 1
            request = point(taken + gap, name, taken, ((BURST, 1.0),)) if recording else taken + gap
            if place == len(bursts):
                break
            if len(flying) == BURSTS_AHEAD:
                oldest = flying.popleft()
                request = request if request >= oldest else oldest
            if request >= until or self._taken(channel, request, free) >= until:
                break
        self.turn[channel], self.free[channel], self.port[channel] = name, free, busy
        engine.through = through
        if move is None:
            after = self.timeline.after
            if unit.requests:
                second = after(name, [taken], (term, FETCH_GAP))
                unit.requests[0] = max(unit.requests[0], second)
            unit.fetched.append(after(name, [end], (ENQUEUE, 1.0)))
        elif place < len(bursts):
            move.next, move.request = place, request
            return False
        else:
            engine.move = None
            if channel == STORE:
                engine.free = flying[-1]
            else:  # all bursts are asked for, so that the next load can start; the last word is to be written
                engine.free = request
                end = self.timeline.after(name, [end], (term, 1.0))
            self._end(unit, channel, end)
        self._stirred.append(unit)
        return True
