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
from mapping.scheduling.metrics import metrics
from mapping.scheduling.policies import SHIPPED
from mapping.scheduling.simulate import Run, simulate
from mapping.scheduling.testing import made_up, option, trace, workload
from mapping.scheduling.workload import Workload, arrivals_of

LOAD = workload(trace("x", 0, 0, 0, name="x <b>", deadline=15, drop_late=True), trace("y", 1, 2, deadline=50))


def served(load: Workload = LOAD) -> Run:
    units = made_up("a b", option("x", "a", 10), option("y", "b", 20))
    return simulate(units, load, arrivals_of(load), SHIPPED["greedy"], FAST)


def test_a_bar_for_each_request_on_its_unit_red_where_it_is_late() -> None:
    (axis,) = plots.units_chart(served(), 2.0, "half cycles").axes
    bars = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    drawn = sorted((round(bar.get_y() + bar.get_height() / 2), bar.get_x(), bar.get_width()) for bar in bars)
    assert drawn == [(0, 0, 5), (0, 5, 5), (1, 0.5, 10), (1, 10.5, 10)]
    late = [bar.get_x() for bar in bars if to_hex(bar.get_edgecolor()) == RED]
    assert late == [5]  # the second x ends at 20, its deadline is 15; the third is dropped
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]


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
    page = serving_page(run, metrics(run), LOAD, "greedy", FAST)
    assert "x &lt;b&gt;" in page
    assert "<b>x" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "4 of 5 requests were run: mean response" in page
    assert "Predicted, not measured." in page
    assert page.count("<figure") == 2  # no energy without tables


def test_a_long_run_shows_its_first_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MOST_BARS", 2)
    run = served()
    assert [request.start for request in plots.shown(run)] == [0, 1]
    assert len(plots.units_chart(run, 1.0, "cycles").axes[0].patches) == 2
