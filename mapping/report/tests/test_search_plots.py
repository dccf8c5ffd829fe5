# SPDX-License-Identifier: Apache-2.0
"""The figures of a mapping study: what they draw is what the study says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from mapping.report import search_plots as plots
from mapping.report.search_comparison import aggregate
from mapping.report.search_figures import figures
from mapping.report.search_study import load_study
from mapping.report.testing import IMAGES, Study, dots, drawings, made_up_study, page_of, point, with_energy


def panels(study: Study) -> list[list[Axes]]:
    """Return the panels of the trainings of two phases, a row for each quantity."""
    axes = figures(study)["training"][0].axes
    return [axes[i : i + 2] for i in range(0, len(axes), 2)]


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
    appearances = plots.appearances_of(kinds, ["npu8", "npu_lb"])
    assert list(appearances) == kinds
    for attribute in plots.Appearance._fields:
        assert len({getattr(item, attribute) for item in appearances.values()}) == len(kinds)


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
        in_row = [(box, colour) for box, colour in boxes if round(box.y0 + box.y1) == 2 * row]
        return {colour: box.width for box, colour in in_row if round((box.x0 + box.x1) / 2) == column}

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
