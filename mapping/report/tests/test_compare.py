# SPDX-License-Identifier: Apache-2.0
"""npuloop compare: measured cycles beside ours and those of methods that have seen no measurement."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from hw.core import CoreConfig
from mapping.calibration import farm as farming
from mapping.calibration.farm import Farm
from mapping.calibration.measurement import Measurement
from mapping.calibration.store import Store
from mapping.cost.model import CostModel
from mapping.cost.real_networks import real_networks
from mapping.cost.shapes import Shape, shapes_text
from mapping.report import estimates
from mapping.report.cycle_comparison import TINY, Comparison, comparison_table, csv_text, summary, tiny_layers
from mapping.report.testing import CONFIG, Runs, cost_tables, made_up_job
from npuloop.cli import report as cli_report
from npuloop.cli.console import reports_errors

CONV = Shape("conv", "conv2d", 64, 64, 16, 16, (3, 3), (1, 1), "same")
DENSE = Shape("dense [red]", "fully_connected", 256, 256, 1, 1)
ADD = Shape("sum", "add", 64, 64, 16, 16)
SHARED = Shape("wide", "conv2d", 64, 80, 16, 16, (3, 3), (1, 1), "same", {"npu8": 16, "npu_lb": 64})
SHAPES = [CONV, DENSE, ADD, SHARED]
HEADER = (
    "name,op,unit,measured_cycles,npuloop_cycles,npuloop_error_percent,ideal_cycles,ideal_error_percent,"
    "roofline_cycles,roofline_error_percent"
)


def comparison() -> Comparison:
    """Return two layers with round numbers."""
    measured = tuple(
        Measurement(shape, "npu8", cycles, {}, shape.macs, 0.5, "s", "c", 0.1)
        for shape, cycles in ((CONV, 40_000), (ADD, 4_000))
    )
    return Comparison(
        measured,
        {
            "ideal": np.array([36_864.0, 1_024.0]),
            "zigzag": np.array([37_905.0, np.nan]),
            "npuloop": np.array([40_100.0, 3_960.4]),
        },
    )


def test_an_error_of_nothing_has_no_sign() -> None:
    item = comparison().measurements[0]
    text = csv_text(Comparison((item,), {"npuloop": np.array([39_999.9])}))
    assert text.splitlines()[1] == "conv,conv2d,npu8,40000,40000,0.00"
    assert summary(Comparison((item,), {"npuloop": np.array([39_999.9])})) == [
        "npuloop: mean absolute error 0.00 %, largest 0.00 % (conv), 1 of 1 layers"
    ]


def test_the_errors_are_those_of_the_estimates_against_the_measurement() -> None:
    assert csv_text(comparison()).splitlines() == [
        HEADER.replace("roofline", "zigzag"),
        "conv,conv2d,npu8,40000,40100,0.25,36864,-7.84,37905,-5.24",
        "sum,add,npu8,4000,3960,-0.99,1024,-74.40,,",
    ]
    assert comparison_table(comparison()).row_count == 2


def test_each_method_has_its_mean_and_its_largest_error() -> None:
    assert summary(comparison()) == [
        "npuloop: mean absolute error 0.62 %, largest -0.99 % (sum), 2 of 2 layers",
        "MACs / peak: mean absolute error 41.12 %, largest -74.40 % (sum), 2 of 2 layers",
        "ZigZag: mean absolute error 5.24 %, largest -5.24 % (conv), 1 of 2 layers",
    ]


def test_a_method_without_estimates_says_so() -> None:
    nothing = Comparison(comparison().measurements, {"zigzag": np.array([np.nan] * 2), "npuloop": np.ones(2)})
    assert summary(nothing)[1] == "ZigZag: no estimate of these layers"


def test_without_a_file_the_layers_are_those_of_mlperf_tiny() -> None:
    layers = tiny_layers(CONFIG, "npu8")
    assert {shape.name.split("/")[0] for shape in layers} == set(TINY)
    known = {shape.key for name in TINY for shape in real_networks()[name]}
    assert {shape.key for shape in layers} == known
    assert len(layers) == len(known)


# -------------------------------------------------------------------------------------------------- command
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cost_tables(tmp_path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """What is measured: nothing in RTL; every layer takes 100,000 cycles."""
    ran: Runs = []
    job = made_up_job(ran, lambda *_: 100_000)
    monkeypatch.setattr(farming, "build", lambda *_, **__: None)
    monkeypatch.setattr(farming, "Farm", lambda _: Farm(0, job=job))
    monkeypatch.setattr(estimates, "zigzag_version", lambda: None)
    return ran


@pytest.fixture
def options(folder: Path, tmp_path: Path) -> tuple[object, ...]:
    shapes = tmp_path / "shapes.yaml"
    shapes.write_text(shapes_text(SHAPES))
    out, store = tmp_path / "deep" / "c.csv", tmp_path / "m.jsonl"
    return "--shapes", shapes, "--out", out, "--store", store, "--tables", folder


def run(*arguments: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(reports_errors(cli_report.compare))
    return CliRunner().invoke(app, [str(item) for item in arguments])


def rows(out: object) -> list[dict[str, str]]:
    text = Path(str(out)).read_text()
    return list(csv.DictReader(text.splitlines()))


def test_shapes_are_compared_in_their_order_and_splits_run_on_their_units(
    runs: Runs, options: tuple[object, ...], folder: Path
) -> None:
    done = run(*options, "--unit", "npu_lb")
    assert done.exit_code == 0, done.output
    table = rows(options[3])
    assert ",".join(table[0]) == HEADER
    assert [(row["name"], row["unit"]) for row in table] == [
        ("conv", "npu_lb"), ("dense [red]", "npu_lb"), ("sum", "npu_lb"), ("wide", "npu8+npu_lb")
    ]  # fmt: skip
    assert sorted(runs) == sorted((row["name"], row["unit"]) for row in table)
    # MACs / peak, and the roofline, of npu_lb: 16 * 16 * 9 * 64 * 64 / 1024; (256 + 16384 + 2304) / 16
    assert [row["ideal_cycles"] for row in table] == ["9216", "64", "1024", "9216"]
    assert [row["roofline_cycles"] for row in table] == ["9216", "1184", "2048", "9216"]
    assert [row["ideal_error_percent"] for row in table] == ["-90.78", "-99.94", "-98.98", "-90.78"]
    model = CostModel(CONFIG, folder)
    for row, shape in zip(table, SHAPES, strict=True):
        predicted = model.layer(shape, row["unit"]).cycles
        assert row["npuloop_cycles"] == f"{predicted:.0f}"
        assert row["npuloop_error_percent"] == f"{predicted / 1000 - 100:.2f}"
    assert "dense [red]" in done.output
    assert "MACs / peak: mean absolute error 95.12 %, largest -99.94 % (dense [red]), 4 of 4" in done.output
    assert run(*options, "--unit", "npu_lb").exit_code == 0
    assert len(runs) == 4  # the store has them


def test_without_zigzag_the_command_says_how_to_get_it(runs: Runs, options: tuple[object, ...]) -> None:
    done = run(*options)
    assert done.exit_code == 0, done.output
    assert "ZigZag is not installed; for its estimates: pip install 'npuloop[compare]'" in done.output


def test_with_zigzag_its_estimates_of_whole_layers_with_weights_stand_beside_ours(
    runs: Runs, options: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cycles(shapes: Sequence[Shape], core: CoreConfig) -> list[float | None]:
        assert core.name == "npu8"
        return [None if shape.op == "fully_connected" else 95_000.0 for shape in shapes]

    monkeypatch.setattr(estimates, "zigzag_cycles", cycles)
    monkeypatch.setattr(estimates, "zigzag_version", lambda: "0")
    monkeypatch.setattr(estimates, "build_root", lambda: tmp_path)
    done = run(*options)
    assert done.exit_code == 0, done.output
    assert [row["zigzag_cycles"] for row in rows(options[3])] == ["95000", "", "", ""]
    assert rows(options[3])[0]["zigzag_error_percent"] == "-5.00"
    assert "pip install" not in done.output


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (("--unit", "gpu"), "no unit 'gpu' in this system; it has npu8, npu_lb"),
        (("--set", "COLOUR=1"), "no parameter 'COLOUR'"),
        (("--shapes", "none.yaml"), "none.yaml: no such file"),
        (("--tables", "nowhere"), "nowhere/w8a8_16x16.yaml: there is no cost table"),
    ],
)
def test_bad_input_is_one_error_before_anything_is_measured(
    changed: tuple[str, ...], text: str, runs: Runs, options: tuple[object, ...]
) -> None:
    done = run(*options, *changed)
    assert done.exit_code == 2, done.output
    message = " ".join(done.stderr.split())
    assert message.startswith("error: ")
    assert text in message
    assert runs == []
    assert not Path(str(options[3])).exists()


@pytest.mark.rtl
def test_the_measured_cycles_are_those_of_the_rtl(folder: Path, tmp_path: Path) -> None:
    small = Shape("small", "conv2d", 16, 16, 4, 4, (3, 3), (1, 1), "same")
    shapes, out, store = tmp_path / "s.yaml", tmp_path / "c.csv", tmp_path / "m.jsonl"
    shapes.write_text(shapes_text([small]))
    options = ("--shapes", shapes, "--out", out, "--store", store, "--tables", folder, "--workers", 0)
    done = run(*options)
    assert done.exit_code == 0, done.output
    (kept,) = Store(store)
    assert rows(out)[0]["measured_cycles"] == str(kept.cycles)
    assert kept.cycles > 9 * 16
    assert abs(float(rows(out)[0]["npuloop_error_percent"])) < 20  # not yet calibrated
