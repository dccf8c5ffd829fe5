# SPDX-License-Identifier: Apache-2.0
"""From a float `torch.nn.Module` to a graph of the operators of `golden.layer`, still in floating point.

The module runs once, and `golden.quantize.recorder` records what it computes. Batch normalisation is folded
into the layer before it, ReLU and its kin become the clamp of the operator before them, dropout disappears;
`golden.quantize.traced_functions` says what each function becomes. At the end the graph runs on the same
batch, and every tensor must equal the module's: a graph that computes something else is never returned.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from common.errors import ArithmeticRangeError, NetworkError, UnsupportedError
from golden.quantize.float_graph import FloatGraph, run_float
from golden.quantize.graph_builder import GraphBuilder, Placed, channels_last
from golden.quantize.recorder import Call, Value, record
from golden.quantize.traced_functions import FUNCTIONS
from golden.quantize.wrappers import plain_module

TOLERANCE = 5e-3
"""The largest relative error, ||graph - module|| / ||module||, of a tensor of the float graph."""


def trace(model: nn.Module, example: Tensor) -> FloatGraph:
    """Return the graph of a trained float module, which stays as it is.

    Args:
        model: the module; it takes one tensor, (N, C, H, W), (N, C, L) or (N, C), and returns one.
        example: such a tensor; the module is run once on its first inputs.

    Raises:
        UnsupportedError: something is outside `traced_functions.FUNCTIONS`; the message has the module's path
            or the function, and the line that calls it.
        NetworkError: the module cannot run, does nothing, or its graph computes something else.
        ArithmeticRangeError: its parameters, or what it makes of the example, are not finite.
    """
    if not isinstance(example, Tensor) or example.ndim not in (2, 3, 4) or not example.is_floating_point():
        what = (
            f"{example.dtype} {tuple(example.shape)}"
            if isinstance(example, Tensor)
            else type(example).__name__
        )
        raise UnsupportedError(
            f"the module's input is {what}; supported are floating-point images (N, C, H, W), sequences "
            "(N, C, L) and vectors (N, C)"
        )
    model = plain_module(model)
    batch = _two_inputs(example.detach().cpu().float())
    untouched = batch.clone()
    recording = record(model, batch)
    graph = GraphBuilder(recording)
    for call in recording.calls:
        _add(graph, call)
    _check_output(graph, recording.result)
    if not graph.nodes:
        raise NetworkError("the module has no operators")
    result = FloatGraph(
        input_name=recording.input_name, input_shape=graph.input_shape, nodes=tuple(graph.nodes.values())
    )
    places = {value: place for value, place in graph.places.items() if value not in graph.absorbed}
    _check_equal(result, places, untouched)
    return result


def _two_inputs(example: Tensor) -> Tensor:
    """Return two different inputs.

    Two, so that a shape that depends on the batch's size shows; different, so that what looks like a constant
    and depends on the input, because PyTorch computed it out of sight, shows.
    """
    first = example[:1]
    second = example[1:2]
    if not len(second) or torch.equal(first, second):
        ramp = torch.linspace(0, 0.1, first.numel()).reshape(first.shape)
        second = first.flip(-1) / 2 + ramp * max(float(first.abs().max()), 1.0)
    return torch.cat([first, second])


def _add(graph: GraphBuilder, call: Call) -> None:
    if call.fault:
        raise graph.refuse(call, call.fault)
    supported = FUNCTIONS.get(call.name)
    if supported is None or call.result is None:
        what = type(call.module).__name__ if call.module is not None else call.name
        functions = ", ".join(name for name, item in FUNCTIONS.items() if not item.becomes.startswith("as "))
        raise UnsupportedError(
            f"{call.where}: {what} is not supported; supported are Conv2d, Linear and other modules that "
            f"call these functions: {functions}{call.at}"
        )
    supported.handler(graph, call)


def _check_output(graph: GraphBuilder, result: Value) -> None:
    place = graph.places[result]
    if any(place.pads):
        raise UnsupportedError("the module's output reads padded data; only a convolution can")
    if place.positions is not None:
        raise UnsupportedError(
            f"the module's output is a flattened image, or has its axes in another order: {result.shape[1:]} "
            f"of {graph.shape(place.name)}, channels last, which a network holds; return the image itself"
        )
    if graph.nodes:
        graph.reshaped(place.name, channels_last(result.shape[1:]), "output")


def _check_equal(graph: FloatGraph, places: Mapping[Value, Placed], batch: Tensor) -> None:
    """Check that a graph computes what the module computed, tensor by tensor.

    Raises:
        NetworkError: it does not; the message names the first tensor.
        ArithmeticRangeError: the module makes values that are not finite.
    """
    tensors = run_float(graph, batch)
    last = {place.name: (value, place) for value, place in places.items()}
    for name, (value, place) in last.items():
        if value.overwritten or any(place.pads):
            continue
        held = tensors[name].movedim(1, -1).flatten(start_dim=1)
        expected = value.tensor.float()
        if place.positions is None:
            got = held.reshape(len(held), *expected.shape[2:], expected.shape[1]).movedim(-1, 1)
        else:
            got = held[:, place.positions]
        if not bool(expected.isfinite().all()):
            raise ArithmeticRangeError(f"layer {name!r} of the module makes values that are not finite")
        error = float((got - expected).norm())
        if not error <= TOLERANCE * float(expected.norm()) + 1e-6:
            share = error / max(float(expected.norm()), 1e-30)
            raise NetworkError(
                f"layer {name!r} computes something else than the module: they differ by {share:.2g} of it; "
                "the module may be random, or change itself"
            )
