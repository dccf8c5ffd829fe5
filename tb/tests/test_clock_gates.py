# SPDX-License-Identifier: Apache-2.0
"""Clocks of units that have nothing to do stand still, and results, counters and cycles are the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.commands import command_list, encode
from hw.memory import MemoryModel
from hw.sources import rtl_sources
from hw.system import System
from mapping.run.layers import job_of
from tb.host import DELAY, RESET, OpList
from tb.job import Job, JobResult
from tb.session import Session
from tb.testing import LIST, UNITS
from tb.tests.faults import BACKPRESSURE, CORES, OTHER, Reference, reference_program, registers, small
from tb.vcd import read_trace

pytestmark = pytest.mark.rtl

CELL = "npu_clock_gate.sv"
FEED_THROUGH = """\
module npu_clock_gate #(
  parameter bit FeedThrough = 1'b0
) (
  input  logic clk_i,
  input  logic enable_i,
  output logic clk_o
);
  assign clk_o = clk_i;
endmodule
"""
"""A cell that a chip without clock gates puts in the place of ours."""

TAIL = 2
"""Cycles that a unit stays awake after its last reason (npu_core_clock)."""


@pytest.fixture(scope="module")
def ungated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The default pair without clock gates."""
    cell = tmp_path_factory.mktemp("cell") / CELL
    cell.write_text(FEED_THROUGH)
    with Session(System(), rtl=[cell if file.name == CELL else file for file in rtl_sources()]) as session:
        yield session


def both_units() -> Job:
    """Return a job in which each unit computes a layer."""
    programs = [reference_program(CORES[name], OTHER * i) for i, name in enumerate(UNITS)]
    return Job(
        segments=[segment for program in programs for segment in program.segments],
        reads=[item for program in programs for item in job_of(program).reads],
        starts={program.unit.name: program.commands for program in programs},
    )


def one_wakes_the_other() -> Job:
    """Return a job in which a unit sleeps at first, then waits for a signal of the other one."""
    signal = [small("load"), encode("signal", engine="load", event_id=3)]
    wait = [encode("wait", engine="load", event_id=3, amount=1), small("load", post_store=1)]
    wait.append(small("store", wait_load=1))
    starts = {"npu8": (LIST, len(signal)), "npu_lb": (LIST + 0x1000, len(wait))}
    return Job(segments=[(LIST, command_list(signal)), (LIST + 0x1000, command_list(wait))], starts=starts)


def jobs() -> dict[str, Job]:
    """Return jobs that end well, that fail, and that are broken off, by name."""
    layers = {name: job_of(reference_program(CORES[name])) for name in UNITS}
    found = {f"{name} alone": job for name, job in layers.items()}
    stalls = MemoryModel(backpressure_percent=25, backpressure_seed=BACKPRESSURE)
    found |= {f"{name} stalled": replace(job, memory=stalls) for name, job in layers.items()}
    found |= {f"{name} is reset": replace(job, reset_after=333) for name, job in layers.items()}
    return found | {"both": both_units(), "events": one_wakes_the_other()}


def seen(result: JobResult) -> dict[str, object]:
    """Return all that a host sees of a job."""
    units = {name: vars(unit) for name, unit in result.units.items()}
    return {
        "ok": result.ok,
        "stuck": result.stuck,
        "reads": [r.tolist() for r in result.reads],
        "units": units,
    }


def test_nothing_is_different_where_clocks_never_stop(pair: Session, ungated: Session) -> None:
    """Results, counters, cycles and registers of every job, one after the other, with breaks between."""
    pair.reset()
    for number, (name, job) in enumerate(jobs().items()):
        assert seen(pair.run(job)) == seen(ungated.run(job)), name
        for session in (pair, ungated):
            ops = OpList()
            ops.add(DELAY, 1 + number)  # asleep, or about to fall asleep
            session._execute(ops)
        assert registers(pair) == registers(ungated), name


@pytest.mark.parametrize("unit", UNITS)
def test_a_sleeping_unit_is_reset_like_any_other(
    pair: Session, references: dict[str, Reference], unit: str
) -> None:
    """A hard reset reaches a unit whose clock stands still; what comes first afterwards is exact."""
    reference = references[unit]
    for pause in (0, 1, 2, 3, 50):
        ops = OpList()
        ops.add(DELAY, pause)
        ops.add(RESET, 3)
        pair._execute(ops)
        result = pair.run(job_of(reference.program))
        assert result.ok, result.diagnosis
        np.testing.assert_array_equal(reference.program.decode_output(result.reads[0]), reference.golden)
        assert result.units[unit].cycles == reference.cycles[None]


def test_clocks_run_only_for_work_and_accesses(tmp_path: Path) -> None:
    """While one unit works the other one's clock stands still, but for the host's accesses."""
    job = job_of(reference_program(CORES["npu8"]))
    clocks = [f"tb_top.u_soc.gen_core[{i}].i_clock" for i in range(len(UNITS))]
    gates = [f"{clock}.i_gate.gen_gate" for clock in clocks]
    with Session(System(), "record") as session:
        result = session.run(replace(job, waves=tmp_path / "clocks.vcd", wave_scopes=[*clocks, *gates]))
        assert result.ok
    trace = read_trace(tmp_path / "clocks.vcd", [*clocks, *gates])
    cycles = result.units["npu8"].cycles
    for unit, clock, gate in zip(UNITS, clocks, gates, strict=True):
        signals = trace.scope(clock)
        reasons = [a or b for a, b in zip(signals["access_i"][1], signals["busy_i"][1], strict=True)]
        enabled = trace.scope(gate)["enable"][1]  # what the edge at the end of each cycle sees
        for i in range(TAIL, trace.cycles):
            assert enabled[i] == any(reasons[i - TAIL : i + 1]), (unit, i)
        assert sum(signals["busy_i"][1]) == (cycles if unit == "npu8" else 0)
        assert 0 <= sum(enabled) - sum(signals["busy_i"][1]) < 400 < cycles
