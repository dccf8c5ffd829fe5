# SPDX-License-Identifier: Apache-2.0
"""One layer with its input, constants and (optionally) expected output; and the file format for it.

The format is an `.npz` without pickles, described in docs/reference/layer-file.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.array_files import read_npz, write_npz
from common.arrays import Array, Int8, Int32
from common.errors import ArithmeticRangeError, LayerFileError, NpuloopError, ShapeError, UnsupportedError
from golden import operators
from golden.arithmetic import INT32_MAX, MAX_SHIFT, MIN_SHIFT, weight_range

OPS = ("conv2d", "depthwise_conv2d", "fully_connected", "add", "average_pool", "max_pool")
WEIGHTED_OPS = ("conv2d", "depthwise_conv2d", "fully_connected")
POOL_OPS = ("average_pool", "max_pool")

# A bound on every stride, dilation, pool kernel and padding: a damaged file must not ask for endless memory.
# What the hardware can do is narrower, and the compiler's to check.
MAX_GEOMETRY = 1024

_WEIGHTED_KEYS = ("weights", "bias", "multiplier", "shift", "input_zero_point", "output_zero_point")
_ADD_KEYS = (
    "input2",
    "input1_zero_point",
    "input2_zero_point",
    "output_zero_point",
    "input1_multiplier",
    "input1_shift",
    "input2_multiplier",
    "input2_shift",
    "output_multiplier",
    "output_shift",
    "left_shift",
)
_OP_KEYS: dict[str, tuple[str, ...]] = {
    "conv2d": (*_WEIGHTED_KEYS, "stride", "dilation", "padding"),
    "depthwise_conv2d": (*_WEIGHTED_KEYS, "stride", "dilation", "padding"),
    "fully_connected": _WEIGHTED_KEYS,
    "add": _ADD_KEYS,
    "average_pool": ("kernel", "stride", "padding"),
    "max_pool": ("kernel", "stride", "padding"),
}
_COMMON_KEYS = ("input", "act_min", "act_max")
_ARRAY_TYPES: dict[str, type[np.generic]] = {
    "input": np.int8,
    "input2": np.int8,
    "weights": np.int8,
    "bias": np.int32,
    "multiplier": np.int32,
    "shift": np.int32,
    "expected": np.int8,
}
_TUPLE_LENGTHS = {"stride": 2, "dilation": 2, "kernel": 2, "padding": 4}
_WEIGHT_AXES = {"conv2d": 4, "depthwise_conv2d": 4, "fully_connected": 2}


def layer_keys(op: str) -> tuple[str, ...]:
    """Return the keys that a layer of operator `op` must have, besides `op`; `expected` is optional.

    Raises:
        UnsupportedError: an operator outside `OPS`.
    """
    if op not in _OP_KEYS:
        raise UnsupportedError(f"operator {op!r} is not supported; supported are {', '.join(OPS)}")
    return (*_COMMON_KEYS, *_OP_KEYS[op])


def _no_int8() -> Int8:
    return np.zeros(0, np.int8)


def _no_int32() -> Int32:
    return np.zeros(0, np.int32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One operator with everything it needs. Fields are the keys of the layer file format.

    A field that the operator does not have (see `layer_keys`) keeps its neutral default. A Layer is checked
    when it is made, so one that exists is valid.

    Attributes:
        name: for messages and reports.
        op: one of `OPS`.
        input, input2: (H, W, C) int8; (C,) for fully_connected; any one shape for add.
        weights: conv2d (K, KH, KW, C), depthwise_conv2d (1, KH, KW, K), fully_connected (K, C); int8.
        bias, multiplier, shift: (K,) int32.
        stride, dilation, kernel: (vertical, horizontal), pixels. `kernel` is for pools; see `kernel_size`.
        padding: (top, bottom, left, right), pixels.
        single_rounding: of a weighted operator, requantisation rounds once instead of twice.
        expected: the golden output, int8, or None where it is not known.

    Raises:
        ShapeError: a shape or element type is wrong; the message names the layer and the field.
        ArithmeticRangeError: a value is out of range; the message names the layer and the field.
        UnsupportedError: the operator is unknown.
    """

    name: str
    op: str
    input: Int8
    act_min: int = -128
    act_max: int = 127
    weights: Int8 = field(default_factory=_no_int8)
    bias: Int32 = field(default_factory=_no_int32)
    multiplier: Int32 = field(default_factory=_no_int32)
    shift: Int32 = field(default_factory=_no_int32)
    input_zero_point: int = 0
    output_zero_point: int = 0
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    kernel: tuple[int, int] = (1, 1)
    input2: Int8 = field(default_factory=_no_int8)
    input1_zero_point: int = 0
    input2_zero_point: int = 0
    input1_multiplier: int = 0
    input1_shift: int = 0
    input2_multiplier: int = 0
    input2_shift: int = 0
    output_multiplier: int = 0
    output_shift: int = 0
    left_shift: int = 0
    single_rounding: bool = False
    expected: Int8 | None = None

    def __post_init__(self) -> None:
        """Check the layer; see the class."""
        try:
            _check_layer(self)
        except NpuloopError as error:
            raise type(error)(f"layer {self.name!r}: {error}") from None


def _check_between(key: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ArithmeticRangeError(f"{key} = {value} must lie in [{low}, {high}]")


def _check_arrays(layer: Layer, keys: tuple[str, ...]) -> None:
    for key, dtype in _ARRAY_TYPES.items():
        value = getattr(layer, key)
        if key not in keys and not (key == "expected" and value is not None):
            continue
        if not isinstance(value, np.ndarray) or value.dtype != dtype:
            given_type = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise ShapeError(f"{key} is {given_type}; store it as an array of {np.dtype(dtype)}")
        if value.size == 0:
            raise ShapeError(f"{key} is empty, shape {value.shape}")


def _check_weighted(layer: Layer) -> None:
    axes = _WEIGHT_AXES[layer.op]
    if layer.weights.ndim != axes:
        raise ShapeError(f"weights of {layer.op} have {axes} axes, not {layer.weights.ndim}")
    channels = layer.input.shape[-1]
    if layer.op == "depthwise_conv2d":
        if layer.weights.shape[0] != 1 or layer.weights.shape[3] % channels:
            raise ShapeError(
                f"weights {layer.weights.shape} do not fit {channels} input channels; depthwise weights are "
                "(1, KH, KW, K) with K a multiple of the input's channels"
            )
    elif layer.weights.shape[-1] != channels:
        raise ShapeError(
            f"weights {layer.weights.shape} expect {layer.weights.shape[-1]} input channels but input "
            f"{layer.input.shape} has {channels}"
        )
    count = out_channels(layer)
    for key in ("bias", "multiplier", "shift"):
        shape = getattr(layer, key).shape
        if shape != (count,):
            raise ShapeError(f"{key} has shape {shape}; expected ({count},), one value per output channel")
    _check_between("multiplier", int(layer.multiplier.min()), 0, INT32_MAX)
    for value in (int(layer.shift.min()), int(layer.shift.max())):
        _check_between("shift", value, MIN_SHIFT, MAX_SHIFT)
    _check_between("input_zero_point", layer.input_zero_point, -128, 127)
    _check_between("output_zero_point", layer.output_zero_point, -128, 127)


def _check_window(layer: Layer) -> None:
    for key in ("kernel", "stride", "dilation", "padding"):
        values, length = getattr(layer, key), _TUPLE_LENGTHS[key]
        if len(values) != length:
            raise ShapeError(f"{key} has {len(values)} values; expected {length}")
        for value in values:
            _check_between(key, value, 0 if key == "padding" else 1, MAX_GEOMETRY)
    kernel = kernel_size(layer)
    pads = (layer.padding[:2], layer.padding[2:])
    if layer.op in POOL_OPS and any(max(pad) >= k for pad, k in zip(pads, kernel, strict=True)):
        raise ShapeError(f"padding {layer.padding} of a pool must be smaller than its kernel {kernel}")
    if min(output_shape(layer)) < 1:
        raise ShapeError(
            f"a kernel of {kernel} with dilation {layer.dilation} does not fit the input {layer.input.shape} "
            f"with padding {layer.padding}"
        )


def _check_add(layer: Layer) -> None:
    if layer.input2.shape != layer.input.shape:
        raise ShapeError(
            f"input {layer.input.shape} and input2 {layer.input2.shape} must have the same shape"
        )
    for part in ("input1", "input2", "output"):
        _check_between(f"{part}_zero_point", getattr(layer, f"{part}_zero_point"), -128, 127)
        _check_between(f"{part}_shift", getattr(layer, f"{part}_shift"), MIN_SHIFT, 0)
        _check_between(f"{part}_multiplier", getattr(layer, f"{part}_multiplier"), 0, INT32_MAX)
    _check_between("left_shift", layer.left_shift, 0, 23)


def _check_layer(layer: Layer) -> None:
    keys = layer_keys(layer.op)
    _check_arrays(layer, keys)
    axes = 1 if layer.op == "fully_connected" else 3
    if layer.op != "add" and layer.input.ndim != axes:
        raise ShapeError(f"input of {layer.op} has {axes} axes, channels last, not {layer.input.ndim}")
    _check_between("act_min", layer.act_min, -128, 127)
    _check_between("act_max", layer.act_max, layer.act_min, 127)
    if layer.op in WEIGHTED_OPS:
        _check_weighted(layer)
    if layer.op == "add":
        _check_add(layer)
    elif layer.op != "fully_connected":
        _check_window(layer)
    if layer.expected is not None and layer.expected.shape != output_shape(layer):
        raise ShapeError(f"expected has shape {layer.expected.shape} but the output is {output_shape(layer)}")


def out_channels(layer: Layer) -> int:
    """Return the number of output channels."""
    if layer.op == "depthwise_conv2d":
        return int(layer.weights.shape[3])
    if layer.op in WEIGHTED_OPS:
        return int(layer.weights.shape[0])
    return int(layer.input.shape[-1])


def kernel_size(layer: Layer) -> tuple[int, int]:
    """Return the (vertical, horizontal) kernel in pixels; (1, 1) for an operator without one."""
    if layer.op in ("conv2d", "depthwise_conv2d"):
        return int(layer.weights.shape[1]), int(layer.weights.shape[2])
    return layer.kernel


def output_shape(layer: Layer) -> tuple[int, ...]:
    """Return the shape of the output: (OH, OW, K), (K,) for fully_connected, the input's shape for add."""
    if layer.op == "fully_connected":
        return (out_channels(layer),)
    if layer.op == "add":
        return tuple(layer.input.shape)
    (kernel_h, kernel_w), (stride_h, stride_w) = kernel_size(layer), layer.stride
    top, bottom, left, right = layer.padding
    height, width = layer.input.shape[:2]
    return (
        operators.output_size(height, kernel_h, stride_h, top, bottom, layer.dilation[0]),
        operators.output_size(width, kernel_w, stride_w, left, right, layer.dilation[1]),
        out_channels(layer),
    )


def macs(layer: Layer) -> int:
    """Return the multiply-accumulates of the mathematics, padding included; 0 for add and the pools."""
    if layer.op not in WEIGHTED_OPS:
        return 0
    pixels = int(np.prod(output_shape(layer)[:-1]))
    return pixels * int(layer.weights.size)


def run_layer(layer: Layer, a_bits: int = 8) -> Int8:
    """Return the golden output, int8, in the shape of `output_shape`.

    `a_bits` is the width of the activations that a weighted operator's multipliers see; add and the pools
    always use all 8 bits.

    Raises:
        ArithmeticRangeError: an accumulator could leave int32 or a reduced layer's shift leaves its range.
        UnsupportedError: a_bits is not 2 to 8. Messages name the layer.
    """
    arguments = {key: getattr(layer, key) for key in layer_keys(layer.op)}
    if layer.op in WEIGHTED_OPS:
        arguments |= {"a_bits": a_bits, "single_rounding": layer.single_rounding}
    try:
        output: Int8 = getattr(operators, layer.op)(**arguments)
    except NpuloopError as error:
        raise type(error)(f"layer {layer.name!r}: {error}") from None
    return output


def clip_weights(layer: Layer, w_bits: int) -> Layer:
    """Return the layer with its weights clipped to the symmetric range of `w_bits`, without `expected`.

    It turns any weighted layer into one that a low-bit unit can run: a test input, not a quantisation method.

    Raises:
        UnsupportedError: an operator without weights or a width outside 2 to 8.
    """
    if layer.op not in WEIGHTED_OPS:
        raise UnsupportedError(
            f"layer {layer.name!r}: {layer.op} has no weights to clip; only {', '.join(WEIGHTED_OPS)} have"
        )
    low, high = weight_range(w_bits)
    return replace(layer, weights=layer.weights.clip(low, high), expected=None)


def layer_to_arrays(layer: Layer) -> dict[str, Array]:
    """Return the layer as the keys and arrays of the layer file format; `expected` only where it is known."""
    arrays: dict[str, Array] = {"op": np.array(layer.op)}
    for key in layer_keys(layer.op):
        arrays[key] = np.asarray(getattr(layer, key))
    if layer.single_rounding:
        arrays["single_rounding"] = np.array(1)
    if layer.expected is not None:
        arrays["expected"] = layer.expected
    return arrays


def _scalar(key: str, value: Array) -> int:
    if value.dtype.kind not in "iu" or value.shape != ():
        raise ShapeError(f"{key} is {value.dtype} {value.shape}; store it as one integer")
    return int(value)


def _numbers(key: str, value: Array) -> tuple[int, ...]:
    if value.dtype.kind not in "iu" or value.ndim != 1:
        raise ShapeError(f"{key} is {value.dtype} {value.shape}; store it as {_TUPLE_LENGTHS[key]} integers")
    return tuple(int(item) for item in value)


def layer_from_arrays(name: str, arrays: Mapping[str, Array]) -> Layer:
    """Return the layer that `layer_to_arrays` turned into arrays.

    Raises:
        ShapeError: a missing or unknown key or an array that does not fit.
        ArithmeticRangeError: a value out of range.
        UnsupportedError: an unknown operator.
    """
    if "op" not in arrays:
        raise ShapeError("key 'op' is missing; store the operator's name in it")
    op_array = np.asarray(arrays["op"])
    if op_array.dtype.kind != "U" or op_array.shape != ():
        raise ShapeError(f"op is {op_array.dtype} {op_array.shape}; store it as one string")
    op = str(op_array)
    required = layer_keys(op)
    optional = ("single_rounding",) if op in WEIGHTED_OPS else ()
    for key in required:
        if key not in arrays:
            raise ShapeError(f"key {key!r} is missing; {op} needs {', '.join(required)}")
    for key in arrays:
        if key not in (*required, *optional, "op", "expected"):
            raise ShapeError(f"key {key!r} is not one of {op}; remove it")
    values: dict[str, Any] = {}
    for key, value in arrays.items():
        if key in _ARRAY_TYPES:
            values[key] = np.asarray(value)
        elif key in _TUPLE_LENGTHS:
            values[key] = _numbers(key, np.asarray(value))
        elif key == "single_rounding":
            values[key] = bool(_scalar(key, np.asarray(value)))
        elif key != "op":
            values[key] = _scalar(key, np.asarray(value))
    return Layer(name=name, op=op, **values)


def load_layer(path: str | Path) -> Layer:
    """Read and check a layer file; the layer's name is the file's name without `.npz`.

    Raises:
        LayerFileError: the file is no valid layer; the message names the file, the key and what to do.
    """
    path = Path(path)
    arrays = read_npz(path)
    try:
        return layer_from_arrays(path.stem, arrays)
    except NpuloopError as error:
        raise LayerFileError(f"{path}: {error}") from error


def save_layer(layer: Layer, path: str | Path) -> None:
    """Write a layer file, whole or not at all. Without `expected` in the layer the file has none either.

    Raises:
        LayerFileError: the file cannot be written.
    """
    write_npz(layer_to_arrays(layer), Path(path))
