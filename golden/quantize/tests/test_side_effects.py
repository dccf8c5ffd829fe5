# SPDX-License-Identifier: Apache-2.0
"""Calls that write in place: every later reader and alias sees them, or they are refused by name and line."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import NetworkError, UnsupportedError
from golden.quantize.export import export
from golden.quantize.testing import signal_to_noise, smooth_images
from golden.quantize.trace import trace

Function = Callable[[Any, Tensor], Any]
ENOUGH_DB = 30


class Two(nn.Module):
    """Two convolutions, a ReLU that writes in place, and what a test does with them."""

    def __init__(self, forward: Function) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.batch = nn.ReLU(inplace=True), nn.BatchNorm2d(8)
        self.register_buffer("scratch", torch.zeros(2, 8, 10, 10))
        self.register_buffer("steps", torch.zeros(1))
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)  # type: ignore[no-any-return]


def model_of(function: Function) -> Two:
    torch.manual_seed(5)
    return Two(function).eval()


def images() -> Tensor:
    return smooth_images((3, 10, 10), 8, 3) - 0.5


def unassigned_function(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    functional.relu(y, inplace=True)
    return net.b(y)


def unassigned_module(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    net.relu(y)
    return net.b(y)


def method(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y.relu_()
    return net.b(y)


def clamped(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    torch.clamp_(y, -0.1, 0.2)
    return net.b(y)


def hard_tanh(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    functional.hardtanh_(y, -0.1, 0.2)
    return net.b(y)


def sum_in_place(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y.add_(net.b(y))
    return functional.relu(y)


def scaled_sum_in_place(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y.add_(net.b(y), alpha=-0.5)
    return y


def product_in_place(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y.mul_(2.0)
    return net.b(y)


def other_arithmetic(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y -= 0.25
    y /= 2
    y.neg_()
    y *= torch.linspace(0.5, 2, 8).reshape(8, 1, 1)
    return net.b(y)


def alias_read_later(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    alias = y
    z = net.b(y)
    y += z
    return alias + z


def read_before_and_after(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    before = net.b(y)
    y.relu_()
    return before + y


def copy_kept(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    kept = y.clone()
    y.relu_()
    return net.b(y) + kept


def alias_in_a_list(net: Any, x: Tensor) -> Any:
    features = [net.a(x)]
    for feature in features:
        net.relu(feature)
    return net.b(features[-1])


def detached(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y.detach().relu_()
    return net.b(y)


def through_data(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y.data.relu_()
    return net.b(y)


def through_a_view_of_all(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y.view_as(y).relu_()
    return net.b(y)


def given_a_place(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    torch.add(y, net.b(y), out=y)
    return y


def given_a_new_place(net: Any, x: Tensor) -> Any:
    y, place = net.a(x), torch.empty(0)
    torch.mul(y, 3.0, out=place)
    return net.b(place)


def given_a_buffer(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    torch.add(y, net.b(y), out=net.scratch.resize_(y.shape))
    return net.scratch * 0.5


def copied(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    z = net.b(y)
    y.copy_(z)
    return net.b(y)


def normalised_then_written(net: Any, x: Tensor) -> Any:
    y = net.batch(net.a(x))
    y.relu_()
    return y + 1


def counts_its_calls(net: Any, x: Tensor) -> Any:
    net.steps.add_(1)
    return net.b(net.a(x).relu_())


def of_the_input(net: Any, x: Tensor) -> Any:
    x.mul_(2.0)
    return net.a(x)


def squeezed_in_place(net: Any, x: Tensor) -> Any:
    y = functional.adaptive_avg_pool2d(net.a(x), 1)
    y.squeeze_(3)
    y.squeeze_(2)
    return y.relu_()


def in_inference_mode(net: Any, x: Tensor) -> Any:
    with torch.inference_mode():
        y = net.a(x)
        y.relu_()
        functional.relu6(y, inplace=True)
        return net.b(y)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0).mul_(2.0)


def in_a_function_of_autograd(net: Any, x: Tensor) -> Any:
    return net.b(Doubled.apply(net.a(x)))  # type: ignore[no-untyped-call]


def in_an_operator_of_aten(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    torch.ops.aten.relu_(y)
    return net.b(y)


def whole_slice(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y[:].add_(1.0)
    y[...].relu_()
    return net.b(y)


SEEN = [
    in_inference_mode, in_a_function_of_autograd, in_an_operator_of_aten, whole_slice,
    unassigned_function, unassigned_module, method, clamped, hard_tanh, sum_in_place, scaled_sum_in_place,
    product_in_place, other_arithmetic, alias_read_later, read_before_and_after, copy_kept, alias_in_a_list,
    detached, through_data, through_a_view_of_all, given_a_place, given_a_new_place, given_a_buffer, copied,
    normalised_then_written, counts_its_calls, of_the_input, squeezed_in_place,
]  # fmt: skip


@pytest.mark.parametrize("function", SEEN)
def test_what_is_written_in_place_is_in_the_network(function: Function) -> None:
    model, x = model_of(function), images()
    assert signal_to_noise(export(model, x), model, x) > ENOUGH_DB


def slice_written(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y[:, :4] = 0
    return net.b(y)


def slice_scaled(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y[:, 2].mul_(3.0)
    return net.b(y)


def half_of_a_chunk(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    first, _ = y.chunk(2, dim=1)
    first.relu_()
    return net.b(y)


def flat_then_written(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y.flatten(1).relu_()
    return net.b(y)


def older_view(net: Any, x: Tensor) -> Any:
    y = functional.adaptive_avg_pool2d(net.a(x), 1)
    flat = y.flatten(1)
    y.relu_()
    return flat * 1.5


def constant_written(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    place = torch.zeros(y.shape)
    place[:, :4] = y[:, :4]
    return net.b(place)


def half_copied(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y[:, :, ::2].copy_(y[:, :, 1::2])
    return y


def masked(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    y.masked_fill_(net.scratch[0] == 0, 0.5)
    return net.b(y)


REFUSED = [
    (
        slice_written,
        r"reads a tensor into a part of which.*'setitem' wrote in place.*line \d+: y\[:, :4\] = 0",
    ),
    (slice_scaled, r"'mul' wrote in place \[test_side_effects.py, line \d+: y\[:, 2\]\.mul_\(3\.0\)"),
    (half_of_a_chunk, r"'relu' wrote in place.*first\.relu_\(\)"),
    (flat_then_written, r"through a view of which.*'relu' wrote in place.*y\.flatten\(1\)\.relu_\(\)"),
    (older_view, r"'relu' wrote in place.*y\.relu_\(\)"),
    (constant_written, r"'setitem' wrote in place.*place\[:, :4\]"),
    (half_copied, r"output reads.*'copy' wrote in place"),
    (masked, r"masked_fill is not supported.*line \d+: y\.masked_fill_"),
]


@pytest.mark.parametrize(("function", "message"), REFUSED)
def test_what_is_written_into_a_part_is_refused_with_its_line(function: Function, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        export(model_of(function), images())


def test_a_written_part_that_nobody_reads_does_not_matter() -> None:
    def function(net: Any, x: Tensor) -> Any:
        y = net.a(x)
        copy = y.clone()
        copy[:, :4] = 0
        return net.b(y)

    model, x = model_of(function), images()
    assert [node.name for node in trace(model, x).nodes] == ["a", "b"]
    assert signal_to_noise(export(model, x), model, x) > ENOUGH_DB


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_computed_out_of_sight_is_no_constant() -> None:
    """A scripted function runs where no call is seen; its gate would look like a constant of each channel."""
    gate = torch.jit.script(_gate)
    for x in (images(), images()[:1]):
        with pytest.raises(UnsupportedError, match="constant differs between the inputs of a batch"):
            trace(model_of(lambda net, y: net.b(net.a(y) * gate(y))), x)


def _gate(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3), keepdim=True)


def test_a_graph_that_computes_something_else_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("golden.quantize.graph_builder.GraphBuilder.clamp", lambda graph, call, value, *_: (
        graph.put(call, graph.places[value].name)  # a ReLU that does nothing
    ))  # fmt: skip
    with pytest.raises(NetworkError, match=r"layer 'a' computes something else than the module"):
        trace(model_of(method), images())
