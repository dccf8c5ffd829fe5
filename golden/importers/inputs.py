"""Inputs of networks: arrays of `.npy` files, and random ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from common.arrays import Array
from common.errors import NpuloopError
from golden.network import Network, check_input


def random_input(network: Network, seed: int) -> Array:
    """Return a batch of one random input, (1, *network.input.shape) of its element type.

    A float32 input covers what the network's input scale represents.
    """
    rng = np.random.default_rng(seed)
    if network.input.dtype == "float32":
        low, high = (network.input.scale * (q - network.input.zero_point) for q in (-128, 127))
        return rng.uniform(low, high, (1, *network.input.shape)).astype(np.float32)
    return rng.integers(-128, 128, (1, *network.input.shape)).astype(np.int8)


def read_inputs(network: Network, path: Path) -> Array:
    """Return the batch of inputs of a .npy file, (N, *network.input.shape) of its element type.

    Raises:
        NpuloopError: a missing or damaged file, or one that does not fit the network; naming the file.
    """
    array = read_array(path)
    try:
        return np.ascontiguousarray(check_input(network, array))
    except NpuloopError as error:
        raise type(error)(f"{path}: {error}") from None


def read_array(path: Path) -> Array:
    """Return the array of a .npy file.

    Raises:
        NpuloopError: a missing or damaged file, or another kind of file; naming it.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise NpuloopError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError, SyntaxError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise NpuloopError(f"{path}: no .npy array ({error}); write it with numpy.save") from None
    if not isinstance(array, np.ndarray):
        raise NpuloopError(f"{path}: an archive of arrays; write one array with numpy.save")
    return array
