"""What each operator of a `.tflite` file becomes in the network, with the constants that it computes with.

What cannot be exact is refused by name.

Sources: TensorFlow Lite kernels/{conv,depthwise_conv,fully_connected,add,pooling,pad,reduce}.cc.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from common.arrays import Array, Floats, Int32
from common.errors import ModelFileError, UnsupportedError
from golden import host
from golden.arithmetic import INT32_MAX, check_accumulator, quantize_add, quantize_multiplier
from golden.importers.tflite_constants import (
    clamp,
    mean_constants,
    positive_pair,
    requantization,
    weight_scales_of,
    window_padding,
)
from golden.importers.tflite_file import FileOperator, FileTensor, vector
from golden.importers.tflite_graph import TfliteGraph
from golden.layer import Layer
from golden.network import Node, Tensor, channel_weights, placeholder

_MAX_MEAN_WEIGHTS = 1 << 22  # of a mean that becomes a depthwise convolution


def _bias(graph: TfliteGraph, operator: FileOperator, channels: int) -> Int32:
    constant = graph.constant(operator, 2, "int32")
    if constant is None:
        return np.zeros(channels, np.int32)
    return constant[1].reshape(-1).astype(np.int32)


def _required(constant: tuple[FileTensor, Array] | None, what: str) -> tuple[FileTensor, Array]:
    if constant is None:
        raise ModelFileError(f"has no {what}")
    return constant


def _need_int8(*tensors: Tensor) -> None:
    if any(tensor.dtype != "int8" for tensor in tensors):
        raise UnsupportedError("reads or makes float32; only quantize and dequantize do that")


def _layer_node(
    operator: FileOperator, op: str, inputs: tuple[str, ...], source: Tensor, output: Tensor, **values: Any
) -> Node:
    """Return the node of an operator of the units."""
    name = f"{op}_{operator.index}"
    scales: Floats | None = values.pop("weight_scales", None)
    layer = Layer(name=name, op=op, input=placeholder(source.shape), **values)
    if scales is not None:
        check_accumulator(np.abs(channel_weights(layer).astype(np.int64)).sum(axis=1))
    return Node(
        name=name, op=op, inputs=inputs, output=output, layer=layer, weight_scales=scales,
        weight_bits=None if scales is None else np.full(scales.size, 8, np.int8),
    )  # fmt: skip


def _as(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return Tensor(shape=shape, dtype=tensor.dtype, scale=tensor.scale, zero_point=tensor.zero_point)


def _convolution(graph: TfliteGraph, operator: FileOperator) -> None:
    depthwise = operator.name == "DEPTHWISE_CONV_2D"
    options = operator.options("DepthwiseConv2DOptions" if depthwise else "Conv2DOptions")
    name, source, extra = graph.padded_source(operator)
    output = graph.output(operator)
    _need_int8(source, output)
    tensor, weights = _required(graph.constant(operator, 1, "int8"), "weights")
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
        **requantization(source.scale * scales / output.scale, source, output),
        **clamp(options.FusedActivationFunction(), output),
    )
    graph.add(operator, node)


def _fully_connected(graph: TfliteGraph, operator: FileOperator) -> None:
    options = operator.options("FullyConnectedOptions")
    name, source = graph.source(operator)
    output = graph.output(operator)
    _need_int8(source, output)
    if options.WeightsFormat():
        raise UnsupportedError(f"weights format number {options.WeightsFormat()}; supported is DEFAULT")
    tensor, weights = _required(graph.constant(operator, 1, "int8"), "weights")
    if weights.ndim != 2:
        raise ModelFileError(f"weights {weights.shape}; expected 2 axes")
    units, columns = weights.shape
    if math.prod(source.shape) != columns:
        raise UnsupportedError(f"an input {source.shape} for weights {weights.shape}; supported is one row")
    rows = graph.file.tensor(operator.inputs[0]).shape[:-1] if options.KeepNumDims() else (1,)
    _check_new_shape(graph, operator, (*rows, units))
    if source.shape != (columns,):
        source = _as(source, (columns,))
        graph.nodes.append(
            Node(name=f"reshape_{operator.index}_in", op="reshape", inputs=(name,), output=source)
        )
        name = graph.nodes[-1].name
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
        **requantization(source.scale * scales / output.scale, source, output, reach),
        **clamp(options.FusedActivationFunction(), output),
    )
    graph.add(operator, node)


def _add(graph: TfliteGraph, operator: FileOperator) -> None:
    options = operator.options("AddOptions")
    (first_name, first), (second_name, second) = graph.source(operator), graph.source(operator, 1)
    output = graph.output(operator)
    _need_int8(first, second, output)
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


def _pool(graph: TfliteGraph, operator: FileOperator) -> None:
    options = operator.options("Pool2DOptions")
    name, source = graph.source(operator)
    output = graph.output(operator)
    _need_int8(source, output)
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


def _pad(graph: TfliteGraph, operator: FileOperator) -> None:
    _, source, _ = graph.padded_source(operator)
    output = graph.output(operator)
    _need_int8(source, output)
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
    _check_new_shape(graph, operator, padded)
    graph.pad(operator, (amounts[2], amounts[3], amounts[4], amounts[5]))


def _check_new_shape(graph: TfliteGraph, operator: FileOperator, expected: Sequence[int]) -> None:
    shape = graph.file.tensor(operator.output).shape
    if shape != tuple(expected):
        raise ModelFileError(f"makes {shape}, expected {tuple(expected)}")


def _reshape(graph: TfliteGraph, operator: FileOperator) -> None:
    source = graph.file.tensor(operator.inputs[0]).shape if operator.inputs else ()
    new_shape = graph.integers(operator, 1)
    if new_shape is None:
        new_shape = [int(size) for size in vector(operator.options("ReshapeOptions").NewShapeAsNumpy())[:64]]
    if new_shape.count(-1) == 1:
        known = -math.prod(new_shape)
        new_shape[new_shape.index(-1)] = math.prod(source) // known if known > 0 else -1
    _check_new_shape(graph, operator, new_shape)
    graph.add_plain(operator, "reshape")


def _squeeze(graph: TfliteGraph, operator: FileOperator) -> None:
    source = graph.file.tensor(operator.inputs[0]).shape if operator.inputs else ()
    dims = vector(operator.options("SqueezeOptions").SqueezeDimsAsNumpy())[:64]
    axes = {int(axis) + len(source) * (axis < 0) for axis in dims}
    if not axes:
        axes = {axis for axis, size in enumerate(source) if size == 1}
    _check_new_shape(graph, operator, [size for axis, size in enumerate(source) if axis not in axes])
    graph.add_plain(operator, "reshape")


def _expand_dims(graph: TfliteGraph, operator: FileOperator) -> None:
    expected = list(graph.file.tensor(operator.inputs[0]).shape) if operator.inputs else []
    axes = graph.integers(operator, 1)
    if axes is None or len(axes) != 1 or not -len(expected) - 1 <= axes[0] <= len(expected):
        raise ModelFileError(f"axis {axes} for an input of {len(expected)} axes")
    expected.insert(axes[0] + (len(expected) + 1) * (axes[0] < 0), 1)
    _check_new_shape(graph, operator, expected)
    graph.add_plain(operator, "reshape")


def _quantize(graph: TfliteGraph, operator: FileOperator) -> None:
    source, output = graph.source(operator)[1], graph.output(operator)
    _need_int8(output)
    if source.dtype == "int8":
        quantize_multiplier(source.scale / output.scale)  # which refuses scales that are too far apart
    graph.add_plain(operator, "quantize")


def _dequantize(graph: TfliteGraph, operator: FileOperator) -> None:
    _need_int8(graph.source(operator)[1])
    graph.add_plain(operator, "dequantize")


def _softmax(graph: TfliteGraph, operator: FileOperator) -> None:
    source, output = graph.source(operator)[1], graph.output(operator)
    _need_int8(source, output)
    if (output.scale, output.zero_point) != (1 / 256, -128):
        raise UnsupportedError(
            f"output scale {output.scale} and zero point {output.zero_point}; supported are 1/256 and -128"
        )
    beta = float(operator.options("SoftmaxOptions").Beta())
    host.softmax(np.zeros(1, np.int8), source.scale, beta)  # which refuses scales that are too small
    graph.add_plain(operator, "softmax", beta=beta)


# -------------------------------------------------------------------------------------------------- mean
def _mean(graph: TfliteGraph, operator: FileOperator) -> None:
    """Return the mean over height and width, as a depthwise convolution with weights of 1.

    The reference kernel does not divide: it rescales the sum of x - zero point by a multiplier into which
    1 / (H * W) went, which a depthwise convolution does as well.
    """
    options = operator.options("ReducerOptions")
    name, source = graph.source(operator)
    output = graph.output(operator)
    _need_int8(source, output)
    shape = graph.file.tensor(operator.inputs[0]).shape
    axes = {axis + len(shape) * (axis < 0) for axis in graph.integers(operator, 1) or []}
    if len(shape) != 4 or axes != {1, 2}:
        raise UnsupportedError(
            f"a mean of {shape} over the axes {sorted(axes)}; supported are axes 1 and 2 of 4"
        )
    if math.prod(shape) > _MAX_MEAN_WEIGHTS:
        raise UnsupportedError(f"a mean over {source.shape}; supported are {_MAX_MEAN_WEIGHTS} values")
    height, width, channels = source.shape
    _check_new_shape(graph, operator, (1, 1, 1, channels) if options.KeepDims() else (1, channels))
    multiplier, shift = mean_constants(source.scale / output.scale, height * width)
    if 255 * height * width << max(shift, 0) > INT32_MAX:
        raise UnsupportedError(f"a mean of {shape} from scale {source.scale} to {output.scale} leaves int32")
    node = _layer_node(
        operator,
        "depthwise_conv2d",
        (name,),
        source,
        _as(output, (1, 1, channels)),
        weights=np.ones((1, height, width, channels), np.int8),
        bias=np.zeros(channels, np.int32),
        multiplier=np.full(channels, multiplier, np.int32),
        shift=np.full(channels, shift, np.int32),
        input_zero_point=source.zero_point,
        output_zero_point=output.zero_point,
        weight_scales=np.full(channels, 1 / (height * width)),
    )
    graph.add(operator, node)


CONVERTERS: dict[str, Callable[[TfliteGraph, FileOperator], None]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _add,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": _expand_dims,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
    "SOFTMAX": _softmax,
}
