# SPDX-License-Identifier: Apache-2.0
"""The memory layouts against their definitions, value by value, and back again."""

import numpy as np
import pytest

from common.arrays import Array
from common.errors import ArithmeticRangeError, ShapeError, UnsupportedError
from hw import layout

SEED = 20240608


def random_weights(rng: np.random.Generator, shape: tuple[int, ...], w_bits: int) -> Array:
    """int8 weights over the whole two's complement range of w_bits."""
    return rng.integers(-(2 ** (w_bits - 1)), 2 ** (w_bits - 1), shape).astype(np.int8)


def bits_of(packed: Array, start: int, bits: int) -> int:
    """The two's complement number in `bits` bits of the little-endian stream, from bit `start`."""
    stream: int = int.from_bytes(packed.tobytes(), "little")
    value: int = (stream >> start) & (2**bits - 1)
    return value - 2**bits if value >= 2 ** (bits - 1) else value


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 40])
def test_blocked_activations_are_planes_of_16_channels_padded_with_zero(channels: int) -> None:
    x = np.random.default_rng(SEED).integers(-128, 128, (3, 5, channels)).astype(np.int8)
    blocks = layout.block_activations(x)
    assert blocks.shape == (-(-channels // 16), 3, 5, 16)
    for b, y, column, lane in np.ndindex(*blocks.shape):
        c = b * 16 + lane
        assert blocks[b, y, column, lane] == (x[y, column, c] if c < channels else 0)
    np.testing.assert_array_equal(layout.unblock_activations(blocks, channels), x)


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_value_i_lies_at_bit_i_times_width_of_the_stream(bits: int) -> None:
    values = random_weights(np.random.default_rng(SEED), (101,), bits)
    packed = layout.pack_bits(values, bits)
    assert packed.dtype == np.uint8
    assert packed.size == -(-101 * bits // 8)
    assert [bits_of(packed, i * bits, bits) for i in range(101)] == values.tolist()
    np.testing.assert_array_equal(layout.unpack_bits(packed, bits, 101), values)


def test_two_bit_values_fill_a_byte_from_its_low_end() -> None:
    assert layout.pack_bits(np.array([1, -1, 0, 1]), 2).tolist() == [0b01_00_11_01]


@pytest.mark.parametrize(("bits", "bad"), [(2, 2), (2, -3), (8, 128), (8, -129), (4, 8)])
def test_a_value_that_needs_more_bits_is_refused_not_cut(bits: int, bad: int) -> None:
    with pytest.raises(ArithmeticRangeError, match="clip"):
        layout.pack_bits(np.array([0, bad]), bits)


@pytest.mark.parametrize(
    ("rows", "cols", "w_bits"), [(16, 16, 8), (16, 32, 4), (16, 64, 2), (32, 32, 2), (16, 32, 3)]
)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (16, 3, 3, 16), (70, 2, 3, 33), (65, 1, 1, 20)])
def test_conv_weights_lie_in_consumption_order(
    rows: int, cols: int, w_bits: int, shape: tuple[int, int, int, int]
) -> None:
    weights = random_weights(np.random.default_rng(SEED), shape, w_bits)
    packed = layout.pack_conv_weights(weights, rows, cols, w_bits)
    tile_bytes = rows * cols * w_bits // 8
    assert tile_bytes % 32 == 0
    expected = []
    for kb in range(0, shape[0], cols):
        for cb in range(0, shape[3], rows):
            for ky in range(shape[1]):
                for kx in range(shape[2]):
                    tile = np.zeros((cols, rows), np.int8)
                    part = weights[kb : kb + cols, ky, kx, cb : cb + rows]
                    tile[: part.shape[0], : part.shape[1]] = part
                    expected.append(layout.pack_bits(tile, w_bits))
                    assert expected[-1].size == tile_bytes
    np.testing.assert_array_equal(packed, np.concatenate(expected))
    np.testing.assert_array_equal(layout.unpack_conv_weights(packed, shape, rows, cols, w_bits), weights)


def test_conv_tile_has_output_channels_slow_and_input_channels_fast() -> None:
    weights = np.zeros((16, 1, 1, 16), np.int8)
    weights[3, 0, 0, 5] = 7
    assert np.flatnonzero(layout.pack_conv_weights(weights, 16, 16, 8)).tolist() == [3 * 16 + 5]


@pytest.mark.parametrize(
    ("rows", "taps", "w_bits"), [(16, 3, 8), (16, 4, 2), (32, 2, 2), (16, 1, 4), (16, 16, 3)]
)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 3, 16), (1, 2, 5, 33), (1, 10, 4, 20)])
def test_depthwise_weights_lie_in_consumption_order_reversed_inside_a_tap_group(
    rows: int, taps: int, w_bits: int, shape: tuple[int, int, int, int]
) -> None:
    weights = random_weights(np.random.default_rng(SEED), shape, w_bits)
    packed = layout.pack_depthwise_weights(weights, rows, taps, w_bits)
    position = 0
    for block in range(0, shape[3], rows):
        for ky in range(shape[1]):
            for j0 in range(0, shape[2], taps):
                n = min(taps, shape[2] - j0)
                words = -(-n * rows * w_bits // 256)
                tile = packed[position : position + 32 * words]
                for i in range(n):
                    for c in range(rows):
                        inside = block + c < shape[3]
                        expected = weights[0, ky, j0 + n - 1 - i, block + c] if inside else 0
                        assert bits_of(tile, (i * rows + c) * w_bits, w_bits) == expected
                assert int.from_bytes(tile.tobytes(), "little") >> (n * rows * w_bits) == 0
                position += 32 * words
    assert position == packed.size
    np.testing.assert_array_equal(layout.unpack_depthwise_weights(packed, shape, rows, taps, w_bits), weights)


@pytest.mark.parametrize("channels", [1, 16, 17, 48])
def test_requant_parameters_take_144_bytes_per_16_channels(channels: int) -> None:
    rng = np.random.default_rng(SEED)
    bias = rng.integers(-(2**31), 2**31, channels)
    multiplier = rng.integers(2**30, 2**31, channels)
    shift = rng.integers(-31, 31, channels)
    packed = layout.pack_requant_params(bias, multiplier, shift)
    assert packed.size == -(-channels // 16) * 144
    raw = packed.tobytes()
    for group in range(packed.size // 144):
        for lane in range(16):
            k = group * 16 + lane
            at = group * 144
            fields = (
                int.from_bytes(raw[at + 4 * lane : at + 4 * lane + 4], "little", signed=True),
                int.from_bytes(raw[at + 64 + 4 * lane : at + 68 + 4 * lane], "little", signed=True),
                int.from_bytes(raw[at + 128 + lane : at + 129 + lane], "little", signed=True),
            )
            assert fields == ((bias[k], multiplier[k], shift[k]) if k < channels else (0, 0, 0))
    for got, given in zip(
        layout.unpack_requant_params(packed, channels), (bias, multiplier, shift), strict=True
    ):
        np.testing.assert_array_equal(got, given)


def test_layouts_refuse_what_they_cannot_hold() -> None:
    weights = np.zeros((4, 1, 1, 4), np.int8)
    with pytest.raises(UnsupportedError, match="cols"):
        layout.pack_conv_weights(weights, 16, 42, 3)
    with pytest.raises(ShapeError, match="depthwise"):
        layout.pack_depthwise_weights(weights, 16, 3, 8)
    with pytest.raises(ShapeError, match="int8"):
        layout.block_activations(np.zeros((1, 1, 1), np.int16))
    with pytest.raises(ShapeError, match="channel blocks"):
        layout.unblock_activations(np.zeros((1, 1, 1, 16), np.int8), 17)
    with pytest.raises(ShapeError, match="shift"):
        layout.pack_requant_params(np.zeros(2, np.int32), np.zeros(2, np.int32), np.zeros(1, np.int32))
    with pytest.raises(ArithmeticRangeError, match="bias"):
        layout.pack_requant_params(np.array([2**31]), np.array([2**30]), np.array([0]))
    with pytest.raises(ShapeError, match="bytes hold"):
        layout.unpack_bits(np.zeros(1, np.uint8), 2, 5)
