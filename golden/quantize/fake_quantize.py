# SPDX-License-Identifier: Apache-2.0
"""Operators of a network in quantisation-aware training: integers forward, gradients of floating point back.

In every forward pass an operator turns its present parameters into the integer constants of its layer, runs
the golden model on them (`golden.network.run_node`, on the CPU), and passes the real values of the result on:
s (q - z). Gradients are those of the operator in floating point on quantised weights, cut off where the clamp
of the output is hit (straight-through estimator).

Sources: Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013
    (straight-through estimator); Esser et al., "Learned Step Size Quantization", ICLR 2020 (scales that
    learn); Jain et al., "Trained Quantization Thresholds", MLSys 2020 (their logarithms).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from common.arrays import Int8
from common.errors import ArithmeticRangeError, NpuloopError
from golden.arithmetic import quantize_add
from golden.layer import WEIGHTED_OPS, Layer
from golden.network import Node, Tensor, placeholder, run_node
from golden.quantize.float_graph import FloatNode, compute
from golden.quantize.ranges import Method, RangeObserver
from golden.quantize.weights import Widths, best_scales, channel_widths, rescaling

_LARGEST_BIAS = 2.0**30  # of an integer bias; a smaller weight scale would make it larger


@dataclass(frozen=True, eq=False)
class Activation:
    """A tensor of the forward pass.

    Attributes:
        tensor: its quantisation, as in the network.
        q: what `golden.network.run_network` gives, (N, H, W, C) or (N, C).
        real: float32, (N, C, H, W) or (N, C): scale * (q - zero_point), with gradients.
    """

    tensor: Tensor
    q: Int8
    real: torch.Tensor


def with_gradient(value: torch.Tensor, surrogate: torch.Tensor) -> torch.Tensor:
    """Return exactly `value`, with the gradient of `surrogate` (straight-through estimator)."""
    return value.detach() + (surrogate - surrogate.detach())


def activation_of(tensor: Tensor, q: Int8, surrogate: torch.Tensor) -> Activation:
    """Return the activation with the integers q, and the gradient of `surrogate` where it is in range."""
    low, high = ((limit - tensor.zero_point) * tensor.scale for limit in (-128, 127))
    real = torch.from_numpy(((q.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(np.float32))
    return Activation(
        tensor, q, with_gradient(real.movedim(-1, 1).to(surrogate.device), surrogate.clamp(low, high))
    )


def _act_bounds(spec: FloatNode, output: Tensor) -> dict[str, Any]:
    """Return the clamp of a node as act_min and act_max."""
    bounds = {"act_min": -128, "act_max": 127}
    for key, limit in (("act_min", spec.low), ("act_max", spec.high)):
        if math.isfinite(limit):
            bounds[key] = min(max(round(limit / output.scale) + output.zero_point, -128), 127)
    return bounds


# ------------------------------------------------------------------------------------------------- operators
class FakeQuantOperator(nn.Module):
    """One operator of a network in training. Base class; the subclasses say how the operator computes.

    Attributes:
        spec: name, operator, inputs and geometry.
    """

    def __init__(self, spec: FloatNode) -> None:
        super().__init__()
        self.spec = replace(spec, weight=None, bias=None)

    def output(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the quantisation of the output; here the input's."""
        return replace(sources[0], shape=self.spec.shape)

    def node(self, sources: Sequence[Tensor]) -> Node:
        """Return the operator as a node of the integer network, from the present parameters.

        Args:
            sources: the quantisation of its inputs.

        Raises:
            ArithmeticRangeError: training has made a parameter or a range something that integers cannot
                hold; the message names the layer.
        """
        try:
            return self._make(sources)
        except NpuloopError as error:
            raise type(error)(f"layer {self.spec.name!r}: {error}") from None

    def _make(self, sources: Sequence[Tensor]) -> Node:
        raise NotImplementedError

    def surrogate(self, reals: Sequence[torch.Tensor], source: Tensor | None) -> torch.Tensor:
        """Return the operator in floating point, before its output is quantised: what gradients follow.

        Args:
            reals: the input tensors.
            source: the quantisation of the first, None in calibration, where it is not known yet.
        """
        raise NotImplementedError

    def calibrate(self, surrogate: torch.Tensor) -> None:
        """Take a batch of outputs into the output's range; do nothing where that is the input's."""

    def follow(self, surrogate: torch.Tensor) -> None:
        """Let the output's range follow a training batch."""

    def forward(self, *inputs: Activation) -> Activation:
        """Run the operator; in training mode the output's range follows the batch first."""
        sources = [item.tensor for item in inputs]
        surrogate = self.surrogate([item.real for item in inputs], sources[0])
        if self.training:
            self.follow(surrogate)
        node = self.node(sources)
        integers = run_node(node, [item.q for item in inputs], sources[0], self.activation_bits())
        return activation_of(node.output, integers, surrogate)

    def activation_bits(self) -> Int8 | int:
        """Return the width of the activations that are multiplied; see `golden.network.run_node`."""
        return 8

    def _node(self, output: Tensor, **values: Any) -> Node:
        """Return the node with this output, and a layer with the constants `values`."""
        spec = self.spec
        layer = Layer(name=spec.name, op=spec.op, **values, **_act_bounds(spec, output))
        return Node(name=spec.name, op=spec.op, inputs=spec.inputs, output=output, layer=layer)


class _Requantizing(FakeQuantOperator):
    """An operator with a range of its own."""

    def __init__(self, spec: FloatNode, method: Method) -> None:
        super().__init__(spec)
        self.range = RangeObserver(method)

    def output(self, _sources: Sequence[Tensor]) -> Tensor:
        """Return the quantisation of the present range."""
        scale, zero_point = self.range.scale_and_zero_point()
        return Tensor(shape=self.spec.shape, scale=scale, zero_point=zero_point)

    def calibrate(self, surrogate: torch.Tensor) -> None:
        """Take a batch of outputs into the range."""
        self.range.calibrate(surrogate)

    def follow(self, surrogate: torch.Tensor) -> None:
        """Let the range follow a training batch."""
        self.range.follow(surrogate)


class FakeQuantWeighted(_Requantizing):
    """conv2d, depthwise_conv2d or fully_connected.

    Attributes:
        weight: float, PyTorch's order of axes, output channels first; batch normalisation is folded in.
        bias: (K,) float.
        log_scale: (K,) float, the logarithm of each weight scale over its initial value.
        initial_scale: (K,) float64, the scale with the least squared error when the width was set.
        weight_bits: (K,) int8, the width of each output channel's weights.
        a_bits: (K,) int8, the width of the activations that each output channel multiplies.
    """

    initial_scale: torch.Tensor
    weight_bits: torch.Tensor
    a_bits: torch.Tensor

    def __init__(self, spec: FloatNode, method: Method, weight_bits: Int8) -> None:
        super().__init__(spec, method)
        assert spec.weight is not None
        assert spec.bias is not None
        channels = len(spec.weight)
        self.weight = nn.Parameter(spec.weight.clone())
        self.bias = nn.Parameter(spec.bias.clone())
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initial_scale", torch.ones(channels, dtype=torch.float64))
        self.register_buffer("weight_bits", torch.full((channels,), 8, dtype=torch.int8))
        self.register_buffer("a_bits", torch.full((channels,), 8, dtype=torch.int8))
        self.set_weight_bits(weight_bits)

    def set_weight_bits(self, bits: Widths) -> None:
        """Give the weights a width and, for it, the scales with the least squared error.

        Args:
            bits: 2 to 8; one number, or one for each output channel.

        Raises:
            UnsupportedError: a width outside 2 to 8.
            ShapeError: an array of another length than K.
        """
        widths = channel_widths(bits, len(self.weight))
        rows = self.weight.detach().flatten(start_dim=1).cpu().double().numpy()
        self.weight_bits.copy_(torch.from_numpy(widths))
        self.initial_scale.copy_(torch.from_numpy(best_scales(rows, widths)))
        with torch.no_grad():
            self.log_scale.zero_()

    def set_a_bits(self, bits: Widths) -> None:
        """Give the multiplied activations a width: that of the unit that computes the output channel.

        Args and raises: as `set_weight_bits`.
        """
        self.a_bits.copy_(torch.from_numpy(channel_widths(bits, len(self.weight))))

    def scales(self, source: Tensor | None = None) -> torch.Tensor:
        """Return the real value of a weight of 1, (K,) float64 with gradients.

        With the input's quantisation `source` it is at least what keeps the integer bias below 2^30.
        """
        scales = self.initial_scale * self.log_scale.double().exp()
        if source is None:
            return scales
        return torch.maximum(scales, self.bias.detach().double().abs() / (source.scale * _LARGEST_BIAS))

    def quantized_weight(self, source: Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return integer weights and their scales (K,), float64 with gradients; weight = scale * integer.

        The gradient passes to weights inside the range, and to the scale by the rounding error of those and
        the limit of the others (Esser et al., with their factor 1 / sqrt(n * limit)).
        """
        limits = 2.0 ** (self.weight_bits.double() - 1) - 1
        scales = self.scales(source)
        share = (limits * self.weight[0].numel()).rsqrt()
        scales = with_gradient(scales, scales * share)
        shape = (-1, *[1] * (self.weight.ndim - 1))
        limits = limits.reshape(shape)
        quotients = (self.weight.double() / scales.reshape(shape)).clamp(-limits, limits)
        return with_gradient(quotients.round(), quotients), scales

    def surrogate(self, reals: Sequence[torch.Tensor], source: Tensor | None) -> torch.Tensor:
        """Return the operator in floating point; see the base class."""
        integers, scales = self.quantized_weight(source)
        weight = (integers * scales.reshape(-1, *[1] * (integers.ndim - 1))).float()
        return compute(self.spec, reals, weight, self.bias)

    def _make(self, sources: Sequence[Tensor]) -> Node:
        source, output, spec = sources[0], self.output(sources), self.spec
        with torch.no_grad():
            integers, scales = (item.cpu() for item in self.quantized_weight(source))
            bias = (self.bias.cpu().double() / (source.scale * scales)).round()
        if not all(bool(values.isfinite().all()) for values in (integers, scales, bias)):
            raise ArithmeticRangeError("its parameters are no longer finite; train with a smaller step")
        weight_scales = scales.numpy()
        multiplier, shift = rescaling(source.scale, weight_scales, output.scale)
        values: dict[str, Any] = {
            "input": placeholder(source.shape),
            "weights": _layer_weights(spec.op, integers),
            "bias": bias.numpy().astype(np.int32),
            "multiplier": multiplier,
            "shift": shift,
            "input_zero_point": source.zero_point,
            "output_zero_point": output.zero_point,
        }
        if spec.op != "fully_connected":
            values |= {"stride": spec.stride, "dilation": spec.dilation, "padding": spec.padding}
        return replace(
            self._node(output, **values),
            weight_scales=weight_scales,
            weight_bits=self.weight_bits.cpu().numpy().copy(),
        )

    def activation_bits(self) -> Int8:
        """Return the widths, (K,), as `set_a_bits` made them."""
        bits: Int8 = self.a_bits.cpu().numpy()
        return bits


def _layer_weights(op: str, weights: torch.Tensor) -> Int8:
    """Return integer weights in the order of axes of `golden.layer`."""
    order = {"conv2d": (0, 2, 3, 1), "depthwise_conv2d": (1, 2, 3, 0), "fully_connected": (0, 1)}[op]
    array: Int8 = weights.permute(order).to(torch.int8).contiguous().numpy()
    return array


class FakeQuantAdd(_Requantizing):
    """The sum of two tensors."""

    def surrogate(self, reals: Sequence[torch.Tensor], _source: Tensor | None) -> torch.Tensor:
        """Return the operator in floating point; see the base class."""
        return compute(self.spec, reals)

    def _make(self, sources: Sequence[Tensor]) -> Node:
        output = self.output(sources)
        return self._node(
            output,
            input=placeholder(sources[0].shape),
            input2=placeholder(sources[1].shape),
            input1_zero_point=sources[0].zero_point,
            input2_zero_point=sources[1].zero_point,
            output_zero_point=output.zero_point,
            **quantize_add(sources[0].scale, sources[1].scale, output.scale),
        )


class FakeQuantPool(FakeQuantOperator):
    """average_pool or max_pool; the output has the input's scale and zero point."""

    def surrogate(self, reals: Sequence[torch.Tensor], _source: Tensor | None) -> torch.Tensor:
        """Return the operator in floating point; see the base class."""
        return compute(self.spec, reals)

    def _make(self, sources: Sequence[Tensor]) -> Node:
        spec = self.spec
        return self._node(
            self.output(sources),
            input=placeholder(sources[0].shape),
            kernel=spec.kernel,
            stride=spec.stride,
            padding=spec.padding,
        )


class FakeQuantReshape(FakeQuantOperator):
    """Another shape of the same values, channels last, in their order."""

    def surrogate(self, reals: Sequence[torch.Tensor], _source: Tensor | None) -> torch.Tensor:
        """Return the operator in floating point; see the base class."""
        return compute(self.spec, reals)

    def _make(self, sources: Sequence[Tensor]) -> Node:
        spec = self.spec
        return Node(name=spec.name, op=spec.op, inputs=spec.inputs, output=self.output(sources))


class FakeQuantSoftmax(FakeQuantOperator):
    """A softmax over (C,), which the host computes; its output's quantisation is always the same."""

    def output(self, _sources: Sequence[Tensor]) -> Tensor:
        """Return the quantisation of probabilities: steps of 1 / 256 from 0."""
        return Tensor(shape=self.spec.shape, scale=1 / 256, zero_point=-128)

    def surrogate(self, reals: Sequence[torch.Tensor], _source: Tensor | None) -> torch.Tensor:
        """Return the operator in floating point; see the base class."""
        return compute(self.spec, reals)

    def _make(self, sources: Sequence[Tensor]) -> Node:
        spec = self.spec
        return Node(name=spec.name, op=spec.op, inputs=spec.inputs, output=self.output(sources))


def fake_quant_operator(spec: FloatNode, method: Method, widths: Mapping[str, Int8]) -> FakeQuantOperator:
    """Return a float operator as one in training.

    Args:
        spec: the operator, with its trained weights.
        method: how its output's range is chosen.
        widths: (K,) int8 for each layer of another weight width than 8 bits, by name.
    """
    if spec.op in WEIGHTED_OPS:
        assert spec.weight is not None
        default = channel_widths(8, len(spec.weight))
        return FakeQuantWeighted(spec, method, widths.get(spec.name, default))
    if spec.op == "add":
        return FakeQuantAdd(spec, method)
    others = {"reshape": FakeQuantReshape, "softmax": FakeQuantSoftmax}
    return others.get(spec.op, FakeQuantPool)(spec)
