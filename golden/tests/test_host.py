# SPDX-License-Identifier: Apache-2.0
"""The host's operators against TensorFlow Lite's reference kernels, on models that are built here."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from common.arrays import Array
from common.errors import ArithmeticRangeError, ShapeError
from golden import fixed_point, host
from golden.importers.testing import Builder, interpreter

SEED = 20261121
ALL_INT8 = np.arange(-128, 128).astype(np.int8)[None]


def reference(
    operator: str,
    batch: Array,
    source: tuple[float, int] | None,
    output: tuple[float, int] | None,
    **options: Any,
) -> Array:
    """What the interpreter makes of the batch; quantisations are (scale, zero point), None for float32."""
    builder = Builder()
    ends = [
        builder.tensor(batch.shape[1:], *(("int8", *end) if end is not None else ("float32",)))
        for end in (source, output)
    ]
    builder.operator(operator, ends[:1], ends[1], **options)
    reference = interpreter(builder.build(ends[:1], ends[1:]))
    detail = reference.get_input_details()[0]["index"]
    outputs = []
    for item in batch:
        reference.set_tensor(detail, item)
        reference.invoke()
        outputs.append(reference.get_tensor(reference.get_output_details()[0]["index"]))
    return np.stack(outputs)


def random_scale(rng: np.random.Generator, low: float, high: float) -> float:
    """A float32 between 10^low and 10^high, all orders of magnitude alike."""
    return float(np.float32(10.0 ** rng.uniform(low, high)))


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 12, 100, 255, 256, 1000])
def test_softmax_equals_the_reference_kernel(classes: int) -> None:
    compared = 0
    for case in range(60):
        rng = np.random.default_rng((SEED, classes, case))
        scale = random_scale(rng, -7, 2.5)
        beta = 1.0 if case % 2 else random_scale(rng, -2, 1.5)
        spread = int(rng.integers(1, 129))
        x = rng.integers(-spread, spread, (1, max(16, 15000 // classes), classes)).astype(np.int8)
        if case % 3 == 0:
            x[..., 0] = 127
        try:
            got = host.softmax(x, scale, beta)
        except ArithmeticRangeError:  # where the interpreter ends the process
            continue
        expected = reference("SOFTMAX", x, (scale, 3), (1 / 256, -128), beta=beta)
        np.testing.assert_array_equal(got, expected, err_msg=f"seed ({SEED}, {classes}, {case})")
        compared += 1
    assert compared >= 20


def test_softmax_equals_the_reference_kernel_at_the_edges_of_its_multiplier() -> None:
    x = np.random.default_rng(SEED).integers(-128, 128, (1, 20, 10)).astype(np.int8)
    x[:, :10, 1] = x[:, :10, 0] - (x[:, :10, 0] > -128)  # differences of 1
    for exponent in (-25.9, -25, -20.5, 0, 2, 3.99999, 4, 4.00001, 4.99999, 5, 5.00001, 8, 40):
        scale = float(np.float32(2.0**exponent))
        expected = reference("SOFTMAX", x, (scale, 0), (1 / 256, -128), beta=1.0)
        np.testing.assert_array_equal(host.softmax(x, scale, 1.0), expected, err_msg=f"scale {scale}")


def test_fixed_point_constants_of_softmax_are_those_of_gemmlowp() -> None:
    assert [fixed_point.q0(math.exp(-(2.0**e))) for e in range(-2, 5)] == [
        1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242
    ]  # fmt: skip
    assert (fixed_point.q0(math.exp(-1 / 8)), fixed_point.q0(1 / 3)) == (1895147668, 715827883)
    assert (fixed_point._48_17, fixed_point._32_17) == (1515870810, 1010580540)


def test_softmax_of_up_to_511_equal_values_is_exact_and_of_more_refused() -> None:
    for classes in (255, 256, 257, 511):
        x = np.zeros((1, 1, classes), np.int8)
        expected = reference("SOFTMAX", x, (0.1, 0), (1 / 256, -128))
        np.testing.assert_array_equal(host.softmax(x, 0.1, 1.0), expected)
    with pytest.raises(ArithmeticRangeError, match="add up to 512 or more"):
        host.softmax(np.zeros((1, 512), np.int8), 0.1, 1.0)


@pytest.mark.parametrize(("scale", "beta"), [(2.0**-26, 1.0), (1e-9, 1.0), (1.0, 1e-9), (math.nan, 1.0)])
def test_softmax_refuses_what_the_reference_kernel_aborts_on(scale: float, beta: float) -> None:
    with pytest.raises(ArithmeticRangeError, match=r"above 2\^-26"):
        host.softmax(ALL_INT8, scale, beta)


def test_quantize_equals_the_reference_kernel_around_every_tie() -> None:
    for case in range(100):
        rng = np.random.default_rng((SEED, case))
        scale, zero_point = random_scale(rng, -6, 3), int(rng.integers(-128, 128))
        steps = rng.integers(-300, 300, 3000) + rng.choice([0, 0.5, 0.5, 0.25], 3000)
        x = (steps * scale).astype(np.float32)
        x = np.nextafter(x, x + rng.choice([-1, 0, 1], 3000).astype(np.float32))[None, None]
        expected = reference("QUANTIZE", x, None, (scale, zero_point))
        got = host.quantize(x, scale, zero_point)
        np.testing.assert_array_equal(got, expected, err_msg=f"seed ({SEED}, {case})")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, -2.2e8])
def test_quantize_refuses_numbers_beyond_int32(value: float) -> None:
    with pytest.raises(ArithmeticRangeError, match="beyond int32"):
        host.quantize(np.array([0.0, value], np.float32), 0.1, 3)


def test_requantisation_of_every_int8_equals_the_reference_kernel() -> None:
    for case in range(500):
        rng = np.random.default_rng((SEED, case))
        source = (random_scale(rng, -3, 1), int(rng.integers(-128, 128)))
        output = (random_scale(rng, -3, 1), int(rng.integers(-128, 128)))
        if case % 5 == 0:
            output = (source[0] * float(rng.choice([1, 2, 0.5, 4, 0.25])), output[1])
        expected = reference("QUANTIZE", ALL_INT8[None], source, output)
        got = host.requantize(ALL_INT8[None], *source, *output)
        np.testing.assert_array_equal(got, expected, err_msg=f"seed ({SEED}, {case})")


def test_dequantisation_of_every_int8_equals_the_reference_kernel_to_the_last_bit() -> None:
    for case in range(200):
        rng = np.random.default_rng((SEED, case))
        source = (random_scale(rng, -30, 30), int(rng.integers(-128, 128)))
        expected = reference("DEQUANTIZE", ALL_INT8[None], source, None)
        got = host.dequantize(ALL_INT8[None], *source)
        assert got.dtype == expected.dtype == np.float32
        bits = (got.view(np.int32), expected.view(np.int32))
        np.testing.assert_array_equal(*bits, err_msg=f"seed ({SEED}, {case})")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: host.softmax(np.zeros(3, np.int16), 1.0, 1.0), "takes an int8 array"),
        (lambda: host.softmax(np.zeros((), np.int8), 1.0, 1.0), "at least one axis"),
        (lambda: host.quantize(np.zeros(3, np.float64), 1.0, 0), "takes float32"),
        (lambda: host.requantize(np.zeros(3, np.int16), 1.0, 0, 1.0, 0), "takes int8 or uint8"),
        (lambda: host.dequantize(np.zeros(3, np.float32), 1.0, 0), "takes int8 or uint8"),
    ],
)
def test_other_element_types_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()


def test_batches_of_any_size_and_shape_are_kept() -> None:
    x = np.random.default_rng(SEED).integers(-128, 128, (4, 3, 2, 5)).astype(np.int8)
    one_by_one = np.stack([host.softmax(item, 0.1, 1.0) for item in x])
    np.testing.assert_array_equal(host.softmax(x, 0.1, 1.0), one_by_one)
    assert host.requantize(x[:0], 0.1, 0, 0.2, 0).shape == (0, 3, 2, 5)
    assert host.quantize(np.zeros((0, 2), np.float32), 0.1, 0).shape == (0, 2)
