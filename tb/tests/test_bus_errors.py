# SPDX-License-Identifier: Apache-2.0
"""Errors of the memory are reported on the beat and by the command that met them, and disturb nobody else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.arrays import Words
from golden.layer import run_layer
from hw.commands import command_list
from hw.interface import ENGINES
from hw.memory import MemoryModel
from tb.job import Job
from tb.session import Session
from tb.testing import LIST, SOURCE, TARGET, UNITS
from tb.tests.faults import (
    CORES,
    LONG,
    MARK,
    OTHER,
    RESPONSES,
    WORD,
    Bench,
    Reference,
    Response,
    broken,
    nop,
    reference_program,
    small,
)

BEATS = {"first": 0, "second": 1, "inside": 37, "last of a burst": 47, "first of a burst": 48, "last": 99}


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("percent", [0, 40])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_an_error_on_any_beat_of_a_load_is_reported(
    bench: Bench, target: int, percent: int, response: Response
) -> None:
    size = 100 * WORD
    for beat in BEATS.values():
        loads = [
            small(
                "load",
                mem_address=SOURCE + i * size,
                local_address=100 * i,
                line_words=100,
                target=target,
                fence=1,
            )
            for i in range(3)
        ]
        for index in (0, 1):
            memory = broken(SOURCE + index * size + beat * WORD, response, percent)
            bench.fails(bench.job(loads, memory=memory), f"load_{response}", "load", index)
        bench.recovers()


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("percent", [0, 40])
def test_an_error_on_any_beat_right_behind_another_load_is_its_own(
    bench: Bench, percent: int, response: Response
) -> None:
    """The commands' beats follow each other without a gap."""
    size = 100 * WORD
    for target in range(3):
        loads = [
            small("load", mem_address=SOURCE + i * size, local_address=100 * i, line_words=100, target=target)
            for i in range(3)
        ]
        for beat in BEATS.values():
            memory = broken(SOURCE + size + beat * WORD, response, percent)
            bench.fails(bench.job(loads, memory=memory), f"load_{response}", "load", 1)
        bench.recovers()


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("percent", [0, 40])
def test_an_error_on_any_burst_of_a_store_is_reported(bench: Bench, percent: int, response: Response) -> None:
    size = 100 * WORD
    stores = [
        small("store", mem_address=TARGET + i * size, local_address=100 * i, line_words=100) for i in range(3)
    ]
    for beat in BEATS.values():
        for index in (0, 1, 2):
            memory = broken(TARGET + index * size + beat * WORD, response, percent)
            bench.fails(
                bench.job([*stores, small("mark")], memory=memory), f"store_{response}", "store", index
            )
        bench.recovers()


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("percent", [0, 40])
def test_an_error_on_a_mark_is_reported(bench: Bench, percent: int, response: Response) -> None:
    for count in (0, 1, 2):
        list_ = [*[small("mark", mem_address=MARK + 0x100, id=7)] * count, small("mark"), small("store")]
        bench.fails(
            bench.job(list_, memory=broken(MARK, response, percent)), f"store_{response}", "store", count
        )
        bench.recovers()


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("percent", [0, 40])
def test_an_error_on_any_beat_of_a_command_is_reported(
    bench: Bench, percent: int, response: Response
) -> None:
    list_ = [nop(engine) for engine in ENGINES * 4]
    for index in (0, 1, 5, len(list_) - 1):
        for beat in range(4):
            memory = broken(LIST + 64 * index + WORD * beat, response, percent)
            result = bench.fails(bench.job(list_, memory=memory), f"fetch_{response}", "fetch", index)
            assert result.units[bench.unit].dispatched <= index
        bench.recovers()


def test_an_error_answers_reads_and_writes_apart(bench: Bench) -> None:
    """A word that cannot be read can be written, and the other way round."""
    copy = [small("load", post_store=1), small("store", mem_address=SOURCE, wait_load=1)]
    write = broken(SOURCE, "slverr", 0, reads=False)
    bench.fails(bench.job(copy, memory=write), "store_slverr", "store", 1)
    read = broken(TARGET, "decerr", 0, writes=False)
    copy = [small("store", post_load=1), small("load", mem_address=TARGET, wait_store=1)]
    bench.fails(bench.job(copy, memory=read), "load_decerr", "load", 1)
    bench.recovers()


def failing_lists() -> dict[str, tuple[list[Words], MemoryModel, str, str, int]]:
    """Lists that fail, each in another place: (list, memory, cause, engine, command)."""
    load, store = small("load", line_words=400), small("store", line_words=400)
    busy = [load, small("conv", **LONG), store]
    good = MemoryModel()
    return {
        "fetch": (
            [*busy, *[nop("store")] * 8],
            broken(LIST + 64 * 9, "slverr", 0),
            "fetch_slverr",
            "fetch",
            9,
        ),
        "load": (busy, broken(SOURCE + 300 * WORD, "decerr", 0), "load_decerr", "load", 0),
        "store": (busy, broken(TARGET + 300 * WORD, "slverr", 0), "store_slverr", "store", 2),
        "mark": ([*busy, small("mark")], broken(MARK, "decerr", 0), "store_decerr", "store", 3),
        "illegal": ([*busy, small("conv", out_pixels=0)], good, "illegal_command", "compute", 3),
        "range": ([*busy, small("conv", in_base=-1, fence=1)], good, "scratchpad_range", "compute", 3),
    }


@pytest.mark.parametrize("percent", [0, 30])
@pytest.mark.parametrize("where", sorted(failing_lists()))
def test_a_failing_unit_does_not_disturb_the_other(bench: Bench, where: str, percent: int) -> None:
    commands, memory, cause, engine, command = failing_lists()[where]
    other = reference_program(bench.other, OTHER)
    for delay in (0, 5):
        job = bench.job([*[nop("load")] * delay, *commands])
        shift = 64 * delay if where == "fetch" else 0
        errors = tuple(replace(item, address=item.address + shift) for item in memory.errors)
        job = replace(
            job,
            segments=[*job.segments, *other.segments],
            starts={**job.starts, bench.other.name: other.commands},
            reads=[other.output],
            memory=replace(memory, errors=errors, backpressure_percent=percent),
            stop_on_error=False,
        )
        result = bench.fails(job, cause, engine, command + delay)
        assert result.units[bench.other.name].done
        assert result.outstanding == 0
        np.testing.assert_array_equal(
            other.decode_output(result.reads[0]), run_layer(other.layer, bench.other.a_bits)
        )
        bench.recovers()


def test_both_units_fail_in_their_own_way(pair: Session, references: dict[str, Reference]) -> None:
    benches = [Bench(pair, CORES[name], references[name]) for name in UNITS]
    lists = {"npu8": [nop("load"), small("load", line_words=100)], "npu_lb": [small("conv", kernel_h=0)]}
    job = Job(
        segments=[(LIST + 0x1000 * i, command_list(lists[name])) for i, name in enumerate(UNITS)],
        starts={name: (LIST + 0x1000 * i, len(lists[name])) for i, name in enumerate(UNITS)},
        memory=broken(SOURCE + 99 * WORD, "slverr", 0),
        max_cycles=10_000,
        stop_on_error=False,
    )
    benches[0].fails(job, "load_slverr", "load", 1)
    benches[1].fails(job, "illegal_command", "compute", 0)
    for bench in benches:
        bench.recovers()
