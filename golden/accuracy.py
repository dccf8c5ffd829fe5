# SPDX-License-Identifier: Apache-2.0
"""How often a network is right on labelled inputs, and the interval that chance leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.array_files import read_npz
from common.arrays import Array, Float32, Int64
from common.errors import LayerFileError, ShapeError
from golden.host import quantize
from golden.network import Network, run_network

BATCH = 50
"""Inputs between two calls of `progress`."""
Z95 = 1.959964
"""Standard deviations of a 95 % interval."""

Progress = Callable[[int, int], None]
"""Called with how many inputs are done, of how many."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Inputs with their classes.

    Attributes:
        values: (N, ...) channels last: uint8 pixels, int8 of the network's own scale, or float32 real values.
        labels: (N,) int64.
        scale, zero_point: how an int8 network reads real values: real = scale * (q - zero_point); without
            them as its input says.
    """

    values: Array
    labels: Int64
    scale: float | None = None
    zero_point: int | None = None

    def integers(self, network: Network) -> Array:
        """Return the inputs as the network reads them, (N, *network.input.shape) of its element type.

        Pixels become pixel - 128 for an int8 network, which is TFLite's meaning of uint8, and pixel / 255
        for a float one.

        Raises:
            ShapeError: another shape, or int8 values for a network that reads real ones.
        """
        values, wanted = self.values, network.input
        if values.dtype == np.uint8 and wanted.dtype != "uint8":
            pixels = values.astype(np.int16) - 128
            values = values.astype(np.float32) / 255 if wanted.dtype == "float32" else pixels.astype(np.int8)
        elif values.dtype == np.float32 and wanted.dtype == "int8":
            values = quantize(
                values,
                wanted.scale if self.scale is None else self.scale,
                wanted.zero_point if self.zero_point is None else self.zero_point,
            )
        ours, theirs = ([size for size in shape if size > 1] for shape in (values.shape[1:], wanted.shape))
        if values.dtype != wanted.dtype or ours != theirs:
            raise ShapeError(
                f"network {network.name!r} reads {wanted.dtype} {wanted.shape}, the data are "
                f"{self.values.dtype} {self.values.shape[1:]} each"
            )
        return values.reshape(len(values), *wanted.shape)

    def reals(self) -> Float32:
        """Return the inputs as a float module reads them: float32 (N, C, H, W) or (N, C), pixels / 255.

        Raises:
            ShapeError: int8 values, which have a network's scale.
        """
        if self.values.dtype == np.int8:
            raise ShapeError(
                "the data are int8, of a network's scale; a float module needs `image` or float32"
            )
        scale = np.float32(255 if self.values.dtype == np.uint8 else 1)
        values: Float32 = self.values.astype(np.float32) / scale
        return np.moveaxis(values, -1, 1) if values.ndim == 4 else values


def read_labelled(path: Path) -> Labelled:
    """Read labelled inputs from an `.npz`.

    It holds `label`, (N,) whole numbers, and either `image`, (N, H, W, C) uint8, or `input`, (N, ...)
    channels last, int8 of the network's own scale or float32.

    Raises:
        LayerFileError: a missing or damaged file, or other contents; naming the file.
    """
    arrays = read_npz(path)
    keys = [key for key in ("image", "input") if key in arrays]
    if len(keys) != 1 or "label" not in arrays:
        raise LayerFileError(f"{path}: labelled data have `label` and either `image` or `input`")
    values, labels = arrays[keys[0]], arrays["label"]
    allowed = {"image": (np.uint8,), "input": (np.int8, np.float32)}[keys[0]]
    if values.dtype not in allowed or values.ndim < 2 or labels.shape != (len(values),) or not len(values):
        raise LayerFileError(
            f"{path}: `{keys[0]}` is {values.dtype} {values.shape} and `label` {labels.shape}; give "
            f"{' or '.join(np.dtype(kind).name for kind in allowed)} (N, ...) and (N,)"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise LayerFileError(f"{path}: `label` is {labels.dtype}; give whole numbers from 0 on")
    return Labelled(values, labels.astype(np.int64))


@dataclass(frozen=True)
class Accuracy:
    """How many of some inputs were right."""

    correct: int
    images: int

    @property
    def percent(self) -> float:
        """The share that was right."""
        return 100 * self.correct / self.images

    @property
    def interval_percent(self) -> tuple[float, float]:
        """The 95 % interval of the share on all inputs of the kind (Wilson, JASA 1927)."""
        share, n = self.correct / self.images, self.images
        middle = share + Z95**2 / (2 * n)
        half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
        low, high = ((middle + sign * half) / (1 + Z95**2 / n) for sign in (-1, 1))
        return 100 * max(low, 0.0), 100 * min(high, 1.0)


def network_accuracy(
    network: Network,
    data: Labelled,
    a_bits: Mapping[str, Array | int] | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Accuracy:
    """Count how often the largest output of a network, bit-exact, is the label; the first of equal ones.

    Args:
        network: the network; its output has a value for each class.
        data: the labelled inputs.
        a_bits: widths of activations by layer, as `run_network` takes them.
        progress: called after each BATCH.

    Raises:
        ShapeError: inputs or labels that do not fit the network.
    """
    inputs = data.integers(network)

    def outputs(batch: Array) -> Array:
        return run_network(network, batch, a_bits)[network.output_name]

    return _count(network.name, inputs, data.labels, outputs, progress)


def module_accuracy(
    module: nn.Module, data: Labelled, name: str, progress: Progress = lambda _done, _total: None
) -> Accuracy:
    """Count how often the largest output of a float module is the label; as `network_accuracy`.

    Raises:
        ShapeError: inputs or labels that do not fit the module.
    """
    module.eval()

    def outputs(batch: Array) -> Array:
        with torch.inference_mode():
            result: Array = module(torch.from_numpy(np.ascontiguousarray(batch))).numpy()
        return result

    return _count(name, data.reals(), data.labels, outputs, progress)


def _count(
    name: str, inputs: Array, labels: Int64, outputs: Callable[[Array], Array], progress: Progress
) -> Accuracy:
    correct = 0
    for start in range(0, len(inputs), BATCH):
        batch = inputs[start : start + BATCH]
        scores = outputs(batch).reshape(len(batch), -1)
        expected = labels[start : start + BATCH]
        if scores.shape[1] <= labels.max():
            raise ShapeError(f"{name!r} has {scores.shape[1]} outputs, the labels go up to {labels.max()}")
        correct += int((scores.argmax(axis=1) == expected).sum())
        progress(start + len(batch), len(inputs))
    return Accuracy(correct, len(inputs))
