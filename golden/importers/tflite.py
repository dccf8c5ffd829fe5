"""Imports int8 `.tflite` models, with the constants that TensorFlow Lite's reference kernels compute with.

A network that is imported gives, tensor by tensor, the numbers of the interpreter with its reference kernels.
What cannot be exact is refused by name.

FULLY_CONNECTED is the one weighted operator that the interpreter (ai-edge-litert 1.4.0 to 2.3.0) rescales in
double precision. It becomes a layer that rounds once, with multipliers that are proved to give the same.

Names: the network's input is "input"; the node of operator number i of the file is "<operator>_<i>", such as
"conv2d_0" or "add_3", with the operator's name here and not the file's. A reshape that only the file's shapes
imply is "reshape_<i>_in" or "reshape_<i>_out". The batch axis, which must be 1, is dropped. A PAD makes no
node but becomes padding of the convolution that reads it. An operator whose output nothing reads is refused.

Sources: TensorFlow Lite kernels/{conv,depthwise_conv,fully_connected,add,pooling,pad,reduce}.cc,
    kernel_util.cc (PopulateConvolutionQuantizationParams, CalculateActivationRangeQuantized), padding.h,
    reference/reduce.h (QuantizedMeanOrSum), reference/integer_ops/fully_connected.h.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tflite

from common.errors import ArithmeticRangeError, ModelFileError, NpuloopError, UnsupportedError
from golden import host
from golden.arithmetic import (
    INT32_MAX,
    check_accumulator,
    multiply_by_quantized_multiplier,
    quantize_add,
    quantize_multiplier,
)
from golden.importers.tflite_file import (
    PARSE_ERRORS,
    FileOperator,
    FileTensor,
    TfliteFile,
    read_content,
    vector,
)
from golden.layer import Layer
from golden.network import Network, Node, Tensor, channel_weights, placeholder

Array: TypeAlias = npt.NDArray[Any]
Padding: TypeAlias = tuple[int, int, int, int]

INPUT_NAME = "input"

_MAX_MEAN_WEIGHTS = 1 << 22  # of a mean that becomes a depthwise convolution
_MAX_SHARING = 4  # how often the constants of a file may be read, on average


def load_tflite(path: str | Path) -> Network:
    """Reads an int8 `.tflite` model.

    Raises: UnsupportedError for a model that is valid but not supported, naming the operator and what is
        supported; ModelFileError for a file that is missing, damaged or contradicts itself. Both name the
        file.
    """
    path = Path(path)
    content = read_content(path)
    try:
        return _network(path.stem, TfliteFile(content), len(content))
    except (UnsupportedError, ArithmeticRangeError) as error:
        raise UnsupportedError(f"{path}: {error}") from None
    except NpuloopError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except PARSE_ERRORS as error:
        raise ModelFileError(f"{path}: damaged or cut off ({type(error).__name__}: {error})") from None


def _network(name: str, file: TfliteFile, size: int) -> Network:
    graph = _Graph(file, size)
    for operator in file.operators:
        convert = _CONVERTERS.get(operator.name)
        where = f"operator {operator.index} ({operator.name})"
        if convert is None:
            raise UnsupportedError(f"{where} is not supported; supported are {', '.join(_CONVERTERS)}")
        try:
            graph.start(operator)
            convert(graph, operator)
        except (UnsupportedError, ArithmeticRangeError) as error:
            raise UnsupportedError(f"{where}: {error}") from None
        except NpuloopError as error:
            raise ModelFileError(f"{where}: {error}") from None
    graph.finish()
    return Network(name=name, input_name=INPUT_NAME, input=graph.input, nodes=tuple(graph.nodes))


def _without_batch(tensor: FileTensor) -> tuple[int, ...]:
    if len(tensor.shape) >= 2 and tensor.shape[0] == 1:
        return tensor.shape[1:]
    if len(tensor.shape) == 1:
        return tensor.shape
    raise UnsupportedError(f"tensor {tensor.index} of shape {tensor.shape}: its first axis is no batch of 1")


def _activation(tensor: FileTensor) -> Tensor:
    """The tensor as the network has it."""
    if tensor.data is not None:
        raise UnsupportedError(f"tensor {tensor.index} is constant where an activation is expected")
    if tensor.dtype == "float32":
        return Tensor(shape=_without_batch(tensor), dtype="float32")
    if tensor.dtype != "int8":
        raise UnsupportedError(f"tensor {tensor.index} is {tensor.dtype}; activations are int8 or float32")
    if tensor.scales.size != 1:
        raise UnsupportedError(
            f"tensor {tensor.index} has {tensor.scales.size} scales; an activation has one"
        )
    return Tensor(
        shape=_without_batch(tensor), scale=float(tensor.scales[0]), zero_point=int(tensor.zero_points[0])
    )


class _Graph:
    """The network under construction."""

    def __init__(self, file: TfliteFile, size: int) -> None:
        self.file = file
        self.nodes: list[Node] = []
        self.input = _activation(file.tensor(file.input))
        self._names = {file.input: INPUT_NAME}
        self._pads: dict[int, tuple[int, Padding]] = {}  # the output of a PAD: what it pads, by how much
        self._unread: dict[int, FileOperator] = {}
        self._budget = _MAX_SHARING * size  # bytes of constants

    def start(self, operator: FileOperator) -> None:
        """Checks that the operator can run now: its inputs exist, its output does not yet.

        Raises: ModelFileError.
        """
        for index in operator.inputs:
            if index != -1 and index not in self._names and self.file.tensor(index).data is None:
                raise ModelFileError(f"reads tensor {index} before an operator has made it")
            self._unread.pop(index, None)
        if operator.output in self._names:
            raise ModelFileError(f"makes tensor {operator.output} a second time")
        self._unread[operator.output] = operator

    def finish(self) -> None:
        """Checks that everything that was made is used, and the last node makes the output.

        Raises: ModelFileError, UnsupportedError.
        """
        if self.file.output in self._pads:
            raise UnsupportedError("the network's output is padded; only a convolution can absorb a PAD")
        last = self._unread.pop(self.file.output, None)
        if self._unread:
            operator = next(iter(self._unread.values()))
            raise UnsupportedError(
                f"operator {operator.index} ({operator.name}) makes tensor {operator.output}, "
                "which nothing reads"
            )
        if last is None:
            raise UnsupportedError("the network's output is its input, or read again inside the network")

    def source(self, operator: FileOperator, position: int = 0) -> tuple[str, Tensor]:
        """Name and tensor of an input that another operator makes.

        Raises: ModelFileError where there is none, UnsupportedError where it is constant or padded.
        """
        if position >= len(operator.inputs):
            raise ModelFileError(f"has {len(operator.inputs)} inputs; input {position} is missing")
        index = operator.inputs[position]
        tensor = _activation(self.file.tensor(index))
        if index in self._pads:
            raise UnsupportedError("reads the output of a PAD, which only a convolution can absorb")
        return self._names[index], tensor

    def padded_source(self, operator: FileOperator) -> tuple[str, Tensor, Padding]:
        """Name and tensor of the first input, and the (top, bottom, left, right) that PADs add to it."""
        index = operator.inputs[0] if operator.inputs else -1
        if index not in self._pads:
            return *self.source(operator), (0, 0, 0, 0)
        origin, padding = self._pads[index]
        return self._names[origin], _activation(self.file.tensor(origin)), padding

    def pad(self, operator: FileOperator, padding: Padding) -> None:
        """Notes that the operator's output is its input with padding, on top of what its input has."""
        index = operator.inputs[0]
        origin, before = self._pads.get(index, (index, (0, 0, 0, 0)))
        total = (
            before[0] + padding[0], before[1] + padding[1], before[2] + padding[2], before[3] + padding[3]
        )  # fmt: skip
        self._pads[operator.output] = (origin, total)
        self._names[operator.output] = self._names[origin]

    def constant(
        self, operator: FileOperator, position: int, *dtypes: str
    ) -> tuple[FileTensor, Array] | None:
        """A constant input, or None where the operator leaves it out.

        Raises: UnsupportedError, ModelFileError where it is something else.
        """
        if position >= len(operator.inputs) or operator.inputs[position] == -1:
            return None
        tensor = self.file.tensor(operator.inputs[position])
        values = tensor.values(*dtypes)
        self._budget -= values.nbytes
        if self._budget < 0:
            raise UnsupportedError(f"the constants of the file are read more than {_MAX_SHARING} times")
        return tensor, values

    def integers(self, operator: FileOperator, position: int) -> list[int] | None:
        """A constant input of a few integers, flattened, or None where the operator leaves it out."""
        found = self.constant(operator, position, "int32", "int64")
        if found is None:
            return None
        if found[1].size > 64:
            raise UnsupportedError(f"{found[1].size} values where a few are expected")
        return [int(value) for value in found[1].flatten()]

    def output(self, operator: FileOperator) -> Tensor:
        """The tensor that the operator makes."""
        return _activation(self.file.tensor(operator.output))

    def add(self, operator: FileOperator, node: Node) -> None:
        """Appends the operator's node; where the file's output shape is another, a reshape follows."""
        self.nodes.append(node)
        name, output = node.name, self.output(operator)
        if output.shape != node.output.shape and math.prod(output.shape) == math.prod(node.output.shape):
            name = f"reshape_{operator.index}_out"
            self.nodes.append(Node(name=name, op="reshape", inputs=(node.name,), output=output))
        self._names[operator.output] = name

    def add_plain(self, operator: FileOperator, op: str, **more: Any) -> None:
        """Appends a node without a layer that reads the operator's first input."""
        name, _ = self.source(operator)
        node = Node(
            name=f"{op}_{operator.index}", op=op, inputs=(name,), output=self.output(operator), **more
        )
        self.add(operator, node)


# ------------------------------------------------------------------------------------------- small parts
def _clamp(activation: int, output: Tensor) -> dict[str, int]:
    """act_min and act_max of a fused activation, computed in float32 as TensorFlow Lite does."""

    def quantized(real: float) -> int:
        with np.errstate(over="ignore"):
            ratio = float(np.float32(real) / np.float32(output.scale))
        if abs(ratio) >= 2**31 - 256:
            raise ArithmeticRangeError(f"the output's scale {output.scale} is too small for its activation")
        return output.zero_point + int(math.copysign(math.floor(abs(ratio) + 0.5), ratio))

    kind = tflite.ActivationFunctionType
    bounds: dict[int, tuple[float | None, float | None]] = {
        kind.NONE: (None, None),
        kind.RELU: (0.0, None),
        kind.RELU6: (0.0, 6.0),
        kind.RELU_N1_TO_1: (-1.0, 1.0),
    }
    if activation not in bounds:
        raise UnsupportedError(
            f"fused activation number {activation}; supported are NONE, RELU, RELU6 and RELU_N1_TO_1"
        )
    low, high = bounds[activation]
    return {
        "act_min": -128 if low is None else max(-128, quantized(low)),
        "act_max": 127 if high is None else min(127, quantized(high)),
    }


def _positive(values: Sequence[int], name: str) -> tuple[int, int]:
    if min(values) < 1:
        raise ModelFileError(f"{name} {tuple(values)} must be positive")
    return values[0], values[1]


def _window_padding(
    scheme: int, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Padding:
    """(top, bottom, left, right) of the scheme SAME or VALID; an odd pixel is at the bottom and right."""
    if scheme == tflite.Padding.VALID:
        return 0, 0, 0, 0
    if scheme != tflite.Padding.SAME:
        raise ModelFileError(f"padding scheme number {scheme}; there are only SAME and VALID")
    pads: list[int] = []
    for pixels, taps, step, spread in zip(size, kernel, stride, dilation, strict=True):
        outputs = -(-pixels // step)
        total = max((outputs - 1) * step + (taps - 1) * spread + 1 - pixels, 0)
        pads += [total // 2, total - total // 2]
    return pads[0], pads[1], pads[2], pads[3]


def _weight_scales(weights: FileTensor, channels: int, axis: int) -> npt.NDArray[np.float64]:
    """The (K,) scales of weights, which must be symmetric."""
    if weights.zero_points.any():
        raise UnsupportedError(f"weights (tensor {weights.index}) with a zero point; supported is 0")
    if weights.scales.size == 1:
        return np.full(channels, weights.scales[0])
    if weights.scales.size != channels or weights.axis != axis:
        raise ModelFileError(
            f"weights (tensor {weights.index}) have {weights.scales.size} scales along axis {weights.axis}; "
            f"expected one, or {channels} along axis {axis}"
        )
    return weights.scales


def _requantization(
    factors: Array, source: Tensor, output: Tensor, reach: npt.NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """Multipliers, shifts and zero points for (K,) factors; equal factors are converted once.

    With `reach`, (K,), they are for a single rounding, exact for all accumulators from -reach to reach.
    """
    distinct, places = np.unique(factors, return_inverse=True)
    if reach is None:
        pairs = np.array([quantize_multiplier(float(factor)) for factor in distinct], np.int32)
    else:
        farthest = np.zeros(distinct.size, np.int64)
        np.maximum.at(farthest, places, reach)
        pairs = np.array(list(map(_rounded_once, distinct, farthest.clip(max=INT32_MAX))), np.int32)
    return {
        "multiplier": pairs[places, 0],
        "shift": pairs[places, 1],
        "input_zero_point": source.zero_point,
        "output_zero_point": output.zero_point,
    }


def _rounded_once(factor: np.float64, reach: np.int64) -> tuple[int, int]:
    """The multiplier and shift that, rounding once, give round(x * factor) in double precision.

    They do for all integers x from -reach to reach. Results that int8 clamps anyway, whatever the zero point,
    are not compared.

    Raises: UnsupportedError where neither the nearest multiplier nor its neighbours do.
    """
    # Both are non-decreasing in x. They are equal if they are around each place where the exact one steps.
    steps = np.floor((np.arange(-256, 257) - 0.5) / factor)
    x = (steps[:, None] + np.arange(-2, 4)).clip(-reach, reach).astype(np.int64)
    product = x * factor
    whole = np.trunc(product)
    exact = whole + np.copysign(np.abs(product - whole) >= 0.5, product)
    nearest, shift = quantize_multiplier(float(factor))
    for multiplier in (nearest, nearest + 1, nearest - 1):
        scaled = multiply_by_quantized_multiplier(x, multiplier, shift, single_rounding=True)
        if np.array_equal(scaled.numpy(), exact):
            return multiplier, shift
    raise UnsupportedError(f"no multiplier gives exactly what the factor {factor} does up to {reach}")


def _bias(graph: _Graph, operator: FileOperator, channels: int) -> npt.NDArray[np.int32]:
    found = graph.constant(operator, 2, "int32")
    if found is None:
        return np.zeros(channels, np.int32)
    return found[1].reshape(-1).astype(np.int32)


def _required(found: tuple[FileTensor, Array] | None, what: str) -> tuple[FileTensor, Array]:
    if found is None:
        raise ModelFileError(f"has no {what}")
    return found


def _need_int8(*tensors: Tensor) -> None:
    if any(tensor.dtype != "int8" for tensor in tensors):
        raise UnsupportedError("reads or makes float32; only quantize and dequantize do that")


def _layer_node(
    operator: FileOperator, op: str, inputs: tuple[str, ...], source: Tensor, output: Tensor, **values: Any
) -> Node:
    """The node of an operator of the units."""
    name = f"{op}_{operator.index}"
    scales: npt.NDArray[np.float64] | None = values.pop("weight_scales", None)
    layer = Layer(name=name, op=op, input=placeholder(source.shape), **values)
    if scales is not None:
        check_accumulator(np.abs(channel_weights(layer).astype(np.int64)).sum(axis=1))
    return Node(
        name=name, op=op, inputs=inputs, output=output, layer=layer, weight_scales=scales,
        weight_bits=None if scales is None else np.full(scales.size, 8, np.int8),
    )  # fmt: skip


def _as(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return Tensor(shape=shape, dtype=tensor.dtype, scale=tensor.scale, zero_point=tensor.zero_point)


# --------------------------------------------------------------------------------------------- operators
def _convolution(graph: _Graph, operator: FileOperator) -> None:
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
    stride = _positive((options.StrideH(), options.StrideW()), "stride")
    dilation = _positive((options.DilationHFactor(), options.DilationWFactor()), "dilation")
    size = (source.shape[0] + extra[0] + extra[1], source.shape[1] + extra[2] + extra[3])
    own = _window_padding(options.Padding(), size, weights.shape[1:3], stride, dilation)
    scales = _weight_scales(tensor, channels, 3 if depthwise else 0)
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
        **_requantization(source.scale * scales / output.scale, source, output),
        **_clamp(options.FusedActivationFunction(), output),
    )
    graph.add(operator, node)


def _fully_connected(graph: _Graph, operator: FileOperator) -> None:
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
    scales = _weight_scales(tensor, units, 0)
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
        **_requantization(source.scale * scales / output.scale, source, output, reach),
        **_clamp(options.FusedActivationFunction(), output),
    )
    graph.add(operator, node)


def _add(graph: _Graph, operator: FileOperator) -> None:
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
        **_clamp(options.FusedActivationFunction(), output),
    )
    graph.add(operator, node)


def _pool(graph: _Graph, operator: FileOperator) -> None:
    options = operator.options("Pool2DOptions")
    name, source = graph.source(operator)
    output = graph.output(operator)
    _need_int8(source, output)
    if (source.scale, source.zero_point) != (output.scale, output.zero_point):
        raise UnsupportedError("input and output of a pool must share scale and zero point")
    if len(source.shape) != 3:
        raise ModelFileError(f"input {source.shape}; expected (H, W, C)")
    kernel = _positive((options.FilterHeight(), options.FilterWidth()), "kernel")
    stride = _positive((options.StrideH(), options.StrideW()), "stride")
    node = _layer_node(
        operator,
        "average_pool" if operator.name == "AVERAGE_POOL_2D" else "max_pool",
        (name,),
        source,
        output,
        kernel=kernel,
        stride=stride,
        padding=_window_padding(options.Padding(), source.shape[:2], kernel, stride, (1, 1)),
        **_clamp(options.FusedActivationFunction(), output),
    )
    graph.add(operator, node)


def _pad(graph: _Graph, operator: FileOperator) -> None:
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


def _check_new_shape(graph: _Graph, operator: FileOperator, expected: Sequence[int]) -> None:
    found = graph.file.tensor(operator.output).shape
    if found != tuple(expected):
        raise ModelFileError(f"makes {found}, expected {tuple(expected)}")


def _reshape(graph: _Graph, operator: FileOperator) -> None:
    source = graph.file.tensor(operator.inputs[0]).shape if operator.inputs else ()
    wanted = graph.integers(operator, 1)
    if wanted is None:
        wanted = [int(size) for size in vector(operator.options("ReshapeOptions").NewShapeAsNumpy())[:64]]
    if wanted.count(-1) == 1:
        known = -math.prod(wanted)
        wanted[wanted.index(-1)] = math.prod(source) // known if known > 0 else -1
    _check_new_shape(graph, operator, wanted)
    graph.add_plain(operator, "reshape")


def _squeeze(graph: _Graph, operator: FileOperator) -> None:
    source = graph.file.tensor(operator.inputs[0]).shape if operator.inputs else ()
    dims = vector(operator.options("SqueezeOptions").SqueezeDimsAsNumpy())[:64]
    axes = {int(axis) + len(source) * (axis < 0) for axis in dims}
    if not axes:
        axes = {axis for axis, size in enumerate(source) if size == 1}
    _check_new_shape(graph, operator, [size for axis, size in enumerate(source) if axis not in axes])
    graph.add_plain(operator, "reshape")


def _expand_dims(graph: _Graph, operator: FileOperator) -> None:
    expected = list(graph.file.tensor(operator.inputs[0]).shape) if operator.inputs else []
    axes = graph.integers(operator, 1)
    if axes is None or len(axes) != 1 or not -len(expected) - 1 <= axes[0] <= len(expected):
        raise ModelFileError(f"axis {axes} for an input of {len(expected)} axes")
    expected.insert(axes[0] + (len(expected) + 1) * (axes[0] < 0), 1)
    _check_new_shape(graph, operator, expected)
    graph.add_plain(operator, "reshape")


def _quantize(graph: _Graph, operator: FileOperator) -> None:
    source, output = graph.source(operator)[1], graph.output(operator)
    _need_int8(output)
    if source.dtype == "int8":
        quantize_multiplier(source.scale / output.scale)  # which refuses scales that are too far apart
    graph.add_plain(operator, "quantize")


def _dequantize(graph: _Graph, operator: FileOperator) -> None:
    _need_int8(graph.source(operator)[1])
    graph.add_plain(operator, "dequantize")


def _softmax(graph: _Graph, operator: FileOperator) -> None:
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
def _mean(graph: _Graph, operator: FileOperator) -> None:
    """The mean over height and width, as a depthwise convolution with weights of 1.

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
    multiplier, shift = _mean_constants(source.scale / output.scale, height * width)
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


def _mean_constants(ratio: float, pixels: int) -> tuple[int, int]:
    """The reference kernel's multiplier, which may lie below 2^30, and shift, for a sum over `pixels`."""
    multiplier, shift = quantize_multiplier(ratio)
    drop = min(pixels.bit_length() - 1, 32, 31 + shift)
    return (multiplier << drop) // pixels, shift - drop


_CONVERTERS: dict[str, Callable[[_Graph, FileOperator], None]] = {
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
