# SPDX-License-Identifier: Apache-2.0
"""Operators on float32 behind the last DEQUANTIZE, bit-exact with TensorFlow Lite's reference kernels.

The reference kernels call the C library's expf and logf, and so do these functions: numpy's own differ in the
last bit. Sums run from the first to the last value in float32, as they do there.

Sources: TensorFlow Lite reference/{softmax,log_softmax,logistic}.h.
"""

import ctypes
import ctypes.util
import functools
from collections.abc import Callable

import numpy as np

from common.arrays import Array, Float32
from common.errors import ShapeError, UnsupportedError

_ONE = np.float32(1)
# From the larger on the logistic function is 1 in float32; below the smaller it is taken as exp(x).
_LOGISTIC_IS_ONE = np.float32(16.619047164916992188)
_LOGISTIC_IS_EXP = np.float32(-9)


@functools.cache
def _c_function(name: str) -> Callable[[float], float]:
    """Return a function of one float32 from the C library of mathematics.

    Raises:
        UnsupportedError: this machine has none.
    """
    for library in (None, ctypes.util.find_library("m")):
        try:
            function = getattr(ctypes.CDLL(library), name)
        except (OSError, AttributeError, TypeError):
            continue
        function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
        called: Callable[[float], float] = function
        return called
    raise UnsupportedError(f"float32 operators on the host need the C library's {name}, which is missing")


def _each(name: str, x: Float32) -> Float32:
    function = _c_function(name)
    values = np.fromiter(map(function, x.ravel().tolist()), np.float32, x.size)
    return values.reshape(x.shape)


def _checked(x: Array, name: str) -> Float32:
    if x.dtype != np.float32 or x.ndim == 0:
        raise ShapeError(f"{name} of float32 takes an array with at least one axis, not {x.dtype} {x.shape}")
    return x


def one_over_one_plus_exp(x: Float32) -> Float32:
    """Return 1 / (1 + exp(x)) of float32 values; 0 where exp(x) is beyond float32."""
    with np.errstate(over="ignore"):
        result: Float32 = _ONE / (_ONE + _each("expf", x))
    return result


def logistic(x: Array) -> Float32:
    """Return 1 / (1 + exp(-x)).

    Args:
        x: float32, any shape.

    Raises:
        ShapeError: x is not float32.
    """
    values = _checked(x, "logistic")
    inside = one_over_one_plus_exp(-values)
    small = np.where(values < _LOGISTIC_IS_EXP, _each("expf", np.minimum(values, _ONE)), inside)
    return np.where(values > _LOGISTIC_IS_ONE, _ONE, small)


def softmax(x: Array, beta: float) -> Float32:
    """Return the softmax over the last axis.

    Args:
        x: (..., C) float32.
        beta: factor of the exponent.

    Raises:
        ShapeError: x is not float32 or has no axis.
    """
    values = _checked(x, "softmax")
    exponentials = _each("expf", (values - values.max(axis=-1, keepdims=True)) * np.float32(beta))
    result: Float32 = exponentials / _sum(exponentials)
    return result


def log_softmax(x: Array) -> Float32:
    """Return the logarithm of the softmax over the last axis.

    Args:
        x: (..., C) float32.

    Raises:
        ShapeError: x is not float32 or has no axis.
    """
    values = _checked(x, "log_softmax")
    below = values - values.max(axis=-1, keepdims=True)
    result: Float32 = below - _each("logf", _sum(_each("expf", below)))
    return result


def _sum(x: Float32) -> Float32:
    """Return the sums over the last axis, one addition after the other, with that axis kept."""
    result: Float32 = np.add.accumulate(x, axis=-1, dtype=np.float32)[..., -1:]
    return result
