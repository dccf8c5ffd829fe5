# SPDX-License-Identifier: Apache-2.0
"""Modules of the user's, and the inputs that calibrate them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UnsupportedError
from golden.quantize.modules import load_module, read_calibration

NETS = """
from torch import nn

number = lambda: 3

def net():
    return nn.Linear(4, 2)

def broken():
    raise ValueError("no weights")
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of functions in the current directory."""
    (tmp_path / "modules_of_a_user.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)


def test_a_function_gives_a_module(nets: None) -> None:
    assert isinstance(load_module("modules_of_a_user:net"), torch.nn.Linear)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("modules_of_a_user:number", "gives a int, not an nn.Module"),
        ("modules_of_a_user:broken", "fails: no weights"),
        ("modules_of_a_user:none", "has no attribute 'none'"),
    ],
)
def test_what_gives_no_module_is_one_error(model: str, says: str, nets: None) -> None:
    with pytest.raises(UnsupportedError, match=says):
        load_module(model)


def test_calibration_inputs_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "c.npy"
    batch = np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)
    np.save(path, batch)
    inputs = read_calibration(path)
    assert inputs.dtype == torch.float32
    np.testing.assert_array_equal(inputs.numpy(), batch)


@pytest.mark.parametrize(
    "batch",
    [np.zeros((2, 3), np.float64), np.zeros(3, np.float32), np.full((2, 3), np.nan, np.float32)],
    ids=["type", "rank", "value"],
)
def test_other_calibration_inputs_are_refused_with_the_file(batch: object, tmp_path: Path) -> None:
    path = tmp_path / "c.npy"
    np.save(path, np.asarray(batch))
    with pytest.raises(
        UnsupportedError, match=r"c\.npy: calibration inputs are finite float32 \(N, \.\.\.\)"
    ):
        read_calibration(path)
