# SPDX-License-Identifier: Apache-2.0
"""However the memory behaves, every command gives the same bytes; and every end of a job, with many units."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from common.arrays import Bytes, Words
from hw.commands import encode
from hw.core import CoreConfig
from hw.interface import ENGINES, TARGETS, TRANSFER_WORD_BYTES
from hw.memory import MemoryModel
from hw.system import System
from tb.job import Job, JobResult
from tb.session import Session
from tb.testing import LIST, SOURCE, TARGET, UNITS, copy_job, list_job, random_bytes, transfer
from tb.tests.faults import MARK, small

pytestmark = pytest.mark.rtl

MEMORIES = {
    "short": MemoryModel(latency=2),
    "long": MemoryModel(latency=150, write_latency=60),
    "narrow": MemoryModel(beats=1, per_cycles=3),
    "data_first": MemoryModel(data_first=True),
    "stalls": MemoryModel(backpressure_percent=30, backpressure_seed=5),
    "many_stalls": MemoryModel(backpressure_percent=75, backpressure_seed=6, data_first=True),
}
WORDS = 64
"""Words of random activations in front of where the operators write."""
OUTPUTS = {"conv": 64, "depthwise": 80, "max_pool": 96, "average_pool": 112, "add": 128}
"""Where each operator writes its four words."""
KEPT = 144
"""Where the sums of three convolutions are written, of which two leave theirs in the accumulators."""
FENCED = 128
"""With a fence it writes so many words further on."""
STORED = 200
"""Words that are stored at last, from where the first operator writes."""
PLACE = 256
"""Weights and parameters in SOURCE begin at this word of it."""
EVENT = 3


def every_operator(parts: int) -> list[Words]:
    """Return a list with every command, those that compute, store and mark without and with a fence.

    Tokens order the three engines; what the operators leave in the first of the `parts` of a word of the
    activation scratchpad is stored at last.
    """
    results = {"local": 64 * parts, "local_step": parts}
    load = [
        transfer("load", SOURCE, WORDS),
        transfer("load", SOURCE + PLACE * TRANSFER_WORD_BYTES, 256, target=1, fence=1),
        transfer("load", SOURCE + 2 * PLACE * TRANSFER_WORD_BYTES, 64, target=2),
        encode("nop", engine="load"),
        encode("nop", engine="load", post_compute=1, fence=1),
    ]
    compute = [encode("nop", engine="compute", wait_load=1)]
    for name, base in OUTPUTS.items():
        zero = {"out_zero_point": 7} if name != "conv" else {}
        compute += [
            small(name, out_base=base, **zero),
            small(name, out_base=base + FENCED, fence=1, stripe_pixels=9, **zero),
        ]
    kept = [{"keep": 1}, {"accumulate": 1, "keep": 1}, {"accumulate": 1, "out_base": KEPT}]
    compute += [small("conv", **fields) for fields in kept]
    signals = [
        encode("signal", engine=engine, event_id=EVENT, fence=i % 2) for i, engine in enumerate(ENGINES)
    ]
    compute += [signals[1], encode("signal", engine="compute", event_id=EVENT, fence=1)]
    compute += [encode("nop", engine="compute", post_store=1, fence=1)]
    store = [
        encode("nop", engine="store", wait_compute=1),
        signals[2],
        encode("wait", engine="store", event_id=EVENT, amount=0, fence=1),
        encode("wait", engine="store", event_id=EVENT, amount=3),
        transfer("store", TARGET, WORDS, **results, fence=1),
        transfer("store", TARGET + 1024, STORED, **results),
        encode("mark", mem_address=MARK, id=1, fence=1),
        encode("mark", mem_address=MARK + 16, id=2),
        encode("nop", engine="store", fence=1),
        encode("wait", engine="store", event_id=EVENT, amount=1),
    ]
    load += [signals[0]]
    return [*load, *compute, *store]


def run_every_operator(session: Session, unit: str, memory: MemoryModel) -> JobResult:
    size = STORED * TRANSFER_WORD_BYTES
    source = random_bytes(9, 1024 * TRANSFER_WORD_BYTES)
    parts = session.config.core(unit).rows // TRANSFER_WORD_BYTES
    job = list_job(
        every_operator(parts), units=[unit], memory=memory, segments=[(SOURCE, source)],
        reads=[(TARGET, 1024), (TARGET + 1024, size)], max_cycles=200_000,
    )  # fmt: skip
    result = session.run(job)
    assert result.ok, result.diagnosis
    return result


@pytest.fixture(scope="module")
def undisturbed(pair: Session) -> dict[str, list[Bytes]]:
    """What each unit leaves with the default memory."""
    return {unit: run_every_operator(pair, unit, MemoryModel()).reads for unit in UNITS}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("memory", MEMORIES)
def test_every_command_gives_the_same_whatever_the_memory_does(
    pair: Session, undisturbed: dict[str, list[Bytes]], unit: str, memory: str
) -> None:
    result = run_every_operator(pair, unit, MEMORIES[memory])
    for got, want in zip(result.reads, undisturbed[unit], strict=True):
        np.testing.assert_array_equal(got, want)


def test_operators_write_what_they_wrote_without_a_fence(undisturbed: dict[str, list[Bytes]]) -> None:
    for unit in UNITS:
        words = undisturbed[unit][1].reshape(-1, TRANSFER_WORD_BYTES)
        for base in OUTPUTS.values():
            at = base - 64
            np.testing.assert_array_equal(words[at : at + 4], words[at + FENCED :][:4])
        assert len(np.unique(words)) > 50


def loads(target: int) -> Iterator[dict[str, int]]:
    """Yield the fields of loads: lines alone, behind each other and apart, planes, steps, long lines."""
    long = 100 if TARGETS[target] == "parameters" else 300
    for words, (lines, gap), planes in itertools.product((1, 24, long), ((1, 0), (2, 0), (2, 48)), (1, 2)):
        stride = words * TRANSFER_WORD_BYTES + gap
        yield {
            "target": target, "line_words": words, "lines": lines, "planes": planes, "local_step": 1,
            "line_stride": stride, "plane_stride": lines * stride + 64,
            "local_plane_stride": words * lines if words < long else 50,
        }  # fmt: skip


@pytest.mark.parametrize("memory", ["short", "stalls", "many_stalls"])
@pytest.mark.parametrize("target", range(len(TARGETS)))
def test_lines_and_planes_reach_every_scratchpad(pair: Session, target: int, memory: str) -> None:
    """What a load brought into the activation scratchpad is stored again; the others only take it."""
    source = random_bytes(4, 1 << 16)
    for fields in loads(target):
        size = fields["line_words"] * fields["lines"] * fields["planes"]
        whole = fields["line_words"] < 100
        commands = [encode("load", mem_address=SOURCE, post_store=1, **fields)]
        commands += [transfer("store", TARGET, min(size, 400), wait_load=1)]
        job = list_job(
            commands, units=["npu8"], memory=MEMORIES[memory], segments=[(SOURCE, source)],
            reads=[(TARGET, min(size, 400) * TRANSFER_WORD_BYTES)],
        )  # fmt: skip
        result = pair.run(job)
        assert result.ok, result.diagnosis
        assert result.units["npu8"].counters["read_beats"] == size + 2 * 4
        if target == 0 and whole:
            want = [
                source[start : start + fields["line_words"] * TRANSFER_WORD_BYTES]
                for plane in range(fields["planes"])
                for line in range(fields["lines"])
                for start in [plane * fields["plane_stride"] + line * fields["line_stride"]]
            ]
            np.testing.assert_array_equal(result.reads[0], np.concatenate(want))


def test_a_step_of_none_leaves_the_last_word(pair: Session) -> None:
    source = random_bytes(5, 20 * TRANSFER_WORD_BYTES)
    commands = [transfer("load", SOURCE, 20, local_step=0, post_store=1)]
    commands += [transfer("store", TARGET, 1, wait_load=1)]
    job = list_job(commands, segments=[(SOURCE, source)], reads=[(TARGET, TRANSFER_WORD_BYTES)])
    result = pair.run(job)
    assert result.ok, result.diagnosis
    np.testing.assert_array_equal(result.reads[0], source[-TRANSFER_WORD_BYTES:])


# ------------------------------------------------------------------------------------------------- many units
MANY = System(
    tuple(
        CoreConfig(f"u{i}", w_bits=bits, rows=16, cols=16, lanes=lanes, act_kib=8, weight_kib=4, param_kib=1)
        for i, (bits, lanes) in enumerate(((6, 1), (5, 2), (7, 1), (6, 1)))
    ),
    axi_bits=64,
)


@pytest.fixture(scope="module")
def many() -> Iterator[Session]:
    """A session of four small units, two of them equal, on a port of 64 bits."""
    with Session(MANY) as session:
        yield session


def copies(session: Session, units: tuple[str, ...], memory: MemoryModel) -> None:
    """Check that these units copy at the same time, each its own words."""
    jobs = [copy_job(words=60 + 7 * i, seed=i) for i in range(len(units))]
    segments, starts, reads = [], {}, []
    for i, (unit, (job, data)) in enumerate(zip(units, jobs, strict=True)):
        place = SOURCE + 0x1_0000 * i
        commands = [
            transfer("load", place, len(data) // TRANSFER_WORD_BYTES, post_store=1),
            transfer("store", place + 0x8_0000, len(data) // TRANSFER_WORD_BYTES, wait_load=1),
            encode("nop", engine="compute"),
        ]
        (_, image), *_ = list_job(commands).segments
        segments += [(LIST + 0x1000 * i, image), (place, data)]
        starts[unit] = (LIST + 0x1000 * i, len(commands))
        reads.append((place + 0x8_0000, len(data)))
        assert job.reads
    result = session.run(Job(segments=segments, starts=starts, reads=reads, memory=memory))
    assert result.ok, result.diagnosis
    assert result.outstanding == 0
    for got, (_, data) in zip(result.reads, jobs, strict=True):
        np.testing.assert_array_equal(got, data)


@pytest.mark.parametrize("memory", ["short", "stalls", "many_stalls"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_end_of_a_job_leaves_every_unit_ready(many: Session, count: int, memory: str) -> None:
    """Done, an error, given up, a soft reset: whatever the number of units, the next job is exact."""
    units = MANY.units[:count]
    model = MEMORIES[memory]
    copies(many, units, model)

    broken = list_job([encode("nop", engine=3)], units=units, memory=model)
    result = many.run(replace(broken, stop_on_error=False))
    assert [unit.error.cause for unit in result.units.values() if unit.error] == ["illegal_command"] * count
    copies(many, units, model)

    waits = list_job([encode("wait", engine="load", event_id=1, amount=1)], units=units, memory=model)
    result = many.run(replace(waits, max_cycles=300))
    assert result.timed_out
    assert result.stuck == ()
    copies(many, units, model)

    job, _ = copy_job(words=200)
    result = many.run(replace(list_job_of(job, units), memory=model, reset_after=40))
    assert result.stuck == ()
    assert result.outstanding == 0
    copies(many, units, model)


def list_job_of(job: Job, units: tuple[str, ...]) -> Job:
    """Return a job whose list all units run."""
    (start,) = set(job.starts.values())
    return replace(job, starts=dict.fromkeys(units, start))
