# SPDX-License-Identifier: Apache-2.0
"""Transcendental functions in fixed point, bit-exact with gemmlowp and TensorFlow Lite's reference kernels.

Fixed-point numbers are int64 tensors of int32 values with n integer bits, "Qn": the real value is
integer / 2^(31 - n).

Sources: gemmlowp fixedpoint.h, exp_on_negative_values and one_over_one_plus_x_for_x_in_0_1;
    TensorFlow Lite reference/log_softmax.h and internal/common.h, log_x_for_x_greater_than_or_equal_to_1.
"""

import math

import torch

from golden.arithmetic import (
    INT32_MAX,
    INT32_MIN,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

DIFF_BITS = 5
"""Integer bits of the argument of `exp_of_negative` and of the result of `log_of_at_least_one`."""
SUM_BITS = 12
"""Integer bits of the argument of `log_of_at_least_one`."""
_LOG_BITS = DIFF_BITS + 1  # of the logarithm's sum, which needs one more

# The start of the Newton-Raphson iteration, 48/17 - 32/17 * d, in Q2.
_48_17 = round(48 / 17 * 2**29)
_32_17 = round(32 / 17 * 2**29)

_mul = saturating_rounding_doubling_high_mul


def _saturated(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(INT32_MIN, INT32_MAX)


def _shift_left(x: torch.Tensor, bits: int | torch.Tensor) -> torch.Tensor:
    return _saturated(x << bits)


def q0(value: float) -> int:
    """Return a real number in Q0."""
    return round(value * 2**31)


def exp_of_negative(a: torch.Tensor) -> torch.Tensor:
    """Return exp(a) for a <= 0 in Q5, as Q0.

    It is a polynomial on [-1/4, 0), times exp(-2^e) for each higher bit.
    """
    quarter = 1 << (31 - DIFF_BITS - 2)
    low = (a & (quarter - 1)) - quarter
    x = _shift_left(low, DIFF_BITS) + q0(1 / 8)
    x2 = _mul(x, x)
    x3, x4 = _mul(x2, x), _mul(x2, x2)
    series = _mul(rounding_divide_by_pot(x4, 2) + x3, q0(1 / 3)) + x2
    base = q0(math.exp(-1 / 8))
    result = base + _mul(base, x + rounding_divide_by_pot(series, 1))
    remainder = low - a
    for exponent in range(-2, DIFF_BITS):
        bit = (remainder >> (31 - DIFF_BITS + exponent)) & 1
        result = torch.where(bit == 1, _mul(result, q0(math.exp(-(2.0**exponent)))), result)
    return torch.where(a == 0, INT32_MAX, result)


def reciprocal_of_one_plus(x: torch.Tensor) -> torch.Tensor:
    """Return 1 / (1 + x) for x in [0, 1), both Q0: three Newton-Raphson steps in Q2 on d = (1 + x) / 2."""
    half = (x + 2**31) >> 1
    estimate = _48_17 + _mul(half, -_32_17)
    for _ in range(3):
        error = 2**29 - _mul(half, estimate)
        estimate = estimate + _shift_left(_mul(estimate, error), 2)
    return _shift_left(estimate, 1)


def bit_length(x: torch.Tensor) -> torch.Tensor:
    """Return the number of bits of non-negative integers below 2^53; 0 for 0."""
    return torch.frexp(x.to(torch.float64)).exponent.to(torch.int64)


def log_of_at_least_one(x: torch.Tensor) -> torch.Tensor:
    """Return ln(x) for x >= 1 in Q12, as Q5.

    x is 2^n * r with r between the square root of 1/2 and its inverse, taken once from x itself and once from
    x times that root; the smaller r counts. ln(r) is a quotient of polynomials of r around r = 2^(-1/4).
    """
    root = math.sqrt(math.sqrt(0.5))  # 2^(-1/4)
    half_root = q0(math.sqrt(0.5))
    quarter = rounding_divide_by_pot(q0(0.25), _LOG_BITS)
    unit = 31 - _LOG_BITS

    headroom = 31 - bit_length(x)
    first = _shift_left(_mul(_shift_left(x, headroom), half_root), 1)
    first_power = _saturated(_shift_left(SUM_BITS - 1 - headroom, unit) + quarter)
    scaled = _mul(x, half_root)
    scaled_headroom = 31 - bit_length(scaled)
    second = _shift_left(x, scaled_headroom)
    second_power = _saturated(_shift_left(SUM_BITS - scaled_headroom, unit) - quarter)

    r, power = torch.minimum(first, second), torch.maximum(first_power, second_power)
    total = r + q0(root)
    p = torch.div(total + torch.where(total >= 0, 1, -1), 2, rounding_mode="trunc")
    q = 2 * (r - q0(root))
    square = _mul(q, q)
    numerator = _mul(q, r) + _mul(_mul(q, square), q0(11 / 240 / root))
    polynomial = q0(2 * root - 1 / root) + q + _mul(square, q0(1 / 20 / root))
    denominator = _mul(p, polynomial) + _mul(q, q0(1 / 4 / root))
    quotient = _mul(rounding_divide_by_pot(numerator, _LOG_BITS), reciprocal_of_one_plus(denominator))
    return _shift_left(_mul(power, q0(math.log(2))) + quotient, _LOG_BITS - DIFF_BITS)
