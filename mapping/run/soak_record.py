# SPDX-License-Identifier: Apache-2.0
"""A file of soaks that were run: each with its command, what was compared, and of which RTL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from common.errors import NpuloopError
from common.files import read_yaml, write_atomically
from hw.sources import rtl_hash
from mapping.run.soak import SoakResult

HEAD = """\
# Soaks of the RTL that were run, added by `npuloop soak --record FILE`: values are output values that were
# compared with the golden model bit for bit, and rtl_sha256 is the hash of the RTL that ran.
"""


class SoakRecordError(NpuloopError):
    """A record of soaks that cannot be read or written."""


def read_soaks(path: Path) -> list[Mapping[str, Any]]:
    """Return the soaks of a record, oldest first; none if the file is not there.

    Raises:
        SoakRecordError: it is no record of soaks.
    """
    if not path.exists():
        return []
    document = read_yaml(path, SoakRecordError, "record of soaks")
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise SoakRecordError(f"{path}: no record of soaks, which is a list; give another file to --record")
    return document


def record_soak(path: Path, command: str, result: SoakResult, seconds: float) -> None:
    """Add a soak to a record; one of the same command and the same RTL is replaced.

    Args:
        path: the record, which is made if it is not there.
        command: that repeats the soak.
        result: what came of it.
        seconds: wall time.

    Raises:
        SoakRecordError: the file is no record, or cannot be written.
    """
    entry = {
        "command": command,
        "date": date.today().isoformat(),  # noqa: DTZ011  # a day, where it is run
        "runs": result.runs,
        "cycles": result.cycles,
        "values": result.values,
        "wrong": result.wrong,
        "failed_runs": len(result.failures),
        "seconds": round(seconds),
        "rtl_sha256": rtl_hash(),
    }
    same = ("command", "rtl_sha256")
    kept = [old for old in read_soaks(path) if any(old.get(key) != entry[key] for key in same)]
    body = yaml.safe_dump([*map(dict, kept), entry], sort_keys=False, width=200)
    write_atomically(path, lambda file: file.write((HEAD + body).encode()), SoakRecordError)
