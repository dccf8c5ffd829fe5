# SPDX-License-Identifier: Apache-2.0
"""Files of arrays, `.npy` and `.npz`, without pickles: read within bounds, written whole or not at all.

What a file says of itself is compared with its size before memory is taken: the list of an archive's members,
what they unpack to (in all up to `common.files.max_data_bytes`), and the shape in each member's header.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from common.arrays import Array
from common.errors import LayerFileError, NpuloopError
from common.files import MAX_DATA_VARIABLE, max_data_bytes, open_regular, write_atomically

MAX_DIRECTORY_BYTES = 8 << 20
"""Most bytes of the list of an archive's members, which is read as a whole."""
_END = struct.Struct("<4sHHHHIIH")
"""An archive's end: signature, numbers of disks (2) and members (2), bytes of the list, where, comment."""
_END_SIGN, _LARGE_END_SIGN = b"PK\5\6", b"PK\6\7"
_LARGE_END_BYTES = 20
_ENCRYPTED = 1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How NumPy packs members; others can claim memory of their own to unpack."""
_KINDS = "biufU"
"""Kinds of elements: truth values, numbers and text."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_CHUNK = 1 << 20


class _PickledError(ValueError):
    """An array of Python objects."""


def read_npz(path: Path, error: type[NpuloopError] = LayerFileError) -> dict[str, Array]:
    """Read all arrays of an `.npz` file; pickled objects are refused, never executed.

    Args:
        path: the file.
        error: what is raised.

    Raises:
        error: the file is missing, no `.npz`, damaged, unpacks to too much, or holds pickled objects.
    """
    try:
        with open_regular(path, error) as file:
            return _members(file, path, error)
    except NpuloopError:
        raise
    except _PickledError:
        raise error(
            f"{path}: holds pickled Python objects, which are refused; store plain number arrays"
        ) from None
    except Exception as problem:  # numpy, zipfile and zlib raise many types for a damaged member
        raise error(f"{path}: damaged ({problem}); write it again") from problem


def _members(file: IO[bytes], path: Path, error: type[NpuloopError]) -> dict[str, Array]:
    limit = max_data_bytes()
    size = os.fstat(file.fileno()).st_size
    listed = _directory_bytes(file, size)
    if listed is None:
        raise error(f"{path}: not an .npz archive, or cut off; write it with numpy.savez")
    if size > limit or listed > MAX_DIRECTORY_BYTES:
        raise error(f"{path}: {size} bytes, {listed} of them a list of members; {_supported(limit)}")
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > limit:
            raise error(f"{path}: unpacks to {unpacked} bytes; {_supported(limit)}")
        arrays = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                raise error(f"{path}: member {name!r} is no array; write the file with numpy.savez")
            if member.compress_type not in _METHODS or member.flag_bits & _ENCRYPTED:
                raise error(f"{path}: member {name!r} is packed in another way than numpy.savez does")
            with archive.open(member) as content:
                arrays[name] = _array(content, member.file_size)
    return arrays


def _supported(limit: int) -> str:
    return f"up to {limit >> 20} MiB are supported, or as many as {MAX_DATA_VARIABLE} says"


def _directory_bytes(file: IO[bytes], size: int) -> int | None:
    """Return the bytes of an archive's list of members; None where there is none that is read."""
    start = max(0, size - _END.size - (1 << 16) - _LARGE_END_BYTES)
    file.seek(start)
    tail = file.read(size - start)
    place = len(tail) - _END.size
    if place < 0:
        return None
    if tail[place : place + 4] != _END_SIGN or tail[-2:] != b"\0\0":  # a comment follows
        place = tail.rfind(_END_SIGN)
        if place < 0 or place + _END.size > len(tail):
            return None
    if tail[max(0, place - _LARGE_END_BYTES) :].startswith(_LARGE_END_SIGN):  # more members than anyone has
        return MAX_DIRECTORY_BYTES + 1
    return int(_END.unpack_from(tail, place)[5])


def _array(file: IO[bytes], size: int) -> Array:
    """Return the array of an open `.npy` file of so many bytes.

    Raises:
        ValueError: the file is damaged.
        _PickledError: it holds Python objects.
    """
    shape, fortran, dtype, begin = _header(file)
    count = math.prod(shape)
    if begin + count * dtype.itemsize != size:
        raise ValueError(f"{size - begin} bytes of values, its header says {count} of {dtype.itemsize} bytes")
    array: Array = np.empty(count, dtype)
    view = array.view(np.uint8).data if array.nbytes else memoryview(b"")
    done = 0
    while done < len(view):
        part = file.read(min(_CHUNK, len(view) - done))
        if not part:
            raise ValueError("cut off")
        view[done : done + len(part)] = part
        done += len(part)
    if file.read(1):  # reaches the end, where the checksum is compared
        raise ValueError("longer than it says")
    return array.reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, order, element type and length of the header of a `.npy` file."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format; known are 1.0 and 2.0")
    shape, fortran, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise _PickledError
    if dtype.kind not in _KINDS or not dtype.itemsize:
        raise ValueError(f"elements of {str(dtype)[:80]}; supported are numbers and text")
    if any(length < 0 for length in shape):
        raise ValueError("a negative length")
    return tuple(shape), fortran, dtype, file.tell()


def read_array(path: Path, error: type[NpuloopError] = NpuloopError) -> Array:
    """Return the array of a `.npy` file; it stays in the file until it is used.

    Raises:
        error: a missing or damaged file, one that is too large, or another kind of file; naming it.
    """
    try:
        with open_regular(path, error) as file:
            return _mapped(file, path, error)
    except NpuloopError:
        raise
    except Exception as problem:  # noqa: BLE001  # numpy raises many types for a damaged header
        raise error(f"{path}: no .npy array ({problem}); write it with numpy.save") from None


def _mapped(file: IO[bytes], path: Path, error: type[NpuloopError]) -> Array:
    limit = max_data_bytes()
    size = os.fstat(file.fileno()).st_size
    if file.read(4) == b"PK\3\4":
        raise error(f"{path}: an archive of arrays; write one array with numpy.save")
    if size > limit:
        raise error(f"{path}: {size} bytes; {_supported(limit)}")
    file.seek(0)
    shape, fortran, dtype, begin = _header(file)
    if begin + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{size - begin} bytes of values do not make its shape")
    order: Any = "F" if fortran else "C"
    if begin == size:
        return np.empty(shape, dtype, order)
    return np.memmap(file, dtype, "r", begin, shape, order)


def write_npz(arrays: Mapping[str, Array], path: Path) -> None:
    """Write an `.npz` file so that `path` is either the old file or the whole new one, never a part.

    Raises:
        LayerFileError: the file cannot be written.
    """
    members: dict[str, Any] = dict(arrays)
    write_atomically(path, lambda file: np.savez_compressed(file, **members), LayerFileError)
