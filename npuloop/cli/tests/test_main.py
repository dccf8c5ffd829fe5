# SPDX-License-Identifier: Apache-2.0
"""The command line as a user meets it: outputs, exit statuses, and one clear error for bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.array_files import write_npz
from golden.layer import Layer, layer_to_arrays, load_layer, run_layer, save_layer
from hw.system import NPU8, NPU_LB
from mapping.run.random_layers import random_layer
from npuloop.cli.testing import npuloop, npuloop_here


@pytest.fixture
def layer_file(tmp_path: Path) -> Path:
    layer = random_layer(21, NPU8, "conv2d")
    path = tmp_path / "layer.npz"
    save_layer(replace(layer, expected=run_layer(layer)), path)
    return path


@pytest.mark.rtl
def test_a_layer_runs_and_leaves_output_and_report(layer_file: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "reports" / "r.json"
    done = npuloop("layer", layer_file, "--unit", "npu8", "--out", out, "--json", report, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    layer = load_layer(layer_file)
    with np.load(out / "layer.npz") as written:
        assert written["output"].dtype == np.int8
        np.testing.assert_array_equal(written["output"], layer.expected)
    (entry,) = json.loads(report.read_text())["files"]
    assert entry["match"] is True
    assert entry["match_expected"] is True
    assert entry["cycles"] > 0
    assert entry["useful_macs"] > 0
    assert entry["offered_macs"] >= entry["useful_macs"]
    for engine in ("load", "compute", "store"):
        states = [v for k, v in entry["counters"].items() if k.startswith(f"{engine}_")]
        assert sum(states) == entry["cycles"]


@pytest.mark.rtl
def test_backpressure_changes_cycles_and_not_the_result(layer_file: Path, tmp_path: Path) -> None:
    cycles = []
    for options in ((), ("--backpressure", 3), ("--backpressure", 3)):
        report = tmp_path / "r.json"
        assert npuloop("layer", layer_file, *options, "--json", report).returncode == 0
        cycles.append(json.loads(report.read_text())["files"][0]["cycles"])
    assert cycles[1] == cycles[2] > cycles[0]


@pytest.mark.rtl
def test_a_wrong_expectation_ends_with_status_1_and_says_so(layer_file: Path, tmp_path: Path) -> None:
    layer = load_layer(layer_file)
    assert layer.expected is not None
    wrong = layer.expected.copy()
    wrong.reshape(-1)[-1] ^= 1
    save_layer(replace(layer, expected=wrong), layer_file)
    report = tmp_path / "r.json"
    done = npuloop("layer", layer_file, "--json", report)
    assert done.returncode == 1
    assert "different" in done.stdout
    assert "1 of " in done.stderr
    assert "reproduce: .venv/bin/python -m tb.replay " in done.stderr
    waves = next(line.split()[-1] for line in done.stderr.splitlines() if "waves:" in line)
    assert Path(waves).stat().st_size > 10_000
    (entry,) = json.loads(report.read_text())["files"]
    assert entry["match"] is True
    assert entry["match_expected"] is False


@pytest.mark.rtl
def test_low_bit_parameters_and_clipping(layer_file: Path, tmp_path: Path) -> None:
    done = npuloop("layer", layer_file, "--unit", "npu_lb")
    assert done.returncode == 2
    assert "--clip-weights" in done.stderr
    report = tmp_path / "r.json"
    done = npuloop("layer", layer_file, "--unit", "npu_lb", "--clip-weights", "--json", report)
    assert done.returncode == 0, done.stderr
    data = json.loads(report.read_text())
    assert data["parameters"]["w_bits"] == NPU_LB.w_bits
    assert data["files"][0]["match_expected"] is None


def broken(kind: str, layer_file: Path) -> None:
    arrays = layer_to_arrays(load_layer(layer_file))
    if kind == "truncated":
        layer_file.write_bytes(layer_file.read_bytes()[:-200])
    elif kind == "no npz":
        layer_file.write_text("not a layer")
    elif kind == "missing key":
        del arrays["bias"]
        write_npz(arrays, layer_file)
    elif kind == "wrong type":
        write_npz(arrays | {"weights": arrays["weights"].astype(np.float32)}, layer_file)
    elif kind == "unsupported operator":
        write_npz(arrays | {"op": np.array("softmax")}, layer_file)
    elif kind == "pickle":
        with layer_file.open("wb") as file:
            np.savez(file, op=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif kind == "absent":
        layer_file.unlink()
    elif kind == "too large":
        large = Layer(name="x", op="max_pool", input=np.zeros((200, 200, 16), np.int8), kernel=(100, 100))
        save_layer(large, layer_file)


@pytest.mark.rtl
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("truncated", "layer.npz"),
        ("no npz", "layer.npz"),
        ("missing key", "bias"),
        ("wrong type", "weights"),
        ("unsupported operator", "softmax"),
        ("pickle", "layer.npz"),
        ("absent", "layer.npz"),
        ("too large", "not even what one output reads fits"),
    ],
)
def test_a_bad_layer_gives_one_error_that_says_what_and_the_others_run(
    kind: str, says: str, layer_file: Path, tmp_path: Path
) -> None:
    broken(kind, layer_file)
    good = tmp_path / "good.npz"
    save_layer(random_layer(22, NPU8), good)
    out, report = tmp_path / "out", tmp_path / "r.json"
    done = npuloop_here("layer", good, layer_file, "--out", out, "--json", report)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert "1 of 1 layers equal" in done.stdout
    assert f"1 of 2 files refused: {layer_file}" in done.stdout
    assert [file.name for file in out.iterdir()] == ["good.npz"]
    document = json.loads(report.read_text())
    assert [entry["file"] for entry in document["files"]] == [str(good)]
    assert [entry["file"] for entry in document["refused"]] == [str(layer_file)]
    assert says in document["refused"][0]["error"]


def test_bad_layers_alone_run_nothing_and_all_say_why(layer_file: Path, tmp_path: Path) -> None:
    absent, out = tmp_path / "absent.npz", tmp_path / "out"
    broken("no npz", layer_file)
    done = npuloop_here("layer", layer_file, absent, "--out", out)
    assert done.returncode == 2
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["error", "error"]
    assert str(layer_file) in done.stderr
    assert str(absent) in done.stderr
    assert not out.exists()


@pytest.mark.rtl
def test_a_layer_that_differs_outweighs_one_that_is_refused(layer_file: Path, tmp_path: Path) -> None:
    layer = load_layer(layer_file)
    assert layer.expected is not None
    save_layer(replace(layer, expected=~layer.expected), layer_file)
    done = npuloop("layer", layer_file, tmp_path / "absent.npz")
    assert done.returncode == 1
    assert "0 of 1 layers equal" in done.stdout
    assert "1 of 2 files refused" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--unit", "npu9"), "npu9"),
        (("--set", "npu8.X_BITS=4"), "X_BITS"),
        (("--set", "npu8.W_BITS"), "W_BITS"),
        (("--set", "npu8.W_BITS=four"), "W_BITS"),
        (("--set", "npu8.W_BITS=9"), "2 to 8"),
        (("--set", "npu8.ROWS=24"), "multiple of 16"),
        (("--set", "LANES=8"), "does not say of which unit"),
        (("--set", "AXI_BITS=32"), "64 or 128"),
    ],
)
def test_unknown_units_and_parameters_are_refused(
    arguments: tuple[str, ...], says: str, layer_file: Path
) -> None:
    done = npuloop_here("layer", layer_file, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.rtl
def test_equal_names_would_overwrite_and_are_refused(layer_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "layer.npz"
    other.parent.mkdir()
    save_layer(load_layer(layer_file), other)
    done = npuloop("layer", layer_file, other, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "layer.npz" in done.stderr
    assert npuloop("layer", layer_file, other).returncode == 0


@pytest.mark.rtl
def test_an_unwritable_place_is_one_clear_error(layer_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = npuloop("layer", layer_file, "--out", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


@pytest.mark.rtl
def test_soak_prints_what_it_ran(tmp_path: Path) -> None:
    done = npuloop("soak", "--count", 3, "--seed", 77, "--unit", "npu_lb")
    assert done.returncode == 0, done.stderr
    assert "6 runs of 3 from seed 77" in done.stdout
    assert "0 failed" in done.stdout


@pytest.mark.rtl
def test_the_python_call_is_the_same(layer_file: Path) -> None:
    from mapping.run.layers import run_layers

    (run,) = run_layers([load_layer(layer_file)], "npu8")
    assert run.passed
    assert run.match_expected is True
