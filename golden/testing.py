# SPDX-License-Identifier: Apache-2.0
"""Random layers for tests, and the arithmetic in plain Python integers and fractions.

The layers are drawn from a seeded generator. The arithmetic shares no code with the package.
"""

from fractions import Fraction
from typing import Any

import numpy as np

from golden.layer import Layer
from golden.operators import output_size


def _window(
    rng: np.random.Generator, height: int, width: int, kernel: tuple[int, int], dilated: bool
) -> dict[str, Any]:
    """Return a stride, dilation and padding with which `kernel` fits the input."""
    while True:
        stride = tuple(int(v) for v in rng.integers(1, 5, 2))
        dilation = tuple(int(v) for v in rng.integers(1, 4, 2)) if dilated else (1, 1)
        top, bottom = (int(rng.integers(0, kernel[0])) for _ in range(2))
        left, right = (int(rng.integers(0, kernel[1])) for _ in range(2))
        if (
            output_size(height, kernel[0], stride[0], top, bottom, dilation[0]) >= 1
            and output_size(width, kernel[1], stride[1], left, right, dilation[1]) >= 1
        ):
            return {"stride": stride, "dilation": dilation, "padding": (top, bottom, left, right)}


def random_layer(rng: np.random.Generator, op: str) -> Layer:
    """Return a small valid layer of operator `op`, without `expected`; its outputs spread over int8."""
    height, width, channels = (int(v) for v in rng.integers(1, 8, 3))
    act_min, act_max = (int(v) for v in np.sort(rng.integers(-128, 128, 2)))
    if rng.random() < 0.7:
        act_min, act_max = -128, 127
    shape = (channels,) if op == "fully_connected" else (height, width, channels)
    values: dict[str, Any] = {
        "name": f"random_{op}",
        "op": op,
        "input": rng.integers(-128, 128, shape).astype(np.int8),
        "act_min": act_min,
        "act_max": act_max,
    }
    if op == "add":
        values["input2"] = rng.integers(-128, 128, shape).astype(np.int8)
        values["left_shift"] = 20
        for part, low, high in (("input1", -4, 1), ("input2", -4, 1), ("output", -21, -16)):
            values[f"{part}_zero_point"] = int(rng.integers(-128, 128))
            values[f"{part}_multiplier"] = int(rng.integers(2**31))
            values[f"{part}_shift"] = int(rng.integers(low, high))
        return Layer(**values)
    kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    if op in ("average_pool", "max_pool"):
        return Layer(**values, kernel=kernel, **_window(rng, height, width, kernel, dilated=False))
    out_channels = channels * int(rng.integers(1, 4)) if op == "depthwise_conv2d" else int(rng.integers(1, 8))
    weight_shape = {
        "conv2d": (out_channels, *kernel, channels),
        "depthwise_conv2d": (1, *kernel, out_channels),
        "fully_connected": (out_channels, channels),
    }[op]
    if op != "fully_connected":
        values |= _window(rng, height, width, kernel, dilated=True)
    return Layer(
        **values,
        weights=rng.integers(-128, 128, weight_shape).astype(np.int8),
        bias=rng.integers(-20000, 20000, out_channels).astype(np.int32),
        multiplier=rng.integers(2**31, size=out_channels).astype(np.int32),
        shift=rng.integers(-11, -5, out_channels).astype(np.int32),
        input_zero_point=int(rng.integers(-128, 128)),
        output_zero_point=int(rng.integers(-128, 128)),
    )


def wrap(x: int) -> int:
    """Return the two's complement int32 with the low bits of x."""
    low = x % 2**32
    return low - 2**32 if low >= 2**31 else low


def truncate(numerator: int, denominator: int) -> int:
    """Divide, rounding towards zero."""
    quotient = abs(numerator) // denominator
    return -quotient if numerator < 0 else quotient


def half_away(value: Fraction) -> int:
    """Round to the nearest whole number, halves away from zero."""
    rounded = (abs(value) + Fraction(1, 2)).__floor__()
    return -rounded if value < 0 else rounded


def high_mul(a: int, b: int) -> int:
    """Compute SaturatingRoundingDoublingHighMul in words of the gemmlowp source."""
    if a == b == -(2**31):
        return 2**31 - 1
    nudge = 2**30 if a * b >= 0 else 1 - 2**30
    return truncate(a * b + nudge, 2**31)


def rescale(acc: int, bias: int, multiplier: int, shift: int, zero_point: int, low: int, high: int) -> int:
    """Carry out the five steps of requantisation."""
    a = wrap(acc + bias)
    a = wrap(a * 2 ** max(shift, 0))
    a = high_mul(a, multiplier)
    a = half_away(Fraction(a, 2 ** max(-shift, 0)))
    return min(max(a + zero_point, low), high)
