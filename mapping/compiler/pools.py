# SPDX-License-Identifier: Apache-2.0
"""Average pooling: how many values each output averages, and the requantisation that divides by that."""

from __future__ import annotations

from common.errors import UnsupportedError
from mapping.compiler.graph import Op
from mapping.compiler.regions import ceil_div

ROUNDED_TWICE = 1024
"""Largest count for which `reciprocal` rounds twice; beyond it a sum has no room for a left shift."""
MAX_POOL_COUNT = 1 << 21
"""Largest count of an average: up to here `reciprocal` is exact."""


def rounds_once(count: int) -> bool:
    """Return whether the average of `count` values is rounded once."""
    return count > ROUNDED_TWICE


def reciprocal(count: int) -> tuple[int, int, int]:
    """Return (left_shift, multiplier, shift) with which requantisation divides a sum of `count` int8 values.

    The result is the quotient rounded half away from zero, exactly. The multiplier is rounded up, so that
    ties stay ties or lie outside, and must not carry a quotient up to the next tie, 1 / (2 count) away.

    Up to ROUNDED_TWICE the inputs are shifted left first, so that the first of the two roundings is far below
    that distance; a test compares every sum of every count. Beyond it requantisation rounds once. With
    2^k < count <= 2^(k + 1) the multiplier is off by less than 2^-(31 + k), a quotient of at most
    128 count by less than 2^(7 - 31 - k) count, which is below 1 / (2 count) if count < 2^22.

    Raises:
        UnsupportedError: count above MAX_POOL_COUNT.
    """
    if not 1 <= count <= MAX_POOL_COUNT:
        raise UnsupportedError(f"an average over {count} values; 1 to {MAX_POOL_COUNT} are supported")
    if rounds_once(count):
        places = (count - 1).bit_length() - 1
        return 0, ceil_div(1 << (31 + places), count), -places
    bits = (count - 1).bit_length()  # 2^(bits - 1) < count <= 2^bits
    left_shift = 22 - bits  # |sum| << left_shift <= 2^(7 + bits + 22 - bits)
    multiplier = ceil_div(1 << (30 + bits), count)  # 2^30 <= multiplier <= 2^31
    shift = 1 - bits
    if multiplier == 1 << 31:
        multiplier, shift = 1 << 30, shift + 1
    return left_shift, multiplier, shift - left_shift


def spans(size: int, kernel: int, stride: int, before: int, out_size: int) -> list[tuple[int, int, int]]:
    """Return spans of output positions with the same number of valid inputs: (first, length, valid)."""
    result: list[tuple[int, int, int]] = []
    for out in range(out_size):
        start = out * stride - before
        valid = min(start + kernel, size) - max(start, 0)
        if result and result[-1][2] == valid:
            result[-1] = (result[-1][0], result[-1][1] + 1, valid)
        else:
            result.append((out, 1, valid))
    return result


def pool_spans(op: Op, axis: int) -> list[tuple[int, int, int]]:
    """Return the `spans` of a pool along an axis: 0 rows, 1 columns."""
    return spans(
        op.source_shape[axis], op.kernel[axis], op.stride[axis], op.padding[2 * axis], op.shape[axis]
    )


def pool_counts(op: Op) -> list[int]:
    """Return the numbers of values that a pool's outputs average."""
    return sorted({h * w for *_, h in pool_spans(op, 0) for *_, w in pool_spans(op, 1)})
