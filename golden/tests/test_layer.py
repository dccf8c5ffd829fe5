# SPDX-License-Identifier: Apache-2.0
"""The layer file: what is written is read back, and every bad file is one clear error."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import LayerFileError, NpuloopError, UnsupportedError
from golden.layer import (
    OPS,
    WEIGHTED_OPS,
    clip_weights,
    layer_keys,
    layer_to_arrays,
    load_layer,
    macs,
    output_shape,
    run_layer,
    save_layer,
)
from golden.testing import random_layer, rescale

SEED = 20240609
Arrays = dict[str, Any]


def arrays_of(op: str) -> Arrays:
    """A valid random layer file's content."""
    layer = random_layer(np.random.default_rng(SEED), op)
    return layer_to_arrays(replace(layer, expected=run_layer(layer)))


def test_a_saved_layer_is_read_back_identical(tmp_path: Path) -> None:
    for op in OPS:
        layer = random_layer(np.random.default_rng(SEED), op)
        layer = replace(layer, expected=run_layer(layer))
        save_layer(layer, tmp_path / f"{op}.npz")
        again = load_layer(tmp_path / f"{op}.npz")
        assert again.name == op
        for key in (*layer_keys(op), "expected"):
            np.testing.assert_array_equal(getattr(again, key), getattr(layer, key))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{op}.npz" for op in OPS)


@pytest.mark.parametrize("multiplier", [0, 1, 5, 2**29, 2**30 - 1, 2**31 - 1])
def test_any_multiplier_that_is_not_negative_is_computed(multiplier: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    path = tmp_path / "layer.npz"
    layer = random_layer(rng, "fully_connected")
    layer.multiplier.fill(multiplier)
    for shift in (-9, 0, 3, 22):
        save_layer(replace(layer, shift=np.full_like(layer.shift, shift)), path)
        acc = layer.weights.astype(int) @ (layer.input.astype(int) - layer.input_zero_point)
        ends = (layer.output_zero_point, layer.act_min, layer.act_max)
        expected = [
            rescale(int(total), int(bias), multiplier, shift, *ends)
            for total, bias in zip(acc, layer.bias, strict=True)
        ]
        assert run_layer(load_layer(path)).tolist() == expected
    add = replace(random_layer(rng, "add"), act_min=-128, act_max=127)
    add = replace(
        add, input1_multiplier=multiplier, input2_multiplier=multiplier // 3, output_multiplier=multiplier
    )
    save_layer(add, path)

    def scaled(x: int, part: str) -> int:
        values = {key: getattr(add, f"{part}_{key}") for key in ("multiplier", "shift", "zero_point")}
        shifted = (x - values["zero_point"]) << add.left_shift
        return rescale(shifted, 0, values["multiplier"], values["shift"], 0, -(2**31), 2**31 - 1)

    sums = [
        scaled(int(a), "input1") + scaled(int(b), "input2")
        for a, b in zip(add.input.flatten(), add.input2.flatten(), strict=True)
    ]
    ends = (add.output_zero_point, -128, 127)
    expected = [rescale(total, 0, multiplier, add.output_shift, *ends) for total in sums]
    assert run_layer(load_layer(path)).flatten().tolist() == expected


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "layer.npz"
    layer = random_layer(np.random.default_rng(SEED), "add")
    save_layer(layer, path)
    before = path.read_bytes()

    def fail(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(LayerFileError, match="disk full"):
        save_layer(layer, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["layer.npz"]


def test_a_missing_folder_is_made_and_one_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    layer, path = random_layer(np.random.default_rng(SEED), "add"), tmp_path / "new" / "layer.npz"
    save_layer(layer, path)
    with pytest.raises(LayerFileError, match=r"layer\.npz/nowhere\.npz: cannot be written"):
        save_layer(layer, path / "nowhere.npz")


def without(key: str) -> Callable[[Arrays], None]:
    """Removes a key."""
    return lambda arrays: arrays.__delitem__(key)


def put(key: str, value: Any) -> Callable[[Arrays], None]:
    """Sets a key."""
    return lambda arrays: arrays.__setitem__(key, np.asarray(value))


def cast(key: str, dtype: type) -> Callable[[Arrays], None]:
    """Changes a key's element type."""
    return lambda arrays: arrays.__setitem__(key, arrays[key].astype(dtype))


def reshape(key: str, *shape: int) -> Callable[[Arrays], None]:
    """Changes a key's shape."""
    return lambda arrays: arrays.__setitem__(key, np.zeros(shape, arrays[key].dtype))


BAD = [
    ("conv2d", without("op"), "'op' is missing"),
    ("conv2d", put("op", "softmax"), "softmax.*supported are conv2d"),
    ("conv2d", put("op", 3), "op is"),
    ("conv2d", put("paddings", [0, 0, 0, 0]), "'paddings' is not one of conv2d"),
    ("max_pool", put("dilation", [1, 1]), "'dilation' is not one of max_pool"),
    *((op, without(key), f"'{key}' is missing") for op in OPS for key in layer_keys(op)),
    ("conv2d", cast("input", np.int16), "input is int16"),
    ("conv2d", cast("weights", np.float32), "weights is float32"),
    ("conv2d", cast("bias", np.int64), "bias is int64"),
    ("conv2d", cast("expected", np.uint8), "expected is uint8"),
    ("conv2d", cast("act_min", np.float64), "act_min is float64"),
    ("conv2d", cast("stride", np.float64), "stride is float64"),
    ("conv2d", put("stride", [1, 1, 1]), "stride has 3 values"),
    ("conv2d", put("stride", 1), "stride is"),
    ("conv2d", put("stride", [0, 1]), "stride = 0"),
    ("conv2d", put("dilation", [1, 100000]), "dilation = 100000"),
    ("conv2d", put("padding", [0, -1, 0, 0]), "padding = -1"),
    ("conv2d", put("input_zero_point", 128), "input_zero_point = 128"),
    ("conv2d", put("act_max", 128), "act_max = 128"),
    ("conv2d", lambda a: a.update(act_min=np.array(5), act_max=np.array(4)), "act_max = 4"),
    ("conv2d", lambda a: a["multiplier"].put(0, -1), "multiplier = -1 must lie in"),
    ("conv2d", lambda a: a["multiplier"].fill(-(2**31)), "multiplier = -2147483648"),
    ("conv2d", lambda a: a["shift"].fill(31), "shift = 31"),
    ("conv2d", lambda a: a["shift"].fill(-32), "shift = -32"),
    ("conv2d", reshape("input", 4, 4), "input of conv2d has 3 axes"),
    ("conv2d", reshape("input", 1, 4, 4, 3), "input of conv2d has 3 axes"),
    ("conv2d", reshape("input", 0, 4, 3), "input is empty"),
    ("conv2d", reshape("weights", 3, 3), "weights of conv2d have 4 axes"),
    ("conv2d", reshape("weights", 2, 1, 1, 99), "expect 99 input channels"),
    ("conv2d", reshape("bias", 50), "bias has shape"),
    ("conv2d", reshape("expected", 50, 2, 2), "expected has shape"),
    ("depthwise_conv2d", reshape("weights", 2, 1, 1, 4), "depthwise weights are"),
    ("fully_connected", reshape("input", 1, 4), "input of fully_connected has 1 axes"),
    ("max_pool", put("padding", [9, 0, 0, 0]), "smaller than its kernel"),
    ("conv2d", reshape("weights", 2, 90, 1, 0), "weights is empty"),
    ("average_pool", lambda a: a.update(kernel=np.array([90, 1]), padding=np.zeros(4, int)), "does not fit"),
    ("add", reshape("input2", 1, 1, 99), "must have the same shape"),
    ("add", put("output_shift", 1), "output_shift = 1"),
    ("add", put("input1_multiplier", 2**31), "input1_multiplier = 2147483648"),
    ("add", put("input2_multiplier", -1), "input2_multiplier = -1"),
    ("add", put("output_multiplier", -(2**30)), "output_multiplier = -1073741824"),
    ("add", put("left_shift", 24), "left_shift = 24"),
]


@pytest.mark.parametrize(("op", "damage", "message"), BAD, ids=lambda v: v if isinstance(v, str) else "")
def test_a_file_with_a_bad_key_is_one_error_that_names_file_and_key(
    op: str, damage: Callable[[Arrays], None], message: str, tmp_path: Path
) -> None:
    arrays = arrays_of(op)
    damage(arrays)
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(LayerFileError, match=message) as caught:
        load_layer(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayerFileError, match=r"absent\.npz: no such file"):
        load_layer(tmp_path / "absent.npz")


def test_a_folder_is_no_layer_file(tmp_path: Path) -> None:
    with pytest.raises(LayerFileError, match="cannot be read"):
        load_layer(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps({"op": "conv2d"}), b"\x93NUMPY"])
def test_a_file_that_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(LayerFileError, match=r"not an \.npz archive"):
        load_layer(path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, **arrays_of("conv2d"))
    content = whole.read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(LayerFileError, match=r"cut\.npz"):
            load_layer(path)


def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, **arrays_of("conv2d"))
    content = whole.read_bytes()
    rng = np.random.default_rng(SEED)
    path = tmp_path / "damaged.npz"
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            load_layer(path)
        except LayerFileError:
            refused += 1
    assert refused > 100


class Bomb:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle would execute."""
        return (pytest.fail, ("a pickle was executed",))


def test_pickled_objects_are_refused_and_never_executed(tmp_path: Path) -> None:
    arrays = arrays_of("conv2d") | {"bias": np.array([Bomb()], dtype=object)}
    path = tmp_path / "pickled.npz"
    np.savez(path, **arrays)
    with pytest.raises(LayerFileError, match="pickled"):
        load_layer(path)


def test_a_layer_made_in_code_is_checked_and_the_error_names_it() -> None:
    layer = random_layer(np.random.default_rng(SEED), "conv2d")
    with pytest.raises(NpuloopError, match=r"random_conv2d.*act_min"):
        replace(layer, act_min=-129)


@pytest.mark.parametrize("op", WEIGHTED_OPS)
@pytest.mark.parametrize("w_bits", [2, 3, 4, 8])
def test_clipped_weights_lie_in_the_symmetric_range_and_nothing_else_changes(op: str, w_bits: int) -> None:
    layer = random_layer(np.random.default_rng(SEED), op)
    layer = replace(layer, expected=run_layer(layer))
    clipped = clip_weights(layer, w_bits)
    high = 2 ** (w_bits - 1) - 1
    np.testing.assert_array_equal(clipped.weights, np.clip(layer.weights, -high, high))
    assert clipped.expected is None
    assert clipped.weights.dtype == np.int8
    assert all(
        getattr(clipped, k) is getattr(layer, k) for k in ("input", "bias", "multiplier", "shift", "name")
    )


@pytest.mark.parametrize("op", ["add", "max_pool", "average_pool"])
def test_clipping_an_operator_without_weights_is_refused(op: str) -> None:
    with pytest.raises(UnsupportedError, match="no weights"):
        clip_weights(random_layer(np.random.default_rng(SEED), op), 2)


def test_macs_count_the_mathematics() -> None:
    rng = np.random.default_rng(SEED)
    for op in OPS:
        layer = random_layer(rng, op)
        if op == "fully_connected":
            expected = layer.weights.size
        elif op in WEIGHTED_OPS:
            height, width, out = output_shape(layer)
            depth = layer.weights.shape[3] if op == "conv2d" else 1
            expected = height * width * out * layer.weights.shape[1] * layer.weights.shape[2] * depth
        else:
            expected = 0
        assert macs(layer) == expected
