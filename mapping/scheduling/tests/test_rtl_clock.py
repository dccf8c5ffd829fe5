# SPDX-License-Identifier: Apache-2.0
"""Schedules in RTL: the policy decides from the state of the hardware, all outputs are compared."""

from __future__ import annotations

import numpy as np
import pytest

from hw.core import CoreConfig
from hw.memory import MemoryModel
from hw.system import NPU8, NPU_LB, System
from mapping.scheduling.arrivals import Loop, Poisson
from mapping.scheduling.clocks import EXACT
from mapping.scheduling.deployment import deploy
from mapping.scheduling.metrics import metrics
from mapping.scheduling.policies import SHIPPED
from mapping.scheduling.rtl_clock import RtlClock
from mapping.scheduling.simulate import simulate
from mapping.scheduling.testing import DIGITS, digits, workload
from mapping.scheduling.workload import Stream, arrivals_of
from tb.session import Session

COUNT = 60


@pytest.mark.rtl
@pytest.mark.parametrize("policy", ["greedy", "edf"])
def test_a_schedule_runs_in_rtl_bit_for_bit_and_as_predicted(policy: str, pair: Session) -> None:
    load = workload(Stream("digits", "digits", Poisson(2000.0), deadline=6000.0, requests=COUNT))
    arrivals = arrivals_of(load, 5)
    clock = RtlClock(digits(), pair)
    measured = simulate(digits(), load, arrivals, SHIPPED[policy], clock)
    assert clock.exact == dict.fromkeys(range(COUNT), True)
    predicted = metrics(simulate(digits(), load, arrivals, SHIPPED[policy], EXACT)).total
    figures = metrics(measured).total
    assert predicted.mean == pytest.approx(figures.mean, rel=0.04)
    alone = [r.service / r.option.cycles for r in measured.requests if r.service and r.option]
    assert 1.2 < max(alone) < 2.0
    assert min(alone) == pytest.approx(1.0, abs=0.01)


@pytest.mark.rtl
def test_three_units_of_three_widths_serve_exactly_and_as_predicted() -> None:
    """No table knows these three together: what is the port's comes from the table of two."""
    system = System((NPU8, NPU_LB, CoreConfig("npu_w4", w_bits=4)))
    deployment = deploy(system, DIGITS)
    load = workload(Stream("digits", "digits", Poisson(1000.0), requests=COUNT))
    arrivals = arrivals_of(load, 3)
    with Session(system) as session:
        clock = RtlClock(deployment, session)
        measured = simulate(deployment, load, arrivals, SHIPPED["fifo"], clock)
    assert clock.exact == dict.fromkeys(range(COUNT), True)
    assert {request.option.units for request in measured.requests if request.option} == {
        (unit,) for unit in system.units
    }
    predicted = metrics(simulate(deployment, load, arrivals, SHIPPED["fifo"], EXACT)).total
    assert predicted.mean == pytest.approx(metrics(measured).total.mean, rel=0.05)


@pytest.mark.rtl
def test_a_loop_under_back_pressure_is_exact_and_slower(pair: Session) -> None:
    load = workload(Stream("digits", "digits", Loop(3), requests=12))
    services = []
    for memory in (MemoryModel(), MemoryModel(backpressure_percent=40, backpressure_seed=7)):
        clock = RtlClock(digits(), pair, memory)
        run = simulate(digits(), load, arrivals_of(load), SHIPPED["fifo"], clock)
        assert clock.exact == dict.fromkeys(range(12), True)
        services.append(np.mean([request.service for request in run.requests if request.service]))
    assert services[1] > 1.2 * services[0]
