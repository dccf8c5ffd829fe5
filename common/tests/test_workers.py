# SPDX-License-Identifier: Apache-2.0
"""Jobs side by side: every one has an outcome, whatever happens to the workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from common import workers as working
from common.paths import ROOT
from common.processes import descendants
from common.testing import NOTES, alive, eventually
from common.workers import ALLOWED_DEATHS, ONE_THREAD, Workers, WorkersError


# ------------------------------------------------------------------------------------------------------ jobs
def note(name: str) -> None:
    """Leave this process's number in a file."""
    with (Path(os.environ[NOTES]) / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


def noted(folder: Path, name: str) -> list[int]:
    file = folder / name
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def half(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def gives(*arguments: Any) -> tuple[Any, ...]:
    return arguments


def notes_number(number: int) -> int:
    with (Path(os.environ[NOTES]) / "order").open("a") as file:
        file.write(f"{number}\n")
    return number


def dies(number: int, deaths: int, *after: str) -> int:
    meets("dies", *after)
    if len(noted(Path(os.environ[NOTES]), "died")) < deaths:
        note("died")
        os._exit(3)
    return number


def waits_when_it_runs_again() -> int:
    note("ran")
    return meets("again", "go") if len(noted(Path(os.environ[NOTES]), "ran")) > 1 else os.getpid()


def meets(mine: str, *others: str) -> int:
    """Note one name; return when the others have been noted."""
    note(mine)
    if not eventually(lambda: all(noted(Path(os.environ[NOTES]), other) for other in others)):
        raise TimeoutError(f"{mine} has waited for {others}")
    return os.getpid()


def gives_a_lock() -> threading.Lock:
    return threading.Lock()


def interrupted() -> None:
    raise KeyboardInterrupt


def kills_and_waits(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    threading.Event().wait()


def starts_and_waits() -> None:
    note("started")
    threading.Event().wait()


def at_the_end() -> None:
    note("end")


def threads() -> list[int]:
    import torch

    return [torch.get_num_threads(), *(int(os.environ[name]) for name in ONE_THREAD)]


# ----------------------------------------------------------------------------------------------------- tests
@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(NOTES, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_results_and_exceptions_come_with_the_index_of_their_job(workers: int) -> None:
    with Workers(workers) as pool:
        results = dict(pool.run([(half, (number,)) for number in range(7)]))
        again = dict(pool.run([(half, (4,))]))
    assert sorted(results) == list(range(7))
    assert [results[index] for index in (0, 2, 4, 6)] == [0, 1, 2, 3]
    for index in (1, 3, 5):
        error = results[index]
        assert type(error) is ValueError
        assert str(error) == f"{index} is odd"
    assert again == {0: 2}


def test_arguments_arrive_as_they_are_given() -> None:
    arguments = ("job", (print, 1), [1, ("a", 2)], {"key": {"a": [None]}}, b"\0" * 10_000)
    with Workers(1) as pool:
        assert dict(pool.run([(gives, arguments), (gives, ())])) == {0: arguments, 1: ()}


@pytest.mark.parametrize("workers", [0, 1])
def test_jobs_start_in_their_order(workers: int, notes: Path) -> None:
    with Workers(workers) as pool:
        list(pool.run([(notes_number, (number,)) for number in range(6)]))
    assert noted(notes, "order") == list(range(6))


def test_no_job_waits_for_the_one_before_it_while_a_worker_is_free(notes: Path) -> None:
    jobs = [(meets, ("a", "b")), (meets, ("b", "a", "c", "d")), (meets, ("c",)), (meets, ("d",))]
    with Workers(2) as pool:
        results = dict(pool.run(jobs))
    assert results[0] == results[2] == results[3]
    assert results[0] != results[1]


def test_a_job_that_kills_its_worker_once_runs_again(notes: Path) -> None:
    jobs: list[Any] = [(half, (2,)), (dies, (7, 1)), *[(half, (4,))] * 4]
    with Workers(2) as pool:
        results = dict(pool.run(jobs))
    assert results == {0: 1, 1: 7, 2: 2, 3: 2, 4: 2, 5: 2}
    assert len(noted(notes, "died")) == 1


def test_a_job_whose_result_dies_with_its_worker_runs_again_unless_it_was_yielded(notes: Path) -> None:
    jobs: list[Any] = [(notes_number, (5,)), (waits_when_it_runs_again, ()), (dies, (7, 1, "yielded"))]
    with Workers(1) as pool:
        each = pool.run(jobs)
        results = dict([next(each)])
        assert eventually(lambda: tasks(pool) == 2)
        note("yielded")
        assert eventually(lambda: len(noted(notes, "again")) == 1)
        threading.Timer(
            0.5, note, ["go"]
        ).start()  # when the result is waited for; nothing fails if it is not
        results.update(each)
    assert results == {0: 5, 1: noted(notes, "ran")[1], 2: 7}
    assert noted(notes, "order") == [5]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_kills_every_worker_is_given_up_and_costs_no_other(workers: int, notes: Path) -> None:
    jobs: list[Any] = [(half, (2,)), (dies, (7, 1000)), (half, (3,)), (half, (4,))]
    with Workers(workers) as pool:
        results = dict(pool.run(jobs))
    error = results.pop(1)
    assert isinstance(error, WorkersError)
    assert str(error) == "every worker that ran it died"
    assert isinstance(results.pop(2), ValueError)
    assert results == {0: 1, 3: 2}
    assert len(noted(notes, "died")) == 2 * (ALLOWED_DEATHS + 1)


def test_a_result_that_cannot_be_pickled_is_the_error_of_its_job() -> None:
    jobs: list[Any] = [(gives_a_lock, ()), (half, (2,))]
    with Workers(1) as pool:
        results = dict(pool.run(jobs))
    assert isinstance(results[0], TypeError)
    assert results[1] == 1


def test_every_worker_is_told_the_end(notes: Path) -> None:
    with Workers(2, at_end=at_the_end) as pool:
        results = list(pool.run([(meets, ("a", "b")), (meets, ("b", "a"))]))
        assert noted(notes, "end") == []
    pids = {pid for _, pid in results if isinstance(pid, int)}
    assert len(pids) == 2
    assert set(noted(notes, "end")) == pids
    assert len(noted(notes, "end")) == 2
    with Workers(0, at_end=at_the_end) as pool:
        list(pool.run([(half, (2,))]))
    assert noted(notes, "end")[2:] == [os.getpid()]


def test_an_interrupt_is_no_outcome_of_a_job_in_this_process(notes: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Workers(0, at_end=at_the_end) as pool:
        list(pool.run([(interrupted, ())]))
    assert noted(notes, "end") == [os.getpid()]


def test_a_number_of_workers_that_is_none_is_refused() -> None:
    for options in ({"workers": -1}, {"workers": 2, "scheduler": "tcp://127.0.0.1:1"}):
        with pytest.raises(WorkersError, match="give"):
            Workers(**options)


def test_a_scheduler_that_cannot_be_reached_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "CONNECT_SECONDS", 0.3)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with Workers(scheduler=address) as pool:
            assert list(pool.run([])) == []  # needs none
            with pytest.raises(WorkersError) as caught:
                list(pool.run([(half, (2,))]))
        assert str(caught.value).startswith(f"no Dask workers at {address} (")
        assert "start `dask scheduler`" in str(caught.value)


def test_a_scheduler_that_is_lost_is_one_clear_error() -> None:
    child = """
from distributed import LocalCluster
with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
    print(cluster.scheduler_address, flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", child], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as scheduler:
        assert scheduler.stdout
        with Workers(scheduler=scheduler.stdout.readline().strip()) as pool:
            assert dict(pool.run([(half, (2,))])) == {0: 1}
            with pytest.raises(WorkersError, match="scheduler is lost"):
                list(pool.run([(kills_and_waits, (scheduler.pid,)), (half, (4,))]))


def test_a_worker_has_one_thread_whatever_the_environment_says(notes: Path) -> None:
    child = """
import json, os
from common.tests.test_workers import threads
from common.workers import Workers
with Workers(1, preload=["torch"]) as pool:
    (_, found), = pool.run([(threads, ())])
print(json.dumps([found, os.environ["OMP_NUM_THREADS"], os.environ.get("MKL_NUM_THREADS")]))
"""
    environment = {key: value for key, value in os.environ.items() if key not in ONE_THREAD}
    done = subprocess.run(
        [sys.executable, "-c", child],
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    results, *after = json.loads(done.stdout)
    assert set(results) == {1}
    assert after == ["3", None]


def test_an_interrupt_ends_the_workers_in_the_middle_of_their_jobs(notes: Path) -> None:
    child = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have left it ignored
from common.tests.test_workers import starts_and_waits
from common.workers import Workers
with Workers(2) as pool:
    list(pool.run([(starts_and_waits, ())] * 6))
"""
    with tempfile.TemporaryDirectory() as temporary, subprocess.Popen(
        [sys.executable, "-c", child], cwd=ROOT, env=os.environ | {"TMPDIR": temporary}, text=True,
        stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        began = eventually(lambda: len(noted(notes, "started")) == 2 or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        try:
            _, said = process.communicate(timeout=600)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        left = list(Path(temporary).glob("npuloop-*"))
    assert began, said
    assert process.returncode == -signal.SIGINT
    assert said.count("Traceback") == 1
    assert said.endswith("KeyboardInterrupt\n")
    assert eventually(lambda: not any(alive(pid) for pid in noted(notes, "started")))
    assert len(noted(notes, "started")) == 2  # nobody has begun another job
    assert left == []


# --------------------------------------------------------------------------------------------------- helpers
def tasks(pool: Workers) -> int:
    """Return how many tasks the scheduler knows."""
    assert pool._client
    known = pool._client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
    assert isinstance(known, int)
    return known


# ------------------------------------------------------------------------------------------------ the network
def listening(pids: list[int]) -> list[str]:
    """Return the addresses on which processes listen, hexadecimal as the kernel lists them."""
    sockets = set()
    for pid in pids:
        for item in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                sockets.add(item.readlink().name.removeprefix("socket:[").removesuffix("]"))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in sockets:
                found.append(words[1].partition(":")[0])
    return found


def test_everything_that_listens_listens_on_the_loopback(notes: Path) -> None:
    with Workers(1) as workers:
        assert [outcome for _, outcome in workers.run([(gives, (1,))])] == [(1,)]
        addresses = listening([os.getpid(), *descendants(os.getpid())])
    assert len(addresses) >= 3  # the scheduler, its page, a worker
    assert set(addresses) == {"0100007F"}


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A certificate that vouches for itself, as authority and as ours, and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, certificate, key


def test_a_scheduler_over_tls_is_reached_with_keys_and_only_with_them(keys: tuple[Path, Path, Path]) -> None:
    from distributed import LocalCluster
    from distributed.security import Security

    roles = ("scheduler", "worker", "client")
    files = {
        f"tls_{role}_{kind}": str(keys[1 + i]) for role in roles for i, kind in enumerate(("cert", "key"))
    }
    security = Security(tls_ca_file=str(keys[0]), require_encryption=True, **files)
    with LocalCluster(
        n_workers=1, processes=False, security=security, protocol="tls://", dashboard_address=None,
        host="127.0.0.1", silence_logs=50,
    ) as cluster:  # fmt: skip
        address = cluster.scheduler_address
        assert address.startswith("tls://127.0.0.1:")
        with Workers(scheduler=address, tls=keys) as workers:
            assert [outcome for _, outcome in workers.run([(gives, (1, 2))])] == [(1, 2)]
        for wrong, says in (
            (None, "TLS with Dask's configuration: no certificate; give --tls-ca, --tls-cert and --tls-key"),
            ((keys[0], keys[2], keys[2]), "give --tls-ca, --tls-cert and --tls-key"),
            ((keys[0].with_name("none"), keys[1], keys[2]), "No such file"),
        ):
            with pytest.raises(WorkersError, match=says), Workers(scheduler=address, tls=wrong) as workers:
                list(workers.run([(gives, ())]))


def test_keys_without_a_scheduler_over_tls_are_refused(keys: tuple[Path, Path, Path]) -> None:
    for address in (None, "tcp://127.0.0.1:1"):
        with pytest.raises(WorkersError, match="files for TLS belong to a scheduler at tls://HOST:PORT, not"):
            Workers(scheduler=address, tls=keys)


class _Starting:
    """A nanny whose process has its number after a few looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.process = self

    @property
    def pid(self) -> int | None:
        self.looks -= 1
        return None if self.looks >= 0 else 1


class _Nanny:
    def __init__(self, process: object) -> None:
        self.process = process


def test_a_cluster_is_closed_when_every_process_that_starts_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask fails where a worker that follows a dead one has no process yet (seen on a busy machine)."""
    starting = _Starting(3)
    cluster = type("Cluster", (), {"workers": {0: _Nanny(None), 1: _Nanny(starting)}})()
    working._processes_are_there(cluster)
    assert starting.looks == -1
    monkeypatch.setattr(working, "START_SECONDS", 0.1)
    never = _Starting(1 << 30)
    working._processes_are_there(type("Cluster", (), {"workers": {0: _Nanny(never)}})())
    assert never.looks < 1 << 30
