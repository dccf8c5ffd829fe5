# SPDX-License-Identifier: Apache-2.0
"""The comparison of searched mappings with baselines: entries, Pareto front, verdicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mapping.report.search_comparison import (
    Entry,
    aggregate,
    pareto_front,
    student_interval,
    verdicts,
    wilson_interval,
)
from mapping.report.testing import IMAGES, made_up_study, point, several, with_energy


# -------------------------------------------------------------------------------------------------- entries
@pytest.mark.parametrize("values", [[97.0, 98.0], [97.1, 97.3, 98.0], [90.0, 95.0, 93.0, 91.0, 99.0]])
def test_the_interval_over_seeds_is_students(values: list[float]) -> None:
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose(student_interval(values), expected, rtol=1e-12)


@pytest.mark.parametrize(("right", "images"), [(0, 10), (1, 10), (443, 450), (450, 450), (7200, 10000)])
def test_the_interval_of_one_network_is_wilsons(right: int, images: int) -> None:
    expected = stats.binomtest(right, images).proportion_ci(0.95, method="wilson")
    interval = wilson_interval(100 * right / images, images)
    np.testing.assert_allclose(interval, [100 * expected.low, 100 * expected.high], rtol=1e-9, atol=1e-9)


def test_an_entry_is_the_mean_of_its_seeds() -> None:
    (entry,) = aggregate(several("searched", "0.5", [1180, 1200, 1226], [97.0, 97.5, 98.6]), IMAGES)
    assert entry.accuracy == pytest.approx(97.7)
    low, high = student_interval([97.0, 97.5, 98.6])
    names = ("searched-0.5-s1", "searched-0.5-s2", "searched-0.5-s3")
    assert entry == Entry(
        "searched", "0.5", 1202.0, None, entry.accuracy, low, high, "seeds", (1, 2, 3), names
    )


def test_kinds_and_settings_are_kept_apart_in_the_order_of_the_points() -> None:
    entries = aggregate(made_up_study()["points"], IMAGES)
    groups = [(entry.kind, entry.setting) for entry in entries]
    assert groups == [
        ("npu8", ""), ("npu_lb", ""), ("first_last", ""), ("searched", "0.5"), ("searched", "2"),
        ("searched", "1.5"), ("random", "0.5"), ("cheapest", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("accuracies", [[96.0], [96.0, 96.0, 96.0]])
def test_one_seed_and_seeds_that_agree_get_the_interval_of_the_images(accuracies: list[float]) -> None:
    (entry,) = aggregate(several("npu8", "", [10.0] * len(accuracies), accuracies), IMAGES)
    assert entry.spread == "images"
    assert (entry.low, entry.high) == wilson_interval(96.0, IMAGES)
    assert entry.high - entry.low > 4


def test_without_images_one_seed_says_nothing() -> None:
    (entry,) = aggregate([point("npu8", "", 1, 10, 96.0)])
    assert (entry.low, entry.high) == (0.0, 100.0)


def test_an_interval_does_not_leave_what_accuracies_can_be() -> None:
    (entry,) = aggregate(several("npu8", "", [10, 10], [99.0, 100.0]), IMAGES)
    assert student_interval([99.0, 100.0])[1] > 100
    assert entry.high == 100.0


def test_energy_is_the_mean_or_nothing() -> None:
    first, second = several("npu8", "", [10, 10], [99.0, 98.0])
    assert aggregate([first | {"energy_pj": 4.0}, second | {"energy_pj": 7.0}])[0].energy == 5.5
    assert aggregate([first | {"energy_pj": 4.0}, second])[0].energy is None


# ---------------------------------------------------------------------------------------------------- front
def test_the_front_is_what_no_other_searched_setting_beats() -> None:
    points = made_up_study()["points"]
    assert [entry.setting for entry in pareto_front(points, IMAGES)] == [
        "2",
        "0.5",
    ]  # 1.5: dearer, less accurate
    equal = [point("searched", setting, 1, 10, 90) for setting in "ab"]
    assert [entry.setting for entry in pareto_front(equal)] == ["a", "b"]
    same_cost = [point("searched", "a", 1, 10, 90), point("searched", "b", 1, 10, 91)]
    assert [entry.setting for entry in pareto_front(same_cost)] == ["b"]
    same_accuracy = [point("searched", "a", 1, 10, 90), point("searched", "b", 1, 11, 90)]
    assert [entry.setting for entry in pareto_front(same_accuracy)] == ["a"]
    assert pareto_front([point("npu8", "", 1, 10, 90)]) == []


def test_the_front_by_energy_goes_by_energy() -> None:
    points = [
        point("searched", "a", 1, 10, 95, energy_pj=9.0),
        point("searched", "b", 1, 20, 94, energy_pj=3.0),
        point("searched", "c", 1, 5, 99),
    ]
    assert [entry.setting for entry in pareto_front(points, by="energy")] == ["b", "a"]
    assert [entry.setting for entry in pareto_front(points)] == ["c"]


# ------------------------------------------------------------------------------------------------- verdicts
def against(cycles: float, accuracy: float, searched: list[tuple[float, float]], images: int = 400) -> Any:
    """Return the verdict of searched (cycles, accuracy) against a baseline, all of one seed."""
    points = [point("searched", str(i), 1, *item) for i, item in enumerate(searched)]
    (verdict,) = verdicts(aggregate([*points, point("npu8", "", 1, cycles, accuracy)], images))
    return verdict


@pytest.mark.parametrize(
    ("searched", "result", "setting", "points", "saving"),
    [
        ([(90, 99.5)], "wins", "0", 9.5, 10.0),
        ([(100, 99.5), (80, 90.0)], "wins", "0", 9.5, 20.0),  # saves most where it is just as accurate
        ([(100, 90.0)], "ties", "0", 0.0, 0.0),
        ([(60, 90.5), (101, 99.9)], "ties", "0", 0.5, 40.0),
        ([(99, 89.5)], "loses", "0", -0.5, None),  # within the intervals, but below
        ([(99, 70.0), (99, 69.0)], "loses", "0", -20.0, None),
        ([(99, 70.0), (110, 95.0)], "loses", "0", -20.0, -10.0),
        ([(110, 90.0), (120, 99.0)], "loses", "0", 0.0, -10.0),  # dearer, and not more accurate
        ([(120, 99.0), (110, 90.5)], "out of reach", "1", 0.5, -10.0),
    ],
)
def test_a_verdict_says_what_search_does_at_no_more_cycles(
    searched: list[tuple[float, float]], result: str, setting: str, points: float, saving: float | None
) -> None:
    verdict = against(100, 90.0, searched)
    assert verdict.result == result
    assert verdict.rival.setting == setting
    assert verdict.points == pytest.approx(points)
    assert verdict.saving_percent == (None if saving is None else pytest.approx(saving))
    assert verdict.cost_percent == pytest.approx(searched[int(setting)][0] - 100)
    assert verdict.nowhere_below == (result in ("wins", "ties"))
    assert verdict.strictly_above == (result == "wins")


def test_the_intervals_decide_between_a_win_and_a_tie() -> None:
    assert against(100, 96.0, [(100, 97.0)], images=400).result == "ties"
    assert against(100, 96.0, [(100, 97.0)], images=40000).result == "wins"
    few = [*several("searched", "", [9, 9, 9], [97, 98, 99]), *several("npu8", "", [9, 9, 9], [95, 96, 97])]
    assert verdicts(aggregate(few, IMAGES))[0].result == "ties"
    steady = [
        *several("searched", "", [9, 9, 9], [97.9, 98, 98.1]),
        *several("npu8", "", [9, 9, 9], [95.9, 96, 96.1]),
    ]
    assert verdicts(aggregate(steady, IMAGES))[0].result == "wins"


def test_rounding_of_a_mean_decides_nothing() -> None:
    points = [*several("searched", "", [9, 9, 9], [95.5556] * 3), point("npu8", "", 1, 9, 95.5556)]
    (verdict,) = verdicts(aggregate(points, IMAGES))
    assert verdict.rival.accuracy < verdict.baseline.accuracy
    assert verdict.result == "ties"


def test_verdicts_can_go_by_energy() -> None:
    entries = aggregate(with_energy()["points"], IMAGES)
    by_cycles = {item.baseline.kind: item.result for item in verdicts(entries)}
    by_energy = {item.baseline.kind: item.result for item in verdicts(entries, "energy")}
    assert by_cycles["npu8"] == "ties"
    assert by_energy["npu8"] == "loses"  # it is for free, and more accurate than the cheapest
    without = aggregate(made_up_study()["points"], IMAGES)
    assert verdicts(without, "energy") == []
    assert verdicts([entry for entry in entries if entry.kind != "searched"]) == []
