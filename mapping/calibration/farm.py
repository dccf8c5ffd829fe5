# SPDX-License-Identifier: Apache-2.0
"""Runs measurements side by side: in workers (common.workers) with a simulator each, or in this process.

    with Farm() as farm:
        for measurement in farm.measure(setup, [(shape, "npu8")], Store("measurements.jsonl")):
            print(measurement.shape.name, measurement.cycles)

A script needs the usual `if __name__ == "__main__":`, see common.workers.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from common.errors import NpuloopError, TestbenchError
from common.workers import Workers
from mapping.calibration.measurement import (
    Measurement,
    Setup,
    commands_digest,
    compile_shape,
    measure,
    measurement_key,
)
from mapping.calibration.store import Store
from mapping.cost.model import cores_of, units_of
from mapping.cost.shapes import Shape
from tb.build import build
from tb.session import Session

Job = tuple[Shape, str]
"""A shape, and the unit that runs it; a shape with a split names its own."""


class FarmError(NpuloopError):
    """Measurements that failed, after all others are done."""


# ---------------------------------------------------------------------------------------- in a worker process
_sessions: dict[str, Session] = {}
_lock = threading.Lock()
"""A session is used by one thread at a time, however many a worker has."""
MOST_SESSIONS = 4
"""Simulators that stay open in a worker; the one that was opened first goes."""


def run_job(setup: Setup, shape: Shape, unit: str) -> Measurement:
    """Measure in this process, in a session that stays open for the next job of the same setup."""
    with _lock:
        if setup.digest not in _sessions:
            if len(_sessions) == MOST_SESSIONS:
                _close(next(iter(_sessions)))
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
class Farm(Workers):
    """Workers for measurements. They start with the first job that is not stored.

    Args:
        workers: number of worker processes; None: one per processor core; 0: none, in this process.
        scheduler: address of a running Dask scheduler, whose workers are used instead.
        tls: for a scheduler at tls://, see `Workers`.
        job: what a worker does, for tests.
    """

    def __init__(
        self,
        workers: int | None = None,
        scheduler: str | None = None,
        *,
        tls: tuple[Path, Path, Path] | None = None,
        job: Callable[[Setup, Shape, str], Measurement] = run_job,
    ) -> None:
        super().__init__(workers, scheduler, tls=tls, preload=[__name__], at_end=close_sessions)
        self._job = job

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
            FarmError: at the end, if jobs have failed: with the names of their shapes.
            WorkersError: the workers cannot be reached or are lost; what is done is stored.
            StoreError: the store cannot be written.
            BuildError: the simulator cannot be built.
        """
        store.refresh()
        known = {_place(item.shape, item.unit) for item in store if item.setup == setup.digest}
        todo: dict[tuple[str, str], list[Job]] = {}
        failed: list[str] = []
        every, done = list(jobs), 0

        def count(jobs: int = 1) -> None:
            nonlocal done
            done += jobs
            if progress:
                progress(done, len(every))

        for shape, unit in every:
            place = _place(shape, unit)
            try:
                stored = store.get(_key(setup, shape, unit)) if place in known else None
            except NpuloopError:  # a compiler that has forgotten the shape: reported below
                stored = None
            if stored is None:
                todo.setdefault(place, []).append((shape, unit))
            else:
                count()
                yield replace(stored, shape=shape, unit="+".join(units_of(shape, unit, setup.config)))
        if not todo:
            return
        build(setup.config, rtl=setup.rtl)
        longest_first = sorted(todo.values(), key=lambda same: -_estimate(setup, *same[0]))
        for index, outcome in self.run([(self._job, (setup, *same[0])) for same in longest_first]):
            same = longest_first[index]
            if isinstance(outcome, Measurement) and outcome.setup != setup.digest:
                outcome = FarmError("the worker that ran it has other RTL than this process")
            if isinstance(outcome, Exception):
                names = ", ".join(repr(shape.name) for shape, _ in same)
                failed.append(f"{names} on {_on(*same[0])}: {outcome or type(outcome).__name__}")
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


def _on(shape: Shape, unit: str) -> str:
    """Return where a shape runs, for people."""
    return "+".join(shape.split or (unit,))


def _place(shape: Shape, unit: str) -> tuple[str, str]:
    """Return what tells jobs apart: the shape, and the unit where no split names any."""
    return shape.key, "" if shape.split else unit


def _key(setup: Setup, shape: Shape, unit: str) -> str:
    commands = commands_digest(compile_shape(shape, unit, setup.config))
    return measurement_key(shape, unit, setup.digest, commands)


def _estimate(setup: Setup, shape: Shape, unit: str) -> float:
    """Return roughly the cycles of a job; of one that cannot run, nothing."""
    with suppress(NpuloopError):
        multipliers = sum(core.rows * core.columns for core in cores_of(shape, unit, setup.config))
        pixels = shape.out_height * shape.out_width
        return shape.macs / multipliers + pixels * shape.out_channels / 16
    return 0.0
