# SPDX-License-Identifier: Apache-2.0
"""What a session promises, on the real hardware: everything here goes through commands of the NPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.arrays import Words
from common.errors import ConfigError
from hw.commands import command_list, encode
from hw.core import CoreConfig
from hw.interface import COMMAND_BYTES
from hw.memory import ErrorRange, MemoryModel
from hw.system import NPU8, System
from tb import replay
from tb.job import Job, JobError, JobResult
from tb.saved_job import SavedJob, save_job
from tb.session import Session, SimulatorError, rerun_with_waves, run_raw
from tb.testing import LIST, SOURCE, TARGET, UNITS, copy_commands, copy_job, list_job, random_bytes, transfer


def assert_copies(session: Session, **fields: Any) -> JobResult:
    job, data = copy_job(**fields)
    result = session.run(job)
    assert result.ok, result.diagnosis
    np.testing.assert_array_equal(result.reads[0], data)
    return result


# ---------------------------------------------------------------- memory
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("words", [1, 2, 15, 16, 17, 255, 256, 257, 4096])
def test_a_block_goes_through_the_scratchpad_unchanged(pair: Session, unit: str, words: int) -> None:
    result = assert_copies(pair, words=words, seed=words, units=[unit])
    assert result.outstanding == 0
    beats = 2 * COMMAND_BYTES // 16 + words
    assert result.read_beats == beats == result.units[unit].counters["read_beats"]
    assert result.write_beats == words == result.units[unit].counters["write_beats"]


@pytest.mark.parametrize(
    "memory",
    [
        MemoryModel(latency=2),
        MemoryModel(latency=200),
        MemoryModel(latency=5, write_latency=100),
        MemoryModel(beats=1, per_cycles=4),
        MemoryModel(beats=3, per_cycles=7),
        MemoryModel(backpressure_percent=20, backpressure_seed=3),
        MemoryModel(backpressure_percent=80, backpressure_seed=4),
        MemoryModel(latency=60, beats=1, per_cycles=2, backpressure_percent=50, backpressure_seed=5),
    ],
    ids=str,
)
def test_the_memory_model_changes_times_but_not_data(pair: Session, memory: MemoryModel) -> None:
    assert_copies(pair, memory=memory)


def test_latency_bandwidth_and_backpressure_cost_cycles(pair: Session) -> None:
    fast = assert_copies(pair, memory=MemoryModel(latency=2)).cycles
    assert assert_copies(pair, memory=MemoryModel(latency=102)).cycles >= fast + 200
    quarter = assert_copies(pair, memory=MemoryModel(latency=2, beats=1, per_cycles=4)).cycles
    assert quarter >= 4 * 1000 * 2
    stalled = assert_copies(pair, memory=MemoryModel(latency=2, backpressure_percent=60))
    assert stalled.cycles > fast


def test_equal_jobs_take_equal_cycles(pair: Session) -> None:
    memory = MemoryModel(backpressure_percent=40, backpressure_seed=11)
    first = assert_copies(pair, memory=memory, units=UNITS[:1])
    assert_copies(pair, words=77, seed=2)
    again = assert_copies(pair, memory=memory, units=UNITS[:1])
    assert first.cycles == again.cycles
    assert first.units["npu8"].counters == again.units["npu8"].counters


def test_both_units_run_side_by_side(pair: Session) -> None:
    data = random_bytes(5, 32_000)
    lists = [copy_commands(1000, SOURCE + 16_000 * i, TARGET + 16_000 * i) for i in range(2)]
    job = Job(
        segments=[(SOURCE, data), *((LIST + 0x1000 * i, command_list(lists[i])) for i in range(2))],
        starts={unit: (LIST + 0x1000 * i, 2) for i, unit in enumerate(UNITS)},
        reads=[(TARGET, 32_000)],
    )
    result = pair.run(job)
    assert result.ok, result.diagnosis
    np.testing.assert_array_equal(result.reads[0], data)
    assert result.read_beats == sum(result.units[unit].counters["read_beats"] for unit in UNITS)


def test_memory_is_filled_between_jobs_and_kept_on_request(pair: Session) -> None:
    job, data = copy_job(words=8)
    assert pair.run(job).ok
    kept = pair.run(Job(reads=[(TARGET, 256)], keep_memory=True))
    np.testing.assert_array_equal(kept.reads[0][:128], data)
    filled = pair.run(Job(reads=[(SOURCE, 128), (TARGET, 256)], fill=0x3C))
    assert all(set(read.tolist()) == {0x3C} for read in filled.reads)


def test_counters_of_an_engine_sum_to_the_cycles(pair: Session) -> None:
    unit = assert_copies(pair).units["npu8"]
    for engine in ("load", "compute", "store"):
        states = [value for name, value in unit.counters.items() if name.startswith(f"{engine}_")]
        assert sum(states) == unit.cycles


def test_an_empty_list_ends_at_once(pair: Session) -> None:
    result = pair.run(Job(starts={"npu8": (LIST, 0)}))
    assert result.ok
    assert result.read_beats == 0


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize("response", ["slverr", "decerr"])
@pytest.mark.parametrize(
    ("where", "engine", "index"),
    [(LIST + 64, "fetch", 1), (SOURCE + 160, "load", 0), (TARGET + 160, "store", 1)],
)
def test_a_bus_error_is_reported_with_its_cause(
    pair: Session, where: int, engine: str, index: int, response: Any
) -> None:
    memory = MemoryModel(errors=(ErrorRange(where, 16, response),))
    job, _ = copy_job(words=100, memory=memory)
    result = pair.run(job)
    assert not result.ok
    assert not result.timed_out
    assert not result.stuck
    error = result.units["npu8"].error
    assert error is not None
    assert (error.cause, error.engine, error.command) == (f"{engine}_{response}", engine, index)
    assert error.cause in result.diagnosis
    assert_copies(pair)


def test_an_address_beyond_the_memory_is_a_decerr(pair: Session) -> None:
    beyond = pair.config.mem_bytes
    result = pair.run(list_job([transfer("load", beyond, 4)]))
    error = result.units["npu8"].error
    assert error is not None
    assert (error.cause, error.engine) == ("load_decerr", "load")
    assert_copies(pair)


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (np.full(16, 0x0A5, dtype=np.uint32), "illegal_command"),
        (encode("load", engine="store", line_words=1, lines=1, planes=1), "illegal_command"),
        (transfer("load", SOURCE, 4, local=128 * 64 - 1), "scratchpad_range"),
    ],
    ids=["opcode", "engine", "range"],
)
def test_a_wrong_command_is_reported_with_its_index(pair: Session, command: Words, cause: str) -> None:
    result = pair.run(list_job([encode("nop", engine="load"), command]))
    error = result.units["npu8"].error
    assert error is not None
    assert (error.cause, error.command) == (cause, 1)
    assert not result.stuck
    assert_copies(pair)


def test_one_unit_s_error_leaves_the_other_to_finish(pair: Session) -> None:
    good, data = copy_job(words=2000)
    bad = command_list([transfer("load", pair.config.mem_bytes, 4)])
    job = replace(
        good,
        segments=[*good.segments, (LIST + 0x1000, bad)],
        starts={**good.starts, "npu_lb": (LIST + 0x1000, 1)},
        stop_on_error=False,
    )
    result = pair.run(job)
    assert result.units["npu_lb"].error is not None
    assert result.units["npu8"].done
    np.testing.assert_array_equal(result.reads[0], data)


# ---------------------------------------------------------------- watchdog
def test_a_token_that_never_comes_is_diagnosed(pair: Session) -> None:
    commands = [encode("nop", engine="load"), transfer("load", SOURCE, 4, wait_compute=1)]
    result = pair.run(list_job(commands, max_cycles=2000))
    assert result.timed_out
    assert not result.ok
    assert not result.stuck
    diag = result.units["npu8"].diag["load"]
    assert (diag.state, diag.tokens, diag.command) == ("wait_token", ("compute",), 1)
    assert "load: waits for a token from compute at command 1: load" in result.diagnosis
    assert_copies(pair)


def test_an_event_that_never_comes_is_diagnosed(pair: Session) -> None:
    commands = [encode("wait", engine="compute", event_id=5, amount=1)]
    result = pair.run(list_job(commands, max_cycles=2000))
    assert result.timed_out
    assert result.units["npu8"].diag["compute"].event == 5
    assert "compute: waits for event 5 at command 0: wait" in result.diagnosis
    assert_copies(pair)


def test_an_event_left_by_a_failed_job_does_not_reach_the_next(pair: Session) -> None:
    signal = encode("signal", engine="load", event_id=3)
    wait = encode("wait", engine="compute", event_id=3, amount=1)
    forever = encode("wait", engine="store", event_id=4, amount=1)
    assert pair.run(list_job([signal, wait])).ok
    assert pair.run(list_job([signal, forever], max_cycles=2000)).timed_out
    assert pair.run(list_job([wait], max_cycles=2000)).timed_out


def test_units_wait_for_each_other_s_events(pair: Session) -> None:
    first = command_list([encode("signal", engine="load", event_id=1)])
    second = command_list([encode("wait", engine="store", event_id=1, amount=1)])
    job = Job(
        segments=[(LIST, first), (LIST + 0x1000, second)],
        starts={"npu8": (LIST, 1), "npu_lb": (LIST + 0x1000, 1)},
    )
    assert pair.run(job).ok


@pytest.mark.parametrize("cycles", [0, 1, 5, 20, 37, 100, 333, 1000])
@pytest.mark.parametrize("percent", [0, 50])
def test_a_soft_reset_at_any_time_leaves_a_unit_that_works(pair: Session, cycles: int, percent: int) -> None:
    memory = MemoryModel(backpressure_percent=percent, backpressure_seed=cycles)
    job, _ = copy_job(words=1000, reset_after=cycles, memory=memory)
    result = pair.run(job)
    assert not result.stuck
    assert result.outstanding == 0
    assert not result.units["npu8"].busy
    assert_copies(pair)


# ---------------------------------------------------------------- session
@pytest.mark.rtl
def test_a_failing_assertion_turns_the_run_red() -> None:
    session = Session()
    with pytest.raises(SimulatorError, match="NoFailureWasAskedFor"):
        session.provoke_assertion()
    with pytest.raises(SimulatorError, match="closed"):
        session.run(Job())


@pytest.mark.rtl
def test_a_simulator_that_dies_is_one_clear_error_with_a_way_to_repeat_it() -> None:
    session = Session()
    job, _ = copy_job()
    session.run(job)
    session._process.kill()
    with pytest.raises(SimulatorError, match=r"died \(exit status -9\)[\s\S]*reproduce: .*tb\.replay"):
        session.run(job)


def test_a_wrong_job_is_refused_before_it_runs(pair: Session) -> None:
    size = pair.config.mem_bytes
    for job, message in [
        (Job(segments=[(size - 1, np.zeros(2, np.uint8))]), "segment of 2 bytes"),
        (Job(segments=[(0, np.zeros(2, np.int8))]), "uint8"),
        (Job(reads=[(-1, 4)]), "read of 4 bytes"),
        (Job(max_cycles=0), "max_cycles"),
    ]:
        with pytest.raises(JobError, match=message):
            pair.run(job)
    with pytest.raises(ConfigError, match="no unit 'npu9'"):
        pair.run(Job(starts={"npu9": (0, 0)}))


@pytest.mark.rtl
def test_random_initial_values_change_nothing() -> None:
    job, data = copy_job(words=300)
    for seed in (1, 2):
        with Session(seed=seed) as session:
            result = session.run(job)
            assert result.ok, result.diagnosis
            np.testing.assert_array_equal(result.reads[0], data)


@pytest.mark.rtl
def test_waves_are_written_for_the_job_that_asks(tmp_path: Path) -> None:
    job, _ = copy_job(words=16)
    waves = rerun_with_waves(System(), job, tmp_path / "job.vcd")
    assert waves.stat().st_size > 10_000


def test_a_raw_run_takes_as_many_cycles_as_the_session(pair: Session) -> None:
    job, _ = copy_job(words=4000)
    cycles, seconds = run_raw(pair.build, job)
    assert abs(cycles - pair.run(job).sim_cycles) <= 8
    assert seconds > 0


@pytest.mark.rtl
def test_another_system_is_another_build() -> None:
    small = CoreConfig("small", w_bits=4, act_kib=32, weight_kib=16, param_kib=8, stripe_depth=32, lanes=4)
    config = System(cores=(NPU8, small), axi_bits=64, mem_bytes=1 << 22)
    with Session(config) as session:
        assert_copies(session, words=500)
        assert_copies(session, words=500, units=["small"])


@pytest.mark.rtl
def test_a_saved_job_runs_again(capsys: pytest.CaptureFixture[str]) -> None:
    path = save_job(SavedJob(System(), copy_job(words=100)[0]))
    assert replay.main([str(path), "--no-waves"]) == 0
    assert "done in" in capsys.readouterr().out
