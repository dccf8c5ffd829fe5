# SPDX-License-Identifier: Apache-2.0
"""A schedule in RTL: a policy has decided, and the queues of the host start what it has decided.

The order of each unit's requests, their versions and units are those of the prediction; when a unit is free
is the hardware's affair. A request waits in its units' queues for its arrival, or for what it comes after,
and no unit waits for the host's attention to another. Every output is compared with the golden model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from hw.memory import MemoryModel
from mapping.scheduling.deployment import Option
from mapping.scheduling.images import Images
from mapping.scheduling.simulate import Run, Served, Span
from tb.job import Job
from tb.queues import QueuedRequest
from tb.session import Session

LEAD = 100
"""Cycle of the queues that is the run's cycle 0: by then the first lists are written."""
PATIENCE, LEAST_PATIENCE = 20, 100_000
"""A request is given up after so many times the cycles that it takes alone, and so many more."""


@dataclass(frozen=True, eq=False)
class Replay:
    """What became of a schedule in RTL.

    Attributes:
        run: the same requests, with the cycles of the RTL.
        exact: for each request that was run, whether its outputs were equal to the golden model's.
        failed: what kept requests from ending well; their units were reset and took the next.
    """

    run: Run
    exact: Mapping[int, bool]
    failed: Mapping[int, str]


def replay(
    run: Run,
    session: Session,
    memory: MemoryModel | None = None,
    *,
    images: Images | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Replay:
    """Run the requests of a prediction in RTL.

    Requests that the prediction has dropped are not run.

    Args:
        run: the prediction.
        session: a running session of its system.
        memory: behaviour of the memory.
        images: where the options lie in memory; by default the first has the first place.
        progress: called with the requests that are done and all.

    Raises:
        CapacityError: the memory is too small for all options.
        UnsupportedError: there are too few event counters for the options that may run at once.
        TestbenchError: the simulator does not do what it must.
    """
    images = images or Images(run.deployment)
    order = sorted((r for r in run.requests if r.start is not None), key=lambda r: (r.start, r.number))
    used = dict.fromkeys(request.option for request in order if request.option)
    segments = [segment for option in used for segment in images.place(option).program.segments]
    measured: dict[int, Served] = {}
    spans: dict[int, list[Span]] = {}
    exact: dict[int, bool] = {}
    failed: dict[int, str] = {}
    session.reset()
    sections = _sections(run)
    queued = _queued(run, sections, images)
    for done in session.serve(queued, Job(segments=segments, memory=memory or MemoryModel())):
        number, option = sections[done.number]
        ends = {unit: float(answer.end - LEAD) for unit, answer in done.answers.items()}
        spans.setdefault(number, []).append(Span(float(done.start - LEAD), ends))
        if done.failure:
            failed.setdefault(number, done.failure)
        if option.then:
            continue
        measured[number] = replace(run.requests[number], spans=tuple(spans[number]))
        exact[number] = number not in failed and images.place(option).exact(number, done.reads)
        progress(len(measured), len(order))
    requests = tuple(_arrived(measured.get(request.number, request), measured) for request in run.requests)
    return Replay(Run(run.deployment, requests), exact, failed)


def _sections(run: Run) -> list[tuple[int, Option]]:
    """Return the sections of all requests that were run, (request, option), in the order of their starts."""
    sections = [
        (span.start, request.number, option)
        for request in run.requests
        if request.option
        for span, option in zip(request.spans, request.option.sections, strict=True)
    ]
    return [item[1:] for item in sorted(sections, key=lambda item: (item[0], item[1], item[2].section))]


def _queued(run: Run, sections: list[tuple[int, Option]], images: Images) -> Iterator[QueuedRequest]:
    """Yield the sections as the queues take them, by their places in the order of their predicted starts."""
    last: dict[int, int] = {}  # of each request the section before
    holder: dict[int, int] = {}  # of each program that is cut the last request
    for place, (number, option) in enumerate(sections):
        request = run.requests[number]
        assert request.arrived is not None
        image = images.place(option)
        after = tuple(other for other in request.arrival.after if run.requests[other].spans)
        # what comes after requests that were dropped has its predicted arrival
        arrival = request.arrival.time if len(after) == len(request.arrival.after) else request.arrived
        before = [number] if option.begun else [*after]
        if option.then and not option.begun:
            before += [holder[id(option.program)]] if id(option.program) in holder else []
            holder[id(option.program)] = number
        yield QueuedRequest(
            number=place,
            starts=image.program.sections[option.section].starts,
            arrival=LEAD + math.ceil(arrival),
            after=tuple(last[other] for other in before),
            limit=LEAST_PATIENCE + math.ceil(PATIENCE * option.next_cycles),
            segments=[] if option.begun else image.input_segments(number),
            reads=[] if option.then else image.reads(),
        )
        last[number] = place


def _arrived(request: Served, measured: Mapping[int, Served]) -> Served:
    """Return a request with its arrival in RTL: where it comes after others, that follows from their ends."""
    after = [measured[number].end for number in request.arrival.after if number in measured]
    ends = [end for end in after if end is not None]
    if not ends or len(after) < len(request.arrival.after):
        return request
    return replace(request, arrived=max(request.arrival.time, *ends))
