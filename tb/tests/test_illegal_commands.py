# SPDX-License-Identifier: Apache-2.0
"""Illegal commands are refused: what is before them stays, what is behind them does not happen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from common.arrays import Words
from hw.commands import encode
from hw.core import CoreConfig
from hw.interface import COMMANDS, ENGINES
from hw.layout import CHANNEL_BLOCK
from tb.session import Session
from tb.testing import LIST, SOURCE, TARGET, UNITS, random_bytes
from tb.tests.faults import CORES, FILL, MARK, WORD, Bench, Reference, nop, small, stalling

OPERATIONS = tuple(name for name, (_, _, engine) in COMMANDS.items() if engine is not None)


def with_bits(command: Words, bits: int) -> Words:
    """Set bits of word 0."""
    changed: Words = command.copy()
    changed[0] |= np.uint32(bits)
    return changed


def with_engine(command: Words, engine: int) -> Words:
    changed: Words = command.copy()
    changed[0] = np.uint32(int(changed[0]) & ~0x300 | engine << 8)
    return changed


def test_the_commands_that_the_illegal_ones_are_made_from_are_legal(bench: Bench) -> None:
    last = bench.core.rows // CHANNEL_BLOCK - 1
    legal = [
        *(small(name, out_part=last) for name in ("conv", "depthwise")),
        *(small(name, in_part=last, out_part=last) for name in ("average_pool", "max_pool")),
        small("add", in_part=last, in2_part=last, out_part=last),
        *(small(name) for name in OPERATIONS),
        small("load", target=1),
        small("load", target=2),
        small("depthwise", slide=1, row_advance=1),
        small("conv", keep=1),
        small("conv", accumulate=1),
        small("conv", out_channels=bench.core.columns, keep=1),
        small("conv", out_channels=bench.core.columns, accumulate=1),
        small("conv", out_channels=bench.core.columns + 1),
        small("conv", stripe_pixels=bench.core.stripe_depth),
        small("add", left_shift=23, shift1=0, shift2=-31, multiplier1=2**31 - 1),
        small("add", left_shift=3, shift1=20, shift2=0),
        *(nop(engine) for engine in ENGINES),
        *(encode("signal", engine=engine, event_id=15) for engine in ENGINES),
        *(encode("wait", engine=engine, event_id=15, amount=1) for engine in ENGINES),
        *(encode("wait", engine=engine, event_id=15, amount=0) for engine in ENGINES),
    ]
    result = bench.session.run(bench.job(legal))
    assert result.ok, result.diagnosis
    bench.recovers()


@dataclass(frozen=True)
class Illegal:
    """A command that must be refused by an engine (or by the fetch unit)."""

    name: str
    engine: str
    command: Words


def illegal_headers() -> Iterator[Illegal]:
    for number, engine in enumerate(ENGINES):
        for opcode in (0x00, 0x04, 0x0F, 0x11, 0x25, 0x32, 0x81, 0xFF):
            word = np.zeros(16, np.uint32)
            word[0] = opcode | number << 8
            yield Illegal(f"opcode {opcode:#04x}", engine, word)
        for bit in (11, 15, *range(19, 32)):
            yield Illegal(f"reserved bit {bit}", engine, with_bits(nop(engine), 1 << bit))
        for kind in ("wait", "post"):
            yield Illegal(f"nop {kind}s itself", engine, nop(engine, **{f"{kind}_{engine}": 1}))
            own = {"load": "load", "compute": "conv", "store": "store"}[engine]
            yield Illegal(f"{own} {kind}s itself", engine, small(own, **{f"{kind}_{engine}": 1}))
        for name in ("signal", "wait"):
            for event in (16, 128, 255):
                yield Illegal(f"{name} event {event}", engine, encode(name, engine=engine, event_id=event))
    for name in OPERATIONS:
        home = COMMANDS[name][2]
        for number, engine in enumerate(ENGINES):
            if number != home:
                yield Illegal(f"{name} on {engine}", engine, with_engine(small(name), number))
        yield Illegal(f"{name} on engine 3", "fetch", with_engine(small(name), 3))
    for name in ("nop", "signal", "wait"):
        yield Illegal(f"{name} on engine 3", "fetch", encode(name, engine=3))


def illegal_transfers() -> Iterator[Illegal]:
    wrong: dict[str, Sequence[int]] = {
        "mem_address": [SOURCE + low for low in (1, 2, 4, 8, 15)],
        "line_stride": (1, 8, 0x1008),
        "plane_stride": (2, 8, 0x8000_0004),
        "line_words": (0,),
        "lines": (0,),
        "planes": (0,),
    }
    for name in ("load", "store"):
        for field, values in wrong.items():
            for value in values:
                yield Illegal(f"{name} {field}={value:#x}", name, small(name, **{field: value}))
    yield Illegal("load target=3", "load", small("load", target=3))
    for target in (1, 2, 3):
        yield Illegal(f"store target={target}", "store", small("store", target=target))
    for low in (1, 4, 8):
        yield Illegal(f"mark mem_address+{low}", "store", small("mark", mem_address=MARK + low))


def illegal_operators(core: CoreConfig) -> Iterator[Illegal]:
    def refused(name: str, **fields: int) -> Illegal:
        text = " ".join(f"{key}={value}" for key, value in fields.items())
        return Illegal(f"{name} {text}", "compute", small(name, **fields))

    sizes = (
        "in_height", "in_width", "in_channels", "out_channels", "kernel_h", "kernel_w",
        "stride_h", "stride_w", "dilation_h", "dilation_w", "out_width", "out_pixels",
    )  # fmt: skip
    for name in ("conv", "depthwise", "average_pool", "max_pool", "add"):
        for field in ("out_channels", "out_pixels") if name == "add" else sizes:
            yield refused(name, **{field: 0})
        for pixels in (0, core.stripe_depth + 1, 255):
            yield refused(name, stripe_pixels=pixels)
    for name in ("conv", "average_pool", "max_pool"):
        yield refused(name, slide=1, row_advance=1)
    for number in (1, 2):  # operands that could leave 32 bits
        for shift, left in ((0, 24), (1, 23), (24, 0), (-1, 24), (-32, 0), (127, 0), (-128, 0)):
            yield refused("add", **{f"shift{number}": shift, "left_shift": left})
        yield refused("add", **{f"multiplier{number}": -1})
    yield refused("depthwise", slide=1, row_advance=0)
    yield refused("depthwise", slide=1, row_advance=1, dilation_w=2)
    # no word in the row before the first output; a pass whose first tap lies behind the row
    yield refused("depthwise", slide=1, row_advance=1, kernel_w=3, in_column=-3)
    yield refused("depthwise", slide=1, row_advance=1, kernel_w=9, in_column=-5)
    yield refused("depthwise", slide=1, row_advance=5, kernel_w=6, in_column=0)
    parts = core.rows // CHANNEL_BLOCK
    for name in ("conv", "depthwise", "average_pool", "max_pool", "add"):
        fields = ("in_part", "in2_part", "out_part") if name == "add" else ("in_part", "out_part")
        for field in fields:
            for part in {parts, 8, 15}:
                yield refused(name, **{field: part})
            if parts > 1:
                yield refused(name, **{field: 1, "out_channels": CHANNEL_BLOCK + 1})
    if parts > 1:
        yield refused("conv", in_part=1)
        yield refused("depthwise", in_part=1)
    for flag in ("keep", "accumulate"):
        yield refused("conv", **{flag: 1, "out_pixels": 5})
        yield refused("conv", **{flag: 1, "out_channels": core.columns + 1})
        for name in ("depthwise", "average_pool", "max_pool"):
            yield refused(name, **{flag: 1})


def prefix(engine: str, data: int = 4) -> list[Words]:
    """Commands that copy words through the unit, complete before the engine looks at the next command."""
    back = int(engine in ("load", "compute"))
    post = {f"post_{engine}": 1} if back else {}
    copied = [
        small("load", line_words=data, post_store=1),
        small("store", line_words=data, wait_load=1, **post),
    ]
    if back:
        return [*copied, nop(engine, wait_store=1)]
    # the fetch unit hands out nothing behind a full queue: the nops wait for the store
    return [*copied, *([nop("store")] * 6 if engine == "fetch" else [])]


def suffix(engine: str) -> list[Words]:
    """A time stamp that comes only if the engine goes on."""
    if engine in ("store", "fetch"):
        return [small("mark")]
    return [nop(engine, post_store=1), small("mark", **{f"wait_{engine}": 1})]


def refuses(bench: Bench, case: Illegal) -> None:
    """First in the list, and in its middle: what is before it stays, what is behind it does not happen."""
    try:
        behind = suffix(case.engine)
        bench.fails(bench.job([case.command, *behind]), "illegal_command", case.engine, 0)
        bench.recovers()
        before = prefix(case.engine)
        data = random_bytes(3, 4 * WORD)
        job = bench.job(
            [*before, case.command, *behind],
            segments=[(SOURCE, data)],
            reads=[(TARGET, data.size), (MARK, WORD)],
        )
        result = bench.fails(job, "illegal_command", case.engine, len(before))
        np.testing.assert_array_equal(result.reads[0], data)
        np.testing.assert_array_equal(result.reads[1], np.full(WORD, FILL))
        bench.recovers()
    except AssertionError as error:
        raise AssertionError(f"{case.name} on {case.engine}: {error}") from error


HEADERS = list(illegal_headers())
TRANSFERS = list(illegal_transfers())


@pytest.mark.parametrize("case", HEADERS, ids=lambda case: f"{case.name} on {case.engine}".replace(" ", "-"))
def test_an_illegal_header_is_refused(case: Illegal, pair: Session, references: dict[str, Reference]) -> None:
    # the header is checked in front of the engines, equal in both units: they take turns
    unit = UNITS[HEADERS.index(case) % 2]
    refuses(Bench(pair, CORES[unit], references[unit]), case)


@pytest.mark.parametrize("case", TRANSFERS, ids=lambda case: case.name.replace(" ", "-"))
def test_an_illegal_transfer_is_refused(
    case: Illegal, pair: Session, references: dict[str, Reference]
) -> None:
    unit = UNITS[TRANSFERS.index(case) % 2]
    refuses(Bench(pair, CORES[unit], references[unit]), case)


@pytest.mark.parametrize("name", ["conv", "depthwise", "average_pool", "max_pool", "add"])
def test_an_illegal_operator_is_refused(bench: Bench, name: str) -> None:
    cases = [case for case in illegal_operators(bench.core) if case.name.startswith(f"{name} ")]
    assert len(cases) >= 5
    for case in cases:
        refuses(bench, case)


def test_an_illegal_command_is_reported_after_the_earlier_ones_of_its_engine(bench: Bench) -> None:
    """No token orders them: the engine itself completes its transfers first."""
    data = random_bytes(4, 640 * WORD)
    loads = [
        small("load", mem_address=SOURCE + 160 * WORD * i, local_address=160 * i, line_words=160)
        for i in range(4)
    ]
    job = bench.job(
        [*loads, with_bits(small("load"), 1 << 31)], segments=[(SOURCE, data)], memory=stalling(latency=90)
    )
    bench.fails(job, "illegal_command", "load", 4)
    # the scratchpad outlives the soft reset
    stored = bench.session.run(bench.job([small("store", line_words=640)], reads=[(TARGET, data.size)]))
    assert stored.ok
    np.testing.assert_array_equal(stored.reads[0], data)
    bench.recovers()


@pytest.mark.parametrize("low", [1, 4, 8, 16, 32, 63])
def test_a_list_that_is_not_aligned_is_refused(bench: Bench, low: int) -> None:
    for count in (1, 3):
        job = replace(bench.job([nop("load")] * 4), starts={bench.unit: (LIST + low, count)})
        result = bench.fails(job, "illegal_command", "fetch", 0)
        assert result.read_beats == 0
        bench.recovers()
