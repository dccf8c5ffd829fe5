# SPDX-License-Identifier: Apache-2.0
"""The store of measurements: a file to which lines are only ever appended, by any number of processes.

One line is one measurement as JSON, with the format's number and a checksum. A kill in the middle of an
append leaves the beginning of a line. It was never reported as stored; it is set aside: readers skip it, and
the next append ends it with `CUT`, by which it is known from then on. If only the line's end is missing, the
measurement counts, and the next append adds the end. Any other line that is not as it was written is an
error.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import NpuloopError
from common.paths import build_root
from mapping.calibration.measurement import Measurement

SCHEMA = 1
HEAD = b'{"schema": '
MAX_STORE_BYTES = 1 << 28
CUT = b"#cut"
"""Ends a line that a kill has cut off; a whole line ends in a brace."""


class StoreError(NpuloopError):
    """A store that cannot be read or written, or that something else than this module has changed."""


def default_path() -> Path:
    """Return the store that commands use: beside the builds."""
    return build_root() / "measurements.jsonl"


def _text(entry: dict[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True)


def _line(measurement: Measurement) -> bytes:
    entry = measurement.entry()
    head = {"schema": SCHEMA, "sha": _checksum(entry)}
    return (json.dumps(head)[:-1] + ", " + _text(entry)[1:]).encode()


def _checksum(entry: dict[str, Any]) -> str:
    return hashlib.sha256(_text({"schema": SCHEMA, **entry}).encode()).hexdigest()[:16]


class _NewerError(ValueError):
    """A line of a later format."""


def _parse(line: bytes) -> Measurement:
    """Return a line's measurement.

    Raises:
        ValueError: the line is no measurement.
        ShapeError: its shape is none.
    """
    entry = json.loads(line)
    schema = entry.pop("schema", None) if isinstance(entry, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise _NewerError(schema)
    if schema != SCHEMA or entry.pop("sha", None) != _checksum(entry):
        raise ValueError("its checksum is another")
    return Measurement.from_entry(entry)


class Store:
    """The measurements of a file, by key. A file that does not exist is an empty store until the first `add`.

    Of several lines with one key the first counts. A measurement whose setup or commands are no longer what
    they were stays in the file; its key is asked for no more.

    Args:
        path: the file.

    Raises:
        StoreError: the file cannot be read, or a line is damaged; naming the line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._measurements: dict[str, Measurement] = {}
        self._offset = 0
        self._lines = 0
        self.refresh()

    def __len__(self) -> int:
        return len(self._measurements)

    def __iter__(self) -> Iterator[Measurement]:
        return iter(list(self._measurements.values()))

    def get(self, key: str) -> Measurement | None:
        """Return the measurement of a key, if this store has read it."""
        return self._measurements.get(key)

    def refresh(self) -> None:
        """Read what others have appended."""
        try:
            with self._open(os.O_RDONLY, fcntl.LOCK_SH) as handle:
                self._read(handle)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read ({error.strerror})") from None

    def add(self, measurement: Measurement) -> None:
        """Append a measurement, unless its key is there. It is on the disk when this returns.

        Raises:
            StoreError: the file cannot be written, or has been damaged.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._open(os.O_RDWR | os.O_APPEND | os.O_CREAT, fcntl.LOCK_EX) as handle:
                end = self._read(handle)
                if measurement.key in self._measurements:
                    return
                data = end + _line(measurement) + b"\n"
                written = os.write(handle, data)
                os.fsync(handle)
                self._read(handle)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written ({error.strerror})") from None
        if written != len(data):
            raise StoreError(
                f"{self.path}: {written} of {len(data)} bytes were written; make room on the disk and repeat"
            )

    @contextmanager
    def _open(self, flags: int, lock: int) -> Iterator[int]:
        handle = os.open(self.path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_STORE_BYTES:
                raise StoreError(
                    f"{self.path}: cannot be read: no regular file, or larger than "
                    f"{MAX_STORE_BYTES >> 20} MiB; name another store"
                )
            fcntl.flock(handle, lock)
            yield handle
        finally:
            os.close(handle)

    def _read(self, handle: int) -> bytes:
        """Take in the lines that are new; return what ends a last line that a kill has cut off."""
        if os.fstat(handle).st_size < self._offset:
            raise StoreError(f"{self.path}: was cut while in use; put the old file back, or start again")
        with open(handle, "rb", closefd=False) as file:
            file.seek(self._offset)
            *lines, rest = file.read().split(b"\n")
        for line in lines:
            if not line.endswith(CUT):
                self._take(line)
            self._lines += 1
            self._offset += len(line) + 1
        if not rest:
            return b""
        try:
            json.loads(rest)
        except ValueError:
            if rest.startswith(HEAD[: len(rest)]):
                return CUT + b"\n"
        self._take(rest)
        return b"\n"

    def _take(self, line: bytes) -> None:
        where = f"{self.path}, line {self._lines + 1}"
        try:
            measurement = _parse(line)
        except _NewerError as error:
            raise StoreError(
                f"{where}: of schema {error}, this npuloop reads {SCHEMA}; update it, or name another store"
            ) from None
        except (ValueError, NpuloopError) as error:
            raise StoreError(
                f"{where}: damaged ({error}); restore the file from a copy, or delete the line: what it "
                "held is measured again"
            ) from None
        self._measurements.setdefault(measurement.key, measurement)
