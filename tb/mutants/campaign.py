# SPDX-License-Identifier: Apache-2.0
"""Runs a draw: several workers take mutants in turn, each until a test sees it or all tests have looked.

All state is in files, which are there whole or not at all; a campaign that was interrupted goes on. A worker
that has claimed a mutant holds a lock, which its end releases.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common.files import write_json
from tb.mutants import results
from tb.mutants.draw import Draw
from tb.mutants.equivalents import Equivalent, reason
from tb.mutants.plan import MARKS, TestFile, order
from tb.mutants.pool import Run, run_file, warm_up
from tb.mutants.source import MutantError

FIRST_LIMIT_SECONDS = 1800.0
"""For the run of a file on the design itself, which builds simulators."""
GRACE_SECONDS = 60.0
GRACE_FACTOR = 3.0
STORED_FACTOR = 10.0
"""A mutant gets so many seconds more than so many times what the design took, or than so many times what
`durations.json` says, if that is less: the design's own run built simulators."""


@dataclass(frozen=True)
class Campaign:
    """A draw and how it is run.

    Args:
        folder: of everything that it writes.
        draw: the mutants.
        files: the tests.
        entries: mutants that no test can see; they are not run.
        near: only the nearest tests run.
        most: seconds; files of tests that take longer do not run, but for benches.
        with_equivalents: those are run nevertheless, to see whether a test kills one.
        marks: which tests of a file run.
        simulators: folder of simulators; None: one of the campaign's own.
    """

    folder: Path
    draw: Draw
    files: Sequence[TestFile]
    entries: Sequence[Equivalent] = field(default_factory=list)
    near: bool = False
    most: float = math.inf
    with_equivalents: bool = False
    marks: str = MARKS
    simulators: Path | None = None

    def order(self, number: int) -> list[TestFile]:
        """Return the tests that look at a mutant."""
        files = [file for file in self.files if file.rtl or file.seconds <= self.most]
        return order(files, self.draw.mutants[number].file, self.near)

    def record(self, number: int) -> results.Record:
        """Return what is known of a mutant and still holds."""
        return results.load(self.folder, number).fits(self.files)

    def summary(self) -> results.Summary:
        """Return the outcome so far."""
        numbers = self.draw.mutants
        records = {number: self.record(number) for number in numbers}
        files = {number: self.order(number) for number in numbers}
        return results.summarise(numbers, records, files, self.entries)

    def run(self, jobs: int) -> results.Summary:
        """Run all mutants that are open.

        Raises:
            MutantError: a worker has failed.
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("mutants: ended; the same command goes on"))
        warm_up()
        children = [_fork(self) for _ in range(jobs)]
        try:
            states = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        except BaseException:
            for child in children:
                os.kill(child, signal.SIGTERM)
                os.waitpid(child, 0)
            raise
        if any(states):
            raise MutantError("a worker has failed, see above; the same command goes on where it was")
        return self.summary()

    # ------------------------------------------------------------------------------------------- one worker
    def work(self) -> None:
        """Take mutants that no other worker has, until none is left."""
        for number, mutant in self.draw.mutants.items():
            if not self.with_equivalents and reason(self.entries, mutant) is not None:
                continue
            with _claimed(self.folder / "claims" / f"{number}.lock") as mine:
                if mine:
                    self.judge(number)

    def judge(self, number: int) -> None:
        """Run tests on a mutant until one sees it."""
        record, mutant = self.record(number), self.draw.mutants[number]
        files = self.order(number)
        if record.killer or record.survives(files):
            return
        for file in files:
            if record.passed.get(file.name) == file.digest:
                continue
            base = self.baseline(file)
            if base.passed:
                longest = min(GRACE_FACTOR * base.seconds, STORED_FACTOR * file.seconds)
                limit = GRACE_SECONDS + longest
                run = self.run_file(file, number, limit, base.failed)
                record.seconds += run.seconds
                if run.red:
                    record.killer, record.digest, record.hung = file.name, file.digest, run.hung
                    record.test = run.failed[0] if run.failed else ""
                    break
            record.passed[file.name] = file.digest
            results.save(self.folder, number, record)
        results.save(self.folder, number, record)
        how = f"killed by {record.test or record.killer}" if record.killer else "SURVIVES"
        late = " (time limit)" if record.hung else ""
        print(f"{number:4} {how}{late} in {record.seconds:.0f} s: {mutant.place} {mutant.change}", flush=True)

    def run_file(self, file: TestFile, number: int, limit: float, leave_out: Sequence[str]) -> Run:
        """Run a file of tests on a mutant."""
        return run_file(
            file.name, number, self.draw.rtl, self.simulators or self.folder / "simulators", limit,
            leave_out=leave_out, first=number != 0, marks=self.marks,
        )  # fmt: skip

    def baseline(self, file: TestFile) -> Run:
        """Return what a file of tests says of the design itself; its first call builds the simulators.

        Tests that fail on the copy without a mutant are left out, and named at the end.

        Raises:
            MutantError: no test of the file passes.
        """
        path = self.folder / "baseline" / f"{file.name.replace('/', '.')}-{file.digest}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                run = self.run_file(file, 0, FIRST_LIMIT_SECONDS, [])
                if run.hung or (run.failed and not run.passed):
                    raise MutantError(
                        f"{file.name}: no test passes on the copy of the design without a mutant "
                        f"(failed: {', '.join(run.failed[:3]) or 'it hung'}); look with "
                        f"NPULOOP_RTL={self.draw.rtl} python -m pytest {file.name}"
                    )
                write_json(path, asdict(run))
                if run.failed:
                    print(f"left out, as they fail on the copy: {', '.join(run.failed)}", flush=True)
        return Run(**json.loads(path.read_text()))


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _fork(campaign: Campaign) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        campaign.work()
        status = 0
    except MutantError as error:
        print(f"mutants: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)
