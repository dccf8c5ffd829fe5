# SPDX-License-Identifier: Apache-2.0
"""The operators that the NPUs execute, on int8 numpy arrays, exact to the last bit.

Tensors are channels-last, (H, W, C); a leading batch axis, (N, H, W, C), is carried through. Fully
connected takes (C,) or (N, C). Every weighted operator takes `a_bits`, the width of the activations its
multipliers see: at 8 bits the result is TensorFlow Lite's int8 reference kernel; below that,
docs/reference/arithmetic.md defines it. add and the pools do not multiply activations by weights and always
use the full int8 activations.

Sources: TensorFlow Lite reference/integer_ops/{conv,depthwise_conv,fully_connected,pooling,add}.h.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch

from common.arrays import Array, Int8
from common.errors import ArithmeticRangeError, ShapeError
from golden.arithmetic import (
    INT32_MAX,
    INT32_MIN,
    MIN_SHIFT,
    IntegerLike,
    as_int64,
    check_accumulator,
    folded_bias,
    multiply_by_quantized_multiplier,
    reduce_activation,
    reduced_shift,
    requantize,
    round_half_away,
)


def output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1) -> int:
    """Return the output pixels along an axis with padding on both sides; below 1 where none fits."""
    return (size + before + after - (kernel - 1) * dilation - 1) // stride + 1


def _activations(values: Array, name: str, rank: int) -> tuple[torch.Tensor, bool]:
    """Return the int64 tensor with a batch axis, and whether the caller gave that axis."""
    if values.dtype != np.int8:
        raise ShapeError(f"{name} has element type {values.dtype}; activations are int8")
    if values.ndim not in (rank, rank + 1):
        raise ShapeError(f"{name} has {values.ndim} axes; expected {rank}, or {rank + 1} with a batch")
    batched = values.ndim == rank + 1
    tensor = as_int64(values, name)
    return (tensor if batched else tensor[None]), batched


def _weights(values: Array, rank: int) -> torch.Tensor:
    if values.dtype != np.int8 or values.ndim != rank:
        raise ShapeError(f"weights are {values.dtype} with {values.ndim} axes, not int8 with {rank}")
    return as_int64(values, "weights")


def _int8(values: torch.Tensor, batched: bool) -> Int8:
    array: Int8 = values.to(torch.int8).numpy()
    return array if batched else array[0]


def _pad(x: torch.Tensor, padding: Sequence[int], value: int) -> torch.Tensor:
    """Pad (N, H, W, C) to (N, H + top + bottom, W + left + right, C) with `value`."""
    top, bottom, left, right = padding
    if min(top, bottom, left, right) < 0:
        raise ShapeError(f"padding {tuple(padding)} is negative")
    n, height, width, channels = x.shape
    padded = x.new_full((n, height + top + bottom, width + left + right, channels), value)
    padded[:, top : top + height, left : left + width] = x
    return padded


def _windows(
    x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> torch.Tensor:
    """Return the input pixels under each output pixel: a view (N, OH, OW, KH, KW, C) of (N, H, W, C)."""
    if min(*kernel, *stride, *dilation) < 1:
        raise ShapeError(
            f"kernel {tuple(kernel)}, stride {tuple(stride)} and dilation {tuple(dilation)} must be positive"
        )
    n, height, width, channels = x.shape
    out_height = output_size(height, kernel[0], stride[0], 0, 0, dilation[0])
    out_width = output_size(width, kernel[1], stride[1], 0, 0, dilation[1])
    if out_height < 1 or out_width < 1:
        raise ShapeError(
            f"a kernel of {tuple(kernel)} with dilation {tuple(dilation)} does not fit "
            f"the padded input of {height} x {width}"
        )
    x = x.contiguous()
    batch_step, row_step, column_step, channel_step = x.stride()
    return x.as_strided(
        (n, out_height, out_width, kernel[0], kernel[1], channels),
        (
            batch_step,
            row_step * stride[0],
            column_step * stride[1],
            row_step * dilation[0],
            column_step * dilation[1],
            channel_step,
        ),
    )


def _finish(
    acc: torch.Tensor,
    weights_per_channel: torch.Tensor,
    bias: IntegerLike,
    multiplier: IntegerLike,
    shift: IntegerLike,
    input_zero_point: int,
    output_zero_point: int,
    act_min: int,
    act_max: int,
    a_bits: int,
    single_rounding: bool,
) -> torch.Tensor:
    """Fold the zero point and requantise (..., K); weights_per_channel is (K, weights of one channel)."""
    constants = {"bias": bias, "multiplier": multiplier, "shift": shift}
    for name, values in constants.items():
        if as_int64(values, name).shape != (weights_per_channel.shape[0],):
            raise ShapeError(
                f"{name} must hold {weights_per_channel.shape[0]} values, one per output channel"
            )
    bias = folded_bias(bias, weights_per_channel.sum(dim=1), input_zero_point, a_bits)
    return requantize(
        acc, bias, multiplier, reduced_shift(shift, a_bits), output_zero_point, act_min, act_max,
        single_rounding=single_rounding,
    )  # fmt: skip


def _float_type(weights_abs_sum: torch.Tensor, a_bits: int) -> torch.dtype:
    """Return the fastest float type in which sums of x' * w are exact.

    Raises:
        ArithmeticRangeError: a sum could leave int32.

    Every partial sum, in any order, is an integer whose magnitude check_accumulator bounds by 2^(a_bits - 1)
    times the sum of |w|. float32 holds all integers up to 2^24, float64 those up to 2^53, far beyond int32.
    torch may be told to multiply float32 matrices less precisely; then float32 is not used.
    """
    check_accumulator(weights_abs_sum, a_bits)
    bound = max(weights_abs_sum.tolist(), default=0) * 2 ** (a_bits - 1)
    precise = torch.get_float32_matmul_precision() == "highest"
    return torch.float32 if precise and bound <= 2**24 else torch.float64


def _reduced(x: torch.Tensor, a_bits: int) -> torch.Tensor:
    """Return the activations as a unit with a_bits sees them; at 8 bits as they are."""
    return x if a_bits == 8 else reduce_activation(x, a_bits)


def conv2d(
    input: Array,
    weights: Array,
    bias: IntegerLike,
    multiplier: IntegerLike,
    shift: IntegerLike,
    input_zero_point: int,
    output_zero_point: int,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    act_min: int,
    act_max: int,
    a_bits: int = 8,
    single_rounding: bool = False,
) -> Int8:
    """Convolve in two dimensions.

    Args:
        input: (H, W, C) or (N, H, W, C) int8.
        weights: (K, KH, KW, C) int8, zero point 0.
        bias, multiplier, shift: (K,) int32.
        input_zero_point, output_zero_point: int8 values.
        stride, dilation: (vertical, horizontal), pixels.
        padding: (top, bottom, left, right), pixels; the padding holds the input's zero point.
        act_min, act_max: int8 clamp bounds.
        a_bits: width of the activations that are multiplied.
        single_rounding: see `golden.arithmetic.multiply_by_quantized_multiplier`.

    Returns:
        (OH, OW, K) or (N, OH, OW, K) int8.

    Raises:
        ShapeError: arrays that do not fit.
        ArithmeticRangeError: values out of range or an accumulator that could leave int32.
        UnsupportedError: a_bits outside 2..8.
    """
    x, batched = _activations(input, "input", 3)
    w = _weights(weights, 4)
    if x.shape[3] != w.shape[3]:
        raise ShapeError(f"the input has {x.shape[3]} channels but the weights expect {w.shape[3]}")
    flat = w.flatten(start_dim=1)
    float_type = _float_type(flat.abs().sum(dim=1), a_bits)
    reduced = _reduced(x, a_bits).to(float_type)
    padded = _pad(reduced, padding, int(reduce_activation(input_zero_point, a_bits)))
    patches = _windows(padded, w.shape[1:3], stride, dilation).flatten(start_dim=3)
    acc = (patches @ flat.to(float_type).T).to(torch.int64)
    out = _finish(
        acc, flat, bias, multiplier, shift, input_zero_point, output_zero_point, act_min, act_max, a_bits,
        single_rounding,
    )  # fmt: skip
    return _int8(out, batched)


def depthwise_conv2d(
    input: Array,
    weights: Array,
    bias: IntegerLike,
    multiplier: IntegerLike,
    shift: IntegerLike,
    input_zero_point: int,
    output_zero_point: int,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    act_min: int,
    act_max: int,
    a_bits: int = 8,
    single_rounding: bool = False,
) -> Int8:
    """Convolve depthwise: output channel k = c * m + i sees input channel c alone, m = K / C.

    Args:
        weights: (1, KH, KW, K) int8; K is a multiple of the input's C.
        The others as for `conv2d`.

    Returns:
        (OH, OW, K) or (N, OH, OW, K) int8.

    Raises:
        ShapeError: arrays that do not fit.
        ArithmeticRangeError: values out of range or an accumulator that could leave int32.
        UnsupportedError: a_bits outside 2..8.
    """
    x, batched = _activations(input, "input", 3)
    w = _weights(weights, 4)
    channels, out_channels = x.shape[3], w.shape[3]
    if w.shape[0] != 1 or channels == 0 or out_channels == 0 or out_channels % channels:
        raise ShapeError(
            f"depthwise weights {tuple(w.shape)} do not fit {channels} input channels: not (1, KH, KW, m * C)"
        )
    taps = w[0].flatten(end_dim=1)
    float_type = _float_type(taps.abs().sum(dim=0), a_bits)
    reduced = _reduced(x, a_bits).to(float_type)
    padded = _pad(reduced, padding, int(reduce_activation(input_zero_point, a_bits)))
    if out_channels > channels:
        padded = padded.repeat_interleave(out_channels // channels, dim=3)
    windows = _windows(padded, w.shape[1:3], stride, dilation)
    factors = w[0].to(float_type)
    total = torch.zeros_like(windows[:, :, :, 0, 0])
    for row, column in product(range(w.shape[1]), range(w.shape[2])):
        total = torch.addcmul(total, windows[:, :, :, row, column], factors[row, column])
    acc = total.to(torch.int64)
    out = _finish(
        acc, taps.T, bias, multiplier, shift, input_zero_point, output_zero_point, act_min, act_max, a_bits,
        single_rounding,
    )  # fmt: skip
    return _int8(out, batched)


def fully_connected(
    input: Array,
    weights: Array,
    bias: IntegerLike,
    multiplier: IntegerLike,
    shift: IntegerLike,
    input_zero_point: int,
    output_zero_point: int,
    act_min: int,
    act_max: int,
    a_bits: int = 8,
    single_rounding: bool = False,
) -> Int8:
    """Multiply a matrix and a vector.

    Args:
        input: (C,) or (N, C) int8.
        weights: (K, C) int8, zero point 0.
        The others as for `conv2d`.

    Returns:
        (K,) or (N, K) int8.

    Raises:
        ShapeError: arrays that do not fit.
        ArithmeticRangeError: values out of range or an accumulator that could leave int32.
        UnsupportedError: a_bits outside 2..8.
    """
    x, batched = _activations(input, "input", 1)
    w = _weights(weights, 2)
    if x.shape[1] != w.shape[1]:
        raise ShapeError(f"the input has {x.shape[1]} channels but the weights expect {w.shape[1]}")
    float_type = _float_type(w.abs().sum(dim=1), a_bits)
    acc = (_reduced(x, a_bits).to(float_type) @ w.to(float_type).T).to(torch.int64)
    out = _finish(
        acc, w, bias, multiplier, shift, input_zero_point, output_zero_point, act_min, act_max, a_bits,
        single_rounding,
    )  # fmt: skip
    return _int8(out, batched)


def add(
    input: Array,
    input2: Array,
    input1_zero_point: int,
    input2_zero_point: int,
    output_zero_point: int,
    input1_multiplier: int,
    input1_shift: int,
    input2_multiplier: int,
    input2_shift: int,
    output_multiplier: int,
    output_shift: int,
    left_shift: int,
    act_min: int,
    act_max: int,
) -> Int8:
    """Add two tensors with three scales, element by element: TensorFlow Lite's int8 ADD without broadcasting.

    Each input becomes (x - zero point) * 2^left_shift, rescaled by its multiplier and shift; the sum is
    rescaled by the output's. left_shift is 20 in TensorFlow Lite. The activations are always the full int8
    ones.

    Args:
        input, input2: the same shape, int8.

    Returns:
        That shape, int8.

    Raises:
        ShapeError: different shapes.
        ArithmeticRangeError: values out of range or a sum beyond int32.
    """
    if input.dtype != np.int8 or input2.dtype != np.int8 or input.shape != input2.shape:
        raise ShapeError(
            f"add takes two int8 tensors of one shape, not {input.dtype} {input.shape} "
            f"and {input2.dtype} {input2.shape}"
        )
    for name, zero_point in (("input1", input1_zero_point), ("input2", input2_zero_point)):
        if not -128 <= zero_point <= 127:
            raise ArithmeticRangeError(f"{name}_zero_point = {zero_point} is no int8 value")
    shifts = {"input1": input1_shift, "input2": input2_shift, "output": output_shift}
    for name, shift in shifts.items():
        if not MIN_SHIFT <= shift <= 0:
            raise ArithmeticRangeError(f"{name}_shift = {shift} of add must lie in [{MIN_SHIFT}, 0]")
    if not 0 <= left_shift <= 23:
        raise ArithmeticRangeError(
            f"left_shift = {left_shift} must lie in 0..23 (255 * 2^left_shift is an int32)"
        )
    first = multiply_by_quantized_multiplier(
        (as_int64(input) - input1_zero_point) << left_shift, input1_multiplier, input1_shift
    )
    second = multiply_by_quantized_multiplier(
        (as_int64(input2) - input2_zero_point) << left_shift, input2_multiplier, input2_shift
    )
    total = first + second
    if total.numel() and not (int(total.min()) >= INT32_MIN and int(total.max()) <= INT32_MAX):
        raise ArithmeticRangeError("the rescaled inputs of add leave int32; use a smaller left_shift")
    out = requantize(total, 0, output_multiplier, output_shift, output_zero_point, act_min, act_max)
    return out.to(torch.int8).numpy()


def _check_pool_padding(kernel: Sequence[int], padding: Sequence[int]) -> None:
    if max(padding[:2]) >= kernel[0] or max(padding[2:]) >= kernel[1]:
        raise ShapeError(f"pool padding {tuple(padding)} must be smaller than the kernel {tuple(kernel)}")


def average_pool(
    input: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    act_min: int,
    act_max: int,
) -> Int8:
    """Return the mean of the valid pixels under each window, rounded half away from zero, then clamped.

    Padding is not counted: the sum is divided by the number of pixels inside the input. Input and output
    share scale and zero point. The activations are always the full int8 ones.

    Args:
        input: (H, W, C) or (N, H, W, C) int8.
        kernel, stride: (vertical, horizontal), pixels.
        padding: (top, bottom, left, right), each smaller than the kernel.
        act_min, act_max: int8 clamp bounds.

    Returns:
        (OH, OW, C) or (N, OH, OW, C) int8.

    Raises:
        ShapeError: arrays or a geometry that do not fit.
    """
    x, batched = _activations(input, "input", 3)
    _check_pool_padding(kernel, padding)
    total = _windows(_pad(x, padding, 0), kernel, stride, (1, 1)).sum(dim=(3, 4))
    valid = _pad(torch.ones_like(x[:1, :, :, :1]), padding, 0)
    count = _windows(valid, kernel, stride, (1, 1)).sum(dim=(3, 4))
    return _int8(round_half_away(total, count).clamp(act_min, act_max), batched)


def max_pool(
    input: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    act_min: int,
    act_max: int,
) -> Int8:
    """Return the largest valid pixel under each window, then clamped; padding never wins.

    Arguments, result and errors as for `average_pool`. The activations are always the full int8 ones.
    """
    x, batched = _activations(input, "input", 3)
    _check_pool_padding(kernel, padding)
    # -128 is the smallest int8, so padding with it ignores the padding: every window has a valid pixel.
    out = _windows(_pad(x, padding, -128), kernel, stride, (1, 1)).amax(dim=(3, 4))
    return _int8(out.clamp(act_min, act_max), batched)
