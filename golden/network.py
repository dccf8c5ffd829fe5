"""A quantised network: a graph of operators with integer weights, and its exact executor.

A network has one input and one output. Its operators are those of `golden.layer`, which the units execute,
and four that cost no arithmetic or run on the host: reshape, softmax, quantize, dequantize.
`golden.network_file` reads and writes networks.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.arrays import Array, Floats, Int8
from common.errors import ArithmeticRangeError, NetworkError, NpuloopError, ShapeError, UnsupportedError
from golden import host, operators
from golden.arithmetic import check_bits
from golden.layer import OPS, POOL_OPS, WEIGHTED_OPS, Layer, layer_keys, macs, out_channels, output_shape

HOST_OPS = ("softmax", "quantize", "dequantize")
ALL_OPS = (*OPS, "reshape", *HOST_OPS)
DTYPES = ("int8", "float32")


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """What flows between operators: real = scale * (q - zero_point) for int8, the value itself for float32.

    Attributes:
        shape: without the batch axis; (H, W, C) or (C,), channels last.
        dtype: "int8" or "float32".
        scale, zero_point: of an int8 tensor.

    Raises:
        ShapeError: an axis is below 1.
        UnsupportedError: the element type is another.
        ArithmeticRangeError: the scale is not finite and positive, or the zero point is no int8 value.
    """

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: float = 1.0
    zero_point: int = 0

    def __post_init__(self) -> None:
        """Check the tensor; see the class."""
        if not self.shape or min(self.shape) < 1:
            raise ShapeError(f"a tensor of shape {self.shape}; every axis must be 1 or more")
        if self.dtype not in DTYPES:
            raise UnsupportedError(f"element type {self.dtype!r}; supported are {', '.join(DTYPES)}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ArithmeticRangeError(f"scale = {self.scale} must be finite and positive")
        if not -128 <= self.zero_point <= 127:
            raise ArithmeticRangeError(f"zero_point = {self.zero_point} is no int8 value")


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operator of a network; it makes the tensor of its name.

    Attributes:
        name: unique in the network.
        op: one of `ALL_OPS`.
        inputs: names of the tensors it reads: the network's input or earlier nodes; two for add, else one.
        output: what it makes.
        layer: constants and geometry of an operator of `golden.layer.OPS`, else None. Its input tensors are
            zeros of the right shape; data come from the executor.
        weight_scales: (K,) float64, real weight = scale * integer weight, for weighted operators.
        weight_bits: (K,) int8, the width that each output channel's weights were quantised to.
        beta: factor of a softmax's exponent.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    output: Tensor
    layer: Layer | None = None
    weight_scales: Floats | None = None
    weight_bits: Int8 | None = None
    beta: float = 1.0

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input; 0 for operators without weights."""
        return macs(self.layer) if self.layer is not None else 0

    @property
    def channels(self) -> int:
        """Output channels: the last axis."""
        return self.output.shape[-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A quantised network. One that exists is valid.

    Attributes:
        name: for messages and reports.
        input_name, input: the network's input.
        nodes: in an order in which they can run; the last one makes the network's output.

    Raises:
        NetworkError: it contradicts itself; the message names the network, the node and the fault.
    """

    name: str
    input_name: str
    input: Tensor
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        """Check the network; see the class."""
        if not self.nodes:
            raise NetworkError(f"network {self.name!r} has no operators")
        tensors = {self.input_name: self.input}
        for node in self.nodes:
            try:
                _check_node(node, tensors)
            except NpuloopError as error:
                raise NetworkError(f"network {self.name!r}, node {node.name!r}: {error}") from None
            tensors[node.name] = node.output

    @property
    def output_name(self) -> str:
        """The name of the output tensor."""
        return self.nodes[-1].name

    @property
    def output(self) -> Tensor:
        """The network's output."""
        return self.nodes[-1].output

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, the input first."""
        return {self.input_name: self.input} | {node.name: node.output for node in self.nodes}

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input."""
        return sum(node.macs for node in self.nodes)

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        return sum(node.layer.weights.size for node in self.nodes if node.layer is not None)

    def node(self, name: str) -> Node:
        """Return the node of that name.

        Raises:
            NetworkError: there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise NetworkError(
            f"network {self.name!r} has no layer {name!r}; "
            f"it has {', '.join(node.name for node in self.nodes)}"
        )


def _check_node(node: Node, tensors: Mapping[str, Tensor]) -> None:
    if node.op not in ALL_OPS:
        raise UnsupportedError(f"operator {node.op!r} is not supported; supported are {', '.join(ALL_OPS)}")
    if node.name in tensors:
        raise NetworkError("its name is already taken; names are unique")
    count = 2 if node.op == "add" else 1
    if len(node.inputs) != count:
        raise NetworkError(f"{node.op} reads {count} tensors, not {len(node.inputs)}")
    for name in node.inputs:
        if name not in tensors:
            raise NetworkError(f"reads {name!r}, which is neither the network's input nor an earlier node")
    inputs = [tensors[name] for name in node.inputs]
    if node.op in OPS:
        _check_layer_node(node, inputs)
    elif node.layer is not None:
        raise NetworkError(f"{node.op} has no layer")
    elif node.op == "reshape":
        source = inputs[0]
        if math.prod(node.output.shape) != math.prod(source.shape):
            raise ShapeError(f"{source.shape} cannot become {node.output.shape}")
        if (source.dtype, source.scale, source.zero_point) != (
            node.output.dtype, node.output.scale, node.output.zero_point,
        ):  # fmt: skip
            raise NetworkError("a reshape keeps its tensor's type, scale and zero point")
    else:
        _check_host_node(node, inputs[0])


def _check_host_node(node: Node, source: Tensor) -> None:
    types = {"softmax": ("int8", "int8"), "dequantize": ("int8", "float32")}
    expected = types.get(node.op, (source.dtype, "int8"))
    if (source.dtype, node.output.dtype) != expected:
        raise NetworkError(f"{node.op} turns {expected[0]} into {expected[1]}")
    if source.shape != node.output.shape:
        raise ShapeError(f"{node.op} keeps the shape, {source.shape} is not {node.output.shape}")
    if node.op == "softmax" and (node.output.scale != 1 / 256 or node.output.zero_point != -128):
        raise UnsupportedError("an int8 softmax has the output scale 1/256 and zero point -128")
    if not math.isfinite(node.beta) or node.beta <= 0:
        raise ArithmeticRangeError(f"beta = {node.beta} must be finite and positive")


def _check_layer_node(node: Node, inputs: Sequence[Tensor]) -> None:
    layer = node.layer
    if layer is None or layer.op != node.op:
        raise NetworkError(f"{node.op} needs its layer")
    if any(tensor.dtype != "int8" for tensor in (*inputs, node.output)):
        raise NetworkError(f"{node.op} reads and makes int8")
    for tensor in inputs:
        if tensor.shape != layer.input.shape:
            raise ShapeError(f"{node.op} is made for an input of {layer.input.shape}, not {tensor.shape}")
    if output_shape(layer) != node.output.shape:
        raise ShapeError(f"{node.op} makes {output_shape(layer)}, not {node.output.shape}")
    pairs = [(layer.output_zero_point, node.output.zero_point)]
    if node.op in WEIGHTED_OPS:
        pairs.append((layer.input_zero_point, inputs[0].zero_point))
        for key, values in (("weight_scales", node.weight_scales), ("weight_bits", node.weight_bits)):
            if values is None or values.shape != (out_channels(layer),):
                raise ShapeError(
                    f"{key} needs one value for each of the {out_channels(layer)} output channels"
                )
        assert node.weight_scales is not None
        assert node.weight_bits is not None
        if not (np.isfinite(node.weight_scales).all() and (node.weight_scales > 0).all()):
            raise ArithmeticRangeError("weight_scales must be finite and positive")
        _check_weight_bits(layer, node.weight_bits)
    elif node.op == "add":
        pairs += [
            (layer.input1_zero_point, inputs[0].zero_point),
            (layer.input2_zero_point, inputs[1].zero_point),
        ]
    elif node.op in POOL_OPS:
        pairs = [(inputs[0].zero_point, node.output.zero_point)]
    if any(mine != tensor for mine, tensor in pairs):
        raise NetworkError(f"the zero points of {node.op} and of its tensors differ")


def channel_weights(layer: Layer) -> Int8:
    """Return the weights as (K, weights of one output channel)."""
    if layer.op == "depthwise_conv2d":
        return np.moveaxis(layer.weights, 3, 0).reshape(layer.weights.shape[3], -1)
    return layer.weights.reshape(layer.weights.shape[0], -1)


def _check_weight_bits(layer: Layer, bits: Int8) -> None:
    for width in np.unique(bits):
        check_bits(int(width), "weight_bits")
    # TensorFlow Lite models may hold -128
    low = np.where(bits == 8, -128, -(2 ** (bits.astype(np.int64) - 1) - 1))
    high = 2 ** (bits.astype(np.int64) - 1) - 1
    flat = channel_weights(layer).astype(np.int64)
    wide = (flat.min(axis=1) < low) | (flat.max(axis=1) > high)
    if wide.any():
        channel = int(wide.argmax())
        raise ArithmeticRangeError(
            f"weights of output channel {channel} lie in [{flat[channel].min()}, {flat[channel].max()}], "
            f"beyond {bits[channel]} bits"
        )


def placeholder(shape: Iterable[int]) -> Int8:
    """Return an int8 tensor of that shape that takes no memory: the input of a node's layer."""
    return np.broadcast_to(np.int8(0), tuple(shape))


def replace_nodes(network: Network, changes: Mapping[str, Node], name: str | None = None) -> Network:
    """Return the network with some nodes exchanged, by name."""
    nodes = tuple(changes.get(node.name, node) for node in network.nodes)
    return replace(network, nodes=nodes, name=name or network.name)


# ------------------------------------------------------------------------------------------------- execution
def check_input(network: Network, inputs: Array) -> Array:
    """Return the inputs with a batch axis, checked.

    Raises:
        ShapeError: another shape or element type.
    """
    expected = network.input
    batch = np.asarray(inputs)
    if batch.dtype != expected.dtype:
        raise ShapeError(f"network {network.name!r} reads {expected.dtype}, the input is {batch.dtype}")
    if batch.shape == expected.shape:
        batch = batch[None]
    if batch.shape[1:] != expected.shape or batch.shape[0] == 0:
        raise ShapeError(
            f"network {network.name!r} reads {expected.shape} or a batch (N, "
            f"{', '.join(str(size) for size in expected.shape)}), the input is {np.asarray(inputs).shape}"
        )
    return batch


def run_node(node: Node, sources: Sequence[Array], source: Tensor, a_bits: Array | int = 8) -> Array:
    """Run one operator on a batch.

    Args:
        node: the operator.
        sources: its inputs, (N, ...) each.
        source: quantisation of the first input.
        a_bits: width of the activations that a weighted operator's multipliers see: one number, or one for
            each output channel, (K,), where the channels are on different units.

    Returns:
        (N, ...) of node.output.

    Raises:
        ArithmeticRangeError: an accumulator could leave int32.
    """
    if node.op == "reshape":
        return sources[0].reshape(len(sources[0]), *node.output.shape)
    if node.op == "softmax":
        return host.softmax(sources[0], source.scale, node.beta)
    if node.op == "dequantize":
        return host.dequantize(sources[0], source.scale, source.zero_point)
    if node.op == "quantize":
        if source.dtype == "int8":
            return host.requantize_int8(
                sources[0], source.scale, source.zero_point, node.output.scale, node.output.zero_point
            )
        return host.quantize(sources[0], node.output.scale, node.output.zero_point)
    assert node.layer is not None
    if node.op not in WEIGHTED_OPS:
        return _run_layer(node.layer, sources, 8)
    widths = np.broadcast_to(np.asarray(a_bits), (node.channels,))
    results = {int(width): _run_layer(node.layer, sources, int(width)) for width in np.unique(widths)}
    output = next(iter(results.values()))
    for width, result in results.items():
        output[..., widths == width] = result[..., widths == width]
    return output


def _run_layer(layer: Layer, sources: Sequence[Array], a_bits: int) -> Array:
    arguments: dict[str, Any] = {key: getattr(layer, key) for key in layer_keys(layer.op)}
    arguments |= dict(zip(("input", "input2"), sources, strict=False))
    if layer.op in WEIGHTED_OPS:
        arguments |= {"a_bits": a_bits, "single_rounding": layer.single_rounding}
    result: Array = getattr(operators, layer.op)(**arguments)
    return result


def run_network(
    network: Network, inputs: Array, a_bits: Mapping[str, Array | int] | None = None
) -> dict[str, Array]:
    """Run the golden model of the network: every tensor, exactly.

    Args:
        network: the network.
        inputs: (N, *input shape) or one input without batch axis, in the input's element type.
        a_bits: width of the activations for weighted nodes by name, see `run_node`; 8 where none is given.

    Beyond the result, the memory it needs does not depend on N.

    Returns:
        Every tensor by name, (N, ...), the input first.

    Raises:
        ShapeError: another input.
        ArithmeticRangeError: an accumulator could leave int32.
    """
    batch = check_input(network, inputs)
    step = max(1, _WORKING_VALUES // _working_values(network))
    results = {
        name: np.empty((len(batch), *tensor.shape), tensor.dtype) for name, tensor in network.tensors.items()
    }
    for start in range(0, len(batch), step):
        inputs_of_step = {network.input_name: batch[start : start + step]}
        for name, value in run_nodes(network, network.nodes, inputs_of_step, a_bits).items():
            results[name][start : start + step] = value
    return results


_WORKING_VALUES = 1 << 20
"""About how many numbers an operator works on at once: a batch runs in parts, which bounds the memory."""


def _working_values(network: Network) -> int:
    """Return the most numbers that one operator works on for one input: for a convolution all its windows."""
    most = 1
    for node in network.nodes:
        values = math.prod(node.output.shape)
        if node.layer is not None and node.op == "conv2d":
            values = max(values, node.macs // node.channels)
        most = max(most, values)
    return most


def run_nodes(
    network: Network,
    nodes: Iterable[Node],
    values: Mapping[str, Array],
    a_bits: Mapping[str, Array | int] | None = None,
) -> dict[str, Array]:
    """Run some of a network's operators on a batch.

    Args:
        network: the network.
        nodes: the operators, in an order in which they can run.
        values: what they read and do not make, by name, (N, ...).
        a_bits: as in `run_network`.

    Returns:
        The values and the outputs of the operators, by name.

    Raises:
        ArithmeticRangeError: an accumulator could leave int32.
    """
    tensors, widths, results = network.tensors, a_bits or {}, dict(values)
    for node in nodes:
        sources = [results[name] for name in node.inputs]
        try:
            results[node.name] = run_node(node, sources, tensors[node.inputs[0]], widths.get(node.name, 8))
        except NpuloopError as error:
            raise type(error)(f"network {network.name!r}, node {node.name!r}: {error}") from None
    return results
