# SPDX-License-Identifier: Apache-2.0
"""What runs that were killed have left in the folder of builds: processes, sessions, half a build."""

from __future__ import annotations

import fcntl
import functools
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.processes import is_running, kill_orphans

SESSIONS = "sessions"
"""Folder of the folders of sessions, each called by its process."""
PARTIAL = ".partial"
"""Ending of a folder that is being made; the lock of the same name is held meanwhile."""
_BY_PROCESS = re.compile(r"(?:raw-)?(\d+)-.*")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, for which another process may have to be waited for."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def clean_up(root: Path) -> None:
    """End the processes and remove the folders of runs that were killed; once in a process for each folder.

    Raises:
        OSError: the folder cannot be read.
    """
    kill_orphans(root)
    for folder in (root, root / SESSIONS):
        for entry in list(folder.iterdir()) if folder.is_dir() else ():
            match = _BY_PROCESS.fullmatch(entry.name)
            if match and entry.is_dir() and not is_running(int(match[1])):
                shutil.rmtree(entry, ignore_errors=True)
    for work in root.glob(f"*{PARTIAL}"):
        with suppress(OSError), work.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused where somebody makes it
            shutil.rmtree(work, ignore_errors=True)
