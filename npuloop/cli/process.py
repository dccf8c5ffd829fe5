# SPDX-License-Identifier: Apache-2.0
"""The command as a process: its standard streams, and how it ends when it is told to.

A signal that asks it to end (SIGINT, SIGTERM, SIGHUP) unwinds what runs, which closes simulators and workers.
What has not unwound after GRACE_SECONDS is ended together with all children, so that two seconds are enough
whatever is going on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from common.errors import NpuloopError
from common.processes import RUN_VARIABLE, kill_children, run_mark
from npuloop.cli.console import BAD_INPUT, OutputClosedError, say_error

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 1.0
PIPE_CLOSED = 128 + signal.SIGPIPE
"""Exit status where whoever reads the output has gone, as shells show it for other programs."""


class _Ending:
    """Turns signals into KeyboardInterrupt once, and ends the process where that is not enough."""

    def __init__(self) -> None:
        self.number = 0

    def install(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job
                signal.signal(number, self)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.number:
            self.end()
        self.number = number
        timer = threading.Timer(GRACE_SECONDS, self.end)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    def end(self) -> NoReturn:
        """End this process and its children now."""
        kill_children()
        say_error("interrupted")
        os._exit(128 + self.number)


def run(command: Callable[[], Any]) -> NoReturn:
    """Run a command as this process, and end with its exit status: one line where it fails, no traceback."""
    _open_streams()
    os.environ[RUN_VARIABLE] = run_mark()
    ending = _Ending()
    ending.install()
    status: Any = 0
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except SystemExit as end:
        status = PIPE_CLOSED if isinstance(end.__context__, BrokenPipeError) else end.code  # rich's, typer's
    except (OutputClosedError, BrokenPipeError):
        status = PIPE_CLOSED
    except (NpuloopError, OSError) as error:  # of the output; a command's own are reported there
        # a command that failed has said why; the output's rest may still not be written
        ended = error.__context__
        if not (isinstance(ended, SystemExit) and ended.code):
            reason = (
                error if isinstance(error, NpuloopError) else f"output: cannot be written ({error.strerror})"
            )
            say_error(f"error: {reason}")
        status = BAD_INPUT
    except KeyboardInterrupt:
        status = 130
    if ending.number:
        ending.end()
    _drop_output()
    sys.exit(status)


def _open_streams() -> None:
    """Have all three standard streams, and let no name keep them from being written.

    One that is closed becomes the null device: its number would go to the next file that is opened.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")  # file names that are no UTF-8, terminals that are not


def _drop_output() -> None:
    """Keep the interpreter from writing at its end what could not be written before."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
