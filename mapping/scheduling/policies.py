# SPDX-License-Identifier: Apache-2.0
"""The policies that npuloop brings, and those of users."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from common.files import read_text
from common.user_code import is_function, registered, user_function
from mapping.scheduling.deployment import Option
from mapping.scheduling.policy import Policy, PolicyError, Start, UnitState, Waiting, expected_end
from mapping.scheduling.preemption import Preempt

ENTRY_POINTS = "npuloop.policies"
"""The entry-point group in which packages register policies."""
FIXED = "fixed:"
EVERY = "all"

Rank = Callable[[Waiting], tuple[float, ...]]


# -------------------------------------------------------------------------------------- decided at arrival
def greedy(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
    """Give each request, in the order of arrival, to the unit that promises the earliest response.

    A unit serves what it has been given in that order. It is the scheduler that is usual for
    heterogeneous-precision accelerators: the response of a unit is its backlog and the version's cycles
    there. Of equal ones the first in the order of versions and units is taken.
    """
    return _assigned(now, waiting, units, lambda _, end: (end,))


def greedy_energy(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
    """Give each request, in the order of arrival, to the option of least energy; of equals the earliest."""
    return _assigned(now, waiting, units, lambda option, end: (_energy(option), end))


def _energy(option: Option) -> float:
    if option.energy_pj is None:
        raise PolicyError(
            f"{option.name}: a unit has no energy table; take a policy without energy, or make one"
        )
    return option.energy_pj


def _assigned(
    now: float,
    waiting: Sequence[Waiting],
    units: Mapping[str, UnitState],
    cost: Callable[[Option, float], tuple[float, ...]],
) -> list[Start]:
    free_at = {name: unit.free_at for name, unit in units.items()}
    starts = []
    for request in waiting:
        ends = [(option, expected_end(now, option, free_at)) for option in request.options]
        option, end = min(ends, key=lambda item: cost(*item))
        free_at |= dict.fromkeys(option.units, end)
        starts.append(Start(request.number, option))
    return starts


# ------------------------------------------------------------------ decided when a unit is free: late binding
def _shortest(request: Waiting) -> float:
    return min(option.cycles for option in request.options)


def first_come(request: Waiting) -> tuple[float, ...]:
    """Rank by priority, then by arrival."""
    return (-request.priority, request.arrival, request.number)


def shortest_job(request: Waiting) -> tuple[float, ...]:
    """Rank by priority, then by the cycles of the fastest option."""
    return (-request.priority, _shortest(request), request.arrival, request.number)


def earliest_deadline(request: Waiting) -> tuple[float, ...]:
    """Rank by priority, then by the deadline; those without one are last."""
    deadline = math.inf if request.deadline is None else request.deadline
    return (-request.priority, deadline, request.arrival, request.number)


Choice = Callable[[Waiting, Sequence[tuple[Option, float]]], tuple[Option, float]]


def soonest(_request: Waiting, ends: Sequence[tuple[Option, float]]) -> tuple[Option, float]:
    """Choose the option that ends first."""
    return min(ends, key=lambda item: item[1])


def cheapest_in_time(request: Waiting, ends: Sequence[tuple[Option, float]]) -> tuple[Option, float]:
    """Choose the option of least energy of those that meet the deadline, else the one that ends first."""
    deadline = math.inf if request.deadline is None else request.deadline
    in_time = [item for item in ends if item[1] <= deadline]
    return min(in_time, key=lambda item: (_energy(item[0]), item[1])) if in_time else soonest(request, ends)


def late(rank: Rank, choose: Choice = soonest) -> Policy:
    """Return the policy that binds a request to a unit only when that unit is free.

    The waiting requests are placed by rank, each where the choice falls if those before it are served first;
    those whose units are free now are started, and the others wait for the next decision.

    Args:
        rank: the smaller comes first.
        choose: the option, of those with the cycles at which they should end.
    """

    def policy(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        free_at = {name: unit.free_at for name, unit in units.items()}
        idle = {name for name, unit in units.items() if unit.idle}
        starts = []
        for request in sorted(waiting, key=rank):
            ends = [(option, expected_end(now, option, free_at)) for option in request.options]
            option, end = choose(request, ends)
            if idle.issuperset(option.next_units):
                starts.append(Start(request.number, option))
            free_at |= dict.fromkeys(option.units, end)
            idle -= set(option.next_units)
        return starts

    return policy


def split_when_idle(now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
    """Late binding by arrival, with versions on several units only if all of these are free and nobody waits.

    A split makes one request faster and keeps all its units from others: it pays at low load.
    """
    alone = len(waiting) == 1
    narrowed = []
    for request in waiting:
        single = tuple(option for option in request.options if len(option.units) == 1)
        split = tuple(
            option
            for option in request.options
            if len(option.units) > 1 and alone and all(units[unit].idle for unit in option.units)
        )
        narrowed.append(_with_options(request, single + split or request.options))
    return list(late(first_come)(now, narrowed, units))


def _with_options(request: Waiting, options: tuple[Option, ...]) -> Waiting:
    return Waiting(
        request.number, request.stream, request.arrival, request.deadline, request.priority, options
    )


SHIPPED: Mapping[str, Policy] = {
    "greedy": greedy,
    "greedy-energy": greedy_energy,
    "fifo": late(first_come),
    "sjf": late(shortest_job),
    "edf": late(earliest_deadline),
    "cheapest": late(earliest_deadline, cheapest_in_time),
    "split": split_when_idle,
}
"""The policies that have a name and remember nothing."""
LEARNING: Mapping[str, Callable[[], Policy]] = {"preempt": Preempt}
"""Policies that learn from what arrives: a new one for each run."""
NAMES = (*SHIPPED, *LEARNING)


# -------------------------------------------------------------------------------------------- fixed schedules
class FixedSchedule:
    """Starts requests as a file says: which version of each, on which units, and in which order there.

    Args:
        path: a `requests.csv` as `npuloop serve` writes it: a row a request, of which `version`, `units` and
            `start_cycle` count. Requests without a start are never run.

    Raises:
        PolicyError: the file is missing, damaged, or has no such columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = read_text(path, PolicyError, "schedule (CSV)")
        try:
            rows = list(csv.DictReader(io.StringIO(text)))
        except csv.Error as error:
            raise PolicyError(f"{path}: no CSV ({error}); give a requests.csv of npuloop serve") from None
        self.choices: list[tuple[str, tuple[str, ...]]] = []
        order = []
        for line, row in enumerate(rows, 2):
            try:
                version, units, start = row["version"], row["units"], row["start_cycle"]
            except KeyError as error:
                raise PolicyError(
                    f"{path}: no column {error}; give a requests.csv of npuloop serve"
                ) from None
            self.choices.append((version, tuple((units or "").split("+"))))
            try:
                order += [(float(start), line - 2)] if start else []
            except ValueError:
                raise PolicyError(f"{path}, line {line}: start_cycle is {start!r}; write a cycle") from None
        if not order:
            raise PolicyError(f"{path}: no request has a start; give a requests.csv of npuloop serve")
        self._left = [number for _, number in sorted(order)]

    def __call__(self, now: float, waiting: Sequence[Waiting], units: Mapping[str, UnitState]) -> list[Start]:
        """Return the starts that come next on their units.

        Raises:
            PolicyError: a request or an option that does not exist.
        """
        del now
        here = {request.number: request for request in waiting}
        held: set[str] = set()  # units whose next request has not arrived
        starts = [Start(request.number, request.options[0]) for request in waiting if request.begun]
        for request in waiting:
            if request.number >= len(self.choices):
                raise PolicyError(
                    f"{self.path}: has {len(self.choices)} requests, and number {request.number} arrives; "
                    "give the workload and the seed that it was made with"
                )
        for number in list(self._left):
            wanted = self.choices[number][1]
            if number in here and not held & set(wanted):
                starts.append(Start(number, self._option(here[number])))
                self._left.remove(number)
            else:
                held |= set(wanted)
            if held >= set(units):
                break
        return starts

    def _option(self, request: Waiting) -> Option:
        version, units = self.choices[request.number]
        for option in request.options:
            if (option.version.name, option.units) == (version, units):
                return option
        known = ", ".join(option.name for option in request.options)
        raise PolicyError(
            f"{self.path}: request {request.number} ({request.stream}) cannot run {version} on "
            f"{'+'.join(units)}; there are {known}"
        )


# ---------------------------------------------------------------------------------------------------- by name
def policy_names(text: str) -> list[str]:
    """Return the policies that a command line names: with commas between them, or all that are shipped.

    Raises:
        PolicyError: a name that is empty, or stands twice.
    """
    names = list(NAMES) if text == EVERY else [name.strip() for name in text.split(",")]
    for name in names:
        if not name or names.count(name) > 1:
            raise PolicyError(f"policies {text!r}: {name!r} is empty or stands twice; name each policy once")
    return names


def load_policy(spec: str) -> Policy:
    """Return the policy that a specification names.

    Args:
        spec: one of NAMES; `fixed:FILE`; `package.module:function`, where the current directory is
            importable; or a name that an installed package registers in `ENTRY_POINTS`.

    Raises:
        PolicyError: there is none, or it cannot be loaded; and by the policy, whatever a user's raises.
    """
    if spec in SHIPPED:
        return SHIPPED[spec]
    if spec in LEARNING:
        return LEARNING[spec]()
    if spec.startswith(FIXED):
        return FixedSchedule(Path(spec.removeprefix(FIXED)))
    if is_function(spec):
        return user_function(spec, PolicyError)
    return registered(spec, ENTRY_POINTS, "policy", _remedy, PolicyError)


def _remedy(names: Iterable[str]) -> str:
    return f"one of {', '.join(dict.fromkeys((*NAMES, *names)))}, fixed:FILE, or package.module:function"
