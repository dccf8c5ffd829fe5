# SPDX-License-Identifier: Apache-2.0
"""Constants of layers, computed from a file's numbers as TensorFlow Lite's reference kernels compute them.

FULLY_CONNECTED is the one weighted operator that the interpreter (ai-edge-litert 1.4.0 to 2.3.0) rescales in
double precision. It becomes a layer that rounds once, with multipliers that are proved to give the same.

Sources: TensorFlow Lite kernel_util.cc (PopulateConvolutionQuantizationParams,
    CalculateActivationRangeQuantized), padding.h, reference/integer_ops/fully_connected.h,
    reference/reduce.h (QuantizedMeanOrSum).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tflite

from common.arrays import Array, Floats, Int64
from common.errors import ArithmeticRangeError, ModelFileError, UnsupportedError
from golden.arithmetic import INT32_MAX, multiply_by_quantized_multiplier, quantize_multiplier
from golden.importers.tflite_file import FileTensor
from golden.importers.tflite_graph import Padding
from golden.network import Tensor


def clamp(activation: int, output: Tensor) -> dict[str, int]:
    """Return act_min and act_max of a fused activation, computed in float32 as TensorFlow Lite does."""

    def quantized(real: float) -> int:
        with np.errstate(over="ignore"):
            ratio = float(np.float32(real) / np.float32(output.scale))
        if abs(ratio) >= 2**31 - 256:
            raise ArithmeticRangeError(f"the output's scale {output.scale} is too small for its activation")
        return output.zero_point + int(math.copysign(math.floor(abs(ratio) + 0.5), ratio))

    kind = tflite.ActivationFunctionType
    bounds: dict[int, tuple[float | None, float | None]] = {
        kind.NONE: (None, None),
        kind.RELU: (0.0, None),
        kind.RELU6: (0.0, 6.0),
        kind.RELU_N1_TO_1: (-1.0, 1.0),
    }
    if activation not in bounds:
        raise UnsupportedError(
            f"fused activation number {activation}; supported are NONE, RELU, RELU6 and RELU_N1_TO_1"
        )
    low, high = bounds[activation]
    return {
        "act_min": -128 if low is None else max(-128, quantized(low)),
        "act_max": 127 if high is None else min(127, quantized(high)),
    }


def positive_pair(values: Sequence[int], name: str) -> tuple[int, int]:
    """Return two numbers that must be positive.

    Raises:
        ModelFileError: one is not; the message has `name`.
    """
    if min(values) < 1:
        raise ModelFileError(f"{name} {tuple(values)} must be positive")
    return values[0], values[1]


def window_padding(
    scheme: int, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Padding:
    """Return (top, bottom, left, right) of the scheme SAME or VALID; an odd pixel is at bottom and right."""
    if scheme == tflite.Padding.VALID:
        return 0, 0, 0, 0
    if scheme != tflite.Padding.SAME:
        raise ModelFileError(f"padding scheme number {scheme}; there are only SAME and VALID")
    pads: list[int] = []
    for pixels, taps, step, spread in zip(size, kernel, stride, dilation, strict=True):
        outputs = -(-pixels // step)
        total = max((outputs - 1) * step + (taps - 1) * spread + 1 - pixels, 0)
        pads += [total // 2, total - total // 2]
    return pads[0], pads[1], pads[2], pads[3]


def weight_scales_of(weights: FileTensor, channels: int, axis: int) -> Floats:
    """Return the (K,) scales of weights, which must be symmetric."""
    if weights.zero_points.any():
        raise UnsupportedError(f"weights (tensor {weights.index}) with a zero point; supported is 0")
    if weights.scales.size == 1:
        return np.full(channels, weights.scales[0])
    if weights.scales.size != channels or weights.axis != axis:
        raise ModelFileError(
            f"weights (tensor {weights.index}) have {weights.scales.size} scales along axis {weights.axis}; "
            f"expected one, or {channels} along axis {axis}"
        )
    return weights.scales


def requantization(
    factors: Array, source: Tensor, output: Tensor, reach: Int64 | None = None
) -> dict[str, Any]:
    """Return multipliers, shifts and zero points for (K,) factors; equal factors are converted once.

    With `reach`, (K,), they are for a single rounding, exact for all accumulators from -reach to reach.
    """
    distinct, places = np.unique(factors, return_inverse=True)
    if reach is None:
        pairs = np.array([quantize_multiplier(float(factor)) for factor in distinct], np.int32)
    else:
        farthest = np.zeros(distinct.size, np.int64)
        np.maximum.at(farthest, places, reach)
        pairs = np.array(list(map(rounded_once, distinct, farthest.clip(max=INT32_MAX))), np.int32)
    return {
        "multiplier": pairs[places, 0],
        "shift": pairs[places, 1],
        "input_zero_point": source.zero_point,
        "output_zero_point": output.zero_point,
    }


def rounded_once(factor: np.float64, reach: np.int64) -> tuple[int, int]:
    """Return the multiplier and shift that, rounding once, give round(x * factor) in double precision.

    They do for all integers x from -reach to reach. Results that int8 clamps anyway, whatever the zero point,
    are not compared.

    Raises:
        UnsupportedError: neither the nearest multiplier nor its neighbours do.
    """
    # Both are non-decreasing in x. They are equal if they are around each place where the exact one steps.
    steps = np.floor((np.arange(-256, 257) - 0.5) / factor)
    x = (steps[:, None] + np.arange(-2, 4)).clip(-reach, reach).astype(np.int64)
    product = x * factor
    whole = np.trunc(product)
    exact = whole + np.copysign(np.abs(product - whole) >= 0.5, product)
    nearest, shift = quantize_multiplier(float(factor))
    for multiplier in (nearest, nearest + 1, nearest - 1):
        scaled = multiply_by_quantized_multiplier(x, multiplier, shift, single_rounding=True)
        if np.array_equal(scaled.numpy(), exact):
            return multiplier, shift
    raise UnsupportedError(f"no multiplier gives exactly what the factor {factor} does up to {reach}")


def mean_constants(ratio: float, pixels: int) -> tuple[int, int]:
    """Return the reference kernel's multiplier (it may lie below 2^30) and shift for a sum over `pixels`."""
    multiplier, shift = quantize_multiplier(ratio)
    drop = min(pixels.bit_length() - 1, 32, 31 + shift)
    return (multiplier << drop) // pixels, shift - drop
