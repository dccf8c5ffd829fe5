# SPDX-License-Identifier: Apache-2.0
"""Requests in RTL, and how far their prediction was off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mapping.scheduling.simulate import Run, Served


@dataclass(frozen=True, eq=False)
class Measured:
    """What became of requests in RTL.

    Attributes:
        run: the requests, with the cycles of the RTL.
        exact: for each request that was run, whether its outputs were equal to the golden model's.
        failed: what kept requests from ending well; their units were reset and took the next.
    """

    run: Run
    exact: Mapping[int, bool]
    failed: Mapping[int, str]


@dataclass(frozen=True)
class Pair:
    """A request that both the prediction and the RTL have run.

    Attributes:
        number: its number.
        service: cycles from its start to its end, (predicted, measured); None: the RTL's policy has given it
            another version or other units.
        response: cycles from its arrival to its end, (predicted, measured).
    """

    number: int
    service: tuple[float, float] | None
    response: tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """How far the predictions of some requests were off; errors are percent of what was measured.

    Attributes:
        run, exact, failed: how many requests the RTL has run, which of them were exact, and which failed.
        compared: how many services are compared: the same version on the same units, not failed.
        service_mean, service_largest: mean and largest size of the services' errors; NaN: none is compared.
        response_mean, response_p95: (predicted, measured) mean and 95th percentile of the responses, cycles;
            NaN: none is compared.
    """

    run: int
    exact: int
    failed: int
    compared: int
    service_mean: float
    service_largest: float
    response_mean: tuple[float, float]
    response_p95: tuple[float, float]


def error_percent(pair: tuple[float, float]) -> float:
    """Return by how many percent of what was measured a prediction is too long; negative: too short."""
    predicted, measured = pair
    return 100.0 * (predicted / measured - 1.0)


def pairs_of(predicted: Run, measured: Measured) -> list[Pair]:
    """Return the requests that ended well in RTL and were run in the prediction, by their numbers."""
    pairs = []
    for request, real in zip(predicted.requests, measured.run.requests, strict=True):
        if request.number not in measured.exact or request.number in measured.failed:
            continue
        if request.service is None or real.service is None:
            continue
        if request.response is None or real.response is None:
            continue
        service = (request.service, real.service) if real.option is request.option else None
        pairs.append(Pair(request.number, service, (request.response, real.response)))
    return pairs


def agreements(predicted: Run, measured: Measured) -> dict[str, Agreement]:
    """Return how far the predictions of each stream were off, and under "" those of all requests."""
    pairs = pairs_of(predicted, measured)
    names = dict.fromkeys(request.arrival.stream.name for request in predicted.requests)
    made = {
        name: _agreement(predicted, measured, pairs, lambda r, name=name: r.arrival.stream.name == name)  # type: ignore[misc]
        for name in names
    }
    return made | {"": _agreement(predicted, measured, pairs, lambda _: True)}


def _agreement(
    predicted: Run, measured: Measured, pairs: Iterable[Pair], belongs: Callable[[Served], bool]
) -> Agreement:
    numbers = {request.number for request in predicted.requests if belongs(request)}
    chosen = [pair for pair in pairs if pair.number in numbers]
    errors = [abs(error_percent(pair.service)) for pair in chosen if pair.service]
    responses = np.array([pair.response for pair in chosen]).reshape(-1, 2)
    ran = numbers & measured.exact.keys()
    nothing = (float("nan"), float("nan"))
    mean, p95 = nothing, nothing
    if chosen:
        mean = (float(responses[:, 0].mean()), float(responses[:, 1].mean()))
        p95 = (float(np.percentile(responses[:, 0], 95)), float(np.percentile(responses[:, 1], 95)))
    return Agreement(
        run=len(ran),
        exact=sum(measured.exact[number] for number in ran),
        failed=len(numbers & measured.failed.keys()),
        compared=len(errors),
        service_mean=float(np.mean(errors)) if errors else float("nan"),
        service_largest=max(errors, default=float("nan")),
        response_mean=mean,
        response_p95=p95,
    )
