# SPDX-License-Identifier: Apache-2.0
"""Events order commands of two units, stay until they are taken, and are forgotten when a unit has failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.commands import command_list, encode
from hw.memory import MemoryModel
from tb.job import Job
from tb.testing import LIST, list_job
from tb.tests.faults import Bench, event_is_gone, small


@pytest.mark.parametrize("signals", [1, 5])
@pytest.mark.parametrize("amount", [1, 6])
def test_events_of_a_failed_unit_do_not_leak(bench: Bench, signals: int, amount: int) -> None:
    """One unit signals and fails, the other waits, for that or for something that never comes."""
    bad = [
        *[encode("signal", engine="store", event_id=3)] * signals,
        small("store", local_address=bench.sizes.act_parts),
    ]
    waiting = [
        small("load"),
        encode("wait", engine="load", event_id=3 if amount > signals else 4, amount=amount),
    ]
    job = bench.job(bad)
    other = bench.other.name
    job = replace(
        job,
        segments=[*job.segments, (LIST + 0x2000, command_list(waiting))],
        starts={**job.starts, other: (LIST + 0x2000, len(waiting))},
    )
    result = bench.fails(job, "scratchpad_range", "store", signals)
    assert result.units[other].busy
    assert result.units[other].diag["load"].event == (3 if amount > signals else 4)
    assert f"load: waits for event {3 if amount > signals else 4} at command 1: wait" in result.diagnosis
    event_is_gone(bench.session, 3)
    bench.recovers()


def test_a_unit_that_waits_for_a_failed_one_is_ended_by_the_watchdog(bench: Bench) -> None:
    job = bench.job([small("load", target=3), encode("signal", engine="load", event_id=1)], max_cycles=3000)
    waiting = [encode("wait", engine="compute", event_id=1, amount=1)]
    other = bench.other.name
    job = replace(
        job,
        segments=[*job.segments, (LIST + 0x2000, command_list(waiting))],
        starts={**job.starts, other: (LIST + 0x2000, 1)},
        stop_on_error=False,
    )
    result = bench.session.run(job)
    assert result.timed_out
    assert f"{bench.unit}: illegal_command in load, command 0: load" in result.diagnosis
    assert f"{other}: busy\n  load: idle\n  compute: waits for event 1 at command 0: wait" in result.diagnosis
    event_is_gone(bench.session, 1)
    bench.recovers()


def test_events_are_forgotten_when_both_units_get_ready_in_the_same_cycle(bench: Bench) -> None:
    """Their soft resets end with the last answers of memory: here over all distances in time around zero."""
    signaller, other = bench.unit, bench.other.name
    lists = {signaller: [encode("signal", engine="load", event_id=3), small("load")], other: [small("store")]}
    job = Job(
        segments=[
            (LIST + 0x1000 * i, command_list(lists[name])) for i, name in enumerate((signaller, other))
        ],
        starts={name: (LIST + 0x1000 * i, len(lists[name])) for i, name in enumerate((signaller, other))},
        reset_after=300,
    )
    taken = bench.job([encode("wait", engine="load", event_id=3, amount=1)], max_cycles=150)
    leaks = []
    for write_latency in range(180, 210):
        result = bench.session.run(replace(job, memory=MemoryModel(latency=200, write_latency=write_latency)))
        assert result.stuck == ()
        if not bench.session.run(taken).timed_out:
            leaks.append(write_latency)
    assert leaks == []
    bench.recovers()


def test_events_stay_while_all_units_are_idle(bench: Bench) -> None:
    """What a list has signalled is there for later lists of both units, until it is taken."""
    signal = encode("signal", engine="store", event_id=11)
    assert bench.session.run(bench.job([signal] * 3)).ok
    for unit, amount in ((bench.other.name, 2), (bench.unit, 1)):
        wait = encode("wait", engine="load", event_id=11, amount=amount)
        result = bench.session.run(list_job([wait], units=[unit], max_cycles=300))
        assert result.ok, result.diagnosis
    event_is_gone(bench.session, 11)
    bench.recovers()
