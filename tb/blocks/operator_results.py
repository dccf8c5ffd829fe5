# SPDX-License-Identifier: Apache-2.0
"""What an operator command writes: golden arithmetic on the words that the sequencer's reference reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from common.arrays import Bytes, Int64
from golden.arithmetic import multiply_by_quantized_multiplier, reduce_activation, requantize, wrap_int32
from hw.layout import WORD_BYTES, unpack_bits
from tb.blocks.operators import MACS, Operator, Pass, passes_of, tap

BLOCK = 16


@dataclass(frozen=True)
class Memories:
    """Contents of the scratchpads: activations (words, rows) as integers, weights (words, 32) as bytes."""

    activations: Int64
    weights: Bytes


@dataclass(frozen=True)
class Stripe:
    """Sums of a stripe: (pixels, channels of the output block)."""

    block: int
    first_pixel: int
    sums: Int64


def sums_of(op: Operator, memories: Memories, a_bits: int, before: Int64 | None = None) -> Iterator[Stripe]:
    """Give the sums of every stripe in order.

    Args:
        op: the command, as `operators.draw` makes it.
        memories: what it reads.
        a_bits: width of the activations that are multiplied.
        before: sums that an accumulating convolution adds to.
    """
    f = op.fields
    per_block = sum(item.words for item in passes_of(op))
    for _, _, number in op.blocks():
        for first, pixels in op.stripes():
            total = before
            tile = f.get("weight_base", 0) + number * per_block
            for item in passes_of(op):
                plane, part = (item.block if op.kind == "conv" else number), 0
                if op.kind in ("average", "max", "add"):
                    plane, part = divmod(number, op.unit.rows // BLOCK)
                start = plane * f["in_plane"]
                data = memories.weights[tile : tile + item.words]
                tile += item.words
                taps = [
                    operands(op, memories, start, replace(item, kx=item.kx + i), first, pixels)
                    for i in range(item.columns)
                ]
                value = contribution(op, taps, data, a_bits, part + op.in_part(item.phase), item.phase)
                if total is None:
                    total = value
                elif op.kind == "max":
                    total = np.maximum(total, value)
                else:
                    total = np.asarray(wrap_int32(total + value), dtype=np.int64)
            assert total is not None
            yield Stripe(number, first, total)


def operands(op: Operator, memories: Memories, plane: int, item: Pass, first: int, pixels: int) -> Int64:
    """Return the words that a pass's first column sees in each pixel of a stripe: (pixels, rows)."""
    f = op.fields
    height, width = (1, f["out_pixels"]) if op.kind == "add" else (f["in_height"], f["in_width"])
    origin = (op.second if item.phase else op.origin) + plane
    pad = np.full(op.unit.rows, f.get("pad_value", 0))
    words = []
    for pixel in range(first, first + pixels):
        iy, ix = tap(op, item, pixel)
        inside = 0 <= iy < height and 0 <= ix < width
        words.append(memories.activations[origin + iy * width + ix] if inside else pad)
    return np.array(words)


def contribution(op: Operator, taps: list[Int64], data: Bytes, a_bits: int, part: int, phase: int) -> Int64:
    """Return what a pass adds to the sums of its pixels."""
    f, unit = op.fields, op.unit
    if op.kind in MACS:
        reduced = [np.asarray(reduce_activation(words, a_bits), dtype=np.int64) for words in taps]
        flat = np.frombuffer(data.tobytes(), np.uint8)
        if op.kind == "conv":
            tile = unpack_bits(flat, unit.w_bits, unit.cols * unit.rows).reshape(unit.cols, unit.rows)
            return np.asarray(reduced[0] @ tile.astype(np.int64).T)
        columns = unpack_bits(flat, unit.w_bits, len(taps) * unit.rows).reshape(len(taps), unit.rows)
        return np.asarray(sum(x * w for x, w in zip(reduced, columns[::-1].astype(np.int64), strict=True)))
    lanes = taps[0][:, part * BLOCK : (part + 1) * BLOCK]
    if op.kind == "max":
        return lanes
    shift = f.get("left_shift", 0)
    if op.kind == "average":
        return np.asarray(wrap_int32(lanes << shift), dtype=np.int64)
    number = phase + 1
    value = wrap_int32((lanes - f[f"zero_point{number}"]) << shift)
    multiplier, exponent = f[f"multiplier{number}"], f[f"shift{number}"]
    return np.asarray(multiply_by_quantized_multiplier(value, multiplier, exponent), dtype=np.int64)


def writes_of(op: Operator, stripes: list[Stripe], params: list[Int64]) -> list[tuple[int, int, bytes]]:
    """Return the (word, part, data) of every write in order.

    Args:
        op: the command.
        stripes: its sums.
        params: bias, multiplier and shift of each group of 16 channels, (3, 16), by group.
    """
    f, parts = op.fields, op.unit.rows // BLOCK
    macs = op.kind in MACS
    limits = (f["out_zero_point"], f["act_min"], f["act_max"])
    blocks = list(op.blocks())
    writes: list[tuple[int, int, bytes]] = []
    for stripe in stripes:
        first_channel, channels, number = blocks[stripe.block]
        base, block_part = (first_channel // op.unit.rows, 0) if macs else divmod(number, parts)
        for group in range(-(-channels // BLOCK)):
            place, part = divmod(block_part + f.get("out_part", 0) + group, parts)
            bias, multiplier, shift = params[first_channel // BLOCK + group]
            values = requantize(
                stripe.sums[:, group * BLOCK : (group + 1) * BLOCK],
                *(bias, multiplier, shift, *limits),
                single_rounding=bool(f.get("single_rounding", 0)),
            )
            words = np.asarray(values, dtype=np.int64).astype(np.int8)
            address = f["out_base"] + (base + place) * f["out_plane"] + stripe.first_pixel
            writes.extend((address + i, part, words[i].tobytes()) for i in range(len(words)))
    return writes


def random_memories(rows: int, act_words: int, weight_words: int, rng: np.random.Generator) -> Memories:
    """Return scratchpads full of random bytes."""
    activations = rng.integers(-128, 128, (act_words, rows))
    return Memories(activations, rng.integers(0, 256, (weight_words, WORD_BYTES)).astype(np.uint8))


def random_params(op: Operator, stripes: list[Stripe], rng: np.random.Generator) -> list[Int64]:
    """Return bias, multiplier and shift by group of 16 channels, (3, 16) each: results spread over int8."""
    groups = -(-op.fields["out_channels"] // BLOCK)
    channels = groups * BLOCK
    spread = max(1, int(max(np.abs(stripe.sums).max() for stripe in stripes)))
    shift = np.clip(-spread.bit_length() + rng.integers(4, 10, channels), -31, 30)
    bias = rng.integers(-spread, spread + 1, channels)
    multiplier = rng.integers(1 << 30, 1 << 31, channels)
    if rng.integers(0, 4) == 0:
        bias = rng.integers(-(1 << 31), 1 << 31, channels)
    columns = np.stack([bias, multiplier, shift]).reshape(3, groups, BLOCK)
    return [columns[:, i] for i in range(groups)]
