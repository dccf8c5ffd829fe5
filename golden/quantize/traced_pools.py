# SPDX-License-Identifier: Apache-2.0
"""Pools of a recorded module, as they come into the float graph."""

from typing import Any

from golden.operators import output_size
from golden.quantize.float_graph import FloatNode
from golden.quantize.graph_builder import NO_PADS, GraphBuilder, channels_last, pair, spatial
from golden.quantize.recorder import Call


def _pool(
    graph: GraphBuilder, call: Call, op: str, kernel: Any, stride: Any, padding: Any, ceil_mode: bool
) -> None:
    source = graph.data(call)
    if graph.places[source].pads != NO_PADS:
        raise graph.refuse(call, "zeros before a pool would count; supported is the pool's own padding")
    name = graph.image(call, source)
    one = len(source.shape) == 3
    kernel = spatial(kernel, 1, one)
    stride = kernel if stride is None or stride == [] else spatial(stride, 1, one)
    pads = spatial(padding, 0, one)
    assert call.result is not None
    shape = channels_last(call.result.shape[1:])
    size = graph.shape(name)
    floor = tuple(output_size(size[i], kernel[i], stride[i], pads[i], pads[i]) for i in range(2))
    if ceil_mode and shape[:2] != floor:
        raise graph.refuse(call, "ceil_mode=True makes a window that leaves the padded image; use False")
    node = FloatNode(
        name=graph.name_of(call),
        op=op,
        inputs=(name,),
        shape=shape,
        kernel=kernel,
        stride=stride,
        padding=(pads[0], pads[0], pads[1], pads[1]),
    )
    graph.put(call, graph.append(node))


def max_pool(graph: GraphBuilder, call: Call) -> None:
    """Append the maximum under a window."""
    values = graph.arguments(
        call, kernel_size=None, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
    )
    if pair(values["dilation"]) != (1, 1) or values["return_indices"]:
        raise graph.refuse(call, "dilation and return_indices of a maximum pool are not supported")
    _pool(
        graph,
        call,
        "max_pool",
        values["kernel_size"],
        values["stride"],
        values["padding"],
        values["ceil_mode"],
    )


def average_pool(graph: GraphBuilder, call: Call) -> None:
    """Append the mean under a window, without padding or with padding that does not count."""
    values = graph.arguments(
        call,
        kernel_size=None,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    )
    if values["count_include_pad"] and pair(values["padding"]) != (0, 0):
        raise graph.refuse(
            call, "padding that counts in the mean is not supported; use count_include_pad=False"
        )
    if values["divisor_override"] is not None:
        raise graph.refuse(call, "divisor_override is not supported")
    _pool(
        graph,
        call,
        "average_pool",
        values["kernel_size"],
        values["stride"],
        values["padding"],
        values["ceil_mode"],
    )


def adaptive_pool(graph: GraphBuilder, call: Call) -> None:
    """Append the mean or maximum to a given output size that divides the image's."""
    source = graph.data(call)
    graph.image(call, source)
    assert call.result is not None
    size, target = (shape[2:] for shape in (source.shape, call.result.shape))
    if any(own % wanted for own, wanted in zip(size, target, strict=True)):
        raise graph.refuse(
            call, f"an image of {tuple(size)} to {tuple(target)}: supported are sizes that divide exactly"
        )
    if call.kwargs.get("return_indices") or call.args[2:] == (True,):
        raise graph.refuse(call, "return_indices of a maximum pool are not supported")
    kernel = tuple(own // wanted for own, wanted in zip(size, target, strict=True))
    op = "max_pool" if "max" in call.name else "average_pool"
    _pool(graph, call, op, kernel, kernel, 0, False)


def mean(graph: GraphBuilder, call: Call) -> None:
    """Append the mean over height, width or both: a pool, and a reshape where both axes are dropped."""
    source = graph.data(call)
    values = graph.arguments(call, dim=None, keepdim=False, dtype=None)
    rank = len(source.shape)
    given = values["dim"]
    dims = {
        item % rank if isinstance(item, int) else item
        for item in (given if isinstance(given, (tuple, list)) else [given])
    }
    if values["dtype"] is not None or rank not in (3, 4) or not dims or not dims <= set(range(2, rank)):
        raise graph.refuse(call, f"a mean over {given}; supported are height, width, or both")
    graph.no_pads(call, source)
    image = graph.image(call, source)
    size = graph.shape(image)
    taken = {dim if rank == 4 else 3 for dim in dims}
    kernel = (size[0] if 2 in taken else 1, size[1] if 3 in taken else 1)
    assert call.result is not None
    name = graph.name_of(call)
    vector = len(call.result.shape) == 2
    pool = FloatNode(
        name=graph.unique(f"{name}_pool") if vector else name,
        op="average_pool",
        inputs=(image,),
        shape=(size[0] // kernel[0], size[1] // kernel[1], size[2]),
        kernel=kernel,
        stride=kernel,
    )
    graph.append(pool)
    graph.put(call, graph.reshaped(pool.name, size[2:], name) if vector else pool.name)
