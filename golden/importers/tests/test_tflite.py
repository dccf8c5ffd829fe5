# SPDX-License-Identifier: Apache-2.0
"""Imported real models against the interpreter with its reference kernels, tensor by tensor."""

from pathlib import Path

import numpy as np
import pytest

from common.arrays import Array, Int8, Int64
from common.testing import data_dir, require
from golden.importers.testing import SEED, interpreter, invoke
from golden.importers.tflite import load_tflite
from golden.network import Network, run_network

MODELS = ("kws_ref_model", "pretrainedResnet_quant", "vww_96_int8", "ad01_int8")


# ------------------------------------------------------------------------------------------- real models
def model_path(name: str) -> Path:
    return require(data_dir() / "models" / f"{name}.tflite")


def keyword_inputs() -> tuple[Int8, Array]:
    with np.load(require(data_dir() / "kws" / "kws01_first500.npz")) as archive:
        return archive["input"], archive["label"]


def test_images() -> tuple[Int8, Array]:
    with np.load(require(data_dir() / "cifar10" / "cifar10_test_first2000.npz")) as archive:
        return (archive["image"].astype(np.int16) - 128).astype(np.int8), archive["label"]


test_images.__test__ = False  # type: ignore[attr-defined]


def some_inputs(name: str, network: Network, count: int) -> Int8:
    """Real inputs where there are some, else random ones."""
    if name == "kws_ref_model":
        return keyword_inputs()[0][:count]
    if name == "pretrainedResnet_quant":
        return test_images()[0][:count]
    return np.random.default_rng(SEED).integers(-128, 128, (count, *network.input.shape)).astype(np.int8)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.data
def test_every_tensor_of_a_real_model_equals_the_interpreters(name: str) -> None:
    path = model_path(name)
    network = load_tflite(path)
    inputs = some_inputs(name, network, 5)
    values = run_network(network, inputs)
    reference = interpreter(str(path), preserve=True)
    operators = reference._get_ops_details()
    assert len(operators) == len(network.nodes)
    for index, item in enumerate(inputs):
        reference.set_tensor(reference.get_input_details()[0]["index"], item[None])
        reference.invoke()
        for operator, node in zip(operators, network.nodes, strict=True):
            expected = reference.get_tensor(int(operator["outputs"][0]))[0]
            message = f"{node.name}, input {index}"
            np.testing.assert_array_equal(values[node.name][index], expected, err_msg=message)


def predictions(name: str, inputs: Int8) -> Int64:
    """The predicted classes, after the outputs were compared with the interpreter's."""
    path = model_path(name)
    network = load_tflite(path)
    got = run_network(network, inputs)[network.output_name]
    np.testing.assert_array_equal(got, invoke(interpreter(str(path)), inputs))
    classes: Int64 = got.argmax(axis=1)
    return classes


@pytest.mark.data
def test_ds_cnn_is_exact_on_all_500_keyword_inputs_and_gets_449_right() -> None:
    inputs, labels = keyword_inputs()
    assert len(labels) == 500
    assert int((predictions("kws_ref_model", inputs) == labels).sum()) == 449


@pytest.mark.parametrize(("images", "right"), [(100, 82), pytest.param(2000, 1735, marks=pytest.mark.slow)])
@pytest.mark.data
def test_resnet8_is_exact_on_test_images_and_gets_the_references_number_right(
    images: int, right: int
) -> None:
    inputs, labels = test_images()
    assert len(labels) == 2000
    assert int((predictions("pretrainedResnet_quant", inputs[:images]) == labels[:images]).sum()) == right


@pytest.mark.data
def test_names_are_short_and_in_the_order_of_the_operators() -> None:
    network = load_tflite(model_path("pretrainedResnet_quant"))
    assert network.name == "pretrainedResnet_quant"
    assert [node.name for node in network.nodes][:4] == ["conv2d_0", "conv2d_1", "conv2d_2", "add_3"]
    assert [node.name for node in network.nodes][-4:] == [
        "average_pool_12", "reshape_13", "fully_connected_14", "softmax_15"
    ]  # fmt: skip
    assert network.node("add_3").inputs == ("conv2d_0", "conv2d_2")
    assert network.nodes[0].inputs == ("input",)


@pytest.mark.data
def test_weights_keep_the_scales_of_the_file() -> None:
    for name in ("ad01_int8", "kws_ref_model"):  # one scale, a scale for each channel
        path = model_path(name)
        reference = interpreter(str(path))
        weights = int(reference._get_ops_details()[0]["inputs"][1])
        (detail,) = (detail for detail in reference.get_tensor_details() if detail["index"] == weights)
        node = load_tflite(path).nodes[0]
        assert node.weight_scales is not None
        assert node.weight_bits is not None
        assert node.weight_scales.dtype == np.float64
        expected = np.broadcast_to(detail["quantization_parameters"]["scales"], node.weight_scales.shape)
        np.testing.assert_array_equal(node.weight_scales, expected)
        assert (node.weight_bits == 8).all()
