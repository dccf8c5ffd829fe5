# SPDX-License-Identifier: Apache-2.0
"""Mean features of a network's layers, from its weights and from the golden model's activations of one input.

Of each layer one stripe of output pixels in the middle is taken as the array sees it, pass by pass, for some
channels of each unit; so the means are of real sequences, with the jumps from one pass to the next.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from common.arrays import Int8, Int64
from golden.arithmetic import folded_bias, reduce_activation
from golden.layer import Layer, output_shape
from golden.network import Inputs, run_network
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.graph import Op
from mapping.energy.features import ACC_BITS, MAC, PRODUCT_BITS, mac_totals, steps
from mapping.energy.tables import LayerStatistics
from mapping.run.networks import NetworkProgram

CHANNELS = 16
"""Output channels of a layer that are looked at, of each unit."""
PASSES = 32
"""Passes of a stripe that are looked at."""


def network_statistics(program: NetworkProgram, source: Inputs) -> dict[tuple[str, str], LayerStatistics]:
    """Return the mean features of each convolution's part on each unit, for one input.

    Args:
        program: the compiled network.
        source: the input, without batch axis; several by their names.

    Returns:
        By layer and unit. Pools and additions have none: the tables' default counts for them.
    """
    compiled = program.program
    values = run_network(program.network, source, program.a_bits)
    statistics = {}
    for op in compiled.graph.ops:
        if op.kind not in ("conv2d", "depthwise_conv2d"):
            continue
        name = op.sources[0]
        x = values[name][0]
        if name in compiled.folds:
            fold = compiled.folds[name]
            x = fold.input(x.reshape(fold.op.source_shape))
        owners = program.units[op.name]
        for index, core in enumerate(compiled.cores):
            channels = np.flatnonzero(owners == index)
            if channels.size:
                chosen = channels[np.linspace(0, channels.size - 1, min(CHANNELS, channels.size)).astype(int)]
                statistics[op.name, core.name] = _statistics(op, x.reshape(op.source_shape), core, chosen)
    return statistics


def _statistics(op: Op, x: Int8, core: CoreConfig, channels: Int64) -> LayerStatistics:
    taps = _taps(op.layer, x, core.stripe_depth, core.a_bits)
    if op.layer.op == "conv2d":
        return _conv(op.layer, taps, core, channels)
    return _depthwise(op.layer, taps, core, channels)


def _taps(layer: Layer, x: Int8, stripe: int, a_bits: int) -> Int64:
    """Return what each kernel tap sees of a stripe in the middle: [kh, kw, pixels, channels]."""
    height, width, _ = output_shape(layer)
    (top, bottom, left, right), (stride_h, stride_w), (dilation_h, dilation_w) = (
        layer.padding, layer.stride, layer.dilation,
    )  # fmt: skip
    padded = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=layer.input_zero_point)
    count = min(stripe, height * width)
    first = (height * width // 2) // count * count
    pixels = np.arange(first, min(first + count, height * width))
    rows, columns = pixels // width * stride_h, pixels % width * stride_w
    kernel_h, kernel_w = layer.weights.shape[1:3]
    seen = [
        [padded[rows + ky * dilation_h, columns + kx * dilation_w] for kx in range(kernel_w)]
        for ky in range(kernel_h)
    ]
    reduced: Int64 = reduce_activation(np.array(seen, np.int8), a_bits).numpy().astype(np.int64)
    return reduced


def _conv(layer: Layer, taps: Int64, core: CoreConfig, channels: Int64) -> LayerStatistics:
    weights = layer.weights[channels].astype(np.int64)  # [k, kh, kw, c]
    kernel_h, kernel_w, pixels, in_channels = taps.shape
    filling = -in_channels % core.rows
    seen = np.pad(taps, ((0, 0), (0, 0), (0, 0), (0, filling)))
    held = np.pad(weights, ((0, 0), (0, 0), (0, 0), (0, filling)))
    blocks = (in_channels + filling) // core.rows
    # in the order of the passes: input block, kernel row, kernel column
    operands = seen.reshape(kernel_h * kernel_w, pixels, blocks, core.rows).transpose(2, 0, 1, 3)
    operands = operands.reshape(-1, pixels, core.rows)
    tiles = held.reshape(len(channels), kernel_h * kernel_w, blocks, core.rows).transpose(0, 2, 1, 3)
    tiles = tiles.reshape(len(channels), -1, core.rows)
    values = np.einsum("tpr,ktr->ktp", operands, tiles)
    sums = values.cumsum(axis=1)
    some = slice(min(PASSES, len(operands)))
    stream = operands[some].reshape(-1, core.rows)
    weight_stream = np.repeat(tiles[:, some], pixels, axis=1)
    useful = (
        len(channels)
        * pixels
        * sum(
            min(core.rows, in_channels - core.rows * (index // (kernel_h * kernel_w)))
            for index in range(len(operands[some]))
        )
    )
    totals = mac_totals(stream, weight_stream, core.a_bits, core.w_bits)
    return _layer(
        {name: totals[name] / useful for name in MAC},
        float((weights == 0).mean()),
        values[:, some],
        sums[:, some],
        _requantised(layer, sums[:, -1], weights.sum(axis=(1, 2, 3)), channels, core.a_bits),
    )


def _depthwise(layer: Layer, taps: Int64, core: CoreConfig, channels: Int64) -> LayerStatistics:
    kernel_h, kernel_w, pixels, _ = taps.shape
    chosen = channels[:CHANNEL_BLOCK]
    weights = layer.weights[0][:, :, chosen].astype(np.int64)  # [kh, kw, c]
    seen = taps[..., chosen]
    products = seen * weights[:, :, None, :]
    values = products.sum(axis=1)  # [kh, pixels, c]
    sums = values.cumsum(axis=0)
    totals = dict.fromkeys(MAC, 0.0)
    for kx in range(min(kernel_w, core.dw_taps)):
        stream = seen[:, kx].reshape(-1, len(chosen))
        held = np.repeat(weights[:, kx], pixels, axis=0)
        for name, value in mac_totals(stream, held, core.a_bits, core.w_bits).items():
            totals[name] += value
    useful = min(kernel_w, core.dw_taps) * kernel_h * pixels * len(chosen)
    return _layer(
        {name: totals[name] / useful for name in MAC},
        float((weights == 0).mean()),
        values.transpose(2, 0, 1),
        sums.transpose(2, 0, 1),
        _requantised(layer, sums[-1].T, weights.sum(axis=(0, 1)), chosen, core.a_bits),
    )


def _requantised(
    layer: Layer, sums: Int64, weight_sums: Int64, channels: Int64, a_bits: int
) -> dict[str, float]:
    """Return the mean features of the results of [channels, pixels] sums."""
    shift = layer.shift[channels].astype(np.int64)[:, None]
    bias = folded_bias(layer.bias[channels], weight_sums, layer.input_zero_point, a_bits)
    biased = sums + np.asarray(bias, np.int64)[:, None]
    shifted = (biased << np.maximum(shift, 0)).astype(np.int32).astype(np.int64)
    product = shifted * layer.multiplier[channels].astype(np.int64)[:, None]
    count = max(sums.shape[1] - 1, 1) * len(channels)
    return {
        "requantise.sum_bits": float(steps(shifted.T, ACC_BITS).sum()) / count,
        "requantise.product_bits": float(steps(product.T, PRODUCT_BITS).sum()) / count,
    }


def _layer(
    means: Mapping[str, float],
    zero_share: float,
    values: Int64,
    sums: Int64,
    requantised: Mapping[str, float],
) -> LayerStatistics:
    """Return the statistics from means per MAC, and from [channels, passes, pixels] values and sums."""

    def toggled(stream: Int64) -> float:
        """Return the bits that toggle from value to value, for each addition."""
        return float(steps(stream.reshape(len(stream), -1).T, ACC_BITS).sum()) / values.size

    moving = 1 - zero_share
    still = {name: means[name] if name == "mac.operand_bits" else 0.0 for name in MAC}
    return LayerStatistics(
        nonzero={
            name: value if name == "mac.operand_bits" or not moving else value / moving
            for name, value in means.items()
        },
        zero=still,
        others={
            "accumulate.value_bits": toggled(values),
            "accumulate.old_bits": toggled(sums[:, :-1]),  # the first pass adds to nothing
            "accumulate.sum_bits": toggled(sums),
            **requantised,
        },
        zero_share=zero_share,
    )
