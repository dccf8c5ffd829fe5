# SPDX-License-Identifier: Apache-2.0
"""Points in time that know what they waited for: the critical path leads from any of them back to a start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from common.arrays import Floats

Term = tuple[int, float]
"""Place of a coefficient in NAMES, and how often it counts."""


class PathSegment(NamedTuple):
    """A phase on the critical path: `number` times a unit's coefficient `term`."""

    unit: str
    term: int
    number: float
    begin: float
    end: float


class Point(float):
    """A point in time, in cycles, some phases of a unit after another point.

    A path begins at a plain number: the start of everything, or the arrival of a request.
    """

    __slots__ = ("before", "terms", "unit")
    before: float
    unit: str
    terms: tuple[Term, ...]


class Timeline:
    """Makes points in time: each is the latest of some points before it, and then some phases of a unit.

    Args:
        coefficients: for each unit (len(NAMES),) cycles.
        recording: points know their path. Without it they are plain numbers, and a run of any length takes no
            memory.
    """

    def __init__(self, coefficients: Mapping[str, Floats], *, recording: bool = True) -> None:
        self.values: dict[str, list[float]] = {unit: list(v.tolist()) for unit, v in coefficients.items()}
        self.recording = recording

    def after(self, unit: str, points: Sequence[float], *terms: Term) -> float:
        """Return the point some phases after the latest of some points."""
        latest = points[0] if len(points) == 1 else max(points)
        values = self.values[unit]
        time = float(latest)
        for term, count in terms:
            time += values[term] * count
        return self.point(time, unit, latest, terms) if self.recording else time

    def point(self, time: float, unit: str, before: float, terms: tuple[Term, ...]) -> Point:
        """Return a point that is some phases of a unit after another one."""
        point = Point(time)
        point.before, point.unit, point.terms = before, unit, terms
        return point

    def path(self, point: float) -> tuple[PathSegment, ...]:
        """Return the path that ends at a point: what it was waiting for, from the start on."""
        segments: list[PathSegment] = []
        while isinstance(point, Point):
            end = float(point)
            for term, count in reversed(point.terms):
                begin = end - self.values[point.unit][term] * count
                segments.append(PathSegment(point.unit, term, count, begin, end))
                end = begin
            point = point.before
        return tuple(reversed(segments))
