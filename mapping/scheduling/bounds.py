# SPDX-License-Identifier: Apache-2.0
"""What no policy can beat, by the cycles that requests take alone: optima that know the future.

Contention is left out, so a real run has longer services, and no policy gets below these mean responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

from common.errors import NpuloopError
from mapping.scheduling.deployment import Deployment
from mapping.scheduling.solver import Choice, Job, fewest_late, is_installed, least_mean_response
from mapping.scheduling.workload import Arrival, Workload

MAX_REQUESTS = 10
"""Most requests of an exact optimum with arrivals that is searched."""
MAX_SOLVED = 24
"""Most requests that are given to the solver: of more it proves little in time."""
SOLVER_SECONDS = 5.0


@dataclass(frozen=True)
class Task:
    """A request to schedule.

    Attributes:
        arrival: cycle before which it does not start.
        cycles: what it takes on each unit that can run it.
    """

    arrival: float
    cycles: Mapping[str, float]


@dataclass(frozen=True)
class Optimum:
    """What no policy can beat.

    Attributes:
        mean: least mean response, cycles; None: not known.
        late_percent: least share of the requests with a deadline that miss it, percent; None: not known.
        missing: whether OR-tools, which is not installed, could say more.
    """

    mean: float | None
    late_percent: float | None
    missing: bool = False


def optimum(deployment: Deployment, workload: Workload, arrivals: Sequence[Arrival]) -> Optimum:
    """Return the optimum of a workload's requests, as far as it can be computed.

    The mean response is that of a batch of any size or up to MAX_REQUESTS requests, without versions on
    several units. With these, or more requests, it takes OR-tools: up to MAX_SOLVED requests, where it proves
    the optimum in SOLVER_SECONDS. So does the share of late requests. Requests that follow others have no
    optimum here, and of those that may be dropped none is known for the mean. Where networks are cut, only
    the mean of a batch is known.
    """
    if any(arrival.after for arrival in arrivals):
        return Optimum(None, None)
    allowed = deployment.allowed(workload)
    jobs = []
    for arrival in arrivals:
        stream = arrival.stream
        deadline = None if stream.deadline is None else arrival.time + stream.deadline
        choices = tuple(Choice(option.units, option.cycles) for option in allowed[stream.name])
        jobs.append(Job(arrival.time, choices, deadline))
    dropped = any(arrival.stream.drop_late for arrival in arrivals)
    cut = any(option.then for options in allowed.values() for option in options)
    mean = None if dropped else _searched(jobs, cut)
    if cut:
        return Optimum(mean, None)
    asked = (mean is None and not dropped) or any(job.deadline is not None for job in jobs)
    if not asked or len(jobs) > MAX_SOLVED:
        return Optimum(mean, None)
    if not is_installed():
        return Optimum(mean, None, missing=True)
    if mean is None and not dropped:
        response = least_mean_response(jobs, SOLVER_SECONDS)
        mean = response.value if response.proved else None
    late = fewest_late(jobs, SOLVER_SECONDS)
    due = sum(job.deadline is not None for job in jobs)
    return Optimum(mean, 100.0 * late.value / due if due and late.proved else None)


def _searched(jobs: Sequence[Job], cut: bool) -> float | None:
    """Return the least mean response where no solver is needed for it, cycles; `cut`: networks are."""
    if any(len(choice.units) > 1 for job in jobs for choice in job.choices):
        return None
    tasks = []
    for job in jobs:
        cycles: dict[str, float] = {}
        for choice in job.choices:
            (unit,) = choice.units
            cycles[unit] = min(choice.cycles, cycles.get(unit, choice.cycles))
        tasks.append(Task(job.arrival, cycles))
    if len({task.arrival for task in tasks}) == 1:
        return batch_optimum(tasks)
    return clairvoyant_optimum(tasks) if len(tasks) <= MAX_REQUESTS and not cut else None


def batch_optimum(tasks: Sequence[Task]) -> float:
    """Return the least mean response of requests that are all there at once, each on one unit.

    A unit's requests in the order k from the last add k times their cycles to the sum of all responses: which
    request gets which place of which unit is an assignment problem (Bruno, Coffman and Sethi, "Scheduling
    independent tasks to reduce mean finishing time", Communications of the ACM 17(7), 1974).

    Args:
        tasks: the requests; when they arrive does not count.

    Raises:
        NpuloopError: there are none.
    """
    if not tasks:
        raise NpuloopError("there is no optimum of no requests; give at least one")
    units = sorted({unit for task in tasks for unit in task.cycles})
    places = np.arange(1, len(tasks) + 1)
    alone = np.array([[task.cycles.get(unit, np.inf) for unit in units] for task in tasks])
    costs = (alone[:, :, None] * places).reshape(len(tasks), -1)
    finite = np.where(np.isfinite(costs), costs, 0.0)
    costs = np.where(np.isfinite(costs), costs, 1.0 + finite.sum())
    rows, columns = linear_sum_assignment(costs)
    return float(costs[rows, columns].sum() / len(tasks))


def clairvoyant_optimum(tasks: Sequence[Task]) -> float:
    """Return the least mean response of a few requests with arrivals, each on one unit, without preemption.

    It searches all divisions among units, and for each set of requests on a unit the orders that others do
    not dominate: no other order of the same set ends earlier and responds sooner.

    Args:
        tasks: at most MAX_REQUESTS requests.

    Raises:
        NpuloopError: none, or more.
    """
    if not 1 <= len(tasks) <= MAX_REQUESTS:
        raise NpuloopError(f"{len(tasks)} requests: an exact optimum takes 1 to {MAX_REQUESTS}; give fewer")
    everything = (1 << len(tasks)) - 1
    best = np.full(everything + 1, np.inf)
    best[0] = 0.0
    for unit in sorted({unit for task in tasks for unit in task.cycles}):
        alone = _set_optima(tasks, unit)
        merged = best.copy()
        for chosen, cost in alone.items():
            rest = everything & ~chosen
            others = rest
            while True:  # all subsets of what is left
                merged[chosen | others] = min(merged[chosen | others], cost + best[others])
                if not others:
                    break
                others = (others - 1) & rest
        best = merged
    return float(best[everything] / len(tasks))


def _set_optima(tasks: Sequence[Task], unit: str) -> dict[int, float]:
    """Return the least sum of responses of each set of requests on one unit, by the set's bits."""
    able = [i for i, task in enumerate(tasks) if unit in task.cycles]
    fronts: dict[int, list[tuple[float, float]]] = {0: [(0.0, 0.0)]}  # (end of the last, sum of responses)
    for size in range(1, len(able) + 1):
        for members in combinations(able, size):
            chosen = sum(1 << i for i in members)
            found = []
            for last in members:
                task = tasks[last]
                for end, cost in fronts[chosen & ~(1 << last)]:
                    new = max(end, task.arrival) + task.cycles[unit]
                    found.append((new, cost + new - task.arrival))
            fronts[chosen] = _undominated(found)
    return {chosen: min(cost for _, cost in front) for chosen, front in fronts.items()}


def _undominated(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    kept: list[tuple[float, float]] = []
    for end, cost in sorted(points):
        if not kept or cost < kept[-1][1]:
            kept.append((end, cost))
    return kept
