# SPDX-License-Identifier: Apache-2.0
"""When the requests of a stream arrive: processes that draw cycles, and rules that wait for others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from common.arrays import Floats

CHUNK = 4096
"""Gaps that are drawn together."""
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
    arrivals: Periodic | Poisson | Bursts | Trace, most: int, duration: float | None, rng: np.random.Generator
) -> Floats:
    """Return the cycles at which requests arrive, ascending.

    Args:
        arrivals: the process.
        most: how many at most; a trace may have fewer.
        duration: cycle before which they arrive; None: there are as many as may be.
        rng: for what is random.
    """
    if isinstance(arrivals, Trace):
        times = np.array(arrivals.times)
    elif isinstance(arrivals, Poisson):
        times = _poisson(arrivals.gap, most, duration, rng)
    elif isinstance(arrivals, Periodic):
        count = _periods(arrivals.period, arrivals.phase, most, duration)
        moved = rng.uniform(-arrivals.jitter, arrivals.jitter, count) if arrivals.jitter else np.zeros(count)
        times = np.sort(np.maximum(arrivals.phase + arrivals.period * np.arange(count) + moved, 0.0))
    else:
        count = _periods(arrivals.period, 0.0, math.ceil(most / arrivals.size), duration)
        starts = arrivals.period * np.arange(count)
        times = np.sort((starts[:, None] + arrivals.spacing * np.arange(arrivals.size)).reshape(-1))
    if duration is not None:
        times = times[times < duration]
    return times[:most]


def _periods(period: float, phase: float, most: int, duration: float | None) -> int:
    """Return how many periods begin before the end, at most so many."""
    return most if duration is None else max(0, math.ceil(min(most, (duration - phase) / period)))


def _poisson(gap: float, most: int, duration: float | None, rng: np.random.Generator) -> Floats:
    """Return arrivals with exponential gaps: as many as may be, or those that fill the duration."""
    times = np.cumsum(rng.exponential(gap, most if duration is None else min(most, CHUNK)))
    while duration is not None and len(times) < most and times[-1] < duration:
        more = rng.exponential(gap, min(most - len(times), CHUNK))
        times = np.concatenate([times, times[-1] + np.cumsum(more)])
    return times
