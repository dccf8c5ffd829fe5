# SPDX-License-Identifier: Apache-2.0
"""Each operator of an imported model against the interpreter with its reference kernels, on built models."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.arrays import Int8
from common.errors import UnsupportedError
from golden.arithmetic import quantize_multiplier
from golden.importers.testing import SEED, Case, check, conv, imported, interpreter, invoke
from golden.importers.tflite_constants import rounded_once
from golden.network import run_network

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "same": {},
    "valid": {"padding": "VALID"},
    "even kernel": {"kernel": (2, 4)},
    "one pixel": {"kernel": (1, 1)},
    "stride": {"stride": (2, 3)},
    "stride, valid": {"stride": (3, 2), "padding": "VALID"},
    "stride over a kernel": {"kernel": (1, 1), "stride": (2, 2)},
    "dilation": {"dilation": (2, 3)},
    "dilation, valid": {"dilation": (2, 1), "padding": "VALID"},
    "relu": {"activation": 1},
    "relu from -1 to 1": {"activation": 2},
    "relu6": {"activation": 3},
    "one scale": {"per_tensor": True},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("multiplier", [0, 1, 2, 3])
def test_convolution_equals_the_interpreter(name: str, multiplier: int, tmp_path: Path) -> None:
    for seed, shape in enumerate([(1, 9, 8, 3), (1, 8, 11, 1), (1, 5, 5, 5)]):
        case = Case.start(shape, (seed, multiplier)).convolution(multiplier=multiplier, **CONVOLUTIONS[name])
        network = check(case, tmp_path)
        assert network.nodes[-1].name == ("depthwise_conv2d_0" if multiplier else "conv2d_0")


def test_missing_bias_is_zero(tmp_path: Path) -> None:
    check(Case.start((1, 9, 8, 3)).convolution(multiplier=2, with_bias=False), tmp_path)
    network = imported(conv(with_bias=False).build(), tmp_path)  # which the interpreter refuses
    assert network.nodes[0].layer is not None
    assert not network.nodes[0].layer.bias.any()


@pytest.mark.parametrize("per_tensor", [True, False])
@pytest.mark.parametrize("bias", ["yes", "no", "none"])
@pytest.mark.parametrize("activation", [0, 1, 2, 3])
def test_fully_connected_equals_the_interpreter(
    per_tensor: bool, bias: str, activation: int, tmp_path: Path
) -> None:
    network = check(Case.start((1, 33)).fully_connected(60, per_tensor, bias, activation), tmp_path, 200)
    assert network.nodes[0].layer is not None
    assert network.nodes[0].layer.single_rounding


def at_every_step(weight_scale: float, output_scale: float) -> Case:
    """FULLY_CONNECTED without weights to speak of, whose biases lie around every step of its rescaling."""
    case = Case.start((1, 1))
    factor = case.quantisation[0] * weight_scale / output_scale
    steps = np.floor((np.arange(-256, 257) - 0.5) / factor)
    biases = (steps[:, None] + np.arange(-3, 5)).flatten().astype(np.int32)
    weights = case.builder.tensor((biases.size, 1), scale=weight_scale, data=np.zeros((biases.size, 1)))
    bias = case.builder.tensor(biases.shape, "int32", case.quantisation[0] * weight_scale, data=biases)
    zero_point = int(case.rng.integers(-99, 99))
    output = case.builder.tensor((1, biases.size), scale=output_scale, zero_point=zero_point)
    return case.then("FULLY_CONNECTED", output, weights, bias)


def test_fully_connected_equals_the_interpreter_at_every_step_of_its_rescaling(tmp_path: Path) -> None:
    for exponent in (-2, -6, -9, -12):
        for fraction in (0.125, 0.13, 0.17):
            scale = float(np.float32(fraction * 2.0**exponent))
            check(at_every_step(scale, 0.1), tmp_path, 1)  # the scale of the input: 0.125 makes ties
            check(at_every_step(scale, 0.07), tmp_path, 1)


def test_fully_connected_is_exact_where_the_nearest_multiplier_is_not(tmp_path: Path) -> None:
    found = 0
    for seed in range(20_000):
        scale = float(np.float32(np.random.default_rng((SEED, seed)).uniform(1, 2) * 2.0**-12))
        factor = np.float64(np.float32(0.1)) * scale / float(np.float32(0.07))
        if rounded_once(factor, np.int64(2**21))[0] != quantize_multiplier(float(factor))[0]:
            network = check(at_every_step(scale, float(np.float32(0.07))), tmp_path, 1)
            assert network.nodes[0].layer is not None
            assert network.nodes[0].layer.multiplier[0] != quantize_multiplier(float(factor))[0]
            found += 1
            if found == 3:
                return
    pytest.fail("no such factor")


def test_fully_connected_whose_rescaling_cannot_be_exact_is_refused() -> None:
    for seed in range(1000):
        factor = np.float64(np.random.default_rng((SEED, seed)).uniform(1, 2) * 2.0**-20)
        try:
            rounded_once(factor, np.int64(2**30))
        except UnsupportedError as error:
            assert "no multiplier gives exactly" in str(error)  # noqa: PT017 (not every factor is refused)
            return
    pytest.fail("no such factor")


def test_fully_connected_of_an_image_is_flattened(tmp_path: Path) -> None:
    check(Case.start((1, 3, 4, 2)).fully_connected(5), tmp_path)
    network = imported(Case.start((1, 3, 4, 2)).fully_connected(5).build(), tmp_path)
    assert [node.name for node in network.nodes] == ["reshape_0_in", "fully_connected_0"]
    network = imported(Case.start((1, 1, 1, 6)).fully_connected(5, keep=True).build(), tmp_path)
    assert [node.name for node in network.nodes] == ["reshape_0_in", "fully_connected_0", "reshape_0_out"]
    assert network.output.shape == (1, 1, 5)


@pytest.mark.parametrize("activation", [0, 1, 2, 3])
def test_add_equals_the_interpreter(activation: int, tmp_path: Path) -> None:
    case = Case.start((1, 6, 5, 7))
    first = case.tensor
    case.convolution(kernel=(1, 1), outputs=7)
    case.then("ADD", case.output((1, 6, 5, 7)), first, fusedActivationFunction=activation)
    assert check(case, tmp_path).nodes[-1].inputs == ("conv2d_0", "input")
    twice = Case.start((1, 10))
    twice.then("ADD", twice.output((1, 10)), twice.tensor, fusedActivationFunction=activation)
    check(twice, tmp_path)


@pytest.mark.parametrize("operator", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 3)), ((5, 4), (5, 4))])
@pytest.mark.parametrize("activation", [0, 1, 3])
def test_pool_equals_the_interpreter(
    operator: str,
    padding: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    activation: int,
    tmp_path: Path,
) -> None:
    for seed, shape in enumerate([(1, 7, 9, 3), (1, 5, 4, 2), (1, 8, 6, 1)]):
        check(Case.start(shape, seed).pool(operator, kernel, stride, padding, activation), tmp_path)


@pytest.mark.parametrize("amounts", [(1, 1, 1, 1), (0, 1, 0, 1), (2, 0, 1, 3)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("multiplier", [0, 2])
def test_pad_is_folded_into_the_convolution(
    amounts: tuple[int, int, int, int], padding: str, multiplier: int, tmp_path: Path
) -> None:
    for explicit in (False, True):
        case = Case.start((1, 7, 6, 3))
        case.pad(*amounts, value=case.quantisation[1] if explicit else None)
        case.convolution(stride=(2, 2), padding=padding, multiplier=multiplier)
        network = check(case, tmp_path)
        assert len(network.nodes) == 1
        assert network.nodes[0].inputs == ("input",)
    assert network.nodes[0].layer is not None
    if padding == "VALID":
        assert network.nodes[0].layer.padding == amounts


def test_two_pads_and_two_readers_of_a_pad_are_folded(tmp_path: Path) -> None:
    case = Case.start((1, 6, 6, 3)).pad(1, 0, 0, 2).pad(0, 1, 3, 0)
    padded = case.tensor
    case.convolution(kernel=(4, 4), padding="VALID")
    first = case.tensor
    case.tensor = padded
    case.convolution(kernel=(4, 4), padding="VALID")
    case.then("ADD", case.output(case.shape), first)
    assert [node.op for node in check(case, tmp_path).nodes] == ["conv2d", "conv2d", "add"]


def every_sum(size: tuple[int, int]) -> Int8:
    """Images (N, *size, C) whose channels have every possible sum, their pixels as equal as they can be."""
    pixels, channels = math.prod(size), 1024
    sums = np.resize(np.arange(255 * pixels + 1), (-(-(255 * pixels + 1) // channels), 1, channels))
    images = sums // pixels + (np.arange(pixels)[:, None] < sums % pixels) - 128
    return images.reshape(-1, *size, channels).astype(np.int8)


MEAN_SIZES = [(1, 1), (1, 2), (1, 3), (2, 2), (3, 3), (4, 4), (5, 5), (6, 5), (7, 7), (8, 8), (25, 5)]


@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("size", MEAN_SIZES)
def test_mean_of_every_sum_equals_the_interpreter(
    size: tuple[int, int], keep_dims: bool, tmp_path: Path
) -> None:
    images = every_sum(size)
    total = (images.astype(np.int64) + 128).sum(axis=(1, 2))
    assert set(total.flatten().tolist()) == set(range(255 * math.prod(size) + 1))
    for seed, factor in enumerate([None, 1.0, 0.5, 2.0, 1e-4, 9.5, 0.0, 0.0]):  # 0 is any
        case = Case.start((1, *images.shape[1:]), (seed, *size, keep_dims))
        if factor is None:  # the quantisation stays
            quantisation = None
        else:
            factor = factor or 2 ** case.rng.uniform(-3, 3)
            scale = float(np.float32(case.quantisation[0] / factor))
            quantisation = scale, int(case.rng.integers(-150, 150).clip(-128, 127))
        content = case.mean(keep_dims, quantisation, (1, 2) if seed % 2 else (2, -3)).build()
        network = imported(content, tmp_path)
        assert network.nodes[0].name == "mean_0"
        got = run_network(network, images)[network.output_name]
        np.testing.assert_array_equal(got, invoke(interpreter(content), images), err_msg=f"{factor} {size}")


def test_mean_has_the_multiplier_of_the_reference_kernel(tmp_path: Path) -> None:
    expected = {(3, 3): (2**30 * 8 // 9, -2), (8, 8): (2**30, -5), (25, 5): (2**30 * 64 // 125, -5)}
    for size, pair in expected.items():
        layer = imported(Case.start((1, *size, 4)).mean(True, None).build(), tmp_path).nodes[0].layer
        assert layer is not None
        assert (int(layer.multiplier[0]), int(layer.shift[0])) == pair


def test_reshapes_equal_the_interpreter(tmp_path: Path) -> None:
    case = Case.start((1, 3, 4, 2))
    case.then("RESHAPE", case.output((1, 24), keep=True), case.builder.constant([-1, 24]))
    case.then("RESHAPE", case.output((1, 1, 24, 1), keep=True), newShape=[1, 1, 24, 1])
    case.then("SQUEEZE", case.output((1, 24), keep=True), squeezeDims=[1, -1])
    case.then("EXPAND_DIMS", case.output((1, 24, 1), keep=True), case.builder.constant(-1))
    case.then("EXPAND_DIMS", case.output((1, 1, 24, 1), keep=True), case.builder.constant([1]))
    assert [node.output.shape for node in check(case, tmp_path).nodes] == [
        (24,), (1, 24, 1), (24,), (24, 1), (1, 24, 1)
    ]  # fmt: skip
    squeezed = Case.start((1, 6, 1, 1))
    network = imported(squeezed.then("SQUEEZE", squeezed.output((6,), keep=True)).build(), tmp_path)
    assert network.output.shape == (6,)


def test_quantise_and_dequantise_at_the_edges_equal_the_interpreter(tmp_path: Path) -> None:
    case = Case.start((1, 6, 6, 2), quantised=False)
    case.then("QUANTIZE", case.builder.tensor((1, 6, 6, 2), scale=0.1, zero_point=-7))
    case.convolution().then("QUANTIZE", case.output(case.shape)).softmax(0.5)
    case.then("DEQUANTIZE", case.builder.tensor(case.shape, "float32"))
    network = check(case, tmp_path)
    assert (network.input.dtype, network.output.dtype) == ("float32", "float32")
    assert [node.op for node in network.nodes] == ["quantize", "conv2d", "quantize", "softmax", "dequantize"]


def test_a_network_of_everything_equals_the_interpreter(tmp_path: Path) -> None:
    case = Case.start((1, 13, 11, 3)).convolution(stride=(2, 2), activation=3, outputs=6)
    skip = case.tensor
    case.convolution(multiplier=1, activation=1).convolution(kernel=(1, 1), outputs=6)
    case.then("ADD", case.output(case.shape), skip, fusedActivationFunction=1)
    case.pad(1, 1, 1, 1).convolution(multiplier=2, padding="VALID", stride=(2, 2))
    case.pool("MAX_POOL_2D", (2, 2), (1, 1), "SAME").pool("AVERAGE_POOL_2D", (4, 3), (4, 3), "VALID")
    case.then("RESHAPE", case.output((1, 12), keep=True), case.builder.constant([1, 12]))
    check(case.fully_connected(10).softmax(), tmp_path, 30)


def narrow(case: Case, dtype: str) -> Case:
    case.weight_type = dtype
    return case


@pytest.mark.parametrize("per_tensor", [True, False])
def test_int4_weights_equal_the_interpreters(per_tensor: bool, tmp_path: Path) -> None:
    shape = (1, 9, 8, 3)
    for case in (
        narrow(Case.start(shape), "int4").convolution(outputs=5, per_tensor=per_tensor),
        narrow(Case.start(shape), "int4").convolution(multiplier=1, per_tensor=per_tensor),
        narrow(Case.start((1, 33)), "int4").fully_connected(7, per_tensor),
    ):
        (node,) = check(case, tmp_path).nodes
        assert node.layer is not None
        assert node.weight_bits is not None
        assert (node.weight_bits == 4).all()
        assert node.layer.weights.min() == -8


@pytest.mark.parametrize(("dtype", "bits"), [("int4", 4), ("int2", 2)])
def test_narrow_weights_are_the_same_numbers_as_in_int8(dtype: str, bits: int, tmp_path: Path) -> None:
    for shape in ((3, 5), (4, 2, 2, 3), (1, 1, 3, 7)):
        data = np.random.default_rng(SEED).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
        networks = []
        for weight_type in (dtype, "int8"):
            case = Case.start((1, shape[-1]) if len(shape) == 2 else (1, 4, 4, shape[-1]))
            weights = case.builder.tensor(shape, weight_type, 0.1, data=data)
            op = "FULLY_CONNECTED" if len(shape) == 2 else "CONV_2D"
            size = (1, shape[0]) if len(shape) == 2 else (1, 5 - shape[1], 5 - shape[2], shape[0])
            options = {} if len(shape) == 2 else {"padding": 1}
            case.then(op, case.output(size), weights, case.builder.constant(np.zeros(shape[0])), **options)
            networks.append(imported(case.build(), tmp_path))
        (narrow_node,), (node,) = (network.nodes for network in networks)
        assert narrow_node.layer is not None
        assert node.layer is not None
        np.testing.assert_array_equal(narrow_node.layer.weights, node.layer.weights)
        assert narrow_node.weight_bits is not None
        assert (narrow_node.weight_bits == bits).all()
