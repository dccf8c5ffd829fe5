# SPDX-License-Identifier: Apache-2.0
"""ResNet8 and DS-CNN on upscaled digits: their documented accuracy, their weights, and their training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from golden.layer import WEIGHTED_OPS
from golden.network_file import load_network
from golden.quantize.qat import quantize_input
from golden.zoo import train_upscaled
from golden.zoo.digits import digits_images, quantize_image
from golden.zoo.float_networks import DsCnn, ResNet
from golden.zoo.upscaled import (
    NETWORKS,
    float_predictions,
    labelled_test_images,
    measured_drop,
    names,
    paired_drop,
    predictions,
    upscale,
    upscaled_file,
)

DROPS = {
    ("resnet8", "int8"): (0.00, 0.00, 0.00),
    ("resnet8", "2bit"): (2.00, 0.71, 3.29),
    ("ds_cnn", "int8"): (0.00, 0.00, 0.00),
    ("ds_cnn", "2bit"): (1.56, 0.41, 2.70),
}
"""Points against the float network, and the ends of the 95 % interval."""
FLOAT_CORRECT = {"resnet8": 447, "ds_cnn": 449}
MOST_BYTES = 100_000


@pytest.mark.parametrize(("network", "variant"), names())
def test_committed_networks_lose_what_is_documented(network: str, variant: str) -> None:
    drop = measured_drop(network, variant)
    found = (drop.points, *drop.interval)
    assert [round(value, 2) for value in found] == list(DROPS[network, variant])
    assert upscaled_file(network, variant).stat().st_size < MOST_BYTES


def test_float_networks_are_right_as_often_as_documented() -> None:
    _, labels = labelled_test_images()
    assert {n: int((float_predictions(n) == labels).sum()) for n in NETWORKS} == FLOAT_CORRECT


@pytest.mark.parametrize(("network", "variant"), names())
def test_networks_have_the_topology_and_the_width(network: str, variant: str) -> None:
    loaded = load_network(upscaled_file(network, variant))
    assert (loaded.name, loaded.input.shape) == (f"digits_{network}_{variant}", (32, 32, 1))
    layers = [node for node in loaded.nodes if node.op in WEIGHTED_OPS]
    assert len(layers) == {"resnet8": 10, "ds_cnn": 10}[network]
    for node in layers:
        assert node.layer is not None
        assert node.weight_bits is not None
        assert set(np.asarray(node.weight_bits).tolist()) == {8 if variant == "int8" else 2}
        if variant == "2bit":
            assert set(np.unique(node.layer.weights)) <= {-1, 0, 1}


def test_upscaling_is_pytorchs_bilinear_one() -> None:
    images, _ = digits_images()
    grey = torch.from_numpy(images[:50].astype(np.float32))[:, None]
    large = torch.nn.functional.interpolate(grey, (32, 32), mode="bilinear", align_corners=False)
    expected = np.floor(large[:, 0].numpy().astype(np.float64) * 255 / 16 + 0.5) - 128
    assert np.array_equal(upscale(images[:50])[..., 0], expected)
    flat = np.full((1, 8, 8), 7, np.uint8)
    assert set(np.unique(upscale(flat))) == set(np.unique(quantize_image(flat)))


def test_a_paired_drop_is_the_mean_of_the_differences() -> None:
    reference, right = np.array([True, True, True, False]), np.array([True, False, False, True])
    drop = paired_drop(reference, right)
    assert drop.points == 25  # differences of 0, 1, 1 and -1
    assert drop.interval == pytest.approx((25 - 1.96 * 95.743 / 2, 25 + 1.96 * 95.743 / 2), rel=1e-4)
    assert paired_drop(right, right).interval == (0.0, 0.0)


def test_training_makes_networks_as_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch on few images: its files are whole, the float network and the quantised one agree mostly."""
    images, labels = digits_images()
    monkeypatch.setattr(train_upscaled, "FLOAT_EPOCHS", 1)
    model = train_upscaled.train_variants("ds_cnn", images[:192], labels[:192], tmp_path, epochs=1)
    assert isinstance(model, DsCnn)
    assert isinstance(train_upscaled.make("resnet8"), ResNet)
    with torch.no_grad():
        said = model(train_upscaled.real_upscaled(images[:192])).argmax(dim=1).numpy()
    int8 = load_network(upscaled_file("ds_cnn", "int8", tmp_path))
    assert (predictions(int8, images[:192]) == said).mean() > 0.9
    assert load_network(upscaled_file("ds_cnn", "2bit", tmp_path)).name == "digits_ds_cnn_2bit"
    read = quantize_input(int8, train_upscaled.real_upscaled(images[:5]))
    assert np.array_equal(read, upscale(images[:5]))
