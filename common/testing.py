# SPDX-License-Identifier: Apache-2.0
"""What tests of several packages use: where the reference data lies, and how to wait for other processes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.paths import data_dir

__all__ = ["NOTES", "alive", "data_dir", "eventually", "require", "vector_files"]

HELP = (
    "This folder holds data that is not part of the repository: the MLPerf Tiny models, and single-layer "
    "vectors in the layer file format, converted from CMSIS-NN's unit-test data (expected outputs by "
    "TensorFlow Lite's reference kernels). Put them into data/ in the checkout, or name their folder in "
    "NPULOOP_DATA."
)

NOTES = "NPULOOP_TEST_NOTES"
"""Environment variable: the folder in which jobs leave their marks."""


def require(path: Path) -> Path:
    """Return `path` if it exists; else skip the test, or fail it where CI is set."""
    if not path.exists():
        message = f"{path} is missing. {HELP}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def vector_files() -> list[Path]:
    """Return all layer vectors, sorted; none where the folder is missing."""
    return sorted((data_dir() / "vectors").glob("*/*.npz"))


def alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and is not yet collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def eventually(condition: Callable[[], bool]) -> bool:
    """Return whether a condition comes to hold; ten minutes or more are taken as never."""
    for _ in range(60_000):
        if condition():
            return True
        time.sleep(0.01)
    return False
