# SPDX-License-Identifier: Apache-2.0
"""Measured requests on their way: a file to which a line is appended as each ends in RTL.

A kill leaves whole lines, and perhaps the beginning of one: that is cut off when the file is opened again.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.files import MAX_TEXT_BYTES, open_regular, read_bytes
from mapping.scheduling.simulate import Span
from mapping.scheduling.workload import WorkloadError


@dataclass(frozen=True)
class Row:
    """A request that has ended in RTL.

    Attributes:
        number: its number.
        spans: when its sections ran, in their order.
        exact: whether its outputs were equal to the golden model's.
        failure: what kept it from ending well; empty if it did.
    """

    number: int
    spans: tuple[Span, ...]
    exact: bool
    failure: str = ""

    @property
    def end(self) -> float:
        """Cycle of its last interrupt."""
        return self.spans[-1].end


class Journal:
    """The rows of a file, by the requests' numbers; of several rows of a request the last counts.

    Args:
        path: the file; it need not be there.

    Raises:
        WorkloadError: the file cannot be read, or a line before the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[int, Row] = {}
        if path.exists():
            self._read()

    def add(self, row: Row) -> None:
        """Append a row. A kill of this process leaves it in the file.

        Raises:
            WorkloadError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                file.write(_line(asdict(row)))
        except OSError as problem:
            raise WorkloadError(f"{self.path}: cannot be written ({problem.strerror or problem})") from None
        self.rows[row.number] = row

    def _read(self) -> None:
        *lines, rest = read_bytes(self.path, 16 * MAX_TEXT_BYTES, WorkloadError, "journal").split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                row = _row(line)
            except (ValueError, TypeError, KeyError, AttributeError):
                if number < len(lines) or rest:
                    raise WorkloadError(
                        f"{self.path}, line {number}: damaged; remove the folder, or choose another --out"
                    ) from None
                rest = line + b"\n"
                break
            self.rows[row.number] = row
        if rest:
            with open_regular(self.path, WorkloadError) as file:
                size = os.fstat(file.fileno()).st_size
            os.truncate(self.path, size - len(rest))


def _line(entry: dict[str, Any]) -> bytes:
    return (json.dumps(entry | {"sha": _checksum(entry)}) + "\n").encode()


def _checksum(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16]


def _row(line: bytes) -> Row:
    entry = json.loads(line)
    if entry.pop("sha", None) != _checksum(entry):
        raise ValueError("its checksum is another")
    return Row(**entry | {"spans": tuple(Span(**span) for span in entry["spans"])})
