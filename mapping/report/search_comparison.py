# SPDX-License-Identifier: Apache-2.0
"""What search gains beside baselines: means over seeds with intervals, the Pareto front, verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.special import ndtri, stdtrit

from mapping.report.search_plots import SEARCHED
from mapping.report.search_study import Reader, StudyPoint, read_point

Cost = Literal["cycles", "energy"]
"""By what points are compared, beside accuracy: measured cycles, or energy in pJ."""
CONFIDENCE = 0.95
TOLERANCE = 1e-9
"""Relative difference that is only rounding: means of equal numbers in another order."""


@dataclass(frozen=True)
class Entry:
    """The points of one kind and setting.

    Attributes:
        kind: "searched", or the baseline's name.
        setting: such as the share of the reference's cycles; empty where there is none.
        cycles: mean of the measured cycles.
        energy: mean energy, pJ; None where a point has none.
        accuracy: mean on the test images, percent.
        low, high: 95 % confidence interval of the accuracy, percent, within 0 to 100.
        spread: what the interval is about: "seeds", of the mean over seeds (Student's t), or "images", of one
            network on that many test images (Wilson).
        seeds, names: of the points, in their order.
    """

    kind: str
    setting: str
    cycles: float
    energy: float | None
    accuracy: float
    low: float
    high: float
    spread: Literal["seeds", "images"]
    seeds: tuple[int, ...]
    names: tuple[str, ...]

    def cost(self, by: Cost) -> float:
        """Return the mean cycles or pJ; infinite where it is not known."""
        if by == "cycles":
            return self.cycles
        return math.inf if self.energy is None else self.energy


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of a mean, from two normally distributed values or more."""
    count = len(values)
    mean = math.fsum(values) / count
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(count)
    return mean - half, mean + half


def wilson_interval(accuracy: float, images: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share (E. B. Wilson, JASA 1927).

    Args:
        accuracy: percent of the images that are right.
        images: their number; 0: not known, so the interval is 0 to 100.

    Returns:
        The ends, percent.
    """
    if images == 0:
        return 0.0, 100.0
    share, square = accuracy / 100, float(ndtri((1 + CONFIDENCE) / 2)) ** 2
    middle = share * images + square / 2
    half = math.sqrt(square * (share * (1 - share) * images + square / 4))
    low, high = ((middle + sign * half) / (images + square) for sign in (-1, 1))
    return 100 * max(low, 0.0), 100 * min(high, 1.0)


def aggregate(points: Sequence[Mapping[str, Any]], test_images: int = 0) -> list[Entry]:
    """Return an entry for each kind and setting, in the order of their first points.

    Args:
        points: as in study.json.
        test_images: that accuracies are of; 0: not known. They give the interval where there is one seed, and
            where all seeds have equal accuracies: those say nothing about how far others may be off.

    Raises:
        StudyError: a point lacks something.
    """
    return entries_of(
        [read_point(Reader(item, f"point {i}")) for i, item in enumerate(points, 1)], test_images
    )


def entries_of(points: Sequence[StudyPoint], test_images: int) -> list[Entry]:
    """Return an entry for each kind and setting; see `aggregate`."""
    groups: dict[tuple[str, str], list[StudyPoint]] = {}
    for point in points:
        groups.setdefault((point.kind, point.setting), []).append(point)
    return [_entry(group, test_images) for group in groups.values()]


def _entry(points: Sequence[StudyPoint], test_images: int) -> Entry:
    accuracies = [point.accuracy for point in points]
    accuracy = math.fsum(accuracies) / len(points)
    energies = [point.energy for point in points if point.energy is not None]
    varied = max(accuracies) > min(accuracies)
    low, high = student_interval(accuracies) if varied else wilson_interval(accuracy, test_images)
    return Entry(
        kind=points[0].kind,
        setting=points[0].setting,
        cycles=math.fsum(point.measured for point in points) / len(points),
        energy=math.fsum(energies) / len(points) if len(energies) == len(points) else None,
        accuracy=accuracy,
        low=max(low, 0.0),
        high=min(high, 100.0),
        spread="seeds" if varied else "images",
        seeds=tuple(point.seed for point in points),
        names=tuple(point.name for point in points),
    )


def at_most(value: float, limit: float) -> bool:
    """Return whether a mean is no more than a limit, but for rounding."""
    return value <= limit or math.isclose(value, limit, rel_tol=TOLERANCE)


def _no_worse(one: Entry, other: Entry, by: Cost) -> bool:
    return at_most(one.cost(by), other.cost(by)) and at_most(other.accuracy, one.accuracy)


def pareto_front(
    points: Sequence[Mapping[str, Any]], test_images: int = 0, by: Cost = "cycles"
) -> list[Entry]:
    """Return the Pareto front: the searched entries that no other one beats, by rising cost.

    An entry beats another if it costs no more and is no less accurate, and not the same in both.

    Args:
        points: as in study.json; those of baselines do not count.
        test_images: as of `aggregate`.
        by: what counts as cost.

    Raises:
        StudyError: a point lacks something.
    """
    return pareto_entries(aggregate(points, test_images), by)


def pareto_entries(entries: Sequence[Entry], by: Cost) -> list[Entry]:
    """Return the Pareto front of entries; see `pareto_front`."""
    searched = [entry for entry in entries if entry.kind == SEARCHED and entry.cost(by) < math.inf]

    def beaten(entry: Entry) -> bool:
        return any(_no_worse(other, entry, by) and not _no_worse(entry, other, by) for other in searched)

    return sorted((entry for entry in searched if not beaten(entry)), key=lambda entry: entry.cost(by))


@dataclass(frozen=True)
class Verdict:
    """What search does against a baseline.

    Attributes:
        baseline: the baseline's entry.
        rival: the most accurate searched entry that costs no more; where none is as cheap, the cheapest one.
        as_cheap: whether the rival costs no more.
        points: the rival's accuracy less the baseline's, percentage points.
        cost_percent: the rival's cost beside the baseline's, percent more.
        saving_percent: how much less the cheapest searched entry costs that is no less accurate, percent;
            negative if it costs more, None where none is as accurate.
        apart: whether the two intervals of accuracy have no value in common.
    """

    baseline: Entry
    rival: Entry
    as_cheap: bool
    points: float
    cost_percent: float
    saving_percent: float | None
    apart: bool

    @property
    def nowhere_below(self) -> bool:
        """Whether a searched entry costs no more and is no less accurate, in the mean."""
        return self.as_cheap and at_most(self.baseline.accuracy, self.rival.accuracy)

    @property
    def strictly_above(self) -> bool:
        """Whether that entry is more accurate and the intervals are apart."""
        return self.nowhere_below and self.apart

    @property
    def result(self) -> Literal["wins", "ties", "loses", "out of reach"]:
        """What to call it.

        "wins": strictly above; "ties": nowhere below, but the intervals overlap; "out of reach": nothing
        searched is as cheap, but the cheapest is more accurate; else "loses".
        """
        if self.nowhere_below:
            return "wins" if self.apart else "ties"
        better = not at_most(self.rival.accuracy, self.baseline.accuracy)
        return "out of reach" if better and not self.as_cheap else "loses"


def verdicts(entries: Sequence[Entry], by: Cost = "cycles") -> list[Verdict]:
    """Return what search does against each baseline, in the order of the entries.

    If nothing was searched, there are none.

    Args:
        entries: all of a study, from `aggregate`.
        by: what counts as cost; entries without it are left out.
    """
    known = [entry for entry in entries if entry.cost(by) < math.inf]
    searched = [entry for entry in known if entry.kind == SEARCHED]
    return [_verdict(entry, searched, by) for entry in known if entry.kind != SEARCHED and searched]


def _verdict(baseline: Entry, searched: Sequence[Entry], by: Cost) -> Verdict:
    cost = baseline.cost(by)
    cheap = [entry for entry in searched if at_most(entry.cost(by), cost)]
    if cheap:
        rival = max(cheap, key=lambda entry: (entry.accuracy, -entry.cost(by)))
    else:
        rival = min(searched, key=lambda entry: (entry.cost(by), -entry.accuracy))
    accurate = [entry.cost(by) for entry in searched if at_most(baseline.accuracy, entry.accuracy)]
    return Verdict(
        baseline=baseline,
        rival=rival,
        as_cheap=bool(cheap),
        points=rival.accuracy - baseline.accuracy,
        cost_percent=100 * (rival.cost(by) / cost - 1) if cost else 0.0,
        saving_percent=100 * (1 - min(accurate) / cost) if accurate and cost else None,
        apart=rival.low > baseline.high or baseline.low > rival.high,
    )
