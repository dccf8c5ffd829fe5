# SPDX-License-Identifier: Apache-2.0
"""The page of a mapping study: its sections, its words, its numbers."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mapping.report.search import headline
from mapping.report.search_comparison import student_interval, wilson_interval
from mapping.report.testing import IMAGES, cells, drawings, made_up_study, page_of, with_energy


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the study."""
    return page_of(made_up_study(), tmp_path_factory.mktemp("study"))


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
         "1, 2, 3", "on the Pareto front"]
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
