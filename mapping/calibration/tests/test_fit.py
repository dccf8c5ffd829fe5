# SPDX-License-Identifier: Apache-2.0
"""The fit: finds the coefficients that made the cycles, how sure it is, and how far predictions spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from common.arrays import Floats, Int64
from hw.system import System
from mapping.calibration.design import random_shapes
from mapping.calibration.fit import Fit, Fitter, Paths, Point, errors_of, point_of
from mapping.cost.coefficients import NAMES, TERM, starting_point
from mapping.cost.model import SHARED, WAITING, shape_program, waiting_cycles
from mapping.cost.shapes import Shape
from mapping.cost.tables import Spread
from mapping.cost.timing import time_lists

CONFIG = System()
FREE = [place for place in range(len(NAMES)) if place not in SHARED]
UNITS = {core.name: starting_point() * factor for core, factor in zip(CONFIG.cores, (0.9, 1.2), strict=True)}
"""Coefficients of two units whose pair is fitted."""


def quick_shapes(units: Sequence[str], count: int, seed: int) -> list[Shape]:
    """Random shapes that are quick to time."""
    shapes = random_shapes(CONFIG, units, 2 * count, seed, set(), f"s{seed}")
    return [s for s in shapes if shape_program(s, units[0], CONFIG).estimate < 20_000][:count]


def true_coefficients(seed: int = 1) -> Floats:
    rng = np.random.default_rng(seed)
    return starting_point() * rng.uniform(0.7, 1.3, len(NAMES))


def points_of(fitter: Fitter, units: Sequence[str], count: int, seed: int, truth: Floats) -> list[Point]:
    """Points that take what the true coefficients say, in whole cycles."""
    blank = [point_of(shape, units[0], CONFIG) for shape in quick_shapes(units, count, seed)]
    cycles = fitter.paths(blank, truth).cycles
    return [replace(point, cycles=round(value)) for point, value in zip(blank, cycles, strict=True)]


def measured(points: list[Point]) -> Floats:
    return np.array([point.cycles for point in points], float)


def mape(fitter: Fitter, points: list[Point], coefficients: Floats) -> float:
    return float(100 * np.abs(fitter.paths(points, coefficients).cycles / measured(points) - 1).mean())


@pytest.fixture(scope="module")
def fitter() -> Fitter:
    return Fitter()


@pytest.fixture(scope="module")
def points(fitter: Fitter) -> list[Point]:
    return points_of(fitter, ("npu8",), 45, 41, true_coefficients())


@pytest.fixture(scope="module")
def held_out(fitter: Fitter) -> list[Point]:
    return points_of(fitter, ("npu8",), 20, 42, true_coefficients())


@pytest.fixture(scope="module")
def fitted(fitter: Fitter, points: list[Point]) -> Fit:
    return fitter.fit(points)


# -------------------------------------------------------------------------------------------- from real lists
def test_the_coefficients_that_made_the_cycles_are_found(
    fitter: Fitter, held_out: list[Point], fitted: Fit
) -> None:
    assert mape(fitter, held_out, starting_point()) > 1
    assert mape(fitter, held_out, fitted.coefficients) < 0.15
    ratios = fitted.coefficients / true_coefficients()
    for name in ("array_cycles", "load_word_cycles", "store_word_cycles", "drain_cycles"):
        assert ratios[TERM[name]] == pytest.approx(1, abs=0.02), name


def test_predictions_of_the_fit_set_are_those_of_the_command_lists(points: list[Point], fitted: Fit) -> None:
    for place in range(0, len(points), 7):
        values = dict.fromkeys(points[place].lists, fitted.coefficients)
        timing = time_lists(points[place].lists, CONFIG.cores, values)
        assert fitted.paths.cycles[place] == timing.cycles
        assert fitted.paths.waiting[place] == waiting_cycles(timing.counts, values)


def test_what_is_not_fitted_stays_at_its_start(fitted: Fit) -> None:
    assert (fitted.coefficients[list(SHARED)] == starting_point()[list(SHARED)]).all()
    assert np.isnan(fitted.confidence[list(SHARED)]).all()
    assert (fitted.coefficients >= 0).all()


def test_confidence_intervals_hold_the_coefficient_and_mostly_the_truth(fitted: Fit) -> None:
    low, high = fitted.confidence[FREE].T
    fitted_values = fitted.coefficients[FREE]
    assert ((low <= fitted_values) & (fitted_values <= high)).all()
    assert (low >= 0).all()
    sure = ["array_cycles", "load_word_cycles", "store_word_cycles"]
    widths = {name: np.diff(fitted.confidence[TERM[name]]) / fitted.coefficients[TERM[name]] for name in sure}
    assert max(widths.values()) < 0.02  # many beats, many words: known best


def test_a_few_wrong_points_do_not_matter(fitter: Fitter, points: list[Point], held_out: list[Point]) -> None:
    """One in 15 twice as long as it was."""
    wrong = list(points)
    for place in range(5, len(points), 15):
        wrong[place] = replace(points[place], cycles=2 * points[place].cycles)
    assert sum(a.cycles != b.cycles for a, b in zip(points, wrong, strict=True)) == 3
    assert mape(fitter, held_out, fitter.fit(wrong).coefficients) < 0.3


def test_equal_points_give_an_equal_fit(fitter: Fitter, points: list[Point], fitted: Fit) -> None:
    again = Fitter().fit(list(points))
    assert again.coefficients.tolist() == fitted.coefficients.tolist()
    np.testing.assert_array_equal(again.confidence, fitted.confidence)
    assert again.spread == fitted.spread


def test_without_anything_to_learn_from_the_start_stays(fitter: Fitter, points: list[Point]) -> None:
    """One point moves little; what it does not count stays exactly."""
    fit = fitter.fit(points[:1])
    unseen = [place for place in FREE if fit.paths.counts[0, place] == 0]
    assert unseen
    np.testing.assert_allclose(fit.coefficients[unseen], starting_point()[unseen], rtol=1e-6)


def test_the_fit_of_a_pair_changes_what_both_share_and_nothing_else() -> None:
    pair = Fitter(UNITS)
    truth = starting_point()
    truth[TERM["stagger_cycles"]] = 400.0  # so long that the second unit ends last
    points = points_of(pair, CONFIG.units, 25, 43, truth)
    start = starting_point()
    start[TERM["stagger_cycles"]] = 500.0
    fit = pair.fit(points, start)
    others = [place for place in range(len(NAMES)) if place not in SHARED]
    assert (fit.coefficients[others] == starting_point()[others]).all()
    assert fit.coefficients[TERM["stagger_cycles"]] == pytest.approx(400.0, abs=25)
    assert mape(pair, points, fit.coefficients) < 0.3 * mape(pair, points, start)
    for unit, values in pair.values_of(points[0], fit.coefficients).items():
        assert (values[others] == UNITS[unit][others]).all()
        assert (values[list(SHARED)] == fit.coefficients[list(SHARED)]).all()
        assert (UNITS[unit] == starting_point() * (0.9 if unit == "npu8" else 1.2)).all()  # and not these
    np.testing.assert_allclose(fit.paths.fixed + fit.paths.counts @ fit.coefficients, fit.paths.cycles)
    assert (fit.paths.counts[:, others] == 0).all()
    assert np.isfinite(fit.confidence[list(SHARED)]).all()
    assert np.isnan(fit.confidence[others]).all()


# ---------------------------------------------------------------------------------------- from made-up chains
def made_up(count: int, seed: int, truth: Floats, noise: tuple[float, float, float]) -> tuple[Paths, Floats]:
    """Paths with random counts, and cycles with normal noise: absolute, relative, and of waiting."""
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(1.5, 4.5, (count, 1))
    counts = np.zeros((count, len(NAMES)))
    counts[:, FREE] = scale * rng.uniform(0, 1, (count, len(FREE))) / starting_point()[FREE] / len(FREE)
    cycles = counts @ truth
    waiting = (counts[:, list(WAITING)] * truth[list(WAITING)]).sum(axis=1)
    absolute, relative, share = noise
    size = np.sqrt(absolute**2 + (relative * cycles) ** 2 + (share * waiting) ** 2)
    chains = Paths(truth, cycles, counts, waiting, fixed=np.zeros(count))
    return chains, cycles + size * rng.standard_normal(count)


def picked(chains: Paths, places: Int64) -> Paths:
    parts = {name: getattr(chains, name)[places] for name in ("cycles", "counts", "waiting", "fixed")}
    return replace(chains, **parts)


@pytest.mark.parametrize("noise", [(3.0, 0.0, 0.0), (0.3, 0.01, 0.0), (2.0, 0.002, 0.5)], ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_90_percent_intervals_hold_90_percent_of_what_the_fit_has_not_seen(
    noise: tuple[float, float, float], seed: int, fitter: Fitter
) -> None:
    truth = true_coefficients()
    chains, cycles = made_up(300, seed, truth, noise)
    spread = fitter.spread(chains, cycles)
    coefficients = fitter.solve(chains, cycles)
    new, new_cycles = made_up(2000, 100 + seed, truth, noise)
    predicted = new.counts @ coefficients
    halves = [spread.half(*pair) for pair in zip(predicted, new.waiting, strict=True)]
    inside = 100 * float((np.abs(predicted - new_cycles) <= halves).mean())
    assert 84 <= inside <= 95
    for small in (predicted < 1000, predicted >= 1000):  # not too wide for some, too narrow for others
        part = 100 * float((np.abs(predicted - new_cycles) <= halves)[small].mean())
        assert 78 <= part <= 99


def test_confidence_intervals_hold_the_true_coefficient_in_most_cases(fitter: Fitter) -> None:
    held = 0
    for seed in range(4):
        truth = true_coefficients(seed)
        chains, cycles = made_up(300, seed, truth, (0.0, 0.002, 0.0))
        ends = fitter.confidence(chains, cycles, fitter.solve(chains, cycles))[FREE]
        held += int(((ends[:, 0] <= truth[FREE]) & (truth[FREE] <= ends[:, 1])).sum())
        assert (ends[:, 1] > ends[:, 0]).all()
    assert held > 0.8 * 4 * len(FREE)


def test_weights_of_points_are_how_often_they_count(fitter: Fitter) -> None:
    chains, cycles = made_up(40, 3, true_coefficients(), (0.0, 0.01, 0.0))
    twice = np.repeat(np.arange(40), [2] * 20 + [0] * 20)
    again = picked(chains, twice)
    weights = np.array([2.0] * 20 + [0.0] * 20)
    np.testing.assert_allclose(
        fitter.solve(chains, cycles, weights), fitter.solve(again, cycles[twice]), rtol=1e-4
    )


def test_no_coefficient_becomes_negative(fitter: Fitter) -> None:
    truth = true_coefficients()
    chains, cycles = made_up(100, 4, truth, (0.0, 0.0, 0.0))
    place = TERM["add_cycles"]
    less = cycles - 2 * chains.counts[:, place] * truth[place]  # as if it gave cycles back
    kept = less > 0
    solution = fitter.solve(picked(chains, np.flatnonzero(kept)), less[kept])
    assert (solution >= 0).all()
    assert solution[place] < 0.05 * truth[place]


# ----------------------------------------------------------------------------------------------------- errors
def test_errors_are_those_counted_by_hand() -> None:
    shape = Shape("s", "add", 16, 16, 4, 4)
    points = [Point({}, CONFIG, cycles, shape) for cycles in (100, 200, 400, 1000)]
    predicted = np.array([101.0, 196.0, 400.0, 1050.0])  # 1, -2, 0, 5 %
    waiting = np.array([0.0, 0.0, 0.0, 100.0])
    chains = Paths(starting_point(), predicted, np.zeros((4, len(NAMES))), waiting, predicted)
    errors = errors_of(points, chains, Spread(1.0, 0.0, 0.45))
    assert errors.points == 4
    assert errors.mape_percent == pytest.approx(2.0)
    assert errors.max_percent == pytest.approx(5.0)
    assert errors.bias_percent == pytest.approx(1.0)
    assert errors.p95_percent == pytest.approx(2 + 3 * 0.85)  # between the third and the fourth
    assert errors.kendall_tau == pytest.approx(1.0)
    assert errors.coverage_percent == 50.0  # 1 <= 1, 4 > 1, 0 <= 1, 50 > 45.01
    wider = errors_of(points, chains, Spread(1.0, 0.0, 0.5))
    assert wider.coverage_percent == 75.0
    swapped = replace(chains, cycles=np.array([101.0, 401.0, 400.0, 1050.0]))
    assert errors_of(points, swapped, Spread(0, 0, 0)).kendall_tau == pytest.approx(4 / 6)
    one = errors_of(points[:1], replace(chains, cycles=predicted[:1], waiting=waiting[:1]), Spread(1, 0, 0))
    assert (one.points, one.kendall_tau, one.coverage_percent) == (1, 1.0, 100.0)
    assert one.mape_percent == one.p95_percent == one.max_percent == pytest.approx(1.0)
