# SPDX-License-Identifier: Apache-2.0
"""Folders of runs that were killed go with the next run; those of living runs stay."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from common.errors import TestbenchError
from hw.system import PRESETS, System
from tb import build as building
from tb.build import BuildError, build
from tb.leftovers import clean_up, locked
from tb.plain_names import PlainNames, is_plain
from tb.session import Session


def test_a_killed_runs_folders_are_removed_and_a_living_ones_stay(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    own = os.getpid()
    stays = [f"sessions/{own}-0-abc", f"raw-{own}-x", "sessions/other", "fast-1", "held.partial"]
    goes = [f"sessions/{gone.pid}-0-abc", f"raw-{gone.pid}-x", "fast-2.partial", "half.partial"]
    for name in [*stays, *goes]:
        (tmp_path / name / "obj").mkdir(parents=True)
    (tmp_path / "fast-2.lock").touch()
    with locked(tmp_path / "held.lock"):
        clean_up(tmp_path)
    assert all((tmp_path / name).is_dir() for name in stays)
    assert not any((tmp_path / name).exists() for name in goes)


@pytest.mark.parametrize(
    "name", ["a b", 'it"s', "it's", "ü", "a$b", "a#b", "a(b)", "a\nb", "a;b", "a\udcffb"]
)
def test_every_path_has_a_plain_name_that_leads_to_it(name: str, tmp_path: Path) -> None:
    odd = tmp_path / name
    odd.mkdir()
    (odd / "file").write_text("content")
    assert not is_plain(odd)
    with PlainNames() as plain:
        named = plain.name(odd)
        assert is_plain(named)
        assert plain.name(odd) == named
        assert (named / "file").read_text() == "content"
        work = plain.folder(odd / "work")
        assert is_plain(work.resolve())
        assert work.is_dir()
    assert not named.exists()
    assert not work.exists()
    assert (odd / "file").exists()


def test_plain_paths_stay_as_they_are(tmp_path: Path) -> None:
    with PlainNames() as plain:
        assert plain.name(tmp_path) == tmp_path
        assert plain.folder(tmp_path / "obj") == tmp_path / "obj"
    assert (tmp_path / "obj").is_dir()


@pytest.mark.parametrize("place", ["/dev/null/builds", "/proc/builds"])
def test_a_folder_of_builds_that_cannot_be_used_is_one_error(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPULOOP_BUILD", place)
    with pytest.raises(
        BuildError, match=rf"{place}: cannot be used for builds \(.*name another folder in NPUL"
    ):
        build(System())
    with pytest.raises(TestbenchError, match=rf"{place}/sessions: cannot be used for sessions"):
        Session._make_folder()


def test_a_disk_that_fills_up_in_a_build_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(command: list[str], output: object, **_: object) -> int:
        output.write(b"cc1plus: fatal error: No space left on device\n")  # type: ignore[attr-defined]
        output.flush()  # type: ignore[attr-defined]
        return 1

    monkeypatch.setenv("NPULOOP_BUILD", str(tmp_path))
    monkeypatch.setattr(building, "run_group", full)
    with pytest.raises(
        BuildError, match=r"No space left on device\); make room on its disk, or name another"
    ):
        build(PRESETS["npu8"])
