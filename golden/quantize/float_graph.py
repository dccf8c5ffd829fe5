# SPDX-License-Identifier: Apache-2.0
"""A network of the operators of `golden.layer`, still in floating point.

Shapes are channels last and without the batch axis, as in `golden.network`; weights keep PyTorch's order of
axes, except that a linear layer behind a flattened image has its columns moved from (C, H, W) to (H, W, C).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatNode:
    """One operator in floating point.

    Attributes:
        name: the module's path, or the function's name.
        op: an operator of `golden.layer.OPS`, reshape, or softmax.
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


def compute(
    node: FloatNode, inputs: Sequence[Tensor], weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Return what an operator computes, in floating point.

    Args:
        node: the operator.
        inputs: what it reads, (N, C, H, W) or (N, C).
        weight, bias: its parameters, in the shapes of the node's.

    Returns:
        (N, C, H, W) or (N, C).
    """
    x = inputs[0]
    top, bottom, left, right = node.padding
    if node.op == "reshape":
        moved = x.movedim(1, -1).reshape(len(x), *node.shape)
        return moved.movedim(-1, 1) if moved.ndim > 2 else moved
    if node.op == "softmax":
        return x.softmax(dim=1)
    if node.op == "add":
        return (x + inputs[1]).clamp(node.low, node.high)
    if node.op in ("max_pool", "average_pool"):
        assert (top, left) == (bottom, right), "PyTorch's pools pad both sides alike"
        if node.op == "max_pool":
            result = functional.max_pool2d(x, node.kernel, node.stride, (top, left))
        else:
            result = functional.avg_pool2d(x, node.kernel, node.stride, (top, left), count_include_pad=False)
        return result.clamp(node.low, node.high)
    assert weight is not None
    if node.op == "fully_connected":
        return functional.linear(x, weight, bias).clamp(node.low, node.high)
    x = functional.pad(x, (left, right, top, bottom)) if any(node.padding) else x
    groups = x.shape[1] if node.op == "depthwise_conv2d" else 1
    stride = node.stride
    if weight.shape[2:] == (1, 1):
        # The pixels are chosen first: oneDNN's kernel for the gradient of strided 1x1 weights (jit_1x1:avx2)
        # writes beyond its buffers where channels lie last and are no multiple of 8.
        x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
    result = functional.conv2d(x, weight, bias, stride, dilation=node.dilation, groups=groups)
    return result.clamp(node.low, node.high)


def run_float(graph: FloatGraph, x: Tensor) -> Mapping[str, Tensor]:
    """Return every tensor of a float network by name, the input first.

    Args:
        graph: the network.
        x: (N, C, H, W) or (N, C); a sequence (N, C, L) is an image of height 1.
    """
    values = {graph.input_name: as_image(x)}
    with torch.no_grad():
        for node in graph.nodes:
            inputs = [values[name] for name in node.inputs]
            values[node.name] = compute(node, inputs, node.weight, node.bias)
    return values


def as_image(x: Tensor) -> Tensor:
    """Return a batch as the network reads it: a sequence (N, C, L) becomes an image (N, C, 1, L)."""
    return x.unsqueeze(2) if x.ndim == 3 else x
