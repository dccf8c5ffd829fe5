# SPDX-License-Identifier: Apache-2.0
"""A list that never ends is given up, and the diagnosis says what every engine waits for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from common.arrays import Words
from hw.commands import command_list, encode
from hw.interface import ENGINES
from hw.memory import MemoryModel
from tb.job import Job
from tb.session import Session
from tb.testing import LIST, UNITS
from tb.tests.faults import CORES, LONG, LONG_DRAINS, Bench, Reference, event_is_gone, nop, small


def watchdog(bench: Bench, commands: Sequence[Words], engine: str, text: str, tail: str) -> None:
    """A list that never ends: the diagnosis is exact, engine by engine."""
    result = bench.session.run(bench.job(commands, max_cycles=1500))
    assert result.timed_out
    assert not result.ok
    assert result.stuck == ()
    lines = {name: f"  {name}: idle" for name in ENGINES} | {engine: f"  {engine}: {text}"}
    expected = ["given up after 1500 cycles", f"{bench.unit}: busy", *lines.values(), f"  fetch: {tail}"]
    assert result.diagnosis.splitlines() == expected
    bench.recovers()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_token_that_is_never_posted_is_diagnosed(bench: Bench, engine: str) -> None:
    name = {"load": "load", "compute": "add", "store": "mark"}[engine]
    text = {
        "load": "mem_address=2097152, line_words=4, lines=1, planes=1, local_step=1",
        "add": "in_plane=4, out_plane=4, out_channels=16, stripe_pixels=4, out_pixels=4, out_base=64, "
        "act_min=-128, act_max=127, in2_base=4",
        "mark": "mem_address=3670016",
    }[name]
    for other in ENGINES:
        if other != engine:
            wait = f"wait_{other}"
            list_ = [nop("load"), nop("compute"), small(name), small(name, **{wait: 1})]
            what = f"waits for a token from {other} at command 3: {name} [{engine}] {wait}=1, {text}"
            watchdog(bench, list_, engine, what, "4 of 4 commands dispatched")
    both = [f"wait_{other}" for other in ENGINES if other != engine]
    first, second = (wait.removeprefix("wait_") for wait in both)
    what = f"waits for a token from {first} and a token from {second} at command 0: nop [{engine}] "
    watchdog(
        bench,
        [nop(engine, **dict.fromkeys(both, 1))],
        engine,
        what + ", ".join(f"{wait}=1" for wait in both),
        "1 of 1 commands dispatched",
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_an_event_that_is_never_signalled_is_diagnosed(bench: Bench, engine: str) -> None:
    list_ = [
        encode("signal", engine=engine, event_id=15),
        encode("wait", engine=engine, event_id=15, amount=2),
        nop(engine),
    ]
    what = f"waits for event 15 at command 1: wait [{engine}] event_id=15, amount=2"
    watchdog(bench, list_, engine, what, "3 of 3 commands dispatched")
    event_is_gone(bench.session, 15)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fetch_blocked_behind_a_full_queue_is_diagnosed(bench: Bench, engine: str) -> None:
    """The queue holds four commands; the fifth keeps the one that would help from being dispatched."""
    other = ENGINES[(ENGINES.index(engine) + 1) % 3]
    list_ = [nop(engine, **{f"wait_{other}": 1}) for _ in range(5)]
    list_ += [nop(other, **{f"post_{engine}": 1}) for _ in range(5)]
    what = f"waits for a token from {other} at command 0: nop [{engine}] wait_{other}=1"
    tail = "4 of 10 commands dispatched, the next one waits for room in its engine's queue"
    watchdog(bench, list_, engine, what, tail)


def test_an_engine_that_waits_for_memory_or_write_out_is_diagnosed(bench: Bench) -> None:
    for name in ("load", "store"):
        memory = MemoryModel(latency=20 if name == "store" else 800, write_latency=5000)
        result = bench.session.run(bench.job([small(name)], memory=memory, max_cycles=1200))
        assert f"  {name}: waits for memory at command 0: {name} [{name}]" in result.diagnosis
        bench.recovers()
    result = bench.session.run(bench.job([small("conv", **LONG)], max_cycles=LONG_DRAINS))
    assert "  compute: waits for the write-out at command 0: conv [compute]" in result.diagnosis
    bench.recovers()


def test_both_units_are_diagnosed(pair: Session, references: dict[str, Reference]) -> None:
    lists = {
        "npu8": [nop("store", wait_load=1)],
        "npu_lb": [encode("wait", engine="load", event_id=0, amount=1)],
    }
    result = pair.run(
        Job(
            segments=[(LIST + 0x1000 * i, command_list(lists[name])) for i, name in enumerate(UNITS)],
            starts={name: (LIST + 0x1000 * i, 1) for i, name in enumerate(UNITS)},
            max_cycles=1000,
        )
    )
    assert result.diagnosis.splitlines() == [
        "given up after 1000 cycles",
        "npu8: busy",
        "  load: idle",
        "  compute: idle",
        "  store: waits for a token from load at command 0: nop [store] wait_load=1",
        "  fetch: 1 of 1 commands dispatched",
        "npu_lb: busy",
        "  load: waits for event 0 at command 0: wait [load] amount=1",
        "  compute: idle",
        "  store: idle",
        "  fetch: 1 of 1 commands dispatched",
    ]
    for name in UNITS:
        Bench(pair, CORES[name], references[name]).recovers()
