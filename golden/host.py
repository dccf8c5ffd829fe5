"""Operators at a network's edges that run on the host, bit-exact with TensorFlow Lite's reference kernels.

They take and give numpy arrays of any shape; softmax works on the last axis, the others on each element.
Where the reference kernels abort or leave the result to chance, these functions raise ArithmeticRangeError.

Sources: TensorFlow Lite reference/{softmax,quantize,requantize,dequantize}.h and quantization_util.cc;
    gemmlowp fixedpoint.h, exp_on_negative_values and one_over_one_plus_x_for_x_in_0_1.
"""

import math

import numpy as np
import torch

from common.arrays import Array, Float32, Int8
from common.errors import ArithmeticRangeError, ShapeError
from golden.arithmetic import (
    INT32_MAX,
    INT32_MIN,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

# Fixed-point numbers are int32 with n integer bits, "Qn": real value = integer / 2^(31 - n).
_DIFF_BITS = 5  # of (x - max) * scale * beta
_SUM_BITS = 12  # of the sum of exponentials
_OUTPUT_BITS = 8
# The kernel's last right shift is at most 31, which holds for sums below 2^9.
_MAX_SUM_BITS = _OUTPUT_BITS + 1

# The start of the Newton-Raphson iteration, 48/17 - 32/17 * d, in Q2.
_48_17 = round(48 / 17 * 2**29)
_32_17 = round(32 / 17 * 2**29)

_mul = saturating_rounding_doubling_high_mul


def _shift_left(x: torch.Tensor, bits: int) -> torch.Tensor:
    return (x << bits).clamp(INT32_MIN, INT32_MAX)


def _q0(value: float) -> int:
    return round(value * 2**31)


def _exp(a: torch.Tensor) -> torch.Tensor:
    """Return exp(a) for a <= 0 in Q5, as Q0.

    It is a polynomial on [-1/4, 0), times exp(-2^e) for each higher bit.
    """
    quarter = 1 << (31 - _DIFF_BITS - 2)
    low = (a & (quarter - 1)) - quarter
    x = _shift_left(low, _DIFF_BITS) + _q0(1 / 8)
    x2 = _mul(x, x)
    x3, x4 = _mul(x2, x), _mul(x2, x2)
    series = _mul(rounding_divide_by_pot(x4, 2) + x3, _q0(1 / 3)) + x2
    base = _q0(math.exp(-1 / 8))
    result = base + _mul(base, x + rounding_divide_by_pot(series, 1))
    remainder = low - a
    for exponent in range(-2, _DIFF_BITS):
        bit = (remainder >> (31 - _DIFF_BITS + exponent)) & 1
        result = torch.where(bit == 1, _mul(result, _q0(math.exp(-(2.0**exponent)))), result)
    return torch.where(a == 0, INT32_MAX, result)


def _reciprocal_of_one_plus(x: torch.Tensor) -> torch.Tensor:
    """Return 1 / (1 + x) for x in [0, 1), both Q0: three Newton-Raphson steps in Q2 on d = (1 + x) / 2."""
    half = (x + 2**31) >> 1
    estimate = _48_17 + _mul(half, -_32_17)
    for _ in range(3):
        error = 2**29 - _mul(half, estimate)
        estimate = estimate + _shift_left(_mul(estimate, error), 2)
    return _shift_left(estimate, 1)


def _exponentials(scale: float, beta: float) -> torch.Tensor:
    """Return exp(-i * scale * beta) for i in 0..255 as Q0; 0 for differences i that the kernel leaves out."""
    real = min(beta * scale * 2 ** (31 - _DIFF_BITS), 2.0**31 - 1)
    if not real > 1:
        raise ArithmeticRangeError(
            f"a softmax with input scale {scale} and beta {beta}: their product must be above 2^-26"
        )
    multiplier, shift = quantize_multiplier(real / 2)  # half, so that the shift is no more than 30
    shift += 1
    reach = math.floor((2**_DIFF_BITS - 1) * 2 ** (31 - _DIFF_BITS) / 2**shift)
    steps = torch.arange(256)
    diffs = torch.where(steps <= reach, -steps << shift, 0)
    return torch.where(steps <= reach, _exp(_mul(diffs, multiplier)), 0)


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
    if x.dtype != np.int8 or x.ndim == 0:
        raise ShapeError(f"softmax takes an int8 array with at least one axis, not {x.dtype} {x.shape}")
    exponentials = _exponentials(scale, beta)
    steps = torch.from_numpy(x.max(axis=-1, keepdims=True).astype(np.int64) - x)
    total = rounding_divide_by_pot(exponentials, _SUM_BITS)[steps].sum(dim=-1, keepdim=True)
    length = torch.frexp(total.to(torch.float64)).exponent.to(torch.int64)  # the bit length of the sum
    whole_bits = length - (31 - _SUM_BITS) - 1
    if bool((whole_bits >= _MAX_SUM_BITS).any()):
        raise ArithmeticRangeError(
            f"a softmax over {x.shape[-1]} values whose exponentials add up to {2**_MAX_SUM_BITS} or more is "
            "not defined in TensorFlow Lite's reference kernel; use fewer classes"
        )
    fraction = (total << (32 - length)) - 2**31  # of the sum, normalised to [1, 2)
    quotient = _mul(_reciprocal_of_one_plus(fraction), exponentials[steps])
    out = rounding_divide_by_pot(quotient, whole_bits + 31 - _OUTPUT_BITS) - 128
    result: Int8 = out.clamp(max=127).to(torch.int8).numpy()
    return result


def quantize(x: Array, scale: float, zero_point: int) -> Int8:
    """Quantise float32: x / scale in float32, rounded half away from zero, plus the zero point, saturated.

    Args:
        x: float32, any shape.
        scale, zero_point: of the output.

    Returns:
        The shape of x, int8.

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
    result: Int8 = (rounded + zero_point).clip(-128, 127).astype(np.int8)
    return result


def requantize_int8(
    x: Int8, scale: float, zero_point: int, output_scale: float, output_zero_point: int
) -> Int8:
    """Turn int8 into int8 of another scale and zero point, with the two roundings of the units.

    Args:
        x: int8, any shape.
        scale, zero_point: of the input.
        output_scale, output_zero_point: of the output.

    Returns:
        The shape of x, int8.

    Raises:
        ShapeError: x is not int8.
        ArithmeticRangeError: the scales are too far apart.
    """
    if x.dtype != np.int8:
        raise ShapeError(f"requantize_int8 takes int8, not {x.dtype}")
    values = torch.arange(-128, 128)
    scaled = multiply_by_quantized_multiplier(values - zero_point, *quantize_multiplier(scale / output_scale))
    table = (scaled + output_zero_point).clamp(-128, 127).to(torch.int8).numpy()
    result: Int8 = table[x.astype(np.int64) + 128]
    return result


def dequantize(x: Int8, scale: float, zero_point: int) -> Float32:
    """Turn int8 into float32: scale * (x - zero_point).

    Args:
        x: int8, any shape.
        scale, zero_point: of the input.

    Returns:
        The shape of x, float32.

    Raises:
        ShapeError: x is not int8.
    """
    if x.dtype != np.int8:
        raise ShapeError(f"dequantize takes int8, not {x.dtype}")
    return (scale * (x.astype(np.float64) - zero_point)).astype(np.float32)
