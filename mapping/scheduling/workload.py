# SPDX-License-Identifier: Apache-2.0
"""Workloads: streams of requests with deadlines and accuracy limits, and the requests that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import NpuloopError
from mapping.scheduling.arrivals import Arrivals, Cascade, Loop, drawn

MAX_REQUESTS = 200_000
"""Most requests of a workload."""
MEAN, STRICT = "mean", "strict"


class WorkloadError(NpuloopError):
    """A workload that cannot be served, or a damaged file of one."""


def file_name(entry: Mapping[str, Any], key: str, where: str) -> str:
    """Return what an entry gives as the name of a file.

    Raises:
        WorkloadError: it is no name.
    """
    name = entry.get(key)
    if not isinstance(name, str) or not name or "\0" in name:
        raise WorkloadError(f"{where}: {key} is {name!r}; write the name of a file")
    return name


@dataclass(frozen=True)
class Stream:
    """Requests of one kind.

    Attributes:
        name: the stream.
        network: what every request runs.
        arrivals: when requests arrive.
        deadline: cycles from a request's arrival to its end; None: none.
        accuracy_limit: most points of accuracy that a version may lose; None: any.
        priority: requests of a higher one go first, where a policy looks at it.
        drop_late: a request whose deadline has passed before it starts is not run.
        requests: how many; None: as many as arrive in the workload's duration.
    """

    name: str
    network: str
    arrivals: Arrivals
    deadline: float | None = None
    accuracy_limit: float | None = None
    priority: int = 0
    drop_late: bool = False
    requests: int | None = None


@dataclass(frozen=True)
class Workload:
    """Streams that a system serves.

    Attributes:
        streams: the streams.
        duration: cycle before which requests arrive; None: every stream has a number of requests.
        confidence: "mean": a version's mean drop of accuracy counts; "strict": the upper end of its interval.
        clock_mhz: cycles in a microsecond; None: everything is in cycles.
        source: for messages: the file, or what else it comes from.
    """

    streams: tuple[Stream, ...]
    duration: float | None = None
    confidence: str = MEAN
    clock_mhz: float | None = None
    source: str = "workload"

    def stream(self, name: str) -> Stream:
        """Return a stream by its name."""
        return next(stream for stream in self.streams if stream.name == name)


@dataclass(frozen=True)
class Arrival:
    """A request of a stream.

    Attributes:
        stream: the stream.
        time: cycle at which it arrives; if it comes after others, not before.
        after: numbers of requests, of which the last completion lets it arrive.
    """

    stream: Stream
    time: float
    after: tuple[int, ...] = ()


def arrivals_of(workload: Workload, seed: int = 1) -> tuple[Arrival, ...]:
    """Return all requests of a workload, by their numbers: those with times first, in the order of time.

    Every stream draws from a generator of its own: a stream that is added changes no other.

    Args:
        workload: the workload.
        seed: of the random numbers.

    Raises:
        WorkloadError: there are none, or too many.
    """
    timed: list[tuple[float, Stream]] = []
    for number, stream in enumerate(workload.streams):
        if isinstance(stream.arrivals, Cascade | Loop):
            continue
        most = MAX_REQUESTS + 1 if stream.requests is None else stream.requests
        times = drawn(stream.arrivals, most, workload.duration, _generator(seed, number))
        _check_count(workload, stream, len(timed) + len(times))
        timed += [(time, stream) for time in times.tolist()]
    timed.sort(key=lambda item: item[0])
    requests = [Arrival(stream, time) for time, stream in timed]
    for stream in workload.streams:
        if isinstance(stream.arrivals, Loop):
            _check_count(workload, stream, len(requests) + (stream.requests or 0))
            requests += _loop(stream, stream.arrivals.samples, len(requests))
    for stream in _cascades(workload):
        requests += _followers(workload, stream, requests, seed)
        _check_count(workload, stream, len(requests))
    if not requests:
        raise WorkloadError(
            f"{workload.source}: no request arrives before its end; give a longer duration or more requests"
        )
    return tuple(requests)


def _generator(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, number])


def _check_count(workload: Workload, stream: Stream, count: int) -> None:
    if count > MAX_REQUESTS:
        raise WorkloadError(
            f"{workload.source}, stream {stream.name!r}: more than {MAX_REQUESTS} requests; give a shorter "
            "duration, or a number of requests"
        )


def _loop(stream: Stream, samples: int, first: int) -> list[Arrival]:
    """Return queries of some samples, each after all samples of the one before."""
    made: list[Arrival] = []
    before: tuple[int, ...] = ()
    assert stream.requests is not None  # the file's reader and `check` see to it
    for start in range(0, stream.requests, samples):
        count = min(samples, stream.requests - start)
        made += [Arrival(stream, 0.0, before) for _ in range(count)]
        before = tuple(range(first + start, first + start + count))
    return made


def _cascades(workload: Workload) -> list[Stream]:
    """Return the streams that follow others, each behind what it follows.

    Raises:
        WorkloadError: streams that follow each other.
    """
    left = [stream for stream in workload.streams if isinstance(stream.arrivals, Cascade)]
    known = {stream.name for stream in workload.streams if not isinstance(stream.arrivals, Cascade)}
    ordered: list[Stream] = []
    while left:
        ready = [s for s in left if isinstance(s.arrivals, Cascade) and s.arrivals.after in known]
        if not ready:
            names = ", ".join(stream.name for stream in left)
            raise WorkloadError(
                f"{workload.source}: streams {names} follow each other, or one that is not there; let the "
                "first arrive by itself"
            )
        ordered += ready
        known |= {stream.name for stream in ready}
        left = [stream for stream in left if stream not in ready]
    return ordered


def _followers(workload: Workload, stream: Stream, requests: Sequence[Arrival], seed: int) -> list[Arrival]:
    """Return the requests of a cascade."""
    assert isinstance(stream.arrivals, Cascade)
    rng = _generator(seed, workload.streams.index(stream))
    leaders = [i for i, request in enumerate(requests) if request.stream.name == stream.arrivals.after]
    chosen = rng.random(len(leaders)) < stream.arrivals.probability
    followed = [leader for leader, follows in zip(leaders, chosen, strict=True) if follows]
    return [Arrival(stream, 0.0, (leader,)) for leader in followed[: stream.requests]]
