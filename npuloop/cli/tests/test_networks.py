# SPDX-License-Identifier: Apache-2.0
"""npuloop run, show and quantize as a user meets them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from common.array_files import read_npz, write_npz
from common.errors import ModelFileError
from common.testing import data_dir, require
from golden.importers import tflite_source
from golden.importers.inputs import random_input
from golden.importers.models import load_model
from golden.importers.testing import conv
from golden.network import Network, run_network
from golden.network_file import load_network, save_network
from golden.zoo.digits import network_file
from hw.system import NPU8, NPU_LB
from mapping.compiler.assignment import assignment_text
from mapping.run.random_networks import random_network
from npuloop.cli.testing import npuloop, npuloop_here

CORES = (NPU8, NPU_LB)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path, Network]:
    """A network file, its mapping, and three inputs."""
    network, units, _ = random_network(12, CORES)
    model, mapping, inputs = tmp_path / "net.npz", tmp_path / "map.yaml", tmp_path / "x.npy"
    save_network(network, model)
    mapping.write_text(assignment_text(units, CORES))
    rng = np.random.default_rng(1)
    np.save(inputs, rng.integers(-128, 128, (3, *network.input.shape)).astype(np.int8))
    return model, mapping, inputs, network


@pytest.mark.rtl
def test_a_network_runs_on_both_units_and_leaves_output_and_report(
    files: tuple[Path, Path, Path, Network], tmp_path: Path
) -> None:
    model, mapping, inputs, network = files
    out, report = tmp_path / "y.npy", tmp_path / "deep" / "r.json"
    done = npuloop(
        "run",
        model,
        "--mapping",
        mapping,
        "--input",
        inputs,
        "--output",
        out,
        "--check",
        "layers",
        "--json",
        report,
    )
    assert done.returncode == 0, done.stderr
    assert "3 of 3 inputs equal (every tensor compared)" in " ".join(done.stdout.split())
    golden = run_network(network, np.load(inputs))[network.output_name]
    np.testing.assert_array_equal(np.load(out), golden)
    data = json.loads(report.read_text())
    assert data["exact"] is True
    assert data["inputs"] == 3
    assert set(data["units"]) == {"npu8", "npu_lb"}
    assert data["total_cycles"] > 0
    assert len(set(data["total_cycles_by_input"])) == 1
    assert data["load_bytes"] > 0 < data["store_bytes"]
    for unit in data["units"].values():
        for engine in ("load", "compute", "store"):
            states = [v for k, v in unit["counters"].items() if k.startswith(f"{engine}_")]
            assert sum(states) == unit["counters"]["cycles"]
    for layer in data["layers"]:
        assert layer["cycles"] >= 0
        assert layer["end_cycle"] <= data["total_cycles"]
        assert 0 <= layer["utilisation"] <= 1.5  # of a layer; its weights may come during the one before
    assert {layer["layer"] for layer in data["layers"]} == set(data["mismatches"])


def test_show_lists_every_layer(files: tuple[Path, Path, Path, Network]) -> None:
    model, _, _, network = files
    done = npuloop("show", model)
    assert done.returncode == 0, done.stderr
    for node in network.nodes:
        assert node.name in done.stdout
    assert f"{network.macs:,}" in done.stdout


def test_show_says_where_a_files_operators_run_and_why_some_do_not(tmp_path: Path) -> None:
    case = conv()
    good = tmp_path / "good.tflite"
    good.write_bytes(case.softmax().build())
    done = npuloop("show", good)
    assert done.returncode == 0, done.stderr
    assert "SOFTMAX" in done.stdout
    assert "softmax_1" in done.stdout
    bad = tmp_path / "bad.tflite"
    case = conv()
    case.then("TANH", case.output(case.shape)).then("ELU", case.output(case.shape))
    bad.write_bytes(case.build())
    done = npuloop("show", bad)
    assert done.returncode == 2
    assert "1: not supported" in done.stdout
    assert "operator 1 (TANH) is not supported" in done.stderr
    assert "operator 2 (ELU) is not supported" in done.stderr


def test_an_import_that_differs_from_its_source_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_network: Network, path: Path, _inputs: object) -> str:
        raise ModelFileError(f"{path}: imported wrong: first at layer 'conv2d_0'")

    model, report = tmp_path / "model.tflite", tmp_path / "r.json"
    model.write_bytes(conv().build())
    monkeypatch.setattr(tflite_source, "compare_with_source", wrong)
    done = npuloop_here("run", model, "--json", report)
    assert done.returncode == 2
    assert done.stderr == f"error: {model}: imported wrong: first at layer 'conv2d_0'\n"
    assert done.stdout == ""
    assert not report.exists()


@pytest.mark.rtl
def test_several_inputs_and_outputs_go_through_files(tmp_path: Path) -> None:
    case = conv()
    other = case.builder.tensor((1, 8, 8, 4), scale=0.1)
    case.then("ADD", case.output(case.shape), other)
    total = case.tensor
    case.then("DEQUANTIZE", case.builder.tensor(case.shape, "float32"))
    model, inputs, outputs = (tmp_path / name for name in ("two.tflite", "in.npz", "out.npz"))
    model.write_bytes(case.builder.build([case.input, other], [case.tensor, total]))
    network = load_model(model)
    values = {name: batch[0] for name, batch in random_input(network, 3).items()}
    np.savez(inputs, input=values["input"], input_1=values["input_1"])
    done = npuloop("run", model, "--unit", "npu8", "--input", inputs, "--output", outputs)
    assert done.returncode == 0, done.stderr
    golden = run_network(network, values)
    with np.load(outputs) as archive:
        assert set(archive.files) == set(network.output_names)
        for name in archive.files:
            np.testing.assert_array_equal(archive[name], golden[name])


@pytest.mark.rtl
def test_a_quantised_model_runs_where_the_wide_one_is_refused(tmp_path: Path) -> None:
    model = require(data_dir() / "models" / "kws_ref_model.tflite")
    refused = npuloop("run", model, "--unit", "npu_lb")
    assert refused.returncode == 2
    assert "npuloop quantize" in refused.stderr
    narrow = tmp_path / "narrow.npz"
    done = npuloop("quantize", model, narrow, "--bits", 2, "--layer", "conv2d_0=2")
    assert done.returncode == 0, done.stderr
    assert "64 x 2 bits" in done.stdout
    nodes = load_network(narrow).nodes
    assert all((node.weight_bits <= 2).all() for node in nodes if node.weight_bits is not None)
    done = npuloop("run", narrow, "--unit", "npu_lb", "--check", "layers")
    assert done.returncode == 0, done.stderr


@pytest.mark.rtl
def test_quantize_with_a_mapping_narrows_what_the_low_bit_unit_makes(tmp_path: Path) -> None:
    model = require(data_dir() / "models" / "kws_ref_model.tflite")
    mapping, narrow = tmp_path / "map.yaml", tmp_path / "narrow.npz"
    mapping.write_text("npuloop_mapping: 1\nlayers:\n  conv2d_4: {npu8: 24, npu_lb: 40}\n")
    done = npuloop("quantize", model, narrow, "--mapping", mapping)
    assert done.returncode == 0, done.stderr
    bits = load_network(narrow).node("conv2d_4").weight_bits
    assert bits is not None
    assert bits.tolist() == [8] * 24 + [2] * 40
    done = npuloop("run", narrow, "--mapping", mapping, "--check", "layers")
    assert done.returncode == 0, done.stderr


MODULE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    second = [nn.Conv2d(16, 24, 3, stride=2), nn.ReLU6()]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)).eval()

def number():
    return 3
"""


@pytest.mark.rtl
def test_a_float_module_becomes_a_network_for_both_units(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(MODULE)
    (tmp_path / "map.yaml").write_text("npuloop_mapping: 1\nlayers:\n  '3': {npu8: 8, npu_lb: 16}\n")
    images = np.random.default_rng(0).normal(size=(8, 3, 12, 12)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    options = ("--calibration", "images.npy")
    done = npuloop("quantize", "nets:net", "net.npz", "--mapping", "map.yaml", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "16 x 2 bits, 8 x 8 bits" in done.stdout
    assert re.search(r"the output: signal to noise [0-9.]+ dB against the module", done.stdout)
    done = npuloop("run", "net.npz", "--mapping", "map.yaml", "--check", "layers", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for arguments, message in {
        ("nets:none", *options): "module 'nets' has no attribute 'none'",
        ("none:net", *options): "No module named 'none'",
        ("nets:number", *options): "gives a int, not an nn.Module",
        ("nets:net",): "needs --calibration",
        ("net.npz", *options): "images.npy: network 'net' reads int8, the input is float32",
    }.items():
        failed = npuloop("quantize", arguments[0], "o.npz", "--bits", 4, *arguments[1:], cwd=tmp_path)
        assert failed.returncode == 2
        assert message in failed.stderr
        assert not (tmp_path / "o.npz").exists()


def bad(files: tuple[Path, Path, Path, Network], tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    model, mapping, inputs, network = files
    shape, dtype, text, many = (tmp_path / name for name in ("s.npy", "d.npy", "t.npy", "m.npz"))
    np.save(shape, np.zeros((1, 2, 3), np.int8))
    np.save(dtype, np.zeros(network.input.shape, np.float32))
    text.write_text("no array")
    np.savez(many, a=np.zeros(3))
    cut = tmp_path / "cut.npz"
    cut.write_bytes(model.read_bytes()[:-200])
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("npuloop_mapping: 1\nlayers: {nothing: npu8}\n")
    run: list[object] = ["run", model]
    quantize: list[object] = ["quantize", model, tmp_path / "o.npz"]
    return {
        "shape": ([*run, "--input", shape], r"s.npy: .* the input is \(1, 2, 3\)"),
        "dtype": ([*run, "--input", dtype], "d.npy: .* reads int8, the input is float32"),
        "no array": ([*run, "--input", text], "t.npy: no .npy array"),
        "archive": ([*run, "--input", many], r"m.npz: network .* reads image, not a"),
        "no input": ([*run, "--input", tmp_path / "none.npy"], "none.npy: no such file"),
        "no model": (["run", tmp_path / "none.npz"], "none.npz: no such file"),
        "ending": (["run", inputs], "x.npy: a model is an int8 .tflite file"),
        "cut": (["show", cut], "cut.npz"),
        "layer": ([*run, "--mapping", wrong], "wrong.yaml: the network has no layer 'nothing'"),
        "check": ([*run, "--check", "all"], "--check 'all': choose one of layers, output, none"),
        "both": ([*run, "--mapping", mapping, "--unit", "npu8"], "--mapping or --unit, not both"),
        "unit": ([*run, "--unit", "npu9"], "no unit 'npu9'"),
        "setting": ([*run, "--set", "SPEED=9"], "no parameter 'SPEED'"),
        "nothing": (quantize, "give --bits or --layer, or else --mapping"),
        "name": (["quantize", model, tmp_path / "o.txt", "--bits", 2], "a network file's name ends in .npz"),
        "width": ([*quantize, "--layer", "conv2d_0=x"], "write LAYER=BITS"),
        "unknown": ([*quantize, "--layer", "conv9=2"], "no layer 'conv9'"),
    }


@pytest.mark.parametrize("case", range(17))
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    case: int, files: tuple[Path, Path, Path, Network], tmp_path: Path
) -> None:
    cases = bad(files, tmp_path)
    assert len(cases) == 17
    arguments, message = list(cases.values())[case]
    output, report = tmp_path / "never.npy", tmp_path / "never.json"
    options = ["--output", output, "--json", report] if arguments[0] == "run" else []
    done = npuloop_here(*arguments, *options)
    assert done.returncode == 2, done.stdout
    assert re.search(message, " ".join(done.stderr.split())), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert not output.exists()
    assert not report.exists()
    assert not (tmp_path / "o.npz").exists()


def test_names_in_tables_are_no_markup(tmp_path: Path) -> None:
    path = tmp_path / "network.npz"
    arrays = read_npz(network_file("int8"))
    text = str(arrays["network"]).replace('"conv1"', '"[/x]"')
    write_npz(arrays | {"network": np.array(text)}, path)
    assert text != str(arrays["network"])
    for arguments in (("show", path), ("predict", path), ("quantize", path, tmp_path / "n.npz", "--bits", 4)):
        done = npuloop_here(*arguments)
        assert done.returncode == 0
        assert "[/x]" in done.stdout
