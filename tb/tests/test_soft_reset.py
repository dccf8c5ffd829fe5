# SPDX-License-Identifier: Apache-2.0
"""A soft reset is clean in every cycle and in every state of the engines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from common.arrays import Words
from golden.layer import run_layer
from hw.commands import command_list, encode
from hw.interface import ENGINES
from hw.memory import MemoryModel
from mapping.run.layers import job_of
from tb.job import Job
from tb.session import Session
from tb.testing import SOURCE, TARGET, UNITS, random_bytes
from tb.tests.faults import (
    BACKPRESSURE,
    CORES,
    FILL,
    LONG,
    LONG_DRAINS,
    OTHER,
    WORD,
    Bench,
    Reference,
    broken,
    reference_program,
    small,
    stalling,
)


@pytest.mark.parametrize("backpressure", [None, BACKPRESSURE])
def test_a_soft_reset_in_any_cycle_of_a_layer_is_clean(bench: Bench, backpressure: int | None) -> None:
    program = bench.reference.program
    job = job_of(program, backpressure=backpressure)
    cycles = bench.reference.cycles[backpressure]
    done = 0
    step = 2 if backpressure is None else 3
    for after in range(0, cycles + 4 * step, step):
        if after >= cycles - 40:  # it may have ended just before
            result = bench.session.run(replace(job, reset_after=after))
            done += np.array_equal(program.decode_output(result.reads[0]), bench.reference.golden)
            assert result.stuck == ()
        else:
            bench.reset(job, after)
        bench.recovers(backpressure if after % 3 == 0 else None)
    assert done >= 2


def test_a_soft_reset_of_both_units_at_once_is_clean(pair: Session, references: dict[str, Reference]) -> None:
    benches = [Bench(pair, CORES[name], references[name]) for name in UNITS]
    programs = [reference_program(pair.config.core(name), OTHER * i // 2) for i, name in enumerate(UNITS)]
    job = Job(
        segments=[segment for program in programs for segment in program.segments],
        starts={program.unit.name: program.commands for program in programs},
    )
    for after in range(0, 2000, 37):
        benches[0].reset(replace(job, memory=stalling(15) if after % 2 else MemoryModel()), after)
        for bench in benches:
            bench.recovers()


def test_a_soft_reset_leaves_the_other_unit_alone(bench: Bench) -> None:
    """The unit that is not reset finishes: its result is there, exact, some time after the reset."""
    other = reference_program(bench.other, OTHER)
    golden = run_layer(other.layer, bench.other.a_bits)
    alone = bench.job([small("load", line_words=4000), small("store", line_words=4000)])
    for after in range(5, 500, 45):
        hold = [encode("wait", engine="load", event_id=2, amount=1)]
        # the other unit waits until it is signalled after the reset, by the next list of this one
        lists = dict(other.segments)
        held = np.concatenate([command_list(hold), lists[other.commands[0]]])
        base = (other.end + 63) // 64 * 64
        result = bench.session.run(
            replace(alone, segments=[*alone.segments, *other.segments, (base, held)], reset_after=after)
        )
        assert result.stuck == ()
        signal = bench.job([encode("signal", engine="store", event_id=2)])
        both = bench.session.run(
            replace(
                signal,
                segments=[*signal.segments, *other.segments, (base, held)],
                starts={bench.other.name: (base, held.size // 64), **signal.starts},
                reads=[other.output],
            )
        )
        assert both.ok, both.diagnosis
        np.testing.assert_array_equal(other.decode_output(both.reads[0]), golden)
        bench.recovers()


SLOW = MemoryModel(latency=3000)


@dataclass(frozen=True)
class Held:
    """A list that holds an engine in a state, and when it surely is there."""

    commands: list[Words]
    engine: str
    state: str
    cycles: int = 400
    memory: MemoryModel = MemoryModel()  # noqa: RUF009 (frozen)


def held_lists() -> dict[str, Held]:
    lists: dict[str, Held] = {}
    posters = {"load": "compute", "compute": "store", "store": "load"}
    work = {"load": "load", "compute": "conv", "store": "store"}
    for engine in ENGINES:
        token = small(work[engine], **{f"wait_{posters[engine]}": 1})
        event = encode("wait", engine=engine, event_id=6, amount=3)
        lists[f"{engine} waits for a token"] = Held([small(work[engine]), token], engine, "wait_token")
        lists[f"{engine} waits for an event"] = Held([event, small(work[engine])], engine, "wait_token")
    lists["load waits for memory"] = Held([small("load", line_words=900)], "load", "wait_memory", 4000, SLOW)
    lists["load waits behind requests"] = Held([small("load")] * 12, "load", "wait_memory", 4000, SLOW)
    lists["store waits for its answer"] = Held(
        [small("store")], "store", "wait_memory", 400, MemoryModel(write_latency=9000)
    )
    lists["store waits for many answers"] = Held(
        [small("store", line_words=2000), small("mark")],
        "store",
        "wait_memory",
        900,
        MemoryModel(write_latency=9000),
    )
    lists["store waits for the bus"] = Held(
        [small("store", line_words=2000)], "store", "wait_memory", 1030, MemoryModel(beats=1, per_cycles=60)
    )
    lists["fetch waits for memory"] = Held([small("load")], "load", "idle", 500, SLOW)
    lists["fetch is blocked"] = Held([small("load", wait_store=1)] * 12, "load", "wait_token")
    lists["compute drains"] = Held([small("conv", **LONG)], "compute", "wait_drain", LONG_DRAINS)
    lists["compute runs"] = Held([small("conv", **LONG | {"kernel_h": 8})] * 8, "compute", "run", 200)
    weights = {
        "out_pixels": 1,
        "stripe_pixels": 1,
        "kernel_h": 200,
        "in_height": 300,
    }  # a tile for every beat
    lists["compute waits for weights"] = Held([small("conv", **weights)] * 3, "compute", "wait_memory", 302)
    return lists


@pytest.mark.parametrize("name", sorted(held_lists()), ids=lambda name: name.replace(" ", "-"))
def test_a_soft_reset_in_every_engine_state_is_clean(bench: Bench, name: str) -> None:
    held = held_lists()[name]
    job = bench.job(held.commands, memory=held.memory, max_cycles=held.cycles)
    given_up = bench.session.run(job)
    assert given_up.timed_out
    assert given_up.stuck == ()
    assert given_up.units[bench.unit].diag[held.engine].state == held.state, given_up.diagnosis
    bench.recovers()
    bench.reset(job, held.cycles)
    bench.recovers()


@pytest.mark.parametrize("percent", [0, 50])
def test_a_soft_reset_while_an_error_stops_the_unit_is_clean(bench: Bench, percent: int) -> None:
    """Before the error, during the clean stop, and after it."""
    latency = 60
    commands = [small("load", line_words=200), small("store", line_words=200)]
    memory = replace(broken(SOURCE + 50 * WORD, "slverr", percent), latency=latency, write_latency=150)
    job = bench.job(commands, memory=memory)
    bench.fails(job, "load_slverr", "load", 0)
    for after in range(60, 480, 4):
        bench.reset(job, after)
        bench.recovers()


@pytest.mark.parametrize("memory", [MemoryModel(), stalling(40), stalling(0, latency=90, write_latency=90)])
def test_a_stop_in_a_store_writes_nothing_but_its_data(bench: Bench, memory: MemoryModel) -> None:
    """Bursts that are owed when a unit stops carry no data: memory holds the store's word, or what it held.

    The words differ from each other, so that a word of another place is seen.
    """
    words = 300
    data = random_bytes(5, words * WORD)
    copied = [small("load", line_words=words, post_store=1), small("store", line_words=words, wait_load=1)]
    whole = bench.job(copied, segments=[(SOURCE, data)], reads=[(TARGET, data.size)], memory=memory)
    cycles = bench.session.run(whole).units[bench.unit].cycles
    started = cut = 0
    for after in range(cycles // 3, cycles, 13):
        result = bench.session.run(replace(whole, reset_after=after))
        assert result.stuck == ()
        stored = result.reads[0].reshape(words, WORD)
        written = (stored != FILL).any(axis=1)
        np.testing.assert_array_equal(stored[written], data.reshape(words, WORD)[written])
        started += bool(written.any())
        cut += bool(written.any() and not written.all())
    assert cut >= 5, f"{started} stops of {cycles} cycles came in a store"
    bench.recovers()
