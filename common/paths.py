"""Folders: the checkout, everything generated, and reference data."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def build_root() -> Path:
    """Return the folder of everything generated: `sim_build`, or what NPULOOP_BUILD names."""
    return Path(os.environ.get("NPULOOP_BUILD") or ROOT / "sim_build").resolve()


def data_dir() -> Path:
    """Return the folder of reference data, which may be missing.

    It holds public models, vectors and inputs that are not part of this repository: the folder that
    NPULOOP_DATA names, else `data` in the checkout, else `shared/data` beside it.
    """
    named = os.environ.get("NPULOOP_DATA")
    if named:
        return Path(named)
    inside = ROOT / "data"
    return inside if inside.is_dir() else ROOT.parent / "shared" / "data"
