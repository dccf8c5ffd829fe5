# SPDX-License-Identifier: Apache-2.0
"""Packing pass: weights and requantisation parameters of every part, as its unit reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.arrays import Bytes
from hw import layout
from hw.interface import PARAM_GROUP_WORDS, TRANSFER_WORD_BYTES, WEIGHT_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelOrder, ChannelRange
from mapping.compiler.cycle_law import depthwise_weight_tile_words, weight_tile_words
from mapping.compiler.divide import Part
from mapping.compiler.pools import pool_counts
from mapping.compiler.regions import ceil_div
from mapping.compiler.requantise import Requantisation, Requantisations


@dataclass(frozen=True, eq=False)
class PackedParameters:
    """Weights and requantisation parameters of one range of an operator's output channels.

    Attributes:
        channels: the range.
        block_channels: channels that share weight tiles: COLS of a convolution, else ROWS.
        weights: packed; blocks follow each other, and in a convolution's block its input planes.
        weight_words: 32-byte words of one block.
        params: packed requantisation parameters: one set under 0, or one for each averaging count.
    """

    channels: ChannelRange
    block_channels: int
    weights: Bytes
    weight_words: int
    params: Mapping[int, Bytes]

    @property
    def blocks(self) -> int:
        """Blocks of the range."""
        return ceil_div(self.channels.count, self.block_channels)

    @property
    def param_words(self) -> int:
        """16-byte words of one set of parameters of one block."""
        return self.block_channels // CHANNEL_BLOCK * PARAM_GROUP_WORDS

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.weights.size + sum(data.size for data in self.params.values())

    def block_range(self, first: int, blocks: int) -> ChannelRange:
        """Return the channels of some blocks."""
        start = self.channels.first + first * self.block_channels
        return ChannelRange(start, min(blocks * self.block_channels, self.channels.end - start))


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedPart(Part):
    """A part with its parameters.

    Attributes:
        parameters: weights and requantisation parameters of each of its ranges.
    """

    parameters: tuple[PackedParameters, ...]

    @property
    def sliced(self) -> bool:
        """Whether the weights of one block of a convolution are too many for half of their scratchpad."""
        half = self.core.weight_kib * 1024 // WEIGHT_WORD_BYTES // 2
        return self.op.kind == "conv2d" and any(item.weight_words > half for item in self.parameters)


def pack(
    parts: Sequence[Part], orders: Mapping[str, ChannelOrder], requantisations: Requantisations | None
) -> tuple[PackedPart, ...]:
    """Return the parts with packed weights and parameters.

    Without requantisations the bytes are zeros that take no memory: enough for everything but the memory
    image. Afterwards every range of a part has the weights of its channels in the order of the array's passes
    and their requantisation parameters; filling channels have zeros.
    """
    return tuple(
        PackedPart(**vars(part), parameters=_of_part(part, orders, requantisations)) for part in parts
    )


def laid_for_part(part: PackedPart, rows: int) -> PackedPart:
    """Return a convolution whose weights skip the first `rows` rows of the array: these see other tensors."""
    op, core = part.op, part.core

    def laid(item: PackedParameters) -> PackedParameters:
        if not item.weights.strides[0]:  # sizes only
            return item
        shape = (item.channels.count, *op.kernel, part.in_channels)
        weights = layout.unpack_conv_weights(item.weights, shape, core.rows, core.columns, core.w_bits)
        lower = np.pad(weights, ((0, 0), (0, 0), (0, 0), (rows, 0)))
        packed = layout.pack_conv_weights(lower, core.rows, core.columns, core.w_bits)
        return replace(item, weights=packed)

    return replace(part, parameters=tuple(laid(item) for item in part.parameters))


def _of_part(
    part: Part, orders: Mapping[str, ChannelOrder], requantisations: Requantisations | None
) -> tuple[PackedParameters, ...]:
    if requantisations is None:
        return tuple(_sizes(part, channels) for channels in part.ranges)
    sets = requantisations[part.op.name, part.unit]
    source, target = orders[part.op.sources[0]], orders[part.op.name]
    return tuple(_packed(part, channels, source, target, sets) for channels in part.ranges)


def _packed(
    part: Part,
    channels: ChannelRange,
    source: ChannelOrder,
    target: ChannelOrder,
    sets: Mapping[int, Requantisation],
) -> PackedParameters:
    """Return the parameters of a range; `source` and `target` are the orders of input and output channels."""
    op, core = part.op, part.core
    order = ChannelOrder(target.channels[channels.first : channels.end])
    scattered = {count: item.scattered(order) for count, item in sets.items()}
    weights: Bytes = np.zeros(0, np.uint8)
    if op.kind == "conv2d":
        values = source.scatter(order.scatter(op.layer.weights, 0), 3)
        weights = layout.pack_conv_weights(values, core.rows, core.columns, core.w_bits)
    elif op.kind == "depthwise_conv2d":
        values = order.scatter(op.layer.weights, 3)
        weights = layout.pack_depthwise_weights(values, core.rows, _taps(part), core.w_bits)
    params = {
        count: layout.pack_requant_params(item.bias, item.multiplier, item.shift)
        for count, item in scattered.items()
    }
    block_channels = _block_channels(part)
    weight_words = weights.size // WEIGHT_WORD_BYTES // ceil_div(channels.count, block_channels)
    return PackedParameters(channels, block_channels, weights, weight_words, params)


def _sizes(part: Part, channels: ChannelRange) -> PackedParameters:
    """Return parameters of the sizes that `_packed` gives them."""
    counts = pool_counts(part.op) if part.op.kind == "average_pool" else [0]
    param_bytes = ceil_div(channels.count, CHANNEL_BLOCK) * PARAM_GROUP_WORDS * TRANSFER_WORD_BYTES
    params = {count: _blank(param_bytes) for count in counts}
    block_channels, weight_words = _block_channels(part), _weight_words(part)
    weight_bytes = weight_words * ceil_div(channels.count, block_channels) * WEIGHT_WORD_BYTES
    return PackedParameters(channels, block_channels, _blank(weight_bytes), weight_words, params)


def _blank(size: int) -> Bytes:
    return np.broadcast_to(np.uint8(0), size)


def _block_channels(part: Part) -> int:
    return part.core.columns if part.op.kind == "conv2d" else part.core.rows


def _taps(part: Part) -> int:
    """Return the kernel columns of a depthwise layer that the array holds at a time."""
    return part.core.dw_taps if part.slides else 1


def _weight_words(part: Part) -> int:
    """Return the 32-byte words of the weights of a block of output channels, as hw.layout packs them."""
    op, core, (kernel_h, kernel_w) = part.op, part.core, part.op.kernel
    if op.kind == "conv2d":
        return ceil_div(part.in_channels, core.rows) * kernel_h * kernel_w * weight_tile_words(core)
    if op.kind == "depthwise_conv2d":
        groups = layout.tap_groups(kernel_w, _taps(part))
        return kernel_h * sum(depthwise_weight_tile_words(core, columns) for _, columns in groups)
    return 0
