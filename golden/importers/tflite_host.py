# SPDX-License-Identifier: Apache-2.0
"""Converters of the operators that the host runs, or that only give values another shape.

Sources: TensorFlow Lite kernels/{reshape,squeeze,expand_dims,transpose,shape,strided_slice,pack}.cc,
    activations.cc, quantize.cc, dequantize.cc and arg_min_max.cc.
"""

import math

import numpy as np

from common.errors import ModelFileError, UnsupportedError
from golden import host
from golden.arithmetic import quantize_multiplier
from golden.importers.tflite_file import FileOperator, vector
from golden.importers.tflite_graph import TfliteGraph
from golden.node import QUANTISED

_FEW = 64  # entries of a shape, or of a list of axes


def reshape(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append a RESHAPE to a constant shape, or to one that follows from shapes."""
    source = graph.source_shape(operator)
    new_shape = graph.integers(operator, 1)
    if new_shape is None:
        options = operator.options("ReshapeOptions")
        new_shape = [int(size) for size in vector(options.NewShapeAsNumpy())[:_FEW]]
    if new_shape.count(-1) == 1:
        known = -math.prod(new_shape)
        new_shape[new_shape.index(-1)] = math.prod(source) // known if known > 0 else -1
    graph.check_shape(operator, tuple(new_shape))
    if not graph.flatten(operator):
        graph.add_plain(operator, "reshape")


def squeeze(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append a SQUEEZE: axes of one value go."""
    source = graph.source_shape(operator)
    dims = vector(operator.options("SqueezeOptions").SqueezeDimsAsNumpy())[:_FEW]
    axes = {int(axis) + len(source) * (axis < 0) for axis in dims}
    if not axes:
        axes = {axis for axis, size in enumerate(source) if size == 1}
    graph.check_shape(operator, tuple(size for axis, size in enumerate(source) if axis not in axes))
    graph.add_plain(operator, "reshape")


def expand_dims(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append an EXPAND_DIMS: an axis of one value comes."""
    expected = list(graph.source_shape(operator))
    axes = graph.integers(operator, 1)
    if axes is None or len(axes) != 1 or not -len(expected) - 1 <= axes[0] <= len(expected):
        raise ModelFileError(f"axis {axes} for an input of {len(expected)} axes")
    expected.insert(axes[0] + (len(expected) + 1) * (axes[0] < 0), 1)
    graph.check_shape(operator, tuple(expected))
    graph.add_plain(operator, "reshape")


def transpose(graph: TfliteGraph, operator: FileOperator) -> None:
    """Note a TRANSPOSE; it becomes a node where something reads the values in its order."""
    shape = graph.source_shape(operator)
    permutation = graph.integers(operator, 1) or []
    axes = [axis + len(shape) * (axis < 0) for axis in permutation]
    if sorted(axes) != list(range(len(shape))):
        raise ModelFileError(f"permutation {permutation} for an input {shape}")
    graph.check_shape(operator, tuple(shape[axis] for axis in axes))
    name, tensor, before = graph.transposed_source(operator)
    graph.output(operator)  # which refuses an output without a batch axis of 1
    if len(shape) > len(tensor.shape):  # the batch axis changes its place with another axis of one value
        axes[axes.index(0)], axes[0] = axes[0], 0
        axes = [axis - 1 for axis in axes[1:]]
    order = tuple(before[axis] for axis in axes)
    graph.transpose(operator, name, tensor, order, tensor.shape)


# --------------------------------------------------------------------------------- integers that shapes give
def shape_of(graph: TfliteGraph, operator: FileOperator) -> None:
    """Note the shape of a tensor, which the file has."""
    graph.know(operator, list(graph.source_shape(operator)))


def strided_slice(graph: TfliteGraph, operator: FileOperator) -> None:
    """Note a slice of integers that are known; a slice of an activation is refused."""
    values = _known(graph, operator, 0)
    options = operator.options("StridedSliceOptions")
    begin, end, stride = (_known(graph, operator, position) for position in (1, 2, 3))
    masks = options.EllipsisMask() or options.NewAxisMask()
    if masks or not len(begin) == len(end) == len(stride) == 1 or stride[0] == 0:
        raise UnsupportedError("a slice of a shape with more than one axis, an ellipsis or a new axis")
    if options.ShrinkAxisMask():
        values = values[begin[0] : begin[0] + 1 or None]
    else:
        first, last = (
            None if mask else place[0]
            for mask, place in ((options.BeginMask(), begin), (options.EndMask(), end))
        )
        values = values[first : last : stride[0]]
    if not values:
        raise UnsupportedError("a slice of a shape that leaves nothing")
    graph.know(operator, values)


def pack(graph: TfliteGraph, operator: FileOperator) -> None:
    """Note integers that are known, one behind the other."""
    parts = [_known(graph, operator, position) for position in range(len(operator.inputs))]
    if any(len(part) != 1 for part in parts):
        raise UnsupportedError("packs other than single integers of shapes")
    graph.know(operator, [part[0] for part in parts])


def _known(graph: TfliteGraph, operator: FileOperator, position: int) -> list[int]:
    """Return integers that are constant or follow from shapes.

    Raises:
        UnsupportedError: the input is an activation.
    """
    if not graph.is_known(operator, position):
        raise UnsupportedError("of an activation; supported is one of shapes, which are constant")
    values = graph.integers(operator, position)
    if values is None:
        raise ModelFileError(f"has {len(operator.inputs)} inputs; input {position} is missing")
    return values


# ------------------------------------------------------------------------------------------------ the host's
def quantize(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append a QUANTIZE to int8 or uint8, from float32 or from another scale."""
    source, output = graph.source(operator)[1], graph.output(operator)
    if source.dtype in QUANTISED and output.dtype in QUANTISED:
        quantize_multiplier(source.scale / output.scale)  # which refuses scales that are too far apart
    graph.add_plain(operator, "quantize")


def dequantize(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append a DEQUANTIZE."""
    graph.add_plain(operator, "dequantize")


def softmax(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append a SOFTMAX over the last axis."""
    source = graph.source(operator)[1]
    beta = float(operator.options("SoftmaxOptions").Beta())
    if source.dtype == "int8":
        host.softmax(np.zeros(1, np.int8), source.scale, beta)  # which refuses scales that are too small
    graph.add_plain(operator, "softmax", beta=beta)


def log_softmax(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append a LOG_SOFTMAX over the last axis."""
    source = graph.source(operator)[1]
    if source.dtype == "int8":
        host.log_softmax(np.zeros(1, np.int8), source.scale)  # which refuses scales that are too small
    graph.add_plain(operator, "log_softmax")


def logistic(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append a LOGISTIC."""
    graph.add_plain(operator, "logistic")


def arg_max(graph: TfliteGraph, operator: FileOperator) -> None:
    """Append an ARG_MAX over any axis but the batch."""
    shape, axes = graph.source_shape(operator), graph.integers(operator, 1)
    source = graph.source(operator)[1]
    if axes is None or len(axes) != 1 or not -len(shape) <= axes[0] < len(shape):
        raise ModelFileError(f"axis {axes} for an input {shape}")
    batches = len(shape) - len(source.shape)
    axis = axes[0] % len(shape) - batches
    if axis < 0:
        raise UnsupportedError(f"the largest of {shape} along the batch axis")
    graph.check_shape(operator, (*shape[: axis + batches], *shape[axis + batches + 1 :]))
    graph.add_plain(operator, "arg_max", axis=axis)
