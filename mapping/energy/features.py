# SPDX-License-Identifier: Apache-2.0
"""What the energy of a block depends on: how much its operands change, and which of them matter.

The same functions see recorded streams of a block's ports, for the fit, and streams that are made from a
layer's golden tensors, for predictions (`mapping.energy.statistics`). Names are those of the energy tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from common.arrays import Int64

Totals = dict[str, float]
"""Sums over some cycles by name of event or feature."""

MAC = (
    "mac.operand_bits", "mac.active_bits", "mac.negative_bits", "mac.product_bits", "mac.crowded_bits",
    "mac.sum_bits",
)  # fmt: skip
"""Bits that toggle, for each MAC: of its activation; of an activation whose weight is not zero; of one whose
weight is negative; of the product; of the product, times the share of the column's products that move with it
(glitches in the adders grow with them); of the column's sum, shared among its rows."""
ACCUMULATE = ("accumulate.value_bits", "accumulate.old_bits", "accumulate.sum_bits")
"""Bits that toggle, for each accumulation: of what is added, of what it is added to, of the sum."""
REQUANTISE = ("requantise.sum_bits", "requantise.product_bits")
"""Bits that toggle, for each result of a lane: of the sum with its bias, shifted; of the product."""
FEATURES = (*MAC, *ACCUMULATE, *REQUANTISE)

ACC_BITS, PRODUCT_BITS = 32, 64


def unpack(values: Sequence[int], width: int, lane_bits: int) -> Int64:
    """Return the signed lanes of packed words: [words, width / lane_bits], the lowest bits first."""
    size = (width + 7) // 8
    raw = b"".join(value.to_bytes(size, "little") for value in values)
    words = np.frombuffer(raw, np.uint8).reshape(len(values), size)
    bits = np.unpackbits(words, axis=1, bitorder="little")[:, :width].reshape(len(values), -1, lane_bits)
    weights = 1 << np.arange(lane_bits, dtype=np.int64)
    weights[-1] *= -1
    lanes: Int64 = bits.astype(np.int64) @ weights
    return lanes


def toggles(a: Int64, b: Int64, bits: int) -> Int64:
    """Return how many of the low bits differ, element by element."""
    differing = (a ^ b).view(np.uint64)
    if bits < PRODUCT_BITS:
        differing = differing & np.uint64((1 << bits) - 1)
    counts: Int64 = np.bitwise_count(differing).astype(np.int64)
    return counts


def steps(values: Int64, bits: int) -> Int64:
    """Return how many bits of each value differ from the value before it, along the first axis."""
    return toggles(values[1:], values[:-1], bits)


def steps_along(values: Int64, bits: int) -> Int64:
    """Return the same along the last axis but one: [..., cycles, rows]."""
    return toggles(values[..., 1:, :], values[..., :-1, :], bits)


def mac_totals(operands: Int64, weights: Int64, a_bits: int, w_bits: int) -> Totals:
    """Return the sums of the features of a column's MACs.

    Args:
        operands: [cycles, rows] activations; the first are those before the first cycle that counts.
        weights: [..., cycles, rows] weights likewise, of one column or of several.
        a_bits, w_bits: their widths.
    """
    rows = operands.shape[1]
    bits = steps(operands, a_bits)
    now = weights[..., 1:, :]
    product = operands * weights
    total = product.sum(axis=-1)
    product_bits = steps_along(product, a_bits + w_bits)
    crowd = (product_bits > 0).mean(axis=-1)
    sum_bits = a_bits + w_bits + (rows - 1).bit_length()
    return {
        "mac.operand_bits": float(np.broadcast_to(bits, now.shape).sum()),
        "mac.active_bits": float((bits * (now != 0)).sum()),
        "mac.negative_bits": float((bits * (now < 0)).sum()),
        "mac.product_bits": float(product_bits.sum()),
        "mac.crowded_bits": float((product_bits.sum(axis=-1) * crowd).sum()),
        "mac.sum_bits": float(toggles(total[..., 1:], total[..., :-1], sum_bits).sum()),
    }


# ------------------------------------------------------------------------------------------ recorded streams
Signals = Mapping[str, tuple[int, list[int]]]


def _word(signals: Signals, name: str, part: slice) -> Int64:
    """Return a signal of at most 64 bits."""
    return np.array(signals[name][1][part], np.uint64).view(np.int64)


def column_totals(signals: Signals, begin: int, end: int, a_bits: int, w_bits: int) -> Totals:
    """Return what happens at a column of the array in some cycles: events, and its MACs' features."""
    part, inside = slice(begin - 1, end), slice(begin, end)
    operands = unpack(signals["operand"][1][part], signals["operand"][0], a_bits)
    weights = unpack(signals["weight_q"][1][part], signals["weight_q"][0], w_bits)
    mac = _word(signals, "mac_i", inside)
    swap = _word(signals, "swap_i", inside)
    return {
        "column_beat": float(mac.sum()),
        "tile_swap": float(swap.sum()),
        **mac_totals(operands, weights, a_bits, w_bits),
    }


def accumulator_totals(signals: Signals, begin: int, end: int, columns: int) -> Totals:
    """Return what happens at a block of the accumulators in some cycles, for a column of it on average."""
    part, inside = slice(begin - 1, end), slice(begin, end)

    def toggled(name: str) -> float:
        width, values = signals[name]
        lane_bits = width // columns
        return float(steps(unpack(values[part], width, lane_bits), lane_bits).sum()) / columns

    return {
        "accumulate": float(_word(signals, "add_i", inside).sum()),
        "accumulator_read": float(np.bitwise_count(_word(signals, "read_i", inside)).sum()),  # a bit a bank
        "accumulate.value_bits": toggled("value_i"),
        "accumulate.old_bits": toggled("old"),
        "accumulate.sum_bits": toggled("sum"),
    }


def lane_totals(signals: Signals, begin: int, end: int) -> Totals:
    """Return what happens at a lane of the requantiser in some cycles."""
    part = slice(begin - 1, end)
    valid = _word(signals, "valid_i", slice(begin, end)) & 1
    return {
        "requantise": float(valid.sum()),
        "requantise.sum_bits": float(steps(_word(signals, "shifted_q", part), ACC_BITS).sum()),
        "requantise.product_bits": float(steps(_word(signals, "product_q", part), PRODUCT_BITS).sum()),
    }
