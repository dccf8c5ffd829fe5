# SPDX-License-Identifier: Apache-2.0
"""Weights in training as mixtures of what each unit would make of them, or as one unit makes them.

Every output channel of every layer with weights has a logit for each unit; the layer computes with
sum_u softmax(logits / temperature)_u * Q_u(weight), Q_u quantising to the width of unit u. It is one
convolution per layer, whatever the number of units: only the weights, which are few, are quantised more than
once. The module itself stays as it is; its weights are parametrised (torch.nn.utils.parametrize).

Sources: Risso, Burrello, Jahier Pagliari, "Optimizing DNN Inference on Multi-Accelerator SoCs at
    Training-time" (the mixture); Esser et al., "Learned Step Size Quantization", ICLR 2020 (scales that
    learn).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from common.arrays import Bools, Floats, Int8
from golden.arithmetic import weight_range
from golden.quantize.weights import best_scales


class QuantizedWeight(nn.Module):
    """The parametrisation of one weight.

    Args:
        weight: (K, ...) its present value.
        bits: (U, K) width of each choice for each output channel.
        allowed: (U,) choices that the layer has; all by default.
        tied: all channels share one set of logits: the layer is not split.

    Attributes:
        logits: (K, U), or (1, U) where tied; None where there is but one choice.
        temperature: of the softmax.
    """

    initial_scales: Tensor
    limits: Tensor
    barred: Tensor

    def __init__(
        self,
        weight: Tensor,
        bits: Sequence[Int8],
        allowed: Iterable[bool] | None = None,
        *,
        tied: bool = False,
    ) -> None:
        super().__init__()
        rows = weight.detach().flatten(start_dim=1).double().numpy()
        scales = np.stack([best_scales(rows, widths) for widths in bits])
        limits = [[weight_range(int(width))[1] for width in widths] for widths in bits]
        self.register_buffer("initial_scales", torch.from_numpy(scales).float())
        self.register_buffer("limits", torch.tensor(limits, dtype=torch.float32))
        choices = list(allowed) if allowed is not None else [True] * len(bits)
        self.register_buffer("barred", torch.tensor([0.0 if choice else -torch.inf for choice in choices]))
        self.log_scales = nn.Parameter(torch.zeros_like(self.initial_scales))
        self.logits = (
            nn.Parameter(torch.zeros(1 if tied else len(weight), len(bits))) if len(bits) > 1 else None
        )
        self.temperature = 1.0

    def probabilities(self) -> Tensor:
        """Return each output channel's share on each unit, (K, U), or (1, U) where tied; rows sum to 1."""
        if self.logits is None:
            return torch.ones(1, 1)
        return (self.logits / self.temperature + self.barred).softmax(dim=1)

    def expected(self) -> Tensor:
        """Return the expected output channels on each unit, (U,)."""
        return self.probabilities().mean(dim=0) * self.limits.shape[1]

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight to compute with, in the shape of `weight`."""
        mixed: Tensor = _Mixed.apply(weight, self.log_scales, self.logits, self)  # type: ignore[no-untyped-call]
        return mixed


class _Mixed(torch.autograd.Function):
    """sum_u share[u] * scale[u] * clamp(round(weight / scale[u])), with straight-through gradients.

    As in `quantize.qat`: the gradient passes to weights inside the range, and to a scale by the rounding
    error of those and the limit of the others, times 1 / sqrt(n * limit). It is one function, not a graph of
    many, because small networks would spend most of a step on the graph.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, log_scales: Tensor, _logits: Tensor | None, layer: QuantizedWeight
    ) -> Tensor:
        each = (*layer.limits.shape, *[1] * (weight.ndim - 1))  # (U, K, 1, ...)
        scales = layer.initial_scales * log_scales.exp()
        shares = layer.probabilities().t()
        limits = layer.limits.view(each)
        quotients = weight / scales.view(each)
        integers = quotients.round().clamp_(-limits, limits)
        ctx.save_for_backward(quotients, integers, scales, shares, limits)
        ctx.temperature = layer.temperature
        factors = (shares * scales).reshape(each)
        mixed = integers[0] * factors[0]
        for unit in range(1, len(integers)):
            mixed = torch.addcmul(mixed, integers[unit], factors[unit])
        return mixed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        quotients, integers, scales, shares, limits = ctx.saved_tensors
        rest = tuple(range(2, quotients.ndim))
        inside = (quotients.abs() <= limits).to(gradient.dtype)
        full = shares.expand_as(scales).view(limits.shape)
        to_weight = (full * inside).sum(dim=0) * gradient
        rates = (limits.view(scales.shape) * gradient[0].numel()).rsqrt() * shares * scales
        errors = torch.addcmul(integers, quotients, inside, value=-1)
        to_log_scales = (errors * gradient).sum(dim=rest) * rates
        to_logits = None
        if ctx.needs_input_grad[2]:
            to_shares = (integers * gradient).sum(dim=rest) * scales
            mean = (shares * to_shares).sum(dim=0)
            to_logits = (shares * (to_shares - mean)).t() / ctx.temperature
            if shares.shape[1] == 1:  # tied
                to_logits = to_logits.sum(dim=0, keepdim=True)
        return to_weight, to_log_scales, to_logits, None


def parametrise(module: nn.Module, layers: Mapping[str, QuantizedWeight]) -> None:
    """Let the weights of these submodules, by path, pass through their parametrisation."""
    for name, layer in layers.items():
        parametrize.register_parametrization(module.get_submodule(name), "weight", layer)


def bake(module: nn.Module, names: Iterable[str]) -> None:
    """End the parametrisation of these submodules; the weights keep the values that they computed with."""
    for name in names:
        parametrize.remove_parametrizations(module.get_submodule(name), "weight", leave_parametrized=True)


class Mixture:
    """A module whose layers' units are searched for.

    Args:
        module: changed in place: its weights become mixtures.
        layers: (L) paths of the submodules with weights.
        bits: (U) width of each unit's weights.
        allowed: (L, U) which unit may run which layer.
        tied: layers are not split.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str],
        bits: Sequence[int],
        allowed: Bools,
        *,
        tied: bool = False,
    ) -> None:
        self.module = module
        self.layers: dict[str, QuantizedWeight] = {}
        for name, choices in zip(layers, allowed, strict=True):
            weight = module.get_submodule(name).weight
            assert isinstance(weight, Tensor)
            widths = [np.full(len(weight), width, np.int8) for width in bits]
            self.layers[name] = QuantizedWeight(weight, widths, choices.tolist(), tied=tied)
        parametrise(module, self.layers)

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of every softmax."""
        for layer in self.layers.values():
            layer.temperature = temperature

    def expected(self) -> Tensor:
        """Return the expected channels of every layer on every unit, (L, U), with gradients."""
        return torch.stack([layer.expected() for layer in self.layers.values()])

    def preferences(self) -> list[Floats]:
        """Return how much each channel prefers each unit: for each layer (K, U), rows sum to 1."""
        with torch.no_grad():
            return [
                layer.probabilities().expand(layer.limits.shape[1], -1).double().numpy()
                for layer in self.layers.values()
            ]

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by role: logits, scales, and the module's own."""
        logits = [layer.logits for layer in self.layers.values() if layer.logits is not None]
        scales = [layer.log_scales for layer in self.layers.values()]
        special = {id(item) for item in (*logits, *scales)}
        own = [item for item in self.module.parameters() if id(item) not in special]
        return {"logits": logits, "scales": scales, "own": own}


def fixed_weights(module: nn.Module, bits: Mapping[str, Int8]) -> dict[str, QuantizedWeight]:
    """Quantise the weights of submodules, by path, to given widths, (K,) each; the module is changed."""
    layers = {}
    for name, widths in bits.items():
        weight = module.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        layers[name] = QuantizedWeight(weight, [widths])
    parametrise(module, layers)
    return layers
