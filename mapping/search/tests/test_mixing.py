# SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from golden.quantize.weights import best_scales, nearest_weights
from mapping.search.mixing import Mixture, QuantizedWeight, bake, fixed_weights

BITS = (8, 2)


def layer(weight: torch.Tensor, **options: Any) -> QuantizedWeight:
    widths = [np.full(len(weight), bits, np.int8) for bits in BITS]
    return QuantizedWeight(weight, widths, **options)


def graph_mixture(weight: torch.Tensor, quantized: QuantizedWeight) -> torch.Tensor:
    """The mixture as a graph of plain operations, with Esser's gradients as golden.quantize.qat has them."""
    rows = weight.flatten(start_dim=1)
    scales = quantized.initial_scales * quantized.log_scales.exp()
    shares = quantized.probabilities().expand(len(weight), -1)
    total = torch.zeros_like(rows)
    for unit in range(len(BITS)):
        limit, scale = quantized.limits[unit][:, None], scales[unit][:, None]
        slow = scale * (limit * rows.shape[1]).rsqrt()
        scale = scale.detach() + slow - slow.detach()
        inside = torch.minimum(torch.maximum(rows / scale, -limit), limit)
        total = total + shares[:, unit : unit + 1] * scale * (
            inside.round().detach() + inside - inside.detach()
        )
    return total.reshape(weight.shape)


@pytest.mark.parametrize("tied", [False, True])
def test_the_mixture_and_its_gradients_equal_a_graph_of_plain_operations(tied: bool) -> None:
    torch.manual_seed(3)
    weight = torch.randn(6, 3, 3, 3, requires_grad=True)
    quantized = layer(weight, tied=tied)
    with torch.no_grad():
        for parameter in (quantized.logits, quantized.log_scales):
            assert parameter is not None
            parameter.normal_(0, 0.2)
    quantized.temperature = 0.7
    assert quantized.logits is not None
    parameters = (weight, quantized.log_scales, quantized.logits)
    direction = torch.randn_like(weight)
    value, by_graph = quantized(weight), graph_mixture(weight, quantized)
    assert torch.allclose(value, by_graph, atol=1e-6)
    gradients = torch.autograd.grad((value * direction).sum(), parameters)
    expected = torch.autograd.grad((by_graph * direction).sum(), parameters)
    for own_gradient, gradient in zip(gradients, expected, strict=True):
        assert float(gradient.abs().max()) > 0.05
        assert torch.allclose(own_gradient, gradient, atol=2e-6)


def test_a_channel_that_wants_one_unit_has_exactly_its_quantised_weights() -> None:
    torch.manual_seed(4)
    weight = torch.randn(4, 2, 3, 3)
    quantized = layer(weight)
    assert quantized.logits is not None
    with torch.no_grad():
        quantized.logits[:2, 0] += 200
        quantized.logits[2:, 1] += 200
    rows = weight.flatten(start_dim=1).double().numpy()
    bits = np.array([8, 8, 2, 2], np.int8)
    scales = best_scales(rows, bits)
    expected = nearest_weights(rows, scales, bits) * scales[:, None]
    assert np.allclose(quantized(weight).detach().flatten(start_dim=1).numpy(), expected, atol=1e-6)


def test_two_bit_weights_are_ternary_however_far_scales_have_moved() -> None:
    torch.manual_seed(5)
    weight = torch.randn(8, 40)
    quantized = QuantizedWeight(weight, [np.full(8, 2, np.int8)])
    with torch.no_grad():
        quantized.log_scales.uniform_(-3, 1)
    integers = quantized(weight) / (quantized.initial_scales * quantized.log_scales.exp()).t()
    values = torch.unique(integers.round())
    assert torch.allclose(integers, integers.round(), atol=1e-4)
    assert values.tolist() == [-1, 0, 1]


def test_a_unit_that_a_layer_may_not_have_gets_nothing_and_no_gradient() -> None:
    weight = torch.randn(4, 9, requires_grad=True)
    quantized = layer(weight, allowed=[False, True])
    assert quantized.expected().tolist() == [0, 4]
    quantized(weight).sum().backward()
    assert quantized.logits is not None
    assert quantized.logits.grad is not None
    assert torch.equal(quantized.logits.grad, torch.zeros(4, 2))


def test_expected_channels_are_the_sums_of_probabilities() -> None:
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3))
    mixture = Mixture(net, ("0", "2"), BITS, np.ones((2, 2), bool))
    first = mixture.layers["0"]
    assert first.logits is not None
    with torch.no_grad():
        first.logits[:3, 1] += 4
    expected = [preference.sum(axis=0) for preference in mixture.preferences()]
    assert np.allclose(mixture.expected().detach().numpy(), expected, atol=1e-5)
    assert expected[0][1] > 9
    assert expected[1].tolist() == [4, 4]


def test_the_channels_of_a_tied_layer_share_one_choice() -> None:
    net = nn.Sequential(nn.Conv2d(1, 16, 3))
    mixture = Mixture(net, ("0",), BITS, np.ones((1, 2), bool), tied=True)
    net(torch.randn(1, 1, 5, 5)).sum().backward()
    logits = mixture.layers["0"].logits
    assert logits is not None
    assert logits.shape == (1, 2)
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) > 0
    assert mixture.preferences()[0].shape == (16, 2)


def test_baked_weights_are_those_that_the_module_computed_with() -> None:
    torch.manual_seed(6)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))
    image = torch.randn(1, 2, 8, 8)
    bits = {"0": np.array([8, 2, 2, 8], np.int8), "2": np.array([2, 2, 8], np.int8)}
    fixed_weights(net, bits)
    before = net(image)
    bake(net, bits)
    assert type(net[0]) is nn.Conv2d
    assert torch.equal(net(image), before)
    assert len(torch.unique(net[0].weight[1])) <= 3 < len(torch.unique(net[0].weight[0]))
