# SPDX-License-Identifier: Apache-2.0
"""Features of recorded streams, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mapping.characterization.testing import Signals, packed
from mapping.energy.features import (
    ACCUMULATE,
    MAC,
    REQUANTISE,
    accumulator_totals,
    column_totals,
    lane_totals,
    mac_totals,
    toggles,
    unpack,
)


def test_lanes_of_words_are_signed_and_the_lowest_come_first() -> None:
    words = [packed([-128, 127, 0, -1], 8), packed([1, 2, 3, 4], 8)]
    assert unpack(words, 32, 8).tolist() == [[-128, 127, 0, -1], [1, 2, 3, 4]]
    assert unpack([packed([-2, 1, 0, -1, 1, -2], 2)], 12, 2).tolist() == [[-2, 1, 0, -1, 1, -2]]
    assert unpack([packed([-16, 15, 7], 5)], 15, 5).tolist() == [[-16, 15, 7]]


def test_bits_that_differ_are_counted_up_to_the_width() -> None:
    a, b = np.array([0, -1, 5, -(1 << 63)]), np.array([3, 0, 5, 0])
    assert toggles(a, b, 2).tolist() == [2, 2, 0, 0]
    assert toggles(a, b, 32).tolist() == [2, 32, 0, 0]
    assert toggles(a, b, 64).tolist() == [2, 64, 0, 1]


def test_features_of_macs_are_those_of_a_column_of_two_rows_worked_out_by_hand() -> None:
    operands = np.array([[0, 1], [3, 1], [2, -1]])
    weights = np.array([[1, -1], [1, -1], [0, -1]])
    # products 0 -1 | 3 -1 | 0 1 in 10 bits; sums -1 | 2 | 1 in 11
    totals = mac_totals(operands, weights, 8, 2)
    assert set(totals) == set(MAC)
    assert totals["mac.operand_bits"] == 2 + (1 + 7)  # 0 to 3; 3 to 2 and 1 to -1
    assert totals["mac.active_bits"] == 2 + 7  # the first row's weight is zero by then
    assert totals["mac.negative_bits"] == 7
    assert totals["mac.product_bits"] == 2 + (2 + 9)  # 0 to 3; 3 to 0 and -1 to 1
    assert totals["mac.crowded_bits"] == 2 * 0.5 + (2 + 9) * 1.0
    assert totals["mac.sum_bits"] == 10 + 2  # -1 to 2: all bits but one of 11; 2 to 1
    still = mac_totals(operands, np.zeros_like(weights), 8, 2)
    assert still == dict.fromkeys(MAC, 0.0) | {"mac.operand_bits": 10.0}


def test_features_of_several_columns_are_the_sums_of_each() -> None:
    random = np.random.default_rng(5)
    operands = random.integers(-128, 128, (30, 16))
    weights = random.integers(-2, 2, (4, 30, 16))
    whole = mac_totals(operands, weights, 8, 2)
    each = [mac_totals(operands, column, 8, 2) for column in weights]
    for name in MAC:
        assert whole[name] == pytest.approx(sum(item[name] for item in each)), name


def test_totals_of_a_column_count_the_windows_cycles_and_see_the_one_before() -> None:
    signals: Signals = {
        "operand": (16, [packed(v, 8) for v in ([9, 9], [0, 1], [3, 1], [3, -1], [5, 5])]),
        "weight_q": (4, [packed(v, 2) for v in ([1, 1], [1, -1], [1, -1], [0, -1], [1, 1])]),
        "mac_i": (1, [1, 1, 0, 1, 1]),
        "swap_i": (1, [1, 1, 1, 0, 1]),
    }
    totals = column_totals(signals, 2, 4, 8, 2)
    assert (totals.pop("column_beat"), totals.pop("tile_swap")) == (1, 1)
    assert totals == mac_totals(
        np.array([[0, 1], [3, 1], [3, -1]]), np.array([[1, -1], [1, -1], [0, -1]]), 8, 2
    )


def test_totals_of_an_accumulator_and_of_a_lane_are_counted_by_hand() -> None:
    accumulator: Signals = {
        "add_i": (1, [1, 1, 0, 1]),
        "read_i": (2, [0b11, 0b00, 0b11, 0b10]),  # of both banks, one to be drained
        "value_i": (48, [packed(v, 24) for v in ([0, 0], [1, 0], [1, 0], [-2, 1])]),
        "old": (48, [packed(v, 24) for v in ([5, 5], [5, 5], [4, 5], [4, 5])]),
        "sum": (48, [packed(v, 24) for v in ([-1, 0], [0, 0], [0, 0], [3, 0])]),
    }
    assert accumulator_totals(accumulator, 1, 4, columns=2) == {  # of a column on average
        "accumulate": 2, "accumulator_read": 3, "accumulate.value_bits": (1 + 0 + 24 + 1) / 2,
        "accumulate.old_bits": 1 / 2, "accumulate.sum_bits": (24 + 0 + 2) / 2,
    }  # fmt: skip
    assert set(accumulator_totals(accumulator, 1, 4, 2)) == {"accumulate", "accumulator_read", *ACCUMULATE}
    lane: Signals = {
        "valid_i": (5, [0b00001, 0b00011, 0b00110, 0b01101]),
        "shifted_q": (32, [0, 0, 7, 0x8000_0000]),
        "product_q": (64, [0, (1 << 64) - 1, 0, 1 << 63]),
    }
    assert lane_totals(lane, 1, 4) == {
        "requantise": 2, "requantise.sum_bits": 3 + 4, "requantise.product_bits": 64 + 64 + 1,
    }  # fmt: skip
    assert set(lane_totals(lane, 1, 4)) == {"requantise", *REQUANTISE}
