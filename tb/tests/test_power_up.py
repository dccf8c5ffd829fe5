# SPDX-License-Identifier: Apache-2.0
"""What a hard reset leaves: at power-up and in the middle of work; no soft reset comes before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from common.arrays import Words
from hw.commands import encode
from hw.interface import ENGINES
from mapping.run.layers import job_of
from tb.host import DELAY, RESET, OpList, pack
from tb.job import Job
from tb.session import Session
from tb.testing import SOURCE, TARGET, UNITS
from tb.tests.faults import (
    BACKPRESSURE,
    CORES,
    Bench,
    Reference,
    broken,
    nop,
    reference_program,
    registers,
    small,
)

pytestmark = pytest.mark.rtl

SEEDS = range(1, 9)
"""Of power-up values: a register of one bit has the wrong one in at least one of them, but for 1 in 256."""

CONSTANTS = ("id", "config_array", "config_memory", "config_pipeline")
"""Registers that a reset does not change."""


def assert_reset(session: Session) -> None:
    """Every register of every unit says what it says after a reset: zero, but for the constants."""
    for unit, values in registers(session).items():
        assert {name: value for name, value in values.items() if value and name not in CONSTANTS} == {}, unit
        assert all(values[name] for name in CONSTANTS), unit


def assert_like_new(session: Session, reference: Reference, unit: str) -> None:
    """The first job is exact, in the cycles that it takes after every other reset."""
    result = session.run(job_of(reference.program))
    assert result.ok, result.diagnosis
    np.testing.assert_array_equal(reference.program.decode_output(result.reads[0]), reference.golden)
    assert result.units[unit].cycles == reference.cycles[None]


def waiting(waits: dict[str, Words]) -> list[Words]:
    """Return a list in which each engine waits for something that never comes, and then would store."""
    return [waits[engine] for engine in ENGINES] + [small("mark")]


def first_jobs(seed: int) -> dict[str, list[Words]]:
    """Return for each unit a list that never ends: its engines wait for tokens, or for events."""
    others = {engine: [other for other in ENGINES if other != engine] for engine in ENGINES}
    lists: dict[str, list[Words]] = {}
    for number, unit in enumerate(UNITS):
        waits = {}
        for i, engine in enumerate(ENGINES):
            event = (3 * (2 * seed + number) + i) % 16
            if (seed + number) % 2:
                waits[engine] = nop(engine, **{f"wait_{others[engine][seed // 2 % 2]}": 1})
            else:
                waits[engine] = encode("wait", engine=engine, event_id=event, amount=1)
        lists[unit] = waiting(waits)
    return lists


@pytest.mark.parametrize("seed", SEEDS)
def test_power_up_values_reach_no_register_no_event_no_token_and_no_result(
    seed: int, references: dict[str, Reference]
) -> None:
    """The first job after a hard reset shows whatever the reset has left."""
    with Session(seed=seed) as session:
        assert_reset(session)
        unit = UNITS[seed % 2]
        if seed > 4:
            assert_like_new(session, references[unit], unit)
            return
        for name, commands in first_jobs(seed).items():
            bench = Bench(session, CORES[name], references[name])
            result = session.run(bench.job(commands, max_cycles=400))
            assert result.timed_out, f"{name}: a token or an event was there"
            for engine, diag in result.units[name].diag.items():
                assert (diag.state, diag.command) == ("wait_token", ENGINES.index(engine))
            session.reset()
            assert_reset(session)


def disturbed() -> Iterator[tuple[str, list[Words], Job]]:
    """Return lists that leave much behind, with a job whose memory they need."""
    load, store = small("load", line_words=400, post_store=1), small("store", line_words=400, wait_load=1)
    data = np.arange(400 * 16, dtype=np.int64).astype(np.uint8)
    events = [encode("signal", engine=engine, event_id=5 + i) for i, engine in enumerate(ENGINES)]
    both = [*events, load, small("conv", kernel_h=2), store, small("mark")]
    yield "at work", both * 3, Job(segments=[(SOURCE, data)], max_cycles=1)
    yield "in an error", [*both, small("conv", out_pixels=0)], Job(segments=[(SOURCE, data)])
    yield "in an error of the bus", both, Job(memory=broken(SOURCE + 1600, "slverr", 0))
    wait = [encode("wait", engine=engine, event_id=3, amount=200) for engine in ENGINES]
    yield "while engines wait", wait * 4, Job()
    wide = small("conv", in_channels=256, out_channels=256, out_width=1, out_pixels=1, stripe_pixels=1)
    yield "while weights are read", [wide], Job()


def started(bench: Bench, commands: Sequence[Words], job: Job, cycles: int) -> None:
    """Start a list on a unit, and reset the whole system some cycles later."""
    ops, index = OpList(), bench.session.config.index(bench.unit)
    listed = bench.job(commands, segments=job.segments, memory=job.memory)
    address, count = listed.starts[bench.unit]
    enabled = pack("irq_enable", done=1, error=1)
    for name, value in (("irq_enable", enabled), ("cmd_address", address), ("cmd_count", count)):
        ops.write(index, name, value)
    ops.write(index, "ctrl", pack("ctrl", start=1))
    ops.add(DELAY, cycles)
    ops.add(RESET, 3)
    ops.add(DELAY, 2)
    bench.session._execute(ops, listed)


@pytest.mark.parametrize(
    "state", [name for name, _, _ in disturbed()], ids=lambda name: name.replace(" ", "-")
)
def test_a_hard_reset_in_the_middle_of_work_leaves_nothing(bench: Bench, state: str) -> None:
    commands, job = next((commands, job) for name, commands, job in disturbed() if name == state)
    for cycles in range(20, 1200, 107):
        started(bench, commands, job, cycles)
        assert_reset(bench.session)
        assert_like_new(bench.session, bench.reference, bench.unit)


def test_a_hard_reset_in_a_layer_with_backpressure_leaves_nothing(bench: Bench) -> None:
    program = reference_program(bench.core)
    job = job_of(program, backpressure=BACKPRESSURE)
    address, count = program.commands
    lists = np.asarray(dict(program.segments)[address]).view(np.uint32).reshape(count, -1)
    for cycles in range(30, bench.reference.cycles[BACKPRESSURE], 211):
        started(bench, list(lists), job, cycles)
        assert_reset(bench.session)
        assert_like_new(bench.session, bench.reference, bench.unit)


def test_events_are_gone_after_a_hard_reset(bench: Bench) -> None:
    """Every event is signalled, then reset, then waited for: none of three waits at a time ends."""
    signals = [encode("signal", engine="store", event_id=event) for event in range(16)]
    for first in range(0, 16, 3):
        result = bench.session.run(bench.job(signals, reads=[(TARGET, 16)]))
        assert result.ok, result.diagnosis
        bench.session.reset()
        waits = {
            engine: encode("wait", engine=engine, event_id=(first + i) % 16, amount=1)
            for i, engine in enumerate(ENGINES)
        }
        result = bench.session.run(bench.job(waiting(waits), max_cycles=300))
        assert result.timed_out
        events = [result.units[bench.unit].diag[engine].event for engine in ENGINES]
        assert events == [(first + i) % 16 for i in range(len(ENGINES))]
