# SPDX-License-Identifier: Apache-2.0
"""Every operator against loops in plain integers, and against outputs of TensorFlow Lite's kernels."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from common.arrays import Array
from common.errors import ArithmeticRangeError, ShapeError, UnsupportedError
from common.testing import data_dir, require, vector_files
from golden import operators
from golden.layer import OPS, WEIGHTED_OPS, Layer, kernel_size, load_layer, output_shape, run_layer
from golden.testing import half_away, high_mul, random_layer, rescale, wrap

SEED = 20240610


def reduced(x: int, a_bits: int) -> int:
    """One activation at a_bits."""
    high: int = 2 ** (a_bits - 1) - 1
    return min(max(half_away(Fraction(x, 2 ** (8 - a_bits))), -high - 1), high)


def naive_weighted(layer: Layer, a_bits: int) -> Array:
    """conv2d, depthwise_conv2d and fully_connected by the definition, one product at a time."""
    x = layer.input if layer.op != "fully_connected" else layer.input[None, None]
    w = layer.weights if layer.op != "fully_connected" else layer.weights[:, None, None]
    depthwise = layer.op == "depthwise_conv2d"
    height, width, channels = x.shape
    shape = output_shape(layer) if layer.op != "fully_connected" else (1, 1, *output_shape(layer))
    out = np.zeros(shape, np.int8)
    divisor = 2 ** (8 - a_bits)
    for oy, ox, k in np.ndindex(*shape):
        acc, weights_sum = 0, 0
        for ky in range(w.shape[1]):
            for kx in range(w.shape[2]):
                iy = oy * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0]
                ix = ox * layer.stride[1] + kx * layer.dilation[1] - layer.padding[2]
                inside = 0 <= iy < height and 0 <= ix < width
                for c in [k // (w.shape[3] // channels)] if depthwise else range(channels):
                    weight = int(w[0, ky, kx, k]) if depthwise else int(w[k, ky, kx, c])
                    value = int(x[iy, ix, c]) if inside else layer.input_zero_point
                    weights_sum += weight
                    if a_bits == 8:
                        acc += (value - layer.input_zero_point) * weight
                    else:
                        acc += reduced(value, a_bits) * weight
        bias = int(layer.bias[k])
        if a_bits < 8:
            bias = half_away(Fraction(bias, divisor)) - half_away(
                Fraction(layer.input_zero_point * weights_sum, divisor)
            )
        out[oy, ox, k] = rescale(
            acc,
            bias,
            int(layer.multiplier[k]),
            int(layer.shift[k]) + 8 - a_bits,
            layer.output_zero_point,
            layer.act_min,
            layer.act_max,
        )
    return out.reshape(output_shape(layer))


def naive_pool(layer: Layer) -> Array:
    """average_pool and max_pool by the definition."""
    height, width, _ = layer.input.shape
    out = np.zeros(output_shape(layer), np.int8)
    kernel = kernel_size(layer)
    for oy, ox, c in np.ndindex(*out.shape):
        top, left = oy * layer.stride[0] - layer.padding[0], ox * layer.stride[1] - layer.padding[2]
        values = [
            int(layer.input[y, x, c])
            for y in range(max(top, 0), min(top + kernel[0], height))
            for x in range(max(left, 0), min(left + kernel[1], width))
        ]
        value = max(values) if layer.op == "max_pool" else half_away(Fraction(sum(values), len(values)))
        out[oy, ox, c] = min(max(value, layer.act_min), layer.act_max)
    return out


def naive_add(layer: Layer) -> Array:
    """add by the definition."""

    def scaled(x: int, zero_point: int, multiplier: int, shift: int) -> int:
        shifted = wrap((x - zero_point) * 2**layer.left_shift)
        return half_away(Fraction(high_mul(shifted, multiplier), 2**-shift))

    out = np.zeros(layer.input.shape, np.int8)
    for index in np.ndindex(*out.shape):
        total = scaled(
            int(layer.input[index]), layer.input1_zero_point, layer.input1_multiplier, layer.input1_shift
        ) + scaled(
            int(layer.input2[index]), layer.input2_zero_point, layer.input2_multiplier, layer.input2_shift
        )
        rounded = half_away(Fraction(high_mul(total, layer.output_multiplier), 2**-layer.output_shift))
        out[index] = min(max(rounded + layer.output_zero_point, layer.act_min), layer.act_max)
    return out


def naive(layer: Layer, a_bits: int) -> Array:
    """Any operator by its definition."""
    if layer.op == "add":
        return naive_add(layer)
    return naive_weighted(layer, a_bits) if layer.op in WEIGHTED_OPS else naive_pool(layer)


@pytest.mark.parametrize("op", OPS)
def test_operator_equals_the_definition_on_random_small_layers(op: str) -> None:
    for index in range(25):
        layer = random_layer(np.random.default_rng((SEED, index)), op)
        message = f"{op}, seed ({SEED}, {index})"
        np.testing.assert_array_equal(run_layer(layer), naive(layer, 8), err_msg=message)


@pytest.mark.parametrize("a_bits", range(2, 8))
@pytest.mark.parametrize("op", WEIGHTED_OPS)
def test_weighted_operator_with_reduced_activations_equals_the_definition(op: str, a_bits: int) -> None:
    for index in range(8):
        layer = random_layer(np.random.default_rng((SEED, a_bits, index)), op)
        message = f"{op}, seed ({SEED}, {a_bits}, {index})"
        np.testing.assert_array_equal(run_layer(layer, a_bits), naive(layer, a_bits), err_msg=message)


@pytest.mark.parametrize("op", ["add", "average_pool", "max_pool"])
def test_add_and_pools_use_full_activations_at_every_width(op: str) -> None:
    layer = random_layer(np.random.default_rng(SEED), op)
    np.testing.assert_array_equal(run_layer(layer, 4), run_layer(layer, 8))


@pytest.mark.parametrize("path", vector_files(), ids=lambda path: f"{path.parent.name}/{path.stem}")
@pytest.mark.data
def test_reference_vector_equals_expected_output(path: Path) -> None:
    layer = load_layer(path)
    assert layer.expected is not None
    np.testing.assert_array_equal(run_layer(layer), layer.expected)


def test_reference_vectors_cover_every_operator_they_are_made_for() -> None:
    require(data_dir() / "vectors")
    assert {path.parent.name for path in vector_files()} == set(OPS) - {"add"}


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d", "average_pool", "max_pool", "fully_connected"])
def test_a_batch_gives_the_same_as_its_images_one_by_one(op: str) -> None:
    layer = random_layer(np.random.default_rng(SEED), op)
    rng = np.random.default_rng(SEED)
    batch = rng.integers(-128, 128, (3, *layer.input.shape)).astype(np.int8)
    window = {"stride": layer.stride, "padding": layer.padding}
    if op in WEIGHTED_OPS:
        arguments = {
            key: getattr(layer, key)
            for key in ("weights", "bias", "multiplier", "shift", "input_zero_point", "output_zero_point")
        }
        if op != "fully_connected":
            arguments |= {**window, "dilation": layer.dilation}
    else:
        arguments = {**window, "kernel": layer.kernel}
    got = getattr(operators, op)(batch, **arguments, act_min=-128, act_max=127)
    free = replace(layer, act_min=-128, act_max=127)
    np.testing.assert_array_equal(got, [run_layer(replace(free, input=image)) for image in batch])


def test_weights_of_minus_128_multiply_right() -> None:
    layer = random_layer(np.random.default_rng(SEED), "fully_connected")
    layer = replace(
        layer,
        weights=np.full_like(layer.weights, -128),
        input=np.full_like(layer.input, -128),
        input_zero_point=0,
    )
    np.testing.assert_array_equal(run_layer(layer), naive(layer, 8))


def test_an_accumulator_that_could_leave_int32_is_refused_by_name() -> None:
    channels = 2**17
    layer = Layer(
        name="too_deep",
        op="fully_connected",
        input=np.zeros(channels, np.int8),
        weights=np.full((1, channels), -128, np.int8),
        bias=np.zeros(1, np.int32),
        multiplier=np.full(1, 2**30, np.int32),
        shift=np.zeros(1, np.int32),
    )
    with pytest.raises(ArithmeticRangeError, match="too_deep"):
        run_layer(layer)
    run_layer(replace(layer, weights=layer.weights + np.int8(1)))


def test_a_sum_of_add_beyond_int32_is_refused() -> None:
    layer = random_layer(np.random.default_rng(SEED), "add")
    extreme = replace(
        layer,
        input=np.full_like(layer.input, 127),
        input2=np.full_like(layer.input, 127),
        input1_zero_point=-128,
        input2_zero_point=-128,
        input1_multiplier=2**31 - 1,
        input2_multiplier=2**31 - 1,
        input1_shift=0,
        input2_shift=0,
        left_shift=23,
    )
    with pytest.raises(ArithmeticRangeError, match="left_shift"):
        run_layer(extreme)


def test_operators_refuse_arrays_that_do_not_fit() -> None:
    x, w = np.zeros((4, 4, 3), np.int8), np.zeros((2, 3, 3, 3), np.int8)
    constants = ([0, 0], [2**30, 2**30], [0, 0], 0, 0)
    window = ((1, 1), (0, 0, 0, 0), (1, 1), -128, 127)
    with pytest.raises(ShapeError, match="int8"):
        operators.conv2d(x.astype(np.int16), w, *constants, *window)
    with pytest.raises(ShapeError, match="channels"):
        operators.conv2d(x[:, :, :2], w, *constants, *window)
    with pytest.raises(ShapeError, match="does not fit"):
        operators.conv2d(x[:2], w, *constants, *window)
    with pytest.raises(ShapeError, match="bias"):
        operators.conv2d(x, w, [0], [2**30, 2**30], [0, 0], 0, 0, *window)
    with pytest.raises(ShapeError, match="depthwise"):
        operators.depthwise_conv2d(x, w[:1, :, :, :2], *constants, *window)
    with pytest.raises(ShapeError, match="padding"):
        operators.max_pool(x, (2, 2), (1, 1), (2, 0, 0, 0), -128, 127)
    with pytest.raises(UnsupportedError, match="a_bits"):
        operators.conv2d(x, w, *constants, *window, a_bits=1)
