# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from common.errors import LayerFileError, NpuloopError
from common.files import MAX_YAML_BYTES, read_yaml, write_atomically, write_json


def test_a_file_is_written_into_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_atomically(path, lambda file: file.write(b"content"))
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), OSError("disk full")])
def test_what_cannot_be_written_leaves_the_old_file_alone(tmp_path: Path, problem: OSError) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fails(file: Any) -> None:
        file.write(b"half")
        raise problem

    with pytest.raises(LayerFileError) as caught:
        write_atomically(path, fails, LayerFileError)
    assert str(caught.value) == f"{path}: cannot be written ({problem.strerror or problem})"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_content_is_passed_on_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "file", lambda file: file.write(bytes([1 // 0])))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NpuloopError, match=r"file/below: cannot be written \("):
        write_json(tmp_path / "file" / "below", {})


def test_json_ends_with_a_line_and_reads_back(tmp_path: Path) -> None:
    document = {"cycles": 3, "names": ["a", "b"]}
    write_json(tmp_path / "file.json", document)
    text = (tmp_path / "file.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == document


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "key 'a' stands twice"),
        ("a: [1\n", "no valid YAML"),
        ("a: {b: 1, b: 2}\n", "key 'b' stands twice"),
        (f"a: {'[' * 10_000}", "no valid YAML"),
    ],
)
def test_yaml_that_is_wrong_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(LayerFileError, match=message) as caught:
        read_yaml(path, LayerFileError, "list of shapes")
    assert str(caught.value).startswith(f"{path}: no valid YAML")
    assert str(caught.value).endswith("write a list of shapes")


def test_a_yaml_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    with path.open("wb") as file:
        file.truncate(MAX_YAML_BYTES + 1)
    with pytest.raises(NpuloopError, match=rf"yaml: larger than {MAX_YAML_BYTES} bytes; this is no list"):
        read_yaml(path, NpuloopError, "list")


def test_a_yaml_file_that_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(NpuloopError, match=r"none\.yaml: no such file; check the path"):
        read_yaml(tmp_path / "none.yaml", NpuloopError, "list")
