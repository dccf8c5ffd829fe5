# SPDX-License-Identifier: Apache-2.0
"""What the compiler's passes work on: values in memory and the operators that the units execute on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from golden.layer import Layer, kernel_size, macs, output_shape
from golden.network import Node


@dataclass(frozen=True)
class Value:
    """An int8 activation tensor (H, W, C); a vector is one pixel."""

    name: str
    shape: tuple[int, int, int]

    @property
    def pixels(self) -> int:
        """Pixels of one channel."""
        return self.shape[0] * self.shape[1]


class Rect(NamedTuple):
    """Rows `row` to `row + rows - 1` and columns `column` to `column + columns - 1` of a tensor."""

    row: int
    rows: int
    column: int
    columns: int

    @property
    def pixels(self) -> int:
        """Pixels of the rectangle."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Op:
    """One operator that a unit has a command for, with its geometry.

    Attributes:
        name: the layer's name in the network, and of the value that it makes.
        kind: "conv2d", "depthwise_conv2d", "add", "average_pool" or "max_pool". An "average_pool" whose layer
            is depthwise is a mean with its own requantisation.
        layer: the constants: weights, requantisation, zero points. Its inputs are placeholders.
        sources: names of the values that it reads.
        source_shape: (H, W, C) of the input as this operator sees it. The pixels may lie in other rows than
            those of the source's producer; they are the same pixels with the same channels.
        shape: (H, W, C) of the output.
        kernel, stride, dilation: (vertical, horizontal), pixels; (1, 1) where there is none.
        padding: (top, bottom, left, right), pixels.
        macs: multiply-accumulates of the mathematics, padding included.
    """

    name: str
    kind: str
    layer: Layer
    sources: tuple[str, ...]
    source_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    macs: int

    @property
    def channelwise(self) -> bool:
        """Whether an output channel depends on the same input channel alone."""
        return self.kind != "conv2d"

    @property
    def pixels(self) -> int:
        """Output pixels of one channel."""
        return self.shape[0] * self.shape[1]

    def source_rect(self, rect: Rect) -> Rect:
        """Return the input pixels that a rectangle of outputs reads."""
        if self.kind == "add":
            return rect
        row, rows = self._extent(0, rect.row, rect.rows)
        column, columns = self._extent(1, rect.column, rect.columns)
        return Rect(row, rows, column, columns)

    def _extent(self, axis: int, first: int, count: int) -> tuple[int, int]:
        """Return the first input row (axis 0) or column that some outputs read, and how many they read."""
        size, reach = self.source_shape[axis], (self.kernel[axis] - 1) * self.dilation[axis]
        start = first * self.stride[axis] - self.padding[2 * axis]
        end = start + (count - 1) * self.stride[axis] + reach + 1
        low = min(max(start, 0), size - 1)
        return low, max(min(end, size), low + 1) - low


def operator(name: str, layer: Layer, sources: tuple[str, ...]) -> Op:
    """Return the operator of a layer on (H, W, C): from here on it carries its geometry."""
    height, width, channels = layer.input.shape
    out_height, out_width, out_channels = output_shape(layer)
    return Op(
        name=name,
        kind=layer.op,
        layer=layer,
        sources=sources,
        source_shape=(height, width, channels),
        shape=(out_height, out_width, out_channels),
        kernel=kernel_size(layer),
        stride=layer.stride,
        dilation=layer.dilation,
        padding=layer.padding,
        macs=macs(layer),
    )


def described(op: Op) -> str:
    """Return an operator as messages name it: name, what it is, sizes."""
    mean = op.kind == "average_pool" and op.layer.op != op.kind
    shape = " x ".join(map(str, op.source_shape))
    kernel = f", kernel {op.kernel[0]} x {op.kernel[1]}" if op.kernel != (1, 1) else ""
    return f"layer {op.name!r} ({'mean' if mean else op.layer.op} of {shape}{kernel})"


@dataclass(frozen=True)
class Graph:
    """The part of a network that runs on the units, in an order in which it can run.

    Attributes:
        name: for messages.
        inputs: values that the host writes.
        ops: the operators.
        outputs: names of the values that the host reads.
        host_before, host_after: the network's operators that the host runs on its input and its output.
    """

    name: str
    inputs: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]
    host_before: tuple[Node, ...] = ()
    host_after: tuple[Node, ...] = ()

    @property
    def values(self) -> Mapping[str, Value]:
        """All values by name."""
        computed = (Value(op.name, op.shape) for op in self.ops)
        return {value.name: value for value in (*self.inputs, *computed)}
