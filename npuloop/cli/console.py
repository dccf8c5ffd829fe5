# SPDX-License-Identifier: Apache-2.0
"""What all sub-commands of `npuloop` share: consoles, exit statuses, progress."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from common.errors import NpuloopError

FAILED, BAD_INPUT = 1, 2

# Into a file or a pipe, tables keep their width.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn our errors into one message and exit status 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except NpuloopError as error:
            errors.print(f"error: {error}", markup=False)
            raise typer.Exit(BAD_INPUT) from None

    return wrapped


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
