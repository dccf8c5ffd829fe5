# SPDX-License-Identifier: Apache-2.0
"""npuloop measure as a user meets it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from hw.core import CoreConfig
from hw.memory import MemoryModel
from hw.system import NPU8, System
from mapping.calibration import farm as farming
from mapping.calibration.measurement import Measurement, Setup
from mapping.calibration.store import Store
from mapping.cost.model import units_of
from mapping.cost.shapes import Shape, shapes_text
from npuloop.cli import measure as cli_measure
from npuloop.cli.console import reports_errors

SHAPES = [
    Shape("conv", "conv2d", 16, 32, 8, 8, (3, 3), (1, 1), "same"),
    Shape("shared", "conv2d", 16, 48, 4, 4, (1, 1), (1, 1), "valid", {"npu8": 16, "npu_lb": 32}),
    Shape("sum [red]", "add", 16, 16, 4, 4),
]
HEADER = (
    "name,op,unit,measured_cycles,predicted_cycles,error_percent,low_cycles,high_cycles,utilisation_percent,"
    "inside_calibrated_range"
)


@pytest.fixture
def shapes_file(tmp_path: Path) -> Path:
    path = tmp_path / "shapes.yaml"
    path.write_text(shapes_text(SHAPES))
    return path


def run(*arguments: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(reports_errors(cli_measure.measure))
    return CliRunner().invoke(app, [str(item) for item in arguments])


def message(done: Result) -> str:
    assert done.exit_code == 2, done.output
    return " ".join(done.stderr.split())


@pytest.mark.rtl
def test_shapes_are_measured_in_their_order_and_kept(shapes_file: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "deep" / "m.csv", tmp_path / "store.jsonl"
    options = ("--shapes", shapes_file, "--out", out, "--store", store, "--workers", 0)
    done = run(*options, "--unit", "npu_lb")
    assert done.exit_code == 0, done.output
    text = out.read_text()
    assert text.splitlines()[0] == HEADER
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["name"], row["unit"]) for row in rows] == [
        ("conv", "npu_lb"), ("shared", "npu8+npu_lb"), ("sum [red]", "npu_lb")
    ]  # fmt: skip
    kept = {item.shape.name: item for item in Store(store)}
    for row in rows:
        assert int(row["measured_cycles"]) == kept[row["name"]].cycles
        assert row["utilisation_percent"] == f"{100 * kept[row['name']].utilisation:.2f}"
        assert abs(float(row["error_percent"])) < 6
        assert int(row["low_cycles"]) <= int(row["predicted_cycles"]) <= int(row["high_cycles"])
        assert row["inside_calibrated_range"] in ("yes", "no")
    assert "sum [red]" in done.output
    total = sum(item.cycles for item in kept.values())
    assert f"3 shapes measured, {total:,} cycles; mean absolute error" in done.output
    assert run(*options, "--unit", "npu_lb").exit_code == 0
    assert out.read_text() == text
    slow = run(*options, "--unit", "npu8", "--latency", 100)
    assert slow.exit_code == 0
    assert "no predictions: the cost table was calibrated with other settings of the memory" in slow.output
    for row in csv.DictReader(out.read_text().splitlines()):
        assert row["predicted_cycles"] == row["error_percent"] == row["inside_calibrated_range"] == ""
    assert len(Store(store)) == 6  # the shared one too: another latency


def test_the_settings_change_the_unit_that_they_name(
    shapes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def measure(setup: Setup, jobs: list[tuple[Shape, str]], *_: object) -> list[Measurement]:
        seen.update(setup=setup, places=[units_of(shape, unit, setup.config) for shape, unit in jobs])
        return [Measurement(shape, unit, 9, {}, 1, 0.5, "s", "c", 0.1) for shape, unit in jobs]

    @contextmanager
    def farm(workers: int | None, scheduler: str | None, **_: object) -> Iterator[SimpleNamespace]:
        seen.update(workers=workers, scheduler=scheduler)
        yield SimpleNamespace(measure=measure)

    monkeypatch.setattr(farming, "Farm", farm)
    done = run(
        "--shapes", shapes_file, "--out", tmp_path / "m.csv", "--set", "npu_lb.W_BITS=4", "--latency", 50,
        "--scheduler", "tcp://x:1", "--store", tmp_path / "s.jsonl"
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert seen["setup"] == Setup(
        System((NPU8, CoreConfig("npu_lb", w_bits=4, stripe_depth=16, weight_kib=16))),
        MemoryModel(latency=50),
    )
    assert (seen["workers"], seen["scheduler"]) == (None, "tcp://x:1")
    assert seen["places"] == [("npu8",), ("npu8", "npu_lb"), ("npu8",)]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--unit", "gpu"), "no unit 'gpu' in this system; it has npu8, npu_lb"),
        (("--set", "npu_lb.W_BITS=9"), "w_bits = 9 must be 2 to 8"),
        (("--set", "COLOUR=1"), "no parameter 'COLOUR'"),
        (("--latency", "1"), "memory latency = 1 must be 2 to 1000000 cycles"),
        (("--shapes", "none.yaml"), "none.yaml: no such file"),
        (("--workers", "2", "--scheduler", "tcp://x:1"), "give a number of workers or a scheduler"),
    ],
)
def test_bad_input_is_one_error_and_no_file(
    options: tuple[str, ...], text: str, shapes_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.csv"
    done = run("--shapes", shapes_file, "--out", out, "--store", tmp_path / "s.jsonl", *options)
    assert message(done).startswith("error: ")
    assert text in message(done)
    assert not out.exists()


@pytest.mark.rtl
def test_a_shape_that_does_not_fit_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    huge = Shape("huge", "average_pool", 16, 16, 99, 99, (99, 99), (1, 1), "valid")
    path, out, store = tmp_path / "s.yaml", tmp_path / "m.csv", tmp_path / "s.jsonl"
    path.write_text(shapes_text([SHAPES[0], huge]))
    done = run("--shapes", path, "--out", out, "--store", store, "--workers", 0)
    text = message(done)
    assert "1 of 2 measurements failed, the others are in" in text
    assert re.search(r"'huge' on npu8: .+", text)
    assert [item.shape.name for item in Store(store)] == ["conv"]
    assert not out.exists()


def test_a_damaged_store_is_one_error(shapes_file: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.jsonl"
    store.write_text("something else\n")
    done = run("--shapes", shapes_file, "--out", tmp_path / "m.csv", "--store", store)
    assert re.search(r"s.jsonl, line 1: damaged", message(done))
