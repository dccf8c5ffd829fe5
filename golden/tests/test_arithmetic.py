# SPDX-License-Identifier: Apache-2.0
"""The arithmetic against an implementation in plain Python integers that shares no code with it."""

import itertools
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch

from common.errors import ArithmeticRangeError, NpuloopError, ShapeError, UnsupportedError
from golden import arithmetic
from golden.testing import half_away, high_mul, rescale, wrap

SEED = 20240607
EXTREMES = (
    -(2**31),
    -(2**31) + 1,
    -(2**30) - 1,
    -(2**30),
    -3,
    -2,
    -1,
    0,
    1,
    2,
    3,
    2**30,
    2**31 - 2,
    2**31 - 1,
)


def check_requantize(cases: list[tuple[int, int, int, int]]) -> None:
    """Compares one vectorised call with the plain implementation, case by case."""
    acc, bias, multiplier, shift = np.array(cases, dtype=np.int64).T
    for zero_point, low, high in ((0, -128, 127), (-128, -128, 127), (127, -3, 6)):
        got = arithmetic.requantize(acc, bias, multiplier, shift, zero_point, low, high).tolist()
        expected = [rescale(*case, zero_point, low, high) for case in cases]
        wrong = [(case, g, e) for case, g, e in zip(cases, got, expected, strict=True) if g != e]
        assert not wrong, f"first of {len(wrong)}: (acc, bias, multiplier, shift), got, expected = {wrong[0]}"


def test_requantize_equals_plain_integers_at_all_extremes() -> None:
    multipliers = (2**30, 2**30 + 1, 1518500250, 2**31 - 1, 0)
    biases = (0, 1, -1, 2**31 - 1, -(2**31))
    check_requantize(list(itertools.product(EXTREMES, biases, multipliers, range(-31, 31))))


def test_requantize_equals_plain_integers_on_random_values() -> None:
    rng = np.random.default_rng(SEED)
    count = 20000
    magnitude = 2.0 ** rng.uniform(0, 31, count)
    acc = np.clip(rng.uniform(-1, 1, count) * magnitude, -(2**31), 2**31 - 1).astype(np.int64)
    bias = rng.integers(-(2**20), 2**20, count)
    multiplier = rng.integers(2**30, 2**31, count)
    shift = rng.integers(-31, 31, count)
    columns = (column.tolist() for column in (acc, bias, multiplier, shift))
    cases = [(a, b, m, s) for a, b, m, s in zip(*columns, strict=True)]
    check_requantize(cases)


def test_both_roundings_happen_so_a_tie_of_the_first_can_tip_the_second() -> None:
    # The multiplier 2^30 halves: 2.5 becomes 3. Then 3 / 2 becomes 2, where 5 / 4 alone would become 1.
    assert arithmetic.requantize(5, 0, 2**30, -1, 0, -128, 127).item() == 2
    assert half_away(Fraction(5, 4)) == 1


def test_negative_ties_round_up_in_the_first_step_and_away_from_zero_in_the_second() -> None:
    ties = [-7, -5, -3, -1, 1, 3, 5, 7]
    first = arithmetic.saturating_rounding_doubling_high_mul(ties, 2**30)
    assert first.tolist() == [high_mul(t, 2**30) for t in ties] == [-3, -2, -1, 0, 1, 2, 3, 4]
    assert arithmetic.rounding_divide_by_pot(ties, 1).tolist() == [-4, -3, -2, -1, 1, 2, 3, 4]


def test_high_mul_saturates_only_where_both_are_int32_min() -> None:
    pairs = list(itertools.product(EXTREMES, EXTREMES))
    got = arithmetic.saturating_rounding_doubling_high_mul(
        [a for a, _ in pairs], [b for _, b in pairs]
    ).tolist()
    assert got == [high_mul(a, b) for a, b in pairs]
    assert got[0] == 2**31 - 1


def test_rounding_divide_by_pot_equals_exact_rounding_for_every_exponent() -> None:
    for exponent in range(32):
        around_ties = [n * 2**exponent // 2 + d for n in (-3, -1, 1, 3) for d in (-1, 0, 1)]
        xs = [x for x in (*EXTREMES, *around_ties) if -(2**31) <= x < 2**31]
        expected = [half_away(Fraction(x, 2**exponent)) for x in xs]
        assert arithmetic.rounding_divide_by_pot(xs, exponent).tolist() == expected


def test_bias_sum_and_left_shift_wrap_like_an_int32_register() -> None:
    assert arithmetic.requantize(2**31 - 1, 1, 2**30, -24, 0, -128, 127).item() == -64
    assert arithmetic.multiply_by_quantized_multiplier(2**30, 2**30, 1).item() == -(2**30)
    assert arithmetic.multiply_by_quantized_multiplier(3, 2**30, 30).item() == high_mul(-(2**30), 2**30)


def test_zero_point_sum_does_not_wrap() -> None:
    assert arithmetic.requantize(2**31 - 1, 0, 2**31 - 1, 0, 127, -128, 127).item() == 127


def test_requantize_is_per_channel_along_the_last_axis() -> None:
    acc = np.full((2, 3, 2), 1000, np.int32)
    got = arithmetic.requantize(acc, [0, -500], [2**30, 2**30], [-3, 0], 1, -128, 127)
    assert got.shape == (2, 3, 2)
    assert got[..., 0].flatten().tolist() == [64] * 6
    assert got[..., 1].flatten().tolist() == [127] * 6


def test_round_half_away_equals_exact_rounding() -> None:
    cases = [(n, d) for n in range(-40, 41) for d in range(1, 14)] + [
        (2**61 - 1, 3),
        (-(2**61) + 1, 2**61 - 1),
    ]
    got = arithmetic.round_half_away([n for n, _ in cases], [d for _, d in cases]).tolist()
    assert got == [half_away(Fraction(n, d)) for n, d in cases]


@pytest.mark.parametrize("a_bits", range(2, 9))
def test_reduced_activation_rounds_and_saturates_every_int8(a_bits: int) -> None:
    xs = list(range(-128, 128))
    high = 2 ** (a_bits - 1) - 1
    expected = [min(max(half_away(Fraction(x, 2 ** (8 - a_bits))), -high - 1), high) for x in xs]
    assert arithmetic.reduce_activation(xs, a_bits).tolist() == expected


def test_eight_bit_folded_bias_gives_the_sum_of_inputs_less_their_zero_point() -> None:
    rng = np.random.default_rng(SEED)
    for _ in range(200):
        x, w = rng.integers(-128, 128, 30), rng.integers(-128, 128, 30)
        bias, zero_point = int(rng.choice((2**31 - 1, -(2**31), 77))), int(rng.integers(-128, 128))
        folded = int(arithmetic.folded_bias([bias], [int(w.sum())], zero_point))
        assert -(2**31) <= folded < 2**31, "the bias in memory is an int32"
        assert wrap(int(x @ w) + folded) == wrap(int((x - zero_point) @ w) + bias)


@pytest.mark.parametrize("a_bits", range(2, 9))
def test_reduced_folded_bias_rounds_the_bias_and_the_product_once_each(a_bits: int) -> None:
    rng = np.random.default_rng(SEED)
    bias, total = rng.integers(-(2**20), 2**20, 100), rng.integers(-5000, 5000, 100)
    divisor = 2 ** (8 - a_bits)
    for zero_point in (-128, -1, 0, 5, 127):
        expected = [
            half_away(Fraction(int(b), divisor)) - half_away(Fraction(zero_point * int(t), divisor))
            for b, t in zip(bias, total, strict=True)
        ]
        assert arithmetic.folded_bias(bias, total, zero_point, a_bits).tolist() == expected


def test_accumulator_check_accepts_exactly_what_int32_holds() -> None:
    largest = (2**31 - 1) // 128
    arithmetic.check_accumulator([3, largest])
    with pytest.raises(ArithmeticRangeError, match="channel 1"):
        arithmetic.check_accumulator([3, largest + 1])
    arithmetic.check_accumulator([largest + 1], a_bits=7)


def test_quantized_multiplier_is_the_closest_31_bit_mantissa() -> None:
    rng = np.random.default_rng(SEED)
    reals = [*(2.0 ** rng.uniform(-31, 29, 2000)).tolist(), 1.0, 0.5, 2.0**-32, 2.0**29]
    for real in reals:
        multiplier, shift = arithmetic.quantize_multiplier(real)
        assert 2**30 <= multiplier < 2**31
        error = abs(Fraction(multiplier) * Fraction(2) ** (shift - 31) - Fraction(real))
        assert error * 2 <= Fraction(2) ** (shift - 31)


def test_quantized_multiplier_carries_into_the_shift_and_flushes_to_zero() -> None:
    assert arithmetic.quantize_multiplier(1.0 - 2.0**-40) == (2**30, 1)
    assert arithmetic.quantize_multiplier(0.0) == (0, 0)
    assert arithmetic.quantize_multiplier(2.0**-33) == (0, 0)
    for real in (-1.0, float("nan"), float("inf"), 2.0**30):
        with pytest.raises(ArithmeticRangeError):
            arithmetic.quantize_multiplier(real)


def test_add_rescaling_is_the_ratio_of_the_scales() -> None:
    rescaling = arithmetic.quantize_add(0.02, 0.05, 0.06)
    factors = {"input1": 0.02 / 0.1, "input2": 0.05 / 0.1, "output": 0.1 / (2**20 * 0.06)}
    for part, factor in factors.items():
        value = rescaling[f"{part}_multiplier"] * 2.0 ** (rescaling[f"{part}_shift"] - 31)
        assert value == pytest.approx(factor, rel=2.0**-30)
    assert rescaling["left_shift"] == 20
    for scales in ((0.0, 1.0, 1.0), (1.0, float("nan"), 1.0), (1.0, 1.0, 2.0**-20)):
        with pytest.raises(ArithmeticRangeError):
            arithmetic.quantize_add(*scales)


def test_weight_ranges_are_symmetric() -> None:
    assert [arithmetic.weight_range(bits) for bits in (2, 3, 4, 8)] == [
        (-1, 1),
        (-3, 3),
        (-7, 7),
        (-127, 127),
    ]


def test_a_weight_may_be_any_number_of_its_width() -> None:
    assert [arithmetic.integer_range(bits) for bits in (2, 4, 8)] == [(-2, 1), (-8, 7), (-128, 127)]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: arithmetic.requantize(2**31, 0, 2**30, 0, 0, -128, 127), ArithmeticRangeError),
        (lambda: arithmetic.requantize(0, 0, 2**31, 0, 0, -128, 127), ArithmeticRangeError),
        (lambda: arithmetic.requantize(0, 0, 2**30, 31, 0, -128, 127), ArithmeticRangeError),
        (lambda: arithmetic.requantize(0, 0, 2**30, -32, 0, -128, 127), ArithmeticRangeError),
        (lambda: arithmetic.requantize(0, 0, 2**30, 0, 128, -128, 127), ArithmeticRangeError),
        (lambda: arithmetic.requantize(0, 0, 2**30, 0, 0, 5, 4), ArithmeticRangeError),
        (lambda: arithmetic.round_half_away(1, 0), ArithmeticRangeError),
        (lambda: arithmetic.reduce_activation([128], 4), ArithmeticRangeError),
        (lambda: arithmetic.reduce_activation([0], 9), UnsupportedError),
        (lambda: arithmetic.reduced_shift([30], 7), ArithmeticRangeError),
        (lambda: arithmetic.weight_range(1), UnsupportedError),
        (lambda: arithmetic.integer_range(9), UnsupportedError),
        (lambda: arithmetic.as_int64([0.5]), ShapeError),
        (lambda: arithmetic.as_int64(torch.zeros(1)), ShapeError),
    ],
)
def test_arguments_outside_the_arithmetic_are_refused(
    call: Callable[[], object], error: type[NpuloopError]
) -> None:
    with pytest.raises(error):
        call()
