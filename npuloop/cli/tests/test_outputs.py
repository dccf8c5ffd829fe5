# SPDX-License-Identifier: Apache-2.0
"""Places of outputs are checked before the work, and numbers that make no sense are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from common.errors import NpuloopError
from common.files import check_output, check_output_folder, claimed, write_atomically
from npuloop.cli.main import app

FILES = [
    ("layer", "none.npz", "--json"),
    ("run", "none.npz", "--json"),
    ("run", "none.npz", "--output"),
    ("quantize", "none.npz", "--bits", "4"),
    ("accuracy", "none.npz", "--data", "digits", "--json"),
    ("measure", "--shapes", "none.yaml", "--out"),
    ("measure", "--shapes", "none.yaml", "--out", "m.csv", "--store"),
    ("compare", "--shapes", "none.yaml", "--out"),
    ("report", "--out"),
    ("sim", "--json"),
    ("soak", "--record"),
    ("area", "--json"),
    ("predict", "none.npz", "--json"),
    ("synth", "--out"),
    ("characterize-cells", "--out"),
]
FOLDERS = [
    ("layer", "none.npz", "--out"),
    ("map", "--out"),
    ("serve", "--out"),
    ("characterize-energy", "--out"),
]


def refusal(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(item) for item in arguments])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    return str(line)


@pytest.mark.parametrize("arguments", FILES, ids=" ".join)
def test_a_file_that_cannot_be_written_is_said_before_anything_is_read(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for place, reason in (
        (tmp_path / "file" / "below", "Not a directory"),
        ("/proc/none/file", "No such file or directory"),
        (tmp_path, "a folder"),
    ):
        assert refusal(*arguments, place).startswith(f"error: {place}: cannot be written ({reason}); ")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("arguments", FOLDERS, ids=" ".join)
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_read(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", "/proc/none"):
        assert refusal(*arguments, place).startswith(f"error: {place}: cannot be written (")


def test_a_place_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "er" / "file")
    check_output_folder(tmp_path / "new")
    (tmp_path / "there").write_text("old")
    check_output(tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "old"


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "digits_int8", "--seed"),
        ("run", "digits_int8", "--backpressure"),
        ("layer", "x.npz", "--backpressure"),
        ("soak", "--seed"),
        ("soak", "--count"),
        ("map", "--seeds"),
        ("serve", "--seed"),
        ("serve", "--seeds"),
        ("measure", "--shapes", "x", "--out", "y", "--workers"),
    ],
    ids=" ".join,
)
def test_seeds_and_numbers_out_of_range_are_refused(arguments: tuple[str, ...]) -> None:
    for value in ("-1", "1.5", "9" * 30 if arguments[-1] != "--count" else "0"):
        done = CliRunner().invoke(app, [*arguments, value])
        assert done.exit_code == 2
        assert f"Invalid value for '{arguments[-1]}'" in done.stderr


def test_one_run_at_a_time_has_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    with claimed(folder):
        with (
            pytest.raises(NpuloopError, match="another run writes into it; wait for its end"),
            claimed(folder),
        ):
            pass
        with claimed(tmp_path):
            pass
    with claimed(folder):
        assert list(folder.iterdir()) == []
    with pytest.raises(NpuloopError, match="cannot be written"), claimed(Path("/proc/none")):
        pass


def test_what_a_killed_run_has_left_of_a_file_goes_with_the_next(tmp_path: Path) -> None:
    import os
    import subprocess

    gone = subprocess.Popen(["true"])
    gone.wait()
    dead, alive = f".r.json-{gone.pid}-abc_1.partial", f".r.json-{os.getpid()}-abc_1.partial"
    others = [alive, f".other.json-{gone.pid}-abc.partial", f".r.json-{gone.pid}-abc.txt"]
    for name in (dead, *others):
        (tmp_path / name).touch()
    write_atomically(tmp_path / "r.json", lambda file: file.write(b"{}"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "r.json"])
    long: Any = tmp_path / ("x" * 250)
    write_atomically(long, lambda file: file.write(b"{}"))
    assert long.exists()
