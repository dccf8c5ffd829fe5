# SPDX-License-Identifier: Apache-2.0
"""Says what this machine lacks to build and run the project, and how to get it.

Needs nothing but Python (3.7 or later): it has to run before anything is installed.

    python3 tb/doctor.py            check everything
    python3 tb/doctor.py --quick    check what is required, print problems only
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MIN_PYTHON = (3, 10)
INSTALL_GIB, BUILDS_GIB = 7, 1
ROOT = Path(__file__).resolve().parents[1]
CHECKOUT = (ROOT / "pyproject.toml").exists()


class Need(NamedTuple):
    """Something to look for.

    Attributes:
        what: what it is.
        found: what is there, None where it is missing.
        package: the package of Debian and Ubuntu that has it; empty where none does.
        hint: what to do where the package is not the answer, or not all of it.
    """

    what: str
    found: str | None
    package: str = ""
    hint: str = ""


def compiles(source: str, *flags: str) -> str | None:
    """Return g++'s path if it is there and accepts a C++ source."""
    try:
        done = subprocess.run(
            ["g++", "-fsyntax-only", "-x", "c++", *flags, "-"],
            input=source.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return None
    return shutil.which("g++") if done.returncode == 0 else None


def pip_for_venv() -> str | None:
    """Return the pip that a virtual environment gets, None if none can be made (Debian splits it off)."""
    try:
        import ensurepip
        import venv  # noqa: F401  # that it is there is the question
    except ImportError:
        return None
    return f"pip {ensurepip.version()}"


def libpython() -> str | None:
    """Return the path of Python's shared library, which the simulator loads, or None."""
    names = [str(sysconfig.get_config_var(key) or "") for key in ("INSTSONAME", "LDLIBRARY")]
    folders = [str(sysconfig.get_config_var(key) or "") for key in ("LIBDIR", "LIBPL")]
    folders.append(sys.base_prefix + "/lib")
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        folders.append("/usr/lib/" + multiarch)
    for folder in filter(None, folders):
        for name in filter(None, names):
            path = Path(folder) / name
            if ".so" in name and path.exists():
                return str(path)
    return None


def writes(folder: str) -> bool:
    """Return whether files can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def build_parent() -> Path:
    """Return the folder in which builds are kept, or the nearest above it that is there.

    It is the folder of `common.paths.build_root`, which needs more than Python.
    """
    folder = Path(os.environ.get("NPULOOP_BUILD") or (ROOT if CHECKOUT and writes(str(ROOT)) else cache()))
    while not folder.exists():
        folder = folder.parent
    return folder.resolve()


def cache() -> Path:
    """Return the user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def required() -> Iterator[Need]:
    """Yield everything that is needed."""
    version = ".".join(map(str, sys.version_info[:3]))
    needed = ".".join(map(str, MIN_PYTHON))
    yield Need(
        f"Python {needed} or later",
        version if sys.version_info >= MIN_PYTHON else None,
        "python3",
        f"this is {version}; say which one to use: make PYTHON=/path/to/python{needed}",
    )
    yield Need("Python's venv and pip", pip_for_venv(), "python3-venv")
    yield Need(
        "Python's shared library",
        libpython(),
        "libpython3-dev",
        "pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install ...",
    )
    yield Need(
        "g++ with C++20",
        compiles("#include <concepts>\n#include <span>\n", "-std=c++20"),
        "g++",
        "10 or later",
    )
    yield Need("make", shutil.which("make"), "make")
    yield Need("perl (for Verilator)", shutil.which("perl"), "perl")
    builds = build_parent()
    yield Need(
        "a folder for builds",
        str(builds) if writes(str(builds)) else None,
        hint=f"{builds} cannot be written; NPULOOP_BUILD names another folder",
    )
    divided = [str(path) for path in (ROOT, builds) if set(":;\n") & set(str(path))]
    yield Need(
        "paths without : and ;",
        None if divided else "yes",
        hint=f"lists of paths cannot hold {' and '.join(divided)}",
    )
    free = shutil.disk_usage(str(builds)).free / 2**30
    needed_gib = BUILDS_GIB if not CHECKOUT or (ROOT / ".venv").exists() else BUILDS_GIB + INSTALL_GIB
    yield Need(
        f"{needed_gib} GiB of free disk",
        f"{free:.0f} GiB" if free >= needed_gib else None,
        hint=f"{free:.1f} GiB are free; the virtual environment takes 2 to 7, builds 1",
    )


def optional() -> Iterator[Need]:
    """Yield what is only nice to have."""
    yield Need(
        "lz4 and zlib headers",
        compiles("#include <lz4.h>\n#include <zlib.h>\n"),
        "liblz4-dev zlib1g-dev",
        "for FST traces; without them traces are VCD",
    )
    for program, package in (("iverilog", "iverilog"), ("ngspice", "ngspice"), ("sta", "opensta")):
        yield Need(program, shutil.which(program), package, "for gate-level work; `make gates` installs it")
    yield Need(
        "a wave viewer",
        shutil.which("surfer") or shutil.which("gtkwave"),
        "gtkwave",
        "or https://surfer-project.org",
    )


def row(state: str, need: Need) -> str:
    """Return a line of the table; where something is missing, the hint takes the place of what was found."""
    return f"{state:8}  {need.what:23}  {need.package:21}  {need.found or need.hint}".rstrip()


def main() -> int:
    """Print the findings; return 1 if something required is missing."""
    quick = "--quick" in sys.argv[1:]
    needs = list(required())
    missing = [need for need in needs if need.found is None]
    if missing or not quick:
        print(f"{'':8}  {'needed':23}  {'Debian package':21}  found")
    for need in missing if quick else needs:
        print(row("MISSING" if need.found is None else "ok", need))
    if not quick:
        for need in optional():
            print(row("optional" if need.found is None else "ok", need))
    if missing:
        packages = " ".join(need.package for need in missing if need.package)
        print(f"\n{len(missing)} required thing{'' if len(missing) == 1 else 's'} missing")
        if packages:
            print(f"On Debian and Ubuntu: sudo apt-get install {packages}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
