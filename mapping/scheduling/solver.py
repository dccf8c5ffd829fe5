# SPDX-License-Identifier: Apache-2.0
"""Optima of more requests than can be searched, with splits: OR-tools' constraint solver CP-SAT.

It is an optional dependency, the extra `optimum`. Times are whole cycles, rounded down, so that what the
solver proves holds for the real ones.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import UnsupportedError

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpModel, IntervalVar, IntVar

SECONDS = 20.0
"""How long the solver may take, in its deterministic time, which is about seconds of one core."""


@dataclass(frozen=True)
class Choice:
    """A way to run a request: all its units from its start on, for some cycles."""

    units: tuple[str, ...]
    cycles: float


@dataclass(frozen=True)
class Job:
    """A request to schedule.

    Attributes:
        arrival: cycle before which it does not start.
        choices: the ways to run it, one at least.
        deadline: cycle before which it should have ended; None: none.
    """

    arrival: float
    choices: tuple[Choice, ...]
    deadline: float | None = None


@dataclass(frozen=True)
class Bound:
    """What a solver knows of a least value.

    Attributes:
        value: no schedule is below.
        found: a schedule has this, to the rounding of its times.
        proved: the first is the optimum, to that rounding; else time was over before.
    """

    value: float
    found: float
    proved: bool


def is_installed() -> bool:
    """Return whether OR-tools is there."""
    return importlib.util.find_spec("ortools") is not None


def least_mean_response(jobs: Sequence[Job], seconds: float = SECONDS) -> Bound:
    """Return the least mean response of requests without preemption and without contention, in cycles.

    Args:
        jobs: the requests.
        seconds: how long the solver may take; it then says what it knows.

    Raises:
        UnsupportedError: OR-tools is missing, or there are no requests.
    """
    program = _Program(jobs)
    for number in range(len(jobs)):
        program.model.add_exactly_one(program.chosen[number])
    program.model.minimize(sum(program.ends))
    value, found, proved = program.solve(seconds)
    arrivals = math.fsum(job.arrival for job in jobs)
    return Bound((value - arrivals) / len(jobs), (found - arrivals) / len(jobs), proved)


def fewest_late(jobs: Sequence[Job], seconds: float = SECONDS) -> Bound:
    """Return how many requests miss their deadline at least; those without one never do.

    What is late may be dropped, or run when everything else is over: it is in nobody's way.

    Args:
        jobs: the requests.
        seconds: how long the solver may take.

    Raises:
        UnsupportedError: OR-tools is missing, or there are no requests.
    """
    due = [job for job in jobs if job.deadline is not None]
    if jobs and not due:
        return Bound(0.0, 0.0, proved=True)
    program = _Program(due)
    late = []
    for number, job in enumerate(due):
        assert job.deadline is not None
        late.append(program.model.new_bool_var(f"late {number}"))
        program.model.add_exactly_one([*program.chosen[number], late[-1]])
        in_time = program.model.add(program.ends[number] <= math.floor(job.deadline))
        in_time.only_enforce_if(late[-1].negated())
    program.model.minimize(sum(late))
    value, found, proved = program.solve(seconds)
    return Bound(float(math.ceil(value - 1e-6)), found, proved)


class _Program:
    """The constraints of a schedule: an optional interval for each choice, none at the same time on a unit.

    Attributes:
        model: the model; what must be chosen and the objective are missing.
        chosen: for each job whether each of its choices is taken.
        ends: for each job the cycle of its end.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        if not is_installed():
            raise UnsupportedError(
                "the optimum of these requests needs OR-tools, which is not installed: "
                "pip install 'npuloop[optimum]'"
            )
        if not jobs:
            raise UnsupportedError("there is no optimum of no requests; give at least one")
        from ortools.sat.python import cp_model

        self.model: CpModel = cp_model.CpModel()
        self.chosen: list[list[IntVar]] = []
        self.ends: list[IntVar] = []
        busy: dict[str, list[IntervalVar]] = {}
        slowest = [max(math.floor(choice.cycles) for choice in job.choices) for job in jobs]
        horizon = max(math.floor(job.arrival) for job in jobs) + sum(slowest)
        for number, job in enumerate(jobs):
            arrival = math.floor(job.arrival)
            fastest = min(math.floor(choice.cycles) for choice in job.choices)
            start = self.model.new_int_var(arrival, horizon, f"start {number}")
            end = self.model.new_int_var(arrival + fastest, horizon, f"end {number}")
            taken = []
            for place, choice in enumerate(job.choices):
                literal = self.model.new_bool_var(f"{number}, {place}")
                interval = self.model.new_optional_interval_var(
                    start, math.floor(choice.cycles), end, literal, f"run {number}, {place}"
                )
                for unit in choice.units:
                    busy.setdefault(unit, []).append(interval)
                taken.append(literal)
            self.chosen.append(taken)
            self.ends.append(end)
        for intervals in busy.values():
            self.model.add_no_overlap(intervals)

    def solve(self, seconds: float) -> tuple[float, float, bool]:
        """Return the bound of the objective, the best that was found, and whether that is the optimum.

        Equal programs give equal answers: one worker, a fixed seed, and deterministic time.
        """
        from ortools.sat.python import cp_model

        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 1
        solver.parameters.max_deterministic_time = seconds
        status = solver.solve(self.model)
        found = solver.objective_value if status in (cp_model.OPTIMAL, cp_model.FEASIBLE) else math.inf
        return solver.best_objective_bound, found, status == cp_model.OPTIMAL
