# SPDX-License-Identifier: Apache-2.0
"""What the host does at a network's ends, against the interpreter with its reference kernels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UnsupportedError
from golden.importers.testing import Case, agree, check, conv, imported
from golden.network import run_network
from golden.network_file import load_network, save_network
from mapping.compiler.legalise import legalise_network

UINT8 = (1 / 255, 0)


def start(shape: tuple[int, ...], dtype: str, scale: float | None, zero_point: int, seed: int = 0) -> Case:
    """A model whose input has that type and quantisation."""
    case = Case.start(shape, seed)
    case.builder.tensors.clear()
    case.input = case.tensor = case.builder.tensor(shape, dtype, scale, zero_point)
    return case


def quantize(case: Case, dtype: str, scale: float, zero_point: int) -> Case:
    return case.then("QUANTIZE", case.builder.tensor(case.shape, dtype, scale, zero_point))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (UINT8, (1 / 255, -128)), (UINT8, (0.004, -120)), ((0.02, 131), (0.02, 3)), ((0.02, 7), (0.3, 100)),
        ((1.0, 255), (0.007, -128)),
    ],
)  # fmt: skip
def test_uint8_at_both_ends(source: tuple[float, int], target: tuple[float, int], tmp_path: Path) -> None:
    case = quantize(start((1, 6, 5, 4), "uint8", *source), "int8", *target).convolution()
    scale, zero_point = case.quantisation
    network = check(quantize(case, "uint8", scale, zero_point + 128), tmp_path, 40)
    assert (network.input.dtype, network.output.dtype) == ("uint8", "uint8")
    graph = legalise_network(network)
    assert [node.op for node in graph.host_before] == ["quantize"]
    assert [node.op for node in graph.host_after] == ["quantize"]
    network = check(quantize(case, "uint8", 0.11, 3), tmp_path, 40)
    assert [node.op for node in network.nodes][-2:] == ["quantize", "quantize"]


def test_float_input_becomes_uint8_and_uint8_becomes_float(tmp_path: Path) -> None:
    case = start((1, 300), "float32", None, 0)
    quantize(case, "uint8", 0.05, 120)
    case.then("DEQUANTIZE", case.builder.tensor((1, 300), "float32"))
    assert [node.op for node in check(case, tmp_path).nodes] == ["quantize", "dequantize"]


RESHAPES = {
    "flat": (1, 60),
    "other rows": (1, 6, 10, 1),
    "other channels": (1, 5, 4, 3),
    "deep": (1, 3, 2, 5, 2),
}


@pytest.mark.parametrize("name", RESHAPES)
def test_a_first_reshape_runs(name: str, tmp_path: Path) -> None:
    case = Case.start(RESHAPES[name])
    case.then("RESHAPE", case.output((1, 10, 6, 1), keep=True), case.builder.constant([-1, 10, 6, 1]))
    network = check(case.convolution(multiplier=3, stride=(2, 2)), tmp_path)
    graph = legalise_network(network)
    view = RESHAPES[name][-1] == 1
    assert [node.op for node in graph.host_before] == ([] if view else ["reshape"])


@pytest.mark.parametrize("shape", [(1, 64, 2), (1, 4, 4, 2, 4), (1, 128)])
def test_a_last_reshape_runs(shape: tuple[int, ...], tmp_path: Path) -> None:
    case = conv(stride=(2, 1))
    case.then("RESHAPE", case.output(shape, keep=True), case.builder.constant(shape))
    assert [node.op for node in legalise_network(check(case, tmp_path)).host_after] == ["reshape"]


def transposed(case: Case, *permutation: int) -> Case:
    shape = [case.shape[axis] for axis in permutation]
    return case.then("TRANSPOSE", case.output(shape, keep=True), case.builder.constant(permutation))


def test_channels_first_at_both_ends(tmp_path: Path) -> None:
    case = transposed(Case.start((1, 3, 8, 7)), 0, 2, 3, 1).pad(1, 1, 1, 1).convolution(padding="VALID")
    graph = legalise_network(check(transposed(case, 0, 3, 1, 2), tmp_path))
    assert [node.op for node in graph.host_before] == ["transpose"]
    assert [node.op for node in graph.host_after] == ["transpose"]


def test_transposes_that_undo_each_other_or_move_nothing_are_no_nodes(tmp_path: Path) -> None:
    case = transposed(transposed(conv(), 0, 3, 1, 2), 0, 2, 3, 1).convolution()
    assert [node.op for node in check(case, tmp_path).nodes] == ["conv2d", "conv2d"]
    single = Case.start((1, 1, 9, 1))
    network = check(transposed(single, 0, 3, 2, 1).convolution(kernel=(1, 3)), tmp_path)
    assert [node.op for node in network.nodes] == ["conv2d"]
    swapped = Case.start((1, 1, 6, 5))
    network = check(transposed(swapped, 1, 2, 0, 3).convolution(kernel=(3, 1)), tmp_path)
    assert [node.op for node in network.nodes] == ["reshape", "conv2d"]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("axes", [((2, 3),), ((3,), (2,)), ((2,), (-1,))])
def test_a_mean_of_a_transposed_image(axes: tuple[tuple[int, ...], ...], keep: bool, tmp_path: Path) -> None:
    if keep and axes[-1] == (2,) and len(axes) == 2:
        axes = (axes[0], (2,))
    case = transposed(conv(), 0, 3, 1, 2)
    for step in axes:
        own = {axis % len(case.shape) for axis in step}
        shape = [1 if i in own else size for i, size in enumerate(case.shape) if keep or i not in own]
        case.then("MEAN", case.output(shape), case.builder.constant(step), keepDims=keep)
    network = check(case, tmp_path)
    assert "transpose" not in [node.op for node in network.nodes]
    legalise_network(network)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("keep", [True, False])
def test_a_mean_over_one_axis(axis: int, keep: bool, tmp_path: Path) -> None:
    case = conv(stride=(2, 1))
    shape = [1 if i == axis else size for i, size in enumerate(case.shape) if keep or i != axis]
    case.then("MEAN", case.output(shape), case.builder.constant([axis]), keepDims=keep)
    network = check(case, tmp_path)
    legalise_network(network)


@pytest.mark.parametrize("flatten", [True, False])
def test_a_fully_connected_layer_reads_a_transposed_image_in_its_own_order(
    flatten: bool, tmp_path: Path
) -> None:
    """NHWC to NCHW, flattened, and a fully connected layer: as PyTorch's Flatten and Linear are converted."""
    case = transposed(conv(stride=(2, 1)), 0, 3, 1, 2)
    if flatten:
        case.then("RESHAPE", case.output((1, 128), keep=True), case.builder.constant([-1, 128]))
    network = check(case.fully_connected(7), tmp_path)
    assert [node.op for node in network.nodes] == ["conv2d", "reshape", "fully_connected"]
    assert not legalise_network(network).host_after


def test_a_flattened_transposed_image_with_another_reader_keeps_its_order(tmp_path: Path) -> None:
    case = transposed(conv(stride=(2, 1)), 0, 3, 1, 2)
    case.then("RESHAPE", case.output((1, 128), keep=True), case.builder.constant([1, 128]))
    flat = case.tensor
    case.fully_connected(7)
    content = case.builder.build([case.input], [case.tensor, flat])
    network = agree(content, tmp_path)
    assert [node.op for node in legalise_network(network).host_after] == ["transpose", "reshape"]
    case = transposed(Case.start((1, 4, 5, 3)), 0, 3, 1, 2)
    case.then("RESHAPE", case.output((1, 60), keep=True), case.builder.constant([1, 60]))
    assert [node.op for node in check(case, tmp_path).nodes] == ["transpose", "reshape"]


def ended(case: Case, operator: str, dtype: str, scale: float | None = None, zero_point: int = 0) -> Case:
    return case.then(operator, case.builder.tensor(case.shape, dtype, scale, zero_point))


@pytest.mark.parametrize("scale", [1e-4, 0.0153, 0.0625, 0.11, 0.5, 3.0, 100.0])
@pytest.mark.parametrize(
    ("operator", "output"), [("LOGISTIC", (1 / 256, -128)), ("LOG_SOFTMAX", (1 / 16, 127))]
)
def test_int8_logistic_and_log_softmax(
    operator: str, output: tuple[float, int], scale: float, tmp_path: Path
) -> None:
    for seed, shape in enumerate([(1, 256), (1, 2), (1, 1), (1, 4, 5, 12)]):
        case = start(shape, "int8", scale, (-128, 0, 46, 127)[seed])
        check(ended(case, operator, "int8", *output), tmp_path, 60)


@pytest.mark.parametrize("operator", ["LOGISTIC", "LOG_SOFTMAX", "SOFTMAX"])
@pytest.mark.parametrize("shape", [(1, 1000), (1, 3, 2, 7), (1, 1)])
def test_float_ends_behind_a_dequantize(operator: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    for scale in (0.02, 0.3, 4.0):
        case = start(shape, "int8", scale, -5)
        case.then("DEQUANTIZE", case.builder.tensor(shape, "float32"))
        options: dict[str, Any] = {"beta": 0.7} if operator == "SOFTMAX" else {}
        case.then(operator, case.builder.tensor(shape, "float32"), **options)
        check(case, tmp_path, 20)
        check(ended(start(shape, "float32", None, 0), operator, "float32"), tmp_path, 20)


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_softmax_over_any_axis_of_an_image(axis: int, tmp_path: Path) -> None:
    order = [0, *(i for i in (1, 2, 3) if i != axis % 4), axis % 4]
    case = transposed(conv(stride=(2, 1)), *order).softmax()
    back = [order.index(i) for i in range(4)]
    legalise_network(check(transposed(case, *back), tmp_path))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize(("source", "axis"), [("int8", 3), ("int8", 1), ("uint8", -1), ("float32", 2)])
def test_arg_max(source: str, axis: int, dtype: str, tmp_path: Path) -> None:
    case = start((1, 4, 5, 6), source, None if source == "float32" else 0.1, 3 if source != "float32" else 0)
    shape = [size for i, size in enumerate(case.shape) if i != axis % 4]
    output = case.builder.tensor(shape, dtype)
    case.then("ARG_MAX", output, case.builder.constant([axis]), outputType=2 if dtype == "int32" else 4)
    network = check(case, tmp_path, 30)
    assert network.output.dtype == dtype


def test_arg_max_of_classes(tmp_path: Path) -> None:
    case = conv().mean(False, None)
    case.then("ARG_MAX", case.builder.tensor((1,), "int64"), case.builder.constant(1), outputType=4)
    network = check(case, tmp_path)
    assert network.output.shape == (1,)
    assert [node.op for node in legalise_network(network).host_after][-1] == "arg_max"


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    case = start((1, 6, 5, 4), "uint8", 0.02, 130)
    quantize(case, "int8", 0.02, 2).convolution()
    first = case.tensor
    other = case.builder.tensor((1, 4, 6, 5), "int8", 0.1, -3)
    case.tensor = other
    transposed(case, 0, 2, 3, 1).convolution()
    second = case.tensor
    case.tensor = first
    case.then("ADD", case.output(case.shape), second).convolution()
    last = case.tensor
    case.then("DEQUANTIZE", case.builder.tensor(case.shape, "float32"))
    content = case.builder.build([case.input, other], [case.tensor, second, last])
    network = agree(content, tmp_path)
    assert list(network.inputs) == ["input", "input_1"]
    assert network.output_names == ("dequantize_6", "conv2d_3", "conv2d_5")
    graph = legalise_network(network)
    assert graph.outputs == ("conv2d_3", "conv2d_5")
    path = tmp_path / "saved.npz"
    save_network(network, path)
    again = load_network(path)
    assert (again.inputs, again.output_names) == (network.inputs, network.output_names)
    rng = np.random.default_rng(1)
    inputs = {
        "input": rng.integers(0, 256, (6, 5, 4)).astype(np.uint8),
        "input_1": rng.integers(-128, 128, (4, 6, 5)).astype(np.int8),
    }
    here, there = run_network(network, inputs), run_network(again, inputs)
    for name in network.output_names:
        np.testing.assert_array_equal(here[name], there[name])


def test_a_shape_that_follows_from_shapes_is_constant(tmp_path: Path) -> None:
    """RESHAPE to [SHAPE(x)[0:1], 5, 8, 4], as Keras writes a Reshape layer."""
    case = Case.start((1, 160))
    builder = case.builder
    shape, batch, target = (
        builder.tensor((2,), "int32"),
        builder.tensor((), "int32"),
        builder.tensor((4,), "int32"),
    )
    builder.operator("SHAPE", [case.tensor], shape, outType=2)
    bounds = [builder.constant([value]) for value in (0, 1, 1)]
    builder.operator("STRIDED_SLICE", [shape, *bounds], batch, shrinkAxisMask=1)
    builder.operator("PACK", [batch, *(builder.constant(size) for size in (5, 8, 4))], target, valuesCount=4)
    case.then("RESHAPE", case.output((1, 5, 8, 4), keep=True), target)
    assert [node.op for node in check(case.convolution(), tmp_path).nodes] == ["reshape", "conv2d"]


def test_the_files_own_steps_survive_a_network_file(tmp_path: Path) -> None:
    case = transposed(conv(), 0, 3, 1, 2)
    case.then("ARG_MAX", case.builder.tensor((1, 8, 8), "int32"), case.builder.constant([1]), outputType=2)
    network = check(case, tmp_path)
    save_network(network, tmp_path / "saved.npz")
    again = load_network(tmp_path / "saved.npz")
    for before, after in zip(network.nodes, again.nodes, strict=True):
        assert (before.axis, before.permutation, before.beta) == (after.axis, after.permutation, after.beta)
    x = np.random.default_rng(1).integers(-128, 128, network.input.shape).astype(np.int8)
    np.testing.assert_array_equal(
        run_network(network, x)[network.output_name], run_network(again, x)[again.output_name]
    )


def other_ends() -> dict[str, tuple[Case, str]]:
    def other_logistic() -> Case:
        return ended(conv(), "LOGISTIC", "int8", 1 / 255, -128)

    def uint8_softmax() -> Case:
        return ended(start((1, 9), "uint8", 0.1, 3), "SOFTMAX", "uint8", 1 / 256, 0)

    def rescaling_transpose() -> Case:
        case = conv()
        return case.then("TRANSPOSE", case.output((1, 4, 8, 8)), case.builder.constant([0, 3, 1, 2]))

    def batch_argmax() -> Case:
        case = conv()
        return case.then(
            "ARG_MAX", case.builder.tensor((8, 8, 4), "int32"), case.builder.constant([0]), outputType=2
        )

    return {
        "logistic": (other_logistic(), "an int8 logistic has the output scale 1/256 and zero point -128"),
        "uint8": (uint8_softmax(), "softmax turns int8 to int8, float32 to float32, not uint8 to uint8"),
        "transpose": (rescaling_transpose(), r"operator 1 \(TRANSPOSE\): input and output must share type"),
        "arg_max": (batch_argmax(), "its first axis is no batch of 1|along the batch axis"),
    }


@pytest.mark.parametrize("name", other_ends())
def test_other_ends_are_refused_with_what_would_do(name: str, tmp_path: Path) -> None:
    case, message = other_ends()[name]
    with pytest.raises(UnsupportedError, match=message):
        imported(case.build(), tmp_path)


def test_a_transpose_between_layers_is_refused_by_its_name(tmp_path: Path) -> None:
    network = check(transposed(conv(), 0, 2, 1, 3).convolution(), tmp_path)
    with pytest.raises(
        UnsupportedError, match="layer 'transpose_1': transpose runs on the host, and only at"
    ):
        legalise_network(network)
