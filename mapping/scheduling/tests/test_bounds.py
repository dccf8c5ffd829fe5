# SPDX-License-Identifier: Apache-2.0
"""Optima against a search of everything."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import pytest

from common.errors import NpuloopError
from mapping.scheduling.bounds import Task, batch_optimum, clairvoyant_optimum


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
