# SPDX-License-Identifier: Apache-2.0
"""Bias correction: a narrowed layer's sums keep the mean that they had.

Rounding errors of weights do not cancel where activations are not centred: behind a ReLU all are positive,
so each output channel is shifted by the sum of its errors times the mean activation. The shift is known from
some inputs without labels, and the bias takes it back (Nagel et al., ICCV 2019). Nothing is trained.

Sums are linear, so the mean of a layer's sums over inputs and positions follows from its mean input.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from common.array_files import read_npz
from common.arrays import Array, Floats, Int8
from common.errors import ArithmeticRangeError
from golden.accuracy import read_labelled
from golden.arithmetic import INT32_MAX
from golden.importers.inputs import read_inputs
from golden.layer import Layer
from golden.network import Network
from golden.node import Node, Tensor

ENOUGH = 64
"""Inputs of a file that count: more change a mean over inputs and positions by less than its rounding."""


def calibration_inputs(network: Network, path: Path) -> dict[str, Array]:
    """Return the first `ENOUGH` inputs of a file, by name, each (N, *shape) of its element type.

    Args:
        network: what reads them.
        path: a `.npy` or `.npz` file of inputs, see `read_inputs`, or one of labelled data, see
            `read_labelled`.

    Raises:
        NpuloopError: a missing or damaged file, or one that does not fit the network; naming the file.
    """
    if path.suffix == ".npz" and "label" in read_npz(path):
        return {network.input_name: read_labelled(path).integers(network)[:ENOUGH]}
    return {name: batch[:ENOUGH] for name, batch in read_inputs(network, path).items()}


def corrected(before: Node, after: Node, source: Tensor, inputs: Array, inputs_after: Array) -> Node:
    """Return a narrowed node with the biases with which its mean sums are those of the node before.

    Args:
        before: the node.
        after: the same with narrower weights in some channels; only these are corrected.
        source: the tensor that it reads.
        inputs: what it reads in the network before, (N, ...) int8.
        inputs_after: what it reads in the narrowed network, (N, ...) int8.

    Raises:
        ArithmeticRangeError: a bias leaves int32; the message names the layer.
    """
    layer, scales, bits = constants(before)
    layer_after, scales_after, bits_after = constants(after)
    sums = scales * mean_sums(layer, inputs, source.zero_point)
    sums_after = scales_after * mean_sums(layer_after, inputs_after, source.zero_point)
    shift = np.where(bits_after < bits, (sums - sums_after) / scales_after, 0.0)
    bias = layer_after.bias + np.rint(shift).astype(np.int64)
    if np.abs(bias).max() > INT32_MAX:
        raise ArithmeticRangeError(f"layer {before.name!r}: a bias leaves int32 where its mean is corrected")
    return replace(after, layer=replace(layer_after, bias=bias.astype(np.int32)))


def constants(node: Node) -> tuple[Layer, Floats, Int8]:
    """Return the layer, weight scales and weight bits of a weighted node."""
    assert node.layer is not None
    assert node.weight_scales is not None
    assert node.weight_bits is not None
    return node.layer, node.weight_scales, node.weight_bits


def mean_sums(layer: Layer, inputs: Array, zero_point: int) -> Floats:
    """Return the mean of a weighted layer's sums of products, without bias.

    Args:
        layer: the layer.
        inputs: what it reads, (N, H, W, C) or (N, ...) of a fully connected layer.
        zero_point: of the inputs.

    Returns:
        (K,) over inputs and output positions.
    """
    mean = inputs.mean(axis=0, dtype=np.float64) - zero_point
    weights = layer.weights.astype(np.float64)
    if layer.op == "fully_connected":
        return np.asarray(weights @ mean.reshape(-1))
    taps = _tap_means(layer, mean)
    if layer.op == "conv2d":
        return np.tensordot(weights, taps, axes=3)
    repeated = np.repeat(taps, weights.shape[3] // taps.shape[2], axis=2)
    return np.asarray((weights[0] * repeated).sum(axis=(0, 1)))


def _tap_means(layer: Layer, mean: Floats) -> Floats:
    """Return the mean over output positions of what each tap of a kernel reads, (KH, KW, C)."""
    top, bottom, left, right = layer.padding
    padded = np.pad(mean, ((top, bottom), (left, right), (0, 0)))
    (kernel_rows, kernel_columns), (rows, columns) = layer.weights.shape[1:3], layer.stride
    reach = [
        (size - 1) * step for size, step in zip((kernel_rows, kernel_columns), layer.dilation, strict=True)
    ]
    last = [size - far for size, far in zip(padded.shape, reach, strict=False)]
    taps = np.empty((kernel_rows, kernel_columns, padded.shape[2]))
    for i in range(kernel_rows):
        for j in range(kernel_columns):
            y, x = i * layer.dilation[0], j * layer.dilation[1]
            taps[i, j] = padded[y : y + last[0] : rows, x : x + last[1] : columns].mean(axis=(0, 1))
    return taps
