"""A small convolutional network on real digits: the input that is always at hand.

The images are scikit-learn's bundled 8 x 8 handwritten digits (UCI ML hand-written digits, 1,797 images).
The network uses every operator and comes in two variants of one structure: `int8`, for an 8-bit unit, and
`ternary`, all weights in {-1, 0, 1}, for a low-bit unit. Both were trained by `golden.train_digits` and lie
in `digits_cnn.npz` beside this module.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.errors import LayerFileError, NpuloopError, ShapeError, UnsupportedError
from golden.layer import Layer, layer_from_arrays, read_npz, run_layer

VARIANTS = ("int8", "ternary")
FILE = Path(__file__).with_name("digits_cnn.npz")
IMAGE = "image"
INPUT_SCALE = 1 / 255
INPUT_ZERO_POINT = -128


@dataclass(frozen=True)
class Node:
    """One layer of a network and where its inputs come from.

    Attributes:
        name: unique in the network.
        inputs: the names of the nodes whose outputs it reads, or `IMAGE`; two for add, else one.
        layer: the constants; its input tensors are zeros of the right shape.
    """

    name: str
    inputs: tuple[str, ...]
    layer: Layer


@dataclass(frozen=True)
class DigitsNetwork:
    """One variant of the network, with the test set that its training never saw.

    Attributes:
        variant: "int8" or "ternary".
        nodes: in an order in which they can run; the last gives the ten logits.
        float_predictions: (n,) int64, what the float network that both variants start from says to each test
            image.
        test_indices: (n,) int64, the test images' places in scikit-learn's data set.
    """

    variant: str
    nodes: tuple[Node, ...]
    float_predictions: npt.NDArray[np.int64]
    test_indices: npt.NDArray[np.int64]

    def layers_for(self, image: npt.NDArray[Any]) -> list[Layer]:
        """Runs the network on one image and returns its layers with real inputs and golden outputs.

        Args:
            image: (8, 8) grey values 0 to 16, as in scikit-learn.

        Raises: ShapeError for another image.
        """
        tensors: dict[str, npt.NDArray[np.int8]] = {IMAGE: quantize_image(image)}
        layers = []
        for node in self.nodes:
            first = tensors[node.inputs[0]].reshape(node.layer.input.shape)
            layer = replace(node.layer, input=first)
            if node.layer.op == "add":
                layer = replace(layer, input2=tensors[node.inputs[1]])
            layer = replace(layer, expected=run_layer(layer))
            assert layer.expected is not None
            tensors[node.name] = layer.expected
            layers.append(layer)
        return layers

    def predict(self, image: npt.NDArray[Any]) -> int:
        """The digit, 0 to 9, with the largest logit (the lower digit on a tie)."""
        logits = self.layers_for(image)[-1].expected
        assert logits is not None
        return int(logits.argmax())

    def test_set(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The test images, (n, 8, 8) uint8, and their labels, (n,) int64."""
        images, labels = digits_images()
        return images[self.test_indices], labels[self.test_indices]

    def float_correct(self, images: int | None = None) -> int:
        """How many of the first `images` test images (default: all) the float network got right."""
        _, labels = self.test_set()
        return int((self.float_predictions[:images] == labels[:images]).sum())

    def correct(self) -> int:
        """How many test images are predicted right (takes seconds)."""
        images, labels = self.test_set()
        return sum(self.predict(image) == label for image, label in zip(images, labels, strict=True))

    def accuracy(self) -> float:
        """The share, 0 to 1, of test images that are predicted right (takes seconds)."""
        return self.correct() / len(self.test_indices)


def quantize_image(image: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """(..., 8, 8) grey values 0 to 16 -> (..., 8, 8, 1) int8; real = (q + 128) / 255, black 0 to white 1.

    Raises: ShapeError for another shape, or values that are not whole numbers from 0 to 16.
    """
    grey = np.asarray(image).astype(np.int64)
    if grey.shape[-2:] != (8, 8) or (grey != image).any() or grey.min() < 0 or grey.max() > 16:
        raise ShapeError("a digit image has 8 x 8 whole grey values from 0 to 16, as in scikit-learn")
    return ((grey * 255 + 8) // 16 + INPUT_ZERO_POINT).astype(np.int8)[..., None]


@cache
def digits_images() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """All images, (1797, 8, 8) uint8 from 0 to 16, and labels, (1797,) int64, that scikit-learn brings along.

    Raises: NpuloopError where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise NpuloopError("the digits come with scikit-learn: pip install scikit-learn") from error
    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target.astype(np.int64)


def load_digits_network(variant: str, path: Path = FILE) -> DigitsNetwork:
    """Loads a trained variant, "int8" or "ternary".

    Raises: UnsupportedError for another variant, LayerFileError where the file is missing or damaged.
    """
    if variant not in VARIANTS:
        raise UnsupportedError(f"there is no digits network {variant!r}; choose one of {', '.join(VARIANTS)}")
    arrays = read_npz(path)
    try:
        nodes = tuple(_node(variant, str(name), arrays) for name in arrays["nodes"])
        return DigitsNetwork(variant, nodes, arrays["float_predictions"], arrays["test_indices"])
    except KeyError as error:
        raise LayerFileError(f"{path}: key {error} is missing; run python -m golden.train_digits") from None
    except NpuloopError as error:
        raise LayerFileError(f"{path}: {error}; run python -m golden.train_digits") from error


def _node(variant: str, name: str, arrays: dict[str, npt.NDArray[Any]]) -> Node:
    prefix = f"{variant}/{name}/"
    own = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
    return Node(name, tuple(str(source) for source in arrays[f"inputs/{name}"]), layer_from_arrays(name, own))
