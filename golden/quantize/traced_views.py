# SPDX-License-Identifier: Apache-2.0
"""Views, padding, copies and the end of a recorded module, as they come into the float graph."""

import math

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from golden.quantize.float_graph import FloatNode
from golden.quantize.graph_builder import GraphBuilder, channels_last, whole
from golden.quantize.recorder import Call, Value


def view(graph: GraphBuilder, call: Call) -> None:
    """Follow where a function that moves no values puts them; flattening an image makes a reshape."""
    source = next(iter(call.values))
    graph.no_pads(call, source)
    assert call.result is not None
    place = graph.places[source]
    positions = whole(source.shape[1:]) if place.positions is None else place.positions
    size = positions.numel()
    both = torch.stack([positions, positions + size])
    args, kwargs = pytree.tree_map(
        lambda item: both if item is source else item.tensor if isinstance(item, Value) else item,
        (call.args, call.kwargs),
    )
    moved = call.function(*args, **kwargs)
    before, after = source.shape, tuple(moved.shape)
    if after[:1] != (2,) or not torch.equal(moved[1], moved[0] + size):
        raise graph.refuse(
            call,
            f"it turns {before[1:]} of each input into {after}; supported is flattening to (N, C * H * W)",
        )
    moved = moved[0].contiguous()
    steps = _subsampling(moved, source.shape[1:]) if place.positions is None else None
    if steps is not None:
        _subsample(graph, call, source, steps)
        return
    if moved.numel() != size or len(moved.unique()) != size:
        raise graph.refuse(call, f"it takes a part of {before[1:]}; supported are whole tensors")
    name = place.name
    if moved.ndim == 1:
        name = graph.reshaped(name, (size,), graph.name_of(call))
    in_order = 1 <= moved.ndim <= 3 and torch.equal(moved, whole(moved.shape))
    graph.put(call, name, None if in_order else moved)


def _subsampling(moved: Tensor, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return (vertical, horizontal) where positions are every such pixel of an image (C, H, W), else None."""
    if moved.ndim != 3 or len(shape) != 3 or moved.numel() == math.prod(shape):
        return None
    row = int(moved[0, 1, 0]) // (shape[0] * shape[2]) if moved.shape[1] > 1 else shape[1]
    column = int(moved[0, 0, 1]) // shape[0] if moved.shape[2] > 1 else shape[2]
    if min(row, column) < 1 or not torch.equal(moved, whole(shape)[:, ::row, ::column]):
        return None
    return row, column


def _subsample(graph: GraphBuilder, call: Call, source: Value, steps: tuple[int, int]) -> None:
    """Append a pool of one pixel that takes every `steps`-th."""
    assert call.result is not None
    node = FloatNode(
        name=graph.name_of(call),
        op="max_pool",
        inputs=(graph.image(call, source),),
        shape=channels_last(call.result.shape[1:]),
        stride=steps,
    )
    graph.put(call, graph.append(node))


def pad(graph: GraphBuilder, call: Call) -> None:
    """Note zeros around an image, for the convolution that reads them."""
    source = graph.data(call)
    values = graph.arguments(call, pad=None, mode="constant", value=None)
    sizes = [int(size) for size in values["pad"]]
    if not any(sizes):
        place = graph.places[source]
        graph.put(call, place.name, place.positions, place.pads)
        return
    if values["mode"] != "constant" or values["value"] not in (None, 0):
        raise graph.refuse(
            call, f"a padding with mode={values['mode']!r} and value={values['value']}; supported are zeros"
        )
    graph.image(call, source, padded=True)
    spatial = 2 * (len(source.shape) - 2)
    if any(sizes[spatial:]):
        _pad_channels(graph, call, source, sizes[spatial:], sizes[:spatial])
        return
    left, right, top, bottom = (*sizes[:spatial], 0, 0, 0, 0)[:4]
    if min(left, right, top, bottom) < 0:
        raise graph.refuse(call, f"padding {tuple(sizes)} is negative")
    place = graph.places[source]
    before = place.pads
    graph.put(
        call, place.name, None, (before[0] + top, before[1] + bottom, before[2] + left, before[3] + right)
    )


def _pad_channels(
    graph: GraphBuilder, call: Call, source: Value, sizes: list[int], others: list[int]
) -> None:
    """Append a convolution of one pixel that copies channels, with channels of zeros before and behind."""
    if len(sizes) != 2 or min(sizes) < 0 or any(others):
        raise graph.refuse(call, f"padding {(*others, *sizes)}; supported is either of pixels or of channels")
    name = graph.image(call, source)
    channels = source.shape[1]
    weight = torch.zeros(sizes[0] + channels + sizes[1], channels, 1, 1)
    weight[sizes[0] : sizes[0] + channels, :, 0, 0] = torch.eye(channels)
    node = FloatNode(
        name=graph.name_of(call),
        op="conv2d",
        inputs=(name,),
        shape=(*graph.shape(name)[:2], len(weight)),
        weight=weight,
        bias=torch.zeros(len(weight)),
    )
    graph.put(call, graph.append(node))


def same(graph: GraphBuilder, call: Call) -> None:
    """Pass on what the function copies."""
    place = graph.places[graph.data(call)]
    graph.put(call, place.name, place.positions, place.pads)


def cast(graph: GraphBuilder, call: Call) -> None:
    """Pass on what the function turns into another floating-point type."""
    assert call.result is not None
    if not call.result.tensor.is_floating_point():
        raise graph.refuse(call, f"it makes {call.result.tensor.dtype}; supported are floating-point types")
    same(graph, call)


def copy(graph: GraphBuilder, call: Call) -> None:
    """Pass on what is copied over another tensor of that shape."""
    source = call.args[1] if len(call.args) > 1 else call.kwargs.get("src")
    if not isinstance(source, Value) or source.shape != (call.result.shape if call.result else None):
        raise graph.refuse(call, "supported is the copy of a tensor that the network computed, of one shape")
    place = graph.places[source]
    graph.put(call, place.name, place.positions, place.pads)


def dropout(graph: GraphBuilder, call: Call) -> None:
    """Refuse a dropout that drops in evaluation too; one that does not makes no new tensor."""
    raise graph.refuse(call, "it drops in evaluation mode too; give training=self.training")


def softmax(graph: GraphBuilder, call: Call) -> None:
    """Append a softmax over a vector, which the host computes; it must be the end of the network."""
    source = graph.data(call)
    values = graph.arguments(call, dim=None, _stacklevel=3, dtype=None)
    if call.result is not graph.recording.result:
        raise graph.refuse(call, "a softmax inside the network; supported is one at its end")
    if (
        len(source.shape) != 2
        or values["dim"] not in (None, 1, -1)
        or graph.places[source].positions is not None
    ):
        raise graph.refuse(
            call, f"a softmax over axis {values['dim']} of {source.shape[1:]}; supported is (N, C)"
        )
    node = FloatNode(
        name=graph.name_of(call), op="softmax", inputs=(graph.vector(call, source),), shape=source.shape[1:]
    )
    graph.put(call, graph.append(node))
