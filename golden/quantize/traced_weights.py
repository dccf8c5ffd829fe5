# SPDX-License-Identifier: Apache-2.0
"""Convolutions and fully connected layers of a recorded module, as they come into the float graph."""

from typing import Any

import torch
from torch import Tensor

from golden.quantize.float_graph import FloatNode
from golden.quantize.graph_builder import GraphBuilder, channels_last, spatial
from golden.quantize.recorder import Call


def convolution(graph: GraphBuilder, call: Call) -> None:
    """Append a plain or a depthwise convolution of one or two dimensions."""
    values = graph.arguments(call, weight=None, bias=None, stride=1, padding=0, dilation=1, groups=1)
    source = graph.data(call)
    weight = graph.constant(call, values["weight"], "weights")
    one = call.name == "conv1d"
    if len(source.shape) != weight.ndim:
        raise graph.refuse(call, f"it reads {source.shape}, without a batch axis")
    channels, groups = source.shape[1], values["groups"]
    if groups not in (1, channels):
        raise graph.refuse(call, f"groups={groups} with {channels} channels; supported are 1 and depthwise")
    bias = values["bias"]
    bias = torch.zeros(len(weight)) if bias is None else graph.constant(call, bias, "biases")
    stride, dilation = (spatial(values[key], 1, one) for key in ("stride", "dilation"))
    weight = weight.unsqueeze(2) if one else weight
    if values["padding"] == "same":  # an odd pixel goes to the end
        totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        own = tuple(size for total in totals for size in (total // 2, total - total // 2))
    else:
        vertical, horizontal = (0, 0) if values["padding"] == "valid" else spatial(values["padding"], 0, one)
        own = (vertical, vertical, horizontal, horizontal)
    assert call.result is not None
    name = graph.image(call, source, padded=True)
    node = FloatNode(
        name=graph.name_of(call),
        op="conv2d" if groups == 1 else "depthwise_conv2d",
        inputs=(name,),
        shape=channels_last(call.result.shape[1:]),
        weight=weight,
        bias=bias,
        stride=stride,
        dilation=dilation,
        padding=tuple(a + b for a, b in zip(graph.places[source].pads, own, strict=True)),  # type: ignore[arg-type]
    )
    graph.put(call, graph.append(node))


def linear(graph: GraphBuilder, call: Call) -> None:
    """Append a fully connected layer; the columns of its weights follow the order of a flattened image."""
    values = graph.arguments(call, weight=None, bias=None)
    _fully_connected(graph, call, graph.constant(call, values["weight"], "weights"), values["bias"])


def matmul(graph: GraphBuilder, call: Call) -> None:
    """Append the product with a constant matrix as a fully connected layer."""
    matrix = graph.constant(call, [*call.args, *call.kwargs.values()][1], "weights")
    if matrix.ndim != 2:
        raise graph.refuse(call, f"a product with {tuple(matrix.shape)}; supported is a matrix")
    _fully_connected(graph, call, matrix.t().contiguous(), None)


def _fully_connected(graph: GraphBuilder, call: Call, weight: Tensor, bias: Any) -> None:
    source = graph.data(call)
    name = graph.vector(call, source)
    positions = graph.places[source].positions
    if positions is not None:
        columns = torch.empty_like(weight)
        columns[:, positions] = weight
        weight = columns
    bias = torch.zeros(len(weight)) if bias is None else graph.constant(call, bias, "biases")
    node = FloatNode(
        name=graph.name_of(call),
        op="fully_connected",
        inputs=(name,),
        shape=(len(weight),),
        weight=weight,
        bias=bias,
    )
    graph.put(call, graph.append(node))
