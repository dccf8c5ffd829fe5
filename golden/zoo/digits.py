# SPDX-License-Identifier: Apache-2.0
"""A small convolutional network on real digits: the input that is always at hand.

The images are scikit-learn's bundled 8 x 8 handwritten digits (UCI ML hand-written digits, 1,797 images).
The network uses every operator and comes in two variants of one structure: `int8`, for an 8-bit unit, and
`ternary`, all weights in {-1, 0, 1}, for a low-bit unit. `train_digits` made them. Beside this module
lie the two network files, `digits_int8.npz` and `digits_ternary.npz`, and `digits_test_set.npz`.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from common.array_files import read_npz
from common.arrays import Array, Bytes, Int8, Int64
from common.errors import LayerFileError, NpuloopError, ShapeError, UnsupportedError
from golden.network import Network, run_network
from golden.network_file import load_network

VARIANTS = ("int8", "ternary")
FOLDER = Path(__file__).parent
TEST_SET = "digits_test_set.npz"
IMAGE = "image"
INPUT_SCALE = 1 / 255
INPUT_ZERO_POINT = -128


@dataclass(frozen=True, eq=False)
class DigitsNetwork:
    """One variant of the network, with the test set that its training never saw.

    Attributes:
        variant: "int8" or "ternary".
        network: its input is `IMAGE`, see `quantize_image`; its output the ten logits.
        float_predictions: (n,) int64, what the float network that both variants start from says to each test
            image.
        test_indices: (n,) int64, the test images' places in scikit-learn's data set.
    """

    variant: str
    network: Network
    float_predictions: Int64
    test_indices: Int64

    def predictions(self, images: Array) -> Int64:
        """Return the digit of each image, 0 to 9, with the largest logit (the lowest digit on a tie).

        Args:
            images: (n, 8, 8) grey values 0 to 16.

        Raises:
            ShapeError: other images.
        """
        logits = run_network(self.network, quantize_image(images))[self.network.output_name]
        digits: Int64 = logits.argmax(axis=1).astype(np.int64)
        return digits

    def predict(self, image: Array) -> int:
        """Return the digit on one image, (8, 8); see `predictions`."""
        return int(self.predictions(image[None])[0])

    def test_set(self) -> tuple[Bytes, Int64]:
        """Return the test images, (n, 8, 8) uint8, and their labels, (n,) int64."""
        images, labels = digits_images()
        return images[self.test_indices], labels[self.test_indices]

    def float_correct(self, images: int | None = None) -> int:
        """Return how many of the first `images` test images (default: all) the float network got right."""
        _, labels = self.test_set()
        return int((self.float_predictions[:images] == labels[:images]).sum())

    def correct(self) -> int:
        """Return how many test images are predicted right."""
        images, labels = self.test_set()
        return int((self.predictions(images) == labels).sum())

    def accuracy(self) -> float:
        """Return the share, 0 to 1, of test images that are predicted right."""
        return self.correct() / len(self.test_indices)


def quantize_image(image: Array) -> Int8:
    """Turn (..., 8, 8) grey values 0 to 16 into (..., 8, 8, 1) int8.

    real = (q + 128) / 255, from black 0 to white 1.

    Raises:
        ShapeError: another shape, or values that are not whole numbers from 0 to 16.
    """
    grey = np.asarray(image).astype(np.int64)
    if grey.shape[-2:] != (8, 8) or (grey != image).any() or grey.min() < 0 or grey.max() > 16:
        raise ShapeError("a digit image has 8 x 8 whole grey values from 0 to 16, as in scikit-learn")
    return ((grey * 255 + 8) // 16 + INPUT_ZERO_POINT).astype(np.int8)[..., None]


@cache
def digits_images() -> tuple[Bytes, Int64]:
    """Return all images and labels that scikit-learn brings along.

    Images are (1797, 8, 8) uint8 from 0 to 16, labels (1797,) int64.

    Raises:
        NpuloopError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise NpuloopError("the digits come with scikit-learn: pip install scikit-learn") from error
    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target.astype(np.int64)


def network_file(variant: str, folder: Path = FOLDER) -> Path:
    """Return where a variant's network file lies."""
    return folder / f"digits_{variant}.npz"


def load_digits_network(variant: str, folder: Path = FOLDER) -> DigitsNetwork:
    """Load a trained variant, "int8" or "ternary".

    Raises:
        UnsupportedError: another variant.
        LayerFileError: a file is missing or damaged.
    """
    if variant not in VARIANTS:
        raise UnsupportedError(f"there is no digits network {variant!r}; choose one of {', '.join(VARIANTS)}")
    try:
        network = load_network(network_file(variant, folder))
        arrays = read_npz(folder / TEST_SET)
        return DigitsNetwork(variant, network, arrays["float_predictions"], arrays["test_indices"])
    except KeyError as error:
        raise LayerFileError(
            f"{folder / TEST_SET}: key {error} is missing; run python -m golden.zoo.train_digits"
        ) from None
    except NpuloopError as error:
        raise LayerFileError(f"{error}; to make it again run python -m golden.zoo.train_digits") from error
