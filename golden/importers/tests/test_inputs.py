"""Inputs of networks: random ones, and those of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import NpuloopError, ShapeError
from golden.importers.inputs import random_input, read_array, read_inputs
from golden.network import Network, Node, Tensor
from golden.network_file import load_network
from golden.zoo.digits import network_file


@pytest.fixture
def network() -> Network:
    return load_network(network_file("int8"))


def test_a_random_input_is_that_of_its_seed(network: Network) -> None:
    batch = random_input(network, 1)
    assert batch.dtype == np.int8
    assert batch.shape == (1, 8, 8, 1)
    np.testing.assert_array_equal(batch, random_input(network, 1))
    assert not np.array_equal(batch, random_input(network, 2))


def test_a_random_input_of_real_numbers_covers_what_the_scale_represents() -> None:
    real = Tensor(shape=(40, 50, 1), dtype="float32", scale=0.5, zero_point=28)
    output = Tensor(shape=(40, 50, 1), dtype="int8", scale=0.5, zero_point=28)
    node = Node(name="q", op="quantize", inputs=("x",), output=output)
    network = Network(name="real", input_name="x", input=real, nodes=(node,))
    batch = random_input(network, 1)
    assert batch.dtype == np.float32
    assert batch.shape == (1, 40, 50, 1)
    low, high = 0.5 * (-128 - 28), 0.5 * (127 - 28)
    assert low <= batch.min() < low + 1
    assert high - 1 < batch.max() <= high


def test_a_file_has_one_input_or_a_batch(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    batch = np.random.default_rng(1).integers(-128, 128, (3, 8, 8, 1)).astype(np.int8)
    for written, read in ((batch, batch), (batch[0], batch[:1])):
        np.save(path, written)
        inputs = read_inputs(network, path)
        assert inputs.flags.c_contiguous
        np.testing.assert_array_equal(inputs, read)


def test_inputs_that_do_not_fit_are_refused_with_the_file(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((2, 9, 8, 1), np.int8))
    with pytest.raises(ShapeError, match=r"x\.npy: .* the input is \(2, 9, 8, 1\)"):
        read_inputs(network, path)


def test_what_is_no_array_is_refused_with_the_remedy(tmp_path: Path) -> None:
    text, archive, pickled = (tmp_path / name for name in ("t.npy", "a.npz", "p.npy"))
    text.write_text("no array")
    np.savez(archive, a=np.zeros(3))
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    for path, says in (
        (text, r"t\.npy: no \.npy array .*; write it with numpy\.save"),
        (archive, r"a\.npz: an archive of arrays; write one array with numpy\.save"),
        (pickled, r"p\.npy: no \.npy array"),
        (tmp_path / "none.npy", r"none\.npy: cannot be read"),
    ):
        with pytest.raises(NpuloopError, match=says):
            read_array(path)
