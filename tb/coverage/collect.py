# SPDX-License-Identifier: Apache-2.0
"""Collection while tests run: where coverage goes, how simulators are built for it, and what they leave.

Environment: NPULOOP_COVERAGE names the folder that collects. With NPULOOP_CODE_COVERAGE=1 simulators count
lines, branches and toggles too, which makes them slower; without it only the functional plan is sampled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.files import write_atomically
from hw.system import System
from tb.coverage.monitors import monitor_text
from tb.coverage.plan import sample_once, save
from tb.job import Job, JobResult
from tb.leftovers import locked

TESTBENCH_OFF = Path(__file__).with_name("testbench.vlt")
"""Says that the test bench's own files are not counted."""
MAX_WIDTH = 256
"""Bits of the widest signal whose toggles are counted; with 4096, and so with tiles of weights and with the
sums of whole arrays, a simulator takes three times as long."""
FLAGS = ("--coverage-line", "--coverage-toggle", "--coverage-user", "--coverage-max-width", str(MAX_WIDTH))
COUNTING_SLOWER = 4
"""How many times longer a simulator may take that counts, besides what else keeps the machine busy."""
_POINT = re.compile(rb"^C '(.*)' (\d+)$", re.MULTILINE)


def folder() -> Path | None:
    """Return the folder that collects, or None if nothing is collected."""
    named = os.environ.get("NPULOOP_COVERAGE")
    return Path(named).resolve() if named else None


def counts_code() -> bool:
    """Return whether simulators are built to count lines, branches and toggles."""
    return folder() is not None and os.environ.get("NPULOOP_CODE_COVERAGE") == "1"


def slower() -> int:
    """Return the factor of limits of time: more than 1 where simulators count."""
    return COUNTING_SLOWER if counts_code() else 1


def verilator_flags() -> list[str]:
    """Return what Verilator gets to count lines, branches and toggles: nothing if they are not counted."""
    return list(FLAGS) if counts_code() else []


def verilator_sources(modules: Sequence[str]) -> list[Path]:
    """Return the files that a counted design of some modules of the RTL has besides: see `plan.yaml`."""
    place = folder()
    if place is None or not counts_code():
        return []
    files = [TESTBENCH_OFF]
    for module in modules:
        text = monitor_text(module)
        if text is None:
            continue
        file = place / "monitors" / f"cover_{module}.sv"
        if not file.exists() or file.read_text() != text:
            write_atomically(file, lambda out, text=text: out.write(text.encode()))  # type: ignore[misc]
        files.append(file)
    return files


def sample_job(config: System, job: Job, result: JobResult) -> None:
    """Sample a job of a session for the functional plan, if something is collected."""
    place = folder()
    if place is None:
        return
    from tb.coverage.jobs import sample_job as sample_it

    if sample_it(config, job, result):
        save(place, "jobs")


def sample_bench(group: str, **values: object) -> None:
    """Sample the stimulus of a block's bench for the functional plan, if something is collected."""
    place = folder()
    if place is not None and sample_once(group, **values):
        save(place, "bench")


def absorb(data: Path, build: str) -> None:
    """Add what a simulator has counted to what its build has counted before, and remove its file.

    Args:
        data: the file as Verilator writes it; nothing happens if there is none.
        build: name of the build, whose simulators all have the same points in the same order.
    """
    place = folder()
    if place is None or not data.exists():
        return
    found = _POINT.findall(data.read_bytes())
    data.unlink()
    if not found:  # a design without RTL
        return
    counts = np.array([min(int(count), 1 << 40) for _, count in found], dtype=np.int64)
    target = place / "code"
    target.mkdir(parents=True, exist_ok=True)
    with locked(target / f"{build}.lock"):
        points, total = target / f"{build}.points", target / f"{build}.npy"
        if total.exists():
            counts += np.load(total)
        else:
            names = b"\n".join(name for name, _ in found)
            write_atomically(points, lambda file: file.write(names))
        write_atomically(total, lambda file: np.save(file, counts))
