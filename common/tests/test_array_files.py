# SPDX-License-Identifier: Apache-2.0
"""Archives that claim much: nothing is taken before the claim is compared with the file."""

from __future__ import annotations

import io
import resource
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.array_files import MAX_DIRECTORY_BYTES, read_array, read_npz, write_npz
from common.errors import LayerFileError, NpuloopError
from common.files import MAX_DATA_VARIABLE

PEAK_BYTES = 8 << 20
"""What refusing a file may take."""


def header(shape: tuple[int, ...], dtype: str = "|i1") -> bytes:
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, {"descr": dtype, "fortran_order": False, "shape": shape})
    return text.getvalue()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def refusal(path: Path, read: Any = read_npz) -> str:
    tracemalloc.start()
    try:
        with pytest.raises(NpuloopError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < PEAK_BYTES
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_what_is_written_reads_back_in_every_order_and_type(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "a": np.arange(24, dtype=np.int8).reshape(2, 3, 4),
        "b": np.asfortranarray(np.arange(12, dtype=np.float64).reshape(3, 4)),
        "c": np.array("text µ"),
        "d": np.zeros((0, 3), np.int32),
        "e": np.array(7),
        "f": np.array([True, False]),
    }
    path = tmp_path / "new" / "x.npz"
    write_npz(arrays, path)
    back = read_npz(path)
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MAX_DATA_VARIABLE, "1")
    bomb = header((2 << 20,)) + bytes(2 << 20)
    path = archive(tmp_path / "bomb.npz", {"a.npy": bomb})
    assert path.stat().st_size < 10_000
    assert "unpacks to 2097" in refusal(path)
    assert "up to 1 MiB are supported, or as many as NPULOOP_MAX_FILE_MIB says" in refusal(path)
    monkeypatch.setenv(MAX_DATA_VARIABLE, "3")
    assert read_npz(path)["a"].nbytes == 2 << 20
    for text in ("0", "-1", "many", "9" * 30):
        monkeypatch.setenv(MAX_DATA_VARIABLE, text)
        with pytest.raises(NpuloopError, match=r"NPULOOP_MAX_FILE_MIB is .*; give a number of MiB"):
            read_npz(path)


def test_a_member_that_claims_another_size_in_the_list_is_damaged(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", {"a.npy": header((64,)) + bytes(64)})
    data = bytearray(path.read_bytes())
    place = data.rfind(b"PK\1\2") + 24  # bytes that it unpacks to, in the list of members
    assert struct.unpack_from("<I", data, place)[0] == len(header((64,))) + 64
    struct.pack_into("<I", data, place, 1 << 27)
    path.write_bytes(data)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 20, 1 << 20), (10**30,), (65,), (63,), (-1,)])
def test_a_shape_that_its_values_do_not_make_is_damaged(shape: tuple[int, ...], tmp_path: Path) -> None:
    assert "damaged" in refusal(archive(tmp_path / "x.npz", {"a.npy": header(shape) + bytes(64)}))
    path = tmp_path / "x.npy"
    path.write_bytes(header(shape) + bytes(64))
    assert "no .npy array" in refusal(path, read_array)


def test_lists_of_members_without_end_are_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", {"a.npy": header((1,)) + b"1"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, len(data) - 10, MAX_DIRECTORY_BYTES + 1)
    path.write_bytes(data)
    assert f"{MAX_DIRECTORY_BYTES + 1} of them a list of members" in refusal(path)
    large = data[:-22] + b"PK\6\7" + bytes(16) + data[-22:]  # the end of an archive of more than 4 GiB
    path.write_bytes(large)
    assert "of them a list of members" in refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_packed_in_other_ways_are_refused(method: int, tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", {"a.npy": header((64,)) + bytes(64)}, method)
    assert "packed in another way" in refusal(path)


@pytest.mark.parametrize("dtype", ["|O", "|V8", "<M8[s]", "<U0", "<c16"])
def test_elements_other_than_numbers_and_text_are_refused(dtype: str, tmp_path: Path) -> None:
    text = refusal(archive(tmp_path / "x.npz", {"a.npy": header((1,), dtype) + bytes(8)}))
    assert ("pickled" in text) == (dtype == "|O")


def test_devices_pipes_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    import os

    pipe = tmp_path / "pipe.npz"
    os.mkfifo(pipe)
    for path, what in ((pipe, "a pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "a folder")):
        for read in (read_npz, read_array):
            with pytest.raises(NpuloopError, match=f"cannot be read \\({what}\\); give a file"):
                read(path)


def test_a_sparse_file_of_a_terabyte_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        file.write(header((1 << 40,)))
        file.truncate(len(header((1 << 40,))) + (1 << 40))
    assert "1099511627904 bytes; up to 256 MiB" in refusal(path, read_array)
    path.rename(tmp_path / "x.npz")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LayerFileError):
        read_npz(tmp_path / "x.npz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < PEAK_BYTES >> 10
