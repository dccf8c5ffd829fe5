# SPDX-License-Identifier: Apache-2.0
"""Measurements side by side: nothing runs twice, nothing is lost, and every failure is its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common import workers as working
from common.errors import NpuloopError
from common.paths import ROOT
from common.testing import NOTES, alive, eventually
from common.workers import WorkersError
from hw.system import System
from mapping.calibration import farm as farming
from mapping.calibration.farm import Farm, FarmError, Job, run_job
from mapping.calibration.measurement import Measurement, Setup, commands_digest, compile_shape
from mapping.calibration.store import Store
from mapping.cost.shapes import Shape

SETUP = Setup(System())


def shapes(count: int) -> list[Shape]:
    """Return shapes, the shortest job first."""
    return [Shape(f"s{i}", "conv2d", 16, 16, 4, 4 + i, (3, 3), (1, 1), "same") for i in range(count)]


JOBS = [*((shape, "npu8") for shape in shapes(5)), *((shape, "npu_lb") for shape in shapes(2))]


def made_up(setup: Setup, shape: Shape, unit: str) -> Measurement:
    """What a job gives, without a simulator; it notes that it ran."""
    with (Path(os.environ[NOTES]) / "ran").open("a") as file:
        file.write(f"{shape.name} {unit}\n")
    commands = commands_digest(compile_shape(shape, unit, setup.config))
    cycles = 100 + shape.macs
    return Measurement(shape, unit, cycles, {unit: {}}, shape.macs, 0.5, setup.digest, commands, 1.0)


def fails_on_s1_and_s3(setup: Setup, shape: Shape, unit: str) -> Measurement:
    if shape.name in ("s1", "s3"):
        raise NpuloopError(f"no {shape.name} today")
    return made_up(setup, shape, unit)


def dies_on_s2_once(setup: Setup, shape: Shape, unit: str) -> Measurement:
    marker = Path(os.environ[NOTES]) / "died"
    if shape.name == "s2" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return made_up(setup, shape, unit)


def dies_on_s2(setup: Setup, shape: Shape, unit: str) -> Measurement:
    if shape.name == "s2":
        os.kill(os.getpid(), signal.SIGKILL)
    return made_up(setup, shape, unit)


def simulates_and_dies_on_s2_once(setup: Setup, shape: Shape, unit: str) -> Measurement:
    result = run_job(setup, shape, unit)
    notes = Path(os.environ[NOTES])
    for session in farming._sessions.values():
        with (notes / "simulators").open("a") as file:
            file.write(f"{session._process.pid}\n")
    if shape.name == "s2" and not (notes / "died").exists():
        (notes / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return result


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the marks; nothing else may be left in the working directory."""
    folder, cwd = tmp_path / "notes", tmp_path / "cwd"
    folder.mkdir()
    cwd.mkdir()
    monkeypatch.setenv(NOTES, str(folder))
    monkeypatch.chdir(cwd)
    return folder


def places(measured: Iterable[Measurement | Job]) -> list[tuple[str, str]]:
    pairs = ((item.shape, item.unit) if isinstance(item, Measurement) else item for item in measured)
    return sorted((shape.name, unit) for shape, unit in pairs)


def facts(measurements: Iterable[Measurement]) -> list[str]:
    """Everything but the wall time and the order."""
    return sorted(json.dumps(item.entry() | {"seconds": 0}, sort_keys=True) for item in measurements)


def names(farm: Farm, store: Store, message: str) -> set[str]:
    """Return the shapes measured before the error."""
    labels: set[str] = set()
    with pytest.raises(FarmError, match=message):
        labels.update(item.shape.name for item in farm.measure(SETUP, JOBS[:5], store))
    assert labels == {item.shape.name for item in store}
    return labels


def ran(notes: Path) -> list[str]:
    file = notes / "ran"
    return file.read_text().splitlines() if file.exists() else []


# ------------------------------------------------------------------------------------------- in this process
@pytest.mark.rtl
def test_stored_measurements_do_not_run_again(notes: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "m.jsonl")
    with Farm(0, job=made_up) as farm:
        first = list(farm.measure(SETUP, JOBS[:3], store))
        assert len(ran(notes)) == 3
        again = list(farm.measure(SETUP, JOBS, Store(store.path)))
    assert len(ran(notes)) == len(JOBS)
    assert facts(again[:3]) == facts(first)
    assert places(again) == places(JOBS)


@pytest.mark.rtl
def test_a_split_is_one_measurement_however_it_and_its_units_are_given(notes: Path, tmp_path: Path) -> None:
    split = {"npu8": 16, "npu_lb": 32}
    shared = Shape("shared", "conv2d", 16, 48, 4, 4, (1, 1), (1, 1), "valid", split)
    turned = replace(shared, split=dict(reversed(split.items())))
    store = Store(tmp_path / "m.jsonl")
    with Farm(0, job=made_up) as farm:
        list(farm.measure(SETUP, [(shared, "npu8")], store))
        stored = [item.unit for item in farm.measure(SETUP, [(turned, "npu_lb"), (shared, "npu8")], store)]
    assert stored == ["npu8+npu_lb"] * 2
    assert len(ran(notes)) == 1


@pytest.mark.parametrize("change", [{"setup": "of yesterday"}, {"commands": "of yesterday"}], ids=str)
@pytest.mark.rtl
def test_stale_measurements_run_again(change: dict[str, Any], notes: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "m.jsonl")
    with Farm(0, job=made_up) as farm:
        for item in farm.measure(SETUP, JOBS[:2], Store(tmp_path / "other.jsonl")):
            store.add(replace(item, **change, cycles=1))
        assert all(item.cycles > 1 for item in farm.measure(SETUP, JOBS[:2], store))
    assert len(ran(notes)) == 4
    assert len(Store(store.path)) == 4


@pytest.mark.rtl
def test_the_longest_jobs_start_first(notes: Path, tmp_path: Path) -> None:
    with Farm(0, job=made_up) as farm:
        list(farm.measure(SETUP, JOBS[:5], Store(tmp_path / "m.jsonl")))
    assert ran(notes) == [f"s{i} npu8" for i in (4, 3, 2, 1, 0)]


@pytest.mark.rtl
def test_jobs_that_differ_in_the_name_only_run_once(notes: Path, tmp_path: Path) -> None:
    jobs = [(replace(JOBS[0][0], name=name), "npu8") for name in "abc"]
    store = Store(tmp_path / "m.jsonl")
    with Farm(0, job=made_up) as farm:
        first = list(farm.measure(SETUP, jobs, store))
        again = list(farm.measure(SETUP, jobs, store))
    assert [item.shape.name for item in first] == [item.shape.name for item in again] == ["a", "b", "c"]
    assert len(ran(notes)) == len(store) == 1


@pytest.mark.rtl
def test_progress_counts_every_job_to_the_end(notes: Path, tmp_path: Path) -> None:
    store, seen = Store(tmp_path / "m.jsonl"), []
    with Farm(0, job=made_up) as farm:
        list(farm.measure(SETUP, JOBS[:2], store))
        list(farm.measure(SETUP, [*JOBS, JOBS[4]], store, lambda done, total: seen.append((done, total))))
    assert seen == [(done, 8) for done in range(1, 9)]


@pytest.mark.rtl
def test_a_session_is_used_for_all_jobs_of_a_setup_and_closed(notes: Path, tmp_path: Path) -> None:
    shared = Shape("shared", "conv2d", 16, 48, 4, 4, (1, 1), (1, 1), "valid", {"npu8": 16, "npu_lb": 32})
    pids = set()
    with Farm(0) as farm:
        for item in farm.measure(SETUP, [*JOBS[:3], (shared, "npu8")], Store(tmp_path / "m.jsonl")):
            assert item.cycles > 0
            (session,) = farming._sessions.values()
            pids.add(session._process.pid)
    assert len(pids) == 1
    assert farming._sessions == {}
    assert not alive(pids.pop())


@pytest.mark.rtl
def test_a_dead_simulator_costs_its_own_job_only(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kills(setup: Setup, shape: Shape, unit: str) -> Measurement:
        if shape.name == "s2":
            (session,) = farming._sessions.values()
            session._process.kill()
        return run_job(setup, shape, unit)

    message = r"1 of 5 .*\n's2' on npu8: the simulator died"
    with Farm(0, job=kills) as farm:
        assert names(farm, Store(tmp_path / "m.jsonl"), message) == {"s0", "s1", "s3", "s4"}


def test_a_number_of_workers_that_is_none_is_refused() -> None:
    for options in ({"workers": -1}, {"workers": 2, "scheduler": "tcp://127.0.0.1:1"}):
        with pytest.raises(WorkersError, match="give"):
            Farm(**options)


# --------------------------------------------------------------------------------------------------- in Dask
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.rtl
def test_a_job_that_fails_is_named_at_the_end_and_the_others_are_stored(
    workers: int, notes: Path, tmp_path: Path
) -> None:
    with Farm(workers, job=fails_on_s1_and_s3) as farm:
        store = Store(tmp_path / "m.jsonl")
        message = f"^2 of 5 measurements failed, the others are in {store.path}:\n"
        assert names(farm, store, message) == {"s0", "s2", "s4"}
        with pytest.raises(FarmError) as caught:
            list(farm.measure(SETUP, JOBS[:5], store))
    assert sorted(str(caught.value).splitlines()[1:]) == [
        "'s1' on npu8: no s1 today",
        "'s3' on npu8: no s3 today",
    ]


@pytest.mark.rtl
def test_a_worker_that_dies_costs_no_job(notes: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "m.jsonl")
    with Farm(1, job=dies_on_s2_once) as farm:
        measurements = list(farm.measure(SETUP, JOBS, store))
    assert (notes / "died").exists()
    assert places(measurements) == places(JOBS)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.rtl
def test_a_job_that_kills_every_worker_is_named_and_costs_no_other(notes: Path, tmp_path: Path) -> None:
    message = r"1 of 5 .*\n's2' on npu8: every worker that ran it died"
    with Farm(1, job=dies_on_s2) as farm:
        assert names(farm, Store(tmp_path / "m.jsonl"), message) == {"s0", "s1", "s3", "s4"}


@pytest.mark.rtl
def test_simulators_end_with_their_worker_killed_or_closed(notes: Path, tmp_path: Path) -> None:
    with Farm(2, job=simulates_and_dies_on_s2_once) as farm:
        measurements = list(farm.measure(SETUP, JOBS, Store(tmp_path / "m.jsonl")))
    assert len(measurements) == len(JOBS)
    pids = {int(line) for line in (notes / "simulators").read_text().split()}
    assert len(pids) >= 2  # the killed worker's and its successor's, or the other's
    assert ended(pids)


@pytest.mark.rtl
def test_the_same_cycles_come_from_workers_and_from_this_process(notes: Path, tmp_path: Path) -> None:
    cycles = []
    for workers in (0, 2):
        with Farm(workers) as farm:
            measurements = farm.measure(SETUP, JOBS, Store(tmp_path / f"{workers}.jsonl"))
            cycles.append({item.key: (item.cycles, item.counters) for item in measurements})
    assert cycles[0] == cycles[1]
    assert len(cycles[0]) == len(JOBS)


@pytest.mark.rtl
def test_a_scheduler_that_cannot_be_reached_is_one_clear_error(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "CONNECT_SECONDS", 0.3)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with Farm(scheduler=address, job=made_up) as farm, pytest.raises(WorkersError) as caught:
            list(farm.measure(SETUP, JOBS, Store(tmp_path / "m.jsonl")))
        assert str(caught.value).startswith(f"no Dask workers at {address} (")
        assert "start `dask scheduler`" in str(caught.value)
    assert ran(notes) == []


@pytest.mark.rtl
def test_a_running_scheduler_is_used_and_left_running(notes: Path, tmp_path: Path) -> None:
    import dask
    from distributed import Client, LocalCluster

    with dask.config.set({"temporary-directory": str(tmp_path)}), LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:  # fmt: skip
        for _ in range(2):
            with Farm(scheduler=cluster.scheduler_address) as farm:
                measurements = list(farm.measure(SETUP, JOBS[:3], Store(tmp_path / "m.jsonl")))
            assert len(measurements) == 3
        with Client(cluster) as client:
            assert client.submit(int, 7).result() == 7
            assert list(client.run(lambda: len(farming._sessions)).values()) == [0]


# ------------------------------------------------------------------------------------------- kills of it all
@pytest.mark.rtl
def test_a_run_killed_five_times_measures_in_the_end_what_an_undisturbed_run_measures(tmp_path: Path) -> None:
    """Each kill comes right after an append or in its middle, wherever that is."""
    child = """
import os, signal, sys
from pathlib import Path
from mapping.calibration.farm import Farm
from mapping.calibration.store import Store
from mapping.calibration.tests.test_farm import JOBS, SETUP
write, left, cut = os.write, int(sys.argv[2]), sys.argv[3] == "cut"
def dying(handle, data):
    global left
    left -= 1
    if left < 0:
        if cut:
            write(handle, data[:len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(handle, data)
store = Store(sys.argv[1])
os.write = dying
with Farm(0) as farm:
    list(farm.measure(SETUP, JOBS, store))
"""
    path = tmp_path / "m.jsonl"
    held = 0
    for appends, cut in ((1, "cut"), (0, "cut"), (2, "whole"), (1, "cut"), (0, "whole")):
        done = subprocess.run(
            [sys.executable, "-c", child, str(path), str(appends), cut],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        held += appends
        assert len(Store(path)) == held
    with Farm(0) as farm:
        measurements = list(farm.measure(SETUP, JOBS, Store(path)))
        undisturbed = list(farm.measure(SETUP, JOBS, Store(tmp_path / "u.jsonl")))
    assert facts(measurements) == facts(undisturbed) == facts(Store(path))


def ended(pids: set[int]) -> bool:
    """Whether processes end; a killed worker's simulator notices after its job."""
    return eventually(lambda: not any(alive(pid) for pid in pids))
