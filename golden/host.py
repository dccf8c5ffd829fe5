# SPDX-License-Identifier: Apache-2.0
"""Operators at a network's ends that run on the host, bit-exact with TensorFlow Lite's reference kernels.

They take and give numpy arrays of any shape; softmax and its logarithm work on the last axis, the others on
each element. Where the reference kernels abort or leave the result to chance, these functions raise
ArithmeticRangeError. `golden.host_float` has those of float32, `golden.host_operators` the table of all.

Sources: TensorFlow Lite reference/{softmax,log_softmax,quantize,requantize,dequantize}.h, activations.cc and
    quantization_util.cc.
"""

import math

import numpy as np
import torch

from common.arrays import Array, Float32, Int8
from common.errors import ArithmeticRangeError, ShapeError
from golden import host_float
from golden.arithmetic import (
    INT32_MAX,
    INT32_MIN,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from golden.fixed_point import (
    DIFF_BITS,
    SUM_BITS,
    bit_length,
    exp_of_negative,
    log_of_at_least_one,
    reciprocal_of_one_plus,
)

_OUTPUT_BITS = 8
# The kernel's last right shift is at most 31, which holds for sums below 2^9.
_MAX_SUM_BITS = _OUTPUT_BITS + 1
_LOG_OUTPUT_BITS = 4  # integer bits of the logarithm's output: scale 16 / 256

_mul = saturating_rounding_doubling_high_mul

PROBABILITY = (1 / 256, -128)
"""Scale and zero point of an int8 softmax's or logistic's output."""
LOG_PROBABILITY = (16 / 256, 127)
"""Scale and zero point of an int8 log_softmax's output."""


def _scaled_differences(scale: float, beta: float) -> tuple[torch.Tensor, int, tuple[int, int]]:
    """Return -i * scale * beta for i in 0..255 as Q5, the largest i that the kernel counts, and its factor.

    Differences beyond the largest are given as the largest. The factor is a multiplier and a left shift.
    """
    real = min(beta * scale * 2 ** (31 - DIFF_BITS), 2.0**31 - 1)
    if not real > 1:
        raise ArithmeticRangeError(
            f"a softmax with input scale {scale} and beta {beta}: their product must be above 2^-26"
        )
    multiplier, shift = quantize_multiplier(real / 2)  # half, so that the shift is no more than 30
    shift += 1
    reach = math.floor((2**DIFF_BITS - 1) * 2 ** (31 - DIFF_BITS) / 2**shift)
    steps = torch.arange(256).clamp(max=reach)
    return _mul(-steps << shift, multiplier), reach, (multiplier, shift)


def _exponentials(scale: float, beta: float) -> torch.Tensor:
    """Return exp(-i * scale * beta) for i in 0..255 as Q0; 0 for differences i that the kernel leaves out."""
    differences, reach, _ = _scaled_differences(scale, beta)
    return torch.where(torch.arange(256) <= reach, exp_of_negative(differences), 0)


def _below_largest(x: Int8, name: str) -> torch.Tensor:
    """Return how far each value is below the largest of its row."""
    if x.dtype != np.int8 or x.ndim == 0:
        raise ShapeError(f"{name} takes an int8 array with at least one axis, not {x.dtype} {x.shape}")
    return torch.from_numpy(x.max(axis=-1, keepdims=True).astype(np.int64) - x)


def softmax(x: Int8, scale: float, beta: float) -> Int8:
    """Return the softmax over the last axis, in fixed point, with output scale 1/256 and zero point -128.

    Args:
        x: (..., C) int8; its zero point does not matter.
        scale: of the input.
        beta: factor of the exponent.

    Returns:
        The shape of x, int8.

    Raises:
        ShapeError: x is not int8 or has no axis.
        ArithmeticRangeError: the scale or beta is too small for the kernel or the exponentials of a row add
            up to 512 or more.
    """
    steps = _below_largest(x, "softmax")
    exponentials = _exponentials(scale, beta)
    total = rounding_divide_by_pot(exponentials, SUM_BITS)[steps].sum(dim=-1, keepdim=True)
    length = bit_length(total)
    whole_bits = length - (31 - SUM_BITS) - 1
    if bool((whole_bits >= _MAX_SUM_BITS).any()):
        raise ArithmeticRangeError(
            f"a softmax over {x.shape[-1]} values whose exponentials add up to {2**_MAX_SUM_BITS} or more is "
            "not defined in TensorFlow Lite's reference kernel; use fewer classes"
        )
    fraction = (total << (32 - length)) - 2**31  # of the sum, normalised to [1, 2)
    quotient = _mul(reciprocal_of_one_plus(fraction), exponentials[steps])
    out = rounding_divide_by_pot(quotient, whole_bits + 31 - _OUTPUT_BITS) - 128
    result: Int8 = out.clamp(max=127).to(torch.int8).numpy()
    return result


def log_softmax(x: Int8, scale: float) -> Int8:
    """Return the softmax's logarithm over the last axis, with output scale 16/256 and zero point 127.

    Args:
        x: (..., C) int8; its zero point does not matter.
        scale: of the input.

    Returns:
        The shape of x, int8.

    Raises:
        ShapeError: x is not int8 or has no axis.
        ArithmeticRangeError: the scale is too small for the kernel, or the exponentials of a row add up to
            4096 or more.
    """
    steps = _below_largest(x, "log_softmax")
    differences, reach, (multiplier, shift) = _scaled_differences(scale, 1.0)
    exponentials = rounding_divide_by_pot(_exponentials(scale, 1.0), SUM_BITS)
    total = exponentials[steps].sum(dim=-1, keepdim=True)
    if bool((total > INT32_MAX).any()):
        raise ArithmeticRangeError(
            f"a log_softmax over {x.shape[-1]} values whose exponentials add up to {2**SUM_BITS} or more is "
            "not defined in TensorFlow Lite's reference kernel; use fewer classes"
        )
    log_sum = log_of_at_least_one(total)
    # a value so far below the largest that the difference of logarithms leaves Q5 becomes the smallest
    inverse = quantize_multiplier(2.0 ** (31 - shift) / multiplier)
    lowest = multiply_by_quantized_multiplier(log_sum + INT32_MIN, *inverse).clamp(min=-reach - 1)
    logarithm = (differences[steps] - log_sum).clamp(min=INT32_MIN)
    out = rounding_divide_by_pot(logarithm, 31 - DIFF_BITS - _LOG_OUTPUT_BITS) + 127
    result: Int8 = torch.where(-steps > lowest, out.clamp(-128, 127), -128).to(torch.int8).numpy()
    return result


def logistic(x: Int8, scale: float, zero_point: int) -> Int8:
    """Return 1 / (1 + exp(-x)) with output scale 1/256 and zero point -128: a table of float32 results.

    Args:
        x: int8, any shape.
        scale, zero_point: of the input.

    Returns:
        The shape of x, int8.

    Raises:
        ShapeError: x is not int8.
    """
    if x.dtype != np.int8:
        raise ShapeError(f"logistic takes int8, not {x.dtype}")
    real = np.float32(scale) * (np.arange(-128, 128) - zero_point).astype(np.float32)
    scaled = host_float.one_over_one_plus_exp(-real).astype(np.float64) * 256
    table = (np.floor(scaled + 0.5) - 128).clip(-128, 127).astype(np.int8)
    result: Int8 = table[x.astype(np.int64) + 128]
    return result


_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


def quantize(x: Array, scale: float, zero_point: int, dtype: str = "int8") -> Array:
    """Quantise float32: x / scale in float32, rounded half away from zero, plus the zero point, saturated.

    Args:
        x: float32, any shape.
        scale, zero_point: of the output.
        dtype: of the output, "int8" or "uint8".

    Returns:
        The shape of x.

    Raises:
        ShapeError: x is not float32.
        ArithmeticRangeError: a value is not finite or x / scale is beyond int32, for which the reference
            kernel defines nothing.
    """
    if x.dtype != np.float32:
        raise ShapeError(f"quantize takes float32, not {x.dtype}")
    with np.errstate(over="ignore"):
        ratio = (x / np.float32(scale)).astype(np.float64)
    rounded = np.copysign(np.floor(np.abs(ratio) + 0.5), ratio)
    if x.size and not (np.abs(rounded).max() < 2**31 - 256):
        raise ArithmeticRangeError(
            f"an input to quantize is not finite, or beyond int32 when divided by the scale {scale}"
        )
    result: Array = (rounded + zero_point).clip(*_RANGES[dtype]).astype(dtype)
    return result


def requantize(
    x: Array, scale: float, zero_point: int, output_scale: float, output_zero_point: int, dtype: str = "int8"
) -> Array:
    """Turn int8 or uint8 into one of another scale and zero point, with the two roundings of the units.

    Between int8 and uint8 of one scale, whose zero points are 128 apart, this is a shift by 128.

    Args:
        x: int8 or uint8, any shape.
        scale, zero_point: of the input.
        output_scale, output_zero_point: of the output.
        dtype: of the output, "int8" or "uint8".

    Returns:
        The shape of x.

    Raises:
        ShapeError: x is neither int8 nor uint8.
        ArithmeticRangeError: the scales are too far apart.
    """
    if x.dtype.name not in _RANGES:
        raise ShapeError(f"requantize takes int8 or uint8, not {x.dtype}")
    low, high = _RANGES[x.dtype.name]
    values = torch.arange(low, high + 1)
    scaled = multiply_by_quantized_multiplier(values - zero_point, *quantize_multiplier(scale / output_scale))
    table = (scaled + output_zero_point).clamp(*_RANGES[dtype]).numpy().astype(dtype)
    result: Array = table[x.astype(np.int64) - low]
    return result


def dequantize(x: Array, scale: float, zero_point: int) -> Float32:
    """Turn int8 or uint8 into float32: scale * (x - zero_point).

    Args:
        x: int8 or uint8, any shape.
        scale, zero_point: of the input.

    Returns:
        The shape of x, float32.

    Raises:
        ShapeError: x is neither int8 nor uint8.
    """
    if x.dtype.name not in _RANGES:
        raise ShapeError(f"dequantize takes int8 or uint8, not {x.dtype}")
    return (scale * (x.astype(np.float64) - zero_point)).astype(np.float32)
