# SPDX-License-Identifier: Apache-2.0
"""Legalisation pass: a network or a layer becomes operators that the units have commands for.

Fully connected layers become convolutions whose kernel is the whole input, depthwise ones with a channel
multiplier become convolutions with zero weights between channels; a reshape is another view of the same
words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.errors import UnsupportedError, together
from golden.layer import OPS, POOL_OPS, Layer, kernel_size
from golden.network import Network, Node, placeholder
from mapping.compiler.graph import Graph, Op, Value, described, operator
from mapping.compiler.partition import Partition, partition
from mapping.compiler.pools import rounds_once

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
    if layer.op in ("depthwise_conv2d", *POOL_OPS):
        changes |= _window_in_fields(layer)
    op = operator(layer.name, replace(layer, **changes), sources)
    if _is_mean(op):
        op = replace(op, kind="average_pool", macs=0)
    for key, values in (("kernel", op.kernel), ("stride", op.stride), ("dilation", op.dilation)):
        if max(values) > FIELD_MAX:
            raise UnsupportedError(
                f"{described(op)}: {key} {values[0]} x {values[1]}; up to {FIELD_MAX} x {FIELD_MAX} are "
                "supported"
            )
    return op


def _window_in_fields(layer: Layer) -> dict[str, Any]:
    """Return what changes where a mean or pool of the whole image sees it in other rows, so that it fits.

    Its one output has no stride.
    """
    shape, kernel = layer.input.shape, kernel_size(layer)
    if max(*kernel, *layer.stride) <= FIELD_MAX or kernel != shape[:2] or any(layer.padding):
        return {}
    if layer.op == "depthwise_conv2d" and not _weighs_alike(layer):
        return {}
    rows, columns, channels = _window_shape((shape[0], shape[1], shape[2]))
    changes: dict[str, Any] = {"input": placeholder((rows, columns, channels)), "stride": (1, 1)}
    if layer.op in POOL_OPS:
        return changes | {"kernel": (rows, columns)}
    return changes | {"weights": layer.weights.reshape(1, rows, columns, channels)}


def _weighs_alike(layer: Layer) -> bool:
    return layer.weights.shape[3] == layer.input.shape[2] and bool((layer.weights == 1).all())


def _is_mean(op: Op) -> bool:
    """Return whether a depthwise operator averages so many values that it runs as a pool, without weights."""
    count = op.kernel[0] * op.kernel[1]
    return (
        op.kind == "depthwise_conv2d"
        and rounds_once(count)
        and not any(op.padding)
        and op.dilation == (1, 1)
        and _weighs_alike(op.layer)
    )


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
        UnsupportedError: operators that belong to the host between two that do not, reshapes that would move
            values, or windows beyond the command's fields; all of them, with the layers' names.
    """
    parts, views, ops, reasons = _legalised(network)
    if reasons:
        raise UnsupportedError(together(list(reasons.values()), f"network {network.name!r}"))
    made = {op.name for op in ops}
    read_by_host = {name for node in parts.after for name in node.inputs} | set(network.output_names)
    read = dict.fromkeys(name for op in ops for name in op.sources if name not in made)
    return Graph(
        name=network.name,
        inputs=tuple(Value(name, views[name].shape) for name in read),
        ops=tuple(ops),
        outputs=tuple(op.name for op in ops if op.name in read_by_host),
        host_before=parts.before,
        host_after=parts.after,
    )


def placement(network: Network) -> tuple[Partition, dict[str, str]]:
    """Return where a network's operators run, and why some cannot run where they stand, by their names.

    Raises:
        UnsupportedError: no operator runs on a unit.
    """
    parts, _, _, reasons = _legalised(network)
    return parts, reasons


def _legalised(network: Network) -> tuple[Partition, dict[str, _View], list[Op], dict[str, str]]:
    """Return where operators run, what layers read, the units' operators, and why others cannot run.

    Raises:
        UnsupportedError: no operator runs on a unit.
    """
    parts = partition(network)
    if not _are_views(network, parts):
        parts = partition(network, host_reshapes=True)
    views = _host_views(network, parts)
    reasons = {
        node.name: f"layer {node.name!r}: {node.op} runs on the host, and only at a network's ends; the "
        f"units run {', '.join(OPS)}"
        for node in parts.misplaced
    }
    for node in parts.misplaced:
        views[node.name] = _View(node.name, spatial(node.output.shape), False)
    ops: list[Op] = []
    for node in parts.units:
        try:
            if node.op == "reshape":
                views[node.name] = _reshape(node, views[node.inputs[0]])
                continue
            ops.append(_op(node, views))
        except UnsupportedError as error:
            reasons[node.name] = str(error)
        views[node.name] = _View(node.name, spatial(node.output.shape), False)
    return parts, views, ops, reasons


def _host_views(network: Network, parts: Partition) -> dict[str, _View]:
    """Return what layers and their reshapes read of the host, as views; a valid network has int8 there."""
    by_units = {node.name for node in (*parts.units, *parts.misplaced)}
    names = [name for node in parts.units for name in node.inputs if name not in by_units]
    return {name: _View(name, spatial(network.tensors[name].shape), False) for name in names}


def _are_views(network: Network, parts: Partition) -> bool:
    """Return whether every reshape of an input is another view of it that the layers behind it can read."""
    leading = parts.leading
    if not leading:
        return True
    views = _host_views(network, parts)
    try:
        for node in leading:
            views[node.name] = _reshape(node, views[node.inputs[0]])
    except UnsupportedError:
        return False
    flat = {node.name for node in leading if views[node.name].flat}
    readers = (node for node in parts.units if not flat.isdisjoint(node.inputs))
    return all(node.op in ("reshape", "fully_connected") for node in readers)


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
    sources = [views[name] for name in node.inputs]
    if any(view.flat for view in sources) and node.op != "fully_connected":
        raise UnsupportedError(
            f"layer {node.name!r}: {node.op} of flattened channels; "
            "only a fully connected layer can follow a flatten"
        )
    layer = replace(node.layer, name=node.name)
    shape = sources[0].shape if node.op == "fully_connected" else spatial(layer.input.shape)
    return legalise_layer(layer, tuple(view.value for view in sources), shape)
