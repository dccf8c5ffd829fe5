# SPDX-License-Identifier: Apache-2.0
"""Constrained random layers: small shapes and every corner of the operators, from one seed each."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.arrays import Int8, Int32, Int64
from common.errors import NpuloopError
from golden.arithmetic import integer_range
from golden.layer import Layer, run_layer
from hw.core import CoreConfig
from mapping.compiler.compile import compile_layer

OPERATORS = ("conv2d", "depthwise_conv2d", "fully_connected", "add", "average_pool", "max_pool")
CHANNELS = (1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65, 80)
ATTEMPTS = 1000


def random_layer(seed: int, unit: CoreConfig, op: str | None = None) -> Layer:
    """Return a random layer that the unit can run; equal arguments give equal layers.

    Shapes start at 1 x 1 x 1; channels are ragged; kernels, strides, padding and dilation are drawn with
    their corners (no padding, padding on one side only, stride beyond the kernel); values are random, all
    extreme (-128 and 127), or constant; multipliers make the outputs spread, saturate, or vanish.
    """
    rng = np.random.default_rng(seed)
    chosen = op or str(rng.choice(OPERATORS, p=(0.36, 0.24, 0.1, 0.1, 0.1, 0.1)))
    for _ in range(ATTEMPTS):
        try:
            layer = _draw(rng, f"random_{chosen}_{seed}", chosen, unit)
            run_layer(layer, unit.a_bits)  # refuses sums that could leave 32 bits
            compile_layer(layer, unit)  # refuses what does not fit
        except NpuloopError:
            continue
        return layer
    raise NpuloopError(f"seed {seed}: no {chosen} that fits {unit.name} in {ATTEMPTS} attempts")


def _values(rng: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> Int8:
    kind = rng.choice(("uniform", "extreme", "constant", "sparse"), p=(0.6, 0.2, 0.1, 0.1))
    if kind == "extreme":
        return rng.choice(np.array([low, high]), shape).astype(np.int8)
    if kind == "constant":
        return np.full(shape, rng.choice(np.array([low, high, 0])), np.int8)
    values = rng.integers(low, high, shape, endpoint=True)
    return (values * (rng.random(shape) < 0.3) if kind == "sparse" else values).astype(np.int8)


def _pair(values: Int64) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _clamp(rng: np.random.Generator) -> tuple[int, int]:
    if rng.random() < 0.6:
        return -128, 127
    low, high = sorted(int(v) for v in rng.integers(-128, 127, 2, endpoint=True))
    return low, high


def _multipliers(rng: np.random.Generator, channels: int, reduction: float) -> tuple[Int32, Int32]:
    """Draw multipliers and shifts: mostly such that the outputs spread over int8, sometimes anything."""
    drawn = rng.integers(1 << 30, 1 << 31, channels, dtype=np.int64)
    # one channel in eight: multipliers whose products end in zeros, so that ties of the rounding occur
    special = np.array([1 << 30, (1 << 31) - 1, 3 << 29, 0, 1, 5 << 20, 1 << 29, 77])[drawn >> 3 & 7]
    multiplier = np.where(drawn & 7 == 0, special, drawn).astype(np.int32)
    if rng.random() < 0.75:
        centre = -round(np.log2(max(reduction, 1.0)))
        shift = centre + rng.integers(-3, 4, channels)
    else:
        shift = rng.integers(-31, 23, channels)  # up to 22: eight more are added for reduced activations
    return multiplier, np.clip(shift, -31, 22).astype(np.int32)


def _draw(rng: np.random.Generator, name: str, op: str, unit: CoreConfig) -> Layer:
    act_min, act_max = _clamp(rng)
    channels = int(rng.choice(CHANNELS))
    zero_points = {key: int(rng.integers(-128, 127, endpoint=True)) for key in ("x", "y", "x2")}
    low, high = integer_range(unit.w_bits)

    if op == "fully_connected":
        channels = int(rng.integers(1, 300))
        outputs = int(rng.choice((*CHANNELS, 200)))
        multiplier, shift = _multipliers(rng, outputs, channels * 64.0 * high / 128)
        return Layer(
            name=name, op=op, act_min=act_min, act_max=act_max,
            input=_values(rng, (channels,), -128, 127),
            weights=_values(rng, (outputs, channels), low, high),
            bias=rng.integers(-20000, 20000, outputs).astype(np.int32),
            multiplier=multiplier, shift=shift, single_rounding=bool(rng.integers(2)),
            input_zero_point=zero_points["x"], output_zero_point=zero_points["y"],
        )  # fmt: skip

    height, width = (int(v) for v in rng.integers(1, int(rng.choice((3, 10, 22))), 2))
    data = _values(rng, (height, width, channels), -128, 127)
    if op == "add":
        scales: dict[str, Any] = {}
        for key in ("input1", "input2", "output"):
            scales[f"{key}_multiplier"] = int(rng.integers(1 << 30, 1 << 31))
            scales[f"{key}_shift"] = int(rng.integers(-4, 1))
        scales["output_shift"] = int(rng.integers(-22, -14))
        return Layer(
            name=name, op=op, act_min=act_min, act_max=act_max, input=data,
            input2=_values(rng, (height, width, channels), -128, 127),
            input1_zero_point=zero_points["x"], input2_zero_point=zero_points["x2"],
            output_zero_point=zero_points["y"], left_shift=20, **scales,
        )  # fmt: skip

    kernel = _pair(rng.choice((1, 2, 3, 3, 3, 4, 5, 7, 9), 2))
    stride = _pair(rng.choice((1, 1, 1, 2, 3, 4), 2))
    pool = op in ("average_pool", "max_pool")
    dilation = (1, 1) if pool or rng.random() < 0.7 else _pair(rng.integers(1, 4, 2))
    # padding below the kernel; for pools every window needs a valid value
    limit = [kernel[i] - 1 if pool else (kernel[i] - 1) * dilation[i] for i in (0, 1)]
    if rng.random() < 0.4:
        padding = (limit[0] // 2, limit[0] - limit[0] // 2, limit[1] // 2, limit[1] - limit[1] // 2)
    else:
        top, bottom, left, right = (int(rng.integers(0, limit[i // 2], endpoint=True)) for i in range(4))
        padding = (top, bottom, left, right)
    window: dict[str, Any] = {"stride": stride, "padding": padding}
    if pool:
        return Layer(name=name, op=op, act_min=act_min, act_max=act_max, input=data, kernel=kernel, **window)

    outputs = channels if op == "depthwise_conv2d" else int(rng.choice(CHANNELS))
    inputs = 1 if op == "depthwise_conv2d" else channels
    shape = (1, *kernel, channels) if op == "depthwise_conv2d" else (outputs, *kernel, channels)
    multiplier, shift = _multipliers(rng, outputs, inputs * kernel[0] * kernel[1] * 64.0 * high / 128)
    return Layer(
        name=name, op=op, act_min=act_min, act_max=act_max, input=data,
        weights=_values(rng, shape, low, high),
        bias=rng.integers(-20000, 20000, outputs).astype(np.int32),
        multiplier=multiplier, shift=shift, single_rounding=rng.random() < 0.3, dilation=dilation,
        input_zero_point=zero_points["x"], output_zero_point=zero_points["y"], **window,
    )  # fmt: skip
