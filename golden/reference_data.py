"""Where reference data lies: public models, vectors and inputs that are not part of this repository."""

import os
from pathlib import Path


def data_dir() -> Path:
    """The reference data folder: NPULOOP_DATA, or ../shared/data beside the repository. It may be missing."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    return Path(os.environ.get("NPULOOP_DATA", default))
