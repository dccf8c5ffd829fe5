# SPDX-License-Identifier: Apache-2.0
"""npuloop calibrate and predict as a user meets them; a calibration that is killed and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from common.paths import ROOT
from golden.network_file import load_network
from golden.zoo.digits import network_file
from hw.system import System
from mapping.calibration import calibrate as calibrating, design, farm as farming
from mapping.calibration.calibrate import (
    Bench,
    CalibrationError,
    calibrate,
    check,
    held_out,
    held_out_layers,
    write_table,
)
from mapping.calibration.farm import Farm
from mapping.calibration.measurement import Measurement, Setup, commands_digest, compile_shape
from mapping.calibration.store import Store
from mapping.compiler.assignment import Assignment
from mapping.cost.coefficients import TERM, named, starting_point
from mapping.cost.model import CostModel, units_of
from mapping.cost.shapes import Shape, shapes_text
from mapping.cost.tables import TableError, load_table
from mapping.cost.timing import time_lists
from mapping.run.networks import compile_network
from npuloop.cli.main import app

NOTES = "NPULOOP_TEST_NOTES"
"""Environment variable: the folder in which jobs leave their marks."""
BUDGET = 20
SETUP = Setup(System())
KILLS = (3, 7, 14, 2)
"""After so many appends a run is killed; one more is killed while it writes the table."""
LAYERS = {
    "small": (
        Shape("a", "conv2d", 3, 16, 8, 8, (3, 3), (1, 1), "same"),
        Shape("b", "depthwise_conv2d", 16, 16, 8, 8, (3, 3), (1, 1), "same"),
        Shape("c", "conv2d", 16, 48, 6, 6, (1, 1), (1, 1), "same"),
        Shape("d", "fully_connected", 64, 10, 1, 1),
    )
}
TRUTH = starting_point() * 1.1
TRUTH[TERM["load_latency_cycles"]] = 30.0


# ----------------------------------------------------------------------------------------------- calibrations
def made_up(setup: Setup, shape: Shape, unit: str) -> Measurement:
    """What a job gives, without a simulator; it notes that it ran."""
    with (Path(os.environ[NOTES]) / "ran").open("a") as file:
        file.write(f"{shape.split or unit} {shape.key}\n")
    program = compile_shape(shape, unit, setup.config)
    values = {core.name: TRUTH for core in setup.config.cores}
    cycles = round(time_lists(program.lists, setup.config.cores, values).cycles)
    digest = commands_digest(program)
    place = "+".join(units_of(shape, unit, setup.config))
    return Measurement(shape, place, cycles, {place: {}}, shape.macs, 0.5, setup.digest, digest, 1.0)


def make_small(put: Callable[[Any, str, Any], None]) -> None:
    """Make calibrations take a moment, and never build the RTL."""
    put(calibrating, "HELD_OUT", 8)
    put(calibrating, "HELD_OUT_TOGETHER", 8)
    put(calibrating, "CANDIDATES", 8)
    put(calibrating, "RESAMPLES", 10)
    put(calibrating, "real_networks", lambda: LAYERS)
    put(design, "real_networks", lambda: LAYERS)
    put(design, "MOST_MACS", 300_000)
    put(design, "MOST_VALUES", 10_000)
    put(farming, "build", lambda *_, **__: None)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the marks."""
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv(NOTES, str(folder))
    make_small(monkeypatch.setattr)
    return folder


def ran(notes: Path) -> list[str]:
    file = notes / "ran"
    return file.read_text().splitlines() if file.exists() else []


def calibrated(folder: Path, units: Sequence[str] = ("npu8",), budget: int = BUDGET) -> Path:
    """Calibrate in this process and write the table, of a day that does not end meanwhile."""
    with Farm(0, job=made_up) as farm:
        bench = Bench(SETUP, farm, Store(folder / "m.jsonl"), folder / "tables")
        return write_table(replace(calibrate(bench, units, budget), date="2026-01-02"), bench, units)


CHILD = """
import os, signal, sys
from pathlib import Path
from npuloop.cli.tests import test_cost as tests
tests.make_small(setattr)
folder, kills = Path(sys.argv[1]), [int(value) for value in sys.argv[2:]]
write = os.write
for left in kills + [10_000]:
    child = os.fork()
    if not child:
        def dying(handle, data):
            global left
            left -= 1
            done = write(handle, data)
            if not left:
                os.fsync(handle)
                os.kill(os.getpid(), signal.SIGKILL)
            return done
        os.write = dying
        if left == 10_000:  # the last run dies between the table's text and its name
            Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        tests.calibrated(folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status), flush=True)
    print(len(tests.Store(folder / "m.jsonl")), flush=True)
"""


@pytest.mark.slow
def test_a_calibration_killed_five_times_ends_with_the_table_of_an_undisturbed_one(
    notes: Path, tmp_path: Path
) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(killed), *map(str, KILLS)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [int(line) for line in done.stdout.split()]
    assert lines[::2] == [signal.SIGKILL] * 5, done.stderr
    assert lines[1:-1:2] == [sum(KILLS[: i + 1]) for i in range(len(KILLS))]  # nothing is lost
    assert lines[-1] > sum(KILLS)  # the last run has measured the rest
    tables = killed / "tables"
    assert not (tables / "w8a8_16x16.yaml").exists()  # never half a table
    with pytest.raises(TableError, match="there is no cost table"):
        CostModel(SETUP.config, tables).table("npu8")
    again = calibrated(killed)
    jobs = ran(notes)
    assert len(jobs) == len(set(jobs)) == len(Store(killed / "m.jsonl"))  # nothing is measured twice
    text = calibrated(undisturbed).read_text()
    assert again.read_text() == text
    assert len(ran(notes)) == 2 * len(jobs)
    assert sorted(ran(notes)[len(jobs) :]) == sorted(jobs)
    assert [path.name for path in tables.iterdir() if path.suffix == ".yaml"] == ["w8a8_16x16.yaml"]
    assert load_table(again).coefficients.shape == starting_point().shape


@pytest.fixture(scope="module")
def table_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with calibrations of npu8, npu_lb and both together, and their store."""
    folder = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NOTES, str(folder))
        make_small(patch.setattr)
        for units in (("npu8",), ("npu_lb",), SETUP.config.units):
            calibrated(folder, units)
        yield folder


def test_a_calibration_finds_what_the_cycles_were_made_of(table_folder: Path) -> None:
    table = load_table(table_folder / "tables" / "w8a8_16x16.yaml")
    assert table.errors["fit"].points == BUDGET
    assert table.errors["held_out_random"].points == 8
    assert table.errors["held_out_networks"].points == len(LAYERS["small"])
    for name, errors in table.errors.items():
        assert errors.mape_percent < 0.5, name
    curve = dict(table.learning_curve)
    assert list(curve) == [0, 5, 10, BUDGET]
    assert curve[BUDGET] < 0.3 * curve[0]
    assert table.coefficients[TERM["array_cycles"]] == pytest.approx(1.1, abs=0.02)
    store = {item.shape.key: item.cycles for item in Store(table_folder / "m.jsonl") if item.unit == "npu8"}
    assert table.sample
    assert all(store[shape.key] == cycles for shape, cycles in table.sample)
    sample = [cycles for _, cycles in table.sample]
    assert sample == sorted(sample)


def test_units_together_are_calibrated_on_what_each_has(table_folder: Path) -> None:
    table = load_table(table_folder / "tables" / "w2a8_32x32_s16_weight16+w8a8_16x16.yaml")
    assert table.cores == "w2a8_32x32_s16_weight16+w8a8_16x16"
    assert set(table.parameters) == {"w8a8_16x16", "w2a8_32x32_s16_weight16"}
    assert table.errors["held_out_random"].mape_percent < 1
    assert all(set(shape.split or ()) == set(table.parameters) for shape, _ in table.sample)


def test_no_shape_of_the_fit_is_held_out(table_folder: Path) -> None:
    with Farm(0, job=made_up) as farm:
        bench = Bench(SETUP, farm, Store(table_folder / "m.jsonl"), table_folder / "tables")
        for units in (("npu8",), SETUP.config.units):
            tests = {shape.key for shapes in held_out(bench, units).values() for shape in shapes}
            measured = {item.shape.key for item in bench.store if item.unit == "+".join(units)}
            assert tests < measured
            assert len(measured - tests) == BUDGET
        (layer,) = held_out_layers(bench, SETUP.config.units)
        assert layer.split == {"npu8": 16, "npu_lb": 32}


def test_a_table_that_was_just_made_holds_and_one_of_other_cycles_does_not(
    table_folder: Path, tmp_path: Path
) -> None:
    def slower(setup: Setup, shape: Shape, unit: str) -> Measurement:
        item = made_up(setup, shape, unit)
        return replace(item, cycles=item.cycles + 50)

    tables = table_folder / "tables"
    with Farm(0, job=made_up) as farm:
        for units in (("npu8",), SETUP.config.units):
            assert check(Bench(SETUP, farm, Store(tmp_path / "m.jsonl"), tables), units) == []
    with Farm(0, job=slower) as farm:
        problems = check(Bench(SETUP, farm, Store(tmp_path / "s.jsonl"), tables), ("npu8",))
    assert problems
    for line in problems:
        assert line.startswith(f"{tables / 'w8a8_16x16.yaml'}: ")
        assert line.endswith("; run `npuloop calibrate`")


def test_units_together_without_their_tables_are_an_error_before_anything_is_measured(
    notes: Path, tmp_path: Path
) -> None:
    with pytest.raises(TableError, match=r"w8a8_16x16\.yaml: there is no cost table; make it with"):
        calibrated(tmp_path, SETUP.config.units)
    assert ran(notes) == []


def test_a_budget_that_is_too_small_is_one_error(notes: Path, tmp_path: Path) -> None:
    for budget in (19, 0, -5):
        message = f"a budget of {budget} measurements is too small; give 20 or more"
        with pytest.raises(CalibrationError, match=message):
            calibrated(tmp_path, ("npu8",), budget)
    assert ran(notes) == []


# ------------------------------------------------------------------------------------------ npuloop calibrate
def npuloop(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def message(done: Result) -> str:
    """The error, which is one line."""
    assert done.exit_code == 2, done.output
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--unit", "nosuch"), "no unit 'nosuch' in this system; it has npu8, npu_lb"),
        (("--all", "--unit", "npu8"), "--all says which systems; leave out --system, --unit and --set"),
        (("--all", "--set", "npu_lb.W_BITS=4"), "--all says which systems"),
        (("--family", "--system", "npu8"), "--family says which systems"),
        (("--family", "--all"), "--family makes one table; leave out --all, --check, --budget and --latency"),
        (("--budget", "19"), "a budget of 19 measurements is too small"),
        (("--set", "npu_lb.W_BITS=9"), "w_bits = 9 must be 2 to 8"),
        (("--set", "COLOUR=1"), "no parameter 'COLOUR'"),
        (("--latency", "1"), "memory latency = 1 must be 2 to 1000000 cycles"),
        (("--workers", "2", "--scheduler", "tcp://x:1"), "give a number of workers or a scheduler"),
        (
            ("--unit", "npu_lb", "--set", "npu_lb.W_BITS=3", "--check"),
            "w3a8_16x32_s16_weight16.yaml: there is no cost table",
        ),
    ],
    ids=str,
)
def test_bad_options_of_calibrate_are_one_error(
    options: tuple[str, ...], text: str, notes: Path, tmp_path: Path
) -> None:
    assert text in message(npuloop("calibrate", "--store", tmp_path / "m.jsonl", *options))
    assert ran(notes) == []


def test_calibrate_writes_the_table_and_prints_what_is_in_it(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bench(*arguments: Any, **options: Any) -> Bench:
        return replace(Bench(*arguments, **options), folder=tmp_path / "tables")

    monkeypatch.setattr(calibrating, "Bench", bench)
    monkeypatch.setattr(farming, "Farm", lambda *_, **__: Farm(0, job=made_up))
    options = ("calibrate", "--store", tmp_path / "m.jsonl", "--budget", BUDGET)
    done = npuloop(*options)
    assert done.exit_code == 0, done.output
    path = tmp_path / "tables" / "w8a8_16x16.yaml"
    assert f"wrote {path}" in done.output
    table = load_table(path)
    for name in ("array_cycles", "load_latency_cycles"):
        value = named(table.coefficients)[name]
        assert re.search(rf"{name} +{value:.2f} ", done.output), name
    assert "stagger_cycles" not in done.output  # not fitted
    assert f"{table.errors['held_out_random'].mape_percent:.3g}" in done.output
    count = len(ran(notes))
    done = npuloop(*options, "--check")
    assert done.exit_code == 0, done.output
    assert "w8a8_16x16: holds" in done.output
    assert len(ran(notes)) == count  # all of it is stored
    path.write_text(path.read_text().replace(table.rtl_sha256, "0" * 64))
    assert npuloop("restamp", path).exit_code == 0
    before = path.read_bytes()
    done = npuloop(*options, "--check")
    assert done.exit_code == 1
    assert "stale" in done.stdout
    assert f"{path}: the RTL has changed since {table.date}; run `npuloop calibrate`" in done.stderr
    assert path.read_bytes() == before


def test_several_units_are_checked_together_in_any_order(
    table_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bench(*arguments: Any, **options: Any) -> Bench:
        return replace(Bench(*arguments, **options), folder=table_folder / "tables")

    monkeypatch.setenv(NOTES, str(tmp_path))
    make_small(monkeypatch.setattr)
    monkeypatch.setattr(calibrating, "Bench", bench)
    monkeypatch.setattr(farming, "Farm", lambda *_, **__: Farm(0, job=made_up))
    options = ("calibrate", "--check", "--store", tmp_path / "m.jsonl")
    for units in (("npu8", "npu_lb"), ("npu_lb", "npu8")):
        done = npuloop(*options, *(item for unit in units for item in ("--unit", unit)))
        assert done.exit_code == 0, done.output
        assert "w2a8_32x32_s16_weight16+w8a8_16x16: holds" in done.stdout
    assert {item.unit for item in Store(tmp_path / "m.jsonl")} == {"npu8+npu_lb"}


# -------------------------------------------------------------------------------------------- npuloop predict
SHAPES = [
    Shape("conv [3]", "conv2d", 16, 32, 8, 8, (3, 3), (1, 1), "same"),
    Shape("shared", "conv2d", 16, 96, 4, 4, (1, 1), (1, 1), "valid", {"npu8": 32, "npu_lb": 64}),
    Shape("unseen", "conv2d", 2000, 16, 4, 4, (1, 1), (1, 1), "valid"),
]


@pytest.fixture
def shapes_file(tmp_path: Path) -> Path:
    path = tmp_path / "shapes.yaml"
    path.write_text(shapes_text(SHAPES))
    return path


@pytest.mark.parametrize("unit", [None, "npu_lb"])
def test_predict_lists_every_shape_with_its_numbers(unit: str | None, shapes_file: Path) -> None:
    done = npuloop("predict", "--shapes", shapes_file, *(("--unit", unit) if unit else ()))
    assert done.exit_code == 0, done.output
    model = CostModel(SETUP.config)
    for shape in SHAPES:
        where = "npu8+npu_lb" if shape.split else unit or "npu8"
        expected = model.layer(shape, unit or "npu8")
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(shape.name))
        cells = re.split(r" {2,}", line[len(shape.name) :].strip())
        assert cells[:2] == ["conv2d", where]
        numbers = (expected.cycles, expected.low, expected.high, shape.macs)
        assert cells[2:6] == [f"{value:,.0f}" for value in numbers]
        assert 0.1 < float(cells[6].replace(",", "")) < 1e6  # energy, in the table's unit
        assert cells[7] == expected.basis == "measured"
        assert cells[8] == ("yes" if expected.inside else "no") == ("no" if shape.name == "unseen" else "yes")


@pytest.mark.parametrize("mapped", [False, True])
def test_predict_of_a_network_prints_layers_phases_and_the_sum(mapped: bool, tmp_path: Path) -> None:
    network = load_network(network_file("ternary"))
    layers = [node.name for node in network.nodes if node.layer is not None]
    mapping = tmp_path / "map.yaml"
    mapping.write_text(f"npuloop_mapping: 1\ndefault: npu8\nlayers: {{{layers[0]}: npu_lb}}\n")
    done = npuloop("predict", network_file("ternary"), *(("--mapping", mapping) if mapped else ()))
    assert done.exit_code == 0, done.output
    assignment = Assignment("npu8", {layers[0]: "npu_lb"} if mapped else {})
    compiled = compile_network(network, SETUP.config, assignment)
    expected = CostModel(SETUP.config).program(compiled.program)
    assert (
        f"{network.name}: {expected.cycles:,.0f} cycles, 90 % interval {expected.low:,.0f} to "
        f"{expected.high:,.0f}"
    ) in " ".join(done.stdout.split())
    ends = {(layer, unit): f"{end:,.0f}" for (layer, unit), end in expected.ends.items()}
    assert len(ends) >= len(layers) - 1
    assert {unit for _, unit in ends} == ({"npu8", "npu_lb"} if mapped else {"npu8"})
    for (layer, unit), end in ends.items():
        assert re.search(rf"^{re.escape(layer)} +{unit} +{end} ", done.stdout, re.MULTILINE), layer
    for terms in expected.terms.values():
        for name, value in terms.items():
            if value >= 1:
                assert re.search(rf"^{name} .*{value:,.0f}", done.stdout, re.MULTILINE), name
    total = sum(value for terms in expected.terms.values() for value in terms.values())
    assert total == pytest.approx(expected.cycles)


def test_the_phases_may_be_left_out() -> None:
    done = npuloop("predict", network_file("int8"), "--no-phases")
    assert done.exit_code == 0, done.output
    assert "array_cycles" not in done.stdout
    assert "90 % interval" in done.stdout


def test_another_unit_is_predicted_with_its_own_table() -> None:
    lines = []
    for unit in ("npu8", "npu_lb"):
        done = npuloop("predict", network_file("ternary"), "--unit", unit, "--no-phases")
        assert done.exit_code == 0, done.output
        lines.append(done.stdout.strip().splitlines()[-1])
    assert lines[0] != lines[1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "give a network or --shapes FILE, one of them"),
        (("NET", "--shapes", "SHAPES"), "give a network or --shapes FILE, one of them"),
        (("--shapes", "SHAPES", "--mapping", "MAP"), "--mapping belongs to a network; a shape has a split"),
        (("NET", "--unit", "npu8", "--mapping", "MAP"), "give --unit or --mapping, one of them"),
        (("NET", "--unit", "nosuch"), "no unit 'nosuch' in this system; it has npu8, npu_lb"),
        (("--shapes", "SHAPES", "--unit", "nosuch"), "no unit 'nosuch'"),
        (("--shapes", "none.yaml"), "none.yaml: no such file"),
        (("none.npz",), "none.npz"),
        (("NET", "--mapping", "none.yaml"), "none.yaml"),
        (("NET", "--set", "npu_lb.W_BITS=9"), "w_bits = 9 must be 2 to 8"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_options_of_predict_are_one_error(
    options: tuple[str, ...], text: str, shapes_file: Path, tmp_path: Path
) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text("npuloop_mapping: 1\ndefault: npu8\n")
    names = {"NET": str(network_file("ternary")), "SHAPES": str(shapes_file), "MAP": str(mapping)}
    done = npuloop("predict", *(names.get(item, item) for item in options))
    assert text in message(done)
    assert done.stdout == ""


def test_a_store_of_something_else_is_one_error_and_stays(notes: Path, tmp_path: Path) -> None:
    store = tmp_path / "m.jsonl"
    store.write_text(json.dumps({"schema": 1}) + "\n")
    assert "m.jsonl, line 1: damaged" in message(npuloop("calibrate", "--store", store))
    assert store.read_text() == json.dumps({"schema": 1}) + "\n"
