# SPDX-License-Identifier: Apache-2.0
"""Serving: the exact clock is the timing model; what arrives, waits, is dropped, and what it takes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from common.testing import data_dir, require
from golden.importers.models import load_model
from hw.core import CoreConfig
from hw.system import System
from mapping.compiler.assignment import assignment_text
from mapping.compiler.legalise import legalise_network
from mapping.cost.model import CostModel
from mapping.cost.requests import Request, time_requests
from mapping.scheduling.arrivals import Cascade, Loop, Poisson
from mapping.scheduling.clocks import EXACT, FAST
from mapping.scheduling.deployment import deploy
from mapping.scheduling.metrics import metrics, request_energy_uj
from mapping.scheduling.policies import SHIPPED, load_policy
from mapping.scheduling.simulate import Run, simulate
from mapping.scheduling.testing import digits, made_up, option, starts, steady, trace, workload, write
from mapping.scheduling.versions import Version, load_versions
from mapping.scheduling.workload import STRICT, Stream, Workload, WorkloadError, arrivals_of
from mapping.scheduling.workload_file import BUNDLED, load_workload, versions_named

PUBLIC = ("ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "vww_96_int8")


def run(load: Workload, policy: str = "fifo", clock: str = EXACT, seed: int = 1) -> Run:
    return simulate(digits(), load, arrivals_of(load, seed), load_policy(policy), clock)


# ---------------------------------------------------------------------------------------------------- clocks
def test_an_option_takes_alone_what_the_cost_model_predicts() -> None:
    for item in digits().options["digits"]:
        alone = time_requests([Request(item.program.lists)], System().cores, digits().coefficients)[0]
        assert item.cycles == alone.end
        assert item.cycles == pytest.approx(CostModel(System()).program(item.program).cycles, rel=1e-3)
    assert [o.name for o in digits().options["digits"]] == [
        "int8 on npu8", "ternary on npu8", "ternary on npu_lb",
    ]  # fmt: skip


@pytest.mark.parametrize("clock", [EXACT, FAST])
def test_requests_that_never_meet_take_what_they_take_alone(clock: str) -> None:
    for request in run(steady(10_000, 5), clock=clock).requests:
        assert request.option is not None
        assert request.service == pytest.approx(request.option.cycles, rel=1e-9)
        assert request.response == pytest.approx(request.service)


@pytest.mark.parametrize("policy", ["greedy", "fifo"])
def test_the_exact_clock_is_the_timing_model_of_the_same_assignment(policy: str) -> None:
    """Given its decisions, `time_requests` gives the same services, with banks from its own first run."""
    load = workload(Stream("digits", "digits", Poisson(900.0), requests=60))
    served = sorted(run(load, policy).requests, key=lambda request: request.start or 0.0)
    requests = [Request(r.option.program.lists, r.start or 0.0) for r in served if r.option]
    again = time_requests(requests, System().cores, digits().coefficients, recording=False)
    for request, timing in zip(served, again, strict=True):
        assert timing.end == pytest.approx(request.end, rel=1e-3)
        assert timing.service == pytest.approx(request.service, rel=5e-3)
    assert any((r.service or 0) > 1.01 * r.option.cycles for r in served if r.option)  # they do meet


def test_the_fast_clock_is_near_the_exact_one() -> None:
    load = workload(Stream("digits", "digits", Poisson(2200.0), requests=150))
    means = {
        clock: {name: metrics(run(load, name, clock)).total.mean for name in ("greedy", "fifo", "sjf")}
        for clock in (FAST, EXACT)
    }
    for name, mean in means[EXACT].items():
        assert means[FAST][name] == pytest.approx(mean, rel=0.03), name


@pytest.mark.data
def test_public_networks_are_served_within_3_percent_by_the_fast_clock_and_quicker_by_more_units() -> None:
    systems = {n: System(tuple(CoreConfig(f"u{i}") for i in range(n))) for n in (1, 2)}
    models = [require(data_dir() / "models" / f"{name}.tflite") for name in PUBLIC]
    versions = [Version(path.stem, path.stem, str(path)) for path in models]
    load = workload(*(Stream(v.network, v.network, Poisson(220_000.0), requests=10) for v in versions))
    before = np.inf
    for units, system in systems.items():
        deployment = deploy(system, versions)
        mean = {
            clock: metrics(simulate(deployment, load, arrivals_of(load), SHIPPED["fifo"], clock)).total.mean
            for clock in (EXACT, FAST)
        }
        assert mean[FAST] == pytest.approx(mean[EXACT], rel=0.03), units
        assert mean[EXACT] < before
        before = mean[EXACT]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_on_the_bundled_workload_nobody_is_late_more_often_than_the_greedy_scheduler(seed: int) -> None:
    load = load_workload(BUNDLED)
    named = versions_named(BUNDLED)
    assert named
    deployment = deploy(System(), load_versions(named))
    arrivals = arrivals_of(load, seed)
    late = {
        name: metrics(simulate(deployment, load, arrivals, SHIPPED[name], FAST)).total.late_percent or 0.0
        for name in ("greedy", "fifo", "sjf", "edf")
    }
    assert max(late["fifo"], late["sjf"], late["edf"]) <= late["greedy"]


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    load = workload(Stream("digits", "digits", Poisson(1000.0), requests=20))
    assert starts(run(load).requests) == starts(run(load).requests)
    assert starts(run(load).requests) != starts(run(load, seed=2).requests)


# -------------------------------------------------------------------------------------------------- requests
ONE = made_up("u", option("x", "u", 10), option("y", "u", 4))


def serve(load: Workload, policy: str = "fifo") -> Run:
    return simulate(ONE, load, arrivals_of(load), SHIPPED[policy], FAST)


@pytest.mark.parametrize("policy", ["greedy", "fifo"])
def test_a_request_whose_deadline_has_passed_before_it_starts_is_dropped(policy: str) -> None:
    late = serve(workload(trace("x", 0, 0, 0, 0, deadline=20, drop_late=True)), policy)
    assert starts(late.requests) == [("u", 0, 10), ("u", 10, 20), ("", None, None), ("", None, None)]
    assert [request.in_time for request in late.requests] == [True, True, False, False]
    assert metrics(late).total.late_percent == 50
    kept = serve(workload(trace("x", 0, 0, 0, 0, deadline=20)), policy)
    assert [request.end for request in kept.requests] == [10, 20, 30, 40]
    assert metrics(kept).total.late_percent == 50


def test_a_cascade_follows_what_is_complete_and_not_what_is_dropped() -> None:
    follower = Stream("after", "y", Cascade("x"), deadline=100)
    load = workload(trace("x", 0, 0, 0, deadline=15, drop_late=True), follower)
    served = serve(load)
    # the second x starts at 10, before the first y, which arrives then and has no earlier place
    assert [request.arrived for request in served.requests] == [0, 0, 0, 10, 20, None]
    assert starts(served.requests)[3:] == [("u", 20, 24), ("u", 24, 28), ("", None, None)]
    assert metrics(served).streams["after"].requests == 2
    told: list[tuple[int, int]] = []
    simulate(ONE, load, arrivals_of(load), SHIPPED["fifo"], FAST, lambda *counts: told.append(counts))
    assert told[-1] == (6, 6)
    assert told == sorted(told)


def test_a_single_stream_sends_the_next_query_when_the_last_is_complete() -> None:
    single = serve(workload(Stream("x", "x", Loop(), requests=4)))
    assert starts(single.requests) == [("u", at, at + 10) for at in (0, 10, 20, 30)]
    assert [request.response for request in single.requests] == [10] * 4
    multi = serve(workload(Stream("x", "x", Loop(3), requests=7)))
    assert [request.arrived for request in multi.requests] == [0, 0, 0, 30, 30, 30, 60]


def test_a_loop_goes_on_after_a_request_that_was_dropped() -> None:
    load = workload(trace("y", 0), Stream("x", "x", Loop(3), 20, drop_late=True, requests=6))
    served = serve(load)
    # y until 4, x to 14 and 24; the third x is dropped at 24, and the next three arrive
    assert [request.arrived for request in served.requests] == [0, 0, 0, 0, 24, 24, 24]
    assert [request.end for request in served.requests] == [4, 14, 24, None, 34, 44, None]


# ------------------------------------------------------------------------------------- versions and deadlines
def test_versions_that_lose_too_much_accuracy_are_not_used() -> None:
    exact, rough = option("x", "u", 10, name="x8"), option("x", "u", 5, name="x2", drop=1.0)
    deployment = made_up("u", exact, rough)
    for limit, confidence, fastest in ((None, "mean", rough), (1.0, "mean", rough), (0.9, "mean", exact),
                                       (1.2, STRICT, exact), (1.5, STRICT, rough)):  # fmt: skip
        load = workload(trace("x", 0, accuracy_limit=limit), confidence=confidence)
        (served,) = simulate(deployment, load, arrivals_of(load), SHIPPED["fifo"], FAST).requests
        assert served.option is fastest, (limit, confidence)
    with pytest.raises(
        WorkloadError, match=r"no version of 'x' is accurate enough .* 0\.4 points \(strict\)"
    ):
        deployment.allowed(workload(trace("x", 0, accuracy_limit=0.4), confidence=STRICT))


def test_a_deadline_that_no_version_can_meet_is_an_error() -> None:
    with pytest.raises(
        WorkloadError, match=r"stream 'x': its deadline of 9 cycles cannot be met; .* 10 alone"
    ):
        serve(workload(trace("x", 0, deadline=9)))
    assert serve(workload(trace("x", 0, deadline=10))).requests[0].in_time


def test_a_network_that_no_unit_runs_is_an_error() -> None:
    int8 = Version("int8", "digits", "digits_int8")
    with pytest.raises(WorkloadError, match=r"no unit .* runs a version of 'digits'; it has npu_lb"):
        deploy(System((System().cores[1],)), [int8]).allowed(steady(1000, 1))
    with pytest.raises(WorkloadError, match=r"(?s)version 'int8': .*weights .* do not fit npu_lb"):
        deploy(System(), [Version("int8", "digits", "digits_int8", "npu_lb")])
    with pytest.raises(WorkloadError, match=r"'int8': no unit 'npu9' .*; it has npu8, npu_lb"):
        deploy(System(), [Version("int8", "digits", "digits_int8", "npu9")])
    other = Version("w4", "digits", "digits_int8", "w4a8_16x32")
    assert [o.name for o in deploy(System(), [int8, other]).options["digits"]] == ["int8 on npu8"]


def test_units_of_one_name_with_a_count_are_all_meant() -> None:
    twins = System((CoreConfig("big_0"), CoreConfig("big_1"), CoreConfig("bigger")))
    named = Version("v", "digits", "digits_int8", "big")
    assert named.units(twins) == ("big_0", "big_1")
    assert Version("v", "digits", "digits_int8", "w8a8_16x16").units(twins) == twins.units
    assert Version("v", "digits", "digits_int8", "big_1").units(twins) == ("big_1",)


def test_a_split_version_takes_both_units(tmp_path: Path) -> None:
    network = load_model("digits_ternary")
    graph = legalise_network(network)
    owners = {op.name: np.arange(op.shape[2]) % 2 if i == 0 else np.zeros(op.shape[2], int)
              for i, op in enumerate(graph.ops)}  # fmt: skip
    path = write(tmp_path / "MAP.yaml", assignment_text(owners, System().cores, network.name))
    deployment = deploy(System(), [Version("split", "digits", "digits_ternary", mapping=path)])
    (item,) = deployment.options["digits"]
    assert item.units == System().units
    load = steady(100.0, 3)
    for clock in (EXACT, FAST):
        served = simulate(deployment, load, arrivals_of(load), SHIPPED["split"], clock).requests
        assert served[0].end == pytest.approx(item.cycles)
        assert all(b.spans[0].start >= a.spans[0].end for a, b in pairwise(served))


# ----------------------------------------------------------------------------------------------------- energy
def test_energy_is_events_and_clocks_of_units_at_work_and_at_rest() -> None:
    served = run(steady(5000, 4))
    figures = metrics(served)
    deployment, units = digits(), digits().system.units
    assert figures.events_uj is not None
    assert figures.energy_uj is not None
    requests = [request_energy_uj(served, request) or 0.0 for request in served.requests]
    assert sum(requests) == pytest.approx(sum(figures.events_uj.values()) + figures.busy_uj)
    assert figures.energy_uj == pytest.approx(sum(requests) + figures.idle_uj)
    busy = {unit: share * served.makespan for unit, share in figures.utilisation.items()}
    work = sum(deployment.work_pj[unit] * busy[unit] for unit in units)
    rest = sum(deployment.rest_pj[unit] * (served.makespan - busy[unit]) for unit in units)
    assert (figures.busy_uj, figures.idle_uj) == pytest.approx((work / 1e6, rest / 1e6))
    assert all(0 < 2 * deployment.rest_pj[unit] < deployment.work_pj[unit] for unit in units)
    alone = served.requests[0].option
    assert alone is not None
    assert alone.energy_pj == pytest.approx(1e6 * requests[0], rel=1e-6)
    assert sum(figures.utilisation.values()) < 0.5


def test_without_energy_tables_there_is_no_energy(tmp_path: Path) -> None:
    for path in CostModel(System()).folder.glob("*.yaml"):
        if "energy" not in path.name:
            write(tmp_path / path.name, path.read_text())
    deployment = deploy(System(), [Version("v", "digits", "digits_int8")], CostModel(System(), tmp_path))
    load = steady(5000, 2)
    served = simulate(deployment, load, arrivals_of(load), SHIPPED["fifo"])
    assert metrics(served).energy_uj is None
    assert request_energy_uj(served, served.requests[0]) is None
