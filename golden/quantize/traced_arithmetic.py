# SPDX-License-Identifier: Apache-2.0
"""Constants, sums and clamps of a recorded module, as they come into the float graph."""

import math
from typing import Any

import torch
from torch import Tensor

from golden.quantize.float_graph import FloatNode
from golden.quantize.graph_builder import GraphBuilder
from golden.quantize.recorder import Call, Value


def batch_norm(graph: GraphBuilder, call: Call) -> None:
    """Multiply and add what a normalisation with its running statistics does to each channel."""
    values = graph.arguments(
        call,
        running_mean=None,
        running_var=None,
        weight=None,
        bias=None,
        training=False,
        momentum=0.1,
        eps=1e-5,
    )
    if values["training"] or values["running_mean"] is None:
        raise graph.refuse(call, "it has no running statistics; supported is track_running_stats=True")
    mean, variance = (
        graph.constant(call, values[key], key).double() for key in ("running_mean", "running_var")
    )
    gain = 1 / (variance + values["eps"]).sqrt()
    if values["weight"] is not None:
        gain = gain * graph.constant(call, values["weight"], "weights").double()
    shift = -mean * gain
    if values["bias"] is not None:
        shift = shift + graph.constant(call, values["bias"], "biases").double()
    _affine(graph, call, graph.data(call), gain, shift, channel=True)


def _affine(
    graph: GraphBuilder, call: Call, value: Value, scale: Any, shift: Any, *, channel: bool = False
) -> None:
    """Apply constants that PyTorch would broadcast against the value, or (C,) for its channels."""
    full = []
    for item in (scale, shift):
        tensor = torch.as_tensor(item, dtype=torch.float64)
        if tensor.numel() == 1:
            full.append(tensor.reshape(()))
            continue
        if channel:
            tensor = tensor.reshape(-1, *[1] * (len(value.shape) - 2))
        if tensor.shape == (value.shape[1], *[1] * (len(value.shape) - 2)):
            full.append(tensor)
            continue
        try:
            tensor = tensor.expand(value.shape)
        except RuntimeError:
            raise graph.refuse(
                call,
                f"a constant of {tuple(tensor.shape)} beside {value.shape[1:]}; both must have one shape",
            ) from None
        if not torch.equal(tensor[0], tensor[1]):
            raise graph.refuse(call, "its constant differs between the inputs of a batch")
        full.append(tensor[0])
    graph.affine(call, value, full[0], full[1])


def _is_constant(item: Any) -> bool:
    return isinstance(item, (int, float, Tensor)) and not isinstance(item, bool)


def add(graph: GraphBuilder, call: Call) -> None:
    """Append the sum of two tensors of one shape, or add a constant."""
    _sum(graph, call, 1.0, 1.0)


def subtract(graph: GraphBuilder, call: Call) -> None:
    """Append the difference of two tensors of one shape, or subtract a constant."""
    _sum(graph, call, 1.0, -1.0)


def reverse_subtract(graph: GraphBuilder, call: Call) -> None:
    """Append the difference of two tensors of one shape, the second less the first."""
    _sum(graph, call, -1.0, 1.0)


def _sum(graph: GraphBuilder, call: Call, first_sign: float, second_sign: float) -> None:
    items = {"input": None, "other": None, "alpha": 1} | dict(
        zip(("input", "other", "alpha"), call.args, strict=False)
    )
    items |= {key: value for key, value in call.kwargs.items() if key != "out"}
    first, second, alpha = items["input"], items["other"], items["alpha"]
    if first_sign == 1.0:
        second_sign *= float(alpha)
    else:
        first_sign *= float(alpha)
    if isinstance(first, Value) and _is_constant(second):
        _affine(graph, call, first, first_sign, torch.as_tensor(second, dtype=torch.float64) * second_sign)
    elif isinstance(second, Value) and _is_constant(first):
        _affine(graph, call, second, second_sign, torch.as_tensor(first, dtype=torch.float64) * first_sign)
    elif isinstance(first, Value) and isinstance(second, Value):
        _add_two(
            graph, call, _signed(graph, call, first, first_sign), _signed(graph, call, second, second_sign)
        )
    else:
        raise graph.refuse(
            call, "supported is the sum of two tensors that the network computed, or a constant"
        )


def _signed(graph: GraphBuilder, call: Call, value: Value, factor: float) -> Value:
    """Return the value times a factor, as a value of its own."""
    if factor == 1.0:
        return value
    scaled = Call(call.function, f"{call.name}_factor", (value,), {}, "", None, call.line)
    scaled.result = Value(value.shape, value.tensor, scaled, [call], overwritten=True)
    if call.values.count(value) == 1:
        value.readers.remove(call)
    value.readers.append(scaled)
    _affine(graph, scaled, value, factor, 0.0)
    return scaled.result


def _add_two(graph: GraphBuilder, call: Call, first: Value, second: Value) -> None:
    if first.shape != second.shape:
        raise graph.refuse(
            call, f"it adds {first.shape[1:]} and {second.shape[1:]}; both must have one shape"
        )
    for value in (first, second):
        graph.no_pads(call, value)
    places = [graph.places[value] for value in (first, second)]
    order = [place.positions for place in places]
    if (order[0] is None) != (order[1] is None) or (
        order[0] is not None and order[1] is not None and not torch.equal(order[0], order[1])
    ):
        raise graph.refuse(call, "it adds a flattened image to a vector; add before flattening")
    names = [place.name for place in places]
    if graph.shape(names[0]) != graph.shape(names[1]):
        read = graph.vector if len(first.shape) == 2 else graph.image
        names = [read(call, value) for value in (first, second)]
    images = [image for image in map(graph.flattened, names) if image is not None]
    shape = graph.shape(names[0])
    if len(images) == 2 and graph.shape(images[0]) == graph.shape(images[1]):
        names = images  # units add images, not what is flattened
    node = FloatNode(
        name=graph.name_of(call), op="add", inputs=(names[0], names[1]), shape=graph.shape(names[0])
    )
    graph.append(node)
    graph.put(call, graph.reshaped(node.name, shape, f"{node.name}_vector"), order[0])


def multiply(graph: GraphBuilder, call: Call) -> None:
    """Multiply by a constant."""
    first, second = _two(graph, call, "supported is the product with a constant, one number for each channel")
    _affine(graph, call, first, torch.as_tensor(second, dtype=torch.float64), 0.0)


def divide(graph: GraphBuilder, call: Call) -> None:
    """Divide by a constant."""
    first, second = _two(graph, call, "supported is the division by a constant, one number for each channel")
    if call.args[0] is not first or call.kwargs.get("rounding_mode") is not None:
        raise graph.refuse(call, "supported is the division by a constant, one number for each channel")
    _affine(graph, call, first, 1 / torch.as_tensor(second, dtype=torch.float64), 0.0)


def negate(graph: GraphBuilder, call: Call) -> None:
    """Multiply by -1."""
    _affine(graph, call, graph.data(call), -1.0, 0.0)


def _two(graph: GraphBuilder, call: Call, supported: str) -> tuple[Value, Any]:
    items = [*call.args, *(call.kwargs[key] for key in ("other",) if key in call.kwargs)]
    values = [item for item in items if isinstance(item, Value)]
    constants = [item for item in items if _is_constant(item)]
    if len(values) != 1 or len(constants) != 1:
        raise graph.refuse(call, f"{call.name} of two computed tensors is not supported; {supported}")
    return values[0], constants[0]


# --------------------------------------------------------------------------------------------------- clamps
def relu(graph: GraphBuilder, call: Call) -> None:
    """Make a rectifier the clamp of the operator before it."""
    graph.clamp(call, graph.data(call), 0.0, math.inf)


def relu6(graph: GraphBuilder, call: Call) -> None:
    """Do as `relu`, with 6 as the largest value."""
    graph.clamp(call, graph.data(call), 0.0, 6.0)


def hard_tanh(graph: GraphBuilder, call: Call) -> None:
    """Make the limits the clamp of the operator before it."""
    values = graph.arguments(call, min_val=-1.0, max_val=1.0)
    graph.clamp(call, graph.data(call), float(values["min_val"]), float(values["max_val"]))


def clamp(graph: GraphBuilder, call: Call) -> None:
    """Make numbers the clamp of the operator before it."""
    names = {"clamp_min": ("min",), "clamp_max": ("max",)}.get(call.name, ("min", "max"))
    values = graph.arguments(call, **dict.fromkeys(names))
    limits = [values.get("min"), values.get("max")]
    if any(
        isinstance(limit, Value) or (isinstance(limit, Tensor) and limit.numel() != 1) for limit in limits
    ):
        raise graph.refuse(call, "supported are limits that are numbers, the same for all channels")
    low, high = limits
    graph.clamp(
        call,
        graph.data(call),
        -math.inf if low is None else float(low),
        math.inf if high is None else float(high),
    )
