# SPDX-License-Identifier: Apache-2.0
"""What a quantised network is made of: tensors, and the operators that make them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from common.arrays import Floats, Int8
from common.errors import ArithmeticRangeError, ShapeError, UnsupportedError
from golden.layer import Layer, macs

DTYPES = ("int8", "uint8", "float32", "int32", "int64")
"""Element types of tensors. The units know int8 only; the others are for the host, at a network's ends."""
QUANTISED = {"int8": (-128, 127), "uint8": (0, 255)}
"""Element types with a scale and a zero point, and their ranges."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """What flows between operators: real = scale * (q - zero_point) for int8 and uint8, else the value.

    Attributes:
        shape: without the batch axis; (H, W, C) or (C,), channels last.
        dtype: one of `DTYPES`.
        scale, zero_point: of an int8 or uint8 tensor.

    Raises:
        ShapeError: an axis is below 1.
        UnsupportedError: the element type is another.
        ArithmeticRangeError: the scale is not finite and positive, or the zero point is no value of the type.
    """

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: float = 1.0
    zero_point: int = 0

    def __post_init__(self) -> None:
        """Check the tensor; see the class."""
        if not self.shape or min(self.shape) < 1:
            raise ShapeError(f"a tensor of shape {self.shape}; every axis must be 1 or more")
        if self.dtype not in DTYPES:
            raise UnsupportedError(f"element type {self.dtype!r}; supported are {', '.join(DTYPES)}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ArithmeticRangeError(f"scale = {self.scale} must be finite and positive")
        low, high = QUANTISED.get(self.dtype, QUANTISED["int8"])
        if not low <= self.zero_point <= high:
            kind = self.dtype if self.dtype in QUANTISED else "int8"
            raise ArithmeticRangeError(f"zero_point = {self.zero_point} is no {kind} value")


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operator of a network; it makes the tensor of its name.

    Attributes:
        name: unique in the network.
        op: one of `golden.network.ALL_OPS`.
        inputs: names of the tensors it reads: a network's input or earlier nodes; two for add, else one.
        output: what it makes.
        layer: constants and geometry of an operator of `golden.layer.OPS`, else None. Its input tensors are
            zeros of the right shape; data come from the executor.
        weight_scales: (K,) float64, real weight = scale * integer weight, for weighted operators.
        weight_bits: (K,) int8, the width that each output channel's weights were quantised to.
        beta: factor of a softmax's exponent.
        axis: that a softmax, log_softmax or arg_max works on, without the batch axis; negative: from the end.
        permutation: of a transpose, the axis of its input that each axis of its output is; without the batch.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    output: Tensor
    layer: Layer | None = None
    weight_scales: Floats | None = None
    weight_bits: Int8 | None = None
    beta: float = 1.0
    axis: int = -1
    permutation: tuple[int, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input; 0 for operators without weights."""
        return macs(self.layer) if self.layer is not None else 0

    @property
    def channels(self) -> int:
        """Output channels: the last axis."""
        return self.output.shape[-1]


def placeholder(shape: Iterable[int]) -> Int8:
    """Return an int8 tensor of that shape that takes no memory: the input of a node's layer."""
    return np.broadcast_to(np.int8(0), tuple(shape))
