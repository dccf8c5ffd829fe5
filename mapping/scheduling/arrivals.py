# SPDX-License-Identifier: Apache-2.0
"""When the requests of a stream arrive: processes that draw cycles, and rules that wait for others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from common.arrays import Floats

SINGLE_STREAM, MULTI_STREAM, SERVER, OFFLINE = "single_stream", "multi_stream", "server", "offline"
SCENARIOS = (SINGLE_STREAM, MULTI_STREAM, SERVER, OFFLINE)
"""The scenarios of MLPerf's LoadGen (Reddi et al., "MLPerf Inference Benchmark", ISCA 2020, section IV)."""


@dataclass(frozen=True)
class Periodic:
    """A request every period, each up to `jitter` earlier or later, as sensors with frames send them.

    Attributes:
        period: cycles.
        jitter: most cycles of deviation, uniform; at most half a period.
        phase: cycle of the first.
    """

    period: float
    jitter: float = 0.0
    phase: float = 0.0


@dataclass(frozen=True)
class Poisson:
    """Gaps of exponential length.

    Attributes:
        gap: mean gap, cycles.
    """

    gap: float


@dataclass(frozen=True)
class Bursts:
    """Some requests in a row, then none until the next period.

    Attributes:
        period: cycles from the first of a burst to the first of the next.
        size: requests of a burst.
        spacing: cycles between the requests of a burst.
    """

    period: float
    size: int
    spacing: float = 0.0


@dataclass(frozen=True)
class Trace:
    """Cycles that were recorded.

    Attributes:
        times: cycles, ascending.
    """

    times: tuple[float, ...]


@dataclass(frozen=True)
class Loop:
    """The next query comes when the one before is complete: LoadGen's single and multi stream.

    Attributes:
        samples: requests of a query.
    """

    samples: int = 1


@dataclass(frozen=True)
class Cascade:
    """A request when one of another stream is complete, as a detector wakes a classifier.

    Attributes:
        after: the other stream.
        probability: share of its requests that are followed.
    """

    after: str
    probability: float = 1.0


Arrivals: TypeAlias = Periodic | Poisson | Bursts | Trace | Loop | Cascade


def drawn(
    arrivals: Periodic | Poisson | Bursts | Trace,
    requests: int | None,
    duration: float | None,
    rng: np.random.Generator,
) -> Floats:
    """Return the cycles at which requests arrive, ascending.

    Args:
        arrivals: the process.
        requests: how many at most; a trace may have fewer.
        duration: cycle before which they arrive; one of both is given, but for a trace.
        rng: for what is random.
    """
    if isinstance(arrivals, Trace):
        times = np.array(arrivals.times)
    elif isinstance(arrivals, Poisson):
        times = np.cumsum(_gaps(arrivals.gap, requests, duration, rng))
    elif isinstance(arrivals, Periodic):
        count = requests if duration is None else _room(duration, arrivals.period, arrivals.phase)
        assert count is not None
        moved = rng.uniform(-arrivals.jitter, arrivals.jitter, count) if arrivals.jitter else np.zeros(count)
        times = np.sort(np.maximum(arrivals.phase + arrivals.period * np.arange(count) + moved, 0.0))
    else:
        bursts = (
            math.ceil((requests or 0) / arrivals.size)
            if duration is None
            else _room(duration, arrivals.period, 0.0)
        )
        starts = arrivals.period * np.arange(bursts)
        times = np.sort((starts[:, None] + arrivals.spacing * np.arange(arrivals.size)).reshape(-1))
    if duration is not None:
        times = times[times < duration]
    return times if requests is None else times[:requests]


def _room(duration: float, period: float, phase: float) -> int:
    """Return how many periods begin before the end."""
    return max(0, math.ceil((duration - phase) / period))


def _gaps(gap: float, requests: int | None, duration: float | None, rng: np.random.Generator) -> Floats:
    """Return exponential gaps: as many as asked for, or enough to fill the duration."""
    draw: Callable[[int], Floats] = lambda count: rng.exponential(gap, count)  # noqa: E731
    if duration is None:
        return draw(requests or 0)
    gaps = draw(max(16, int(1.2 * duration / gap)))
    while gaps.sum() < duration:
        gaps = np.concatenate([gaps, draw(len(gaps))])
    return gaps
