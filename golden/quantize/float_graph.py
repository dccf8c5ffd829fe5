"""A network of the operators of `golden.layer`, still in floating point.

Shapes are channels last and without the batch axis, as in `golden.network`; weights keep PyTorch's order of
axes, except that a linear layer behind a flattened image has its columns moved from (C, H, W) to (H, W, C).
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatNode:
    """One operator in floating point.

    Attributes:
        name: the module's path, or torch.fx's name of a function call.
        op: an operator of `golden.layer.OPS`, or reshape.
        inputs: names of the tensors it reads.
        shape: of its output, (H, W, C) or (C,).
        weight: of conv2d (K, C, KH, KW), of depthwise_conv2d (K, 1, KH, KW), of fully_connected (K, C).
        bias: (K,).
        stride, dilation, kernel: (vertical, horizontal); the kernel is that of a pool.
        padding: (top, bottom, left, right) zeros.
        low, high: the clamp of its output: (0, inf) is a ReLU.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    weight: Tensor | None = None
    bias: Tensor | None = None
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    kernel: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatGraph:
    """A float network. The last node makes the output.

    Attributes:
        input_name: the name of the module's argument.
        input_shape: (H, W, C) or (C,).
        nodes: in an order in which they can run.
    """

    input_name: str
    input_shape: tuple[int, ...]
    nodes: tuple[FloatNode, ...]
