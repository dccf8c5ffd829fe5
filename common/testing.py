"""Where the reference data lies, and what to do without it."""

import os
from pathlib import Path

import pytest

from common.paths import data_dir

__all__ = ["data_dir", "require", "vector_files"]

HELP = (
    "This folder holds data that is not part of the repository: the MLPerf Tiny models, and single-layer "
    "vectors in the layer file format, converted from CMSIS-NN's unit-test data (expected outputs by "
    "TensorFlow Lite's reference kernels). Set NPULOOP_DATA to a folder that has them."
)


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
