# SPDX-License-Identifier: Apache-2.0
"""Runs jobs side by side: in Dask workers, or in this process.

    with Workers() as workers:
        for index, outcome in workers.run([(train, (setting,)) for setting in settings]):
            print(settings[index], outcome)

A job is a function of a module and its arguments; both are pickled, as is what it returns or raises. It runs
again, from its beginning, on another worker when its worker dies: a long one keeps checkpoints.

Dask starts its workers as new Python processes that import the main module: a script needs the usual
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from common.errors import NpuloopError

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster
    from distributed.security import Security
    from typing_extensions import Self  # typing has it from Python 3.11 on

T = TypeVar("T")
Call = tuple[Callable[..., T], tuple[Any, ...]]
"""A function and its arguments."""

LOOPBACK, TLS = "127.0.0.1", "tls://"
LOGGERS = ("distributed", "distributed.client")
CONNECT_SECONDS = 30.0
START_SECONDS = 5.0
"""How long `close` waits for a worker's process that is just being started."""
WORKER_SECONDS = 600.0
"""A busy machine may take minutes to start a worker; only what hangs takes as long."""
ALLOWED_DEATHS = 1
"""Workers that may die on a job before Dask gives it up; afterwards the job gets as many once more, alone."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""What a worker's environment says to PyTorch and to linear algebra: a core has a worker already."""


class WorkersError(NpuloopError):
    """Workers that cannot be reached, are lost, or have all died on one job."""


class Workers:
    """Workers for jobs. They start with the first job, and end with the `with` block or `close`.

    Args:
        workers: number of worker processes, with one thread each; None: one per processor core; 0: none, in
            this process.
        scheduler: address of a running Dask scheduler, whose workers are used instead.
        tls: for a scheduler at tls://: files of the authority, the certificate and its key (PEM); without
            them what Dask is configured with.
        preload: modules that the first workers of this process import once for all: those of the jobs.
        at_end: called in every worker when it is not needed any more, or in this process if that is the one.
    """

    def __init__(
        self,
        workers: int | None = None,
        scheduler: str | None = None,
        *,
        tls: tuple[Path, Path, Path] | None = None,
        preload: Sequence[str] = (),
        at_end: Callable[[], None] | None = None,
    ) -> None:
        if workers is not None and workers < 0:
            raise WorkersError(f"{workers} workers; give 1 or more, or 0 to stay in this process")
        if scheduler is not None and workers is not None:
            raise WorkersError(
                "give a number of workers or a scheduler, not both: a scheduler has its workers"
            )
        if tls is not None and not (scheduler or "").startswith(TLS):
            raise WorkersError(
                f"files for TLS belong to a scheduler at {TLS}HOST:PORT, not {scheduler or 'none'}"
            )
        self.workers = workers
        self.scheduler = scheduler
        self.tls = tls
        self._preload = tuple(preload)
        self._at_end = at_end
        self._stack = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what the jobs have left open (`at_end`), and the workers unless they are a scheduler's."""
        if self.workers == 0 and self._at_end:
            self._at_end()
        self._client = None
        self._stack.close()

    def run(self, jobs: Sequence[Call[T]]) -> Iterator[tuple[int, T | Exception]]:
        """Run the jobs, in the order given as far as workers are free; yield them as they are done.

        A job whose worker dies goes to another one. After two deaths it may be another job's fault: it runs
        once more when the others are done, with no job beside it.

        Yields:
            The job's index, and what it returned or the exception that it raised; a WorkersError if all
            workers that ran it died.

        Raises:
            WorkersError: the workers cannot be reached or are lost.
        """
        if self.workers == 0:
            for index, job in enumerate(jobs):
                yield index, _here(job)
            return
        if not jobs:
            return
        from distributed.scheduler import KilledWorker

        again = []
        for index, outcome in self._distributed(dict(enumerate(jobs))):
            if isinstance(outcome, KilledWorker):  # perhaps another job of that worker was the reason
                again.append(index)
            else:
                yield index, outcome
        for alone in again:
            for index, outcome in self._distributed({alone: jobs[alone]}):
                if isinstance(outcome, KilledWorker):
                    outcome = WorkersError("every worker that ran it died")
                yield index, outcome

    def _distributed(self, jobs: Mapping[int, Call[T]]) -> Iterator[tuple[int, T | Exception]]:
        from distributed import as_completed

        client = self._client or self._connect()
        # One name for all: Dask takes many tasks of one name for a crowd and keeps all but about two for each
        # worker back until one is free. A worker that dies casts no suspicion on those.
        futures: dict[Future[Any], int] = {
            client.submit(function, *arguments, key=f"job-{uuid.uuid4()}", priority=-index): index
            for index, (function, arguments) in jobs.items()
        }
        for future in as_completed(list(futures), loop=client.loop):
            outcome = _outcome(future)
            if future.status == "cancelled":
                raise WorkersError("the Dask scheduler is lost; start it and this run again")
            index = futures.pop(future)
            future.release()  # or Dask would run the job again if its worker died now
            yield index, outcome

    def _connect(self) -> Client:
        """Start the workers, or reach the scheduler.

        Raises:
            WorkersError: there is none at the address, or it has no workers.
        """
        import dask

        folder = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix=f"npuloop-{os.getpid()}-", ignore_cleanup_errors=True)
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

        get_mp_context().set_forkserver_preload(["distributed", *self._preload])
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        target: Any = self.scheduler
        if target is None:
            self._stack.enter_context(_environment(ONE_THREAD))  # the fork server reads it, then the workers
            target = self._stack.enter_context(
                LocalCluster(
                    n_workers=self.workers, threads_per_worker=1, processes=True, memory_limit=0,
                    host=LOOPBACK, dashboard_address=f"{LOOPBACK}:0", worker_dashboard_address=None,
                    silence_logs=logging.CRITICAL, env=dict(os.environ),
                )
            )  # fmt: skip
            self._stack.callback(_processes_are_there, target)
        try:
            client: Client = self._stack.enter_context(
                Client(target, timeout=CONNECT_SECONDS, set_as_default=False, security=self._security())
            )
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except (OSError, RuntimeError, TypeError, ValueError, asyncio.TimeoutError) as error:
            raise WorkersError(
                f"no Dask workers at {self.scheduler or 'this machine'} ({error}); start `dask scheduler` "
                "and `dask worker`, or leave the address out"
            ) from None
        if self._at_end:
            self._stack.callback(_everywhere, client, self._at_end)
        self._client = client
        return client

    def _security(self) -> Security | None:
        """Return what a connection to a scheduler over TLS needs; without files what Dask is configured with.

        Raises:
            WorkersError: a file of the keys cannot be read, or is none.
        """
        if self.scheduler is None or not self.scheduler.startswith(TLS):
            return None
        from distributed.security import Security

        names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
        files = {name: str(path) for name, path in zip(names, self.tls or (), strict=False)}
        try:
            security = Security(require_encryption=True, **files)
            if security.get_connection_args("client")["ssl_context"] is None:  # reads them
                raise ValueError("no certificate")  # noqa: TRY301
        except (OSError, ValueError, TypeError, KeyError) as error:
            asked = ", ".join(files.values()) or "Dask's configuration"
            raise WorkersError(
                f"TLS with {asked}: {error}; give --tls-ca, --tls-cert and --tls-key"
            ) from None
        return security


def _here(job: Call[T]) -> T | Exception:
    function, arguments = job
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001  # whatever a job raises is that job's
        return error


def _outcome(future: Future[Any]) -> Any:
    """Return what a job has come to, after it has run again if its worker died with the result."""
    if future.status == "error":
        error = future.exception()
        return error if isinstance(error, Exception) else RuntimeError(repr(error))
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001  # a result that cannot be pickled is its job's fault
        return error


def _processes_are_there(cluster: LocalCluster) -> None:
    """Wait while a worker that follows a dead one has no process yet: Dask cannot close a cluster then."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and any(_starts(nanny) for nanny in cluster.workers.values()):
        time.sleep(0.02)


def _starts(nanny: Any) -> bool:
    process = nanny.process.process if nanny.process else None
    return process is not None and process.pid is None


def _everywhere(client: Client, function: Callable[[], None]) -> None:
    with suppress(Exception):  # workers that are gone have nothing open
        client.run(function)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have these variables in the environment, then what was there before."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
