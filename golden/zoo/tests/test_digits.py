# SPDX-License-Identifier: Apache-2.0
"""The digits networks: their documented accuracy, and that the files are whole."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.array_files import read_npz, write_npz
from common.arrays import Array
from common.errors import LayerFileError, ShapeError, UnsupportedError
from golden.layer import OPS, WEIGHTED_OPS
from golden.network import run_network
from golden.network_file import load_network
from golden.quantize.qat import quantize_input
from golden.zoo import train_digits
from golden.zoo.digits import (
    FOLDER,
    IMAGE,
    TEST_SET,
    VARIANTS,
    digits_images,
    load_digits_network,
    network_file,
    quantize_image,
)

CORRECT = {"int8": 446, "ternary": 448}
FLOAT_CORRECT = 446
TEST_IMAGES = 450


@pytest.mark.parametrize("variant", VARIANTS)
def test_committed_network_predicts_exactly_the_documented_number_of_test_images(variant: str) -> None:
    network = load_digits_network(variant)
    assert len(network.test_indices) == len(np.unique(network.test_indices)) == TEST_IMAGES
    assert network.correct() == CORRECT[variant]
    assert network.accuracy() == CORRECT[variant] / TEST_IMAGES
    assert network.float_correct() == FLOAT_CORRECT
    assert network.float_correct(0) == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_network_is_an_ordinary_network_file_and_uses_every_operator(variant: str) -> None:
    network = load_network(network_file(variant))
    assert network.name == f"digits_{variant}"
    assert (network.input_name, network.input.shape, network.output.shape) == (IMAGE, (8, 8, 1), (10,))
    assert {node.op for node in network.nodes} == {*OPS, "reshape"}


@pytest.mark.parametrize(("variant", "bits"), [("int8", 8), ("ternary", 2)])
def test_weights_have_the_variants_width(variant: str, bits: int) -> None:
    for node in load_digits_network(variant).network.nodes:
        if node.op in WEIGHTED_OPS:
            assert node.layer is not None
            assert node.weight_bits is not None
            assert (node.weight_bits == bits).all()
            if bits == 2:
                assert len(np.unique(node.layer.weights)) == 3, node.name


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_tensor_is_constant(variant: str) -> None:
    digits = load_digits_network(variant)
    images, _ = digits.test_set()
    for name, values in run_network(digits.network, quantize_image(images[:1])).items():
        assert len(np.unique(values)) > 1, f"{name} is constant: a test with it would be blind"


def test_real_images_are_those_that_the_network_reads() -> None:
    images, _ = digits_images()
    network = load_digits_network("int8").network
    np.testing.assert_array_equal(
        quantize_input(network, train_digits.real_images(images)), quantize_image(images)
    )


def test_training_is_repeatable_and_sees_every_tensor_of_the_network() -> None:
    torch.set_num_threads(1)
    images, labels = digits_images()
    first, second = (train_digits.train(images[:128], labels[:128], epochs=2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    ternary = [train_digits.train_ternary(first, images[:128], labels[:128], epochs=1) for _ in range(2)]
    batch = train_digits.real_images(images[:20])
    tensors = [network.integers(batch) for network in ternary]
    assert list(tensors[0]) == list(load_digits_network("ternary").network.tensors)
    assert all(np.array_equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_a_missing_or_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LayerFileError, match=r"digits_int8\.npz: no such file.*train_digits"):
        load_digits_network("int8", tmp_path)
    arrays = read_npz(network_file("int8"))
    write_npz(arrays, tmp_path / "digits_int8.npz")
    with pytest.raises(LayerFileError, match=r"digits_test_set\.npz: no such file.*train_digits"):
        load_digits_network("int8", tmp_path)
    write_npz({"test_indices": read_npz(FOLDER / TEST_SET)["test_indices"]}, tmp_path / TEST_SET)
    with pytest.raises(LayerFileError, match=r"test_set\.npz.*'float_predictions' is missing.*train_digits"):
        load_digits_network("int8", tmp_path)
    document = json.loads(str(arrays["network"]))
    del document["nodes"][0]["op"]
    write_npz(arrays | {"network": np.array(json.dumps(document))}, tmp_path / "digits_int8.npz")
    with pytest.raises(LayerFileError, match=r"digits_int8\.npz.*'op'.*train_digits"):
        load_digits_network("int8", tmp_path)
    with pytest.raises(UnsupportedError, match="int8, ternary"):
        load_digits_network("int4")


@pytest.mark.parametrize(
    "image", [np.zeros((8, 7)), np.full((8, 8), 17), np.full((8, 8), 0.5), np.full((8, 8), -1)]
)
def test_an_image_that_is_no_digit_is_refused(image: Array) -> None:
    with pytest.raises(ShapeError, match="8 x 8"):
        quantize_image(image)
