"""First pass of the compiler: turns a layer into an equal one that the units have a command for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from golden.arithmetic import weight_range
from golden.errors import UnsupportedError
from golden.layer import WEIGHTED_OPS, Layer, kernel_size
from tb.config import CoreConfig

FIELD_MAX = 255
"""Largest kernel, stride and dilation of a command."""


def legalise(layer: Layer, unit: CoreConfig) -> Layer:
    """Return an equal layer that the unit has a command for, or refuse it.

    Fully connected layers become convolutions of one pixel, depthwise ones with a channel multiplier become
    convolutions with zero weights between channels.

    Raises:
        UnsupportedError: a weight the unit cannot hold, or a window beyond the command's fields.
    """
    if layer.op in WEIGHTED_OPS:
        low, high = weight_range(unit.w_bits)
        low = -128 if unit.w_bits == 8 else low
        smallest, largest = int(layer.weights.min()), int(layer.weights.max())
        if smallest < low or largest > high:
            raise UnsupportedError(
                f"layer {layer.name!r}: weights from {smallest} to {largest} do not fit {unit.name}, which "
                f"has {unit.w_bits}-bit weights ({low} to {high}); quantise the layer to {unit.w_bits} bits, "
                "or clip it with --clip-weights"
            )
    for key, values in (
        ("kernel", kernel_size(layer)),
        ("stride", layer.stride),
        ("dilation", layer.dilation),
    ):
        if max(values) > FIELD_MAX:
            raise UnsupportedError(f"layer {layer.name!r}: {key} {values} is above {FIELD_MAX}")
    if layer.op == "fully_connected":
        k, c = layer.weights.shape
        expected = None if layer.expected is None else layer.expected.reshape(1, 1, -1)
        return replace(
            layer,
            op="conv2d",
            input=layer.input.reshape(1, 1, -1),
            weights=layer.weights.reshape(k, 1, 1, c),
            expected=expected,
        )
    if layer.op == "depthwise_conv2d" and layer.weights.shape[3] != layer.input.shape[2]:
        _, kernel_h, kernel_w, k = layer.weights.shape
        c = layer.input.shape[2]
        weights = np.zeros((k, kernel_h, kernel_w, c), np.int8)
        channel = np.arange(k)
        weights[channel, :, :, channel // (k // c)] = np.moveaxis(layer.weights[0], 2, 0)
        return replace(layer, op="conv2d", weights=weights)
    return layer
