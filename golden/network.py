# SPDX-License-Identifier: Apache-2.0
"""A quantised network: a graph of operators with integer weights, and its exact executor.

Its operators are those of `golden.layer`, which the units execute, and those of `golden.host_operators`,
which cost no arithmetic or run on the host. `golden.network_file` reads and writes networks.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from common.arrays import Array, Int8
from common.errors import ArithmeticRangeError, NetworkError, NpuloopError, ShapeError, UnsupportedError
from golden import operators
from golden.arithmetic import check_bits
from golden.host_operators import HOST_OPERATORS, check_host_node, run_host_node
from golden.layer import OPS, POOL_OPS, WEIGHTED_OPS, Layer, layer_keys, out_channels, output_shape
from golden.node import DTYPES, Node, Tensor, placeholder

__all__ = [
    "ALL_OPS",
    "DTYPES",
    "HOST_OPS",
    "Inputs",
    "Network",
    "Node",
    "Tensor",
    "channel_weights",
    "check_input",
    "check_inputs",
    "placeholder",
    "replace_nodes",
    "run_network",
    "run_node",
    "run_nodes",
]

HOST_OPS = tuple(op for op in HOST_OPERATORS if op != "reshape")
"""Operators that always run on the host; a reshape of what the units make may only be another view."""
ALL_OPS = (*OPS, *HOST_OPERATORS)

Inputs: TypeAlias = Array | Mapping[str, Array]
"""The input of a network with one, or all inputs by name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A quantised network. One that exists is valid.

    Attributes:
        name: for messages and reports.
        input_name, input: the network's first input.
        nodes: in an order in which they can run.
        more_inputs: further inputs by name.
        outputs: names of the output tensors; empty where it is the last node's alone.

    Raises:
        NetworkError: it contradicts itself; the message names the network, the node and the fault.
    """

    name: str
    input_name: str
    input: Tensor
    nodes: tuple[Node, ...]
    more_inputs: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the network; see the class."""
        if not self.nodes:
            raise NetworkError(f"network {self.name!r} has no operators")
        if self.input_name in self.more_inputs:
            raise NetworkError(f"network {self.name!r} has two inputs {self.input_name!r}")
        tensors = self.inputs
        for node in self.nodes:
            try:
                _check_node(node, tensors)
            except NpuloopError as error:
                raise NetworkError(f"network {self.name!r}, node {node.name!r}: {error}") from None
            tensors[node.name] = node.output
        for name in self.outputs:
            if name not in tensors:
                raise NetworkError(f"network {self.name!r} has no tensor {name!r}, which is to be an output")

    @property
    def inputs(self) -> dict[str, Tensor]:
        """All inputs by name, in order."""
        return {self.input_name: self.input, **self.more_inputs}

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of all output tensors."""
        return self.outputs or (self.nodes[-1].name,)

    @property
    def output_name(self) -> str:
        """The name of the first output tensor."""
        return self.output_names[0]

    @property
    def output(self) -> Tensor:
        """The network's first output."""
        return self.tensors[self.output_name]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, the inputs first."""
        return self.inputs | {node.name: node.output for node in self.nodes}

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
    else:
        check_host_node(node, inputs[0])


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
    half = 2 ** (bits.astype(np.int64) - 1)
    flat = channel_weights(layer)
    wide = (flat.min(axis=1) < -half) | (flat.max(axis=1) >= half)
    if wide.any():
        channel = int(wide.argmax())
        raise ArithmeticRangeError(
            f"weights of output channel {channel} lie in [{flat[channel].min()}, {flat[channel].max()}], "
            f"beyond {bits[channel]} bits"
        )


def replace_nodes(network: Network, changes: Mapping[str, Node], name: str | None = None) -> Network:
    """Return the network with some nodes exchanged, by name."""
    nodes = tuple(changes.get(node.name, node) for node in network.nodes)
    return replace(network, nodes=nodes, name=name or network.name)


# ------------------------------------------------------------------------------------------------- execution
def check_input(network: Network, inputs: Array) -> Array:
    """Return the inputs of a network with one input, with a batch axis, checked.

    Raises:
        ShapeError: another shape or element type, or the network has several inputs.
    """
    return check_inputs(network, inputs)[network.input_name]


def check_inputs(network: Network, inputs: Inputs) -> dict[str, Array]:
    """Return a network's inputs by name, each with a batch axis, checked.

    Raises:
        ShapeError: another shape or element type, an input too few or too many, or batches that differ.
    """
    expected = network.inputs
    if not isinstance(inputs, Mapping):
        if len(expected) > 1:
            raise ShapeError(f"network {network.name!r} reads {', '.join(expected)}: give each by its name")
        inputs = {network.input_name: inputs}
    if set(inputs) != set(expected):
        raise ShapeError(f"network {network.name!r} reads {', '.join(expected)}, not {', '.join(inputs)}")
    batches = {
        name: _batch(network, name if len(expected) > 1 else "", tensor, inputs[name])
        for name, tensor in expected.items()
    }
    sizes = {name: len(batch) for name, batch in batches.items()}
    if len(set(sizes.values())) > 1:
        raise ShapeError(f"network {network.name!r}: batches of different sizes, {sizes}")
    return batches


def _batch(network: Network, name: str, expected: Tensor, values: Array) -> Array:
    reads = f"network {network.name!r} reads" + (f" {name!r}," if name else "")
    batch = np.asarray(values)
    if batch.dtype != expected.dtype:
        raise ShapeError(f"{reads} {expected.dtype}, the input is {batch.dtype}")
    if batch.shape == expected.shape:
        batch = batch[None]
    if batch.shape[1:] != expected.shape or batch.shape[0] == 0:
        raise ShapeError(
            f"{reads} {expected.shape} or a batch (N, "
            f"{', '.join(str(size) for size in expected.shape)}), the input is {np.asarray(values).shape}"
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
    if node.op in HOST_OPERATORS:
        return run_host_node(node, source, sources[0])
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
    network: Network, inputs: Inputs, a_bits: Mapping[str, Array | int] | None = None
) -> dict[str, Array]:
    """Run the golden model of the network: every tensor, exactly.

    Args:
        network: the network.
        inputs: (N, *input shape) or one input without batch axis, in the input's element type; of a network
            with several inputs all of them by name.
        a_bits: width of the activations for weighted nodes by name, see `run_node`; 8 where none is given.

    Beyond the result, the memory it needs does not depend on N.

    Returns:
        Every tensor by name, (N, ...), the inputs first.

    Raises:
        ShapeError: another input.
        ArithmeticRangeError: an accumulator could leave int32.
    """
    batches = check_inputs(network, inputs)
    count = len(batches[network.input_name])
    step = max(1, _WORKING_VALUES // _working_values(network))
    results = {
        name: np.empty((count, *tensor.shape), tensor.dtype) for name, tensor in network.tensors.items()
    }
    for start in range(0, count, step):
        inputs_of_step = {name: batch[start : start + step] for name, batch in batches.items()}
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
