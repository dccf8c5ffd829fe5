# SPDX-License-Identifier: Apache-2.0
"""Processes that a run starts, and what a run that was killed has left behind.

A run that is asked to end takes its children along. A run that is killed outright (`kill -9`, no memory)
cannot: every child carries the mark of its run in its environment, and the next run ends those whose run is
gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

RUN_VARIABLE = "NPULOOP_RUN"
"""Environment variable of all children: the process of the run that they work for, and when it started."""


def started(pid: int) -> str | None:
    """Return when a process started, in ticks since the machine did; None where there is none.

    A process that has ended and is not yet collected counts as none.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def is_running(pid: int) -> bool:
    """Return whether there is a process of this number."""
    return started(pid) is not None


def run_mark() -> str:
    """Return the mark of this process's children: that of the run that it works for itself, or its own."""
    owner = os.environ.get(RUN_VARIABLE, "")
    return owner if _is_alive(owner) else f"{os.getpid()}-{started(os.getpid())}"


def _is_alive(owner: str) -> bool:
    pid, _, ticks = owner.partition("-")
    return pid.isdecimal() and started(int(pid)) == ticks


def _processes() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            yield int(entry.name)


def kill_orphans(folder: Path) -> list[int]:
    """End this user's processes that work in a folder, or are programs of it, and whose run is gone.

    Returns:
        Their numbers.
    """
    ended = []
    for pid in _processes():
        with suppress(OSError):
            links = [Path(f"/proc/{pid}/{name}").readlink() for name in ("cwd", "exe")]  # of others: refused
            if not any(link.is_relative_to(folder) for link in links):
                continue
            owner = _owner(pid)
            if owner and not _is_alive(owner) and is_running(pid):
                os.kill(pid, signal.SIGKILL)
                ended.append(pid)
    return ended


def _owner(pid: int) -> str:
    """Return the mark of a process; nothing where it has none."""
    name = RUN_VARIABLE.encode() + b"="
    for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        if item.startswith(name):
            return item[len(name) :].decode(errors="replace")
    return ""


def descendants(pid: int) -> list[int]:
    """Return the children of a process and their children, the nearest first."""
    parents: dict[int, list[int]] = {}
    for child in _processes():
        with suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{child}/stat").read_text(errors="replace").rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(child)
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(0), [])
        found += children
        waiting += children
    return found


def kill_children() -> None:
    """End everything that this process has started, and what that has."""
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def run_group(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: IO[bytes]) -> int:
    """Run a program with all that it starts, and return its exit status.

    They are a process group: whatever ends this call early ends all of them.

    Args:
        command: the program and its arguments.
        cwd: the folder to run in.
        env: the environment.
        output: where standard output and error go.
    """
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**env, RUN_VARIABLE: run_mark()},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait()
    except BaseException:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
