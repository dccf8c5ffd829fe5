# SPDX-License-Identifier: Apache-2.0
"""What the host reads and writes while a unit works, stops or has stopped disturbs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from hw.commands import encode
from hw.interface import REGISTERS
from mapping.run.layers import job_of
from tb.host import DELAY, WAIT, OpList, pack
from tb.job import Job
from tb.tests.faults import Bench, small

pytestmark = pytest.mark.rtl

START = pack("ctrl", start=1)


def launch(bench: Bench, job: Job) -> tuple[OpList, int]:
    """Return operations that start a job's list on the bench's unit, and the unit's number."""
    ops, index = OpList(), bench.session.config.index(bench.unit)
    address, count = job.starts[bench.unit]
    ops.write(index, "irq_status", pack("irq_status", done=1, error=1))
    ops.write(index, "irq_enable", pack("irq_enable", done=1, error=1))
    ops.write(index, "cmd_address", address)
    ops.write(index, "cmd_count", count)
    ops.write(index, "ctrl", START)
    return ops, index


def test_reads_and_writes_of_every_register_leave_a_running_list_alone(bench: Bench) -> None:
    """Read-only registers keep what they say, starts are ignored, the layer is exact and takes its cycles."""
    program = bench.reference.program
    job = job_of(program)
    ops, index = launch(bench, job)
    configuration = {name: ops.read(index, name) for name in ("id", "config_array", "config_memory")}
    for name in REGISTERS:
        ops.read(index, name)
        if name not in ("irq_status", "irq_enable"):
            ops.write(index, name, START if name == "ctrl" else 0xFFFF_FFFF)
    ops.write(index, "irq_enable", pack("irq_enable", done=1, error=1))
    ops.write(index, "irq_status", pack("irq_status", error=1))
    again = {name: ops.read(index, name) for name in configuration}
    ops.read(index, "config_pipeline")
    busy = ops.read(index, "status")
    waited = ops.add(WAIT, 1 << index, REGISTERS["irq_status"][0], pack("irq_status", error=1), 100_000)
    cycles, kept = ops.read(index, "cycles"), ops.read(index, "cmd_address")
    results, answer = bench.session._execute(ops, job)
    assert results.info(waited) == 0
    assert results.value(busy) == pack("status", busy=1), "the accesses took longer than the layer"
    for name, op in configuration.items():
        assert results.value(again[name]) == results.value(op) != 0
    assert results.value(cycles) == bench.reference.cycles[None]
    assert results.value(kept) == 0xFFFF_FFFF
    np.testing.assert_array_equal(program.decode_output(answer["reads"][0]), bench.reference.golden)
    bench.recovers()


@pytest.mark.parametrize("until", range(0, 60, 3))
def test_a_start_while_a_unit_stops_or_has_stopped_is_ignored(bench: Bench, until: int) -> None:
    """After an error, and while a soft reset ends traffic, nothing starts; a soft reset makes it ready."""
    broken = bench.job([small("load", line_words=300), encode("nop", engine=3)])
    ops, index = launch(bench, broken)
    ops.add(DELAY, 60 + until)
    ops.write(index, "ctrl", START)
    ops.write(index, "ctrl", pack("ctrl", soft_reset=1))
    ops.write(index, "ctrl", START)
    ops.add(DELAY, 400)
    ops.write(index, "ctrl", pack("ctrl", soft_reset=1))
    ops.add(DELAY, 400)
    status, cause = ops.read(index, "status"), ops.read(index, "error_cause")
    results, answer = bench.session._execute(ops, broken)
    assert results.value(status) == 0
    assert results.value(cause) == 0
    assert answer["outstanding"] == 0
    bench.recovers()


def test_a_soft_reset_while_one_stops_the_unit_is_one(bench: Bench) -> None:
    """A second request in the first one's stop leaves the unit as ready as one does."""
    for after in (1, 30, 70, 120):
        ops, index = launch(bench, bench.job([small("load", line_words=2000)]))
        ops.add(DELAY, after)
        for _ in range(3):
            ops.write(index, "ctrl", pack("ctrl", soft_reset=1))
        ops.add(DELAY, 400)
        status = ops.read(index, "status")
        results, answer = bench.session._execute(ops, bench.job([small("load", line_words=2000)]))
        assert results.value(status) == 0
        assert answer["outstanding"] == 0
        bench.recovers()


def test_an_error_while_engines_wait_for_tokens_ends_their_wait(bench: Bench) -> None:
    """Load and compute wait for tokens that nobody posts when fetch meets a command of no engine."""
    waits = [encode("nop", engine="load", wait_compute=1), encode("nop", engine="compute", wait_load=1)]
    commands = [*waits, *(encode("nop", engine="store", fence=1) for _ in range(12)), encode("nop", engine=3)]
    bench.fails(bench.job(commands), "illegal_command", "fetch", len(commands) - 1)
    bench.recovers()
