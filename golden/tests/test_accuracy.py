# SPDX-License-Identifier: Apache-2.0
"""Accuracies are counts over labelled data, of integers exactly, with the interval of their number."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.arrays import Array
from common.errors import LayerFileError, ShapeError
from common.testing import data_dir, require
from golden.accuracy import Accuracy, Labelled, module_accuracy, network_accuracy, read_labelled
from golden.importers.models import load_model
from golden.network import run_network
from golden.zoo.digits import digits_images, load_digits_network, quantize_image


class Brightest(nn.Module):
    """Says which of four channels is brightest."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def save(path: Path, **arrays: Array) -> Path:
    np.savez(path, allow_pickle=False, **arrays)
    return path


@pytest.mark.data
def test_ds_cnn_gets_449_of_500_right() -> None:
    """The reference's accuracy, 89.8 %."""
    network = load_model(require(data_dir() / "models" / "kws_ref_model.tflite"))
    result = network_accuracy(network, read_labelled(data_dir() / "kws" / "kws01_first500.npz"))
    assert (result.correct, result.images) == (449, 500)
    assert result.percent == pytest.approx(89.8)


@pytest.mark.slow
@pytest.mark.data
def test_resnet8_gets_1735_of_2000_right() -> None:
    """The reference's accuracy, 86.75 %; the file has pixels."""
    network = load_model(require(data_dir() / "models" / "pretrainedResnet_quant.tflite"))
    data = read_labelled(data_dir() / "cifar10" / "cifar10_test_first2000.npz")
    assert data.values.dtype == np.uint8
    assert network_accuracy(network, data).correct == 1735


def test_batches_change_nothing_and_progress_is_told() -> None:
    digits = load_digits_network("int8")
    images, labels = digits_images()
    seen: list[tuple[int, int]] = []
    data = Labelled(quantize_image(images[:120]), labels[:120])
    result = network_accuracy(digits.network, data, progress=lambda done, total: seen.append((done, total)))
    logits = run_network(digits.network, data.values)[digits.network.output_name]
    assert result == Accuracy(int((logits.argmax(axis=1) == labels[:120]).sum()), 120)
    assert seen == [(50, 120), (100, 120), (120, 120)]


def test_narrow_activations_are_counted() -> None:
    digits = load_digits_network("int8")
    images, labels = digits_images()
    data = Labelled(quantize_image(images[:100]), labels[:100])
    narrow = dict.fromkeys((node.name for node in digits.network.nodes), 2)
    assert (
        network_accuracy(digits.network, data, narrow).correct
        < network_accuracy(digits.network, data).correct
    )


def test_pixels_reals_and_integers_are_the_same_input() -> None:
    digits = load_digits_network("int8")
    images, labels = digits_images()
    integers = quantize_image(images[:60])
    pixels = (integers.astype(np.int16) + 128).astype(np.uint8)
    reals = (pixels / np.float32(255)).astype(np.float32)
    kinds = [Labelled(values, labels[:60]) for values in (integers, pixels, reals)]
    for data in kinds:
        np.testing.assert_array_equal(data.integers(digits.network), integers)
    other = Labelled(reals, labels[:60], scale=2 / 255, zero_point=-128).integers(digits.network)
    assert other.max() < integers.max()


def test_a_float_module_is_asked_in_its_own_layout() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 50, (70, 5, 5, 4)).astype(np.uint8)
    labels = rng.integers(0, 4, 70)
    values[np.arange(70), :, :, labels] += 100
    wrong = (labels + (np.arange(70) < 7)) % 4
    assert module_accuracy(Brightest(), Labelled(values, wrong), "m") == Accuracy(63, 70)
    with pytest.raises(ShapeError, match="the data are int8, of a network's scale"):
        module_accuracy(Brightest(), Labelled(values.astype(np.int8), labels), "m")


def test_the_interval_is_wilsons() -> None:
    assert Accuracy(90, 100).interval_percent == pytest.approx((82.563, 94.477), abs=1e-3)
    assert Accuracy(0, 10).interval_percent[0] == 0
    assert Accuracy(10, 10).interval_percent[1] == pytest.approx(100)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros((2, 3, 3, 1), np.uint8)}, "have `label` and either"),
        ({name: np.zeros((2, 3), np.uint8) for name in ("image", "input", "label")}, "either"),
        ({"image": np.zeros((2, 3, 3, 1), np.int8), "label": np.zeros(2, int)}, "`image` is int8"),
        ({"input": np.zeros((2, 3), np.float64), "label": np.zeros(2, int)}, "give int8 or float32"),
        ({"input": np.zeros((2, 3), np.int8), "label": np.zeros(3, int)}, r"`label` \(3,\)"),
        ({"input": np.zeros((0, 3), np.int8), "label": np.zeros(0, int)}, r"int8 \(0, 3\)"),
        ({"input": np.zeros((2, 3), np.int8), "label": np.array([0.5, 1])}, "give whole numbers"),
        ({"input": np.zeros((2, 3), np.int8), "label": np.array([-1, 1])}, "from 0 on"),
    ],
)  # fmt: skip
def test_other_files_are_refused_by_name(arrays: dict[str, Array], message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", **arrays)
    with pytest.raises(LayerFileError, match=rf"{re.escape(str(path))}.*{message}"):
        read_labelled(path)


def test_data_that_do_not_fit_the_network_are_refused() -> None:
    network = load_digits_network("int8").network
    labels = np.zeros(2, np.int64)
    for values in (np.zeros((2, 8, 7, 1), np.int8), np.zeros((2, 4, 16), np.uint8)):
        with pytest.raises(ShapeError, match=r"reads int8 \(8, 8, 1\), the data are"):
            network_accuracy(network, Labelled(values, labels))
    data = Labelled(np.zeros((2, 8, 8), np.int8), np.array([1, 10]))
    with pytest.raises(ShapeError, match="has 10 outputs, the labels go up to 10"):
        network_accuracy(network, data)
