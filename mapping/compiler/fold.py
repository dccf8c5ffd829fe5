# SPDX-License-Identifier: Apache-2.0
"""Fold pass: the taps of a first layer with few input channels become input channels.

An image has 3 channels and a spectrogram 1, of the array's 16 rows. The host writes the network's input
anyway, so it writes every tap's value as a channel of its own: of a 3 x 3 kernel on 3 channels 27 channels
and a kernel of 1 x 1, or, if only the columns are folded, 9 channels and a kernel of 3 x 1. The shape with
the fewest cycles wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.arrays import Int8
from golden.network import placeholder
from hw.core import CoreConfig
from hw.interface import PARAM_GROUP_WORDS, TRANSFER_WORD_BYTES, WEIGHT_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.cycle_law import cycle_law, weight_tile_words
from mapping.compiler.graph import Graph, Op, Value
from mapping.compiler.regions import ceil_div


@dataclass(frozen=True)
class Fold:
    """How the host writes an input: which axes of the first layer's kernel it turns into channels.

    Attributes:
        op: the operator before folding.
        rows, columns: whether kernel rows and columns are folded.
    """

    op: Op
    rows: bool
    columns: bool

    def input(self, x: Int8) -> Int8:
        """Return the input (H, W, C) with taps as channels: (H', W', taps * C)."""
        op = self.op
        (kernel_h, kernel_w), (out_h, out_w, _) = op.kernel, op.shape
        top, bottom, left, right = op.padding
        if not self.rows:
            top = bottom = 0
        if not self.columns:
            left = right = 0
        padded = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=op.layer.input_zero_point)
        taps = []
        for ky in range(kernel_h if self.rows else 1):
            first = ky * op.dilation[0]
            stop = first + (out_h - 1) * op.stride[0] + 1
            rows = padded[first : stop : op.stride[0]] if self.rows else padded
            for kx in range(kernel_w if self.columns else 1):
                start = kx * op.dilation[1]
                stop = start + (out_w - 1) * op.stride[1] + 1
                taps.append(rows[:, start : stop : op.stride[1]] if self.columns else rows)
        return np.ascontiguousarray(np.concatenate(taps, axis=2))

    def geometry(self) -> Op:
        """Return the operator with the geometry that it has on the folded input, and its layer as it was."""
        op = self.op
        (height, width, channels), (out_h, out_w, _) = op.source_shape, op.shape
        (kernel_h, kernel_w), (stride_h, stride_w), (dilation_h, dilation_w) = (
            op.kernel, op.stride, op.dilation,
        )  # fmt: skip
        top, bottom, left, right = op.padding
        if self.rows:
            channels *= kernel_h
            height, kernel_h, stride_h, dilation_h, top, bottom = out_h, 1, 1, 1, 0, 0
        if self.columns:
            channels *= kernel_w
            width, kernel_w, stride_w, dilation_w, left, right = out_w, 1, 1, 1, 0, 0
        return replace(
            op,
            source_shape=(height, width, channels),
            kernel=(kernel_h, kernel_w),
            stride=(stride_h, stride_w),
            dilation=(dilation_h, dilation_w),
            padding=(top, bottom, left, right),
        )

    def folded(self) -> Op:
        """Return the operator that gives the same output on the folded input."""
        op, weights = self.geometry(), self.op.layer.weights
        if self.rows and not self.columns:  # the folded axis comes right before the channels
            weights = weights.transpose(0, 2, 1, 3)
        weights = weights.reshape(len(weights), *op.kernel, op.source_shape[2])
        layer = replace(
            op.layer,
            input=placeholder(op.source_shape),
            weights=np.ascontiguousarray(weights),
            stride=op.stride,
            dilation=op.dilation,
            padding=op.padding,
        )
        return replace(op, layer=layer)


def fold(
    graph: Graph, units: Mapping[str, ChannelAssignment], cores: Sequence[CoreConfig]
) -> tuple[Graph, dict[str, Fold]]:
    """Fold the convolutions that are the only readers of an input, where that takes fewer cycles.

    Afterwards every operator has the outputs that it had, if the host writes the folded inputs with
    `Fold.input`; a folded input has one reader and is no output.

    Returns:
        The graph, and for each folded input how it is written.
    """
    folds: dict[str, Fold] = {}
    for value in graph.inputs:
        readers = [op for op in graph.ops if value.name in op.sources]
        if len(readers) != 1 or readers[0].kind != "conv2d" or value.name in graph.outputs:
            continue
        op = readers[0]
        if op.source_shape != value.shape:
            continue
        choices = [Fold(op, rows, columns) for rows, columns in ((False, True), (True, True), (True, False))]
        candidates = [(_cycles(choice.geometry(), units[op.name], cores), choice) for choice in choices]
        best, choice = min(candidates, key=lambda item: item[0])
        if best >= _cycles(op, units[op.name], cores):
            continue
        folded = choice.folded()
        inputs = tuple(
            Value(item.name, folded.source_shape) if item.name == value.name else item
            for item in graph.inputs
        )
        ops = tuple(folded if item.name == op.name else item for item in graph.ops)
        graph = replace(graph, inputs=inputs, ops=ops)
        folds[value.name] = choice
    return graph, folds


def _cycles(op: Op, units: ChannelAssignment, cores: Sequence[CoreConfig]) -> int:
    """Return the cycles of a convolution whose input comes from memory: array or port, the slower one."""
    height, width, in_channels = op.source_shape
    input_words = height * width * ceil_div(in_channels, CHANNEL_BLOCK)
    slowest = 0
    for unit in np.unique(units):
        channels, core = int((units == unit).sum()), cores[unit]
        port = input_words + _parameter_words(op, core, channels)
        slowest = max(slowest, cycle_law(op, core, channels, in_channels), port)
    return slowest


def _parameter_words(op: Op, core: CoreConfig, channels: int) -> int:
    """Return the 16-byte words of the weights and parameters of some channels of a convolution."""
    passes = ceil_div(op.source_shape[2], core.rows) * op.kernel[0] * op.kernel[1]
    weight_words = ceil_div(channels, core.columns) * passes * weight_tile_words(core)
    params = ceil_div(channels, CHANNEL_BLOCK) * PARAM_GROUP_WORDS
    return params + weight_words * WEIGHT_WORD_BYTES // TRANSFER_WORD_BYTES
