# SPDX-License-Identifier: Apache-2.0
"""The page of a served workload: what its figures draw is what became of the requests."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from mapping.report import serving_plots as plots
from mapping.report.serving_page import serving_page
from mapping.report.style import RED
from mapping.report.tests.test_serving import FIGURES
from mapping.scheduling.clocks import FAST
from mapping.scheduling.measured import error_percent, pairs_of
from mapping.scheduling.metrics import metrics
from mapping.scheduling.tests.test_measured import LOAD, measured_load, served


def test_a_bar_for_each_request_on_its_unit_red_where_it_is_late() -> None:
    (axis,) = plots.units_chart({"predicted": served()}, 2.0, "half cycles").axes
    bars = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    drawn = sorted((round(bar.get_y() + bar.get_height() / 2), bar.get_x(), bar.get_width()) for bar in bars)
    assert drawn == [(0, 0, 5), (0, 5, 5), (1, 0.5, 10), (1, 10.5, 10)]
    late = [bar.get_x() for bar in bars if to_hex(bar.get_edgecolor()) == RED]
    assert late == [5]  # the second x ends at 20, its deadline is 15; the third is dropped
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    ticks = sorted(float(np.asarray(line.get_xdata())[0]) for line in axis.lines)
    assert ticks == [7.5, 7.5, 25.5, 26]  # of the deadlines: 15 after 0, 50 after 1 and 2


def test_curves_are_shares_of_what_arrived_and_deadlines_stand_beside_them() -> None:
    (axis,) = plots.response_curves(served(), 1.0, "cycles").axes
    curves = [np.asarray(line.get_xydata()) for line in axis.lines]
    assert curves[0].ravel() == pytest.approx([0, 0, 10, 1 / 3, 20, 2 / 3])
    assert curves[2].ravel() == pytest.approx([0, 0, 20, 0.5, 39, 1])
    assert curves[1][0][0] == 15
    assert curves[3][0][0] == 50


def test_parts_of_the_energy_sum_to_the_whole() -> None:
    parts = plots.energy_parts(FIGURES)
    assert sum(parts.values()) == FIGURES.energy_uj
    (axis,) = plots.energy_chart(FIGURES).axes
    assert [bar.get_width() for bar in axis.patches if isinstance(bar, Rectangle)] == list(parts.values())


def test_the_page_needs_no_other_file_and_shows_names_as_they_are() -> None:
    run = served()
    page = serving_page(run, LOAD, "greedy", FAST)
    assert "x &lt;b&gt;" in page
    assert "<b>x" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "4 of 5 requests were run: mean response" in page
    assert "Predicted, not measured." in page
    assert page.count("<figure") == 4  # no energy without tables
    assert "<h2>Predicted and measured</h2>" not in page


def test_a_measured_run_stands_beside_its_prediction() -> None:
    predicted, real = measured_load()
    page = serving_page(predicted, LOAD, "greedy", FAST, real)
    assert "Measured in RTL: 3 of 4 requests exact to the last bit." in page
    assert page.count("<figure") == 5
    assert "<li>request 1: a: timeout &lt;1&gt;</li>" in page
    (row,) = re.findall(r'<tr><th scope="row">all</th>(.*?)</tr>', page.split("<h2>Responses")[0])
    cells = re.findall(r">([^<>]*)</td>", row)
    assert cells[:4] == ["3 of 4", "1", "14.14 %", "16.67 %"]
    assert cells[6] == "-14.81 %"
    upper, lower = plots.units_chart({"in RTL": real.run, "predicted": predicted}, 1.0, "cycles").axes
    assert [axis.get_title(loc="left") for axis in (upper, lower)] == ["in RTL", "predicted"]
    ends = [max(float(bar.get_x() + bar.get_width()) for bar in axis.patches) for axis in (upper, lower)]  # type: ignore[attr-defined]
    assert ends == [real.run.makespan, predicted.makespan]
    assert upper.get_xlim() == lower.get_xlim()


def test_points_of_the_agreement_are_the_errors() -> None:
    predicted, real = measured_load()
    services, responses = plots.agreement_chart(predicted, real).axes
    for axis, kind in ((services, "service"), (responses, "response")):
        drawn = [tuple(point) for dots in axis.collections for point in np.asarray(dots.get_offsets())]
        pairs = [getattr(pair, kind) for pair in pairs_of(predicted, real)]
        points = sorted((pair[1], error_percent(pair)) for pair in pairs)
        assert np.array(sorted(drawn)) == pytest.approx(np.array(points))


def test_contention_and_utilisation_are_those_of_the_run() -> None:
    run = served()
    (axis,) = plots.slowdown_curves(run).axes
    assert len(axis.lines) == 2
    assert plots.slowdowns(run.requests) == [0, 0, 0, 0]
    assert plots.stream_shares(run, "b") == {"x <b>": 0, "y": pytest.approx(100 * 40 / 41)}
    (axis,) = plots.utilisation_chart(run).axes
    widths = [bar.get_width() for bar in axis.patches if isinstance(bar, Rectangle)]
    assert sum(widths) == pytest.approx(100 * sum(metrics(run).utilisation.values()))


def test_a_long_run_shows_its_first_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MOST_BARS", 2)
    run = served()
    assert [request.start for request in plots.shown(run)] == [0, 1]
    assert len(plots.units_chart({"predicted": run}, 1.0, "cycles").axes[0].patches) == 2
