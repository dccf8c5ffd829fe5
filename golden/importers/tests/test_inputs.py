# SPDX-License-Identifier: Apache-2.0
"""Inputs of networks: random ones, and those of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.array_files import read_array
from common.errors import NpuloopError, ShapeError
from golden.importers.inputs import random_input, read_inputs
from golden.network import Network, Node, Tensor, run_network
from golden.network_file import load_network
from golden.zoo.digits import network_file


@pytest.fixture
def network() -> Network:
    return load_network(network_file("int8"))


def test_a_random_input_is_that_of_its_seed(network: Network) -> None:
    (batch,), (again,), (other,) = (random_input(network, seed).values() for seed in (1, 1, 2))
    assert batch.dtype == np.int8
    assert batch.shape == (1, 8, 8, 1)
    np.testing.assert_array_equal(batch, again)
    assert not np.array_equal(batch, other)


def test_a_random_input_of_real_numbers_covers_what_the_first_quantize_represents() -> None:
    real = Tensor(shape=(40, 50, 1), dtype="float32")
    output = Tensor(shape=(40, 50, 1), dtype="int8", scale=0.5, zero_point=28)
    node = Node(name="q", op="quantize", inputs=("x",), output=output)
    turned = replace(real, shape=(50, 40, 1))
    transpose = Node(name="t", op="transpose", inputs=("x",), output=turned, permutation=(1, 0, 2))
    later = replace(node, inputs=("t",), output=replace(output, shape=(50, 40, 1)))
    for nodes in ((node,), (transpose, later)):
        network = Network(name="real", input_name="x", input=real, nodes=nodes)
        values = run_network(network, random_input(network, 1))["q"]
        assert np.mean((values == -128) | (values == 127)) < 0.01
        assert np.unique(values).size > 250
    batch = random_input(network, 1)["x"]
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
        (inputs,) = read_inputs(network, path).values()
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
        (tmp_path / "none.npy", r"none\.npy: no such file"),
    ):
        with pytest.raises(NpuloopError, match=says):
            read_array(path)


def two_inputs() -> Network:
    first, second = Tensor(shape=(3,), dtype="uint8", scale=0.1), Tensor(shape=(2, 2), dtype="float32")
    node = Node(name="q", op="quantize", inputs=("a",), output=Tensor(shape=(3,)))
    return Network(name="two", input_name="a", input=first, more_inputs={"b": second}, nodes=(node,))


def test_several_inputs_are_read_by_name(tmp_path: Path) -> None:
    network, path = two_inputs(), tmp_path / "x.npz"
    drawn = random_input(network, 1)
    assert {name: (batch.shape, batch.dtype.name) for name, batch in drawn.items()} == {
        "a": ((1, 3), "uint8"), "b": ((1, 2, 2), "float32"),
    }  # fmt: skip
    np.savez(path, a=drawn["a"], b=drawn["b"])
    for name, batch in read_inputs(network, path).items():
        np.testing.assert_array_equal(batch, drawn[name])
    np.savez(path, a=drawn["a"])
    with pytest.raises(ShapeError, match=r"x\.npz: network 'two' reads a, b, not a"):
        read_inputs(network, path)
    np.savez(path, a=np.zeros((2, 3), np.uint8), b=drawn["b"])
    with pytest.raises(ShapeError, match="batches of different sizes"):
        read_inputs(network, path)
    np.save(tmp_path / "x.npy", drawn["a"])
    with pytest.raises(ShapeError, match="reads a, b: give each by its name"):
        read_inputs(network, tmp_path / "x.npy")
    path.write_bytes(b"PK")
    with pytest.raises(NpuloopError, match=r"x\.npz: not an \.npz archive"):
        read_inputs(network, path)
