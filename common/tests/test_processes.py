# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from common import processes
from common.processes import RUN_VARIABLE, descendants, is_running, kill_orphans, run_group, run_mark, started
from common.testing import alive, eventually

SLEEP = ["sleep", "600"]


def sleeper(folder: Path, owner: str | None) -> subprocess.Popen[bytes]:
    env = {name: value for name, value in os.environ.items() if name != RUN_VARIABLE}
    return subprocess.Popen(SLEEP, cwd=folder, env=env if owner is None else env | {RUN_VARIABLE: owner})


def test_orphans_of_dead_runs_are_ended_and_nothing_else(tmp_path: Path) -> None:
    inside, outside = tmp_path / "builds", tmp_path / "elsewhere"
    (inside / "run").mkdir(parents=True)
    outside.mkdir()
    gone = subprocess.Popen(["true"])
    dead = f"{gone.pid}-{started(gone.pid)}"
    gone.wait()
    reused = f"{os.getpid()}-1"  # a process of the same number that started later
    kept = [sleeper(inside / "run", run_mark()), sleeper(inside / "run", None), sleeper(outside, dead)]
    orphans = [sleeper(inside / "run", dead), sleeper(inside / "run", reused)]
    try:
        assert eventually(
            lambda: all(Path(f"/proc/{item.pid}/exe").readlink().name != "python" for item in kept)
        )
        assert sorted(kill_orphans(inside)) == sorted(item.pid for item in orphans)
        assert all(item.wait(10) == -signal.SIGKILL for item in orphans)
        assert all(alive(item.pid) for item in kept)
    finally:
        for item in [*kept, *orphans]:
            item.kill()
            item.wait()


def test_a_worker_marks_its_children_as_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    own = run_mark()
    assert own == f"{os.getpid()}-{started(os.getpid())}"
    parent = f"{os.getppid()}-{started(os.getppid())}"
    monkeypatch.setenv(RUN_VARIABLE, parent)
    assert run_mark() == parent
    monkeypatch.setenv(RUN_VARIABLE, "1-1")
    assert run_mark() == own


def test_what_ends_a_call_early_ends_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"

    def interrupted(process: subprocess.Popen[bytes]) -> int:
        if not pids.exists():
            assert eventually(pids.exists)
            raise KeyboardInterrupt
        return waits(process)

    waits = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with (tmp_path / "log").open("wb") as log, pytest.raises(KeyboardInterrupt):
        run_group(["sh", "-c", script], cwd=tmp_path, env=dict(os.environ), output=log)
    assert eventually(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


def test_a_group_gives_its_status_and_output(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        assert run_group(["sh", "-c", "echo $X; exit 3"], cwd=tmp_path, env={"X": "y"}, output=log) == 3
    assert (tmp_path / "log").read_text() == "y\n"


def test_grandchildren_are_descendants() -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 600 & wait"])
    try:
        assert eventually(lambda: len(descendants(child.pid)) == 1)
        assert set(descendants(os.getpid())) >= {child.pid, *descendants(child.pid)}
    finally:
        for pid in [*descendants(child.pid), child.pid]:
            os.kill(pid, signal.SIGKILL)
        child.wait()


def test_numbers_that_no_process_has_run_nothing() -> None:
    assert is_running(os.getpid())
    assert not is_running(2**22 + 1)
    assert processes.started(2**22 + 1) is None
