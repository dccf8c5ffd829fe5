# SPDX-License-Identifier: Apache-2.0
"""Figures and tables of energy and area on the report page: what they show is what the tables say."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from typer.testing import CliRunner

from common.arrays import Floats
from hw.system import NPU8, NPU_LB, System
from mapping.calibration import calibrate as calibrating, farm as farming
from mapping.cost.tables import FOLDER
from mapping.energy.tables import GROUPS, EnergyTableError, load_energy_table
from mapping.report import cycle_numbers, energy as section, energy_plots as plots
from mapping.report.cycles import page
from mapping.report.energy_numbers import (
    EnergyReport,
    core_title,
    gather_energy,
    mac_energy,
    network_energy,
    validation_of,
)
from mapping.report.energy_plots import VALUE, MacEnergy, NetworkBars, UnitBar
from mapping.report.style import svg
from mapping.report.testing import (
    CONFIG,
    POINTS,
    area_document,
    drawings,
    folder_of,
    made_up_report,
    table_of,
    text_of,
)
from mapping.run.random_networks import random_network
from npuloop.cli import report as cli_report

NO_ARRAY = area_document()["units"]["sky130"][NPU8.key] | {"groups_um2": {"requantiser": 1.0}}


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NPULOOP_DATA", str(tmp_path / "nothing"))


def words(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]


def key_of(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


# -------------------------------------------------------------------------------------------------- figures
def test_the_bars_of_an_area_add_up_and_say_the_arrays_share() -> None:
    bars = [
        UnitBar("big", {"array": 6e5, "requantiser": 3e5, "drain": 1e3, "odd": 99e3}, {"weights": 1e6}),
        UnitBar("small", {"array": 2e5, "requantiser": 2e5}, {"weights": 6e5, "extra": 1e6}),
    ]
    figure = plots.area({"one": bars, "two": bars[:1]})
    cells, whole, *second = figure.axes
    assert words(cells) == ["1.00, array 60 %", "0.40, array 50 %"]
    assert words(whole) == ["2.00, array 30 %", "2.00, array 10 %"]
    assert [len(words(axis)) for axis in second] == [1, 1]
    widths = [round(float(patch.get_width()), 6) for patch in cells.patches]  # type: ignore[attr-defined]
    assert widths == [0.6, 0.3, 0.1, 0.2, 0.2, 0.0]  # drain is too small to be told from others
    assert [tick.get_text() for tick in cells.get_yticklabels()] == ["big", "small"]
    assert sorted(key_of(figure)) == sorted(
        ["array", "requantiser", "other cells", "memory: weights", "memory: extra"]
    )


def points(line: Line2D) -> Floats:
    return np.array(line.get_xydata(), dtype=np.float64)


def mac(label: str, w_bits: int, pj: float) -> MacEnergy:
    lines = np.array([[pj / 2, 0.0], [pj, 0.0], [2 * pj, 0.0]])
    return MacEnergy(label, w_bits, np.array([0.0, 1.0]), lines, usual=0.75, known=(0.4, 0.8))


def test_the_energy_of_a_mac_is_drawn_over_widths_and_zeros() -> None:
    widths, wide, narrow = plots.per_mac([mac("wide", 8, 4.0), mac("narrow", 2, 1.0)]).axes
    for line, share in zip(widths.lines, plots.SHARES, strict=True):
        np.testing.assert_allclose(points(line)[:, 1], [1.0 - share, 4.0 * (1 - share)])
    bounds = [item for item in widths.collections if isinstance(item, LineCollection)]
    drawn = [[segment[:, 1].tolist() for segment in item.get_segments()] for item in bounds]
    assert drawn == [[], [[0.25, 1.0], [1.0, 4.0]], []]  # 0 and 90 % zeros were not measured
    dots = [item for item in widths.collections if isinstance(item, PathCollection)]
    hollow = [bool((np.array(item.get_facecolor())[:, :3] == 1).all()) for item in dots]
    assert hollow == [True, False, True]
    assert (wide.get_title("left"), narrow.get_title("left")) == ("wide", "narrow")
    for axis, pj in ((wide, 4.0), (narrow, 1.0)):
        *_, solid, dot = axis.lines
        np.testing.assert_allclose(points(dot), [[75, pj / 4]])
        np.testing.assert_allclose(points(solid)[[0, -1]], [[40, 0.6 * pj], [80, 0.2 * pj]])
        (band,) = axis.collections[0].get_paths()
        np.testing.assert_allclose(band.get_extents().extents, (40, 0.2 * pj / 2, 80, 0.6 * 2 * pj))
    assert widths.get_ylim()[0] == 0


def test_validation_windows_are_drawn_with_the_errors_of_the_model() -> None:
    validation = validation_of(table_of(NPU8), "npu8", Path("x"))
    assert validation is not None
    figure = plots.validation([validation, replace(validation, label="other")])
    gates, _, errors, _ = figure.axes
    assert np.array(gates.collections[-1].get_offsets()).tolist() == [[25.0, 100.0], [75.0, 50.0]]
    np.testing.assert_allclose(np.array(errors.collections[-1].get_offsets()), [[25.0, 10.0], [75.0, -20.0]])
    assert errors.get_title("left") == "mean 15.0 %, largest 20.0 %, bias -5.0 %"
    assert key_of(figure) == ["one", "two"]


def test_the_parts_of_each_layer_are_stacked() -> None:
    parts = {group: np.array([1e3 * place, 0.0]) for place, group in enumerate(GROUPS, start=1)}
    bars = NetworkBars("unit", ("first", "last"), parts, (1e3, 28e3, 50e3))
    other = replace(bars, layers=("first", "another"))
    figure = plots.breakdown([bars, other], (1e3, "nJ"))
    left, right = figure.axes
    assert words(left) == ["28.0", "0.0"]
    assert left.get_title("left") == "unit\nall 28.0 nJ (1.0 to 50.0)"
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["first", "last", "another"]
    tops = [round(float(patch.get_y()) + 0.37) for patch in right.patches[:2]]  # type: ignore[attr-defined]
    assert tops == [0, 2]
    assert key_of(figure) == [group.replace("_", " ") for group in GROUPS]


def test_equal_figures_are_equal_bytes() -> None:
    validation = validation_of(table_of(NPU8), "npu8", Path("x"))
    assert validation is not None
    assert svg(plots.validation([validation])) == svg(plots.validation([validation]))


# -------------------------------------------------------------------------------------------------- numbers
def test_a_mac_takes_its_share_of_the_column_and_its_features() -> None:
    mac_pj = mac_energy(table_of(NPU8), "npu8")
    fixed = (48 + 16) / 16
    for share in (0.0, 0.3, 1.0):
        value = fixed + 4 * (2.0 * (1 - share) + 0.5 * share)
        assert mac_pj.at(share).tolist() == pytest.approx([value / 2, value, 2 * value])
    assert (mac_pj.w_bits, mac_pj.usual, mac_pj.known) == (8, 0.4, (0.4, 0.4))
    validation = validation_of(table_of(NPU8), "npu8", Path("x"))
    assert mac_energy(table_of(NPU8), "npu8", validation).known == (0.25, 0.75)


@pytest.mark.parametrize(
    "point",
    [
        {},
        7,
        POINTS[0] | {"measured": [1.0, 2.0]},
        POINTS[0] | {"modelled": "abc"},
        POINTS[0] | {"zero_share": None},
    ],
)
def test_damaged_validation_windows_are_one_error(point: Any) -> None:
    table = table_of(NPU8, errors={"points": [POINTS[0], point]})
    with pytest.raises(
        EnergyTableError, match=r"here.yaml: the validation windows in `errors` are damaged .*; make it"
    ):
        validation_of(table, "npu8", Path("here.yaml"))


def test_a_networks_energy_is_that_of_all_its_layers(tmp_path: Path) -> None:
    network, _, source = random_network(3, [NPU8])
    folder = folder_of(tmp_path, None, [table_of(NPU8)])
    energy = network_energy(network, source, NPU8, System((NPU8,)), folder)
    assert energy.units.keys() == {"npu8"}
    assert energy.value_pj == pytest.approx(sum(item.value_pj for item in energy.layers.values()))
    bars = section._network_bars("npu8", energy)
    assert sum(values.sum() for values in bars.parts_pj.values()) == pytest.approx(energy.value_pj)


def test_scaling_goes_with_feature_size_and_supply_squared() -> None:
    assert section.scaling("sky130") == pytest.approx(130 / 45 * 4)
    assert section.scaling("osu018") == pytest.approx(180 / 45 * 4)
    assert section.scaling("another") is None


# ------------------------------------------------------------------------------------------------- section
def test_without_tables_each_thing_is_one_line(tmp_path: Path, no_data: None) -> None:
    report = gather_energy([NPU8, NPU_LB], CONFIG, tmp_path)
    no_area, *no_energy = report.missing
    assert no_area == f"No area: {tmp_path}/area.yaml: there is no area table; make it with `npuloop synth`."
    assert no_energy == [
        f"No energy of {title}: {tmp_path}/{unit}.energy.yaml: there is no energy table; "
        "make it with `npuloop characterize-energy`."
        for title, unit in (("npu8 W8A8 16 x 16", "w8a8_16x16"), ("npu_lb W2A8 16 x 64", "w2a8_16x64"))
    ]
    assert section.figures(report) == {}
    html = section.section(report, "energy")
    assert html.count("<p") == 3
    assert "<table" not in html
    for line in report.missing:
        assert line in text_of(html)


def test_what_the_tables_say_is_on_the_page(tmp_path: Path, no_data: None) -> None:
    area = area_document()
    area["units"]["sky130"][NPU8.key]["open_memories_um2"] = {"activations": 2_000_000, "weights": 1_000_000}
    folder = folder_of(tmp_path, area, [table_of(NPU8), table_of(NPU_LB, errors={})])
    report = gather_energy([NPU_LB, NPU8], CONFIG, folder)
    assert [unit.title for unit in report.units] == [core_title(NPU8), core_title(NPU_LB)]
    data, data_lb, validation = report.missing
    assert data.startswith("No energy of ResNet8 on npu8 W8A8 16 x 16: ")
    assert data_lb.startswith("No energy of ResNet8 on npu_lb W2A8 16 x 64: ")
    assert "w2a8_16x64.energy.yaml keeps none; make it with `npuloop characterize-energy`." in validation
    html = section.section(report, "energy")
    assert [name.split()[1] for name in drawings(html)] == ["area", "per_mac", "validation"]
    text = text_of(html)
    assert "W8, 16 x 16 in sky130 0.600 0.400 1.500 2.500 4.000 24.0 % 1.00" in text
    assert "W2, 16 x 64 in sky130 0.200 0.400 1.500 2.100 - 9.5 % 0.33" in text
    usual = "9.60 (4.80 to 19.20), 40 % zeros"
    assert f"npu8 W8A8 16 x 16 {usual} 12.00 9.00 (4.50 to 18.00) 6.60 2 15.0 % 20.0 %" in text
    assert f"npu_lb W2A8 16 x 64 {usual} 12.00 9.00 6.60 none" in text
    assert "0.3 3.47 9.6 9.6 a MAC in the array" in text
    assert "1.25 to 2.5 14.4 to 28.9 10 10 byte read" in text
    assert "162 to 325 not scaled 200 200" in text
    assert "not the present RTL" not in text


def test_tables_of_other_rtl_are_marked(tmp_path: Path, no_data: None) -> None:
    folder = folder_of(tmp_path, area_document(rtl_sha256="old"), [table_of(NPU8, rtl_sha256="old")])
    report = gather_energy([NPU8], CONFIG, folder)
    assert not report.area_current
    assert not report.units[0].current
    text = text_of(section.section(report, "energy"))
    assert "not the present RTL: run npuloop synth" in text
    assert "not the present RTL: run npuloop characterize-energy" in text


@pytest.mark.parametrize(
    ("area", "message"),
    [
        ({"units": {"sky130": {"w8": {"w_bits": 8}}}}, "is damaged ('groups_um2')"),
        ({"units": {"sky130": {NPU8.key: NO_ARRAY}}}, "is damaged (w8a8_16x16 has no array)"),
        ({"units": {"sky130": {}}}, "has no units"),
        ({"units": {"sky130": 7}}, "is damaged"),
        ({"schema": 9}, "is not an area table of schema 1"),
    ],
)
def test_a_damaged_area_table_is_one_line(
    area: Mapping[str, Any], message: str, tmp_path: Path, no_data: None
) -> None:
    report = gather_energy([], CONFIG, folder_of(tmp_path, area_document() | dict(area), []))
    (line,) = report.missing
    assert line.startswith(f"No area: {tmp_path}/area.yaml: ")
    assert message in line
    assert "make it with `npuloop synth`" in line
    assert (report.area, report.area_table) == ({}, None)


def test_an_unknown_library_is_not_scaled(tmp_path: Path, no_data: None) -> None:
    folder = folder_of(tmp_path, None, [table_of(NPU8, library={"name": "<odd>", "sha256": "0"})])
    html = section.section(gather_energy([NPU8], CONFIG, folder), "energy")
    assert "0.3 not scaled 9.6" in text_of(html)
    assert "<odd>" not in html
    assert "&lt;odd&gt;" in html


def test_the_page_has_the_section_and_its_link() -> None:
    empty = EnergyReport({}, None, False, (), ("No area: nothing is here.",))
    with_it, without = page([made_up_report()], empty), page([made_up_report()])
    assert '<a href="#energy">Energy and area</a>' in with_it
    assert with_it.count('<h2 id="energy">') == 1
    assert "No area: nothing is here." in with_it
    assert "Energy and area" not in without


def test_the_command_shows_energy_and_says_what_is_missing(
    tmp_path: Path, no_data: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path, area_document(), [])
    monkeypatch.setattr(calibrating, "EVERY", ((CONFIG, ("npu8",)),))
    monkeypatch.setattr(cycle_numbers, "gather", lambda *_: made_up_report())
    monkeypatch.setattr(farming, "Farm", lambda _: nullcontext())
    app = typer.Typer()
    app.command()(cli_report.report)
    out = tmp_path / "page.html"
    options = ["--out", str(out), "--tables", str(folder), "--store", str(tmp_path / "store.jsonl")]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    missing = (
        f"No energy of npu8 W8A8 16 x 16: {folder}/w8a8_16x16.energy.yaml: there is no energy table; make it"
    )
    said = " ".join(done.output.split())
    assert missing in said
    assert "npu_lb W2" not in said  # the page is not of that unit
    html = out.read_text()
    assert missing in text_of(html)
    assert [name.split()[1] for name in drawings(html)][-1] == "area"


def test_the_tables_of_the_tree_can_be_shown() -> None:
    for path in sorted(FOLDER.glob("*.energy.yaml")):
        table = load_energy_table(path)
        validation = validation_of(table, table.core, path)
        assert validation is not None, path
        mac_pj = mac_energy(table, table.core, validation)
        for share in mac_pj.known:
            lower, value, upper = mac_pj.at(share).tolist()
            assert 0 < lower < value < upper, path
        assert mac_pj.at(mac_pj.known[1])[VALUE] < mac_pj.at(mac_pj.known[0])[VALUE], path
