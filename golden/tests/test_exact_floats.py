# SPDX-License-Identifier: Apache-2.0
"""The operators multiply in floats; sums near the limits of exactness, and the parts of a batch."""

from typing import Any

import numpy as np
import pytest
import torch

from golden import network as network_module, operators
from golden.layer import Layer
from golden.network import Network, Node, Tensor, placeholder, run_network

SEED = 20261123


@pytest.mark.parametrize("precision", ["highest", "medium"])
@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d", "fully_connected"])
@pytest.mark.parametrize("taps", [1030, 1040, 2000, 120_000])  # 128 * 127 * taps: 2^24 to 2^31
def test_sums_are_exact_to_the_last_unit(op: str, taps: int, precision: str) -> None:
    x = np.full((3, taps), -128, np.int8)
    x[1, 0] = -127  # odd differences: a float that cannot hold such a sum shows
    x[2, -2] = -125
    weights = np.full(taps, 127, np.int8)
    weights[-2:] = (1, 126)
    total = x.astype(np.int64) @ weights.astype(np.int64)
    window: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    if op == "fully_connected":
        weights, window = weights[None], {}
    else:
        x, weights = x[:, :, None, None], weights[None, :, None, None]
    # the bias takes the first input's sum away, and a factor of 1 leaves the rest as it is
    constants = ([-int(total[0])], [2**30], [1], 0, 0)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        got = getattr(operators, op)(x, weights, *constants, **window, act_min=-128, act_max=127)
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(got.reshape(3), (total - total[0]).clip(-128, 127))


def test_a_batch_in_parts_equals_its_inputs_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(SEED)
    layer = Layer(
        name="conv", op="conv2d", input=placeholder((6, 5, 3)), padding=(1, 1, 1, 1),
        weights=rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), bias=np.zeros(4, np.int32),
        multiplier=np.full(4, 2**30, np.int32), shift=np.full(4, -8, np.int32),
    )  # fmt: skip
    node = Node(
        name="conv", op="conv2d", inputs=("input",), output=Tensor(shape=(6, 5, 4)), layer=layer,
        weight_scales=np.ones(4), weight_bits=np.full(4, 8, np.int8),
    )  # fmt: skip
    network = Network(name="net", input_name="input", input=Tensor(shape=(6, 5, 3)), nodes=(node,))
    batch = rng.integers(-128, 128, (11, 6, 5, 3)).astype(np.int8)
    whole = run_network(network, batch)
    assert [name for name, value in whole.items() if len(value) == 11] == ["input", "conv"]
    for parts in (1, 4 * 6 * 5 * 27):  # one input at a time; four, and three at the end
        monkeypatch.setattr(network_module, "_WORKING_VALUES", parts)
        split = run_network(network, batch)
        np.testing.assert_array_equal(split["conv"], whole["conv"])
    for index, item in enumerate(batch):
        np.testing.assert_array_equal(run_network(network, item)["conv"][0], whole["conv"][index])
