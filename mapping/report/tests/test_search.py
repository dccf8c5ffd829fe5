"""The page of a mapping study: its comparison, its figures, its numbers."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from scipy import stats

from common.errors import NpuloopError
from mapping.report import search_plots as plots
from mapping.report.search import (
    Entry,
    StudyError,
    aggregate,
    figures,
    front,
    headline,
    load_study,
    student_interval,
    verdicts,
    wilson_interval,
    write_report,
)
from mapping.report.tests.test_cycles import cells, drawings

IMAGES = 200
Study = dict[str, Any]


# ------------------------------------------------------------------------------------------------- material
def point(kind: str, setting: str, seed: int, cycles: float, accuracy: float, **more: Any) -> dict[str, Any]:
    """Return a point; without `more`, its prediction is 1 % high and its interval has the measured cycles."""
    name = "-".join(part for part in (kind, setting, f"s{seed}") if part)
    share = {"npu8": 1.0, "npu_lb": 0.0}.get(kind, 0.25)
    layers = [
        {
            "name": layer,
            "op": "conv2d",
            "channels": {"npu8": int(share * count), "npu_lb": count - int(share * count)},
        }
        for layer, count in (("conv1", 16), ("conv2", 32))
    ]
    return {
        "name": name, "kind": kind, "setting": setting, "seed": seed,
        "predicted_cycles": 1.01 * cycles, "low": 0.99 * cycles, "high": 1.03 * cycles,
        "measured_cycles": cycles, "energy_pj": None,
        "accuracy_percent": accuracy, "float_accuracy_percent": 99.0, "exact_in_rtl": True,
        "mapping": f"points/{name}.yaml", "network": f"points/{name}.npz", "layers": layers,
    } | more  # fmt: skip


def several(kind: str, setting: str, cycles: list[float], accuracies: list[float]) -> list[dict[str, Any]]:
    """Return the points of seeds 1, 2, ..."""
    pairs = zip(cycles, accuracies, strict=True)
    return [point(kind, setting, seed, *pair) for seed, pair in enumerate(pairs, 1)]


def made_up_study() -> Study:
    """Return a study that wins against one baseline, ties with two, and loses against one."""
    points = [
        *several("npu8", "", [2000, 2000, 2000], [97.0, 97.5, 98.0]),
        *several("npu_lb", "", [1000, 1000, 1000], [80.0, 81.0, 82.0]),
        *several("first_last", "", [1300, 1300, 1300], [98.9, 99.0, 99.1]),
        *several("searched", "0.5", [1180, 1200, 1220], [97.4, 97.5, 97.6]),
        *several("searched", "2", [900, 910, 920], [90.0, 91.0, 92.0]),
        *several("searched", "1.5", [1240, 1250, 1260], [95.0, 95.5, 96.0]),
        *several("random", "0.5", [1200, 1200, 1200], [93.0, 97.0, 97.0]),
        *several("cheapest", "", [700, 700, 700], [70.0, 71.0, 72.0]),
    ]
    points[1] |= {"predicted_cycles": 1940.0, "low": 1930.0, "high": 1950.0}  # -3 %, and outside
    epochs = [{"epoch": 1, "loss": 2.0, "accuracy_percent": 50.0}, {"epoch": 2, "loss": 0.5}]
    searching = [
        {"epoch": i, "loss": 1 / i, "accuracy_percent": 90.0 + i, "cost": 2000 - 100 * i, "strength": 0.5}
        for i in (1, 2, 3)
    ]
    warm, search = (
        {"name": phase, "phase": phase, "kind": kind, "setting": setting, "seed": 1, "epochs": rows}
        for phase, kind, setting, rows in (
            ("warm-up", "", "", epochs),
            ("search", "searched", "0.5", searching),
        )
    )
    return {
        "study": {
            "model": "digits", "data": "digits", "objective": "latency",
            "command": "npuloop map --strengths 0.5,1.5,2", "units": ["npu8", "npu_lb"], "seeds": [1, 2, 3],
            "recipe": {"warmup_epochs": 20, "temperature": [1.0, 0.2]}, "test_images": IMAGES,
            "memory_latency": 20,
        },
        "reference_cycles": 2010.0,
        "points": points,
        "curves": [search, warm],
    }  # fmt: skip


def with_energy() -> Study:
    """Return the study with 10 pJ for each cycle, but npu8 for free."""
    study = made_up_study()
    for item in study["points"]:
        item["energy_pj"] = 5.0 if item["kind"] == "npu8" else 10.0 * item["measured_cycles"]
    return study


def page_of(study: Study, folder: Path) -> str:
    """Return the page of a study."""
    path = folder / "report.html"
    write_report(study, path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the study."""
    return page_of(made_up_study(), tmp_path_factory.mktemp("study"))


# -------------------------------------------------------------------------------------------------- entries
@pytest.mark.parametrize("values", [[97.0, 98.0], [97.1, 97.3, 98.0], [90.0, 95.0, 93.0, 91.0, 99.0]])
def test_the_interval_over_seeds_is_students(values: list[float]) -> None:
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose(student_interval(values), expected, rtol=1e-12)


@pytest.mark.parametrize(("right", "images"), [(0, 10), (1, 10), (443, 450), (450, 450), (7200, 10000)])
def test_the_interval_of_one_network_is_wilsons(right: int, images: int) -> None:
    expected = stats.binomtest(right, images).proportion_ci(0.95, method="wilson")
    found = wilson_interval(100 * right / images, images)
    np.testing.assert_allclose(found, [100 * expected.low, 100 * expected.high], rtol=1e-9, atol=1e-9)


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
    found = [(entry.kind, entry.setting) for entry in entries]
    assert found == [
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
    assert [entry.setting for entry in front(points, IMAGES)] == ["2", "0.5"]  # 1.5: dearer, less accurate
    equal = [point("searched", setting, 1, 10, 90) for setting in "ab"]
    assert [entry.setting for entry in front(equal)] == ["a", "b"]
    same_cost = [point("searched", "a", 1, 10, 90), point("searched", "b", 1, 10, 91)]
    assert [entry.setting for entry in front(same_cost)] == ["b"]
    same_accuracy = [point("searched", "a", 1, 10, 90), point("searched", "b", 1, 11, 90)]
    assert [entry.setting for entry in front(same_accuracy)] == ["a"]
    assert front([point("npu8", "", 1, 10, 90)]) == []


def test_the_front_by_energy_goes_by_energy() -> None:
    points = [
        point("searched", "a", 1, 10, 95, energy_pj=9.0),
        point("searched", "b", 1, 20, 94, energy_pj=3.0),
        point("searched", "c", 1, 5, 99),
    ]
    assert [entry.setting for entry in front(points, by="energy")] == ["b", "a"]
    assert [entry.setting for entry in front(points)] == ["c"]


# ------------------------------------------------------------------------------------------------- verdicts
def against(cycles: float, accuracy: float, searched: list[tuple[float, float]], images: int = 400) -> Any:
    """Return the verdict of searched (cycles, accuracy) against a baseline, all of one seed."""
    points = [point("searched", str(i), 1, *item) for i, item in enumerate(searched)]
    (found,) = verdicts(aggregate([*points, point("npu8", "", 1, cycles, accuracy)], images))
    return found


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
    found = against(100, 90.0, searched)
    assert found.result == result
    assert found.rival.setting == setting
    assert found.points == pytest.approx(points)
    assert found.saving_percent == (None if saving is None else pytest.approx(saving))
    assert found.cost_percent == pytest.approx(searched[int(setting)][0] - 100)
    assert found.nowhere_below == (result in ("wins", "ties"))
    assert found.strictly_above == (result == "wins")


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
    (found,) = verdicts(aggregate(points, IMAGES))
    assert found.rival.accuracy < found.baseline.accuracy
    assert found.result == "ties"


def test_verdicts_can_go_by_energy() -> None:
    entries = aggregate(with_energy()["points"], IMAGES)
    by_cycles = {item.baseline.kind: item.result for item in verdicts(entries)}
    by_energy = {item.baseline.kind: item.result for item in verdicts(entries, "energy")}
    assert by_cycles["npu8"] == "ties"
    assert by_energy["npu8"] == "loses"  # it is for free, and more accurate than the cheapest
    without = aggregate(made_up_study()["points"], IMAGES)
    assert verdicts(without, "energy") == []
    assert verdicts([entry for entry in entries if entry.kind != "searched"]) == []


# ----------------------------------------------------------------------------------------------------- page
def test_the_page_has_every_figure_and_refers_to_nothing_outside(html: str) -> None:
    assert [name.split()[1] for name in drawings(html)] == ["latency", "prediction", "splits", "training"]
    for target in re.findall(r'(?:src|href|srcset|action|data)\s*=\s*"([^"]*)"', html):
        assert target.startswith(("data:image/svg+xml;base64,", "points/")), target
    assert not re.search(r"<(script|link|iframe|object)|@import|url\(|https?://", html)
    for drawing in drawings(html).values():
        assert len(list(drawing.iter("{http://www.w3.org/2000/svg}path"))) > 10
        text = ET.tostring(drawing, encoding="unicode")
        assert not re.search(r'href="(?!#)', text)


def test_the_headline_says_what_everything_on_the_first_unit_takes_beside_search(html: str) -> None:
    said = headline(made_up_study())
    assert said == (
        "At 97.50 % accuracy against 97.50 %, the searched mapping (0.5) takes 1,200 cycles in RTL instead "
        "of 2,000 of everything on npu8: 40.0 % fewer. Against 5 baselines, search wins 1, ties 2, loses 1; "
        "out of reach: 1, cheaper than anything searched, but less accurate."
    )
    assert f'<p class="lead">{said}</p>' in html


def test_the_headline_does_not_hide_that_search_falls_short() -> None:
    study = made_up_study()
    for item in study["points"][:3]:
        item["accuracy_percent"] += 1
    assert headline(study).startswith(
        "No searched mapping is as accurate as everything on npu8 (98.50 %) in as few cycles (2,000); the "
        "most accurate (0.5) has 97.50 % (-1.00 points) in 1,200 cycles in RTL (-40.0 %). Against 5 "
        "baselines, search wins 1, ties 1, loses 2;"
    )


def test_the_headline_needs_no_baseline_and_no_search() -> None:
    study = made_up_study()
    everything = study["points"]
    study["points"] = [item for item in everything if item["kind"] == "searched"]
    assert headline(study) == (
        "Searched mappings take 910 to 1,250 cycles in RTL; the most accurate has 97.50 %. "
        "There are no baselines."
    )
    study["points"] = everything[:3]
    assert headline(study) == "Nothing was searched: 3 points of baselines."


def verdict_row(html: str, start: str) -> list[str]:
    """Return the row of the verdict table, the first with that name that has as many cells."""
    return next(row for row in cells(html, start) if len(row) == 8)


def test_the_verdict_table_has_the_figures_of_the_study(html: str) -> None:
    assert verdict_row(html, "all on npu8")[1:] == [
        "2,000", "97.50 %", "1,200 (-40.0 %)", "97.50 % (0.00)", "-40.0 %", "0.5",
        "ties: intervals overlap; 40.0 % fewer cycles",
    ]  # fmt: skip
    assert verdict_row(html, "all on npu_lb")[1:] == [
        "1,000", "81.00 %", "910 (-9.0 %)", "91.00 % (+10.00)", "-9.0 %", "2",
        "wins: more accurate, intervals apart",
    ]  # fmt: skip
    assert verdict_row(html, "cheapest")[1:] == [
        "700", "71.00 %", "910 (+30.0 %)", "91.00 % (+20.00)", "+30.0 %", "2",
        "out of reach: nothing searched is as cheap",
    ]  # fmt: skip
    assert verdict_row(html, "random")[-1] == "ties: intervals overlap"  # no cycle is saved


def test_a_lost_baseline_is_reported_as_lost(html: str) -> None:
    assert verdict_row(html, "first and last on npu8")[1:] == [
        "1,300", "99.00 %", "1,200 (-7.7 %)", "97.50 % (-1.50)", "-", "0.5",
        "loses: less accurate, intervals apart",
    ]  # fmt: skip
    marked = re.findall(r'<span class="over">([^<]+)</span>', html)
    assert marked == ["loses: less accurate, intervals apart", "-3.00 %"]


def test_the_means_stand_with_their_intervals_and_what_these_are_of(html: str, tmp_path: Path) -> None:
    low, high = student_interval([97.4, 97.5, 97.6])
    assert cells(html, "searched 0.5") == [
        ["searched 0.5", "1,200.0", "59.7 %", "97.50 %", f"{low:.2f} to {high:.2f} %", "mean of 3 seeds",
         "1, 2, 3", "on the front"]
    ]  # fmt: skip
    assert cells(html, "searched 1.5")[0][-1] == ""
    assert "of the mean over seeds (Student's t)." in html
    study = made_up_study()
    study["points"] = [item for item in study["points"] if item["seed"] == 1 or item["kind"] == "npu8"]
    for item in study["points"][:3]:
        item["accuracy_percent"] = 97.0
    page = page_of(study, tmp_path)
    low, high = wilson_interval(97.4, IMAGES)
    row = cells(page, "searched 0.5")[0]
    assert row[4:7] == [f"{low:.2f} to {high:.2f} %", "200 test images", "1"]
    assert cells(page, "all on npu8")[1][5] == "seeds agree; 200 test images"
    assert "of one network on 200 test images (Wilson)." in page


def test_every_point_has_its_row_and_links_to_its_files(html: str) -> None:
    for item in made_up_study()["points"]:
        (row,) = cells(html, item["name"])
        measured, predicted = item["measured_cycles"], item["predicted_cycles"]
        assert row[1:] == [
            f"{measured:,.0f}", f"{predicted:,.1f}", f"{100 * (predicted / measured - 1):+.2f} %",
            f"{item['low']:,.0f} to {item['high']:,.0f}", f"{item['accuracy_percent']:.2f} %", "99.00 %",
            "exact", "mapping network",
        ]  # fmt: skip
        for file in (item["mapping"], item["network"]):
            assert html.count(f'href="{file}"') == 1


def test_the_prediction_names_its_largest_error(html: str) -> None:
    assert (
        "24 networks: mean absolute error 1.1 %, largest -3.00 % (npu8-s2); 23 of 24 inside their 90 % "
        "interval (bars), others are ringed."
    ) in html


def test_the_page_says_how_the_study_was_made(html: str) -> None:
    assert cells(html, "command") == [["command", "npuloop map --strengths 0.5,1.5,2"]]
    assert cells(html, "seeds") == [["seeds", "1, 2, 3"]]
    assert cells(html, "recipe") == [["recipe", "warmup_epochs 20, temperature [1.0, 0.2]"]]
    assert cells(html, "test images") == [["test images", "200"]]
    assert cells(html, "memory latency") == [["memory latency", "20 cycles"]]
    assert cells(html, "reference")[0][1] == "2,010.0 cycles, predicted, everything on npu8"
    assert "All 24 points are exact in RTL. Seeds 1, 2, 3; 200 test images; memory latency 20" in html


def test_a_network_that_differs_in_rtl_is_named(tmp_path: Path) -> None:
    study = made_up_study()
    study["points"][4]["exact_in_rtl"] = False
    html = page_of(study, tmp_path)
    assert '<span class="over">1 of 24 points differ in RTL: npu_lb-s2.</span>' in html
    assert cells(html, "npu_lb-s2")[0][-2] == "differs"
    assert cells(html, "npu_lb-s1")[0][-2] == "exact"


def test_energy_is_shown_where_it_is_known(tmp_path: Path) -> None:
    html = page_of(with_energy(), tmp_path)
    shown = [name.split()[1] for name in drawings(html)]
    assert shown == ["latency", "energy", "prediction", "splits", "training"]
    rows = [row for row in cells(html, "all on npu8") if len(row) == 8]
    assert [row[-1] for row in rows] == [
        "ties: intervals overlap; 40.0 % fewer cycles",
        "loses: costs more and is no more accurate, intervals apart",
    ]
    assert cells(html, "searched-0.5-s1")[0][5] == "11,800"
    assert cells(html, "searched 0.5")[0][3] == "12,000"


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    study = made_up_study()
    evil = '"><script>alert(1)</script>&'
    study["study"] |= dict.fromkeys(("model", "data", "command", "objective"), evil)
    study["study"]["units"] = ["npu8", "npu_lb", evil]
    study["study"]["recipe"] = {evil: evil}
    for i, item in enumerate(study["points"]):
        item |= {
            "name": f"{i}{evil}",
            "setting": evil,
            "mapping": f"{evil}.yaml",
            "network": "javascript:x()",
        }
        item["layers"][0] |= {"name": evil, "channels": {evil: 3}}
    study["points"][-1]["kind"] = evil
    study["curves"][0] |= {"phase": evil, "kind": evil}
    html = page_of(study, tmp_path)
    assert "<script" not in html
    assert "javascript:" not in html
    assert not re.search(r"&(?!\w+;|#)", html)
    assert "&lt;script&gt;" in html


# -------------------------------------------------------------------------------------------------- figures
def panels(study: Study) -> list[list[Axes]]:
    """Return the panels of the trainings of two phases, a row for each quantity."""
    axes = figures(study)["training"][0].axes
    return [axes[i : i + 2] for i in range(0, len(axes), 2)]


def dots(axes: Axes) -> list[list[list[float]]]:
    """Return the points of each scatter of a panel."""
    scatters = [item for item in axes.collections if isinstance(item, PathCollection)]
    return [np.asarray(item.get_offsets()).tolist() for item in scatters]


def bars(axes: Axes) -> list[list[list[float]]]:
    """Return the ends of each vertical line of a panel."""
    lines = [item for item in axes.collections if isinstance(item, LineCollection)]
    return [np.asarray(segment).tolist() for item in lines for segment in item.get_segments()]


@pytest.mark.parametrize(("by", "factor"), [("latency", 1), ("energy", 10)])
def test_accuracy_is_drawn_over_cost_with_intervals_seeds_and_front(by: str, factor: float) -> None:
    study = with_energy()
    for item in study["points"][:3]:
        item["energy_pj"] = 10 * item["measured_cycles"]
    panel = figures(study)[by][0].axes[0]
    line, *marks = panel.lines
    np.testing.assert_allclose(np.asarray(line.get_xydata()), [[910 * factor, 91.0], [1200 * factor, 97.5]])
    entries = aggregate(study["points"], IMAGES)
    expected = sorted([entry.cycles * factor, entry.accuracy] for entry in entries)
    np.testing.assert_allclose(sorted(np.ravel(mark.get_xydata()).tolist() for mark in marks), expected)
    intervals = sorted([[entry.cycles * factor, y] for y in (entry.low, entry.high)] for entry in entries)
    np.testing.assert_allclose(np.array(sorted(bars(panel))), np.array(intervals))
    assert [[1180 * factor, 97.4], [1200 * factor, 97.5], [1220 * factor, 97.6]] in dots(panel)
    labels = {text.get_text(): text.get_color() for text in panel.texts}
    assert labels == dict.fromkeys(("0.5", "1.5", "2"), plots.APPEARANCES["searched"].colour)


def test_points_that_coincide_stand_side_by_side() -> None:
    study = made_up_study()
    values = [("npu8", "", 100, 90), ("cheapest", "", 100, 90), ("searched", "1", 100, 90)]
    values += [("searched", "2", 100, 80), ("random", "1", 200, 90)]
    study["points"] = [point(kind, setting, 1, *item) for kind, setting, *item in values]
    panel = figures(study)["latency"][0].axes[0]
    marks = panel.lines[1:]
    assert [np.ravel(mark.get_xydata()).tolist() for mark in marks] == [
        [100, 90], [100, 80], [100, 90], [100, 90], [200, 90]
    ]  # fmt: skip
    shown = [mark.get_transform().transform(mark.get_xydata())[0] for mark in marks]
    true = [panel.transData.transform(mark.get_xydata())[0] for mark in marks]
    shifts = [round(72 / 100 * (x - real), 3) for (x, _), (real, _) in zip(shown, true, strict=True)]
    assert shifts == [-9, 0, 0, 9, 0]


def test_a_network_of_several_points_is_one_prediction(tmp_path: Path) -> None:
    study = made_up_study()
    study["points"][4] |= {name: study["points"][1][name] for name in study["points"][1] if name != "name"}
    _, caption = figures(study)["prediction"]
    assert "23 networks (some are of several points)" in caption
    assert "largest -3.00 % (npu8-s2); 22 of 23 inside" in caption


def test_every_kind_has_a_colour_and_a_marker_of_its_own() -> None:
    kinds = ["searched", "npu8", "npu_lb", "first_last", "cheapest", "layerwise", "random", "new", "newer"]
    found = plots.appearances_of(kinds, ["npu8", "npu_lb"])
    assert list(found) == kinds
    for attribute in plots.Appearance._fields:
        assert len({getattr(look, attribute) for look in found.values()}) == len(kinds)


def test_a_wide_range_of_accuracies_gets_a_scale_that_shows_high_ones() -> None:
    study = made_up_study()
    wide = figures(study)["latency"][0].axes[0]  # 68 to 99 %
    assert wide.get_yscale() == "function"
    low, middle, high = wide.transData.transform([(0, y) for y in (80, 95, 99)])[:, 1]
    assert high - middle > 0.9 * (middle - low)
    bottom, top = wide.get_ylim()
    assert bottom < min(entry.low for entry in aggregate(study["points"], IMAGES))
    assert top > 99.1
    study["points"] = [item for item in study["points"] if item["accuracy_percent"] > 95]
    assert figures(study)["latency"][0].axes[0].get_yscale() == "linear"


def test_predictions_are_drawn_with_their_errors() -> None:
    study = made_up_study()
    study["points"][3] |= {"low": 1005.0}  # npu_lb, seed 1: 1,000 measured, 1,010 predicted
    drawing, _ = figures(study)["prediction"]
    left, right = drawing.axes
    assert [[2000.0, 2020.0], [2000.0, 1940.0], [2000.0, 2020.0]] in dots(left)
    *every, outside = dots(right)
    np.testing.assert_allclose(outside, [[2000, -3], [1000, 1]])
    np.testing.assert_allclose(sorted(y for item in every for _, y in item), [-3] + 23 * [1])
    np.testing.assert_allclose(min(bars(right)), [[700, -1], [700, 3]])
    assert [text.get_text() for text in right.texts] == ["npu8-s2: -3.00 %"]


def test_the_split_of_every_layer_is_drawn_to_scale() -> None:
    study = made_up_study()
    study["points"][9]["layers"][1]["channels"] = {"npu8": 24, "npu_lb": 8}  # searched 0.5, seed 1
    study["points"][10]["layers"] = study["points"][10]["layers"][:1]  # has no conv2
    panel = figures(study)["splits"][0].axes[0]
    rows = [text.get_text() for text in panel.get_yticklabels()]
    assert rows[:2] == ["2, seed 1: 900 cycles", "2, seed 2: 910 cycles"]  # by cycles
    assert len(rows) == 9
    assert [text.get_text() for text in panel.get_xticklabels()] == ["conv1", "conv2"]
    boxes = [
        (bar.get_extents().transformed(panel.transData.inverted()), to_hex(bar.get_facecolor()))
        for bar in panel.patches
    ]
    teal, orange = plots.UNIT_COLOURS[:2]

    def shares(row: int, column: int) -> dict[str, float]:
        mine = [(box, colour) for box, colour in boxes if round(box.y0 + box.y1) == 2 * row]
        return {colour: box.width for box, colour in mine if round((box.x0 + box.x1) / 2) == column}

    place = rows.index("0.5, seed 1: 1,180 cycles")
    wide = sum(shares(place, 1).values())
    assert shares(place, 1) == {teal: pytest.approx(0.75 * wide), orange: pytest.approx(0.25 * wide)}
    assert shares(place, 0) == {teal: pytest.approx(0.25 * wide), orange: pytest.approx(0.75 * wide)}
    assert shares(rows.index("0.5, seed 2: 1,200 cycles"), 1) == {}


def test_trainings_are_drawn_phase_by_phase() -> None:
    grid = panels(made_up_study())
    assert [axis.get_title("left") for axis in grid[0]] == ["warm-up", "search"]
    drawn = [[np.asarray(axis.lines[0].get_xydata()).tolist() for axis in row] for row in grid]
    assert drawn == [
        [[[1, 2.0], [2, 0.5]], [[1, 1], [2, 1 / 2], [3, 1 / 3]]],
        [[[1, 50.0]], [[1, 91], [2, 92], [3, 93]]],  # the second epoch has no accuracy
        [[], [[1, 1900], [2, 1800], [3, 1700]]],
    ]
    assert [text.get_text() for text in grid[2][0].texts] == ["no cost here"]


def test_a_training_that_diverged_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    study = made_up_study()
    study["curves"][0]["epochs"][1] |= {"loss": float("nan"), "cost": float("inf")}
    (tmp_path / "study.json").write_text(json.dumps(study))
    grid = panels(load_study(tmp_path))
    assert np.asarray(grid[0][1].lines[0].get_xydata()).tolist() == [[1, 1], [3, 1 / 3]]


def test_figures_are_left_out_where_there_is_nothing_to_draw(tmp_path: Path) -> None:
    study = made_up_study()
    study["curves"] = []
    study["points"] = study["points"][:3]
    assert list(figures(study)) == ["latency", "prediction"]
    html = page_of(study, tmp_path)
    assert "Mappings</h2>" not in html
    assert "There is nothing to compare." in html


def test_a_study_of_one_point_and_many_layers_is_drawn(tmp_path: Path) -> None:
    study = made_up_study()
    layers = [{"name": f"stage/{i}/conv", "op": "conv2d", "channels": {"npu8": i}} for i in range(30)]
    study["points"] = [point("searched", "", 1, 10, 100.0, layers=layers)]
    assert len(drawings(page_of(study, tmp_path))) == 4
    panel = figures(study)["splits"][0].axes[0]
    assert len(panel.get_xticklabels()) == 30
    assert len(panel.patches) == 29  # layer 0 has no channels


# ------------------------------------------------------------------------------------------------ bad input
def test_a_study_is_read_from_its_file_or_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    file.write_text(json.dumps(made_up_study()))
    assert load_study(file) == load_study(tmp_path) == made_up_study()


def change(*path: str | int, to: Any = None) -> Callable[[Study], None]:
    """Return what sets a part of a study, or without `to` deletes it."""

    def changed(study: Any) -> None:
        *way, last = path
        for step in way:
            study = study[step]
        if to is None:
            del study[last]
        else:
            study[last] = to

    return changed


BAD = [
    (change("study"), "study is missing"),
    (change("study", to=[]), "study must be a mapping, is []"),
    (change("study", "units", to=[]), "study: units must be the names of the units"),
    (change("study", "test_images", to=4.5), "test_images must be a whole number, is 4.5"),
    (change("reference_cycles", to=0), "reference_cycles must be a number above 0, is 0"),
    (change("points", to={}), "points must be a list"),
    (change("points", to=[]), "there are no points"),
    (change("points", 2, "measured_cycles"), "points 3: measured_cycles is missing"),
    (change("points", 2, "measured_cycles", to="12"), "points 3: measured_cycles must be a number, is '12'"),
    (change("points", 0, "predicted_cycles", to=float("nan")), "predicted_cycles must be a number, is nan"),
    (change("points", 0, "low", to=10**400), "low must be a number"),
    (change("points", 0, "seed", to=True), "seed must be a number, is True"),
    (change("points", 0, "accuracy_percent", to=101), "accuracy_percent must be a number, 0 to 100, is 101"),
    (change("points", 0, "energy_pj", to=-1), "energy_pj must be a number, at least 0, is -1"),
    (change("points", 0, "exact_in_rtl", to="yes"), "exact_in_rtl must be true or false, is 'yes'"),
    (change("points", 0, "mapping", to="/etc/x"), "mapping must be a path from the study's folder"),
    (change("points", 0, "layers", 1, "channels"), "points 1: layers 2: channels is missing"),
    (change("points", 0, "name", to=["a"]), "name must be a text, is ['a']"),
    (
        change("curves", 0, "epochs", 0, "loss", to="low"),
        "curves 1: epochs 1: loss must be a number, is 'low'",
    ),
]


@pytest.mark.parametrize(("spoil", "text"), BAD, ids=[text for _, text in BAD])
def test_a_damaged_study_is_one_error_and_leaves_the_page_alone(
    spoil: Callable[[Study], None], text: str, tmp_path: Path
) -> None:
    study = copy.deepcopy(made_up_study())
    spoil(study)
    file, page = tmp_path / "study.json", tmp_path / "report.html"
    file.write_text(json.dumps(study))
    page.write_text("of yesterday")
    with pytest.raises(StudyError, match=r"run `npuloop map` again$") as found:
        load_study(file)
    assert str(found.value).startswith(f"{file}: ")
    assert text in str(found.value)
    assert len(str(found.value).splitlines()) == 1
    with pytest.raises(StudyError, match="the study: "):
        write_report(study, page)
    assert page.read_text() == "of yesterday"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "there is no study; make it with `npuloop map`"),
        (b"{", "damaged, no valid JSON"),
        (b"\xff\xfe", "damaged, no valid JSON"),
        (b"[" * 100_000, "damaged, no valid JSON"),
        (b"[]", "must be a mapping, is []"),
    ],
    ids=["missing", "cut off", "no text", "deep", "a list"],
)
def test_a_file_that_is_no_study_is_one_error(content: bytes | None, text: str, tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StudyError) as found:
        load_study(file)
    assert str(found.value).startswith(f"{file}")
    assert text in str(found.value)
    assert "npuloop map" in str(found.value)


def test_a_page_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NpuloopError, match="cannot be written"):
        write_report(made_up_study(), tmp_path / "file" / "report.html")
