# SPDX-License-Identifier: Apache-2.0
"""Folders: the checkout, everything generated, and reference data."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds the packages and `rtl`: a checkout, or where npuloop is installed."""
CHECKOUT = (ROOT / "pyproject.toml").exists()
"""Whether npuloop runs from a checkout."""


def build_root() -> Path:
    """Return the folder of everything generated.

    It is the folder that NPULOOP_BUILD names, else `sim_build` in a checkout. An installed npuloop, and a
    checkout that cannot be written, use the user's cache.
    """
    named = os.environ.get("NPULOOP_BUILD")
    if named:
        return Path(named).resolve()
    inside = ROOT / "sim_build"
    if CHECKOUT and os.access(inside if inside.exists() else ROOT, os.W_OK):
        return inside
    return platformdirs.user_cache_path("npuloop")


def data_dir() -> Path:
    """Return the folder of reference data, which may be missing.

    It holds public models, vectors and inputs that are not part of this repository: the folder that
    NPULOOP_DATA names, else `data` in the checkout, else `shared/data` beside it. An installed npuloop looks
    for `data` where it runs.
    """
    named = os.environ.get("NPULOOP_DATA")
    if named:
        return Path(named)
    inside = (ROOT if CHECKOUT else Path.cwd()) / "data"
    return inside if inside.is_dir() or not CHECKOUT else ROOT.parent / "shared" / "data"
