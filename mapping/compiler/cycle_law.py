# SPDX-License-Identifier: Apache-2.0
"""The cycle law: what the array takes for an operator, without stalls; stripes and weight tiles."""

from __future__ import annotations

from collections.abc import Sequence

from hw import layout
from hw.core import CoreConfig
from hw.interface import WEIGHT_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.graph import Op
from mapping.compiler.regions import ceil_div


def stripe_of(pixels: int, depth: int) -> int:
    """Return the pixels of a stripe: as few stripes as possible, all about equally long."""
    return ceil_div(pixels, ceil_div(pixels, depth))


def stripe_lengths(pixels: int, depth: int) -> list[int]:
    """Return the pixels of each stripe."""
    stripe = stripe_of(pixels, depth)
    return [min(stripe, pixels - first) for first in range(0, pixels, stripe)]


def weight_tile_words(core: CoreConfig) -> int:
    """Return the 32-byte words of a convolution's weight tile."""
    return core.rows * core.columns * core.w_bits // (8 * WEIGHT_WORD_BYTES)


def depthwise_weight_tile_words(core: CoreConfig, taps: int) -> int:
    """Return the 32-byte words of a depthwise layer's weight tile of some kernel columns."""
    return ceil_div(taps * core.rows * core.w_bits, 8 * WEIGHT_WORD_BYTES)


def slides(op: Op, core: CoreConfig) -> bool:
    """Return whether an operator is depthwise and its kernel can and should slide through the columns.

    The stream of input words is continuous from row to row: every pass needs at least one word for its first
    output, its first taps lie in their row, and rows follow each other by at least one word. A kernel wider
    than DW_TAPS needs whole rows, two of each tensor in the scratchpad.
    """
    if op.kind != "depthwise_conv2d":
        return False
    (kernel_h, kernel_w), stride, left = op.kernel, op.stride[1], op.padding[2]
    width, out_width = op.source_shape[1], op.shape[1]
    if op.dilation[1] != 1 or kernel_w == 1 or width < (out_width - 1) * stride + 1:
        return False
    groups = layout.tap_groups(kernel_w, core.dw_taps)
    reach = (kernel_h - 1) * op.dilation[0] + 1
    if len(groups) > 1 and 2 * (reach * width + out_width) > core.act_kib * 1024 // core.rows:
        return False
    possible = all(
        n + min(first - left, 0) >= 1 and (out_width - 1) * stride - left + first < width
        for first, n in groups
    )
    return possible and width * len(groups) < out_width * kernel_w


def cycle_law(
    op: Op,
    core: CoreConfig,
    channels: int,
    in_channels: int,
    sliding: bool = False,
    lengths: Sequence[int] | None = None,
) -> int:
    """Return the cycles of the array for some output channels of an operator, without stalls: the cycle law.

    Convolution: over output blocks and stripes, C_blocks * ky * kx * max(stripe pixels, words of a weight
    tile). Depthwise: over channel blocks, ky * kernel column groups * words that slide in (at stride 1 the
    output's pixels), or ky * kx * pixels where it does not slide. Pools: C / 16 * ky * kx * pixels;
    addition: C / 16 * 2 * pixels.

    Args:
        op: the operator.
        core: the unit.
        channels: output channels.
        in_channels: input channels in memory.
        sliding: whether its kernel slides through the array (`slides`).
        lengths: pixels of each stripe; by default those of the whole output in one command.
    """
    kernel_h, kernel_w = op.kernel
    height, width, _ = op.shape
    if op.kind == "conv2d":
        stripes = lengths or stripe_lengths(op.pixels, core.stripe_depth)
        words = weight_tile_words(core)
        passes = ceil_div(in_channels, core.rows) * kernel_h * kernel_w
        return ceil_div(channels, core.columns) * passes * sum(max(n, words) for n in stripes)
    if op.kind == "depthwise_conv2d":
        blocks = ceil_div(channels, core.rows)
        if not sliding:
            return blocks * kernel_h * kernel_w * op.pixels
        stride = op.stride[1]
        words = width if stride == 1 else min(op.source_shape[1], (width - 1) * stride + 1)
        return blocks * kernel_h * len(layout.tap_groups(kernel_w, core.dw_taps)) * height * words
    taps = 2 if op.kind == "add" else kernel_h * kernel_w
    return ceil_div(channels, CHANNEL_BLOCK) * taps * op.pixels
