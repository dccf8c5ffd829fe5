# SPDX-License-Identifier: Apache-2.0
"""The integer arithmetic of the NPUs, element by element: rounding, requantisation, reduced activations.

Everything is exact and vectorised on torch int64 tensors. Arguments may be tensors, numpy arrays, (nested)
sequences or plain integers and broadcast as usual; results are int64 tensors. int32 registers are modelled
by values that lie in [-2^31, 2^31), checked on the way in. The rules in words are in
docs/reference/arithmetic.md.

Sources: TensorFlow Lite `MultiplyByQuantizedMultiplier` (double rounding, as in the reference kernels) and
    gemmlowp fixedpoint.h; Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from common.arrays import Array
from common.errors import ArithmeticRangeError, ShapeError, UnsupportedError

INT32_MIN = -(2**31)
INT32_MAX = 2**31 - 1
MIN_SHIFT = -31
MAX_SHIFT = 30
ADD_LEFT_SHIFT = 20

IntegerLike: TypeAlias = torch.Tensor | Array | np.integer[Any] | int | Sequence[Any]


def as_int64(values: IntegerLike, name: str = "value") -> torch.Tensor:
    """Turn integers of any container into an int64 tensor of the same shape.

    Raises ShapeError where the elements are not integers: a float never slips into the exact arithmetic.
    """
    if isinstance(values, torch.Tensor):
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
            raise ShapeError(f"{name} has element type {values.dtype}; give integers")
        return values.to(torch.int64)
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ShapeError(f"{name} has element type {array.dtype}; give integers")
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.size and int(array.max()) >= 2**63:
        raise ArithmeticRangeError(f"{name} has a value beyond int64")
    return torch.from_numpy(np.array(array, dtype=np.int64))


def _checked(values: IntegerLike, low: int, high: int, name: str) -> torch.Tensor:
    tensor = as_int64(values, name)
    if tensor.numel():
        smallest, largest = int(tensor.min()), int(tensor.max())
        if smallest < low or largest > high:
            raise ArithmeticRangeError(
                f"{name} must lie in [{low}, {high}] but its values reach [{smallest}, {largest}]"
            )
    return tensor


def check_bits(bits: int, name: str) -> int:
    """Return `bits` where it is a width that the NPUs know (2 to 8).

    Raises:
        UnsupportedError: it is not; the message has `name`.
    """
    if not 2 <= bits <= 8:
        raise UnsupportedError(f"{name} = {bits} is not supported; choose a width from 2 to 8 bits")
    return bits


def wrap_int32(x: IntegerLike) -> torch.Tensor:
    """Keep the low 32 bits of `x`, read as two's complement: what an int32 register does."""
    return ((as_int64(x) + 2**31) & 0xFFFFFFFF) - 2**31


def saturating_rounding_doubling_high_mul(a: IntegerLike, b: IntegerLike) -> torch.Tensor:
    """Return the high half of 2*a*b, rounded: (a*b + nudge) / 2^31 truncated towards zero.

    nudge is 2^30 where a*b >= 0, else 1 - 2^30. The only overflow, a = b = -2^31, saturates to 2^31 - 1.

    Args:
        a, b: int32 values, broadcast against each other.

    Raises:
        ArithmeticRangeError: a value is no int32.
    Source: gemmlowp fixedpoint.h, SaturatingRoundingDoublingHighMul.
    """
    a = _checked(a, INT32_MIN, INT32_MAX, "a")
    b = _checked(b, INT32_MIN, INT32_MAX, "b")
    product = a * b  # at most 2^62 in magnitude: exact in int64, with room for the nudge
    nudge = torch.where(product >= 0, 2**30, 1 - 2**30)
    high = torch.div(product + nudge, 2**31, rounding_mode="trunc")
    return high.clamp(max=INT32_MAX)


def rounding_divide_by_pot(x: IntegerLike, exponent: IntegerLike) -> torch.Tensor:
    """Return the quotient x / 2^exponent, rounded to the nearest integer, halves away from zero.

    Args:
        x: int32 values.
        exponent: 0 to 31, broadcast against x.

    Raises:
        ArithmeticRangeError: an argument is outside its range.
    Source: gemmlowp fixedpoint.h, RoundingDivideByPOT.
    """
    x = _checked(x, INT32_MIN, INT32_MAX, "x")
    exponent = _checked(exponent, 0, 31, "exponent")
    mask = torch.bitwise_left_shift(torch.ones_like(exponent), exponent) - 1
    threshold = (mask >> 1) + (x < 0).to(torch.int64)
    return torch.bitwise_right_shift(x, exponent) + ((x & mask) > threshold).to(torch.int64)


def multiply_by_quantized_multiplier(
    x: IntegerLike, multiplier: IntegerLike, shift: IntegerLike, *, single_rounding: bool = False
) -> torch.Tensor:
    """Return x * multiplier * 2^(shift - 31), in int32 steps with the reference kernels' two roundings.

    First x * 2^max(shift, 0), which wraps modulo 2^32 (the C++ reference leaves that overflow undefined;
    compiled it wraps, and so do the NPUs); then `saturating_rounding_doubling_high_mul`; then
    `rounding_divide_by_pot`. With `single_rounding` the product is rounded once, half away from zero, as in
    TensorFlow Lite's FULLY_CONNECTED; the one overflow of the product saturates as it does in two steps.

    Args:
        x: int32 values.
        multiplier: int32 values, in a network not negative; 0 and negative values are computed too.
        shift: -31 to 30; positive is to the left.

    Raises:
        ArithmeticRangeError: an argument is outside its range.
    Source: TensorFlow Lite common.h, MultiplyByQuantizedMultiplier.
    """
    x = _checked(x, INT32_MIN, INT32_MAX, "x")
    shift = _checked(shift, MIN_SHIFT, MAX_SHIFT, "shift")
    shifted = wrap_int32(torch.bitwise_left_shift(x, shift.clamp(min=0)))
    if single_rounding:
        multiplier = _checked(multiplier, INT32_MIN, INT32_MAX, "multiplier")
        product = (shifted * multiplier).clamp(max=INT32_MAX << 31)  # at most 2^62: room for the half
        places = 31 + (-shift).clamp(min=0)
        half = torch.bitwise_left_shift(torch.ones_like(places), places - 1)
        magnitude = torch.bitwise_right_shift(product.abs() + half, places)
        return torch.where(product < 0, -magnitude, magnitude)
    return rounding_divide_by_pot(
        saturating_rounding_doubling_high_mul(shifted, multiplier), (-shift).clamp(min=0)
    )


def requantize(
    acc: IntegerLike,
    bias: IntegerLike,
    multiplier: IntegerLike,
    shift: IntegerLike,
    output_zero_point: int,
    act_min: int,
    act_max: int,
    *,
    single_rounding: bool = False,
) -> torch.Tensor:
    """Rescale int32 accumulators to int8 activations.

    acc + bias wraps modulo 2^32, then `multiply_by_quantized_multiplier`, then + output_zero_point (exact:
    this sum needs 33 bits and never wraps) and the clamp to [act_min, act_max], in which a fused ReLU
    lives.

    Args:
        acc: (..., K) int32 accumulators, output channels last.
        bias, multiplier, shift: (K,) or one value for all channels.
        output_zero_point, act_min, act_max: int8 values, act_min <= act_max.
        single_rounding: see `multiply_by_quantized_multiplier`.

    Returns:
        (..., K) int64 tensor of int8 values.

    Raises:
        ArithmeticRangeError: an argument is outside its range.
    """
    acc = _checked(acc, INT32_MIN, INT32_MAX, "acc")
    bias = _checked(bias, INT32_MIN, INT32_MAX, "bias")
    for name, value in (("output_zero_point", output_zero_point), ("act_min", act_min), ("act_max", act_max)):
        if not -128 <= value <= 127:
            raise ArithmeticRangeError(f"{name} = {value} is no int8 value")
    if act_min > act_max:
        raise ArithmeticRangeError(f"act_min = {act_min} is above act_max = {act_max}")
    total = wrap_int32(acc + bias)
    scaled = multiply_by_quantized_multiplier(total, multiplier, shift, single_rounding=single_rounding)
    return (scaled + output_zero_point).clamp(act_min, act_max)


def round_half_away(numerator: IntegerLike, denominator: IntegerLike) -> torch.Tensor:
    """Return the quotient numerator / denominator, rounded to nearest, halves away from zero; integers only.

    Args:
        numerator: |value| < 2^61.
        denominator: 1 <= value < 2^61, broadcast against the numerator.

    Raises:
        ArithmeticRangeError: an argument is outside its range.
    """
    numerator = _checked(numerator, -(2**61) + 1, 2**61 - 1, "numerator")
    denominator = _checked(denominator, 1, 2**61 - 1, "denominator")
    magnitude = torch.div(2 * numerator.abs() + denominator, 2 * denominator, rounding_mode="floor")
    return torch.where(numerator < 0, -magnitude, magnitude)


def reduce_activation(x: IntegerLike, a_bits: int) -> torch.Tensor:
    """Return an int8 activation as a unit with `a_bits` sees it: rounded half away from zero, saturated.

    The result is x / 2^(8 - a_bits) in [-2^(a_bits - 1), 2^(a_bits - 1) - 1]; for 8 bits it is x itself.

    Raises:
        ArithmeticRangeError: x is no int8 value.
        UnsupportedError: a_bits is not 2 to 8.
    """
    x = _checked(x, -128, 127, "x")
    half = 2 ** (check_bits(a_bits, "a_bits") - 1)
    return round_half_away(x, 2 ** (8 - a_bits)).clamp(-half, half - 1)


def folded_bias(
    bias: IntegerLike, weights_sum: IntegerLike, input_zero_point: int, a_bits: int = 8
) -> torch.Tensor:
    """Return the bias with the input's zero point folded in, as the NPU adds it to the sum of x' * w.

    round_half_away(bias, 2^(8 - a_bits)) - round_half_away(input_zero_point * weights_sum, 2^(8 - a_bits)),
    kept to
    32 bits: the addition to the accumulator wraps too, so for 8 bits the sum is that of TensorFlow Lite in
    every case.

    Args:
        bias: (K,) int32.
        weights_sum: (K,) the sum of each output channel's weights.
        input_zero_point: int8 value.
        a_bits: width of the activations that are multiplied.

    Returns:
        (K,) int64 tensor of int32 values.

    Raises:
        ArithmeticRangeError: an argument is outside its range.
        UnsupportedError: an argument is outside its range.
    """
    bias = _checked(bias, INT32_MIN, INT32_MAX, "bias")
    weights_sum = _checked(weights_sum, INT32_MIN, INT32_MAX, "weights_sum")
    zero_point = _checked(input_zero_point, -128, 127, "input_zero_point")
    divisor = 2 ** (8 - check_bits(a_bits, "a_bits"))
    return wrap_int32(round_half_away(bias, divisor) - round_half_away(zero_point * weights_sum, divisor))


def reduced_shift(shift: IntegerLike, a_bits: int = 8) -> torch.Tensor:
    """Return the shift for `a_bits` activations: larger by 8 - a_bits, as the accumulator is smaller.

    Raises:
        ArithmeticRangeError: the result is above 30.
        UnsupportedError: a_bits is not 2 to 8.
    """
    shift = _checked(shift, MIN_SHIFT, MAX_SHIFT, "shift")
    return _checked(shift + (8 - check_bits(a_bits, "a_bits")), MIN_SHIFT, MAX_SHIFT, "shift + 8 - a_bits")


def check_accumulator(weights_abs_sum: IntegerLike, a_bits: int = 8, acc_bits: int = 32) -> None:
    """Prove from the weights that no sum of x' * w can leave the accumulator.

    |sum x' * w| <= 2^(a_bits - 1) * sum |w| holds for every input and every partial sum.

    Args:
        weights_abs_sum: (K,) the sum of |w| for each output channel.
        a_bits: width of the activations that are multiplied.
        acc_bits: width of the accumulator.

    Raises:
        ArithmeticRangeError: a sum could.
    """
    bound = as_int64(weights_abs_sum, "weights_abs_sum") * 2 ** (check_bits(a_bits, "a_bits") - 1)
    if bound.numel() and int(bound.max()) > 2 ** (acc_bits - 1) - 1:
        channel = int(bound.flatten().argmax())
        raise ArithmeticRangeError(
            f"the accumulator of output channel {channel} could reach {int(bound.max())}, "
            f"beyond int{acc_bits}; split the layer's input channels or make its weights smaller"
        )


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Return the (multiplier, shift) whose value multiplier * 2^(shift - 31) is closest to `real`.

    multiplier lies in [2^30, 2^31). Zero, and a number too small for shift >= -31, give (0, 0).

    Raises:
        ArithmeticRangeError: real is negative, not finite, or needs a shift above 30.
    Source: TensorFlow Lite quantization_util.cc, QuantizeMultiplier.
    """
    if not math.isfinite(real) or real < 0:
        raise ArithmeticRangeError(f"a rescaling factor must be finite and not negative, not {real}")
    if real == 0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier //= 2
        shift += 1
    if shift < MIN_SHIFT:
        return 0, 0
    if shift > MAX_SHIFT:
        raise ArithmeticRangeError(f"the rescaling factor {real} needs a shift of {shift}, above {MAX_SHIFT}")
    return multiplier, shift


def quantize_add(
    input1_scale: float, input2_scale: float, output_scale: float, left_shift: int = ADD_LEFT_SHIFT
) -> dict[str, int]:
    """Return the multipliers and shifts of an int8 add from its scales, as `golden.operators.add` names them.

    Raises:
        ArithmeticRangeError: a scale is not finite and positive, or the output's is so much smaller than the
            inputs' that its multiplier needs a positive shift.
    Source: TensorFlow Lite kernels/add.cc.
    """
    if not all(math.isfinite(scale) and scale > 0 for scale in (input1_scale, input2_scale, output_scale)):
        raise ArithmeticRangeError("the scales of an add must be finite and positive")
    largest = 2 * max(input1_scale, input2_scale)
    factors = {
        "input1": input1_scale / largest,
        "input2": input2_scale / largest,
        "output": largest / (2**left_shift * output_scale),
    }
    rescaling = {"left_shift": left_shift}
    for part, factor in factors.items():
        multiplier, shift = quantize_multiplier(factor)
        if shift > 0:
            raise ArithmeticRangeError(f"the {part} scale of an add needs a shift of {shift}, above 0")
        rescaling |= {f"{part}_multiplier": multiplier, f"{part}_shift": shift}
    return rescaling


def integer_range(bits: int) -> tuple[int, int]:
    """Return the range of two's complement, -2^(bits - 1) to 2^(bits - 1) - 1: what a weight may be.

    Raises:
        UnsupportedError: bits is not 2 to 8.
    """
    half = 2 ** (check_bits(bits, "w_bits") - 1)
    return -half, half - 1


def weight_range(w_bits: int) -> tuple[int, int]:
    """Return the symmetric range of weights, +-(2^(w_bits - 1) - 1): (-127, 127) for 8, (-1, 1) for 2 bits.

    Our quantisers keep to it; weights of others may use all of `integer_range`.

    Raises:
        UnsupportedError: w_bits is not 2 to 8.
    """
    high = 2 ** (check_bits(w_bits, "w_bits") - 1) - 1
    return -high, high
