# SPDX-License-Identifier: Apache-2.0
"""The page of the cost model's errors: its figures, its numbers, and where they come from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from hw.system import NPU8, System
from mapping.calibration import calibrate as calibrating, farm as farming
from mapping.calibration.calibrate import EVERY, Bench
from mapping.calibration.farm import Farm
from mapping.calibration.measurement import Setup
from mapping.calibration.store import Store
from mapping.cost.coefficients import NAMES
from mapping.cost.model import CostModel
from mapping.cost.shapes import Shape
from mapping.report import cycle_numbers, cycle_plots as plots, estimates
from mapping.report.cycle_numbers import GROUPS, UnitReport, block_slopes, gather, grouped, layer_phases
from mapping.report.cycles import figures, page
from mapping.report.estimates import KnownEstimates
from mapping.report.style import svg
from mapping.report.testing import Runs, cells, cost_tables, dots, drawings, made_up_job, made_up_report
from mapping.run.networks import compile_network
from mapping.run.random_networks import random_network
from npuloop.cli import report as cli_report
from npuloop.cli.console import reports_errors

CONFIG = System()
CONV = Shape("tiny/conv", "conv2d", 16, 32, 6, 6, (3, 3), (1, 1), "same")
ADD = Shape("tiny <b>add</b>", "add", 16, 16, 4, 4)
DENSE = Shape("resnet8/dense", "fully_connected", 64, 10, 1, 1)
SHARED = Shape("resnet8/wide", "conv2d", 16, 48, 4, 4, (1, 1), (1, 1), "valid", {"npu8": 16, "npu_lb": 32})
SVG = "http://www.w3.org/2000/svg"
FIGURES = ("accuracy", "distribution", "staircase", "phases", "methods", "learning")


# ------------------------------------------------------------------------------------------------- material
# ---------------------------------------------------------------------------------------------------- page
@pytest.fixture(scope="module")
def html() -> str:
    """The page of one unit."""
    return page([made_up_report()])


@pytest.fixture(scope="module")
def html_of_two() -> str:
    """The page of two units."""
    return page([made_up_report("one"), made_up_report("two")])


def test_every_unit_has_every_figure(html_of_two: str) -> None:
    shown = drawings(html_of_two)
    assert [name.split()[1] for name in shown] == [*FIGURES, *FIGURES]
    for drawing in shown.values():
        assert len(list(drawing.iter(f"{{{SVG}}}path"))) > 10


def test_the_page_and_its_drawings_refer_to_nothing_outside(html: str) -> None:
    for target in re.findall(r'(?:src|href|srcset|action|data)\s*=\s*"([^"]*)"', html):
        assert target.startswith(("data:image/svg+xml;base64,", "#")), target
    assert not re.search(r"<(script|link|iframe|object)|@import|url\(|https?://", html)
    for drawing in drawings(html).values():
        text = ET.tostring(drawing, encoding="unicode")
        names = {SVG, "http://www.w3.org/1999/xlink"}
        assert set(re.findall(r"https?://[^\"]+", text)) <= names
        for element in drawing.iter():
            for name, value in element.attrib.items():
                if name.endswith(("href", "src")):
                    assert value.startswith("#"), value
                assert "url(http" not in value


def test_a_section_is_reached_by_its_link(html_of_two: str) -> None:
    targets = set(re.findall(r'href="#(\w+)"', html_of_two))
    assert len(targets) == html_of_two.count("<h2 id=") == 2
    for target in targets:
        assert html_of_two.count(f'id="{target}"') == 1


def test_names_are_escaped(html: str) -> None:
    assert "npu8 <W8>" not in html
    assert "npu8 &lt;W8&gt;" in html


def test_the_errors_on_the_page_are_those_of_the_sets_and_of_the_table(html: str) -> None:
    random = ["2", "1.00 %", "1.00 %", "1.00 %", "0.00 %", "1.0000", "100.0 %"]
    assert cells(html, "random layers") == [["random layers", *random]]
    real = ["2", "5.00 %", "9.50 %", "10.00 %", "+5.00 %", "0.5000", "50.0 %"]
    assert cells(html, "layers of real networks") == [["layers of real networks", *real]]
    ((_, *fit),) = cells(html, "fit")
    assert fit == ["40", "0.12 %", "0.40 %", "0.90 %", "+0.01 %", "0.9991", "91.2 %"]
    assert [row[1:] for row in cells(html, "npu8 &lt;W8&gt;: ")] == [random, real]


def test_missed_limits_are_red(html: str) -> None:
    marked = re.findall(r'<span class="over">([^<]+)</span>', html)
    # in the summary and in the section: mean 5 > 1, p95 9.5 > 3, maximum 10 > 6; and the RTL
    assert marked == ["5.00 %", "9.50 %", "10.00 %"] * 2 + ["which is not the present RTL: calibrate again"]


def test_the_errors_of_the_methods_are_those_of_their_estimates(html: str) -> None:
    assert cells(html, "MACs / peak") == [["MACs / peak", "2", "50.00 %", "50.00 %", "50.00 %"]]
    assert cells(html, "roofline") == [["roofline", "2", "22.50 %", "24.75 %", "25.00 %"]]
    assert cells(html, "ZigZag") == [["ZigZag", "1", "5.00 %", "5.00 %", "5.00 %"]]
    assert cells(html, "npuloop") == [["npuloop", "2", "5.00 %", "9.50 %", "10.00 %"]]


def test_coefficients_stand_with_confidence_and_counter(html: str) -> None:
    ((_, *launch),) = cells(html, "launch_cycles")
    assert launch[:4] == ["7.00", "8.50 to 9.50", "7", "cycles"]
    assert [len(cells(html, name)) for name in NAMES] == [1] * len(NAMES)
    ((_, *array),) = cells(html, "array_cycles")
    assert array[1:4] == ["not fitted here", "1", "compute_run"]


def test_the_page_says_where_its_numbers_come_from(html: str) -> None:
    assert cells(html, "calibrated") == [["calibrated", "2025-01-31"]]
    assert "read_latency_cycles 20" in cells(html, "memory")[0][1]
    assert "of yesterday, which is not the present RTL" in cells(html, "RTL")[0][1]
    assert cells(html, "tools") == [["tools", "verilator 5.0"]]
    assert "two layers: predicted 66 cycles, measured 60: +10.00 %" in html
    assert "4 layers, 1 outside their 90 % interval" in html


# -------------------------------------------------------------------------------------------------- figures
def test_the_figures_draw_the_numbers_they_are_given() -> None:
    drawn = {name: figure for name, (figure, _) in figures(made_up_report()).items()}
    top, bottom = drawn["accuracy"].axes
    assert dots(top)[:2] == [[[100, 101], [200, 198]], [[400, 440], [50, 50]]]
    np.testing.assert_allclose([[y for _, y in item] for item in dots(bottom)[::2]], [[1, -1], [10, 0]])
    assert dots(bottom)[1::2] == [[], [dots(bottom)[2][0]]]  # ringed: outside of its interval
    steps = drawn["staircase"].axes[0].lines[-1]
    assert np.asarray(steps.get_xydata()).tolist() == [[1, 10], [2, 11], [4, 20]]
    panel = drawn["phases"].axes[0]
    boxes = [bar.get_extents().transformed(panel.transData.inverted()) for bar in panel.patches]
    np.testing.assert_allclose([box.width for box in boxes], [10, 1] * len(GROUPS))
    np.testing.assert_allclose(max(box.x1 for box in boxes), 60)
    curve = drawn["learning"].axes[0].lines[0]
    assert [error for _, error in np.asarray(curve.get_xydata()).tolist()] == [12.0, 3.0, 0.75]
    ratios = [[x for x, _ in item] for item in dots(drawn["methods"].axes[0])]
    assert ratios == [[0.5, 0.5], [0.75, 0.8], [0.95], [1.1, 1.0]]


def test_equal_numbers_give_equal_drawings() -> None:
    first, second = (svg(plots.learning([(0, 3.0), (5, 1.0)], 1.0)) for _ in range(2))
    assert first == second


# -------------------------------------------------------------------------------------------------- numbers
def test_the_slope_is_the_average_over_each_block() -> None:
    cycles = np.array([0, 8, 8, 10, 30, 30, 31, 40], float)
    # blocks of 3: 0 to 3, 3 to 6, and what is left
    np.testing.assert_allclose(block_slopes(cycles, 3), [10 / 3] * 3 + [7] * 3 + [9])


def test_every_phase_has_one_group_and_groups_keep_the_sum() -> None:
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(NAMES)
    terms = {name: float(i) for i, name in enumerate(NAMES)}
    totals = grouped(terms)
    assert sum(totals.values()) == sum(range(len(NAMES)))
    assert totals["drain"] == sum(terms[name] for name in GROUPS["drain"])
    assert grouped({"new_cycles": 5.0})["control"] == 5.0
    assert list(plots.GROUP_COLOURS) == list(GROUPS)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_phases_of_the_layers_sum_to_those_of_the_network(seed: int, folder: Path) -> None:
    network, units, _ = random_network(seed, CONFIG.cores)
    program = compile_network(network, CONFIG, units).program
    model = CostModel(CONFIG, folder)
    whole = model.program(program)
    layers, terms = layer_phases(program, CONFIG.cores, model.coefficients(list(program.lists)))
    assert sorted(layers) == sorted(op.name for op in program.graph.ops)
    sums = [sum(item.values()) for item in terms]
    ends = [max(end for (name, _), end in whole.ends.items() if name == layer) for layer in layers]
    np.testing.assert_allclose(np.cumsum(sums)[:-1], ends[:-1])
    np.testing.assert_allclose(sum(sums), whole.cycles)
    assert min(value for item in terms for value in item.values()) >= 0
    for name in NAMES:
        total = sum(item[name] for item in whole.terms.values())
        np.testing.assert_allclose(sum(item[name] for item in terms), total, atol=1e-6)


# ------------------------------------------------------------------------------------- gathering, in no RTL
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with tables of both units and of both together."""
    return cost_tables(tmp_path)


def one_percent_more(folder: Path) -> Callable[[System, Shape, str], int]:
    """Return cycles that are 1 % above what the tables of a folder predict."""
    return lambda config, shape, unit: round(1.01 * CostModel(config, folder).layer(shape, unit).cycles)


@pytest.fixture
def runs(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    """What is measured, and nothing of it in RTL."""
    ran: Runs = []
    job = made_up_job(ran, one_percent_more(folder))

    def held_out(_: Bench, units: Sequence[str]) -> dict[str, list[Shape]]:
        if len(units) > 1:
            return {"held_out_random": [SHARED], "held_out_networks": [SHARED]}
        return {"held_out_random": [CONV, ADD], "held_out_networks": [DENSE]}

    monkeypatch.setattr(farming, "build", lambda *_, **__: None)
    monkeypatch.setattr(cycle_numbers, "held_out", held_out)
    monkeypatch.setattr(
        cycle_numbers, "STEPS", Shape("steps", "conv2d", 16, 1, 2, 2, (1, 1), (1, 1), "valid")
    )
    monkeypatch.setattr(farming, "Farm", lambda _: Farm(0, job=job))
    monkeypatch.setattr(estimates, "zigzag_version", lambda: None)
    monkeypatch.setenv("NPULOOP_DATA", str(tmp_path / "nothing"))
    return ran


Gather = Callable[..., UnitReport]


@pytest.fixture
def gathered(runs: Runs, folder: Path, tmp_path: Path) -> Iterator[Gather]:
    with Farm(0, job=made_up_job(runs, one_percent_more(folder))) as farm:
        bench = Bench(Setup(CONFIG), farm, Store(tmp_path / "m.jsonl"), folder)
        yield lambda *units: gather(bench, units)


def test_only_what_the_store_lacks_is_measured(gathered: Gather, runs: Runs) -> None:
    first = gathered("npu8")
    assert {CONV.name, ADD.name, DENSE.name, "staircase_1", "staircase_17"} <= {name for name, _ in runs}
    assert len(set(runs)) == len(runs)
    count = len(runs)
    second = gathered("npu8")
    assert len(runs) == count
    assert second.sets["held_out_random"].errors == first.sets["held_out_random"].errors


@pytest.mark.parametrize("units", [("npu_lb",), CONFIG.units], ids="+".join)
def test_what_is_shown_is_what_the_model_says_beside_what_was_measured(
    units: tuple[str, ...], gathered: Gather, folder: Path
) -> None:
    report, model = gathered(*units), CostModel(CONFIG, folder)
    for item in report.sets.values():
        predictions = [model.layer(shape, units[0]) for shape in item.shapes]
        np.testing.assert_allclose(item.predicted, [guess.cycles for guess in predictions])
        np.testing.assert_allclose(item.predicted + item.half, [guess.high for guess in predictions])
        np.testing.assert_array_equal(item.measured, [round(1.01 * guess.cycles) for guess in predictions])
        error = 100 * np.abs(item.predicted / item.measured - 1)
        assert item.errors.mape_percent == pytest.approx(error.mean())
    for count, cycles in report.staircase.measured.items():
        assert cycles == round(1.01 * report.staircase.model[count])
    assert not report.current
    np.testing.assert_array_equal(report.estimates["npuloop"], report.sets["held_out_networks"].predicted)
    total = sum(values.sum() for values in report.phases.cycles.values())
    assert total == pytest.approx(report.sets["held_out_networks"].predicted.sum())
    assert set(figures(report)) == set(FIGURES)


def test_the_shared_staircase_ends_at_each_unit_alone(gathered: Gather, folder: Path) -> None:
    steps, model = gathered(*CONFIG.units).staircase, CostModel(CONFIG, folder)
    most = cycle_numbers.SPLIT_CHANNELS
    whole = cycle_numbers._steps(most)
    assert steps.model[0] == model.layer(whole, "npu_lb").cycles
    assert steps.model[most] == model.layer(whole, "npu8").cycles
    assert len(steps.model) == most + 1
    assert {0, 16, 17, most} <= set(steps.measured)


def test_estimates_of_zigzag_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def cycles(shapes: list[Shape], _: object) -> list[float | None]:
        asked.extend(shape.name for shape in shapes)
        return [None if shape.name == DENSE.name else 7.0 for shape in shapes]

    monkeypatch.setattr(estimates, "zigzag_cycles", cycles)
    monkeypatch.setattr(estimates, "zigzag_version", lambda: "1")
    path = tmp_path / "z" / "zigzag.json"
    known = KnownEstimates(path)
    assert known([CONV, DENSE], NPU8) == [7.0, None]
    assert known([DENSE, CONV], NPU8) == [None, 7.0]
    assert asked == [CONV.name, DENSE.name]
    assert len(json.loads(path.read_text())) == 2
    path.write_text("{damaged")
    assert known([CONV], NPU8) == [7.0]
    monkeypatch.setattr(estimates, "zigzag_version", lambda: "2")
    known([CONV], NPU8)
    assert asked == [CONV.name, DENSE.name, CONV.name, CONV.name]


# -------------------------------------------------------------------------------------------------- command
def run(*arguments: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(reports_errors(cli_report.report))
    return CliRunner().invoke(app, [str(item) for item in arguments])


def test_the_command_writes_the_page_of_the_units_that_are_asked_for(
    runs: Runs, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrating, "EVERY", ((CONFIG, ("npu8",)),))
    out = tmp_path / "deep" / "r.html"
    done = run("--out", out, "--tables", folder, "--store", tmp_path / "m.jsonl")
    assert done.exit_code == 0, done.output
    assert len(drawings(out.read_text())) == len(FIGURES)
    assert "npu8 W8A8 16 x 16: held out random: 2 layers, mean absolute error" in done.output
    assert f"wrote {out}" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--tables", "nowhere"), "nowhere/w8a8_16x16.yaml: there is no cost table; make it with `npuloop"),
        (("--set", "npu_lb.W_BITS=9"), "w_bits = 9 must be 2 to 8"),
        (("--set", "npu_lb.W_BITS=3"), "there is no cost table"),
    ],
)
def test_bad_input_is_one_error_before_anything_is_measured(
    options: tuple[str, ...], text: str, runs: Runs, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.html"
    done = run("--tables", folder, "--out", out, "--store", tmp_path / "m.jsonl", *options)
    assert done.exit_code == 2, done.output
    message = " ".join(done.stderr.split())
    assert message.startswith("error: ")
    assert text in message
    assert runs == []
    assert not out.exists()


def test_the_default_page_shows_every_width_and_the_pair() -> None:
    assert [(units, system.core("npu_lb").w_bits) for system, units in EVERY] == [
        (("npu8",), 2), (("npu_lb",), 2), (("npu8", "npu_lb"), 2), (("npu_lb",), 4), (("npu8", "npu_lb"), 4),
        (("npu_lb",), 5), (("npu8", "npu_lb"), 5),
    ]  # fmt: skip
