"""Faults: wrong commands, bus errors, soft resets, lists that never end; and the work that goes on then.

After every fault the reference layer must be bit-exact in exactly the cycles that it takes after power-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from golden.layer import Layer, run_layer
from hw.commands import Words, command_list, encode
from hw.core import CoreConfig
from hw.interface import COMMANDS, ENGINES
from hw.memory import ErrorRange, MemoryModel
from hw.system import NPU8, NPU_LB, System
from mapping.compiler.compile import compile_layer
from mapping.compiler.program import LayerProgram
from mapping.run.layers import job_of
from tb.job import Job
from tb.session import Session
from tb.tests.faults import (
    BACKPRESSURE,
    FILL,
    LIST,
    MARK,
    OTHER,
    SHAPE,
    SOURCE,
    TARGET,
    UNITS,
    WORD,
    Bench,
    Reference,
    commands_of,
    conv_layer,
    encoded,
    measure_reference,
    random_bytes,
    reference_program,
    small,
    stalling,
)

Response = Literal["slverr", "decerr"]
RESPONSES: tuple[Response, ...] = ("slverr", "decerr")
OPERATIONS = tuple(name for name, (_, _, engine) in COMMANDS.items() if engine is not None)
CORES = {core.name: core for core in (NPU8, NPU_LB)}

assert NPU8.rows == NPU_LB.rows == 16  # a word of the activation scratchpad is a word of a transfer
ACT_WORDS = NPU8.act_kib * 64
WEIGHT_WORDS = NPU8.weight_kib * 32
PARAM_WORDS = NPU8.param_kib * 64
TARGET_WORDS = (ACT_WORDS, 2 * WEIGHT_WORDS, PARAM_WORDS)
DEPTH = NPU8.stripe_depth


@pytest.fixture(scope="module")
def references() -> dict[str, Reference]:
    """The reference layer of both units, each on a system that has just been powered up."""
    found = {}
    for name in UNITS:
        with Session(System()) as session:
            found[name] = measure_reference(session, session.config.core(name))
    return found


@pytest.fixture(params=UNITS)
def bench(request: pytest.FixtureRequest, pair: Session, references: dict[str, Reference]) -> Bench:
    name = str(request.param)
    return Bench(pair, pair.config.core(name), references[name])


def nop(engine: str, **fields: int) -> Words:
    return encode("nop", engine=engine, **fields)


def with_bits(command: Words, bits: int) -> Words:
    """Set bits of word 0."""
    changed: Words = command.copy()
    changed[0] |= np.uint32(bits)
    return changed


def with_engine(command: Words, engine: int) -> Words:
    changed: Words = command.copy()
    changed[0] = np.uint32(int(changed[0]) & ~0x300 | engine << 8)
    return changed


# ------------------------------------------------------------------------------------------ illegal commands
def test_the_commands_that_the_illegal_ones_are_made_from_are_legal(bench: Bench) -> None:
    legal = [
        *(small(name) for name in OPERATIONS),
        small("load", target=1),
        small("load", target=2),
        small("depthwise", slide=1, row_advance=1),
        small("conv", keep=1),
        small("conv", accumulate=1),
        small("conv", out_channels=bench.core.columns, keep=1),
        small("conv", out_channels=bench.core.columns, accumulate=1),
        small("conv", out_channels=bench.core.columns + 1),
        small("conv", stripe_pixels=DEPTH),
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
    yield refused("depthwise", slide=1, row_advance=0)
    yield refused("depthwise", slide=1, row_advance=1, dilation_w=2)
    # no word in the row before the first output; a pass whose first tap lies behind the row
    yield refused("depthwise", slide=1, row_advance=1, kernel_w=3, in_column=-3)
    yield refused("depthwise", slide=1, row_advance=1, kernel_w=9, in_column=-5)
    yield refused("depthwise", slide=1, row_advance=5, kernel_w=6, in_column=0)
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


# ------------------------------------------------------------------------------------------ scratchpad ranges
@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("memory", [MemoryModel(), stalling()], ids=["fast", "stalling"])
def test_a_load_beyond_its_scratchpad_is_stopped(bench: Bench, target: int, memory: MemoryModel) -> None:
    size = TARGET_WORDS[target]
    cases = [
        {"local_address": size, "line_words": 1},
        {"local_address": (1 << 20) - 1, "line_words": 1},
        {"local_address": size - 1, "line_words": 2},
        {"local_address": size - 100, "line_words": 101},
        {"local_address": size - 8, "line_words": 2, "lines": 5},
        {"local_address": 0, "line_words": 4, "local_step": 255, "lines": 65535},
        {"local_address": 3, "line_words": 2, "planes": 2, "local_plane_stride": size - 4},
        {"local_address": 0, "line_words": 2, "planes": 40, "local_plane_stride": (1 << 20) - 1},
    ]
    for case in cases:
        bad = small("load", target=target, **case)
        bench.fails(bench.job([bad], memory=memory), "scratchpad_range", "load", 0)
        bench.fails(
            bench.job([nop("load"), bad, small("load")], memory=memory), "scratchpad_range", "load", 1
        )
        bench.recovers()
    last = small("load", target=target, local_address=size - 4)
    assert bench.session.run(bench.job([last], memory=memory)).ok


@pytest.mark.parametrize("memory", [MemoryModel(), stalling(60)], ids=["fast", "stalling"])
def test_a_store_from_beyond_the_scratchpad_is_stopped(bench: Bench, memory: MemoryModel) -> None:
    cases = [
        {"local_address": ACT_WORDS, "line_words": 1},
        {"local_address": (1 << 20) - 1, "line_words": 1},
        {"local_address": ACT_WORDS - 1, "line_words": 2},
        {"local_address": ACT_WORDS - 100, "line_words": 101},
        {"local_address": 0, "line_words": 100, "local_step": 255},
        {"local_address": 3, "line_words": 20, "planes": 3, "local_plane_stride": ACT_WORDS // 2 + 8},
    ]
    for case in cases:
        bad = small("store", **case)
        bench.fails(bench.job([bad], memory=memory), "scratchpad_range", "store", 0)
        job = bench.job(
            [small("store", line_words=100), bad, small("mark")], memory=memory, reads=[(MARK, WORD)]
        )
        result = bench.fails(job, "scratchpad_range", "store", 1)
        assert set(result.reads[0].tolist()) == {FILL}
        bench.recovers()
    assert bench.session.run(bench.job([small("store", local_address=ACT_WORDS - 4)], memory=memory)).ok


def operand_cases(core: CoreConfig) -> dict[str, tuple[str, dict[str, int]]]:
    """Commands that read or write beyond a scratchpad, by name."""
    words = core.columns * core.rows * core.w_bits // 8 // 32  # of a tile
    wide = core.columns + 1  # two tiles
    cases: dict[str, tuple[str, dict[str, int]]] = {}
    for name in ("conv", "depthwise", "average_pool", "max_pool", "add"):
        channels = {"out_channels": 17} if name == "add" else {"in_channels": 17, "out_channels": 17}
        cases |= {
            f"{name} reads first word behind": (name, {"in_base": ACT_WORDS}),
            f"{name} reads last word behind": (name, {"in_base": ACT_WORDS - 3}),
            f"{name} reads before": (name, {"in_base": -1}),
            f"{name} reads far before": (name, {"in_base": -(1 << 31)}),
            f"{name} reads far behind": (name, {"in_base": (1 << 31) - 1}),
            f"{name} writes first word behind": (name, {"out_base": ACT_WORDS}),
            f"{name} writes last word behind": (name, {"out_base": ACT_WORDS - 3}),
            f"{name} writes plane behind": (name, channels | {"out_plane": ACT_WORDS - 66}),
            f"{name} parameters behind": (name, {"param_base": PARAM_WORDS}),
            f"{name} parameters across the end": (name, {"param_base": PARAM_WORDS - 8}),
            f"{name} parameters far behind": (name, {"param_base": 65535}),
        }
    cases |= {
        "conv tap before": ("conv", {"in_base": -2}),
        "conv tap behind": ("conv", {"in_base": ACT_WORDS - 4, "kernel_h": 2, "in_height": 3}),
        "conv second input plane behind": ("conv", {"in_channels": 17, "in_plane": ACT_WORDS - 2}),
        "depthwise slides behind": ("depthwise", {"in_base": ACT_WORDS - 3, "slide": 1, "row_advance": 1}),
        "conv weights behind": ("conv", {"weight_base": WEIGHT_WORDS}),
        "conv weights across the end": ("conv", {"weight_base": WEIGHT_WORDS - words + 1}),
        "conv second tile behind": ("conv", {"weight_base": WEIGHT_WORDS - words, "out_channels": wide}),
        "conv weights far behind": ("conv", {"weight_base": 65535}),
        "depthwise weights behind": ("depthwise", {"weight_base": WEIGHT_WORDS}),
        "depthwise second tile behind": (
            "depthwise",
            {"weight_base": WEIGHT_WORDS - 1, "kernel_w": 3, "in_width": 4, "in_row_step": 4},
        ),
        "add second input behind": ("add", {"in2_base": ACT_WORDS}),
        "add second input's last word behind": ("add", {"in2_base": ACT_WORDS - 3}),
        "add second input before": ("add", {"in2_base": -1}),
        "add second input far before": ("add", {"in2_base": -(1 << 31)}),
    }
    return cases


@pytest.mark.parametrize("name", sorted(operand_cases(NPU8)), ids=lambda name: name.replace(" ", "-"))
def test_an_operator_beyond_a_scratchpad_is_stopped(bench: Bench, name: str) -> None:
    op, fields = operand_cases(bench.core)[name]
    bad = small(op, **fields)
    bench.fails(bench.job([bad]), "scratchpad_range", "compute", 0)
    bench.recovers()
    fenced = small(op, fence=1, **fields)
    bench.fails(
        bench.job([nop("compute"), small("conv"), fenced, small("conv")]), "scratchpad_range", "compute", 2
    )
    bench.recovers()


# a command whose results take long to drain, so that the next one is in the engine with it
LONG: dict[str, int] = SHAPE | {
    "in_height": 8, "in_width": 8, "in_row_step": 8, "tap_row_step": 8, "in_plane": 64, "out_plane": 64,
    "out_width": 8, "out_pixels": 64, "stripe_pixels": 64, "out_base": 1024,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(operand_cases(NPU8)), ids=lambda name: name.replace(" ", "-"))
def test_an_operator_s_error_is_its_own_while_the_one_before_drains(bench: Bench, name: str) -> None:
    """Without a fence two commands are in the engine: the wrong one is named, the one before it finished."""
    op, fields = operand_cases(bench.core)[name]
    long = small("conv", **LONG | {"param_base": 9, "act_min": 77, "act_max": 77})
    job = bench.job([nop("compute"), long, small(op, **fields), small("conv")])
    bench.fails(job, "scratchpad_range", "compute", 2)
    stored = bench.session.run(
        bench.job([small("store", local_address=1024, line_words=64)], reads=[(TARGET, 1024)])
    )
    np.testing.assert_array_equal(stored.reads[0], np.full(1024, 77))
    bench.recovers()


@pytest.mark.parametrize("memory", [MemoryModel(), stalling()], ids=["fast", "stalling"])
def test_a_load_s_range_error_is_its_own_right_behind_another_load(bench: Bench, memory: MemoryModel) -> None:
    for target, size in enumerate(TARGET_WORDS):
        before = small("load", target=target, line_words=64)
        for local in (size, size - 1):
            bad = small("load", target=target, local_address=local)
            bench.fails(
                bench.job([before, before, bad, before], memory=memory), "scratchpad_range", "load", 2
            )
            bench.recovers()


# ------------------------------------------------------------------------------------------ bus errors
BEATS = {"first": 0, "second": 1, "inside": 37, "last of a burst": 47, "first of a burst": 48, "last": 99}


def broken(
    address: int, response: Response, percent: int, *, reads: bool = True, writes: bool = True
) -> MemoryModel:
    """Memory of which one word answers with an error."""
    errors = (ErrorRange(address, WORD, response, reads=reads, writes=writes),)
    return MemoryModel(errors=errors, backpressure_percent=percent, backpressure_seed=BACKPRESSURE)


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


# ------------------------------------------------------------------------------------------ soft reset
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
    lists["compute drains"] = Held([small("conv", **LONG)], "compute", "wait_drain", 130)
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


# ------------------------------------------------------------------------------------------ events
def event_is_gone(pair: Session, event: int) -> None:
    """Neither unit finds a count in the event."""
    for unit in UNITS:
        commands = [encode("wait", engine="store", event_id=event, amount=1)]
        job = Job(segments=[(LIST, command_list(commands))], starts={unit: (LIST, 1)}, max_cycles=200)
        result = pair.run(job)
        assert result.timed_out, f"event {event} has leaked to {unit}"
        assert result.units[unit].diag["store"].event == event


@pytest.mark.parametrize("signals", [1, 5])
@pytest.mark.parametrize("amount", [1, 6])
def test_events_of_a_failed_unit_do_not_leak(bench: Bench, signals: int, amount: int) -> None:
    """One unit signals and fails, the other waits, for that or for something that never comes."""
    bad = [*[encode("signal", engine="store", event_id=3)] * signals, small("store", local_address=ACT_WORDS)]
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


# ------------------------------------------------------------------------------------------ watchdog
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
    result = bench.session.run(bench.job([small("conv", **LONG)], max_cycles=130))
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


# ------------------------------------------------------------------------------------------ split channels
def split(program: LayerProgram, parts: int, *, flags: bool = True) -> list[Words]:
    """Return a program's list with its convolutions split over the input channels, in blocks of ROWS each."""
    unit = program.unit
    tile = unit.columns * unit.rows * unit.w_bits // 8 // 32
    list_: list[Words] = []
    for command in commands_of(program):
        if command["command"] != "conv":
            list_.append(encoded(command))
            continue
        blocks = -(-command["in_channels"] // unit.rows)
        taps = command["kernel_h"] * command["kernel_w"]
        assert blocks >= parts
        bounds = [blocks * i // parts for i in range(parts + 1)]
        for i, (first, end) in enumerate(pairwise(bounds)):
            piece = dict(command)
            piece["in_base"] = command.get("in_base", 0) + first * command["in_plane"]
            piece["weight_base"] = command.get("weight_base", 0) + first * taps * tile
            piece["in_channels"] = min(command["in_channels"], end * unit.rows) - first * unit.rows
            if flags:
                piece |= {"accumulate": int(i > 0), "keep": int(i < parts - 1)}
            if i > 0:
                piece.pop("wait_load", None)
            if i < parts - 1:
                piece.pop("post_store", None)
            list_.append(encoded(piece))
    return list_


def run_list(
    bench: Bench, program: LayerProgram, commands: list[Words], **fields: Any
) -> npt.NDArray[np.int8]:
    """Run another list on a program's memory image; return the output."""
    job = bench.job(commands, segments=program.segments, reads=[program.output], **fields)
    result = bench.session.run(replace(job, segments=[*program.segments, (LIST, command_list(commands))]))
    assert result.ok, result.diagnosis
    return program.decode_output(result.reads[0])


@pytest.mark.parametrize(
    ("channels", "parts", "size", "kernel"),
    [(32, 2, 8, 1), (32, 2, 8, 3), (27, 2, 7, 3), (48, 3, 8, 2), (80, 2, 6, 3), (80, 5, 6, 1), (32, 2, 1, 1)],
)
@pytest.mark.parametrize("percent", [0, 30])
def test_a_convolution_split_over_its_input_channels_is_exact(
    bench: Bench, channels: int, parts: int, size: int, kernel: int, percent: int
) -> None:
    outputs = bench.core.columns - 3
    layer = conv_layer(bench.core, size, size, channels, outputs, kernel)
    program = compile_layer(layer, bench.core)
    golden = run_layer(layer, bench.core.a_bits)
    assert len(np.unique(golden)) > (50 if size > 1 else 5)
    list_ = split(program, parts)
    assert len(list_) == program.commands[1] + parts - 1
    memory = MemoryModel(backpressure_percent=percent)
    np.testing.assert_array_equal(run_list(bench, program, list_, memory=memory), golden)
    assert (run_list(bench, program, split(program, parts, flags=False)) != golden).any()
    bench.recovers()


def test_bands_of_split_convolutions_follow_each_other_exactly(bench: Bench) -> None:
    """Four stripes: a stripe's first half runs while the one before is drained."""
    core = bench.core
    layer = conv_layer(core, 16, 16, 32, core.columns, 3)
    program = compile_layer(layer, core, overlap=False)
    conv = next(command for command in commands_of(program) if command["command"] == "conv")
    rows = DEPTH // 16
    tile = core.columns * core.rows * core.w_bits // 8 // 32
    list_: list[Words] = []
    for command in commands_of(program):
        if command["command"] != "conv":
            list_.append(encoded(command))
            continue
        for first in range(0, 16, rows):
            band = conv | {
                "in_base": conv.get("in_base", 0) + first * 16,
                "in_row": first - 1,
                "out_pixels": rows * 16,
                "stripe_pixels": rows * 16,
                "out_base": conv.get("out_base", 0) + first * 16,
                "in_channels": 16,
            }
            for flag in ("wait_load", "post_store"):
                band.pop(flag, None)
            head = band | {"keep": 1} | ({"wait_load": 1} if first == 0 else {})
            second = band | {
                "accumulate": 1,
                "in_base": band["in_base"] + conv["in_plane"],
                "weight_base": 9 * tile,
            }
            list_ += [encoded(head), encoded(second | ({"post_store": 1} if first + rows == 16 else {}))]
    np.testing.assert_array_equal(run_list(bench, program, list_), run_layer(layer, core.a_bits))
    bench.recovers()


# ------------------------------------------------------------------------------------------ chains
@dataclass(frozen=True)
class Chain:
    """Layers of which each reads the scratchpad where those before have left their results."""

    list_: Callable[[bool], list[Words]]
    segments: list[tuple[int, npt.NDArray[np.uint8]]]
    output: LayerProgram
    golden: npt.NDArray[np.int8]


def chain_layers(core: CoreConfig) -> list[Layer]:
    """Convolution, maximum, sum of both, depthwise convolution, average."""
    conv = conv_layer(core, 8, 8, 16, 16, 3)
    made = run_layer(conv, core.a_bits)
    ends: dict[str, Any] = {"act_min": -128, "act_max": 127}
    pool = Layer(
        name="max", op="max_pool", input=made, kernel=(3, 3), padding=(1, 1, 1, 1), stride=(1, 1), **ends
    )
    pooled = run_layer(pool, core.a_bits)
    total = Layer(
        name="add", op="add", input=made, input2=pooled, left_shift=20,
        input1_zero_point=-4, input1_multiplier=1 << 30, input1_shift=0,
        input2_zero_point=-4, input2_multiplier=3 << 29, input2_shift=-1, output_zero_point=1,
        output_multiplier=1 << 30, output_shift=-18, **ends,
    )  # fmt: skip
    added = run_layer(total, core.a_bits)
    rng = np.random.default_rng(8)
    high = 127 if core.w_bits == 8 else 1
    depthwise = Layer(
        name="depthwise", op="depthwise_conv2d", input=added,
        weights=rng.integers(-high, high, (1, 3, 3, 16), endpoint=True).astype(np.int8),
        bias=rng.integers(-50, 50, 16).astype(np.int32), multiplier=np.full(16, 1 << 30, np.int32),
        shift=np.full(16, -7 if core.w_bits == 8 else -1, np.int32), stride=(1, 1), dilation=(1, 1),
        padding=(1, 1, 1, 1), input_zero_point=1, output_zero_point=2, **ends,
    )  # fmt: skip
    last = run_layer(depthwise, core.a_bits)
    average = Layer(
        name="average", op="average_pool", input=last, kernel=(2, 2), stride=(2, 2), padding=(0,) * 4, **ends
    )
    return [conv, pool, total, depthwise, average]


def chain(core: CoreConfig) -> Chain:
    layers = chain_layers(core)
    base = 0
    programs = []
    for layer in layers:
        programs.append(compile_layer(layer, core, base, overlap=False))
        base = (programs[-1].end + 63) // 64 * 64
    loads: list[dict[str, Any]] = []
    operators: list[dict[str, Any]] = []
    params = weights = 0
    regions = [0]  # the input, then every operator's result
    place = 1024
    sources = {1: (1,), 2: (1, 2), 3: (3,), 4: (4,)}
    for i, program in enumerate(programs):
        list_ = commands_of(program)
        (operator,) = [command for command in list_ if command["engine"] == "compute"]
        operator = {key: value for key, value in operator.items() if not key.startswith(("wait_", "post_"))}
        source_words = 64  # of every operator's input plane
        if i > 0:
            own = operator.get("in_base", 0)  # padding puts it before 0
            operator["in_base"] = own + regions[sources[i][0]]
            if operator["command"] == "add":
                operator["in2_base"] = regions[sources[i][1]]
            assert operator["in_plane"] == source_words
        operator["out_base"] = place
        regions.append(place)
        place += source_words
        operator["param_base"] = operator.get("param_base", 0) + params
        if operator["command"] in ("conv", "depthwise"):
            operator["weight_base"] = weights
        for command in list_:
            target = command.get("target", 0)
            if command["engine"] != "load" or (target == 0 and i > 0):
                continue
            moved = {key: value for key, value in command.items() if not key.startswith("post_")}
            if target == 2:
                moved["local_address"] = moved.get("local_address", 0) + params
                params += command["line_words"]
            elif target == 1:
                moved["local_address"] = moved.get("local_address", 0) + 2 * weights
                weights += -(-command["line_words"] // 2)
            loads.append(moved)
        operators.append(operator)
    stores = [command for command in commands_of(programs[-1]) if command["command"] == "store"]
    for store in stores:
        store["local_address"] = regions[-1]
    # what lies in the scratchpad from before must not be right by chance
    junk = small("load", local_address=1024, line_words=1024, post_compute=1)

    def list_of(fence: bool) -> list[Words]:
        result = [*(encoded(command) for command in loads), junk]
        for i, operator in enumerate(operators):
            changes = {"wait_load": 1} if i == 0 else {"fence": int(fence)}
            changes |= {"post_store": 1} if i == len(operators) - 1 else {}
            result.append(encoded(operator | changes))
        return result + [encoded(store) for store in stores]

    segments = [segment for program in programs for segment in program.segments]
    return Chain(list_of, segments, programs[-1], run_layer(layers[-1], core.a_bits))


@pytest.mark.parametrize("percent", [0, 30])
def test_five_operators_in_the_scratchpad_are_exact_with_fences(bench: Bench, percent: int) -> None:
    """Nothing but the first input and the last output goes through memory."""
    work = chain(bench.core)
    assert len(np.unique(work.golden)) > 50
    for fence in (True, False, True):
        commands = work.list_(fence)
        job = bench.job(
            commands,
            segments=work.segments,
            reads=[work.output.output],
            memory=MemoryModel(backpressure_percent=percent),
        )
        result = bench.session.run(replace(job, segments=[*work.segments, (LIST, command_list(commands))]))
        assert result.ok, result.diagnosis
        output = work.output.decode_output(result.reads[0])
        if fence:
            np.testing.assert_array_equal(output, work.golden)
        else:  # a command reads before the one ahead of it has written: the test above can fail
            assert (output != work.golden).any()
    bench.recovers()
