# SPDX-License-Identifier: Apache-2.0
"""What all sub-commands of `npuloop` share: consoles, exit statuses, progress."""

from __future__ import annotations

import errno
import functools
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from common.errors import NpuloopError
from common.paths import build_root

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
MAX_MESSAGE = 8000
"""Most characters of a message: what a file says may stand in it."""


class OutputClosedError(Exception):
    """Nobody reads the output any more."""


class Output(Console):
    """Standard output: one that is full is one clear error, and one that nobody reads ends the command."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does.

        Raises:
            NpuloopError: it cannot be written.
            OutputClosedError: nobody reads it.
        """
        try:
            super().print(*objects, **options)
        except OSError as error:
            raise NpuloopError(f"standard output: cannot be written ({error.strerror})") from None

    def on_broken_pipe(self) -> None:
        """End the command.

        Raises:
            OutputClosedError: always.
        """
        self.quiet = True
        raise OutputClosedError


# Into a file or a pipe, tables keep their width. Names of files and layers stand in them: none is markup.
_WIDTH = None if sys.stdout is not None and sys.stdout.isatty() else 120
console = Output(highlight=False, markup=False, width=_WIDTH)
errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def say_error(message: object) -> None:
    """Print a message to standard error: cut where it is endless, without what a terminal would obey.

    Text of files stands in messages, and must not move the cursor or change the terminal's title.
    """
    text = str(message)
    if len(text) > MAX_MESSAGE:
        text = f"{text[:MAX_MESSAGE]} ... ({len(text)} characters)"
    shown = "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
    with suppress(OSError, ValueError):  # where it cannot be said, the exit status is left
        errors.print(shown, markup=False)


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn our errors, and what files, disks and memory refuse, into one message and exit status 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except NpuloopError as error:
            say_error(f"error: {error}")
        except BrokenPipeError:
            raise OutputClosedError from None
        except OSError as error:
            say_error(f"error: {refusal(error)}")
        except MemoryError as error:
            say_error(f"error: not enough memory ({error or 'out of memory'}); give it smaller inputs")
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None  # npuloop.cli.process says it
        else:
            return
        raise typer.Exit(BAD_INPUT)

    return wrapped


def refusal(error: OSError) -> str:
    """Return what the operating system refuses, where, and the remedy."""
    reason = error.strerror or str(error)
    places = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = f"{places[-1]}: " if places else "output: "
    root = str(build_root())
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}{reason}; make room on the disk and repeat"
    if any(place.startswith(root) for place in places):
        return f"{where}cannot be used ({reason}); NPULOOP_BUILD names another folder for builds"
    return f"{where}cannot be used ({reason})"


def progress() -> Progress:
    """Return the bar that long commands show on a terminal."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=errors, transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip


class Tasks:
    """A task of a progress bar for each thing that is done."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how many of something are done; the first call makes its task."""
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done)
