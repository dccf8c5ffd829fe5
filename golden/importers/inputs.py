# SPDX-License-Identifier: Apache-2.0
"""Inputs of networks: arrays of `.npy` and `.npz` files, and random ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common.array_files import read_array, read_npz
from common.arrays import Array
from common.errors import NpuloopError
from golden.network import Network, Tensor, check_inputs
from golden.node import QUANTISED


def random_input(network: Network, seed: int) -> dict[str, Array]:
    """Return a random input: each of the network's inputs by name, (1, *shape) of its element type.

    Integers cover their type. float32 covers what the QUANTIZE behind it represents, so that what the units
    read spreads over int8; without one it is between -1 and 1.
    """
    rng = np.random.default_rng(seed)
    return {name: _random(network, name, tensor, rng) for name, tensor in network.inputs.items()}


def _random(network: Network, name: str, tensor: Tensor, rng: np.random.Generator) -> Array:
    shape = (1, *tensor.shape)
    if tensor.dtype != "float32":
        limits = np.iinfo(tensor.dtype)
        return rng.integers(limits.min, limits.max + 1, shape).astype(tensor.dtype)
    low, high = _range(network, name)
    return rng.uniform(low, high, shape).astype(np.float32)


def _range(network: Network, name: str) -> tuple[float, float]:
    """Return what the first QUANTIZE represents that reads a float32 tensor, as it is or in another shape."""
    same = {name}
    for node in network.nodes:
        if same.isdisjoint(node.inputs):
            continue
        if node.op in ("reshape", "transpose"):
            same.add(node.name)
        elif node.op == "quantize":
            low, high = QUANTISED[node.output.dtype]
            scale, zero_point = node.output.scale, node.output.zero_point
            return scale * (low - zero_point), scale * (high - zero_point)
    return -1.0, 1.0


def read_inputs(network: Network, path: Path) -> dict[str, Array]:
    """Return the batches of inputs of a file, each (N, *shape) of its element type, by name.

    A .npy file has the input of a network with one; a .npz file has each input under its name.

    Raises:
        NpuloopError: a missing or damaged file, or one that does not fit the network; naming the file.
    """
    try:
        arrays = read_npz(path) if path.suffix == ".npz" else read_array(path)
        return {name: np.ascontiguousarray(batch) for name, batch in check_inputs(network, arrays).items()}
    except NpuloopError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None


def batch_size(inputs: Mapping[str, Array]) -> int:
    """Return how many inputs a batch has."""
    return len(next(iter(inputs.values())))


def first_input(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the first of a batch of inputs, without the batch axis."""
    return {name: batch[0] for name, batch in inputs.items()}
