# SPDX-License-Identifier: Apache-2.0
"""Policies, request for request, on examples whose times are worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest

from common import user_code
from mapping.scheduling import policies
from mapping.scheduling.bounds import Task, batch_optimum, clairvoyant_optimum
from mapping.scheduling.clocks import FAST
from mapping.scheduling.deployment import Deployment
from mapping.scheduling.metrics import metrics
from mapping.scheduling.policies import NAMES, load_policy
from mapping.scheduling.policy import Policy, PolicyError, Start, UnitState, Waiting
from mapping.scheduling.results import requests_csv
from mapping.scheduling.simulate import Run, simulate
from mapping.scheduling.testing import made_up, option, starts, trace, workload, write
from mapping.scheduling.workload import Workload, arrivals_of

BIG_LITTLE = made_up(
    "big little",
    *(option("x", "big", 10, 50.0), option("x", "little", 6, 40.0)),
    *(option("y", "big", 20, 90.0), option("y", "little", 25, 60.0)),
)  # fmt: skip
"""x is quicker on the little unit, y on the big one; both take less energy on the little one."""
XYXXYX = workload(trace("x", 0, 2, 3, 5), trace("y", 1, 4))


def served(deployment: Deployment, load: Workload, policy: str | Policy, seed: int = 1) -> Run:
    decide = load_policy(policy) if isinstance(policy, str) else policy
    return simulate(deployment, load, arrivals_of(load, seed), decide, FAST)


def test_the_greedy_scheduler_of_the_literature_request_for_request() -> None:
    """Worked out by hand: each request at its arrival, to the unit that promises the earliest response."""
    run = served(BIG_LITTLE, XYXXYX, "greedy")
    assert [request.arrived for request in run.requests] == [0, 1, 2, 3, 4, 5]
    assert starts(run.requests) == [
        ("little", 0, 6),  # x: 10 on big, 6 on little
        ("big", 1, 21),  # y: 1 + 20 on big; 6 + 25 on little
        ("little", 6, 12),  # x: 21 + 10; 6 + 6
        ("little", 12, 18),  # x: 21 + 10; 12 + 6
        ("big", 21, 41),  # y: 21 + 20 = 41; 18 + 25 = 43
        ("little", 18, 24),  # x: 41 + 10; 18 + 6
    ]
    assert metrics(run).total.mean == (6 + 20 + 10 + 15 + 37 + 19) / 6


def test_the_greedy_scheduler_takes_the_first_of_equal_units() -> None:
    twins = made_up("a b", option("x", "a", 10), option("x", "b", 10))
    assert [u for u, *_ in starts(served(twins, workload(trace("x", 0, 0, 0, 0)), "greedy").requests)] == [
        "a", "b", "a", "b",
    ]  # fmt: skip


def test_greedy_on_energy_gives_all_to_the_unit_of_least_energy() -> None:
    run = served(BIG_LITTLE, XYXXYX, "greedy-energy")
    assert {unit for unit, *_ in starts(run.requests)} == {"little"}
    assert [start for _, start, _ in starts(run.requests)] == [0, 6, 31, 37, 43, 68]


def test_late_binding_waits_for_the_quicker_unit_and_takes_what_comes_free() -> None:
    """The second x would end at 12 on little and at 11 on big: it is not bound to a queue."""
    run = served(BIG_LITTLE, workload(trace("x", 0, 1, 2)), "fifo")
    assert starts(run.requests) == [("little", 0, 6), ("big", 1, 11), ("little", 6, 12)]


def test_the_shortest_job_and_the_earliest_deadline_go_first() -> None:
    one = made_up("u", option("long", "u", 100), option("short", "u", 10), option("urgent", "u", 50))
    load = workload(trace("long", 0, 1), trace("short", 2), trace("urgent", 3, deadline=170))
    orders = {
        name: [request.arrival.stream.name for request in sorted(run.requests, key=lambda r: r.start or 0)]
        for name, run in {name: served(one, load, name) for name in ("fifo", "sjf", "edf")}.items()
    }
    assert orders == {
        "fifo": ["long", "long", "short", "urgent"],
        "sjf": ["long", "short", "urgent", "long"],
        "edf": ["long", "urgent", "long", "short"],
    }


def test_a_higher_priority_goes_first() -> None:
    one = made_up("u", option("x", "u", 10), option("y", "u", 10))
    load = workload(trace("x", 0, 1, 2), trace("y", 3, priority=1))
    for name in ("fifo", "sjf", "edf", "cheapest"):
        energy = made_up("u", option("x", "u", 10, 1.0), option("y", "u", 10, 1.0))
        run = served(energy if name == "cheapest" else one, load, name)
        assert [start for _, start, _ in starts(run.requests)] == [0, 20, 30, 10], name


def test_the_cheapest_unit_is_taken_if_it_meets_the_deadline() -> None:
    y = {"loose": 30, "tight": 22}
    for name, deadline in y.items():
        run = served(BIG_LITTLE, workload(trace("y", 0, deadline=deadline)), "cheapest")
        assert starts(run.requests) == [("little", 0, 25) if name == "loose" else ("big", 0, 20)]
    late = served(BIG_LITTLE, workload(trace("y", 0, 0, 0, deadline=26)), "cheapest")
    assert [request.in_time for request in late.requests] == [True, True, False]


def test_policies_on_energy_need_energies() -> None:
    blind = made_up("a", option("x", "a", 10))
    for name in ("greedy-energy", "cheapest"):
        with pytest.raises(PolicyError, match=r"x on a: a unit has no energy table"):
            served(blind, workload(trace("x", 0)), name)


def test_a_split_version_runs_only_when_its_units_are_free_and_nobody_waits() -> None:
    split = made_up(
        "a b", option("x", "a", 10), option("x", "b", 10), option("x", "a+b", 6, name="x_split")
    )  # fmt: skip
    run = served(split, workload(trace("x", 0, 20, 20, 23, 24)), "split")
    assert starts(run.requests) == [("a+b", 0, 6), ("a", 20, 30), ("b", 20, 30), ("a", 30, 40), ("b", 30, 40)]


def test_what_runs_beside_a_request_slows_it_down_while_it_does() -> None:
    """A second of x beside y makes half a second of progress: 4 cycles of y, then 16 of x at half speed."""
    pair = made_up("a b", option("x", "a", 10), option("y", "b", 8), slow={("x", "y"): 2.0, ("y", "x"): 1.0})
    run = served(pair, workload(trace("x", 0), trace("y", 4)), "greedy")
    # x: 4 alone, 8 beside y (4 of its own), then its last 2 alone
    assert starts(run.requests) == [("a", 0, 14), ("b", 4, 12)]
    assert metrics(run).contention_percent == pytest.approx(100 * (22 / 18 - 1))


# ------------------------------------------------------------------------------------------------ quality
def tasks(deployment: Deployment, load: Workload, seed: int) -> list[Task]:
    """The requests for the optimum."""
    return [
        Task(arrival.time, {o.units[0]: o.cycles for o in deployment.options[arrival.stream.network]})
        for arrival in arrivals_of(load, seed)
    ]


def random_load(rng: np.random.Generator, count: int, mean_gap: float) -> Workload:
    times = np.cumsum(rng.exponential(mean_gap, count)).tolist()
    kinds = rng.random(count) < 0.5
    streams = [
        trace(name, *(t for t, kind in zip(times, kinds, strict=True) if kind == which))
        for name, which in (("x", True), ("y", False))
    ]
    return workload(*(stream for stream in streams if stream.arrivals.times))  # type: ignore[union-attr]


def test_no_policy_beats_the_optimum_and_late_binding_is_near_it_at_low_load() -> None:
    rng = np.random.default_rng(7)
    ratios: dict[str, list[float]] = {name: [] for name in ("greedy", "fifo", "sjf")}
    for seed in range(40):
        load = random_load(rng, 8, mean_gap=11.0)  # 13 cycles a request on two units: load 0.6
        best = clairvoyant_optimum(tasks(BIG_LITTLE, load, seed))
        for name, list_of in ratios.items():
            mean = metrics(served(BIG_LITTLE, load, name, seed)).total.mean
            assert mean >= best - 1e-9, (name, load)
            list_of.append(mean / best)
    assert np.mean(ratios["fifo"]) < 1.10
    assert np.mean(ratios["sjf"]) < 1.10


def test_on_a_batch_the_shortest_jobs_first_are_near_the_optimum_and_the_greedy_is_not() -> None:
    batch = workload(trace("y", *[0.0] * 10), trace("x", *[0.0] * 10))
    best = batch_optimum(tasks(BIG_LITTLE, batch, 1))
    means = {name: metrics(served(BIG_LITTLE, batch, name)).total.mean for name in ("greedy", "sjf")}
    assert best <= means["sjf"] < 1.16 * best
    assert means["greedy"] > 1.2 * best


# ---------------------------------------------------------------------------------- fixed, and the user's own
def test_a_schedule_in_a_file_is_run_as_it_stands(tmp_path: Path) -> None:
    for name in ("greedy", "fifo", "sjf", "edf"):
        run = served(BIG_LITTLE, XYXXYX, name)
        path = write(tmp_path / f"{name}.csv", requests_csv(run))
        again = served(BIG_LITTLE, XYXXYX, f"fixed:{path}")
        assert starts(again.requests) == starts(run.requests), name


def test_a_schedule_keeps_its_order_although_others_have_arrived(tmp_path: Path) -> None:
    """Request 1 (y, at 1) is to run before request 0 (x, at 0): the unit waits for it."""
    rows = "version,units,start_cycle\nx,big,21\ny,big,1\n"
    run = served(
        BIG_LITTLE, workload(trace("x", 0), trace("y", 1)), f"fixed:{write(tmp_path / 's.csv', rows)}"
    )
    assert starts(run.requests) == [("big", 21, 31), ("big", 1, 21)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stream,units\nx,big\n", r"no column 'version'"),
        ("version,units,start_cycle\nx,big,soon\n", r"line 2: start_cycle is 'soon'"),
        ("version,units,start_cycle\nx,big,\n", r"no request has a start"),
        ("version,units,start_cycle\nz,big,0\ny,big,5\n", r"\(x\) cannot run z on big; there are x on big"),
        ("version,units,start_cycle\nx,big,0\n", r"has 1 requests, and number 1 arrives"),
    ],
)  # fmt: skip
def test_schedules_that_do_not_fit_are_errors(text: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", text)
    with pytest.raises(PolicyError, match=says) as raised:
        served(BIG_LITTLE, workload(trace("x", 0), trace("y", 1)), f"fixed:{path}")
    assert str(path) in str(raised.value)


def lazy(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
    """A user's policy: everything on the last unit that can."""
    del now, units
    return [Start(request.number, request.options[-1]) for request in waiting]


def test_a_users_policy_is_named_by_its_function_or_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{__name__}:lazy"
    monkeypatch.setattr(
        user_code, "entry_points", EntryPoints([EntryPoint("mine", name, policies.ENTRY_POINTS)]).select
    )
    for spec in (name, "mine"):
        assert {u for u, *_ in starts(served(BIG_LITTLE, XYXXYX, spec).requests)} == {"little"}
    with pytest.raises(
        PolicyError, match=r"there is no policy 'yours'; give one of greedy.*, mine, fixed:FILE"
    ):
        load_policy("yours")


def test_a_users_policy_that_fails_is_one_clear_error() -> None:
    with pytest.raises(PolicyError, match="no_such"):
        load_policy("mapping.scheduling.no_such:policy")
    with pytest.raises(PolicyError, match="fails"):
        served(BIG_LITTLE, XYXXYX, load_policy("mapping.scheduling.policies:load_policy"))


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (lambda *_: [], "leaves 6 requests waiting for ever, the first is number 0 .x."),
        (lambda *_: ["x"], "returns 'x', which starts no waiting request"),
        (lambda _, waiting, __: [Start(99, waiting[0].options[0])], "starts no waiting request"),
        (lambda _, waiting, __: [Start(waiting[0].number, option("x", "big", 1))], "not one of its options"),
    ],
)
def test_policies_that_decide_what_cannot_be_are_errors(policy: Policy, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        served(BIG_LITTLE, XYXXYX, policy)


def test_every_shipped_policy_serves_every_request() -> None:
    for name in NAMES:
        run = served(BIG_LITTLE, XYXXYX, load_policy(name))
        assert all(request.end is not None for request in run.requests), name
