# SPDX-License-Identifier: Apache-2.0
"""The table of the host's operators: what each takes and makes, and how it runs.

They stand before the first and behind the last operator of the units (`golden.partition`). A network file
has them as nodes like any other. `golden.host` and `golden.host_float` have their arithmetic.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.arrays import Array
from common.errors import ArithmeticRangeError, NetworkError, ShapeError, UnsupportedError
from golden import host, host_float
from golden.node import QUANTISED, Node, Tensor


@dataclass(frozen=True)
class HostOperator:
    """One operator of the host.

    Attributes:
        meaning: one line for people.
        types: what it can turn into what: pairs of element types.
        check: checks a node with the tensor that it reads, beyond the types; see `check_host_node`.
        run: gives the output for a node, the tensor that it reads and (N, ...) values.
    """

    meaning: str
    types: tuple[tuple[str, str], ...]
    check: Callable[[Node, Tensor], None]
    run: Callable[[Node, Tensor, Array], Array]


def _axis(node: Node, source: Tensor) -> int:
    """Return the node's axis as an axis of (N, ...).

    Raises:
        ShapeError: its input has no such axis.
    """
    if not -len(source.shape) <= node.axis < len(source.shape):
        raise ShapeError(f"axis {node.axis} of a tensor {source.shape}")
    return node.axis + 1 if node.axis >= 0 else node.axis


def _same_shape(node: Node, source: Tensor) -> None:
    if source.shape != node.output.shape:
        raise ShapeError(f"{node.op} keeps the shape, {source.shape} is not {node.output.shape}")


def _same_quantisation(node: Node, source: Tensor) -> None:
    if (source.dtype, source.scale, source.zero_point) != (
        node.output.dtype, node.output.scale, node.output.zero_point,
    ):  # fmt: skip
        raise NetworkError(f"a {node.op} keeps its tensor's type, scale and zero point")


def _output_quantisation(node: Node, scale: float, zero_point: int) -> None:
    output = node.output
    if output.dtype == "int8" and (output.scale, output.zero_point) != (scale, zero_point):
        raise UnsupportedError(
            f"an int8 {node.op} has the output scale 1/{round(1 / scale)} and zero point {zero_point}, "
            f"not {output.scale} and {output.zero_point}"
        )


def _check_softmax(node: Node, source: Tensor) -> None:
    _same_shape(node, source)
    _axis(node, source)
    _output_quantisation(node, *host.PROBABILITY)
    if not math.isfinite(node.beta) or node.beta <= 0:
        raise ArithmeticRangeError(f"beta = {node.beta} must be finite and positive")


def _check_log_softmax(node: Node, source: Tensor) -> None:
    _same_shape(node, source)
    _axis(node, source)
    _output_quantisation(node, *host.LOG_PROBABILITY)


def _check_logistic(node: Node, source: Tensor) -> None:
    _same_shape(node, source)
    _output_quantisation(node, *host.PROBABILITY)


def _check_arg_max(node: Node, source: Tensor) -> None:
    _axis(node, source)
    axis = node.axis % len(source.shape)
    expected = (*source.shape[:axis], *source.shape[axis + 1 :]) or (1,)
    if node.output.shape != expected:
        raise ShapeError(f"{node.op} of {source.shape} makes {expected}, not {node.output.shape}")


def _check_reshape(node: Node, source: Tensor) -> None:
    if math.prod(node.output.shape) != math.prod(source.shape):
        raise ShapeError(f"{source.shape} cannot become {node.output.shape}")
    _same_quantisation(node, source)


def _check_transpose(node: Node, source: Tensor) -> None:
    if sorted(node.permutation) != list(range(len(source.shape))):
        raise ShapeError(f"permutation {node.permutation} of a tensor {source.shape}")
    expected = tuple(source.shape[axis] for axis in node.permutation)
    if node.output.shape != expected:
        raise ShapeError(f"{node.op} of {source.shape} makes {expected}, not {node.output.shape}")
    _same_quantisation(node, source)


def _on_last_axis(kernel: Callable[[Node, Tensor, Array], Array]) -> Callable[[Node, Tensor, Array], Array]:
    """Return an operator that works on the node's axis, from one that works on the last."""

    def run(node: Node, source: Tensor, values: Array) -> Array:
        axis = _axis(node, source)
        moved = np.ascontiguousarray(np.moveaxis(values, axis, -1))
        return np.ascontiguousarray(np.moveaxis(kernel(node, source, moved), -1, axis))

    return run


def _softmax(node: Node, source: Tensor, values: Array) -> Array:
    if source.dtype == "float32":
        return host_float.softmax(values, node.beta)
    return host.softmax(values, source.scale, node.beta)


def _log_softmax(_node: Node, source: Tensor, values: Array) -> Array:
    if source.dtype == "float32":
        return host_float.log_softmax(values)
    return host.log_softmax(values, source.scale)


def _logistic(_node: Node, source: Tensor, values: Array) -> Array:
    if source.dtype == "float32":
        return host_float.logistic(values)
    return host.logistic(values, source.scale, source.zero_point)


def _arg_max(node: Node, source: Tensor, values: Array) -> Array:
    axis = _axis(node, source)
    places = values.argmax(axis=axis)
    if values.dtype == np.float32:  # no value is above NaN, nor NaN above a value
        number = np.where(np.isnan(values), np.float32(-np.inf), values)
        places = np.where(np.isnan(values.take(0, axis=axis)), 0, number.argmax(axis=axis))
    result: Array = places.reshape(len(values), *node.output.shape).astype(node.output.dtype)
    return result


def _reshape(node: Node, _source: Tensor, values: Array) -> Array:
    return values.reshape(len(values), *node.output.shape)


def _transpose(node: Node, _source: Tensor, values: Array) -> Array:
    return np.ascontiguousarray(values.transpose(0, *(axis + 1 for axis in node.permutation)))


def _quantize(node: Node, source: Tensor, values: Array) -> Array:
    output = node.output
    if source.dtype == "float32":
        return host.quantize(values, output.scale, output.zero_point, output.dtype)
    return host.requantize(
        values, source.scale, source.zero_point, output.scale, output.zero_point, output.dtype
    )


def _dequantize(_node: Node, source: Tensor, values: Array) -> Array:
    return host.dequantize(values, source.scale, source.zero_point)


_SAME = (("int8", "int8"), ("float32", "float32"))
_MOVES = tuple((dtype, dtype) for dtype in ("int8", "uint8", "float32", "int32", "int64"))

HOST_OPERATORS: dict[str, HostOperator] = {
    "reshape": HostOperator("the same values in another shape", _MOVES, _check_reshape, _reshape),
    "transpose": HostOperator("the axes in another order", _MOVES, _check_transpose, _transpose),
    "quantize": HostOperator(
        "to int8 or uint8, from float32 or from another scale",
        tuple((source, output) for source in ("float32", *QUANTISED) for output in QUANTISED),
        _same_shape,
        _quantize,
    ),
    "dequantize": HostOperator(
        "to float32", tuple((source, "float32") for source in QUANTISED), _same_shape, _dequantize
    ),
    "softmax": HostOperator("softmax over one axis", _SAME, _check_softmax, _on_last_axis(_softmax)),
    "log_softmax": HostOperator(
        "the softmax's logarithm over one axis", _SAME, _check_log_softmax, _on_last_axis(_log_softmax)
    ),
    "logistic": HostOperator("1 / (1 + exp(-x))", _SAME, _check_logistic, _logistic),
    "arg_max": HostOperator(
        "the first place of the largest value along one axis",
        tuple((source, output) for source in ("int8", "uint8", "float32") for output in ("int32", "int64")),
        _check_arg_max,
        _arg_max,
    ),
}


def check_host_node(node: Node, source: Tensor) -> None:
    """Check an operator of the host.

    Raises:
        UnsupportedError: it cannot turn the tensor's type into its output's, or gives another scale.
        NetworkError: the output has another scale than its input, which it must keep.
        ShapeError: shapes or axes that do not fit.
        ArithmeticRangeError: a value out of range.
    """
    operator = HOST_OPERATORS[node.op]
    if (source.dtype, node.output.dtype) not in operator.types:
        able = ", ".join(f"{a} to {b}" for a, b in operator.types)
        raise UnsupportedError(f"{node.op} turns {able}, not {source.dtype} to {node.output.dtype}")
    operator.check(node, source)


def run_host_node(node: Node, source: Tensor, values: Array) -> Array:
    """Run an operator of the host on a batch; the values are (N, ...) of the tensor that it reads."""
    return HOST_OPERATORS[node.op].run(node, source, values)
