# SPDX-License-Identifier: Apache-2.0
"""Networks of the field on real digits: ResNet8 and DS-CNN of MLPerf Tiny, at 8 and at 2 bits.

Their images are the digits of `golden.zoo.digits`, upscaled to 32 x 32. Topologies and sizes are those of
`golden.zoo.float_networks`; weights are our own. `train_upscaled` made them. Beside this module lie the four
network files and `upscaled_test_set.npz`, with what the float networks say to the test images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.array_files import read_npz
from common.arrays import Array, Bools, Bytes, Int8, Int64
from golden.network import Network, run_network
from golden.network_file import load_network
from golden.zoo.digits import FOLDER, INPUT_ZERO_POINT, TEST_SET, digits_images

SIZE = 32
"""Pixels of an image's side."""
NETWORKS = ("resnet8", "ds_cnn")
VARIANTS = ("int8", "2bit")
UPSCALED_TEST_SET = "upscaled_test_set.npz"


def upscale(images: Array) -> Int8:
    """Turn (n, 8, 8) grey values 0 to 16 into (n, 32, 32, 1) int8, bilinearly; real = (q + 128) / 255."""
    grey = np.asarray(images).astype(np.float64)
    small = grey.shape[-1]
    places = np.clip((np.arange(SIZE) + 0.5) * small / SIZE - 0.5, 0, small - 1)
    below = np.minimum(places.astype(np.int64), small - 2)
    weights = np.zeros((SIZE, small))
    weights[np.arange(SIZE), below] = 1 - (places - below)
    weights[np.arange(SIZE), below + 1] = places - below
    large = weights @ grey @ weights.T  # exact: the weights are eighths
    pixels: Int8 = (np.floor(large * 255 / 16 + 0.5) + INPUT_ZERO_POINT).astype(np.int8)[..., None]
    return pixels


def upscaled_file(network: str, variant: str, folder: Path = FOLDER) -> Path:
    """Return where a network file lies."""
    return folder / f"digits_{network}_{variant}.npz"


@dataclass(frozen=True)
class Drop:
    """Points of accuracy that a network loses against another on the same images.

    Attributes:
        points: mean.
        interval: 95 % interval of the mean, from the paired differences.
    """

    points: float
    interval: tuple[float, float]


def paired_drop(reference: Bools, right: Bools) -> Drop:
    """Return what is lost from a reference to another network.

    Args:
        reference: (n,) whether the reference is right on each image.
        right: (n,) whether the other one is.
    """
    differences = 100.0 * (reference.astype(np.float64) - right)
    error = 1.96 * differences.std(ddof=1) / np.sqrt(len(differences))
    mean = float(differences.mean())
    return Drop(mean, (mean - float(error), mean + float(error)))


def labelled_test_images(folder: Path = FOLDER) -> tuple[Bytes, Int64]:
    """Return the test images, (n, 8, 8) grey values 0 to 16, and their labels; training never saw them."""
    images, labels = digits_images()
    indices = read_npz(folder / TEST_SET)["test_indices"]
    return images[indices], labels[indices]


def float_predictions(network: str, folder: Path = FOLDER) -> Int64:
    """Return what the float network says to each test image, (n,) int64."""
    predictions: Int64 = read_npz(folder / UPSCALED_TEST_SET)[network]
    return predictions


def predictions(network: Network, images: Array) -> Int64:
    """Return the digit with the largest logit of each image, (n, 8, 8), bit for bit."""
    logits = run_network(network, upscale(images))[network.output_name]
    digits: Int64 = logits.argmax(axis=-1).astype(np.int64)
    return digits


def measured_drop(network: str, variant: str, folder: Path = FOLDER) -> Drop:
    """Return what a variant loses against the float network on the test images."""
    images, labels = labelled_test_images(folder)
    said = predictions(load_network(upscaled_file(network, variant, folder)), images)
    return paired_drop(float_predictions(network, folder) == labels, said == labels)


def names() -> Sequence[tuple[str, str]]:
    """Return all (network, variant)."""
    return [(network, variant) for network in NETWORKS for variant in VARIANTS]
