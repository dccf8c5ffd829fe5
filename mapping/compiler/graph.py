"""What the compiler's passes work on: values in memory and the operators that the units execute on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from golden.layer import Layer, output_shape
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


@dataclass(frozen=True)
class Op:
    """One operator that a unit has a command for.

    Attributes:
        name: the layer's name in the network, and of the value that it makes.
        layer: constants and geometry; its inputs are (H, W, C) placeholders, which may see a source's pixels
            in other rows than the source's producer (same pixels, same channels).
        sources: names of the values that it reads.
    """

    name: str
    layer: Layer
    sources: tuple[str, ...]

    @property
    def channelwise(self) -> bool:
        """Whether an output channel depends on the same input channel alone."""
        return self.layer.op != "conv2d"

    @property
    def source_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the input as this operator sees it."""
        height, width, channels = self.layer.input.shape
        return height, width, channels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the output."""
        height, width, channels = output_shape(self.layer)
        return height, width, channels


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
        made = (Value(op.name, op.shape) for op in self.ops)
        return {value.name: value for value in (*self.inputs, *made)}
