# SPDX-License-Identifier: Apache-2.0
"""Averages over large images in RTL: more values than a depthwise kernel's weights have room for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import NpuloopError
from golden.importers.testing import Case, check
from golden.layer import Layer
from hw.core import CoreConfig
from hw.system import NPU8, System
from mapping.compiler.assignment import Assignment
from mapping.compiler.compile import compile_layer
from mapping.compiler.legalise import legalise_network
from mapping.run.layers import failure_report, run_layers
from mapping.run.networks import compile_network, run_inputs
from tb.session import Session


def case_of(operator: str, height: int, width: int) -> Case:
    case = Case.start((1, height, width, 20), (height, width))
    if operator == "MEAN":
        return case.mean(False, (0.031, -11))
    return case.pool(operator, (height, width), (height, width), "VALID")


@pytest.mark.rtl
@pytest.mark.parametrize("operator", ["MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize(("height", "width"), [(33, 33), (64, 55), (300, 7), (3, 512)])
def test_a_mean_of_a_large_image_is_exact(
    operator: str, height: int, width: int, pair: Session, tmp_path: Path
) -> None:
    network = check(case_of(operator, height, width), tmp_path, 2)
    expected = "max_pool" if operator == "MAX_POOL_2D" else "average_pool"
    assert [op.kind for op in legalise_network(network).ops] == [expected]
    program = compile_network(network, pair.config, Assignment("npu8"))
    rng = np.random.default_rng(height)
    x = np.stack([
        rng.integers(-128, 128, network.input.shape),
        np.full(network.input.shape, -128), rng.integers(100, 128, network.input.shape),
    ]).astype(np.int8)  # fmt: skip
    for run in run_inputs(pair, program, x):
        assert run.exact


@pytest.mark.rtl
def test_ties_of_a_large_average_round_away_from_zero_in_rtl(pair: Session) -> None:
    """Sums of 1,100 values that are odd multiples of 550: one for each channel."""
    x = np.zeros((44, 25, 48), np.int8)
    for channel in range(48):
        total = 550 * (2 * channel - 47) * 3
        whole, rest = divmod(total, 1100)
        flat = np.full(1100, whole)
        flat[:rest] += 1
        assert flat.sum() == total
        x[:, :, channel] = flat.reshape(44, 25)
    layer = Layer(name="ties", op="average_pool", input=x, kernel=(44, 25))
    (run,) = run_layers([layer], "npu8", session=pair)
    assert run.passed, failure_report(pair.config, run)
    assert run.output.reshape(-1)[[0, 23, 24, 47]].tolist() == [-71, -2, 2, 71]


def test_a_mean_beyond_the_scratchpad_is_named_with_its_size_and_the_setting(tmp_path: Path) -> None:
    network = check(case_of("MEAN", 112, 112), tmp_path, 1)
    message = (
        r"layer 'mean_0' \(mean of 112 x 112 x 20, kernel 112 x 112\): not even what one output "
        r"reads fits the 64 KiB that npu8 has for activations; set npu8.ACT_KIB=197"
    )
    with pytest.raises(NpuloopError, match=message):
        compile_network(network, System((NPU8,)), Assignment("npu8"))
    large = System((CoreConfig("npu8", act_kib=197),))
    assert compile_network(network, large, Assignment("npu8")).program.estimate > 0
    with pytest.raises(NpuloopError, match="fits the 196 KiB"):
        compile_network(network, System((CoreConfig("npu8", act_kib=196),)), Assignment("npu8"))


def test_a_large_mean_with_reduced_activations_is_refused_by_name(tmp_path: Path) -> None:
    network = check(case_of("MEAN", 40, 40), tmp_path, 1)
    node = network.nodes[0]
    assert node.layer is not None
    with pytest.raises(
        NpuloopError, match=r"a mean over 1600 values needs activations of 8 bits, and small has 6"
    ):
        compile_layer(node.layer, CoreConfig("small", a_bits=6))
