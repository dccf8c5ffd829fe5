# SPDX-License-Identifier: Apache-2.0
"""Optima against a search of everything."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import pytest

from common.errors import NpuloopError
from mapping.scheduling import bounds, solver
from mapping.scheduling.bounds import Optimum, Task, batch_optimum, clairvoyant_optimum, optimum
from mapping.scheduling.solver import Bound, Choice, Job, fewest_late, is_installed, least_mean_response
from mapping.scheduling.testing import made_up, option, trace, workload
from mapping.scheduling.workload import arrivals_of


def brute(tasks: Sequence[Task]) -> float:
    """The least mean response, of all orders on all units."""
    best = float("inf")
    for order in permutations(range(len(tasks))):
        for units in product("ab", repeat=len(tasks)):
            free = dict.fromkeys("ab", 0.0)
            total = 0.0
            for number, unit in zip(order, units, strict=True):
                task = tasks[number]
                free[unit] = max(free[unit], task.arrival) + task.cycles.get(unit, float("inf"))
                total += free[unit] - task.arrival
            best = min(best, total / len(tasks))
    return best


def random_tasks(rng: np.random.Generator, count: int, spread: float) -> list[Task]:
    tasks = []
    for _ in range(count):
        cycles = {unit: float(rng.integers(1, 20)) for unit in "ab"}
        if rng.random() < 0.2:
            del cycles["a"]
        tasks.append(Task(float(rng.integers(0, 10)) * spread, cycles))
    return tasks


@pytest.mark.parametrize("seed", range(8))
def test_optima_are_those_of_a_search_of_everything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for spread in (0.0, 1.0, 4.0):
        tasks = random_tasks(rng, 5, spread)
        best = brute(tasks)
        assert clairvoyant_optimum(tasks) == pytest.approx(best), tasks
        if not spread:
            assert batch_optimum(tasks) == pytest.approx(best), tasks
        else:
            assert batch_optimum(tasks) > 0


def test_one_unit_runs_the_shortest_first() -> None:
    tasks = [Task(0.0, {"u": cycles}) for cycles in (3.0, 1.0, 2.0)]
    assert batch_optimum(tasks) == clairvoyant_optimum(tasks) == (1 + 3 + 6) / 3


def test_waiting_for_a_short_request_can_be_best() -> None:
    """A request of 10 is there at 0 and one of 1 comes at 1: 10 + 10 responses against 11 + 1 + 1."""
    tasks = [Task(0.0, {"u": 10.0}), Task(1.0, {"u": 1.0})]
    assert clairvoyant_optimum(tasks) == (1 + 12) / 2


def test_more_requests_than_can_be_searched_are_an_error() -> None:
    with pytest.raises(NpuloopError, match="11 requests: an exact optimum takes 1 to 10"):
        clairvoyant_optimum([Task(0.0, {"u": 1.0})] * 11)
    with pytest.raises(NpuloopError, match="no optimum of no requests"):
        batch_optimum([])


# ----------------------------------------------------------------------------------------------------- solver
needs_solver = pytest.mark.skipif(not is_installed(), reason="OR-tools, the extra optimum, is not installed")


def jobs_of(tasks: Sequence[Task]) -> list[Job]:
    return [Job(task.arrival, tuple(Choice((unit,), c) for unit, c in task.cycles.items())) for task in tasks]


@needs_solver
@pytest.mark.parametrize("seed", range(4))
def test_the_solver_finds_what_the_search_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for spread in (0.0, 1.0, 4.0):
        tasks = random_tasks(rng, 6, spread)
        found = least_mean_response(jobs_of(tasks))
        assert found.proved
        assert found.value == pytest.approx(found.found)
        assert found.value == pytest.approx(clairvoyant_optimum(tasks)), tasks


@needs_solver
def test_a_split_is_taken_where_it_pays() -> None:
    """A split takes 6 cycles, one unit 10: two splits end at 6 and 12; of three requests two run at once."""
    request = Job(0.0, (Choice(("a",), 10.0), Choice(("b",), 10.0), Choice(("a", "b"), 6.0)))
    assert least_mean_response([request]).value == 6
    assert least_mean_response([request] * 2).value == 9  # 6 and 12
    assert least_mean_response([request] * 3).value == pytest.approx((10 + 10 + 16) / 3)


@needs_solver
def test_the_fewest_late_requests_are_those_of_a_search() -> None:
    """Three requests of 10 on one unit: two of them can be in time by 20, if nothing waits for the third."""
    three = [Job(0.0, (Choice(("u",), 10.0),), 20.0)] * 3
    assert fewest_late(three) == Bound(1.0, 1.0, proved=True)
    waits = [Job(0.0, (Choice(("u",), 10.0),), 30.0), Job(1.0, (Choice(("u",), 2.0),), 4.0)]
    assert fewest_late(waits).value == 0  # the first waits for the second
    assert fewest_late([Job(0.0, (Choice(("u",), 10.0),))]).value == 0
    rng = np.random.default_rng(7)
    for _ in range(6):
        tasks = random_tasks(rng, 5, 2.0)
        due = [task.arrival + 1.5 * min(task.cycles.values()) for task in tasks]
        jobs = [
            Job(job.arrival, job.choices, deadline) for job, deadline in zip(jobs_of(tasks), due, strict=True)
        ]
        assert fewest_late(jobs).value == brute_late(tasks, due)


def brute_late(tasks: Sequence[Task], due: Sequence[float]) -> int:
    """The fewest late requests, of all orders on all units."""
    best = len(tasks)
    for order in permutations(range(len(tasks))):
        for units in product("ab", repeat=len(tasks)):
            free, late = dict.fromkeys("ab", 0.0), 0
            for number, unit in zip(order, units, strict=True):
                end = max(free[unit], tasks[number].arrival) + tasks[number].cycles.get(unit, float("inf"))
                if end <= due[number]:
                    free[unit] = end  # a late one is dropped
                else:
                    late += 1
            best = min(best, late)
    return best


@needs_solver
def test_a_solver_without_time_says_what_it_knows() -> None:
    rng = np.random.default_rng(1)
    tasks = random_tasks(rng, 14, 1.0)
    found = least_mean_response(jobs_of(tasks), 0.05)
    assert not found.proved
    assert found.value <= found.found


@needs_solver
def test_a_workload_of_more_requests_than_a_search_takes_has_its_optimum() -> None:
    units = made_up("a b", option("x", "a", 10), option("x", "b", 20), option("x", "a+b", 7))
    load = workload(trace("x", *[15.0 * number for number in range(14)], deadline=8))
    found = optimum(units, load, arrivals_of(load))
    assert found == Optimum(mean=7.0, late_percent=0.0)
    two = workload(trace("x", 0, 0, deadline=9))
    assert optimum(units, two, arrivals_of(two)).late_percent == 50
    dropping = workload(trace("x", 0, 0, deadline=9, drop_late=True))
    assert optimum(units, dropping, arrivals_of(dropping)) == Optimum(None, 50.0)


def test_without_the_solver_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "is_installed", lambda: False)
    monkeypatch.setattr(bounds, "is_installed", lambda: False)
    with pytest.raises(NpuloopError, match=r"needs OR-tools, .* pip install 'npuloop\[optimum\]'"):
        least_mean_response([Job(0.0, (Choice(("u",), 1.0),))])
    units = made_up("a b", option("x", "a", 10), option("x", "b", 20))
    many = workload(trace("x", *range(11)))
    assert optimum(units, many, arrivals_of(many)) == Optimum(None, None, missing=True)
    few = workload(trace("x", *range(10)))
    assert optimum(units, few, arrivals_of(few)).mean is not None
    assert not optimum(units, few, arrivals_of(few)).missing
