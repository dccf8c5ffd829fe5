# SPDX-License-Identifier: Apache-2.0
"""Runs files of tests on mutants, in children of a process that has imported what tests import.

A child costs a fork instead of the seconds that Python, PyTorch and cocotb take to start. It has a folder of
builds of its own, so that nothing that a mutant leaves behind reaches the next; simulators are shared.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from common.paths import ROOT
from tb.blocks.support import FIRST_FAILURE
from tb.mutants.instrument import VARIABLE
from tb.mutants.plan import MARKS
from tb.mutants.source import MutantError

WARM = (
    "numpy", "scipy.stats", "torch", "cocotb", "cocotb_tools.config", "hypothesis", "yaml", "find_libpython",
    "rich", "typer", "tb.session", "tb.blocks.runner", "golden.network", "mapping.compiler.compile",
    "mapping.run.layers", "mapping.run.networks", "npuloop.cli.main",
)  # fmt: skip
"""What is imported before the first fork; what is missing is imported where it is used."""

POLL_SECONDS = 0.02
TAIL_BYTES = 4000
_NOTHING_RAN = 5


@dataclass(frozen=True)
class Run:
    """What a file of tests said.

    Args:
        failed: names of the tests that failed, in order.
        passed: how many passed.
        seconds: that it took.
        hung: whether it was ended because it took too long.
    """

    failed: list[str]
    passed: int
    seconds: float
    hung: bool = False

    @property
    def red(self) -> bool:
        """Whether the tests have seen something."""
        return bool(self.failed) or self.hung


@dataclass
class _Books:
    """Notes what the tests say, as a plugin of pytest."""

    path: Path
    passed: int = 0
    failed: list[str] = field(default_factory=list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a phase of a test."""
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed += 1
        self.path.write_text(json.dumps({"failed": self.failed, "passed": self.passed}))


def warm_up() -> None:
    """Import what tests import."""
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def run_file(
    name: str,
    mutant: int,
    rtl: Path,
    simulators: Path,
    limit: float,
    *,
    first: bool = True,
    leave_out: Sequence[str] = (),
    marks: str = MARKS,
) -> Run:
    """Run a file of tests on a mutant, in a child.

    Args:
        name: the file, relative to the repository.
        mutant: its number; 0 is the design itself.
        rtl: the copy that holds it.
        simulators: folder of simulators, which all mutants share.
        limit: seconds after which the child and all that it has started are killed.
        first: stop at the first failure.
        leave_out: names of tests that do not run.
        marks: which tests of the file run, as pytest takes it.

    Raises:
        MutantError: pytest itself has failed.
    """
    simulators.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"mutant-{mutant}-", dir=simulators))
    environment = {
        VARIABLE: str(mutant),
        "NPULOOP_RTL": str(rtl),
        "NPULOOP_SIMULATORS": str(simulators),
        "NPULOOP_BUILD": str(work / "build"),
        FIRST_FAILURE: "1",
        "NPULOOP_COVERAGE": "",
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(work),
    }
    arguments = [
        name, "-m", marks, "-q", *(["-x"] if first else []), f"--rootdir={ROOT}", "--tb=short",
        f"--basetemp={work / 'pytest'}", "--hypothesis-seed=0", "-p", "no:cacheprovider",
        *(f"--deselect={test}" for test in leave_out),
    ]  # fmt: skip
    try:
        (work / "build").mkdir()
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(arguments, environment, work)
        hung, status = _wait(child, began + limit)
        return _outcome(name, mutant, work, time.monotonic() - began, hung, status)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _child(arguments: list[str], environment: dict[str, str], work: Path) -> None:
    """Be the child: never returns."""
    status = 1
    try:
        os.setsid()
        with (work / "log").open("wb") as log, Path(os.devnull).open("rb") as nothing:
            for descriptor, file in ((0, nothing), (1, log), (2, log)):
                os.dup2(file.fileno(), descriptor)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        os.environ.update(environment)
        tempfile.tempdir = None
        os.chdir(ROOT)
        status = int(pytest.main(arguments, plugins=[_Books(work / "books.json")]))
        sys.stdout.flush()
    finally:
        os._exit(status)


def _wait(child: int, deadline: float) -> tuple[bool, int]:
    """Wait for a child and kill what is left of its session; return whether it was late, and its status."""
    hung = False
    try:
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > deadline:
                hung = True
                _kill(child)
                _, status = os.waitpid(child, 0)
                break
            time.sleep(POLL_SECONDS)
    finally:
        _kill(child)
    return hung, os.waitstatus_to_exitcode(status)


def _kill(session: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)


def _outcome(name: str, mutant: int, work: Path, seconds: float, hung: bool, status: int) -> Run:
    path = work / "books.json"
    books: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"failed": [], "passed": 0}
    run = Run(books["failed"], books["passed"], seconds, hung)
    if hung or status == _NOTHING_RAN or (status == 0 and not run.failed) or (status == 1 and run.failed):
        return run
    tail = (work / "log").read_bytes()[-TAIL_BYTES:].decode(errors="replace")
    raise MutantError(f"{name} on mutant {mutant}: pytest ended with {status}\n{tail}")
