# SPDX-License-Identifier: Apache-2.0
"""Ranges of activations, measured on data, and the int8 scale and zero point that they give."""

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from common.errors import ArithmeticRangeError, UnsupportedError

Method: TypeAlias = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)

PERCENTILE = 99.99
MOMENTUM = 0.05
_SAMPLES = 1 << 18  # values of a batch that "percentile" and "mse" look at
_RATIOS = 40  # shares of the range that "mse" tries


def scale_and_zero_point(low: float, high: float) -> tuple[float, int]:
    """Return the int8 quantisation of [low, high], widened to hold 0, which then is exact.

    Returns:
        The scale, (high - low) / 255, or 1 for an empty range; and the zero point, -128 to 127.

    Raises:
        ArithmeticRangeError: a bound is not finite.
    Source: Jacob et al., CVPR 2018.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    if not scale < float("inf"):
        raise ArithmeticRangeError(f"activations in [{low}, {high}] have no finite range")
    if scale < 1e-30:
        scale = 1.0
    return scale, min(max(round(-128 - low / scale), -128), 127)


def measure(values: Tensor, method: Method) -> tuple[float, float]:
    """Return the range (low, high) of a batch of values that int8 should cover, 0 included.

    Args:
        values: real values, any shape.
        method: "minmax" covers all; "percentile" all but the outermost 0.01 % on each side; "mse" the share
            of the full range with the least squared quantisation error.
    """
    flat = values.detach().flatten()
    low, high = min(float(flat.min()), 0.0), max(float(flat.max()), 0.0)
    if method == "minmax":
        return low, high
    sample = flat[:: -(-len(flat) // _SAMPLES)].float()
    if method == "percentile":
        limits = torch.tensor([1 - PERCENTILE / 100, PERCENTILE / 100], device=flat.device)
        inner = torch.quantile(sample, limits)
        return min(float(inner[0]), 0.0), max(float(inner[1]), 0.0)
    ratios = [(i + 1) / _RATIOS for i in range(_RATIOS)]
    errors = [_squared_error(sample, low * ratio, high * ratio) for ratio in ratios]
    best = ratios[errors.index(min(errors))]
    return low * best, high * best


def _squared_error(values: Tensor, low: float, high: float) -> float:
    scale, zero_point = scale_and_zero_point(low, high)
    quantized = (values / scale).round().clamp(-128 - zero_point, 127 - zero_point) * scale
    return float((quantized - values).square().sum())


class RangeObserver(nn.Module):
    """The range of one activation tensor: measured in calibration, following the batches in training.

    Attributes:
        low, high: float64 scalars.
        method: see `measure`.
        frozen: whether training leaves the range alone.
    """

    low: Tensor
    high: Tensor

    def __init__(self, method: Method = "minmax") -> None:
        super().__init__()
        if method not in METHODS:
            raise UnsupportedError(f"range method {method!r}; choose one of {', '.join(METHODS)}")
        self.method: Method = method
        self.frozen = False
        self._batches = 0
        self.register_buffer("low", torch.zeros((), dtype=torch.float64))
        self.register_buffer("high", torch.zeros((), dtype=torch.float64))

    def calibrate(self, values: Tensor) -> None:
        """Take a calibration batch in: the union of the batches for minmax, else their mean."""
        low, high = measure(values, self.method)
        self._batches += 1
        if self.method == "minmax":
            self._set(min(low, float(self.low)), max(high, float(self.high)))
        else:
            self._move(low, high, 1 / self._batches)

    def follow(self, values: Tensor) -> None:
        """Move towards the range of a training batch, unless frozen (exponential moving average)."""
        if not self.frozen:
            self._move(*measure(values, self.method), MOMENTUM)

    def _move(self, low: float, high: float, share: float) -> None:
        own_low, own_high = float(self.low), float(self.high)
        self._set(own_low + share * (low - own_low), own_high + share * (high - own_high))

    def _set(self, low: float, high: float) -> None:
        self.low.fill_(low)
        self.high.fill_(high)

    def scale_and_zero_point(self) -> tuple[float, int]:
        """Return the int8 scale and zero point of the range; see the function of that name."""
        return scale_and_zero_point(float(self.low), float(self.high))
