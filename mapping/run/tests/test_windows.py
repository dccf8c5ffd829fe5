# SPDX-License-Identifier: Apache-2.0
"""Every kernel with every stride and padding, on one side, on the other, and on both, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from golden.layer import Layer
from hw.system import NPU8
from mapping.compiler.compile import compile_layer
from mapping.run.layers import run_program
from tb.session import Session

pytestmark = pytest.mark.rtl

SIZE = 9
CHANNELS = 16
KERNELS = (1, 2, 3, 5)
STRIDES = ((1, 1), (2, 2), (3, 3), (1, 2))


def amounts(kernel: int, stride: int, where: str) -> tuple[int, int]:
    """Return the padding before and after an axis; what is after is reached by the last window."""
    before = 1 if where in ("before", "both") else 0
    if where in ("none", "before"):
        return before, 0
    return before, next(after for after in range(1, 9) if (SIZE + before + after - kernel) % stride == 0)


def windows(op: str) -> Iterator[Layer]:
    """Yield a layer for each combination."""
    rng = np.random.default_rng(len(op))
    for kernel, stride, where in itertools.product(KERNELS, STRIDES, ("none", "before", "after", "both")):
        rows, columns = (amounts(kernel, step, where) for step in stride)
        shape = (CHANNELS, kernel, kernel, CHANNELS) if op == "conv2d" else (1, kernel, kernel, CHANNELS)
        spread = round(
            np.log2(74 * 127 * np.sqrt(kernel * kernel * (CHANNELS if op == "conv2d" else 1)) / 80)
        )
        yield Layer(
            name=f"{op}_{kernel}_{stride}_{where}", op=op, act_min=-128, act_max=127,
            input=rng.integers(-128, 128, (SIZE, SIZE, CHANNELS)).astype(np.int8),
            weights=rng.integers(-127, 128, shape).astype(np.int8),
            bias=rng.integers(-500, 500, CHANNELS).astype(np.int32),
            multiplier=rng.integers(1 << 30, 1 << 31, CHANNELS, dtype=np.int64).astype(np.int32),
            shift=np.full(CHANNELS, -spread, np.int32), stride=stride, dilation=(1, 1),
            padding=(*rows, *columns), input_zero_point=3, output_zero_point=-4,
        )  # fmt: skip


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
def test_every_window_is_exact(pair: Session, op: str) -> None:
    layers = list(windows(op))
    assert len(layers) == 64
    for layer in layers:
        run = run_program(pair, compile_layer(layer, NPU8), backpressure=None)
        assert run.mismatches == 0, layer.name
        assert len(np.unique(run.golden)) > 20, layer.name
