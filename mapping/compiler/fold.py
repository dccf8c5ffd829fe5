"""Fold pass: the taps of a first layer with few input channels become input channels.

An image has 3 channels and a spectrogram 1, of the array's 16 rows. The host writes the network's input
anyway, so it writes every tap's value as a channel of its own: of a 3 x 3 kernel on 3 channels 27 channels
and a kernel of 1 x 1, or, if only the columns are folded, 9 channels and a kernel of 3 x 1. The shape with
the fewest cycles wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from golden.layer import Layer, output_shape
from golden.network import placeholder
from mapping.compiler.graph import Graph, Op, Value

Int8 = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Fold:
    """How the host writes an input: which axes of the first layer's kernel it turns into channels.

    Attributes:
        layer: the layer before folding.
        rows, columns: whether kernel rows and columns are folded.
    """

    layer: Layer
    rows: bool
    columns: bool

    def input(self, x: Int8) -> Int8:
        """Return the input (H, W, C) with taps as channels: (H', W', taps * C)."""
        layer = self.layer
        _, kernel_h, kernel_w, _ = layer.weights.shape
        out_h, out_w, _ = output_shape(layer)
        top, bottom, left, right = layer.padding
        if not self.rows:
            top = bottom = 0
        if not self.columns:
            left = right = 0
        padded = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=layer.input_zero_point)
        taps = []
        for ky in range(kernel_h if self.rows else 1):
            first = ky * layer.dilation[0]
            rows = (
                padded[first : first + (out_h - 1) * layer.stride[0] + 1 : layer.stride[0]]
                if self.rows
                else padded
            )
            for kx in range(kernel_w if self.columns else 1):
                start = kx * layer.dilation[1]
                stop = start + (out_w - 1) * layer.stride[1] + 1
                taps.append(rows[:, start : stop : layer.stride[1]] if self.columns else rows)
        return np.ascontiguousarray(np.concatenate(taps, axis=2))

    def folded(self) -> Layer:
        """Return the layer that gives the same output on the folded input."""
        layer = self.layer
        k, kernel_h, kernel_w, c = layer.weights.shape
        (stride_h, stride_w), (dilation_h, dilation_w) = layer.stride, layer.dilation
        (top, bottom, left, right), (height, width, _) = layer.padding, layer.input.shape
        out_h, out_w, _ = output_shape(layer)
        weights = layer.weights
        if self.rows and self.columns:
            weights = weights.reshape(k, 1, 1, kernel_h * kernel_w * c)
        elif self.columns:
            weights = weights.reshape(k, kernel_h, 1, kernel_w * c)
        elif self.rows:
            weights = weights.transpose(0, 2, 1, 3).reshape(k, 1, kernel_w, kernel_h * c)
        if self.rows:
            height, stride_h, dilation_h, top, bottom = out_h, 1, 1, 0, 0
        if self.columns:
            width, stride_w, dilation_w, left, right = out_w, 1, 1, 0, 0
        return replace(
            layer,
            input=placeholder((height, width, weights.shape[3])),
            weights=np.ascontiguousarray(weights),
            stride=(stride_h, stride_w),
            dilation=(dilation_h, dilation_w),
            padding=(top, bottom, left, right),
        )


def fold(graph: Graph, cost: Callable[[Op], int]) -> tuple[Graph, dict[str, Fold]]:
    """Fold the convolutions that are the only readers of an input, where that takes fewer cycles.

    Args:
        graph: the graph.
        cost: cycles of an operator whose input comes from memory.

    Returns: the graph, and for each folded input how it is written.
    """
    folds: dict[str, Fold] = {}
    for value in graph.inputs:
        readers = [op for op in graph.ops if value.name in op.sources]
        if len(readers) != 1 or readers[0].layer.op != "conv2d" or value.name in graph.outputs:
            continue
        op = readers[0]
        if op.source_shape != value.shape:
            continue
        choices = [
            Fold(op.layer, rows, columns) for rows, columns in ((False, True), (True, True), (True, False))
        ]
        candidates = [(cost(replace(op, layer=choice.folded())), choice) for choice in choices]
        best, choice = min(candidates, key=lambda item: item[0])
        if best >= cost(op):
            continue
        folded = replace(op, layer=choice.folded())
        inputs = tuple(
            Value(item.name, folded.source_shape) if item.name == value.name else item
            for item in graph.inputs
        )
        ops = tuple(folded if item.name == op.name else item for item in graph.ops)
        graph = replace(graph, inputs=inputs, ops=ops)
        folds[value.name] = choice
    return graph, folds
