# SPDX-License-Identifier: Apache-2.0
"""The functional plan is whole, a sample lands in its bins, and a job says what it is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.paths import ROOT
from hw.commands import command_list, encode
from hw.core import CoreConfig
from hw.interface import COMMANDS, ENGINE_STATES, ERRORS, REGISTERS
from hw.memory import MemoryModel
from hw.system import NPU8, NPU_LB, System
from tb.coverage import collect, jobs, plan
from tb.coverage.monitors import monitor_text
from tb.job import Job, JobResult, UnitError, UnitResult
from tb.testing import LIST


def result_of(*units: str, error: UnitError | None = None) -> JobResult:
    """Return the result of a job of these units, all done, or the first with an error."""
    outcomes = {
        unit: UnitResult(
            name=unit, busy=False, done=error is None, stopping=False, error=error, cycles=1, counters={},
            diag={}, dispatched=1, blocked=False,
        )
        for unit in units
    }  # fmt: skip
    return JobResult(
        reads=[], units=outcomes, cycles=1, timed_out=False, diagnosis="", stuck=(), outstanding=0,
        read_beats=0, write_beats=0, sim_cycles=1, seconds=0.0,
    )  # fmt: skip


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing has been sampled, and what is sampled here leaves nothing behind."""
    from cocotb_coverage.coverage import coverage_db

    before = dict(coverage_db)
    coverage_db.clear()
    plan._sampler.cache_clear()
    monkeypatch.setattr(plan, "_seen", set())
    yield
    coverage_db.clear()
    coverage_db.update(before)
    plan._sampler.cache_clear()


def test_the_plan_knows_every_command_error_state_and_register() -> None:
    groups = plan.load_plan().groups
    assert set(groups["command"].points["operator"]) == set(COMMANDS)
    assert set(groups["error"].points["cause"]) == set(ERRORS) - {"none"}
    states = {part.name: part for part in plan.load_plan().states}
    assert {
        name.removesuffix(" read while busy") for name in states["registers read while busy"].covers
    } == set(REGISTERS)
    asked = " ".join(states["interruptions of engines"].covers)
    assert all(f"is in {state}" in asked for state in ENGINE_STATES)


def test_every_combination_of_a_cross_is_a_bin_or_left_out_with_a_sentence() -> None:
    for group in plan.load_plan().groups.values():
        for cross in group.crosses:
            assert not set(cross.bins) & set(cross.excluded)
            assert all(reason.endswith(".") for reason in cross.excluded.values())
            every = set(itertools.product(*(group.points[point] for point in cross.of)))
            assert {*cross.bins, *cross.excluded} <= every


def test_a_rule_that_leaves_nothing_out_is_refused() -> None:
    data = {
        "where": "here",
        "points": {"a": [1, 2], "b": [1]},
        "crosses": [{"of": ["a", "b"], "without": [{"a": 3, "because": "There is no three."}]}],
    }
    with pytest.raises(plan.PlanError, match="leaves nothing out of a x b"):
        plan._group("made up", data)


def test_states_of_one_module_have_labels_of_their_own() -> None:
    from tb.coverage.monitors import label

    names = [state for part in plan.load_plan().states for state in part.covers]
    assert len({label(name) for name in names}) == len(names) > 100
    text = monitor_text("npu_core")
    assert text is not None
    assert text.count("cover property") == sum(
        len(part.covers) for part in plan.load_plan().states if part.module == "npu_core"
    )
    assert monitor_text("npu_fifo") is None


def test_a_sample_counts_in_its_points_and_its_crosses(database: None) -> None:
    plan.sample("job", units=2, kinds="different", end="done", axi_bits=128, backpressure="none")
    plan.sample("job", units=2, kinds=None, end="error", axi_bits=64, backpressure="none")
    bins = plan.sampled()
    assert bins["job.units"] == {"2": 2}
    assert bins["job.kinds"] == {"different": 1}
    assert bins["job.units x backpressure"] == {"2, none": 2}
    assert bins["job.units x end"] == {"2, done": 1, "2, error": 1}
    assert bins["job.latency"] == {}


@pytest.mark.parametrize(
    ("group", "values"), [("jobs", {}), ("job", {"colour": "red"}), ("job", {"units": 17})], ids=str
)
def test_what_the_plan_does_not_have_cannot_be_sampled(group: str, values: dict[str, object]) -> None:
    with pytest.raises(plan.PlanError, match="has no"):
        plan.sample(group, **values)


def test_processes_add_up(database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in (1, 2):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        plan.sample("job", units=pid)
        plan.save(tmp_path, "jobs")
    assert plan.merged(tmp_path)["job.units"] == {"1": 2, "2": 1}


def test_a_job_is_sampled_by_what_its_commands_say(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPULOOP_COVERAGE", str(tmp_path))
    conv = encode(
        "conv", in_height=8, in_width=8, in_row=-1, in_column=-1, out_width=8, out_pixels=64, kernel_h=3,
        kernel_w=3, stride_h=1, stride_w=1, dilation_h=1, dilation_w=1, stripe_pixels=24, in_channels=40,
        out_channels=16, act_min=-128, act_max=127, single_rounding=1, fence=1, wait_load=1, out_part=1,
    )  # fmt: skip
    load = encode(
        "load", mem_address=4096 - 16, line_words=2, lines=3, line_stride=32, planes=1, target=1, local_step=2
    )
    job = Job(
        segments=[(LIST, command_list([conv, load]))],
        starts={"npu_lb": (LIST, 2)},
        memory=MemoryModel(backpressure_percent=30, latency=5),
    )
    collect.sample_job(System((NPU8, NPU_LB)), job, result_of("npu_lb"))
    bins = plan.merged(tmp_path)
    assert bins["command.operator x kernel"] == {"conv, 3x3": 1}
    assert bins["command.operator x padding"] == {"conv, both": 1}
    assert bins["command.operator x stripes"] == {"conv, several and a part": 1}
    assert bins["command.operator x in_channels"] == {"conv, several and a part": 1}
    assert bins["command.operator x out_channels"] == {"conv, part": 1}
    assert bins["command.operator x out_part"] == {"conv, other": 1}
    assert bins["command.operator x rounding"] == {"conv, single": 1}
    assert bins["command.operator x fence"] == {"conv, yes": 1, "load, no": 1}
    assert bins["command.waits_load"] == {"yes": 1, "no": 1}
    assert bins["command.target x line x backpressure"] == {"weights, within a burst, up to half": 1}
    assert bins["command.page"] == {"crossed": 1}
    assert bins["command.lines"] == {"one behind the other": 1}
    assert bins["command.step"] == {"more": 1}
    assert bins["unit.w_bits"] == {"2": 1}
    assert bins["job.latency"] == {"short": 1}


def test_a_list_that_ended_with_an_error_does_not_count_its_commands(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPULOOP_COVERAGE", str(tmp_path))
    job = Job(segments=[(LIST, command_list([encode("nop", engine=0)]))], starts={"npu8": (LIST, 1)})
    error = UnitError("load_decerr", "load", 0)
    collect.sample_job(System(), job, result_of("npu8", error=error))
    bins = plan.merged(tmp_path)
    assert bins["error.cause x engine"] == {"load_decerr, load": 1}
    assert bins["job.end"] == {"error": 1}
    assert "command.operator" not in bins


def test_nothing_is_sampled_where_nothing_collects(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPULOOP_COVERAGE", raising=False)
    job = Job(segments=[(LIST, command_list([encode("nop", engine=0)]))], starts={"npu8": (LIST, 1)})
    collect.sample_job(System(), job, result_of("npu8"))
    assert plan.sampled() == {}
    assert collect.verilator_flags() == []
    assert collect.verilator_sources(["npu_core"]) == []


def test_every_bench_that_interrupts_its_block_is_in_the_plan() -> None:
    known = set(plan.load_plan().groups["interruption of a block"].points["block"])
    benches = {path: path.read_text() for path in sorted((ROOT / "tb" / "blocks").glob("test_*.py"))}
    tops = {
        path.name: set(re.findall(r'Block\(\s*"(\w+)"', text))
        for path, text in benches.items()
        if ".break_off(" in text
    }
    assert len(tops) > 15
    assert {name: missing for name, names in tops.items() if (missing := names - known)} == {}


def test_a_core_of_every_kind_has_its_bins() -> None:
    cores = [CoreConfig("u", w_bits=w, a_bits=a) for w in range(2, 9) for a in range(4, 9)]
    cores += [CoreConfig("u", w_bits=2, rows=32, cols=32), CoreConfig("u", w_bits=3, rows=64, cols=64)]
    cores += [CoreConfig("u", lanes=n, dw_taps=n, stripe_depth=4 * n) for n in (1, 2, 4, 8, 16)]
    points = plan.load_plan().groups["unit"].points
    for core in cores:
        for axi_bits in (64, 128):
            for point, value in jobs._unit(core, axi_bits).items():
                assert str(value) in points[point]
