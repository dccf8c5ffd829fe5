# SPDX-License-Identifier: Apache-2.0
"""The fit: coefficients from measurements, their confidence, and the spread of predictions.

Cycles are a sum of phases on the critical path, so they are linear in the coefficients as long as the path
stays the same. The fit takes the paths of the present coefficients, solves the bounded linear least squares
of relative errors, and repeats. Weights and widths of the prior: errors count by their size, not its square,
and a coefficient that the measurements say nothing about stays where the drawings of the pipeline put it.
What a calibration keeps are whole numbers, as a synchronous circuit takes whole cycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import lsq_linear, minimize
from scipy.stats import kendalltau

from common.arrays import Floats
from hw.system import System
from mapping.compiler.schedule import Entry
from mapping.cost.coefficients import NAMES, starting_point
from mapping.cost.execution import Works
from mapping.cost.model import SHARED, shape_program, waiting_cycles
from mapping.cost.shapes import Shape
from mapping.cost.tables import Errors, Spread
from mapping.cost.timing import time_lists

ROUNDS = 12
"""Most linearisations of a fit."""
SETTLED, STILL = 1e-4, 2e-6
"""Relative change of the predictions at which a fit has settled: the largest, or the mean."""
HUBER = 0.004
"""Relative error beyond which an error counts linearly (Huber, 1964)."""
FINE = 0.0001
"""The same at the end of a fit.

Most layers are predicted to the cycle by whole numbers. Squares would give that up to be less wrong about the
few that wait for each other in ways that the model does not follow.
"""
NEARLY_WHOLE = 0.1
"""A coefficient that is so close to a whole number is that number."""
AS_GOOD = 1.25
"""Whole numbers are kept if their mean error is at most so many times that of the fit."""
PRIOR_ERROR, PRIOR_WIDTH, PRIOR_FLOOR, PRIOR_ROUNDS = 0.005, 0.25, 0.25, 4
"""The prior: a coefficient lies within 25 % (and 0.25 cycles) of its start, as sure as an error of 0.5 %.

It has long tails (Student's t): where the measurements insist, as on changed hardware, it lets go.
"""
FOLDS = 10
RESAMPLES = 200
COVERAGE = 0.90


@dataclass(frozen=True, eq=False)
class TimedLists:
    """Command lists on a system, and the cycles that they took; 0 while nobody has measured them."""

    lists: Mapping[str, Sequence[Entry]]
    system: System
    cycles: int


@dataclass(frozen=True, eq=False)
class Point(TimedLists):
    """A shape with its command lists."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class Paths:
    """The critical paths of some points with some coefficients.

    Attributes:
        coefficients: (len(NAMES),) what they are predicted with.
        cycles: (N,) predicted.
        counts: (N, len(NAMES)) counts on the critical paths, of all units together.
        waiting: (N,) cycles of waiting for a bank or for another unit.
        fixed: (N,) cycles of coefficients that are not fitted.
    """

    coefficients: Floats
    cycles: Floats
    counts: Floats
    waiting: Floats
    fixed: Floats


@dataclass(frozen=True, eq=False)
class Fit:
    """A fit.

    Attributes:
        coefficients: (len(NAMES),) cycles; those that are not fitted have their starting values.
        confidence: (len(NAMES), 2) 95 % interval of each, NaN where it is not fitted.
        paths: predictions of the fit set.
        spread: of predictions.
    """

    coefficients: Floats
    confidence: Floats
    paths: Paths
    spread: Spread


def point_of(shape: Shape, unit: str | None, config: System, cycles: int = 0) -> Point:
    """Return a shape with its command lists; `unit` as in `units_of`."""
    return Point(shape_program(shape, unit, config).lists, config, cycles, shape)


class Fitter:
    """Fits the coefficients of a unit, those that matter where units run together, or all of a family.

    Args:
        units: coefficients of each unit if those of units together are fitted; otherwise None.
        family: whether all are fitted, from units alone and together.
    """

    def __init__(self, units: Mapping[str, Floats] | None = None, *, family: bool = False) -> None:
        self.units = units
        self.free = list(SHARED) if units else [i for i in range(len(NAMES)) if family or i not in SHARED]
        self.works: dict[int, Works] = {}

    def values_of(self, point: TimedLists, coefficients: Floats) -> dict[str, Floats]:
        """Return the coefficients of each unit that a point needs."""
        if self.units is None:
            return dict.fromkeys(point.lists, coefficients)
        values = {unit: self.units[unit].copy() for unit in point.lists}
        for unit_values in values.values():
            unit_values[self.free] = coefficients[self.free]
        return values

    def paths(self, points: Sequence[TimedLists], coefficients: Floats) -> Paths:
        """Return the predictions of points, or of other command lists."""
        cycles, counts, waiting, fixed = [], [], [], []
        for point in points:
            values = self.values_of(point, coefficients)
            port = point.system.axi_bits // 8
            works = self.works.setdefault(port, Works(port))
            timing = time_lists(point.lists, point.system.cores, values, port, works)
            total = np.sum(list(timing.counts.values()), axis=0)
            fitted = np.zeros(len(NAMES))
            fitted[self.free] = total[self.free]
            cycles.append(timing.cycles)
            counts.append(fitted)
            waiting.append(waiting_cycles(timing.counts, values))
            fixed.append(timing.cycles - float(fitted @ coefficients))
        return Paths(
            coefficients=coefficients,
            cycles=np.array(cycles),
            counts=np.array(counts).reshape(-1, len(NAMES)),
            waiting=np.array(waiting),
            fixed=np.array(fixed),
        )

    def fit(self, points: Sequence[Point], start: Floats | None = None) -> Fit:
        """Return the fit of some points, from the given coefficients on."""
        measured = np.array([point.cycles for point in points], float)
        coefficients = starting_point() if start is None else start.copy()
        paths = self.paths(points, coefficients)
        for bend in (HUBER, FINE):
            for _ in range(ROUNDS):
                better = self.solve(paths, measured, bend=bend)
                after = self.paths(points, better)
                changes = np.abs(after.cycles / paths.cycles - 1)
                coefficients, paths = better, after
                if changes.max() < SETTLED or changes.mean() < STILL:
                    break
        return Fit(
            coefficients=coefficients,
            confidence=self.confidence(paths, measured, coefficients, FINE),
            paths=paths,
            spread=self.spread(paths, measured),
        )

    def whole(self, points: Sequence[Point], fitted: Fit) -> Fit:
        """Return a fit whose coefficients are the whole numbers beside the fitted ones, if it is as good.

        Of those that are not close to one, that side is taken with which the mean relative error is smaller.
        """
        measured = np.array([point.cycles for point in points], float)
        nearest = np.round(fitted.coefficients)
        unsure = np.flatnonzero(np.abs(fitted.coefficients - nearest) > NEARLY_WHOLE)
        best = self.paths(points, nearest)
        for place in unsure:
            other = best.coefficients.copy()
            other[place] += np.sign(fitted.coefficients[place] - nearest[place])
            paths = self.paths(points, other)
            if _mean_error(paths, measured) < _mean_error(best, measured):
                best = paths
        if _mean_error(best, measured) > AS_GOOD * _mean_error(fitted.paths, measured):
            return fitted
        spread = spread_of(best.cycles - measured, measured, best.waiting)
        return replace(fitted, coefficients=best.coefficients, paths=best, spread=spread)

    def solve(
        self, paths: Paths, measured: Floats, weights: Floats | None = None, bend: float = HUBER
    ) -> Floats:
        """Return the coefficients that fit best on given paths.

        Args:
            paths: predictions of the points.
            measured: (N,) cycles.
            weights: (N,) how often each point counts.
            bend: relative error beyond which an error counts linearly.
        """
        start = starting_point()
        prior = PRIOR_ERROR / (PRIOR_WIDTH * start[self.free] + PRIOR_FLOOR)
        rows = paths.counts[:, self.free] / measured[:, None]
        target = (measured - paths.fixed) / measured
        error = np.abs(paths.cycles / measured - 1)
        weight = np.sqrt(1.0 / np.maximum(1.0, error / bend))
        if weights is not None:
            weight = weight * np.sqrt(weights)
        coefficients: Floats = paths.coefficients.copy()
        for _ in range(PRIOR_ROUNDS):
            away = prior * (coefficients - start)[self.free] / PRIOR_ERROR
            held = prior / np.sqrt(1.0 + away**2)
            solution = lsq_linear(
                np.concatenate([rows * weight[:, None], np.diag(held)]),
                np.concatenate([target * weight, held * start[self.free]]),
                bounds=(0.0, np.inf),
            )
            coefficients[self.free] = solution.x
        return coefficients

    def resampled(
        self, paths: Paths, measured: Floats, count: int = RESAMPLES, bend: float = HUBER
    ) -> Floats:
        """Return (count, len(NAMES)) coefficients, each fitted to a bootstrap sample of the points."""
        rng = np.random.default_rng(0)
        sizes = np.full(len(measured), 1 / len(measured))
        draws = rng.multinomial(len(measured), sizes, count).astype(float)
        coefficients: Floats = np.stack([self.solve(paths, measured, draw, bend) for draw in draws])
        return coefficients

    def confidence(self, paths: Paths, measured: Floats, coefficients: Floats, bend: float = HUBER) -> Floats:
        """Return the 95 % interval of each coefficient: percentiles of the bootstrap, and itself."""
        ends = np.percentile(self.resampled(paths, measured, bend=bend), [2.5, 97.5], axis=0).T
        ends = np.stack([np.minimum(ends[:, 0], coefficients), np.maximum(ends[:, 1], coefficients)], axis=1)
        fitted = np.full((len(NAMES), 2), np.nan)
        fitted[self.free] = ends[self.free]
        return fitted

    def spread(self, paths: Paths, measured: Floats) -> Spread:
        """Return the spread of predictions, from cross-validated errors."""
        count = len(measured)
        fold = np.random.default_rng(0).permutation(count) % min(FOLDS, count)
        error = np.zeros(count)
        for number in range(fold.max() + 1):
            coefficients = self.solve(paths, measured, (fold != number).astype(float))
            left_out = fold == number
            error[left_out] = (paths.counts @ coefficients + paths.fixed - measured)[left_out]
        return spread_of(error, measured, paths.waiting)


def spread_of(error: Floats, measured: Floats, waiting: Floats) -> Spread:
    """Return the spread of predictions: errors, scaled to their 90 % quantile.

    Errors are taken as normal with three independent parts (maximum likelihood); the quantile of the
    errors over their expected size (conformal prediction, Vovk et al. 2005) then sets the scale.

    Args:
        error, measured, waiting: (N,) cycles.
    """
    count = len(measured)

    def sizes(logs: Floats) -> Floats:
        absolute, relative, of_waiting = np.exp(logs)
        parts = np.stack([np.full(count, absolute), relative * measured, of_waiting * waiting])
        size: Floats = np.sqrt((parts**2).sum(axis=0))
        return size

    def unlikely(logs: Floats) -> float:
        size = sizes(logs)
        return float((np.log(size) + np.log1p(0.5 * (error / size) ** 2)).sum())

    logs = minimize(unlikely, np.log([1.0, 1e-3, 0.3]), bounds=[(-3, 3), (-9, -3), (-6, 1)]).x
    place = min(1.0, COVERAGE * (count + 1) / count)
    scale = float(np.quantile(np.abs(error) / sizes(logs), place))
    absolute, relative, of_waiting = np.exp(logs) * scale
    return Spread(float(absolute), float(relative), float(of_waiting))


def _mean_error(paths: Paths, measured: Floats) -> float:
    return float(np.abs(paths.cycles / measured - 1).mean())


def errors_of(points: Sequence[TimedLists], paths: Paths, spread: Spread) -> Errors:
    """Return how far predictions are from measurements."""
    measured = np.array([point.cycles for point in points], float)
    error = 100 * (paths.cycles / measured - 1)
    halves = [
        spread.half(cycles, waiting) for cycles, waiting in zip(paths.cycles, paths.waiting, strict=True)
    ]
    inside = np.abs(paths.cycles - measured) <= np.array(halves)
    return Errors(
        points=len(points),
        mape_percent=float(np.abs(error).mean()),
        p95_percent=float(np.percentile(np.abs(error), 95)),
        max_percent=float(np.abs(error).max()),
        bias_percent=float(error.mean()),
        kendall_tau=float(kendalltau(paths.cycles, measured).statistic) if len(points) > 1 else 1.0,
        coverage_percent=float(100 * inside.mean()),
    )
