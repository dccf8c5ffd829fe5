# SPDX-License-Identifier: Apache-2.0
"""Data sets that networks are trained and tested on: digits, CIFAR-10, and the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.array_files import read_npz
from common.arrays import Array, Bytes, Int64
from common.errors import NpuloopError
from common.files import max_data_bytes, read_bytes
from common.paths import data_dir
from common.user_code import first_line, is_function, registered, user_function
from golden.zoo import digits
from golden.zoo.train_digits import real_images

DATA_SETS = ("digits", "cifar10")
ENTRY_POINTS = "npuloop.data"
"""The entry-point group in which packages register functions that return a `DataSet`."""

CIFAR10_BATCHES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
CIFAR10_TEST_BATCH = "test_batch.bin"
CIFAR10_HELP = (
    "CIFAR-10 comes from https://www.cs.toronto.edu/~kriz/cifar.html: unpack its binary version and give "
    "cifar10:FOLDER, the folder of data_batch_1.bin to data_batch_5.bin and test_batch.bin; or give "
    "cifar10:TRAIN.npz,TEST.npz, files with `image` (N, 32, 32, 3) uint8 and `label` (N,); without a path, "
    "the folder is cifar10 in the one that NPULOOP_DATA names"
)
_CIFAR10_MARGIN = 4  # black pixels around an image that is cropped at random
_CIFAR10_RECORD_BYTES = 1 + 3 * 32 * 32  # the label, then red, green and blue row by row

Augment = Callable[[Tensor, torch.Generator], Tensor]


class DataError(NpuloopError):
    """A data set that is missing, damaged, or contradicts itself."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images or vectors with their classes. One that exists is valid.

    Attributes:
        name: for messages and reports.
        train_images: (N, C, H, W) or (N, C) float32, real values as the network reads them.
        train_labels: (N,) int64, 0 to classes - 1.
        test_images, test_labels: the same for the test; N may differ.
        classes: how many, 2 or more.
        input_scale, input_zero_point: how the integer network reads them: real = scale * (q - zero point),
            q in int8.
        augment: makes a training batch from a training batch, of the same shape and type, with random
            numbers from the generator only; None: training batches stay as they are.

    Raises:
        DataError: it contradicts itself; the message names the data set and the remedy.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    input_scale: float
    input_zero_point: int
    augment: Augment | None = None

    def __post_init__(self) -> None:
        """Check the data set; see the class."""
        try:
            _check(self)
        except DataError as error:
            raise DataError(f"data set {self.name!r}: {error}") from error.__cause__

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) or (C,): the shape of one image or vector."""
        return tuple(self.train_images.shape[1:])


def _check(data: DataSet) -> None:
    classes, scale, zero_point = (_any(data, n) for n in ("classes", "input_scale", "input_zero_point"))
    if not isinstance(classes, int) or classes < 2:
        raise DataError(f"classes is {classes!r}; give an int of 2 or more")
    if not isinstance(scale, (int, float)) or not (math.isfinite(scale) and scale > 0):
        raise DataError(f"input_scale is {scale!r}; give a finite float above 0")
    if not isinstance(zero_point, int) or not -128 <= zero_point <= 127:
        raise DataError(f"input_zero_point is {zero_point!r}; give an int from -128 to 127")
    for part in ("train", "test"):
        _check_part(f"{part}_images", _any(data, f"{part}_images"), f"{part}_labels", data, classes)
    train, test = tuple(data.train_images.shape[1:]), tuple(data.test_images.shape[1:])
    if train != test:
        raise DataError(f"train_images are {train} and test_images {test}; make them one shape")
    if data.augment is not None:
        _check_augment(data.augment, data.train_images[:2].clone())


def _any(data: DataSet, name: str) -> Any:
    """Return a field whose type the caller may have got wrong."""
    return getattr(data, name)


def _check_part(images_name: str, images: Any, labels_name: str, data: DataSet, classes: int) -> None:
    labels = _any(data, labels_name)
    for name, tensor, dtype in ((images_name, images, torch.float32), (labels_name, labels, torch.int64)):
        if not isinstance(tensor, Tensor) or tensor.dtype != dtype:
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise DataError(f"{name} is {kind}; give a tensor of {dtype}")
        if tensor.numel() == 0:
            raise DataError(f"{name} is empty, shape {tuple(tensor.shape)}; give at least one image")
    if images.ndim not in (2, 4):
        raise DataError(f"{images_name} has shape {tuple(images.shape)}; give (N, C, H, W) or (N, C)")
    if labels.shape != (len(images),):
        raise DataError(
            f"{labels_name} has shape {tuple(labels.shape)}; give ({len(images)},), one for each of "
            f"{images_name}"
        )
    if not bool(torch.isfinite(images).all()):
        raise DataError(f"{images_name} holds infinities or values that are no numbers; remove them")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{labels_name} go from {low} to {high}; with {classes} classes they go from 0 to {classes - 1}"
        )


def _check_augment(augment: Augment, batch: Tensor) -> None:
    shape, dtype = batch.shape, batch.dtype
    try:
        augmented: Any = augment(batch, torch.Generator(batch.device).manual_seed(0))
    except Exception as error:  # the user's own code may raise anything
        raise DataError(f"augment fails on a batch {tuple(shape)}: {first_line(error)}") from error
    if not isinstance(augmented, Tensor) or augmented.shape != shape or augmented.dtype != dtype:
        kind = type(augmented).__name__
        if isinstance(augmented, Tensor):
            kind = f"{augmented.dtype} {tuple(augmented.shape)}"
        raise DataError(f"augment makes {kind} of a batch {dtype} {tuple(shape)}; return the same kind")


def load_data(spec: str) -> DataSet:
    """Return the data set that a specification names.

    - `digits`: scikit-learn's 8 x 8 digits, with the split and the augmentation of `golden.zoo.train_digits`.
    - `cifar10`: CIFAR-10 from the folder cifar10 of the reference data; see `common.paths`.
    - `cifar10:FOLDER`: from `*train*.npz` and `*test*.npz`, or from the batches of its binary version.
    - `cifar10:TRAIN.npz,TEST.npz`: from two files with `image` (N, 32, 32, 3) uint8 and `label` (N,).
    - `package.module:function`: what the function returns, called without arguments; the current directory
      is importable.
    - another name: what the function returns that a package registers under it in `ENTRY_POINTS`.

    CIFAR-10's values are pixel / 255; a training batch is cropped at random out of black margins of 4
    pixels, and half of it flipped. Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny
    Images", 2009; the augmentation is that of He et al., CVPR 2016, section 4.2.

    Raises:
        DataError: no such data set, a file that is missing or damaged, a function that fails or returns
            something else; naming it and the remedy.
    """
    name, colon, place = spec.partition(":")
    if spec == "digits":
        return _digits()
    if name == "cifar10":
        return _cifar10(place if colon else str(data_dir() / "cifar10"))
    if is_function(spec):
        data = user_function(spec, DataError)()
    else:
        data = registered(spec, ENTRY_POINTS, "data set", _remedy, DataError)()
    if not isinstance(data, DataSet):
        raise DataError(f"{spec} gives a {type(data).__name__}; return a mapping.search.data.DataSet")
    return data


def _remedy(names: Iterable[str]) -> str:
    return f"one of {', '.join(sorted({*DATA_SETS, *names}))}, or package.module:function"


# ----------------------------------------------------------------------------------------------------- digits
def _digits() -> DataSet:
    path = digits.FOLDER / digits.TEST_SET
    try:
        images, labels = digits.digits_images()
        test = read_npz(path)["test_indices"]
        training = np.setdiff1d(np.arange(len(images)), test)  # sorted, as golden.zoo.train_digits has it
        return DataSet(
            name="digits",
            train_images=real_images(images[training]),
            train_labels=torch.from_numpy(labels[training]),
            test_images=real_images(images[test]),
            test_labels=torch.from_numpy(labels[test]),
            classes=10,
            input_scale=digits.INPUT_SCALE,
            input_zero_point=digits.INPUT_ZERO_POINT,
            augment=_rolled,
        )
    except (KeyError, IndexError) as error:
        raise DataError(
            f"{path}: no test_indices ({error}); to make it again run python -m golden.zoo.train_digits"
        ) from error
    except DataError:
        raise
    except NpuloopError as error:
        raise DataError(f"data set 'digits': {error}") from error


def _random(low: int, high: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Return whole numbers from low to high - 1, (count,) int64, from the generator."""
    return torch.randint(low, high, (count,), generator=generator, device=generator.device).to(device)


def _rolled(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate a quarter of the images by one pixel to the left, a quarter to the right."""
    device, width = batch.device, batch.shape[3]
    move = torch.tensor((-1, 0, 0, 1), device=device)[_random(0, 4, len(batch), generator, device)]
    columns = (torch.arange(width, device=device) - move[:, None]) % width
    return batch.gather(3, columns[:, None, None, :].expand(batch.shape))


# --------------------------------------------------------------------------------------------------- CIFAR-10
def _cifar10(place: str) -> DataSet:
    if place and Path(place).is_dir():
        train, test = _cifar10_files(Path(place))
    else:
        files = [Path(part) for part in place.split(",")]
        if len(files) != 2:
            raise DataError(f"cifar10: {place or 'the empty path'} is no folder; {CIFAR10_HELP}")
        train, test = [files[0]], [files[1]]
    for path in set(train) & set(test):
        raise DataError(f"{path}: is for training and for testing; a test needs its own images")
    train_images, train_labels = _cifar10_tensors(train)
    test_images, test_labels = _cifar10_tensors(test)
    return DataSet(
        name="cifar10",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=10,
        input_scale=1 / 255,
        input_zero_point=-128,
        augment=_flipped_and_cropped,
    )


def _cifar10_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files for training and those for testing, in their order."""
    train, test = (sorted(folder.glob(pattern)) for pattern in ("*train*.npz", "*test*.npz"))
    if train and test:
        return train, test
    if train or test:
        raise DataError(f"{folder}: has no *{'test' if train else 'train'}*.npz; {CIFAR10_HELP}")
    train, test = [folder / name for name in CIFAR10_BATCHES], [folder / CIFAR10_TEST_BATCH]
    missing = [path.name for path in (*train, *test) if not path.is_file()]
    if len(missing) == len((*train, *test)) and any(path.with_suffix("").is_file() for path in train):
        raise DataError(f"{folder}: has the Python version of CIFAR-10, which is not read; {CIFAR10_HELP}")
    if missing:
        raise DataError(f"{folder}: has no .npz files, and no {', '.join(missing)}; {CIFAR10_HELP}")
    return train, test


def _cifar10_tensors(paths: list[Path]) -> tuple[Tensor, Tensor]:
    """Return all images, (N, 3, 32, 32) float32 from 0 to 1, and their labels, (N,) int64."""
    parts = [_cifar10_npz(path) if path.suffix == ".npz" else _cifar10_batch(path) for path in paths]
    pixels = torch.from_numpy(np.concatenate([images for images, _ in parts]))
    labels = torch.from_numpy(np.concatenate([labels for _, labels in parts]))
    return pixels.permute(0, 3, 1, 2).contiguous().float().div_(255), labels


def _cifar10_npz(path: Path) -> tuple[Bytes, Int64]:
    try:
        arrays = read_npz(path)
    except NpuloopError as error:
        raise DataError(f"{error}; {CIFAR10_HELP}") from error
    missing = [key for key in ("image", "label") if key not in arrays]
    if missing:
        raise DataError(f"{path}: has no {' and no '.join(missing)}; {CIFAR10_HELP}")
    return _checked_cifar10(path, arrays["image"], arrays["label"])


def _checked_cifar10(path: Path, images: Array, labels: Array) -> tuple[Bytes, Int64]:
    fit = labels.ndim == 1 and labels.size > 0 and images.shape == (labels.size, 32, 32, 3)
    if images.dtype != np.uint8 or not fit:
        arrays = f"image is {images.dtype} {images.shape}, label {labels.dtype} {labels.shape}"
        raise DataError(f"{path}: {arrays}; {CIFAR10_HELP}")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        raise DataError(f"{path}: label holds other values than whole numbers from 0 to 9; {CIFAR10_HELP}")
    return images, labels.astype(np.int64)


def _cifar10_batch(path: Path) -> tuple[Bytes, Int64]:
    """Read a batch of CIFAR-10's binary version: records of a label and the pixels, channel by channel."""
    try:
        content = np.frombuffer(read_bytes(path, max_data_bytes(), DataError, "batch of CIFAR-10"), np.uint8)
    except DataError as error:
        raise DataError(f"{error}; {CIFAR10_HELP}") from None
    if not content.size or content.size % _CIFAR10_RECORD_BYTES:
        raise DataError(
            f"{path}: has {content.size:,} bytes, no whole number of records of {_CIFAR10_RECORD_BYTES:,}; "
            f"it is cut off or no batch of CIFAR-10; {CIFAR10_HELP}"
        )
    records = content.reshape(-1, _CIFAR10_RECORD_BYTES)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return _checked_cifar10(path, images, records[:, 0])


def _flipped_and_cropped(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Crop each image at random out of itself with black margins, and flip half of them horizontally."""
    count, channels, height, width = batch.shape
    device, margin = batch.device, _CIFAR10_MARGIN
    padded = torch.nn.functional.pad(batch, (margin, margin, margin, margin))
    top, left = (_random(0, 2 * margin + 1, count, generator, device)[:, None] for _ in range(2))
    flip = _random(0, 2, count, generator, device)[:, None].bool()
    across = torch.arange(width, device=device)
    rows = top + torch.arange(height, device=device)
    columns = left + torch.where(flip, width - 1 - across, across)
    pixels = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    places = pixels.reshape(count, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, places).reshape(batch.shape)
