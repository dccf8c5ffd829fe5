"""Runs measurements side by side: in Dask workers with a simulator each, or in this process.

    with Farm() as farm:
        for measurement in farm.measure(setup, [(shape, "npu8")], Store("measurements.jsonl")):
            print(measurement.shape.name, measurement.cycles)

Dask starts its workers as new Python processes that import the main module: a script needs the usual
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from golden.errors import NpuloopError
from mapping.calibration.measurement import (
    Measurement,
    Setup,
    commands_digest,
    compile_shape,
    measure,
    measurement_key,
)
from mapping.calibration.store import Store
from mapping.cost.model import cores_of
from mapping.cost.shapes import Shape
from tb.build import build
from tb.config import TestbenchError
from tb.session import Session

if TYPE_CHECKING:
    from distributed import Client, Future
    from typing_extensions import Self  # typing has it from Python 3.11 on

Job = tuple[Shape, str]
"""A shape, and the unit that runs it or "pair"."""
Outcome = Measurement | Exception

LOGGERS = ("distributed", "distributed.client")
CONNECT_SECONDS = 10.0
WORKER_SECONDS = 60.0
ALLOWED_DEATHS = 1
"""Workers that may die on a job before Dask gives it up; afterwards the job gets as many once more, alone."""


class FarmError(NpuloopError):
    """Measurements that failed, after all others are done; or workers that cannot be reached."""


# ---------------------------------------------------------------------------------------- in a worker process
_sessions: dict[str, Session] = {}
_lock = threading.Lock()
"""A session is used by one thread at a time, however many a worker has."""


def run_job(setup: Setup, shape: Shape, unit: str) -> Measurement:
    """Measure in this process, in a session that stays open for the next job of the same setup."""
    with _lock:
        if setup.digest not in _sessions:
            _sessions[setup.digest] = Session(setup.config, rtl=setup.rtl)
        try:
            return measure(_sessions[setup.digest], setup, shape, unit)
        except TestbenchError:  # perhaps the simulator has died
            _close(setup.digest)
            raise


def _close(digest: str) -> None:
    with suppress(TestbenchError):  # it has been reported, or nothing depends on it any more
        _sessions.pop(digest).close()


@atexit.register
def close_sessions() -> None:
    """End this process's simulators, unless a job runs; they end with the process at the latest."""
    if _lock.acquire(blocking=False):
        try:
            for digest in list(_sessions):
                _close(digest)
        finally:
            _lock.release()


# ---------------------------------------------------------------------------------------------- in the parent
class Farm:
    """Workers for measurements. They start with the first job that is not stored.

    Args:
        workers: number of worker processes; None: one per processor core; 0: none, in this process.
        scheduler: address of a running Dask scheduler, whose workers are used instead.
        job: what a worker does, for tests.
    """

    def __init__(
        self,
        workers: int | None = None,
        scheduler: str | None = None,
        *,
        job: Callable[[Setup, Shape, str], Measurement] = run_job,
    ) -> None:
        if workers is not None and workers < 0:
            raise FarmError(f"{workers} workers; give 1 or more, or 0 to measure in this process")
        if scheduler is not None and workers is not None:
            raise FarmError("give a number of workers or a scheduler, not both: a scheduler has its workers")
        self.workers = workers
        self.scheduler = scheduler
        self._job = job
        self._stack = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the simulators, and the workers unless they are a scheduler's."""
        close_sessions()
        self._stack.close()
        self._client = None

    def measure(
        self,
        setup: Setup,
        jobs: Iterable[Job],
        store: Store,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Measurement]:
        """Measure what the store does not have; yield a measurement for every job.

        Stored ones come first, then the others as they are done, each stored before it is yielded. Jobs that
        differ in nothing but the shape's name are measured once.

        Args:
            setup: what is measured on.
            jobs: shapes and where they run.
            store: where measurements are looked up and kept.
            progress: called with the numbers of jobs done and of all jobs.

        Raises:
            FarmError: the workers are lost; or, at the end, jobs have failed: with the names of their shapes.
            StoreError: the store cannot be written.
            BuildError: the simulator cannot be built.
        """
        store.refresh()
        known = {(item.shape.key, item.unit) for item in store if item.setup == setup.digest}
        todo: dict[tuple[str, str], list[Job]] = {}
        failed: list[str] = []
        every, done = list(jobs), 0

        def count(jobs: int = 1) -> None:
            nonlocal done
            done += jobs
            if progress:
                progress(done, len(every))

        for shape, unit in every:
            place = shape.key, unit
            try:
                stored = store.get(_key(setup, shape, unit)) if place in known else None
            except (NpuloopError, TestbenchError):  # a compiler that has forgotten the shape: reported below
                stored = None
            if stored is None:
                todo.setdefault(place, []).append((shape, unit))
            else:
                count()
                yield replace(stored, shape=shape)
        if not todo:
            return
        build(setup.config, rtl=setup.rtl)
        longest_first = sorted(todo.values(), key=lambda same: -_estimate(setup, *same[0]))
        for same, outcome in self._run(setup, longest_first):
            if isinstance(outcome, Measurement) and outcome.setup != setup.digest:
                outcome = FarmError("the worker that ran it has other RTL than this process")
            if isinstance(outcome, Exception):
                names = ", ".join(repr(shape.name) for shape, _ in same)
                failed.append(f"{names} on {same[0][1]}: {outcome or type(outcome).__name__}")
                count(len(same))
                continue
            store.add(outcome)
            for shape, _ in same:
                count()
                yield replace(outcome, shape=shape)
        if failed:
            raise FarmError(
                f"{len(failed)} of {len(todo)} measurements failed, the others are in {store.path}:\n"
                + "\n".join(failed)
            )

    def _run(self, setup: Setup, work: list[list[Job]]) -> Iterator[tuple[list[Job], Outcome]]:
        """Yield the outcome of each list's first job, as they are done."""
        if self.workers == 0:
            for same in work:
                yield same, self._here(setup, *same[0])
            return
        from distributed.scheduler import KilledWorker

        again = []
        for same, outcome in self._distributed(setup, work):
            if isinstance(outcome, KilledWorker):  # perhaps another job of that worker was the reason
                again.append(same)
            else:
                yield same, outcome
        for same in again:
            for _, outcome in self._distributed(setup, [same]):
                if isinstance(outcome, KilledWorker):
                    outcome = FarmError("every worker that ran it died")
                yield same, outcome

    def _here(self, setup: Setup, shape: Shape, unit: str) -> Outcome:
        try:
            return self._job(setup, shape, unit)
        except Exception as error:  # noqa: BLE001  # whatever a job raises is that job's
            return error

    def _distributed(self, setup: Setup, work: list[list[Job]]) -> Iterator[tuple[list[Job], Outcome]]:
        from distributed import as_completed

        client = self._client or self._connect()
        futures: dict[Future[Any], list[Job]] = {
            client.submit(self._job, setup, *same[0], pure=False, priority=-number): same
            for number, same in enumerate(work)
        }
        for future in as_completed(list(futures), loop=client.loop):
            if future.status == "cancelled" or future.status == "lost":
                raise FarmError("the Dask scheduler is lost; what is done is stored: start again")
            same = futures.pop(future)
            if future.status == "error":
                error = future.exception()
                yield same, error if isinstance(error, Exception) else RuntimeError(repr(error))
            else:
                yield same, future.result()

    def _connect(self) -> Client:
        """Start the workers, or reach the scheduler.

        Raises:
            FarmError: there is none at the address, or it has no workers.
        """
        import dask

        folder = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="npuloop-", ignore_cleanup_errors=True)
        )
        self._stack.enter_context(
            dask.config.set(
                {
                    "temporary-directory": folder,
                    "logging": dict.fromkeys(LOGGERS, "critical"),
                    # imports once, then forks: the only processes that start fast with PyTorch in them
                    "distributed.worker.multiprocessing-method": "forkserver",
                    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
                    "distributed.scheduler.worker-saturation": 1.0,
                }
            )
        )
        from distributed import Client, LocalCluster
        from distributed.utils import get_mp_context

        get_mp_context().set_forkserver_preload(["distributed", __name__])
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        target: Any = self.scheduler
        if target is None:
            target = self._stack.enter_context(
                LocalCluster(
                    n_workers=self.workers, threads_per_worker=1, processes=True, dashboard_address=":0",
                    memory_limit=0, silence_logs=logging.CRITICAL,
                    env=dict(os.environ),
                )
            )  # fmt: skip
        try:
            client: Client = self._stack.enter_context(
                Client(target, timeout=CONNECT_SECONDS, set_as_default=False)
            )
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            raise FarmError(
                f"no Dask workers at {self.scheduler or 'this machine'} ({error}); start `dask scheduler` "
                "and `dask worker`, or leave the address out"
            ) from None
        self._stack.callback(_end_sessions, client)
        self._client = client
        return client


def _end_sessions(client: Client) -> None:
    with suppress(Exception):  # workers that are gone have no simulators
        client.run(close_sessions)


def _key(setup: Setup, shape: Shape, unit: str) -> str:
    commands = commands_digest(compile_shape(shape, unit, setup.config))
    return measurement_key(shape, unit, setup.digest, commands)


def _estimate(setup: Setup, shape: Shape, unit: str) -> float:
    """Return roughly the cycles of a job; of one that cannot run, nothing."""
    with suppress(NpuloopError, TestbenchError):
        multipliers = sum(core.rows * core.columns for core in cores_of(shape, unit, setup.config))
        pixels = shape.out_height * shape.out_width
        return shape.macs / multipliers + pixels * shape.out_channels / 16
    return 0.0
