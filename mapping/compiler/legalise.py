"""Legalisation pass: a network or a layer becomes operators that the units have commands for.

Fully connected layers become convolutions whose kernel is the whole input, depthwise ones with a channel
multiplier become convolutions with zero weights between channels; a reshape is another view of the same
words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.errors import UnsupportedError
from golden.layer import WEIGHTED_OPS, Layer
from golden.network import HOST_OPS, Network, Node, placeholder
from mapping.compiler.graph import Graph, Op, Value, operator

FIELD_MAX = 255
"""Largest kernel, stride and dilation of a command."""
INPUTS = ("<input>", "<input2>")
"""Names of a single layer's inputs: no layer has such a name."""


def spatial(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (height, width, channels): a vector is one pixel, further leading axes are folded into rows."""
    *outer, channels = shape
    if len(outer) < 2:
        return 1, int(np.prod(outer, dtype=int)), channels
    return int(np.prod(outer[:-1], dtype=int)), outer[-1], channels


def legalise_layer(layer: Layer, sources: tuple[str, ...], shape: tuple[int, int, int] | None = None) -> Op:
    """Return an operator that equals a layer and that the units have a command for, on (H, W, C).

    Args:
        layer: the layer.
        sources: names of the values that it reads.
        shape: for a fully connected layer, (H, W, C) of the tensor whose flattened values it reads.

    Raises:
        UnsupportedError: a window beyond the command's fields.
    """
    shape = shape or spatial(layer.input.shape)
    if layer.op == "fully_connected":
        shape = _window_shape(shape)
    changes: dict[str, Any] = {"expected": None, "input": placeholder(shape)}
    if layer.op == "add":
        changes["input2"] = placeholder(shape)
    elif layer.op == "fully_connected":
        changes |= {"op": "conv2d", "weights": layer.weights.reshape(-1, *shape)}
    elif layer.op == "depthwise_conv2d" and layer.weights.shape[3] != shape[2]:
        _, kernel_h, kernel_w, k = layer.weights.shape
        weights = np.zeros((k, kernel_h, kernel_w, shape[2]), np.int8)
        channel = np.arange(k)
        weights[channel, :, :, channel // (k // shape[2])] = np.moveaxis(layer.weights[0], 2, 0)
        changes |= {"op": "conv2d", "weights": weights}
    op = operator(layer.name, replace(layer, **changes), sources)
    for key, values in (("kernel", op.kernel), ("stride", op.stride), ("dilation", op.dilation)):
        if max(values) > FIELD_MAX:
            raise UnsupportedError(f"layer {layer.name!r}: {key} {values} is above {FIELD_MAX}")
    return op


def _window_shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return (H, W, C) with the same pixels as a view that a kernel can cover: few columns, rows that fit."""
    height, width, channels = shape
    pixels = height * width
    rows = [size for size in range(1, FIELD_MAX + 1) if pixels % size == 0 and pixels // size <= FIELD_MAX]
    return (rows[-1], pixels // rows[-1], channels) if rows else shape


def legalise(layer: Layer) -> Graph:
    """Return the graph of a single layer; its inputs are named as in INPUTS.

    What holds afterwards is said in `legalise_network`.
    """
    names = INPUTS[: 2 if layer.op == "add" else 1]
    op = legalise_layer(layer, names)
    values = tuple(Value(name, op.source_shape) for name in names)
    return Graph(layer.name, values, (op,), (layer.name,))


@dataclass(frozen=True)
class _View:
    """A tensor of the network as a view of a value: (H, W, C), flattened or not."""

    value: str
    shape: tuple[int, int, int]
    flat: bool


def legalise_network(network: Network) -> Graph:
    """Return the graph of a network.

    Afterwards every operator is of a kind that has a command, its geometry is that of its layer and fits the
    command's fields, and it reads only values that the host or an operator before it makes.

    Raises:
        UnsupportedError: an operator that belongs to the host between two that do not, a reshape that would
            move values, or a window beyond the command's fields; with the layer's name.
    """
    nodes = list(network.nodes)
    split = next((i for i, node in enumerate(nodes) if node.layer is not None), None)
    if split is None:
        raise UnsupportedError(f"network {network.name!r} has no operator that runs on a unit")
    after = max(i for i, node in enumerate(nodes) if node.layer is not None) + 1
    before, middle, behind = nodes[:split], nodes[split:after], nodes[after:]
    # reshapes at the edges are views like any other, up to the first operator of the host
    lead = next((i for i in reversed(range(len(before))) if before[i].op in HOST_OPS), -1) + 1
    views = _input_view(network, before[:lead])
    (source,) = views.values()
    for node in before[lead:]:
        views[node.name] = _reshape(node, _view(node, 0, views))
    ops: list[Op] = []
    for node in middle:
        if node.op in HOST_OPS:
            raise UnsupportedError(
                f"layer {node.name!r}: {node.op} runs on the host, and only at a network's edges; the "
                f"units run {', '.join(WEIGHTED_OPS)}, add, average_pool, max_pool"
            )
        if node.op == "reshape":
            views[node.name] = _reshape(node, _view(node, 0, views))
            continue
        op = _op(node, views)
        ops.append(op)
        views[node.name] = _View(op.name, op.shape, False)
    for node in behind:
        if node.inputs[0] not in (middle[-1].name, *(item.name for item in behind)):
            raise UnsupportedError(
                f"layer {node.name!r}: only the last layer on a unit, "
                f"{ops[-1].name!r}, can be followed by the host or be the output"
            )
    return Graph(
        name=network.name,
        inputs=(Value(source.value, source.shape),),
        ops=tuple(ops),
        outputs=(ops[-1].name,),
        host_before=tuple(before[:lead]),
        host_after=tuple(behind),
    )


def _input_view(network: Network, host: list[Node]) -> dict[str, _View]:
    tensors = network.tensors
    name = host[-1].name if host else network.input_name
    if tensors[name].dtype != "int8":
        raise UnsupportedError(
            f"network {network.name!r}: its input is not quantised to int8 before its first layer"
        )
    return {name: _View(name, spatial(tensors[name].shape), False)}


def _view(node: Node, index: int, views: dict[str, _View]) -> _View:
    """Return what a node reads, as a view."""
    name = node.inputs[index]
    if name not in views:
        raise UnsupportedError(
            f"layer {node.name!r} reads {name!r}, which only the host sees; all layers on the units "
            "begin with what the host's last operator makes"
        )
    return views[name]


def _reshape(node: Node, view: _View) -> _View:
    height, width, channels = view.shape
    shape = spatial(node.output.shape)
    if view.flat and node.output.shape == (height * width * channels,):
        return view
    if view.flat and node.output.shape == view.shape:
        return _View(view.value, view.shape, False)
    if not view.flat and shape[2] == channels:  # the same channels of the same pixels in other rows
        return _View(view.value, shape, False)
    if len(node.output.shape) == 1:
        return _View(view.value, view.shape, flat=True)
    raise UnsupportedError(
        f"layer {node.name!r}: a reshape from {view.shape} to {node.output.shape} moves values "
        "between channels; the units flatten only, before a fully connected layer"
    )


def _op(node: Node, views: dict[str, _View]) -> Op:
    assert node.layer is not None
    sources = [_view(node, i, views) for i in range(len(node.inputs))]
    if any(view.flat for view in sources) and node.op != "fully_connected":
        raise UnsupportedError(
            f"layer {node.name!r}: {node.op} of flattened channels; "
            "only a fully connected layer can follow a flatten"
        )
    layer = replace(node.layer, name=node.name)
    shape = sources[0].shape if node.op == "fully_connected" else spatial(layer.input.shape)
    return legalise_layer(layer, tuple(view.value for view in sources), shape)
