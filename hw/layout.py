# SPDX-License-Identifier: Apache-2.0
"""How tensors, weights and requantisation parameters lie in memory. The only place that knows.

All functions are pure numpy, and every packing function has its inverse. A memory word is 32 bytes.
docs/reference/arithmetic.md shows the same layouts in words.
"""

import numpy as np

from common.arrays import Array, Bytes, Int8, Int32
from common.errors import ArithmeticRangeError, ShapeError, UnsupportedError

CHANNEL_BLOCK = 16
WORD_BYTES = 32
REQUANT_GROUP_BYTES = CHANNEL_BLOCK * (4 + 4 + 1)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _check_width(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise UnsupportedError(f"values of {bits} bits cannot be packed; choose a width from 1 to 8")


def _check_lanes(name: str, lanes: int) -> None:
    if lanes < CHANNEL_BLOCK or lanes % CHANNEL_BLOCK:
        raise UnsupportedError(f"{name} = {lanes} must be a positive multiple of {CHANNEL_BLOCK}")


def block_activations(x: Array) -> Int8:
    """Return (H, W, C) int8 as (ceil(C / 16), H, W, 16) int8, the order in memory; missing channels are zero.

    Raises:
        ShapeError: x is not an int8 tensor with three axes.
    """
    if x.dtype != np.int8 or x.ndim != 3:
        raise ShapeError(f"activations are int8 (H, W, C), not {x.dtype} with {x.ndim} axes")
    height, width, channels = x.shape
    blocks = _ceil_div(channels, CHANNEL_BLOCK)
    padded = np.zeros((height, width, blocks * CHANNEL_BLOCK), np.int8)
    padded[:, :, :channels] = x
    return np.ascontiguousarray(padded.reshape(height, width, blocks, CHANNEL_BLOCK).transpose(2, 0, 1, 3))


def unblock_activations(blocks: Array, channels: int) -> Int8:
    """Return (ceil(C / 16), H, W, 16) int8 as (H, W, C) int8: the inverse of `block_activations`.

    Raises:
        ShapeError: the blocks are not int8 in that shape, or do not hold exactly `channels` channels.
    """
    if blocks.dtype != np.int8 or blocks.ndim != 4 or blocks.shape[3] != CHANNEL_BLOCK:
        raise ShapeError(f"blocks are int8 (blocks, H, W, 16), not {blocks.dtype} {blocks.shape}")
    if blocks.shape[0] != _ceil_div(channels, CHANNEL_BLOCK):
        raise ShapeError(f"{blocks.shape[0]} channel blocks do not hold {channels} channels")
    _, height, width, _ = blocks.shape
    return np.ascontiguousarray(blocks.transpose(1, 2, 0, 3).reshape(height, width, -1)[:, :, :channels])


def pack_bits(values: Array, bits: int) -> Bytes:
    """Pack two's complement integers densely: value i is bits [i * bits, (i + 1) * bits) of a stream.

    The stream is little-endian: its bit n is bit n % 8 of byte n // 8. The last byte is filled with zeros.

    Args:
        values: integers of any shape, taken in C order, in [-2^(bits - 1), 2^(bits - 1)).
        bits: 1 to 8.

    Returns:
        (ceil(count * bits / 8),) uint8.

    Raises:
        ShapeError: elements that are no integers.
        ArithmeticRangeError: a value that needs more bits.
    """
    _check_width(bits)
    flat = np.asarray(values).reshape(-1)
    if flat.dtype.kind not in "iu":
        raise ShapeError(f"only integers can be packed, not {flat.dtype}")
    half = 2 ** (bits - 1)
    if flat.size and (flat.min() < -half or flat.max() >= half):
        raise ArithmeticRangeError(
            f"values in [{flat.min()}, {flat.max()}] do not fit {bits} bits; "
            f"clip them to [{-half}, {half - 1}] first"
        )
    if bits == 8:
        return flat.astype(np.int8).view(np.uint8)
    stream = (flat.astype(np.int8)[:, None] >> np.arange(bits, dtype=np.int8)) & 1
    return np.packbits(stream.astype(np.uint8).reshape(-1), bitorder="little")


def unpack_bits(packed: Bytes, bits: int, count: int | None = None) -> Int8:
    """Unpack what `pack_bits` packed: `count` values, or as many whole ones as the bytes hold.

    Raises:
        ShapeError: the bytes hold fewer than `count` values.
    """
    _check_width(bits)
    data = np.asarray(packed, dtype=np.uint8).reshape(-1)
    available = data.size * 8 // bits
    count = available if count is None else count
    if not 0 <= count <= available:
        raise ShapeError(f"{data.size} bytes hold {available} values of {bits} bits, not {count}")
    stream = np.unpackbits(data, bitorder="little")[: count * bits].reshape(count, bits).astype(np.int16)
    place = 1 << np.arange(bits, dtype=np.int16)
    place[-1] = -place[-1]  # the sign bit of two's complement
    values: Int8 = (stream @ place).astype(np.int8)
    return values


def pack_conv_weights(weights: Array, rows: int, cols: int, w_bits: int) -> Bytes:
    """Pack convolution weights in the order in which an array of rows x cols consumes them.

    For each block of `cols` output channels, each block of `rows` input channels, each kernel row, each
    kernel column: one tile of cols * rows values. Value k * rows + c of a tile belongs to output channel k
    and input channel c of the blocks; ragged blocks are filled with zeros. A tile is packed densely and is
    rows * cols * w_bits / 256 memory words, always whole.

    Args:
        weights: (K, KH, KW, C) integers that fit w_bits. A fully connected (K, C) is (K, 1, 1, C).
        rows, cols: the array's input and output channels, multiples of 16.
        w_bits: width of a weight, 1 to 8.

    Returns:
        (bytes,) uint8.

    Raises:
        ShapeError: the weights have other axes.
        UnsupportedError: the array's size or the width is not supported.
        ArithmeticRangeError: a weight needs more bits; `golden.layer.clip_weights` clips them.
    """
    _check_lanes("rows", rows)
    _check_lanes("cols", cols)
    weights = np.asarray(weights)
    if weights.ndim != 4:
        raise ShapeError(f"convolution weights are (K, KH, KW, C), not {weights.shape}")
    out_channels, kernel_height, kernel_width, in_channels = weights.shape
    col_blocks, row_blocks = _ceil_div(out_channels, cols), _ceil_div(in_channels, rows)
    padded = np.zeros((col_blocks * cols, kernel_height, kernel_width, row_blocks * rows), weights.dtype)
    padded[:out_channels, :, :, :in_channels] = weights
    tiles = padded.reshape(col_blocks, cols, kernel_height, kernel_width, row_blocks, rows)
    return pack_bits(tiles.transpose(0, 4, 2, 3, 1, 5), w_bits)


def unpack_conv_weights(
    packed: Bytes, shape: tuple[int, int, int, int], rows: int, cols: int, w_bits: int
) -> Int8:
    """Unpack what `pack_conv_weights` packed: (K, KH, KW, C) int8 weights, where `shape` is that shape."""
    _check_lanes("rows", rows)
    _check_lanes("cols", cols)
    out_channels, kernel_height, kernel_width, in_channels = shape
    col_blocks, row_blocks = _ceil_div(out_channels, cols), _ceil_div(in_channels, rows)
    tiled = (col_blocks, row_blocks, kernel_height, kernel_width, cols, rows)
    tiles = unpack_bits(packed, w_bits, int(np.prod(tiled))).reshape(tiled).transpose(0, 4, 2, 3, 1, 5)
    full = tiles.reshape(col_blocks * cols, kernel_height, kernel_width, row_blocks * rows)
    return np.ascontiguousarray(full[:out_channels, :, :, :in_channels])


def tap_groups(kernel_width: int, taps: int) -> list[tuple[int, int]]:
    """Return the (first column, columns) of each group of at most `taps` columns of a depthwise kernel."""
    if taps < 1:
        raise UnsupportedError(f"taps = {taps} must be at least 1")
    return [(first, min(taps, kernel_width - first)) for first in range(0, kernel_width, taps)]


def pack_depthwise_weights(weights: Array, rows: int, taps: int, w_bits: int) -> Bytes:
    """Pack depthwise weights in the order in which an array of `rows` channels and `taps` columns takes them.

    For each block of `rows` channels, each kernel row, each group of n <= `taps` kernel columns starting at
    column j0: one tile of n * rows values, packed densely and filled with zeros to whole 32-byte words.
    Value i * rows + c is the weight of channel c at kernel column j0 + n - 1 - i: reversed, as the array's
    first column sees the newest activation.

    Args:
        weights: (1, KH, KW, C) integers that fit w_bits.
        rows: channels of the array, a multiple of 16.
        taps: kernel columns in one group.
        w_bits: width of a weight, 1 to 8.

    Returns:
        (bytes,) uint8.

    Raises:
        ShapeError: the weights have other axes.
        UnsupportedError: the array's size or the width is not supported.
        ArithmeticRangeError: a weight needs more bits; `golden.layer.clip_weights` clips them.
    """
    _check_lanes("rows", rows)
    weights = np.asarray(weights)
    if weights.ndim != 4 or weights.shape[0] != 1:
        raise ShapeError(f"depthwise weights are (1, KH, KW, C), not {weights.shape}")
    _, kernel_height, kernel_width, channels = weights.shape
    blocks = _ceil_div(channels, rows)
    padded = np.zeros((kernel_height, kernel_width, blocks * rows), weights.dtype)
    padded[:, :, :channels] = weights[0]
    parts: list[Bytes] = []
    for block in range(blocks):
        for ky in range(kernel_height):
            for first, columns in tap_groups(kernel_width, taps):
                tile = padded[ky, first : first + columns, block * rows : (block + 1) * rows][::-1]
                packed = pack_bits(tile, w_bits)
                parts.extend((packed, np.zeros(-packed.size % WORD_BYTES, np.uint8)))
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def unpack_depthwise_weights(
    packed: Bytes, shape: tuple[int, int, int, int], rows: int, taps: int, w_bits: int
) -> Int8:
    """Unpack what `pack_depthwise_weights` packed: int8 weights of `shape`, (1, KH, KW, C)."""
    _check_lanes("rows", rows)
    _, kernel_height, kernel_width, channels = shape
    blocks = _ceil_div(channels, rows)
    padded = np.zeros((kernel_height, kernel_width, blocks * rows), np.int8)
    position = 0
    for block in range(blocks):
        for ky in range(kernel_height):
            for first, columns in tap_groups(kernel_width, taps):
                size = _ceil_div(columns * rows * w_bits, 8 * WORD_BYTES) * WORD_BYTES
                tile = unpack_bits(packed[position : position + size], w_bits, columns * rows)
                padded[ky, first : first + columns, block * rows : (block + 1) * rows] = tile.reshape(
                    columns, rows
                )[::-1]
                position += size
    unpacked: Int8 = padded[None, :, :, :channels].copy()
    return unpacked


def pack_requant_params(bias: Array, multiplier: Array, shift: Array) -> Bytes:
    """Pack requantisation parameters: 144 bytes for each group of 16 output channels.

    A group is 16 int32 biases, 16 int32 multipliers and 16 int8 shifts, little-endian; channels that are
    missing in the last group are zero.

    Args:
        bias, multiplier, shift: (K,) integers (numpy arrays or torch tensors).

    Returns:
        (ceil(K / 16) * 144,) uint8.

    Raises:
        ShapeError: the three differ in length.
        ArithmeticRangeError: a value does not fit.
    """
    arrays = [np.asarray(values) for values in (bias, multiplier, shift)]
    names_and_types = (("bias", "<i4"), ("multiplier", "<i4"), ("shift", "<i1"))
    channels = arrays[0].size
    blocks = _ceil_div(channels, CHANNEL_BLOCK)
    columns = []
    for (name, dtype), values in zip(names_and_types, arrays, strict=True):
        if values.dtype.kind not in "iu" or values.shape != (channels,):
            raise ShapeError(f"{name} must be {channels} integers, not {values.dtype} {values.shape}")
        limits = np.iinfo(dtype)
        if channels and (values.min() < limits.min or values.max() > limits.max):
            raise ArithmeticRangeError(f"{name} has a value outside [{limits.min}, {limits.max}]")
        padded = np.zeros(blocks * CHANNEL_BLOCK, dtype)
        padded[:channels] = values
        columns.append(padded.view(np.uint8).reshape(blocks, -1))
    return np.concatenate(columns, axis=1).reshape(-1)


def unpack_requant_params(packed: Bytes, channels: int) -> tuple[Int32, Int32, Int32]:
    """Unpack what `pack_requant_params` packed: (bias, multiplier, shift), each (channels,) int32."""
    blocks = _ceil_div(channels, CHANNEL_BLOCK)
    if packed.dtype != np.uint8 or packed.size != blocks * REQUANT_GROUP_BYTES:
        raise ShapeError(
            f"{channels} channels take {blocks * REQUANT_GROUP_BYTES} bytes of parameters, not {packed.size}"
        )
    groups = packed.reshape(blocks, REQUANT_GROUP_BYTES)
    split = 4 * CHANNEL_BLOCK
    bias = np.ascontiguousarray(groups[:, :split]).view("<i4").reshape(-1)[:channels]
    multiplier = np.ascontiguousarray(groups[:, split : 2 * split]).view("<i4").reshape(-1)[:channels]
    shift = np.ascontiguousarray(groups[:, 2 * split :]).view(np.int8).reshape(-1)[:channels]
    return bias.astype(np.int32), multiplier.astype(np.int32), shift.astype(np.int32)
