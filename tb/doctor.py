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

MIN_PYTHON = (3, 10)
MIN_DISK_GIB = 8


def debian(packages: str) -> str:
    """Return the command that installs packages on Debian and Ubuntu."""
    return f"sudo apt-get install {packages}"


def compiles(source: str, *flags: str) -> bool:
    """Return whether g++ accepts a C++ source."""
    try:
        done = subprocess.run(
            ["g++", "-fsyntax-only", "-x", "c++", *flags, "-"],
            input=source.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def has_venv() -> bool:
    """Return whether a virtual environment with pip can be made."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def libpython() -> str | None:
    """Return the path of Python's shared library, which the simulator loads, or None."""
    names = {str(sysconfig.get_config_var(key) or "") for key in ("LDLIBRARY", "INSTSONAME")}
    folders = [str(sysconfig.get_config_var(key) or "") for key in ("LIBDIR", "LIBPL")]
    folders += [os.path.join(sys.base_prefix, "lib")]  # noqa: PTH118
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        folders.append("/usr/lib/" + multiarch)
    for folder in filter(None, folders):
        for name in filter(None, names):
            path = os.path.join(folder, name)  # noqa: PTH118
            if ".so" in name and os.path.exists(path):  # noqa: PTH110
                return path
    return None


def writes(folder: str) -> bool:
    """Return whether files can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def required() -> Iterator[tuple[str, bool, str]]:
    """Yield (name, whether it is there, what to do otherwise) of everything that is needed."""
    version = ".".join(map(str, sys.version_info[:3]))
    needed = ".".join(map(str, MIN_PYTHON))
    yield (
        f"Python {needed} or later (this is {version})",
        sys.version_info >= MIN_PYTHON,
        "install it and say which one to use: make PYTHON=/path/to/python" + needed,
    )
    yield "Python's venv and pip", has_venv(), debian("python3-venv")
    yield (
        "Python's shared library (libpython)",
        libpython() is not None,
        debian("libpython3-dev") + "; with pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install ...",
    )
    yield (
        "g++ with C++20",
        compiles("#include <concepts>\n#include <span>\n", "-std=c++20"),
        debian("g++") + " (version 10 or later)",
    )
    yield "make", shutil.which("make") is not None, debian("make")
    yield "perl (Verilator's front end)", shutil.which("perl") is not None, debian("perl")
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    yield "a writable checkout", writes(here), "check the owner of " + here
    yield (
        "a checkout path without spaces",
        " " not in here,
        "Verilator's makefiles cannot cope with spaces: move the checkout",
    )
    free = shutil.disk_usage(here).free / 2**30
    yield (
        f"{MIN_DISK_GIB} GiB of free disk ({free:.0f} here)",
        free >= MIN_DISK_GIB or os.path.exists(os.path.join(here, ".venv")),  # noqa: PTH110, PTH118
        "free some: the virtual environment takes 2 to 7 GiB, builds 1",
    )


def optional() -> Iterator[tuple[str, bool, str]]:
    """Yield the same of what is only nice to have."""
    yield (
        "lz4 and zlib headers (FST traces; without them traces are VCD)",
        compiles("#include <lz4.h>\n#include <zlib.h>\n"),
        debian("liblz4-dev zlib1g-dev"),
    )
    yield (
        "a wave viewer (surfer or gtkwave)",
        any(shutil.which(name) for name in ("surfer", "gtkwave")),
        debian("gtkwave") + ", or https://surfer-project.org",
    )


def main() -> int:
    """Print the findings; return 1 if something required is missing."""
    quick = "--quick" in sys.argv[1:]
    missing = 0
    for name, there, remedy in required():
        missing += not there
        if not there or not quick:
            print(f"{'ok' if there else 'MISSING':8} {name}")
        if not there:
            print("         " + remedy)
    if not quick:
        for name, there, remedy in optional():
            print(f"{'ok' if there else 'optional':8} {name}")
            if not there:
                print("         " + remedy)
    if missing:
        print(f"{missing} required thing{'' if missing == 1 else 's'} missing")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
