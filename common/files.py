# SPDX-License-Identifier: Apache-2.0
"""Files: read within bounds and without surprises, written whole or not at all.

What a file claims never decides what is taken: files that are not regular (folders, pipes, devices) are
refused, and a reader says how many bytes a file of its kind may have before it reads them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from common.errors import NpuloopError
from common.processes import is_running
from common.yaml_text import parse_yaml

MAX_TEXT_BYTES = 16 << 20
"""Most bytes of a text file that programs write, such as a study."""
MAX_YAML_BYTES = 4 << 20
MAX_DATA_MIB = 256
"""Most MiB of a file of arrays or a model, and of what it unpacks to, unless MAX_DATA_VARIABLE says more."""
MAX_DATA_VARIABLE = "NPULOOP_MAX_FILE_MIB"
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_PARTIAL = re.compile(r"-(\d+)-\w+\.partial")
_MAX_NAME = 100
"""Most characters of a file's name in that of its temporary file."""


# -------------------------------------------------------------------------------------------------- reading
def max_data_bytes() -> int:
    """Return the most bytes that a file of arrays or a model may have, packed or unpacked.

    Raises:
        NpuloopError: the environment variable is no number of MiB.
    """
    text = os.environ.get(MAX_DATA_VARIABLE) or str(MAX_DATA_MIB)
    if not text.isdecimal() or not 1 <= int(text[:10]) <= 1 << 20:
        raise NpuloopError(
            f"{MAX_DATA_VARIABLE} is {text[:40]!r}; give a number of MiB, such as {MAX_DATA_MIB}"
        )
    return int(text) << 20


@contextlib.contextmanager
def open_regular(path: Path, error: type[NpuloopError]) -> Iterator[IO[bytes]]:
    """Open a regular file for reading; nothing else is waited for or read.

    Raises:
        error: there is no such file, it is a folder, a pipe or a device, or it cannot be read.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            kind = next((name for test, name in _KINDS if test(mode)), "")
            if kind:
                raise error(f"{path}: cannot be read ({kind}); give a file")
            yield file
    except FileNotFoundError:
        raise error(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise error(f"{path}: cannot be read (a folder); give a file") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem}); check the path") from None


def read_bytes(path: Path, limit: int, error: type[NpuloopError], kind: str) -> bytes:
    """Return the content of a file.

    Args:
        path: the file.
        limit: most bytes that it may have; more are not read.
        error: what is raised where it cannot be read, naming the file.
        kind: what the file should be, for the message.
    """
    with open_regular(path, error) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1) if size <= limit else b""  # takes as much memory as it may read
    if max(size, len(data)) > limit:
        raise error(f"{path}: larger than {limit} bytes; this is no {kind}")
    return data


def read_text(path: Path, error: type[NpuloopError], kind: str, limit: int = MAX_TEXT_BYTES) -> str:
    """Return the UTF-8 text of a file; arguments are those of `read_bytes`."""
    try:
        return read_bytes(path, limit, error, kind).decode()
    except UnicodeDecodeError as problem:
        raise error(f"{path}: no text in UTF-8 ({problem.reason}); write a {kind}") from None


def read_json(path: Path, error: type[NpuloopError], kind: str, limit: int = MAX_TEXT_BYTES) -> Any:
    """Return the document of a JSON file; arguments are those of `read_bytes`."""
    data = read_bytes(path, limit, error, kind)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: damaged, no valid JSON ({problem}); write a {kind}") from None


def read_yaml(path: Path, error: type[NpuloopError], kind: str) -> Any:
    """Return the document of a YAML file, in which no key may stand twice.

    Args:
        path: the file.
        error: what is raised where it cannot be read, naming the file.
        kind: what the file should be, for the message.
    """
    text = read_text(path, error, kind, MAX_YAML_BYTES)
    try:
        return parse_yaml(text)
    except ValueError as problem:
        raise error(f"{path}: no valid YAML ({problem}); write a {kind}") from None


# -------------------------------------------------------------------------------------------------- writing
def check_output(path: Path, error: type[NpuloopError] = NpuloopError) -> None:
    """Check that a file can be written, before the work whose result it will hold. Nothing is left behind.

    Raises:
        error: it is a folder, its folder is a file, or cannot be made or written.
    """
    if path.is_dir():
        raise error(f"{path}: cannot be written (a folder); give the name of a file")
    check_output_folder(path.parent, error, path)


def check_output_folder(
    folder: Path, error: type[NpuloopError] = NpuloopError, path: Path | None = None
) -> None:
    """Check that files can be written into a folder, which need not be there yet.

    Args:
        folder: the folder.
        error: what is raised where they cannot.
        path: what the message names instead.
    """
    try:
        present = folder
        while not present.exists() and present != present.parent:
            present = present.parent
        with tempfile.TemporaryFile(dir=present):
            pass
    except OSError as problem:
        raise error(
            f"{path or folder}: cannot be written ({problem.strerror or problem}); choose another place"
        ) from None


@contextlib.contextmanager
def claimed(folder: Path, error: type[NpuloopError] = NpuloopError) -> Iterator[None]:
    """Have a folder for oneself, so that no two runs write into it; it is made where it is missing.

    The lock is the folder's own and ends with the process, however that ends; no file is left.

    Raises:
        error: another run has it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise error(f"{folder}: cannot be written ({problem.strerror or problem})") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise error(
            f"{folder}: another run writes into it; wait for its end, or choose another folder"
        ) from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(handle)


def write_atomically(
    path: Path, write: Callable[[Any], object], error: type[NpuloopError] = NpuloopError
) -> None:
    """Write a file so that it is there whole or not at all; its folder is made where it is missing.

    What runs that were killed have left of the same file is removed.

    Args:
        path: the file; one that exists is replaced.
        write: writes the content into a file that is open for binary writing.
        error: what is raised.

    Raises:
        error: the file cannot be written; whatever `write` raises that is no OSError is passed on.
    """
    prefix = f".{path.name[:_MAX_NAME]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_partial(path.parent, prefix)
        handle, name = tempfile.mkstemp(prefix=f"{prefix}-{os.getpid()}-", suffix=".partial", dir=path.parent)
    except OSError as problem:
        raise error(f"{path}: cannot be written ({problem.strerror or problem})") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as problem:
        raise error(f"{path}: cannot be written ({problem.strerror or problem})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _remove_partial(folder: Path, prefix: str) -> None:
    """Remove temporary files of a name whose processes have been killed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _PARTIAL.fullmatch(entry.name, len(prefix)) if entry.name.startswith(prefix) else None
            if match and not is_running(int(match[1])):
                Path(entry.path).unlink(missing_ok=True)


def write_json(path: Path, document: Any) -> None:
    """Write plain data as a JSON file, whole or not at all.

    Raises:
        NpuloopError: the file cannot be written.
    """
    text = json.dumps(document, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
