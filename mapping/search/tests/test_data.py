# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common import user_code as users_own
from common.testing import data_dir, require
from golden.quantize.export import export
from golden.quantize.qat import quantize_input
from golden.zoo import digits, train_digits
from mapping.search.data import CIFAR10_BATCHES, CIFAR10_TEST_BATCH, DataError, DataSet, load_data


def small(**changes: Any) -> DataSet:
    """A valid data set of five and three vectors, with changes."""
    fields: dict[str, Any] = {
        "name": "small",
        "train_images": torch.arange(20.0).reshape(5, 4),
        "train_labels": torch.tensor([0, 1, 2, 1, 0]),
        "test_images": torch.ones(3, 4),
        "test_labels": torch.tensor([2, 2, 0]),
        "classes": 3,
        "input_scale": 0.5,
        "input_zero_point": 3,
    }
    return DataSet(**(fields | changes))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------- the class
def test_a_data_set_knows_the_shape_of_one_image() -> None:
    assert small().input_shape == (4,)
    images = torch.zeros(2, 3, 8, 5)
    labels = torch.tensor([0, 1])
    data = small(train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    assert data.input_shape == (3, 8, 5)


NAN = torch.full((5, 4), float("nan"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((5, 4))}, "train_images is ndarray; give a tensor of torch.float32"),
        ({"test_images": torch.ones(3, 4).double()}, "test_images is torch.float64"),
        ({"train_images": torch.zeros(5, 2, 2)}, r"train_images has shape \(5, 2, 2\); give \(N, C, H, W\)"),
        ({"train_images": NAN}, "train_images holds infinities or values that are no numbers"),
        ({"test_images": torch.full((3, 4), torch.inf)}, "test_images holds infinities"),
        ({"test_images": torch.ones(0, 4)}, r"test_images is empty, shape \(0, 4\)"),
        ({"test_images": torch.ones(3, 5)}, r"train_images are \(4,\) and test_images \(5,\)"),
        ({"train_labels": torch.zeros(4).long()}, r"train_labels has shape \(4,\); give \(5,\)"),
        ({"train_labels": torch.zeros(5, 1).long()}, r"train_labels has shape \(5, 1\)"),
        ({"test_labels": torch.zeros(3).int()}, "test_labels is torch.int32; give a tensor of torch.int64"),
        ({"test_labels": torch.tensor([0, 3, 1])}, "test_labels go from 0 to 3; with 3 classes .* 0 to 2"),
        ({"train_labels": torch.tensor([0, 1, -1, 0, 0])}, "train_labels go from -1 to 1"),
        ({"classes": 1}, "classes is 1; give an int of 2 or more"),
        ({"classes": 3.0}, "classes is 3.0"),
        ({"input_scale": 0.0}, "input_scale is 0.0; give a finite float above 0"),
        ({"input_scale": float("inf")}, "input_scale is inf"),
        ({"input_zero_point": 128}, "input_zero_point is 128; give an int from -128 to 127"),
        ({"augment": lambda batch, _: batch[:, :2]}, r"augment makes torch.float32 \(2, 2\) of a batch"),
        ({"augment": lambda *_: None}, "augment makes NoneType"),
        ({"augment": lambda _: None}, r"augment fails on a batch \(2, 4\)"),
    ],
)
def test_a_data_set_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"data set 'small': {message}"):
        small(**changes)


def test_the_check_of_an_augmentation_leaves_the_images_alone() -> None:
    images = torch.arange(20.0).reshape(5, 4)
    small(train_images=images, augment=lambda batch, _: batch.zero_())
    assert torch.equal(images, torch.arange(20.0).reshape(5, 4))


# ---------------------------------------------------------------------------------------------------- digits
def test_the_digits_are_split_as_the_networks_in_the_repository_were_trained() -> None:
    data = load_data("digits")
    images, labels = digits.digits_images()
    order = np.random.default_rng(train_digits.SEED).permutation(len(images))
    test, training = np.sort(order[:450]), np.sort(order[450:])
    assert torch.equal(data.train_images, train_digits.real_images(images[training]))
    assert torch.equal(data.test_images, train_digits.real_images(images[test]))
    assert data.train_labels.tolist() == labels[training].tolist()
    assert data.test_labels.tolist() == labels[test].tolist()
    assert (data.name, data.classes, data.input_shape) == ("digits", 10, (1, 8, 8))
    assert (data.input_scale, data.input_zero_point) == (digits.INPUT_SCALE, digits.INPUT_ZERO_POINT)

    network = digits.load_digits_network("int8")
    q_images, q_labels = network.test_set()
    assert torch.equal(data.test_images, train_digits.real_images(q_images))
    assert data.test_labels.tolist() == q_labels.tolist()


def test_half_of_the_digits_are_rotated_by_one_pixel() -> None:
    data = load_data("digits")
    assert data.augment is not None
    batch = data.train_images[:600]
    augmented = data.augment(batch, generator(1))
    counts = dict.fromkeys((-1, 0, 1), 0)
    for before, after in zip(batch, augmented, strict=True):
        (move,) = (m for m in counts if torch.equal(after, before.roll(m, dims=2)))
        counts[move] += 1
    assert 250 < counts[0] < 350
    assert min(counts.values()) > 100


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_an_augmentation_follows_its_generator_only(name: str, tmp_path: Path) -> None:
    data = load_data("digits") if name == "digits" else load_data(npz_spec(tmp_path))
    assert data.augment is not None
    batch = data.train_images[:16]
    kept = batch.clone()
    state = torch.random.get_rng_state()
    first, again, other = (data.augment(batch, generator(seed)) for seed in (4, 4, 5))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(batch, kept)
    assert first.shape == batch.shape


def test_a_damaged_split_of_the_digits_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "FOLDER", tmp_path)
    with pytest.raises(DataError, match=r"digits_test_set\.npz: no such file"):
        load_data("digits")
    np.savez(tmp_path / digits.TEST_SET, float_predictions=np.zeros(3))
    with pytest.raises(DataError, match=r"digits_test_set\.npz: no test_indices .*golden\.zoo\.train_digits"):
        load_data("digits")


# -------------------------------------------------------------------------------------------------- CIFAR-10
def pixels(count: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return rng.integers(1, 256, (count, 32, 32, 3)).astype(np.uint8), rng.integers(0, 10, count)


def write_npz(path: Path, count: int, seed: int) -> None:
    image, label = pixels(count, seed)
    np.savez(path, image=image, label=label)


def npz_spec(folder: Path) -> str:
    write_npz(folder / "train.npz", 20, 1)
    write_npz(folder / "test.npz", 4, 2)
    return f"cifar10:{folder}"


def as_images(image: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2))).float() / 255


def test_cifar10_files_become_pixels_over_255(tmp_path: Path) -> None:
    data = load_data(npz_spec(tmp_path))
    assert torch.equal(data.train_images, as_images(pixels(20, 1)[0]))
    assert torch.equal(data.test_images, as_images(pixels(4, 2)[0]))
    assert data.train_labels.tolist() == pixels(20, 1)[1].tolist()
    assert data.test_labels.tolist() == pixels(4, 2)[1].tolist()
    assert (data.name, data.classes, data.input_shape) == ("cifar10", 10, (3, 32, 32))
    pair = load_data(f"cifar10:{tmp_path / 'train.npz'},{tmp_path / 'test.npz'}")
    assert torch.equal(pair.train_images, data.train_images)
    assert torch.equal(pair.test_images, data.test_images)


def test_several_files_follow_each_other_in_the_order_of_their_names(tmp_path: Path) -> None:
    spec = npz_spec(tmp_path)
    write_npz(tmp_path / "a_train.npz", 3, 7)
    data = load_data(spec)
    assert torch.equal(data.train_images, as_images(np.concatenate([pixels(3, 7)[0], pixels(20, 1)[0]])))
    assert len(data.test_images) == 4


def test_the_integer_network_reads_every_pixel_as_pixel_less_128(tmp_path: Path) -> None:
    data = load_data(npz_spec(tmp_path))
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))
    network = export(
        model, data.train_images, input_scale=data.input_scale, input_zero_point=data.input_zero_point
    )
    q = quantize_input(network, data.train_images)
    assert np.array_equal(q, pixels(20, 1)[0].astype(np.int64) - 128)


@pytest.mark.data
def test_the_reference_data_is_cifar10() -> None:
    require(data_dir() / "cifar10")
    data = load_data("cifar10")
    assert (len(data.train_images), len(data.test_images)) == (10_000, 2_000)
    assert data.train_labels.bincount().tolist() == [1_000] * 10
    # the published means of the training set's channels: 0.4914, 0.4822, 0.4465
    mean = data.train_images.mean((0, 2, 3))
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=5e-3)


def test_crops_are_windows_of_the_image_with_black_margins_and_half_are_flipped(tmp_path: Path) -> None:
    data = load_data(npz_spec(tmp_path))
    assert data.augment is not None
    batch = data.train_images.repeat(8, 1, 1, 1)
    augmented = data.augment(batch, generator(3))
    seen = []
    for before, after in zip(batch, augmented, strict=True):
        padded = torch.nn.functional.pad(before, (4, 4, 4, 4))
        windows = padded.unfold(1, 32, 1).unfold(2, 32, 1)  # (C, top, left, 32, 32)
        places = [
            (*index, flipped)
            for flipped, image in enumerate((after, after.flip(2)))
            for index in (windows == image[:, None, None]).all(4).all(3).all(0).nonzero().tolist()
        ]
        assert len(places) == 1  # no pixel of these images is black
        seen.append(places[0])
    tops, lefts, flips = zip(*seen, strict=True)
    assert set(tops) == set(lefts) == set(range(9))
    assert 55 < sum(flips) < 105
    assert len(set(seen)) > 80  # of 162: the three draws do not depend on each other


# ---------------------------------------------------------------------------------------- the binary version
def binary_batch(image: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    """Return a batch as the authors give it away: for each image a byte of its label and 3,072 of pixels."""
    pairs = zip(labels, image.transpose(0, 3, 1, 2), strict=True)
    return b"".join(bytes([label]) + pixel.tobytes() for label, pixel in pairs)


def write_batches(folder: Path) -> str:
    for seed, name in enumerate((*CIFAR10_BATCHES, CIFAR10_TEST_BATCH)):
        image, label = pixels(3, seed)
        (folder / name).write_bytes(binary_batch(image, label.tolist()))
    return f"cifar10:{folder}"


def test_the_batches_of_the_binary_version_are_read(tmp_path: Path) -> None:
    data = load_data(write_batches(tmp_path))
    images, labels = zip(*(pixels(3, seed) for seed in range(6)), strict=True)
    assert torch.equal(data.train_images, as_images(np.concatenate(images[:5])))
    assert torch.equal(data.test_images, as_images(images[5]))
    assert data.train_labels.tolist() == np.concatenate(labels[:5]).tolist()
    assert data.test_labels.tolist() == labels[5].tolist()


def test_a_record_is_the_label_then_red_green_and_blue_row_by_row(tmp_path: Path) -> None:
    spec = write_batches(tmp_path)
    record = bytes([7]) + bytes([10]) * 1024 + bytes(range(20, 52)) * 32 + bytes([30]) * 1024
    (tmp_path / CIFAR10_TEST_BATCH).write_bytes(record)
    data = load_data(spec)
    (image,) = (data.test_images * 255).round().int()
    assert data.test_labels.tolist() == [7]
    assert set(image[0].flatten().tolist()) == {10}
    assert image[1].tolist() == [list(range(20, 52))] * 32
    assert set(image[2].flatten().tolist()) == {30}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda batch: batch[:-1], "has 9,218 bytes, no whole number of records of 3,073; it is cut off or"),
        (lambda batch: batch + b"\0", "has 9,220 bytes, no whole number of records"),
        (lambda _: b"", "has 0 bytes, no whole number of records"),
        (lambda batch: batch[:3073] + b"\x0a" + batch[3074:], "label holds other values than whole numbers"),
        (lambda batch: b"\xff" + batch[1:], "label holds other values than whole numbers"),
    ],
    ids=["cut off", "too long", "empty", "label of 10", "label of 255"],
)
def test_a_damaged_batch_is_one_clear_error(
    spoil: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    spec = write_batches(tmp_path)
    batch = tmp_path / "data_batch_3.bin"
    batch.write_bytes(spoil(batch.read_bytes()))
    with pytest.raises(DataError, match=f"data_batch_3.bin: {message}.*https://www.cs.toronto.edu") as caught:
        load_data(spec)
    assert len(str(caught.value).splitlines()) == 1


def test_a_batch_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    write_npz(tmp_path / "test.npz", 4, 2)
    spec = f"cifar10:{tmp_path / 'data_batch_1.bin'},{tmp_path / 'test.npz'}"
    with pytest.raises(DataError, match=r"data_batch_1\.bin: no such file"):
        load_data(spec)


def test_the_python_version_is_not_read_and_the_message_says_what_to_take(tmp_path: Path) -> None:
    for name in (*CIFAR10_BATCHES, CIFAR10_TEST_BATCH):
        (tmp_path / name.removesuffix(".bin")).write_bytes(b"\x80\x02}q\x01.")
    with pytest.raises(
        DataError, match=r"has the Python version of CIFAR-10, .*; CIFAR-10 .* binary version"
    ):
        load_data(f"cifar10:{tmp_path}")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros((2, 32, 32, 3), np.uint8)}, "has no label"),
        ({}, "has no image and no label"),
        ({"image": np.zeros((2, 32, 32, 3)), "label": np.zeros(2, int)}, "image is float64"),
        (
            {"image": np.zeros((2, 3, 32, 32), np.uint8), "label": np.zeros(2, int)},
            "image is uint8 .2, 3, 32",
        ),
        ({"image": np.zeros((2, 32, 32, 3), np.uint8), "label": np.zeros(3, int)}, r"label int64 \(3,\)"),
        ({"image": np.zeros((0, 32, 32, 3), np.uint8), "label": np.zeros(0, int)}, r"label int64 \(0,\)"),
        ({"image": np.zeros((2, 32, 32, 3), np.uint8), "label": np.array(3)}, r"label int64 \(\)"),
        ({"image": np.zeros((2, 32, 32, 3), np.uint8), "label": np.array([1, 10])}, "label holds other"),
        ({"image": np.zeros((2, 32, 32, 3), np.uint8), "label": np.zeros(2)}, "label holds other"),
        ({"image": np.array([None, {}]), "label": np.zeros(2, int)}, "pickled Python objects"),
    ],
)
def test_a_file_with_something_else_in_it_is_refused(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    spec = npz_spec(tmp_path)
    np.savez(tmp_path / "train.npz", **arrays)
    with pytest.raises(DataError, match=rf"train\.npz: .*{message}.*https://www.cs.toronto.edu"):
        load_data(spec)


def test_missing_and_damaged_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = npz_spec(tmp_path)
    train, test = tmp_path / "train.npz", tmp_path / "test.npz"
    with pytest.raises(DataError, match=r"train\.npz: is for training and for testing"):
        load_data(f"cifar10:{train},{train}")
    train.write_bytes(train.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"train\.npz: .*https://www.cs.toronto.edu"):
        load_data(spec)
    train.unlink()
    with pytest.raises(DataError, match=r"has no \*train\*\.npz; CIFAR-10 comes from"):
        load_data(spec)
    with pytest.raises(DataError, match=r"train\.npz: no such file.*CIFAR-10 comes from"):
        load_data(f"cifar10:{train},{test}")
    test.unlink()
    write_batches(tmp_path)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"no data_batch_4\.bin; CIFAR-10 comes from"):
        load_data(spec)
    for wrong in ("", "nowhere", "a,b,c"):
        with pytest.raises(DataError, match="is no folder; CIFAR-10 comes from"):
            load_data(f"cifar10:{wrong}")
    monkeypatch.setenv("NPULOOP_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"none.cifar10 is no folder; .*NPULOOP_DATA"):
        load_data("cifar10")


# -------------------------------------------------------------------------------------- the user's functions
USER_CODE = """
import torch
from mapping.search.data import DataSet

def good():
    x, y = torch.ones(2, 4), torch.tensor([0, 1])
    return DataSet("mine", x, y, x, y, 2, 0.5, 0)

def late():
    import user_data_helper
    return user_data_helper.DATA

def bad():
    x, y = torch.ones(2, 4), torch.tensor([0, 7])
    return DataSet("mine", x, y, x, y, 2, 0.5, 0)

def other():
    return 3

def breaks():
    raise ZeroDivisionError
"""


@pytest.fixture
def user_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module user_data in the current directory, which is not on the path."""
    (tmp_path / "user_data.py").write_text(USER_CODE)
    (tmp_path / "user_data_helper.py").write_text("from user_data import good\nDATA = good()\n")
    monkeypatch.chdir(tmp_path)
    for name in ("user_data", "user_data_helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_function_of_the_user_gives_the_data(user_code: None) -> None:
    before = list(sys.path)
    assert load_data("user_data:good").name == "mine"
    assert load_data("user_data:late").input_shape == (4,)
    assert sys.path == before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("user_data:bad", "user_data:bad fails: data set 'mine': train_labels go from 0 to 7"),
        ("user_data:other", "user_data:other gives a int; return a mapping.search.data.DataSet"),
        ("user_data:breaks", "user_data:breaks fails: ZeroDivisionError; correct the function"),
        ("user_data:missing", "no attribute 'missing'; give package.module:function"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("mnist", "there is no data set 'mnist'; give one of cifar10, digits, or package.module:function"),
        ("", "there is no data set ''"),
        ("a b:c", "there is no data set 'a b:c'"),
    ],
)
def test_what_gives_no_data_is_named(spec: str, message: str, user_code: None) -> None:
    with pytest.raises(DataError, match=message):
        load_data(spec)


def test_a_package_registers_data_sets(
    user_code: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    points = EntryPoints(
        EntryPoint(name, value, "npuloop.data")
        for name, value in (
            ("theirs", "user_data:good"),
            ("gone", "user_data:missing"),
            ("twice", "user_data:good"),
            ("twice", "user_data:bad"),
        )
    )
    monkeypatch.setattr(users_own, "entry_points", points.select)
    assert load_data("theirs").name == "mine"
    with pytest.raises(DataError, match=r"gone \(user_data:missing\): .*missing"):
        load_data("gone")
    with pytest.raises(DataError, match="2 packages register a data set 'twice'"):
        load_data("twice")
    with pytest.raises(DataError, match="give one of cifar10, digits, gone, theirs, twice, or"):
        load_data("none")


def test_a_changed_copy_is_checked_too() -> None:
    with pytest.raises(DataError, match="classes is 0"):
        replace(small(), classes=0)
