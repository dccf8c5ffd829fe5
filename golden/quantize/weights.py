# SPDX-License-Identifier: Apache-2.0
"""Weight quantisation after training: narrower integer weights for the layers of a network.

Weights are symmetric, with one scale per output channel: real weight = scale * q, q in
`golden.arithmetic.weight_range`. For every channel the scale is the one with the least squared error
(`best_scales`). Activations keep their scales, so only a layer's own constants change; with some inputs
its biases are corrected (`golden.quantize.bias_correction`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch

from common.arrays import Array, Floats, Int8, Int32
from common.errors import ArithmeticRangeError, NetworkError, NpuloopError, ShapeError, UnsupportedError
from golden.arithmetic import INT32_MAX, check_bits, quantize_multiplier, weight_range
from golden.layer import WEIGHTED_OPS, Layer
from golden.network import Inputs, Network, Node, channel_weights, check_inputs, replace_nodes, run_nodes
from golden.quantize.bias_correction import constants, corrected
from golden.quantize.scale_search import exact_scales, search_scales

Widths: TypeAlias = int | Sequence[int] | Array
"""The width of a layer's weights: one number of bits, or one for each output channel, (K,)."""


# -------------------------------------------------------------------------------------------------- scales
def best_scales(rows: Array, bits: Array, *, exact: bool = False) -> Floats:
    """Return the scale of every output channel whose quantised weights have the least squared error.

    A scale s turns a weight w into q = round(w / s), clipped to the range of its width.

    Args:
        rows: (K, n) real weights, one output channel per row.
        bits: (K,) integers, 2 to 8.
        exact: try every scale at which an integer changes, in minutes for a network of ten million weights;
            else those in the range that `golden.quantize.scale_search` derives, in a second, with an error
            at most 1 % larger and nearly always equal.

    Returns:
        (K,) float64, positive. A channel of zeros takes the largest scale of the others, or 1.

    Raises:
        UnsupportedError: another width.
        ArithmeticRangeError: weights that are not finite.
    """
    magnitudes = np.abs(np.asarray(rows, np.float64))
    if not np.isfinite(magnitudes).all():
        raise ArithmeticRangeError("weights to quantise must be finite")
    scales = np.zeros(len(magnitudes))
    for width in np.unique(bits):
        high = weight_range(int(width))[1]
        group = np.flatnonzero(bits == width)
        scales[group] = (exact_scales if exact else search_scales)(magnitudes[group], high)
    scales[scales == 0] = scales.max(initial=0.0) or 1.0
    return scales


def nearest_weights(rows: Array, scales: Floats, bits: Array) -> Int8:
    """Return the integers q, (K, n), closest to rows / scales within each channel's width."""
    high = 2.0 ** (np.asarray(bits, np.float64) - 1) - 1
    quotients = np.rint(np.asarray(rows, np.float64) / scales[:, None])
    return quotients.clip(-high[:, None], high[:, None]).astype(np.int8)


def rescaling(input_scale: float, weight_scales: Floats, output_scale: float) -> tuple[Int32, Int32]:
    """Return the (multiplier, shift), (K,) int32 each, from accumulators to outputs of a weighted layer.

    Raises:
        ArithmeticRangeError: a factor cannot be converted; see `quantize_multiplier`.
    """
    pairs = [quantize_multiplier(input_scale * float(scale) / output_scale) for scale in weight_scales]
    multiplier, shift = np.array(pairs, np.int32).T
    return multiplier, shift


# -------------------------------------------------------------------------------------------------- widths
def channel_widths(widths: Widths, channels: int) -> Int8:
    """Return the width of each output channel, (K,) int8, from one number or an array.

    Raises:
        UnsupportedError: a width outside 2 to 8.
        ShapeError: an array of another length or of numbers that are no integers.
    """
    array = np.asarray(widths)
    if array.dtype.kind not in "iu" or array.shape not in ((), (channels,)):
        raise ShapeError(
            f"widths are {array.dtype} {array.shape}; give one whole number of bits, or one for each of the "
            f"{channels} output channels"
        )
    for width in np.unique(array):
        check_bits(int(width), "weight bits")
    return np.broadcast_to(array, (channels,)).astype(np.int8)


def layer_widths(
    bits: int | Mapping[str, Widths], channels: Mapping[str, int], unweighted: Sequence[str] = ()
) -> dict[str, Int8]:
    """Return the widths of the layers that `bits` names, or of all weighted layers where it is one number.

    Args:
        bits: one width for all, or widths by layer name.
        channels: the weighted layers and their numbers of output channels.
        unweighted: the other layers' names.

    Returns:
        (K,) int8 by layer name.

    Raises:
        NetworkError: a name that is no layer.
        UnsupportedError: a layer without weights or a width outside 2 to 8.
        ShapeError: an array that does not fit; each names the layer.
    """
    if not isinstance(bits, Mapping):
        bits = dict.fromkeys(channels, bits)
    result = {}
    for name, widths in bits.items():
        if name in unweighted:
            raise UnsupportedError(f"layer {name!r} has no weights to quantise; {', '.join(channels)} have")
        if name not in channels:
            raise NetworkError(f"there is no layer {name!r}; layers with weights are {', '.join(channels)}")
        try:
            result[name] = channel_widths(widths, channels[name])
        except NpuloopError as error:
            raise type(error)(f"layer {name!r}: {error}") from None
    return result


# ------------------------------------------------------------------------------------------------- networks
@dataclass(frozen=True, kw_only=True)
class WeightError:
    """What quantising a layer's weights w to w' lost.

    Attributes:
        node: the layer.
        channels: the number of output channels of each width, by width in bits.
        relative_rms: ||w - w'|| / ||w||; 0 where nothing changed.
        largest: the largest |w - w'|, in real units.
    """

    node: str
    channels: dict[int, int]
    relative_rms: float
    largest: float

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise, 20 log10(||w|| / ||w - w'||) in dB; infinite without error."""
        return -20 * math.log10(self.relative_rms) if self.relative_rms else math.inf


def quantize_weights(
    network: Network, bits: int | Mapping[str, Widths], inputs: Inputs | None = None
) -> tuple[Network, tuple[WeightError, ...]]:
    """Return the network with narrower weights, and how much each layer lost.

    A channel that already is as narrow as wanted, or narrower, stays as it is to the last bit. The others get
    the scale with the least squared error, new integer weights, and their bias, multiplier and shift for that
    scale. Activation scales do not change, and no layer is trained.

    Args:
        network: a network with wider weights, for example an imported 8-bit one.
        bits: one width, 2 to 8, for every weighted layer, or widths by layer name, where an array holds one
            for each output channel; layers that it does not name stay as they are.
        inputs: some of the network's inputs, without labels, as `run_network` takes them: with them the
            narrowed channels' biases are corrected (`golden.quantize.bias_correction`).

    Returns:
        The network, and an entry for each layer that `bits` names, in the network's order.

    Raises:
        NetworkError: `bits` names no layer; see `layer_widths`.
        UnsupportedError: a width or a layer is not supported; see `layer_widths`.
        ShapeError: an array or an input does not fit; see `layer_widths` and `run_network`.
        ArithmeticRangeError: a bias does not fit int32 at its new scale; the message names the layer.
    """
    weighted = {node.name: node.channels for node in network.nodes if node.op in WEIGHTED_OPS}
    others = [node.name for node in network.nodes if node.op not in WEIGHTED_OPS]
    try:
        widths = layer_widths(bits, weighted, others)
    except NpuloopError as error:
        raise type(error)(f"network {network.name!r}: {error}") from None
    changes, errors = {}, []
    for node in network.nodes:
        if node.name not in widths:
            continue
        input_scale = network.tensors[node.inputs[0]].scale
        changes[node.name] = _narrow(node, widths[node.name], input_scale)
        errors.append(_error(node, changes[node.name]))
    if inputs is not None:
        changes = _correct(network, changes, inputs)
    return replace_nodes(network, changes), tuple(errors)


def _correct(network: Network, changes: Mapping[str, Node], inputs: Inputs) -> dict[str, Node]:
    """Return narrowed nodes whose biases are corrected one after the other, on what comes before them."""
    result: dict[str, Node] = {}
    before: Mapping[str, Array] = check_inputs(network, inputs)
    after = before
    for node in network.nodes:
        if node.name in changes:
            name = node.inputs[0]
            source = network.tensors[name]
            result[node.name] = corrected(node, changes[node.name], source, before[name], after[name])
        before = run_nodes(network, [node], before)
        after = run_nodes(network, [result.get(node.name, node)], after)
    return result


def _narrow(node: Node, wanted: Int8, input_scale: float) -> Node:
    """Return the node with the channels narrowed that are wider than `wanted`."""
    layer, old_scales, old_bits = constants(node)
    chosen = np.flatnonzero(wanted < old_bits)
    if not chosen.size:
        return node
    integers, scales, bits = channel_weights(layer).copy(), old_scales.copy(), old_bits.copy()
    rows = integers[chosen] * old_scales[chosen, None]
    zero = ~rows.any(axis=1)
    scales[chosen] = np.where(zero, old_scales[chosen], best_scales(rows, wanted[chosen]))
    integers[chosen] = nearest_weights(rows, scales[chosen], wanted[chosen])
    bits[chosen] = wanted[chosen]
    bias = layer.bias.astype(np.int64)
    bias[chosen] = np.rint(bias[chosen] * (old_scales[chosen] / scales[chosen])).astype(np.int64)
    if np.abs(bias[chosen]).max() > INT32_MAX:
        raise ArithmeticRangeError(f"layer {node.name!r}: a bias leaves int32 at its new weight scale")
    multiplier, shift = layer.multiplier.copy(), layer.shift.copy()
    multiplier[chosen], shift[chosen] = rescaling(input_scale, scales[chosen], node.output.scale)
    narrowed = replace(
        layer,
        weights=from_channels(integers, layer),
        bias=bias.astype(np.int32),
        multiplier=multiplier,
        shift=shift,
        expected=None,
    )
    return replace(node, layer=narrowed, weight_scales=scales, weight_bits=bits)


def from_channels(rows: Int8, layer: Layer) -> Int8:
    """Return weights (K, n) in the layer's own shape: the inverse of `golden.network.channel_weights`."""
    if layer.op == "depthwise_conv2d":
        shape = layer.weights.shape
        return np.moveaxis(rows.reshape(shape[3], *shape[:3]), 0, 3)
    return rows.reshape(layer.weights.shape)


def weight_error(node: Node, real: torch.Tensor) -> WeightError:
    """Return what a layer's integer weights differ by from real ones.

    Args:
        node: the layer.
        real: in PyTorch's order of axes, output channels first.
    """
    order = {"conv2d": (0, 2, 3, 1)}.get(node.op, tuple(range(real.ndim)))
    rows = real.detach().cpu().double().permute(order).flatten(start_dim=1).numpy()
    return _loss(node, rows)


def _error(before: Node, after: Node) -> WeightError:
    layer, scales, _ = constants(before)
    return _loss(after, channel_weights(layer) * scales[:, None])


def _loss(node: Node, rows: Floats) -> WeightError:
    """Return what a layer's weights differ by from real ones, (K, n)."""
    layer, scales, bits = constants(node)
    difference = np.abs(channel_weights(layer) * scales[:, None] - rows)
    norm = float(np.linalg.norm(rows))
    widths, counts = np.unique(bits, return_counts=True)
    return WeightError(
        node=node.name,
        channels=dict(zip(widths.tolist(), counts.tolist(), strict=True)),
        relative_rms=float(np.linalg.norm(difference)) / norm if norm else 0.0,
        largest=float(difference.max()),
    )
