"""Weights and requantisation parameters of a layer's part on one unit, packed as the unit reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import NpuloopError, UnsupportedError
from golden.arithmetic import check_accumulator, folded_bias, reduced_shift
from golden.layer import WEIGHTED_OPS, kernel_size, output_shape
from golden.network import channel_weights
from hw import layout
from hw.core import CoreConfig
from hw.interface import PARAM_GROUP_WORDS, TRANSFER_WORD_BYTES, WEIGHT_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelOrder, ChannelRange
from mapping.compiler.graph import Op
from mapping.compiler.operators import pool_counts, reciprocal, slides, stripe_lengths
from mapping.compiler.regions import ceil_div

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PackedParameters:
    """What a unit needs for one run of an operator's output channels.

    Attributes:
        run: the channels.
        block: channels that share weight tiles: COLS of a convolution, else ROWS.
        weights: packed; blocks follow each other, and in a convolution's block its input planes.
        weight_words: 32-byte words of one block.
        params: packed requantisation parameters: one set under 0, or one for each averaging count.
    """

    run: ChannelRange
    block: int
    weights: Bytes
    weight_words: int
    params: dict[int, Bytes]

    @property
    def blocks(self) -> int:
        """Blocks of the run."""
        return ceil_div(self.run.count, self.block)

    @property
    def param_words(self) -> int:
        """16-byte words of one set of parameters of one block."""
        return self.block // CHANNEL_BLOCK * PARAM_GROUP_WORDS

    def channels(self, first: int, blocks: int) -> ChannelRange:
        """Return the channels of some blocks."""
        start = self.run.first + first * self.block
        return ChannelRange(start, min(blocks * self.block, self.run.first + self.run.count - start))

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.weights.size + sum(data.size for data in self.params.values())


def pack(
    op: Op,
    run: ChannelRange,
    source: ChannelOrder,
    target: ChannelOrder,
    core: CoreConfig,
    *,
    sizes_only: bool = False,
) -> PackedParameters:
    """Pack the constants of a run of an operator's output channels for a unit.

    With `sizes_only` the bytes are zeros that take no memory: enough for everything but the memory image.

    Raises:
        ArithmeticRangeError: an accumulator could leave 32 bits.
        UnsupportedError: average pooling over too many values.
    """
    layer = op.layer
    block = core.columns if layer.op == "conv2d" else core.rows
    if sizes_only:
        words = _weight_words(op, source.places, core)
        groups = ceil_div(run.count, CHANNEL_BLOCK)
        sets = pool_counts(layer) if layer.op == "average_pool" else [0]
        group_bytes = groups * PARAM_GROUP_WORDS * TRANSFER_WORD_BYTES
        size = words * ceil_div(run.count, block) * WEIGHT_WORD_BYTES
        return PackedParameters(
            run, block, _blank(size), words, {count: _blank(group_bytes) for count in sets}
        )
    places = ChannelOrder(target.channels[run.first : run.first + run.count])
    weights: Bytes = np.zeros(0, np.uint8)
    if layer.op == "conv2d":
        rows = places.spread(layer.weights, 0)
        weights = layout.pack_conv_weights(source.spread(rows, 3), core.rows, core.columns, core.w_bits)
    elif layer.op == "depthwise_conv2d":
        taps = core.dw_taps if slides(layer, core) else 1
        weights = layout.pack_depthwise_weights(places.spread(layer.weights, 3), core.rows, taps, core.w_bits)
    words = weights.size // WEIGHT_WORD_BYTES // ceil_div(run.count, block)
    return PackedParameters(run, block, weights, words, _parameters(op, places, core))


def _blank(size: int) -> Bytes:
    return np.broadcast_to(np.uint8(0), size)


def _weight_words(op: Op, in_places: int, core: CoreConfig) -> int:
    """Return the 32-byte words of the weights of a block of output channels, as hw.layout packs them."""
    kernel_h, kernel_w = kernel_size(op.layer)
    if op.layer.op == "conv2d":
        return ceil_div(in_places, core.rows) * kernel_h * kernel_w * tile_words(core)
    if op.layer.op == "depthwise_conv2d":
        taps = core.dw_taps if slides(op.layer, core) else 1
        groups = layout.tap_groups(kernel_w, taps)
        return kernel_h * sum(depthwise_tile_words(core, columns) for _, columns in groups)
    return 0


def _parameters(op: Op, places: ChannelOrder, core: CoreConfig) -> dict[int, Bytes]:
    layer, channels = op.layer, op.shape[2]
    zeros, ones = np.zeros(channels, np.int32), np.ones(channels, np.int32)

    def packed(*values: npt.NDArray[np.int32]) -> Bytes:
        return layout.pack_requant_params(*(places.spread(item) for item in values))

    if layer.op in WEIGHTED_OPS:
        weights = channel_weights(layer).astype(np.int64)
        real = np.unique(places.channels[places.channels >= 0])
        try:
            check_accumulator(np.abs(weights[real]).sum(axis=1), core.a_bits)
            bias = folded_bias(layer.bias, weights.sum(axis=1), layer.input_zero_point, core.a_bits)
            shift = reduced_shift(layer.shift, core.a_bits)
        except NpuloopError as error:
            raise type(error)(f"layer {op.name!r}: {error}") from None
        return {0: packed(bias.numpy().astype(np.int32), layer.multiplier, shift.numpy().astype(np.int32))}
    if layer.op == "add":
        return {0: packed(zeros, ones * layer.output_multiplier, ones * layer.output_shift)}
    if layer.op == "max_pool":  # times one
        return {0: packed(zeros, ones << 30, ones)}
    sets: dict[int, Bytes] = {}
    for count in pool_counts(layer):
        try:
            _, multiplier, shift_value = reciprocal(count)
        except UnsupportedError as error:
            raise UnsupportedError(f"layer {op.name!r}: {error}") from None
        sets[count] = packed(zeros, ones * multiplier, ones * shift_value)
    return sets


def tile_words(core: CoreConfig) -> int:
    """Return the 32-byte words of a convolution's weight tile."""
    return core.rows * core.columns * core.w_bits // (8 * WEIGHT_WORD_BYTES)


def depthwise_tile_words(core: CoreConfig, taps: int) -> int:
    """Return the 32-byte words of a depthwise layer's weight tile of some kernel columns."""
    return ceil_div(taps * core.rows * core.w_bits, 8 * WEIGHT_WORD_BYTES)


def cycle_law(
    op: Op, channels: int, in_places: int, core: CoreConfig, lengths: Sequence[int] | None = None
) -> int:
    """Return the cycles of the array for some output channels of an operator, without stalls: the cycle law.

    Convolution: over output blocks and stripes, C_blocks * ky * kx * max(stripe pixels, words of a weight
    tile). Depthwise: over channel blocks, ky * kernel column groups * words that slide in (at stride 1 the
    output's pixels), or ky * kx * pixels where it does not slide. Pools: C / 16 * ky * kx * pixels;
    addition: C / 16 * 2 * pixels.

    Args:
        op: the operator.
        channels: output channels.
        in_places: input channels in memory.
        core: the unit.
        lengths: pixels of each stripe; by default those of the whole output in one command.
    """
    layer = op.layer
    kernel_h, kernel_w = kernel_size(layer)
    height, width, _ = output_shape(layer)
    pixels = height * width
    if layer.op == "conv2d":
        stripes = lengths or stripe_lengths(pixels, core.stripe_depth)
        words = tile_words(core)
        passes = ceil_div(in_places, core.rows) * kernel_h * kernel_w
        return ceil_div(channels, core.columns) * passes * sum(max(n, words) for n in stripes)
    if layer.op == "depthwise_conv2d":
        blocks = ceil_div(channels, core.rows)
        if not slides(layer, core):
            return blocks * kernel_h * kernel_w * pixels
        words = (
            width if layer.stride[1] == 1 else min(layer.input.shape[1], (width - 1) * layer.stride[1] + 1)
        )
        return blocks * kernel_h * len(layout.tap_groups(kernel_w, core.dw_taps)) * height * words
    taps = 2 if layer.op == "add" else kernel_h * kernel_w
    return ceil_div(channels, CHANNEL_BLOCK) * taps * pixels


def constant_words(op: Op, channels: int, in_places: int, core: CoreConfig) -> int:
    """Return the 16-byte words of the weights and parameters of some output channels."""
    kernel_h, kernel_w = kernel_size(op.layer)
    params = ceil_div(channels, CHANNEL_BLOCK) * PARAM_GROUP_WORDS
    if op.layer.op == "conv2d":
        tiles = ceil_div(channels, core.columns) * ceil_div(in_places, core.rows) * kernel_h * kernel_w
        return params + tiles * tile_words(core) * WEIGHT_WORD_BYTES // TRANSFER_WORD_BYTES
    return params
