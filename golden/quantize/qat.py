# SPDX-License-Identifier: Apache-2.0
"""Quantisation-aware training: a PyTorch module whose forward pass is an integer network, to the last bit.

`prepare_qat` makes the module from a trained float one, `convert` makes the `Network` from it. In between the
module trains like any other; `golden.quantize.fake_quantize` has its operators.

What is trained: weights, biases, and one weight scale per output channel. Batch normalisation is folded into
the weights before; the scales take over its part. Activation ranges follow the batches in training mode until
`freeze_ranges`. Adam suits it: the scales' logarithms are trained, so one step size fits layers of any scale.

Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", CVPR 2018 (ranges, moving averages).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from torch import nn

from common.arrays import Int8
from common.errors import ArithmeticRangeError, NetworkError, NpuloopError, ShapeError
from golden import host
from golden.network import Network, Tensor
from golden.quantize.fake_quantize import (
    Activation,
    FakeQuantOperator,
    FakeQuantWeighted,
    activation_of,
    fake_quant_operator,
)
from golden.quantize.float_graph import FloatGraph, as_image
from golden.quantize.ranges import Method, RangeObserver
from golden.quantize.trace import trace
from golden.quantize.weights import Widths, layer_widths

Batches: TypeAlias = torch.Tensor | Iterable[Any]
"""Calibration data: a float tensor, (N, C, H, W), (N, C, L) or (N, C), or an iterable (a DataLoader) of such
tensors or of tuples that begin with one."""


# --------------------------------------------------------------------------------------------------- network
class QatNetwork(nn.Module):
    """A network in quantisation-aware training; made by `prepare_qat`.

    Attributes:
        name: of the network.
        input_name: of its input tensor.
        input: the input's quantisation; training does not change it.
        operators: the operators in the order in which they run.
    """

    def __init__(
        self, name: str, graph: FloatGraph, operators: Iterable[FakeQuantOperator], source: Tensor
    ) -> None:
        super().__init__()
        self.name = name
        self.input_name = graph.input_name
        self.input = source
        self.operators = nn.ModuleList(operators)

    def __iter__(self) -> Iterator[FakeQuantOperator]:
        """Return the operators in the order in which they run."""
        return iter(cast("Iterable[FakeQuantOperator]", self.operators))

    def operator(self, name: str) -> FakeQuantOperator:
        """Return the operator that makes the tensor `name`.

        Raises:
            NetworkError: there is none.
        """
        for operator in self:
            if operator.spec.name == name:
                return operator
        names = ", ".join(operator.spec.name for operator in self)
        raise NetworkError(f"network {self.name!r} has no layer {name!r}; it has {names}")

    def weighted(self, name: str) -> FakeQuantWeighted:
        """Return the layer `name`, which has weights.

        Raises:
            NetworkError: there is none, or it has no weights.
        """
        operator = self.operator(name)
        if not isinstance(operator, FakeQuantWeighted):
            raise NetworkError(f"network {self.name!r}: {name!r} is {operator.spec.op}, which has no weights")
        return operator

    def freeze_ranges(self, frozen: bool = True) -> None:
        """Stop the activation ranges from following the batches in training mode, or let them again."""
        for module in self.modules():
            if isinstance(module, RangeObserver):
                module.frozen = frozen

    def activations(self, x: torch.Tensor) -> dict[str, Activation]:
        """Run the network; return every tensor by name, the input first.

        Args:
            x: real values, (N, C, H, W) or (N, C).

        Raises:
            ShapeError: another input.
            ArithmeticRangeError: an accumulator could leave int32.
        """
        values = {self.input_name: activation_of(self.input, _quantize(x, self.input), as_image(x))}
        for operator in self:
            inputs = [values[name] for name in operator.spec.inputs]
            values[operator.spec.name] = operator(*inputs)
        return values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output's real values, float32, (N, C, H, W) or (N, C); see `activations`.

        A sequence (N, C, L) comes out as an image (N, C, 1, L).
        """
        return list(self.activations(x).values())[-1].real

    def integers(self, x: torch.Tensor) -> dict[str, Int8]:
        """Return every tensor as `golden.network.run_network` gives it. See `activations`."""
        with torch.no_grad():
            return {name: value.q for name, value in self.activations(x).items()}


def _quantize(x: torch.Tensor, tensor: Tensor) -> Int8:
    """Return real values, channels first, as the int8 values of `tensor`, channels last."""
    expected_shape = (tensor.shape[-1], *tensor.shape[:-1])
    if tensor.shape[:-1][:1] == (1,):
        x = as_image(x)
    if not x.is_floating_point() or tuple(x.shape[1:]) != expected_shape or not len(x):
        raise ShapeError(
            f"the network reads floating-point (N, {expected_shape}), not {x.dtype} {tuple(x.shape)}"
        )
    real = x.detach().float().movedim(1, -1).cpu().numpy()
    return host.quantize(real, tensor.scale, tensor.zero_point)


def quantize_input(network: Network, x: torch.Tensor) -> Int8:
    """Return real values as the network reads them.

    Args:
        network: gives the input's scale and zero point.
        x: (N, C, H, W), (N, C, L) or (N, C), floating point.

    Returns:
        (N, H, W, C) or (N, C) int8.

    Raises:
        ShapeError: another shape or type.
        ArithmeticRangeError: values that are not finite.
    """
    return _quantize(x, network.input)


# --------------------------------------------------------------------------------------- making, converting
def prepare_qat(
    model: nn.Module,
    batches: Batches,
    *,
    weight_bits: int | Mapping[str, Widths] = 8,
    name: str = "network",
    ranges: Method = "minmax",
    input_scale: float | None = None,
    input_zero_point: int = 0,
) -> QatNetwork:
    """Make a network for quantisation-aware training from a trained float module, which stays as it is.

    Batch normalisation is folded in with its running statistics, weights get the scales with the least
    squared error, and the activations' ranges are measured on the data, with these weights.

    Args:
        model: see `golden.quantize.trace` for what is supported.
        batches: calibration data, typical inputs of the module.
        weight_bits: 2 to 8; one width for all layers, or widths by layer name, where an array holds one for
            each output channel. Layers that are not named have 8 bits.
        name: of the network.
        ranges: how activation ranges are chosen; see `golden.quantize.ranges.measure`.
        input_scale, input_zero_point: quantisation of the input; measured where no scale is given.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        UnsupportedError: the module has something that `trace.trace` does not support.
        NetworkError: the module cannot be traced, or there are no data.
        ShapeError: batches or widths do not fit; the message names the layer.
    """
    return prepare(
        model,
        batches,
        weight_bits=weight_bits,
        name=name,
        ranges=ranges,
        input_scale=input_scale,
        input_zero_point=input_zero_point,
    ).qat


@dataclass(frozen=True, eq=False)
class Prepared:
    """What `prepare` made.

    Attributes:
        qat: the network in training.
        graph: the float network that it was made from.
        images: the first batch of calibration data, float32.
    """

    qat: QatNetwork
    graph: FloatGraph
    images: torch.Tensor


def prepare(
    model: nn.Module,
    batches: Batches,
    *,
    weight_bits: int | Mapping[str, Widths],
    name: str,
    ranges: Method,
    input_scale: float | None,
    input_zero_point: int,
) -> Prepared:
    """Do as `prepare_qat`, and also return the float network and a batch of the data."""
    data = _images(batches)
    first = next(data, None)
    if first is None:
        raise NetworkError(f"network {name!r}: there are no calibration data")
    try:
        graph = trace(model, first)
        weighted = {node.name: len(node.weight) for node in graph.nodes if node.weight is not None}
        others = [node.name for node in graph.nodes if node.weight is None]
        widths = layer_widths(weight_bits, weighted, others)
        operators = [fake_quant_operator(node, ranges, widths) for node in graph.nodes]
    except NpuloopError as error:
        raise type(error)(f"network {name!r}: {error}") from error
    source_range = RangeObserver("minmax")
    for batch in _chain(first, data):
        source_range.calibrate(batch)
        _calibrate(operators, graph.input_name, batch)
    if input_scale is None:
        input_scale, input_zero_point = source_range.scale_and_zero_point()
    source = Tensor(shape=graph.input_shape, scale=input_scale, zero_point=input_zero_point)
    return Prepared(QatNetwork(name, graph, operators, source), graph, first.float())


def _images(batches: Batches) -> Iterator[torch.Tensor]:
    """Return the input tensors of calibration batches, on the CPU."""
    if not isinstance(batches, (torch.Tensor, Iterable)):
        raise ShapeError(
            f"calibration data are a {type(batches).__name__}; give a tensor or an iterable of them"
        )
    for batch in [batches] if isinstance(batches, torch.Tensor) else batches:
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        if not isinstance(images, torch.Tensor):
            raise ShapeError(f"a calibration batch is a {type(images).__name__}; give tensors")
        if not images.ndim:
            raise ShapeError("a calibration batch is one number; give a batch, (N, ...)")
        if not bool(images.isfinite().all()):
            raise ArithmeticRangeError("calibration data have values that are not finite")
        if len(images):
            yield images.detach().cpu()


def _chain(first: torch.Tensor, rest: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    yield first.float()
    for batch in rest:
        if batch.shape[1:] != first.shape[1:]:
            raise ShapeError(f"calibration batches of {tuple(first.shape[1:])} and {tuple(batch.shape[1:])}")
        yield batch.float()


def _calibrate(operators: Iterable[FakeQuantOperator], input_name: str, batch: torch.Tensor) -> None:
    """Run a batch with quantised weights and float activations, and take in its ranges."""
    values = {input_name: as_image(batch)}
    with torch.no_grad():
        for operator in operators:
            output = operator.surrogate([values[name] for name in operator.spec.inputs], None)
            operator.calibrate(output)
            values[operator.spec.name] = output


def convert(qat: QatNetwork) -> Network:
    """Return the integer network of the present parameters: what the forward pass computes.

    Raises:
        ArithmeticRangeError: training has made a parameter or a range something that integers cannot hold;
            the message names the layer.
    """
    tensors = {qat.input_name: qat.input}
    nodes = []
    for operator in qat:
        node = operator.node([tensors[name] for name in operator.spec.inputs])
        tensors[operator.spec.name] = node.output
        nodes.append(node)
    return Network(name=qat.name, input_name=qat.input_name, input=qat.input, nodes=tuple(nodes))
