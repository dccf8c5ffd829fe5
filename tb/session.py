# SPDX-License-Identifier: Apache-2.0
"""A session: one simulator process that runs many jobs.

    with Session(System()) as session:
        result = session.run(Job(segments=..., starts={"npu8": (0x1000, 7)}, reads=[(0x8000, 256)]))

The process starts once; between jobs the units are idle and only the memory changes. A session is used by one
thread; several sessions run side by side, one per processor core.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import find_libpython
from cocotb_tools import config as cocotb_config

from common.arrays import Bytes
from common.errors import TestbenchError
from common.paths import ROOT, build_root
from common.processes import RUN_VARIABLE, run_mark
from hw.memory import MemoryModel
from hw.system import System
from tb.build import Flavour, SimBuild, build
from tb.coverage import collect
from tb.host import (
    DELAY,
    FAIL,
    INFO_TIMEOUT,
    RESET,
    JobOps,
    OpList,
    Results,
    check_answers,
    diagnose,
    job_ops,
    soft_reset_ops,
    unit_result,
    unpack,
    write_raw_job,
)
from tb.host_queues import HostQueues
from tb.job import Job, JobError, JobResult
from tb.leftovers import SESSIONS
from tb.queues import AnsweredRequest, QueuedRequest, enable_ops
from tb.saved_job import SavedJob, save_job
from tb.session_server import CHANNEL_VARIABLE, LIFELINE_VARIABLE

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

LOG_TAIL_LINES = 25
START_SECONDS = CLOSE_SECONDS = 600.0
"""Only what hangs takes as long: a busy machine may take a minute to start a program."""
_numbers = itertools.count()


class SimulatorError(TestbenchError):
    """The simulator has died: an assertion failed, or it did not answer. The message holds the log's end."""


class Session:
    """A running simulator of one build.

    Args:
        config: the hardware.
        flavour: which build of it; "wave" or "record" for traces.
        seed: of random initial values of registers and memories; None: they are zero.
        timeout_seconds: wall-clock time after which a job that does not answer ends the session.
        structural: see :func:`tb.build.build`.
        rtl: see :func:`tb.build.build`.

    Raises:
        TestbenchError: the build fails, the simulator does not start, or its units are not those of `config`.
    """

    def __init__(
        self,
        config: System | None = None,
        flavour: Flavour = "fast",
        *,
        seed: int | None = None,
        timeout_seconds: float = 600.0,
        structural: bool = False,
        rtl: Sequence[Path] | None = None,
    ) -> None:
        self.config = config or System()
        self.flavour = flavour
        self.structural = structural
        self.seed = seed
        self.timeout_seconds = timeout_seconds * collect.slower()
        if flavour == "plain":
            raise TestbenchError("the plain flavour runs raw jobs only: see run_raw")
        self.build = build(self.config, flavour, structural=structural, rtl=rtl)
        self._folder = self._make_folder()
        self._log = self._folder / "sim.log"
        self._coverage = self._folder / "coverage.dat"
        self._last: Job | None = None
        self._open = False
        try:
            self._start()
            self.reset()
            self._check_units()
        except BaseException:
            self._abort()
            raise

    # ------------------------------------------------------------------------------------------------ process
    @staticmethod
    def _make_folder() -> Path:
        parent = build_root() / SESSIONS
        try:
            parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-{next(_numbers)}-", dir=parent))
        except OSError as error:
            raise TestbenchError(
                f"{parent}: cannot be used for sessions ({error.strerror}); name another folder in "
                "NPULOOP_BUILD"
            ) from None

    def _start(self) -> None:
        libpython = find_libpython.find_libpython()
        if libpython is None:
            raise TestbenchError("this Python has no shared library (libpython); see `npuloop doctor`")
        ours, theirs = multiprocessing.Pipe(duplex=True)
        lifeline, self._lifeline = os.pipe()  # whose other end closes when this process ends, however it does
        env = dict(os.environ)
        for name in [name for name in env if name.startswith(("COCOTB_", "GPI_", "PYGPI_", "PYTEST_"))]:
            del env[name]
        libraries = [str(cocotb_config.libs_dir), env.get("LD_LIBRARY_PATH")]
        env |= {
            "GPI_USERS": f"{libpython};{cocotb_config.pygpi_entry_point()}",
            "PYGPI_PYTHON_BIN": sys.executable,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            "COCOTB_TOPLEVEL": "tb_top",
            "COCOTB_TEST_MODULES": "tb.session_server",
            "COCOTB_RESULTS_FILE": str(self._folder / "results.xml"),
            "COCOTB_LOG_LEVEL": "WARNING",
            "COCOTB_TRUST_INERTIAL_WRITES": "1",
            "TOPLEVEL_LANG": "verilog",
            "OPENBLAS_NUM_THREADS": "1",
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
            CHANNEL_VARIABLE: str(theirs.fileno()),
            LIFELINE_VARIABLE: str(lifeline),
            RUN_VARIABLE: run_mark(),
        }
        command = [str(self.build.executable)]
        if self.seed is not None:
            command += ["+verilator+rand+reset+2", f"+verilator+seed+{self.seed & 0x7FFFFFFF or 1}"]
        command.append(f"+verilator+coverage+file+{self._coverage}")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno(), lifeline],
            )
        self._channel = ours
        self._open = True
        theirs.close()
        os.close(lifeline)
        self._receive(START_SECONDS)

    def _receive(self, seconds: float) -> dict[str, Any]:
        """Return the simulator's next message; its end ends the channel too, so this cannot hang."""
        try:
            if not self._channel.poll(seconds):
                self._process.kill()
                self._die(f"did not answer for {seconds:.0f} seconds")
            message: dict[str, Any] = self._channel.recv()
        except (EOFError, ConnectionError):
            self._die("died")
        if "failure" in message:
            self._die(f"reported\n{message['failure']}")
        return message

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self._open:
            raise SimulatorError("the session is closed")
        try:
            self._channel.send(request)
        except OSError:
            self._die("died")
        return self._receive(self.timeout_seconds)

    def _end(self) -> None:
        """Close what leads to the simulator."""
        self._open = False
        self._channel.close()
        os.close(self._lifeline)

    def _abort(self) -> None:
        """End the simulator at once, whatever it does."""
        if self._open:
            self._process.kill()
            self._process.wait()
            self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _keep_log(self) -> Path:
        """Put the log where the next run's cleaning leaves it, and return the file."""
        kept = build_root() / "failures" / f"{self._folder.name}.log"
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(self._log, kept)
            shutil.rmtree(self._folder, ignore_errors=True)
        return kept if kept.exists() else self._log

    def _die(self, what: str) -> None:
        self._end()
        try:
            code: int | None = self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        log = self._keep_log()
        lines = log.read_text(errors="replace").splitlines()
        tail = "\n".join(lines[-LOG_TAIL_LINES:]) or "(empty log)"
        text = f"the simulator {what} (exit status {code}); log: {log}\n{tail}"
        if self._last is not None:
            again = reproduction(
                self.config, self._last, self.flavour, structural=self.structural, seed=self.seed
            )
            text += f"\n{again}"
        raise SimulatorError(text)

    def close(self) -> None:
        """End the simulator. Raises :class:`SimulatorError` if it ends with an error."""
        if not self._open:
            return
        self._last = None
        try:
            self._channel.send(None)
            self._process.wait(CLOSE_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._die("did not end")
        collect.absorb(self._coverage, self.build.folder.name)
        if self._process.returncode != 0:
            self._die("failed at its end")
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        if not isinstance(error, Exception):  # an interrupt, perhaps in the middle of a job
            self._abort()
            return
        with suppress(SimulatorError):  # the first error is the one to report
            self.close()

    # --------------------------------------------------------------------------------------------------- jobs
    def _execute(self, ops: OpList, job: Job | None = None) -> tuple[Results, dict[str, Any]]:
        """Run a list of operations, on a job's memory or on the memory as it is."""
        request: dict[str, Any] = {
            "ops": ops.words(),
            "segments": list(job.segments) if job else [],
            "settings": (job.memory if job else MemoryModel()).settings(),
            "reads": list(job.reads) if job else [],
            "keep_memory": job.keep_memory if job else True,
            "fill": job.fill if job else 0,
            "trace": str(job.waves.resolve()) if job and job.waves else None,
            "scopes": list(job.wave_scopes) if job else [],
        }
        answer = self._request(request)
        results = Results(answer["results"])
        check_answers(ops, results)
        return results, answer

    def reset(self) -> None:
        """Reset the whole system, so that no earlier job decides who is served first."""
        ops = OpList()
        ops.add(RESET, 10)
        ops.add(DELAY, 10)
        self._execute(ops)

    def _check_units(self) -> None:
        ops = OpList()
        reads = {
            (core, name): ops.read(i, name)
            for i, core in enumerate(self.config.cores)
            for name in ("id", *core.registers(self.config.axi_bits))
        }
        results, _ = self._execute(ops)
        for (core, name), op in reads.items():
            expected = {"magic": 0x4E50} if name == "id" else core.registers(self.config.axi_bits)[name]
            values = unpack(name, results.value(op))
            for field, value in expected.items():
                if values[field] != value:
                    raise TestbenchError(
                        f"unit {core.name}: {name} says {field} = {values[field]}, the configuration {value}"
                    )

    def run(self, job: Job) -> JobResult:
        """Run a job and return its result.

        A job that errs or times out is a result, not an exception; the units are soft-reset then.

        Raises:
            JobError: the job does not fit the system.
            SimulatorError: the simulator died, for example because an assertion failed.
        """
        job.check(self.config)
        if job.waves is not None:
            if self.flavour not in ("wave", "record"):
                raise TestbenchError("waves need a session of the wave or record flavour")
            job.waves.parent.mkdir(parents=True, exist_ok=True)
        self._last = job
        plan = job_ops(job, self.config)
        results, answer = self._execute(plan.ops, job)
        result = self._result(job, plan, results, answer)
        collect.sample_job(self.config, job, result)
        return result

    def run_ops(self, ops: OpList, job: Job) -> tuple[Results, list[Bytes]]:
        """Run host operations of one's own on a job's memory: schedules that a job's starts cannot say.

        Units that err are not reset.

        Args:
            ops: the operations.
            job: memory image, memory settings and what to read back; it starts nothing.

        Returns:
            The operations' results, and the bytes that the job reads.

        Raises:
            JobError: the job does not fit the system.
            HostError: a register does not answer.
            SimulatorError: the simulator died.
        """
        job.check(self.config)
        self._last = job
        results, answer = self._execute(ops, job)
        return results, answer["reads"]

    def queues(self, job: Job) -> HostQueues:
        """Put the host's queues to work; until they are closed, the session does nothing else.

        Args:
            job: memory image and memory settings; it starts nothing.

        Raises:
            JobError: the job does not fit the system, or asks for waves.
        """
        job.check(self.config)
        if job.waves is not None:
            raise JobError("a stream of requests is not traced; run its jobs one by one")
        self._last = job
        self._execute(enable_ops(self.config), job)
        return HostQueues(self)

    def serve(self, requests: Iterable[QueuedRequest], job: Job) -> Generator[AnsweredRequest, None, None]:
        """Run a stream of requests through the units' queues, and yield each when it is complete.

        A unit's requests run in the order of the stream, so that none can wait for ever. One that fails ends
        alone: its units are soft-reset, and take the next.

        Args:
            requests: any number; taken when their queues have room.
            job: memory image and memory settings; it starts nothing.

        Raises:
            JobError: a request or the job does not fit the system, or the job asks for waves.
            HostError: a unit's registers do not answer, or it is not ready after a soft reset.
            SimulatorError: the simulator died.
        """
        source = iter(requests)
        with self.queues(job) as queues:
            request = next(source, None)
            while True:
                while request and queues.add(request):
                    request = next(source, None)
                answers = queues.run()
                if not answers:
                    return
                yield from (item.request for item in answers if item.request)

    def _result(self, job: Job, plan: JobOps, results: Results, answer: dict[str, Any]) -> JobResult:
        units = {
            unit: unit_result(unit, {name: results.value(op) for name, op in registers.items()})
            for unit, registers in plan.registers.items()
        }
        timed_out = plan.waited is not None and results.info(plan.waited) == INFO_TIMEOUT
        failed = timed_out or any(unit.error for unit in units.values())
        diagnosis = ""
        if failed:
            head = [f"given up after {job.max_cycles} cycles"] if timed_out else []
            diagnosis = "\n".join([*head, *(diagnose(job, unit) for unit in units.values())])
        stuck = [unit for unit, poll in plan.polls.items() if results.info(poll) == INFO_TIMEOUT]
        if failed:
            ops = OpList()
            # all units: an event that a failed job has left behind must not reach the next one
            polls = soft_reset_ops(ops, self.config, [core.name for core in self.config.cores])
            reset_results, _ = self._execute(ops)
            stuck += [unit for unit, poll in polls.items() if reset_results.info(poll) == INFO_TIMEOUT]
        if stuck:
            diagnosis += f"\nnot ready after a soft reset: {', '.join(stuck)}"
            self.reset()
        end = plan.waited if plan.waited is not None else max(plan.polls.values(), default=plan.first_start)
        return JobResult(
            reads=answer["reads"],
            units=units,
            cycles=results.cycle(end) - results.cycle(plan.first_start) if units else 0,
            timed_out=timed_out,
            diagnosis=diagnosis.strip(),
            stuck=tuple(stuck),
            outstanding=answer["outstanding"],
            read_beats=answer["read_beats"],
            write_beats=answer["write_beats"],
            sim_cycles=results.cycle(len(plan.ops.ops)),
            seconds=answer["seconds"],
        )

    def provoke_assertion(self) -> None:
        """Break an assertion on purpose: raises :class:`SimulatorError` if all is as it should be."""
        self._last = None
        ops = OpList()
        ops.add(FAIL)
        self._execute(ops)


# ---------------------------------------------------------------------------------------------------- helpers
def reproduction(
    config: System, job: Job, flavour: Flavour = "fast", *, structural: bool = False, seed: int | None = None
) -> str:
    """Save a job and return the line that runs it again with waves."""
    path = save_job(SavedJob(config, job, flavour, structural, seed))
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"reproduce: .venv/bin/python -m tb.replay {name}"


def rerun_with_waves(config: System, job: Job, path: Path | None = None) -> Path:
    """Run a job once more in the wave flavour and return the trace file, also if the simulator dies on it."""
    built = build(config, "wave")
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_numbers)}"
    waves = path or build_root() / "waves" / (stem + built.trace_suffix)
    try:
        with Session(config, "wave") as session:
            session.run(replace(job, waves=waves))
    except SimulatorError:
        if not waves.exists():
            raise
    return waves


def run_raw(built: SimBuild, job: Job) -> tuple[int, float]:
    """Run a job without Python in the loop; return cycles and seconds: the yardstick of a session's speed."""
    with tempfile.TemporaryDirectory(prefix=f"raw-{os.getpid()}-", dir=build_root()) as folder:
        file = Path(folder) / "raw.job"
        write_raw_job(file, job, built.config)
        command = [str(built.executable), f"+raw_job={file}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        words = line.split()
        if words[:1] == ["raw_job"] and done.returncode == 0:
            return int(words[2]), float(words[4])
    raise SimulatorError(f"raw job failed (exit status {done.returncode})\n{done.stdout}{done.stderr}")
