# SPDX-License-Identifier: Apache-2.0
"""`npuloop accuracy` prints and writes what `golden.accuracy` counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from typer.testing import CliRunner

from golden.accuracy import Labelled, network_accuracy
from golden.network import run_network
from golden.zoo.digits import load_digits_network
from npuloop.cli.main import app


def accuracy(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["accuracy", *map(str, arguments)])
    return result.exit_code, result.output


def sum_of_columns() -> nn.Module:
    """A float module for 8 x 8 digits, with ten outputs."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_a_bundled_network_on_a_data_set(tmp_path: Path) -> None:
    status, said = accuracy("digits_int8", "--data", "digits", "--json", tmp_path / "a.json")
    correct = load_digits_network("int8").correct()
    document = json.loads((tmp_path / "a.json").read_text())
    assert status == 0
    assert (document["correct"], document["images"], document["kind"]) == (correct, 450, "integer")
    assert document["accuracy_percent"] == pytest.approx(100 * correct / 450)
    low, high = document["interval_percent"]
    assert said == (
        f"digits_int8: {100 * correct / 450:.2f} % of 450 (integer; 95 % interval {low:.2f} to {high:.2f})\n"
    )


def test_a_unit_with_narrow_activations_is_counted_as_such(tmp_path: Path) -> None:
    """Labels are what 8-bit activations say of noise."""
    network = load_digits_network("int8").network
    noise = np.random.default_rng(1).integers(-128, 128, (200, 8, 8, 1)).astype(np.int8)
    labels = run_network(network, noise)[network.output_name].argmax(axis=1)
    np.savez(tmp_path / "noise.npz", input=noise, label=labels)
    options = ("--unit", "npu8", "--json", tmp_path / "a.json")
    correct = []
    for setting in ((), ("--set", "npu8.A_BITS=4")):
        assert accuracy("digits_int8", "--data", tmp_path / "noise.npz", *options, *setting)[0] == 0
        correct.append(json.loads((tmp_path / "a.json").read_text())["correct"])
    narrow = dict.fromkeys((node.name for node in network.nodes), 4)
    assert correct == [200, network_accuracy(network, Labelled(noise, labels), narrow).correct]
    assert correct[1] < 200


def test_a_float_module_is_counted_as_float() -> None:
    status, said = accuracy(f"{__name__}:sum_of_columns", "--data", "digits", "--limit", "50")
    assert status == 0, said
    assert "% of 50 (float;" in said


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    for arguments, message in (
        (("digits_int8", "--data", tmp_path / "none.npz"), "none.npz"),
        (
            ("digits_int8", "--data", "digits", "--unit", "npu8", "--mapping", "m.yaml"),
            "give --mapping or --unit",
        ),
        ((f"{__name__}:sum_of_columns", "--data", "digits", "--unit", "npu8"), "runs on no unit"),
        (("nothing.tflite", "--data", "digits"), "nothing.tflite"),
    ):
        status, said = accuracy(*arguments)
        assert status == 2
        assert message in said
