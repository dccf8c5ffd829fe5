# SPDX-License-Identifier: Apache-2.0
"""A schedule in RTL: a policy has decided, and the queues of the host start what it has decided.

The order of each unit's requests, their versions and units are those of the prediction; when a unit is free
is the hardware's affair. A request waits in its units' queues for its arrival, or for what it comes after,
and no unit waits for the host's attention to another. Every output is compared with the golden model.

A replay whose rows are kept can be killed. The next one goes on where the units were idle: every request
before had ended before any other arrived, by the measured ends. What the hardware keeps over an idle time is
whose turn it is on the memory's port; so the last busy times before are run once more, and what they measure
must be what was kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from hw.memory import MemoryModel
from mapping.scheduling.deployment import Option
from mapping.scheduling.images import Images
from mapping.scheduling.journal import Journal, Row
from mapping.scheduling.measured import Measured
from mapping.scheduling.simulate import Run, Served, Span
from tb.job import Job
from tb.queues import QueuedRequest
from tb.session import Session

LEAD = 100
"""Cycle of the queues that is the cycle 0 of what is run: by then the first lists are written."""
SETTLED = 500
"""Cycles after an interrupt in which the host has done with it, and the units are idle."""
WARM_UP = 8
"""Requests, at least, that are run once more before a replay goes on."""


def replay(
    run: Run,
    session: Session,
    memory: MemoryModel | None = None,
    *,
    images: Images | None = None,
    journal: Journal | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Measured:
    """Run the requests of a prediction in RTL.

    Requests that the prediction has dropped are not run.

    Args:
        run: the prediction.
        session: a running session of its system.
        memory: behaviour of the memory. What stalls at random cannot be gone on with.
        images: where the options lie in memory; by default the first has the first place.
        journal: has what was measured before, and takes what is measured.
        progress: called with the requests that are done and all.

    Raises:
        CapacityError: the memory is too small for all options.
        UnsupportedError: there are too few event counters for the options that may run at once.
        TestbenchError: the simulator does not do what it must.
    """
    images = images or Images(run.deployment)
    order = _order(run)
    kept = journal.rows if journal is not None else {}
    first, known = going_on(run, order, kept)
    rows = {request.number: kept[request.number] for request in order[:known]}
    if not _measure(run, session, memory or MemoryModel(), images, order, first, rows, journal, progress):
        rows = {}
        _measure(run, session, memory or MemoryModel(), images, order, 0, rows, journal, progress)
    return measured(run, rows)


def _order(run: Run) -> list[Served]:
    """Return the requests that are run, in the order in which they are queued: that of predicted starts."""
    return sorted((r for r in run.requests if r.start is not None), key=lambda r: (r.start, r.number))


def is_complete(run: Run, journal: Journal) -> bool:
    """Return whether a journal has every request of a prediction that is run."""
    return all(request.number in journal.rows for request in _order(run))


def measured(run: Run, rows: Mapping[int, Row]) -> Measured:
    """Return a prediction's requests with the cycles of the RTL.

    Args:
        run: the prediction.
        rows: what was measured of each request that was run, by its number.
    """
    ended = {
        request.number: replace(request, spans=row.spans)
        for request in run.requests
        if (row := rows.get(request.number)) is not None
    }
    requests = tuple(_arrived(ended.get(request.number, request), ended) for request in run.requests)
    exact = {number: row.exact for number, row in rows.items()}
    failed = {number: row.failure for number, row in rows.items() if row.failure}
    return Measured(Run(run.deployment, requests), exact, failed)


def going_on(run: Run, order: Sequence[Served], rows: Mapping[int, Row]) -> tuple[int, int]:
    """Return from which request on a replay goes on, and how many requests of the order are known.

    The second is a place at which all units were idle, the first an earlier one, or the beginning.

    Args:
        run: the prediction.
        order: the requests in the order in which they are queued.
        rows: what is known.
    """
    soonest = [math.inf] * (len(order) + 1)  # arrival of the first of those from here on
    for place in range(len(order) - 1, -1, -1):
        request = order[place]
        before = _before(run, request)
        # what comes after others that are not known arrives later than these, and they stand before it
        if all(number in rows for number in before):
            arrival = max([_time(run, request), *(rows[number].end for number in before)])
            soonest[place] = arrival
        soonest[place] = min(soonest[place : place + 2])
    places, end = [0], 0.0
    for place, request in enumerate(order, 1):
        row = rows.get(request.number)
        if row is None:
            break
        end = max(end, row.end)
        if end + SETTLED <= soonest[place]:
            places.append(place)
    known = places[-1]
    return max((place for place in places if place <= known - WARM_UP), default=0), known


def _before(run: Run, request: Served) -> tuple[int, ...]:
    """Return what a request comes after, without what the prediction has dropped."""
    return tuple(number for number in request.arrival.after if run.requests[number].spans)


def _time(run: Run, request: Served) -> float:
    """Return the cycle before which a request does not arrive, whatever it comes after.

    That of what comes after requests that were dropped is its predicted arrival.
    """
    assert request.arrived is not None
    return (
        request.arrival.time if len(_before(run, request)) == len(request.arrival.after) else request.arrived
    )


def _measure(
    run: Run,
    session: Session,
    memory: MemoryModel,
    images: Images,
    order: Sequence[Served],
    first: int,
    rows: dict[int, Row],
    journal: Journal | None,
    progress: Callable[[int, int], None],
) -> bool:
    """Run requests from a place on and add what was measured; return whether what was known is equal."""
    if len(rows) == len(order):
        return True
    used = dict.fromkeys(request.option for request in order if request.option)
    segments = [segment for option in used for segment in images.place(option).program.segments]
    left = {request.number for request in order[first:]}
    roots = [request for request in order[first:] if not left.intersection(_before(run, request))]
    shift = math.floor(min(_time(run, request) for request in roots)) if first else 0
    sections = [item for item in _sections(run) if item[0] in left]
    session.reset()
    serving = session.serve(
        _queued(run, sections, images, left, shift), Job(segments=segments, memory=memory)
    )
    spans: dict[int, list[Span]] = {}
    failures: dict[int, str] = {}
    for done in serving:
        number, option = sections[done.number]
        ends = {unit: float(answer.end - LEAD + shift) for unit, answer in done.answers.items()}
        spans.setdefault(number, []).append(Span(float(done.start - LEAD + shift), ends))
        if done.failure:
            failures.setdefault(number, done.failure)
        if option.then:
            continue
        exact = number not in failures and images.place(option).exact(number, done.reads)
        row = Row(number, tuple(spans[number]), exact, failures.get(number, ""))
        if rows.setdefault(number, row) != row:
            serving.close()
            return False
        if journal is not None and journal.rows.get(number) != row:
            journal.add(row)
        progress(len(rows), len(order))
    return True


def _sections(run: Run) -> list[tuple[int, Option]]:
    """Return the sections of all requests that were run, (request, option), in the order of their starts."""
    sections = [
        (span.start, request.number, option)
        for request in run.requests
        if request.option
        for span, option in zip(request.spans, request.option.sections, strict=True)
    ]
    return [item[1:] for item in sorted(sections, key=lambda item: (item[0], item[1], item[2].section))]


def _queued(
    run: Run, sections: Sequence[tuple[int, Option]], images: Images, left: Collection[int], shift: int
) -> Iterator[QueuedRequest]:
    """Yield the sections as the queues take them, by their places in the order of their predicted starts.

    Requests that are not left have ended before.
    """
    last: dict[int, int] = {}  # of each request the section before
    holder: dict[int, int] = {}  # of each program that is cut the last request
    for place, (number, option) in enumerate(sections):
        request = run.requests[number]
        image = images.place(option)
        before = [number] if option.begun else [other for other in _before(run, request) if other in left]
        if option.then and not option.begun:
            before += [holder[id(option.program)]] if id(option.program) in holder else []
            holder[id(option.program)] = number
        arrival = max(0, LEAD + math.ceil(_time(run, request)) - shift)
        yield image.queued(place, number, option, arrival, [last[other] for other in before])
        last[number] = place


def _arrived(request: Served, ended: Mapping[int, Served]) -> Served:
    """Return a request with its arrival in RTL: where it comes after others, that follows from their ends."""
    after = [ended[number].end for number in request.arrival.after if number in ended]
    ends = [end for end in after if end is not None]
    if not ends or len(after) < len(request.arrival.after):
        return request
    return replace(request, arrived=max(request.arrival.time, *ends))
