# SPDX-License-Identifier: Apache-2.0
"""How fast the simulation is: a session's cycles per second beside a plain C++ loop's."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import TestbenchError
from hw.system import System
from tb.build import build
from tb.job import Job
from tb.session import Session, run_raw


@dataclass(frozen=True)
class Speed:
    """Simulated cycles per second of the same job: in a session, and without Python and VPI."""

    cycles: int
    session_hz: float
    raw_hz: float

    @property
    def ratio(self) -> float:
        """Session speed as a share of the plain harness's."""
        return self.session_hz / self.raw_hz


def compare_speed(config: System, job: Job, repeats: int = 3) -> Speed:
    """Run a job `repeats` times each way and return the best speeds; a million cycles is a good length."""
    plain = build(config, "plain")
    raw = [run_raw(plain, job) for _ in range(repeats)]
    with Session(config) as session:
        results = [session.run(job) for _ in range(repeats)]
    for result in results:
        if not result.ok:
            raise TestbenchError(f"the job for the speed comparison fails: {result.diagnosis}")
    return Speed(
        cycles=results[0].sim_cycles,
        session_hz=max(result.sim_cycles / result.seconds for result in results),
        raw_hz=max(cycles / seconds for cycles, seconds in raw),
    )
