# SPDX-License-Identifier: Apache-2.0
"""Policies side by side: intervals by hand, and a chart and a page that show them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from mapping.report.serving_policies import (
    Spread,
    mean_response,
    policies_chart,
    policies_page,
    request_uj,
    spread,
)
from mapping.report.tests.test_serving import FIGURES, LOAD, NONE, SOME
from mapping.scheduling.bounds import Optimum

OTHER = replace(FIGURES, total=replace(SOME, mean=1434.0))
BOTH = {"fifo <b>": [FIGURES, OTHER], "edf": [OTHER, OTHER]}


def test_intervals_over_seeds_are_students() -> None:
    found = spread([FIGURES, OTHER], mean_response)
    assert found is not None
    assert found.mean == 1334
    assert found.half == pytest.approx(12.7062 * 100, rel=1e-4)  # t of one degree of freedom, error 100
    assert spread([FIGURES], mean_response) == Spread(1234.0, None)
    assert spread([FIGURES, replace(FIGURES, total=NONE)], mean_response) is None
    assert Spread(1234.0, 5.5).text(1) == "1,234.0 ± 5.5"


def test_the_energy_of_a_request_has_its_share_of_everything() -> None:
    assert request_uj(FIGURES) == pytest.approx(10 / 3)
    assert request_uj(replace(FIGURES, events_uj=None)) is None
    assert request_uj(replace(FIGURES, total=NONE)) is None


def test_the_chart_has_a_dot_for_each_policy_and_the_optimum() -> None:
    responses, late, energy, work = policies_chart(BOTH, 2.0, "half cycles", Optimum(900.0, 2.5)).axes
    dots = [np.asarray(line.get_xydata()) for line in responses.lines if line.get_marker() == "o"]
    assert [tuple(dot[0]) for dot in dots] == [(667, 0), (717, 1), (1000, 0), (1000, 1)]
    assert [line.get_xdata()[0] for line in responses.lines if line.get_linestyle() == "--"] == [450]  # type: ignore[index]
    assert [label.get_text() for label in responses.get_yticklabels()] == list(BOTH)
    for axis, dots_of in ((late, 2), (energy, 2), (work, 4)):
        assert sum(line.get_marker() == "o" for line in axis.lines) == dots_of


def test_the_page_needs_no_other_file_and_names_the_best() -> None:
    page = policies_page(BOTH, LOAD, "exact", 3, Optimum(900.0, 2.5))
    assert "fifo &lt;b&gt; responds soonest: 1,334.000 cycles on average." in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', page)
    cells = {name: re.findall(r">([^<>]*)</td>", row) for name, row in rows}
    assert cells["fifo &lt;b&gt;"][:4] == ["1,334 ± 1,271", "2,000 ± 0", "25.0 ± 0.0", "3.33 ± 0.00"]
    assert cells["fifo &lt;b&gt;"][4:6] == ["50.0 ± 0.0", "25.0 ± 0.0"]
    assert cells["optimum"][:4] == ["900", "", "2.5", ""]
    assert cells["seeds"] == ["3 to 4"]
    alone = policies_page({"edf": [OTHER]}, LOAD, "fast", 1)
    assert "there are no intervals" in alone
    assert "optimum" not in alone
    nothing = policies_page({"edf": [replace(FIGURES, total=NONE)]}, LOAD, "fast", 1)
    assert "No policy ran a request." in nothing
