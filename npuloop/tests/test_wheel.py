# SPDX-License-Identifier: Apache-2.0
"""What is installed: the wheel has what running needs, and runs from an empty folder with its own cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from common import paths
from common.paths import ROOT
from common.testing import data_dir, require
from hw.sources import TESTBENCH, rtl_sources
from hw.system import System
from tb.build import build

LEFT_BEHIND = (
    *(".git", ".venv", "sim_build", "data", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
    *("__pycache__", "*.egg-info", "build"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "checkout", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*pip, "--wheel-dir", str(folder), str(folder / "checkout")], folder)
    (built,) = folder.glob("npuloop-*.whl")
    return built


def run(command: Sequence[str], cwd: Path, **environment: str) -> str:
    """Return what a command prints that must succeed, without this checkout in its environment."""
    ours = ("NPULOOP_BUILD", "PYTHONPATH", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if name not in ours} | environment
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_what_running_needs_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {str(path.relative_to(ROOT)) for path in rtl_sources()} <= names
    assert {f"tb/sv/{name}" for name in (*TESTBENCH, "main.cpp")} <= names
    for folder, pattern in (
        ("mapping/cost_tables", "*.yaml"),
        ("golden/zoo", "*.npz"),
        ("mapping/scheduling/workloads", "*.yaml"),
        ("gates/libraries", "*"),
    ):
        files = {str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(pattern)}
        assert files
        assert files <= names
    assert "npuloop/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tb/blocks/", "tb/formal/"))]
    assert not [name for name in names if "/tests/" in name or Path(name).name.startswith("test_")]


@pytest.mark.rtl
def test_an_unpacked_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Its simulator has the same key as the checkout's, so that it is not built a second time here."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    empty, cache = tmp_path / "empty", tmp_path / "cache" / "npuloop"
    empty.mkdir()
    built = build(System()).folder
    shutil.copytree(built, cache / built.name)
    environment = {"PYTHONPATH": str(tmp_path / "site"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-P"] if sys.version_info >= (3, 11) else [sys.executable]
    said = run([*command, "-m", "npuloop", "run", "digits_ternary", "--unit", "npu_lb"], empty, **environment)
    assert "1 of 1 inputs equal" in said
    assert list(empty.iterdir()) == []
    assert (cache / "sessions").is_dir()
    assert [path.name for path in cache.iterdir() if path.is_dir() and path.name.startswith("fast-")] == [
        built.name
    ]


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.data
def test_a_clean_environment_runs_a_public_model(wheel: Path, tmp_path: Path) -> None:
    """As a stranger installs it: a new virtual environment, nothing of this one, a simulator built anew."""
    model = require(data_dir() / "models" / "pretrainedResnet_quant.tflite")
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    run([*install, str(wheel)], tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    npuloop = str(tmp_path / "venv" / "bin" / "npuloop")
    said = run([npuloop, "run", str(model)], empty, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "1 of 1 inputs equal" in said
    assert list(empty.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- folders
def test_builds_lie_in_the_checkout_or_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPULOOP_BUILD", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "CHECKOUT", True)
    assert paths.build_root() == tmp_path / "sim_build"
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)  # read-only
    assert paths.build_root() == tmp_path / "cache" / "npuloop"
    (tmp_path / "sim_build").mkdir()  # which alone can be written
    assert paths.build_root() == tmp_path / "sim_build"
    monkeypatch.setattr(paths, "CHECKOUT", False)
    assert paths.build_root() == tmp_path / "cache" / "npuloop"
    monkeypatch.setenv("NPULOOP_BUILD", str(tmp_path / "named"))
    assert paths.build_root() == tmp_path / "named"


def test_an_installed_one_looks_for_data_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NPULOOP_DATA", raising=False)
    monkeypatch.setattr(paths, "CHECKOUT", False)
    monkeypatch.chdir(tmp_path)
    assert paths.data_dir() == tmp_path / "data"
