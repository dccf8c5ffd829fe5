# SPDX-License-Identifier: Apache-2.0
"""Converters of the operators that become layers: each appends to the network what one operator does.

Sources: TensorFlow Lite kernels/internal/reference/integer_ops/*.h, reference/reduce.h.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from common.arrays import Array, Floats, Int32
from common.errors import ModelFileError, UnsupportedError
from golden.arithmetic import INT32_MAX, check_accumulator, quantize_add
from golden.importers.tflite_constants import (
    clamp,
    mean_constants,
    positive_pair,
    requantization,
    weight_scales_of,
    window_padding,
)
from golden.importers.tflite_file import FileOperator, FileTensor
from golden.importers.tflite_graph import Permutation, TfliteGraph, need_int8
from golden.layer import Layer
from golden.network import Node, Tensor, channel_weights, placeholder

WEIGHT_TYPES = ("int8", "int4", "int2")
_MAX_MEAN_WEIGHTS = 1 << 23  # of a mean that becomes a depthwise convolution


def _bias(graph: TfliteGraph, operator: FileOperator, channels: int) -> Int32:
    constant = graph.constant(operator, 2, "int32")
    if constant is None:
        return np.zeros(channels, np.int32)
    return constant[1].reshape(-1).astype(np.int32)


def _required(constant: tuple[FileTensor, Array] | None, what: str) -> tuple[FileTensor, Array]:
    if constant is None:
        raise ModelFileError(f"has no {what}")
    return constant


def _layer_node(
    operator: FileOperator, op: str, inputs: tuple[str, ...], source: Tensor, output: Tensor, **values: Any
) -> Node:
    """Return the node of an operator of the units."""
    name = f"{'mean' if operator.name == 'MEAN' else op}_{operator.index}"
    scales: Floats | None = values.pop("weight_scales", None)
    bits: int = values.pop("weight_bits", 8)
    layer = Layer(name=name, op=op, input=placeholder(source.shape), **values)
    if scales is not None:
        check_accumulator(np.abs(channel_weights(layer).astype(np.int64)).sum(axis=1))
    return Node(
        name=name, op=op, inputs=inputs, output=output, layer=layer, weight_scales=scales,
        weight_bits=None if scales is None else np.full(scales.size, bits, np.int8),
    )  # fmt: skip


def _as(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return Tensor(shape=shape, dtype=tensor.dtype, scale=tensor.scale, zero_point=tensor.zero_point)


def convolution(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append a CONV_2D or DEPTHWISE_CONV_2D, with the padding of PADs before it."""
    depthwise = operator.name == "DEPTHWISE_CONV_2D"
    options = operator.options("DepthwiseConv2DOptions" if depthwise else "Conv2DOptions")
    name, source, extra = graph.padded_source(operator)
    output = graph.output(operator)
    need_int8(source, output)
    tensor, weights = _required(graph.constant(operator, 1, *WEIGHT_TYPES), "weights")
    if len(source.shape) != 3 or weights.ndim != 4:
        raise ModelFileError(
            f"input {source.shape} and weights {weights.shape}; expected (H, W, C) and 4 axes"
        )
    channels = weights.shape[3 if depthwise else 0]
    if not depthwise and weights.shape[3] != source.shape[2]:
        raise UnsupportedError(f"a grouped convolution: weights {weights.shape} on an input {source.shape}")
    if depthwise and channels != source.shape[2] * options.DepthMultiplier():
        raise ModelFileError(
            f"depth multiplier {options.DepthMultiplier()} for weights {weights.shape} on {source.shape}"
        )
    stride = positive_pair((options.StrideH(), options.StrideW()), "stride")
    dilation = positive_pair((options.DilationHFactor(), options.DilationWFactor()), "dilation")
    size = (source.shape[0] + extra[0] + extra[1], source.shape[1] + extra[2] + extra[3])
    own = window_padding(options.Padding(), size, weights.shape[1:3], stride, dilation)
    scales = weight_scales_of(tensor, channels, 3 if depthwise else 0)
    node = _layer_node(
        operator,
        "depthwise_conv2d" if depthwise else "conv2d",
        (name,),
        source,
        output,
        weights=weights,
        bias=_bias(graph, operator, channels),
        stride=stride,
        dilation=dilation,
        padding=tuple(a + b for a, b in zip(extra, own, strict=True)),
        weight_scales=scales,
        weight_bits=tensor.bits,
        **requantization(source.scale * scales / output.scale, source, output),
        **clamp(options.FusedActivationFunction(), output),
    )
    graph.add(operator, node)


def fully_connected(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append a FULLY_CONNECTED of one row of values.

    Where it reads a transposed image, flattened, its weights are put in the order of the image itself.
    """
    options = operator.options("FullyConnectedOptions")
    name, source, permutation = graph.flat_source(operator)
    output = graph.output(operator)
    need_int8(source, output)
    if options.WeightsFormat():
        raise UnsupportedError(f"weights format number {options.WeightsFormat()}; supported is DEFAULT")
    tensor, weights = _required(graph.constant(operator, 1, *WEIGHT_TYPES), "weights")
    if weights.ndim != 2:
        raise ModelFileError(f"weights {weights.shape}; expected 2 axes")
    units, columns = weights.shape
    if math.prod(source.shape) != columns:
        raise UnsupportedError(f"an input {source.shape} for weights {weights.shape}; supported is one row")
    if permutation:
        weights = _columns_before(weights, source.shape, permutation)
    rows = graph.file.tensor(operator.inputs[0]).shape[:-1] if options.KeepNumDims() else (1,)
    graph.check_shape(operator, (*rows, units))
    name, source = graph.reshaped(name, source, (columns,), f"reshape_{operator.index}_in")
    scales = weight_scales_of(tensor, units, 0)
    bias = _bias(graph, operator, units)
    if bias.shape != (units,):
        raise ModelFileError(f"bias {bias.shape} for weights {weights.shape}")
    reach = 255 * np.abs(weights.astype(np.int64)).sum(axis=1) + np.abs(bias.astype(np.int64))
    node = _layer_node(
        operator,
        "fully_connected",
        (name,),
        source,
        _as(output, (units,)),
        weights=weights,
        bias=bias,
        single_rounding=True,
        weight_scales=scales,
        weight_bits=tensor.bits,
        **requantization(source.scale * scales / output.scale, source, output, reach),
        **clamp(options.FusedActivationFunction(), output),
    )
    graph.add(operator, node)


def _columns_before(weights: Array, shape: tuple[int, ...], permutation: Permutation) -> Array:
    """Return weights (K, C) of a flattened tensor, its axes permuted, as those of the tensor of `shape`."""
    seen = weights.reshape(-1, *(shape[axis] for axis in permutation))
    order = [permutation.index(axis) + 1 for axis in range(len(shape))]
    return np.ascontiguousarray(seen.transpose(0, *order).reshape(weights.shape))


def add(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append an ADD of two activations."""
    options = operator.options("AddOptions")
    (first_name, first), (second_name, second) = graph.source(operator), graph.source(operator, 1)
    output = graph.output(operator)
    need_int8(first, second, output)
    if not first.shape == second.shape == output.shape:
        raise UnsupportedError(f"broadcasting: {first.shape} and {second.shape} make {output.shape}")
    node = _layer_node(
        operator,
        "add",
        (first_name, second_name),
        first,
        output,
        input2=placeholder(second.shape),
        input1_zero_point=first.zero_point,
        input2_zero_point=second.zero_point,
        output_zero_point=output.zero_point,
        **quantize_add(first.scale, second.scale, output.scale),
        **clamp(options.FusedActivationFunction(), output),
    )
    graph.add(operator, node)


def pool(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append an AVERAGE_POOL_2D or MAX_POOL_2D."""
    options = operator.options("Pool2DOptions")
    name, source = graph.source(operator)
    output = graph.output(operator)
    need_int8(source, output)
    if (source.scale, source.zero_point) != (output.scale, output.zero_point):
        raise UnsupportedError("input and output of a pool must share scale and zero point")
    if len(source.shape) != 3:
        raise ModelFileError(f"input {source.shape}; expected (H, W, C)")
    kernel = positive_pair((options.FilterHeight(), options.FilterWidth()), "kernel")
    stride = positive_pair((options.StrideH(), options.StrideW()), "stride")
    node = _layer_node(
        operator,
        "average_pool" if operator.name == "AVERAGE_POOL_2D" else "max_pool",
        (name,),
        source,
        output,
        kernel=kernel,
        stride=stride,
        padding=window_padding(options.Padding(), source.shape[:2], kernel, stride, (1, 1)),
        **clamp(options.FusedActivationFunction(), output),
    )
    graph.add(operator, node)


def pad(graph: TfliteGraph, operator: FileOperator) -> None:
    """Note a PAD or PADV2, for the convolution that reads it."""
    _, source, _ = graph.padded_source(operator)
    output = graph.output(operator)
    need_int8(source, output)
    shape = graph.file.tensor(operator.inputs[0]).shape
    amounts = graph.integers(operator, 1)
    if len(shape) != 4 or amounts is None or len(amounts) != 8 or min(amounts) < 0:
        raise UnsupportedError(
            f"padding {amounts} of {shape}; expected two non-negative numbers for each of 4 axes"
        )
    if any(amounts[:2]) or any(amounts[6:]):
        raise UnsupportedError(f"padding {amounts}; only height and width can be padded")
    value = graph.constant(operator, 2, "int8")
    if value is not None and (value[1].size != 1 or int(value[1].flatten()[0]) != source.zero_point):
        raise UnsupportedError(f"padding with another value than the zero point {source.zero_point}")
    if (source.scale, source.zero_point) != (output.scale, output.zero_point):
        raise UnsupportedError("input and output must share scale and zero point")
    padded = (1, shape[1] + amounts[2] + amounts[3], shape[2] + amounts[4] + amounts[5], shape[3])
    graph.check_shape(operator, padded)
    graph.pad(operator, (amounts[2], amounts[3], amounts[4], amounts[5]))


def mean(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append the mean over rows, columns or both, as a depthwise convolution with weights of 1.

    The reference kernel does not divide: it rescales the sum of x - zero point by a multiplier into which
    1 / count went, which a depthwise convolution does as well. The image may be transposed, as in files from
    converters that keep channels first: the mean is then taken before the TRANSPOSE.
    """
    options = operator.options("ReducerOptions")
    name, source, permutation = graph.transposed_source(operator)
    output = graph.output(operator)
    need_int8(source, output)
    shape = graph.source_shape(operator)
    axes = {axis + len(shape) * (axis < 0) for axis in graph.integers(operator, 1) or []}
    batches = len(shape) - len(source.shape)
    own = {permutation[axis - batches] for axis in axes if batches <= axis < len(shape)}
    rank = len(source.shape)
    if batches != 1 or rank not in (2, 3) or len(own) != len(axes) or not own or rank - 1 in own:
        raise UnsupportedError(
            f"a mean of {shape} over the axes {sorted(axes)}; supported are rows, columns or both of "
            "(1, H, W, C)"
        )
    if math.prod(shape) > _MAX_MEAN_WEIGHTS:
        raise UnsupportedError(f"a mean over {source.shape}; supported are {_MAX_MEAN_WEIGHTS} values")
    graph.check_shape(operator, _mean_shape(shape, axes, bool(options.KeepDims())))
    window = tuple(size if axis in own else 1 for axis, size in enumerate(source.shape[:-1]))
    kernel_h, kernel_w = window if rank == 3 else (1, *window)
    channels = source.shape[-1]
    count = kernel_h * kernel_w
    multiplier, shift = mean_constants(source.scale / output.scale, count)
    if 255 * count << max(shift, 0) > INT32_MAX:
        raise UnsupportedError(f"a mean of {shape} from scale {source.scale} to {output.scale} leaves int32")
    image = source.shape if rank == 3 else (1, *source.shape)
    name, source = graph.reshaped(name, source, image, f"reshape_{operator.index}_in")
    result = _as(output, (image[0] // kernel_h, image[1] // kernel_w, channels))
    node = _layer_node(
        operator,
        "depthwise_conv2d",
        (name,),
        source,
        result,
        weights=np.ones((1, kernel_h, kernel_w, channels), np.int8),
        bias=np.zeros(channels, np.int32),
        multiplier=np.full(channels, multiplier, np.int32),
        shift=np.full(channels, shift, np.int32),
        input_zero_point=source.zero_point,
        output_zero_point=output.zero_point,
        weight_scales=np.full(channels, 1 / count),
    )
    graph.nodes.append(node)
    remaining = [axis for axis in range(rank) if options.KeepDims() or axis not in own]
    order = tuple(remaining.index(axis) for axis in permutation if axis in remaining)
    shape = tuple(1 if axis in own else image[axis + 3 - rank] for axis in remaining)
    graph.transpose(operator, node.name, result, order, shape)


def _mean_shape(shape: Sequence[int], axes: Collection[int], keep: bool) -> tuple[int, ...]:
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes)
