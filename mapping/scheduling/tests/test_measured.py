# SPDX-License-Identifier: Apache-2.0
"""How far predictions were off: by hand, with requests that failed, were dropped, or ran elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mapping.scheduling.clocks import FAST
from mapping.scheduling.measured import Measured, agreements, error_percent, pairs_of
from mapping.scheduling.policies import SHIPPED
from mapping.scheduling.simulate import Run, Span, simulate
from mapping.scheduling.testing import made_up, option, trace, workload
from mapping.scheduling.workload import Workload, arrivals_of

LOAD = workload(trace("x", 0, 0, 0, name="x <b>", deadline=15, drop_late=True), trace("y", 1, 2, deadline=50))


def served(load: Workload = LOAD) -> Run:
    """Two units of which each runs one network: x takes 10 cycles on a, y takes 20 on b; one x is dropped."""
    units = made_up("a b", option("x", "a", 10), option("y", "b", 20))
    return simulate(units, load, arrivals_of(load), SHIPPED["greedy"], FAST)


def measured_load() -> tuple[Run, Measured]:
    """The requests of `served`: in RTL x takes 12 cycles and y 24 and 22; the second x fails."""
    predicted = served()
    later = {0: (0.0, 12.0), 1: (12.0, 99.0), 3: (1.0, 25.0), 4: (25.0, 47.0)}
    real = [
        replace(
            request,
            spans=tuple(
                Span(later[request.number][0], dict.fromkeys(span.ends, later[request.number][1]))
                for span in request.spans
            ),
        )
        if request.number in later
        else request
        for request in predicted.requests
    ]
    exact = {0: True, 1: False, 3: True, 4: True}
    return predicted, Measured(Run(predicted.deployment, tuple(real)), exact, {1: "a: timeout <1>"})


def test_errors_are_percent_of_what_was_measured() -> None:
    assert error_percent((90.0, 100.0)) == pytest.approx(-10)
    predicted, real = measured_load()
    assert [(p.number, p.service, p.response) for p in pairs_of(predicted, real)] == [
        (0, (10, 12), (10, 12)),
        (3, (20, 24), (20, 24)),
        (4, (20, 22), (39, 45)),
    ]


def test_streams_and_all_requests_have_their_figures() -> None:
    found = agreements(*measured_load())
    assert list(found) == ["x <b>", "y", ""]
    x, y, both = found.values()
    assert (x.run, x.exact, x.failed, x.compared) == (2, 1, 1, 1)
    assert (y.run, y.exact, y.failed, y.compared) == (2, 2, 0, 2)
    assert (both.run, both.exact, both.failed, both.compared) == (4, 3, 1, 3)
    assert x.service_mean == x.service_largest == pytest.approx(100 / 6)
    assert y.service_mean == pytest.approx((100 / 6 + 100 / 11) / 2)
    assert both.response_mean == pytest.approx((23, 27))
    assert y.response_p95 == pytest.approx((20 + 0.95 * 19, 24 + 0.95 * 21))


def test_what_ran_elsewhere_has_no_service_to_compare() -> None:
    predicted, real = measured_load()
    moved = replace(real.run.requests[0], option=option("x", "b", 10))
    other = Run(real.run.deployment, (moved, *real.run.requests[1:]))
    pairs = pairs_of(predicted, replace(real, run=other))
    assert [pair.service is None for pair in pairs] == [True, False, False]
    found = agreements(predicted, replace(real, run=other))["x <b>"]
    assert (found.compared, found.response_mean) == (0, (10, 12))
