# SPDX-License-Identifier: Apache-2.0
"""Mean features of layers, against the array's beats written out one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from common.arrays import Array, Int8
from golden.layer import Layer, output_shape
from golden.network import Network, Node, Tensor
from hw.core import CoreConfig
from hw.system import System
from mapping.compiler.assignment import Assignment
from mapping.energy.statistics import network_statistics
from mapping.energy.tables import LayerStatistics
from mapping.run.networks import compile_network

CORE = CoreConfig("npu8")
CONFIG = System((CORE,))


def layer_of(op: str, weights: Array, shape: tuple[int, ...], zero_point: int = 3) -> Layer:
    channels = weights.shape[0] if op == "conv2d" else weights.shape[3]
    return Layer(
        name="layer", op=op, input=np.zeros(shape, np.int8), weights=weights.astype(np.int8),
        bias=np.arange(channels, dtype=np.int32) * 10, multiplier=np.full(channels, 1 << 30, np.int32),
        shift=np.full(channels, -4, np.int32), input_zero_point=zero_point, output_zero_point=0,
        stride=(1, 1), padding=(1, 1, 1, 1),
    )  # fmt: skip


def network_of(layer: Layer) -> Network:
    channels = output_shape(layer)[2]
    node = Node(
        name="layer", op=layer.op, inputs=("x",), output=Tensor(shape=output_shape(layer)), layer=layer,
        weight_scales=np.ones(channels), weight_bits=np.full(channels, 8, np.int8),
    )  # fmt: skip
    source = Tensor(shape=layer.input.shape, zero_point=layer.input_zero_point)
    return Network(name="one", input_name="x", input=source, nodes=(node,))


def statistics_of(layer: Layer, x: Int8) -> LayerStatistics:
    program = compile_network(network_of(layer), CONFIG, Assignment("npu8"))
    assert not program.program.folds
    return network_statistics(program, x)["layer", "npu8"]


def bits(a: int, b: int, width: int) -> int:
    return ((a ^ b) & ((1 << width) - 1)).bit_count()


def beats(layer: Layer, x: Int8, channel: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield operands and weights of each beat of the one stripe that a small layer is."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=layer.input_zero_point)
    height, width, _ = output_shape(layer)
    for first in range(0, x.shape[2], 16):
        for ky in range(3):
            for kx in range(3):
                for oy in range(height):
                    for ox in range(width):
                        yield (
                            padded[oy + ky, ox + kx, first : first + 16].tolist(),
                            layer.weights[channel, ky, kx, first : first + 16].tolist(),
                        )


def test_a_convolution_equals_its_beats_written_out() -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, (4, 5, 32)).astype(np.int8)
    weights = rng.integers(-3, 4, (2, 3, 3, 32))
    layer = layer_of("conv2d", weights, x.shape)
    statistics = statistics_of(layer, x)
    macs = active = product = sums = value_bits = sum_bits = additions = crowded = 0.0
    for channel in range(2):
        stream = list(beats(layer, x, channel))
        column = [sum(a * w for a, w in zip(*beat, strict=True)) for beat in stream]
        totals = np.array(column).reshape(18, 20).cumsum(axis=0).reshape(-1).tolist()
        macs += 16 * len(stream)
        additions += len(stream)
        for before, after in itertools.pairwise(stream):
            pairs = list(zip(before[0], before[1], after[0], after[1], strict=True))
            active += sum(bits(a, b, 8) for a, _, b, w in pairs if w)
            moved = [bits(a * v, b * w, 16) for a, v, b, w in pairs]
            product += sum(moved)
            crowded += sum(moved) * sum(m > 0 for m in moved) / 16
        sums += sum(bits(a, b, 20) for a, b in itertools.pairwise(column))
        value_bits += sum(bits(a, b, 32) for a, b in itertools.pairwise(column))
        sum_bits += sum(bits(a, b, 32) for a, b in itertools.pairwise(totals))
    means = statistics.means
    assert statistics.zero_share == (weights == 0).mean()
    assert means["mac.active_bits"] == pytest.approx(active / macs)
    assert means["mac.product_bits"] == pytest.approx(product / macs)
    assert means["mac.crowded_bits"] == pytest.approx(crowded / macs)
    assert means["mac.sum_bits"] == pytest.approx(sums / macs)
    assert means["accumulate.value_bits"] == pytest.approx(value_bits / additions)
    assert means["accumulate.sum_bits"] == pytest.approx(sum_bits / additions)


def test_results_toggle_from_pixel_to_pixel_with_their_bias() -> None:
    rng = np.random.default_rng(6)
    x = rng.integers(-128, 128, (3, 4, 16)).astype(np.int8)
    layer = layer_of("conv2d", rng.integers(-9, 9, (3, 3, 3, 16)), x.shape)
    padded = np.pad(x.astype(int), ((1, 1), (1, 1), (0, 0)), constant_values=3)
    shifted = product = 0
    for channel in range(3):
        taps = layer.weights[channel].astype(int)
        values = [
            int(((padded[y : y + 3, c : c + 3] - 3) * taps).sum() + layer.bias[channel])
            for y in range(3)
            for c in range(4)
        ]
        shifted += sum(bits(a, b, 32) for a, b in itertools.pairwise(values))
        product += sum(bits(a << 30, b << 30, 64) for a, b in itertools.pairwise(values))
    statistics = statistics_of(layer, x).others
    assert statistics["requantise.sum_bits"] == pytest.approx(shifted / 33)
    assert statistics["requantise.product_bits"] == pytest.approx(product / 33)


def test_nothing_toggles_where_nothing_changes() -> None:
    x = np.full((6, 6, 16), 3, np.int8)
    still = statistics_of(layer_of("conv2d", np.ones((4, 3, 3, 16)), x.shape), x)
    assert set(still.nonzero.values()) == {0.0}
    assert still.others["accumulate.value_bits"] == still.others["requantise.sum_bits"] == 0
    assert still.others["accumulate.sum_bits"] > 0  # the sum grows from pass to pass


def test_zero_weights_leave_the_operands_alone_to_toggle() -> None:
    x = np.random.default_rng(7).integers(-128, 128, (6, 6, 16)).astype(np.int8)
    statistics = statistics_of(layer_of("conv2d", np.zeros((4, 3, 3, 16)), x.shape), x)
    assert statistics.zero_share == 1
    means = statistics.means
    assert means.pop("mac.operand_bits") > 1
    assert set(means.values()) == {0.0}


def test_a_depthwise_layer_multiplies_each_channel_by_its_taps() -> None:
    rng = np.random.default_rng(8)
    x = rng.integers(-128, 128, (5, 6, 16)).astype(np.int8)
    weights = rng.integers(-128, 128, (1, 3, 3, 16))
    weights[:, :, :, ::2] = 0
    statistics = statistics_of(layer_of("depthwise_conv2d", weights, x.shape), x)
    assert statistics.zero_share == pytest.approx(0.5, abs=0.02)
    means = statistics.means
    assert means["mac.active_bits"] == pytest.approx(means["mac.operand_bits"] / 2, rel=0.1)
    assert 0 < means["mac.product_bits"] < 16


def test_a_split_layer_has_the_statistics_of_each_units_own_channels() -> None:
    config = System((CORE, CoreConfig("npu_lb", w_bits=2)))
    rng = np.random.default_rng(9)
    x = rng.integers(-128, 128, (6, 6, 16)).astype(np.int8)
    weights = np.concatenate([rng.integers(-128, 128, (16, 3, 3, 16)), np.zeros((16, 3, 3, 16), np.int64)])
    layer = layer_of("conv2d", weights, x.shape)
    network = network_of(layer)
    program = compile_network(network, config, {"layer": np.repeat([0, 1], 16)})
    statistics = network_statistics(program, x)
    assert statistics["layer", "npu8"].zero_share < 0.05
    assert statistics["layer", "npu_lb"].zero_share == 1
