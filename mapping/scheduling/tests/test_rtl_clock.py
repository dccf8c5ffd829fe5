# SPDX-License-Identifier: Apache-2.0
"""Schedules in RTL: the policy decides from the state of the hardware, all outputs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.testing import data_dir, require
from golden.importers.models import load_model
from golden.network_file import save_network
from golden.quantize.weights import quantize_weights
from hw.memory import ErrorRange, MemoryModel
from hw.system import NPU8, NPU_LB, System
from mapping.compiler.assignment import assignment_text
from mapping.compiler.legalise import legalise_network
from mapping.compiler.widths import weight_widths
from mapping.scheduling.arrivals import Loop, Poisson
from mapping.scheduling.clocks import EXACT
from mapping.scheduling.deployment import deploy
from mapping.scheduling.metrics import metrics
from mapping.scheduling.policies import SHIPPED
from mapping.scheduling.policy import Start, UnitState, Waiting
from mapping.scheduling.rtl_clock import RtlClock
from mapping.scheduling.simulate import simulate
from mapping.scheduling.testing import DIGITS, digits, turns, workload
from mapping.scheduling.versions import Version
from mapping.scheduling.workload import Stream, arrivals_of
from tb.session import Session

COUNT = 60
TURN = 35
"""Cycles from a unit's interrupt to its next start, where no other unit asks for the host meanwhile."""


@pytest.mark.rtl
@pytest.mark.parametrize("policy", ["greedy", "edf"])
def test_a_schedule_runs_in_rtl_bit_for_bit_and_as_predicted(policy: str, pair: Session) -> None:
    load = workload(Stream("digits", "digits", Poisson(2000.0), deadline=6000.0, requests=COUNT))
    arrivals = arrivals_of(load, 5)
    with RtlClock(digits(), pair) as clock:
        measured = simulate(digits(), load, arrivals, SHIPPED[policy], clock)
    assert clock.exact == dict.fromkeys(range(COUNT), True)
    predicted = metrics(simulate(digits(), load, arrivals, SHIPPED[policy], EXACT)).total
    figures = metrics(measured).total
    assert predicted.mean == pytest.approx(figures.mean, rel=0.04)
    alone = [r.service / r.option.cycles for r in measured.requests if r.service and r.option]
    assert 1.2 < max(alone) < 2.0
    assert min(alone) == pytest.approx(1.0, abs=0.01)


@pytest.mark.rtl
def test_no_unit_waits_for_the_hosts_attention_to_another(pair: Session) -> None:
    """There is always work for both units. What one waits for the other are single accesses on the bus."""
    load = workload(Stream("digits", "digits", Loop(8), requests=COUNT))
    with RtlClock(digits(), pair) as clock:
        run = simulate(digits(), load, arrivals_of(load), SHIPPED["fifo"], clock)
    taken = turns(run)
    assert len(taken) > COUNT / 2
    assert np.median(taken) == TURN
    assert max(taken) < 2 * TURN


@pytest.mark.rtl
def test_three_units_of_three_widths_serve_exactly_and_as_predicted() -> None:
    """No table knows these three together: what is the port's comes from the table of two."""
    four_bits = replace(NPU_LB, name="npu_w4", w_bits=4, rows=0, cols=None)
    system = System((NPU8, NPU_LB, four_bits))
    deployment = deploy(system, DIGITS)
    load = workload(Stream("digits", "digits", Poisson(1000.0), requests=COUNT))
    arrivals = arrivals_of(load, 3)
    with Session(system) as session, RtlClock(deployment, session) as clock:
        measured = simulate(deployment, load, arrivals, SHIPPED["fifo"], clock)
    assert clock.exact == dict.fromkeys(range(COUNT), True)
    assert {request.option.units for request in measured.requests if request.option} == {
        (unit,) for unit in system.units
    }
    predicted = metrics(simulate(deployment, load, arrivals, SHIPPED["fifo"], EXACT)).total
    assert predicted.mean == pytest.approx(metrics(measured).total.mean, rel=0.05)


@pytest.mark.data
@pytest.mark.rtl
def test_public_networks_are_served_exactly_and_as_predicted(pair: Session, tmp_path: Path) -> None:
    """All four at 8 bits on the big unit, at 2 bits on both."""
    versions = []
    for name in ("ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "vww_96_int8"):
        path = require(data_dir() / "models" / f"{name}.tflite")
        network = load_model(path)
        narrow = tmp_path / f"{name}.npz"
        save_network(quantize_weights(network, weight_widths(network, pair.config, 2))[0], narrow)
        versions += [Version(f"{name}_w8", name, str(path), "npu8"), Version(f"{name}_w2", name, str(narrow))]
    deployment = deploy(pair.config, versions)
    names = dict.fromkeys(version.network for version in versions)
    load = workload(*(Stream(name, name, Poisson(85_000.0), requests=8) for name in names))
    arrivals = arrivals_of(load)
    with RtlClock(deployment, pair) as clock:
        measured = metrics(simulate(deployment, load, arrivals, SHIPPED["fifo"], clock)).total
    predicted = metrics(simulate(deployment, load, arrivals, SHIPPED["fifo"], EXACT)).total
    assert clock.exact == dict.fromkeys(range(32), True)
    assert predicted.mean == pytest.approx(measured.mean, rel=0.01)
    assert predicted.p95 == pytest.approx(measured.p95, rel=0.02)


@pytest.mark.rtl
def test_split_versions_between_others_are_exact(pair: Session, tmp_path: Path) -> None:
    graph = legalise_network(load_model("digits_ternary"))
    owners = {op.name: np.arange(op.shape[2]) % 2 for op in graph.ops}
    mapping = tmp_path / "MAP.yaml"
    mapping.write_text(assignment_text(owners, pair.config.cores))
    deployment = deploy(pair.config, [*DIGITS, Version("split", "digits", "digits_ternary", mapping=mapping)])
    load = workload(Stream("digits", "digits", Poisson(2500.0), requests=40))
    options = deployment.options["digits"]

    def in_turn(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        del now, units
        return [Start(request.number, options[request.number % len(options)]) for request in waiting]

    with RtlClock(deployment, pair) as clock:
        run = simulate(deployment, load, arrivals_of(load, 2), in_turn, clock)
    assert clock.exact == dict.fromkeys(range(40), True)
    split = [request for request in run.requests if len(request.spans[0].ends) == 2]
    assert len(split) == 10
    for request in split:
        assert request.service is not None
        assert request.option is not None
        assert request.service >= 0.98 * request.option.cycles


@pytest.mark.rtl
def test_a_loop_under_back_pressure_is_exact_and_slower(pair: Session) -> None:
    load = workload(Stream("digits", "digits", Loop(3), requests=12))
    services = []
    for memory in (MemoryModel(), MemoryModel(backpressure_percent=40, backpressure_seed=7)):
        with RtlClock(digits(), pair, memory) as clock:
            run = simulate(digits(), load, arrivals_of(load), SHIPPED["fifo"], clock)
        assert clock.exact == dict.fromkeys(range(12), True)
        services.append(np.mean([request.service for request in run.requests if request.service]))
    assert services[1] > 1.2 * services[0]


@pytest.mark.rtl
def test_an_error_of_one_unit_ends_its_request_alone(pair: Session) -> None:
    """The little unit's version lies where the memory answers with errors: it is reset each time."""
    load = workload(Stream("digits", "digits", Poisson(1500.0), requests=30))
    deployment = digits()
    first = deployment.options["digits"][0]
    errors = (ErrorRange(first.program.end // 0x1000 * 0x1000 + 0x1000, 1 << 20),)

    def both(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        del now, units
        options = [deployment.options["digits"][2 * (request.number % 2)] for request in waiting]
        return [Start(request.number, item) for request, item in zip(waiting, options, strict=True)]

    with RtlClock(deployment, pair, MemoryModel(errors=errors)) as clock:
        run = simulate(deployment, load, arrivals_of(load, 4), both, clock)
    assert set(clock.failed) == {number for number in range(30) if number % 2}
    assert set(clock.failed.values()) == {"npu_lb: fetch_slverr in fetch, command 0"}
    assert clock.exact == {number: number not in clock.failed for number in range(30)}
    assert all(request.end is not None for request in run.requests)
    with RtlClock(deployment, pair) as after:
        again = simulate(deployment, load, arrivals_of(load, 4), both, after)
    assert all(after.exact.values())
    assert len(again.requests) == 30
