# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_compute: random operators back to back, bit for bit against the golden arithmetic.

Besides what is written, every access to a scratchpad is compared with the sequencer's reference, and the
activity outputs and engine states with what follows from it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import cocotb
import numpy as np
import pytest

from common.arrays import Int64
from hw.commands import encode
from hw.interface import ENGINE_STATES, ERRORS, PARAM_GROUP_WORDS
from hw.layout import pack_requant_params
from tb.blocks.operator_results import Stripe, random_memories, random_params, sums_of, writes_of
from tb.blocks.operators import MACS, OPERATORS, Operator, Unit, passes_of, reference
from tb.blocks.placing import Placer
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, join, make_rng, parameters, pattern

SOURCES = [
    *("npu_fifo.sv", "npu_agu.sv", "npu_operator_check.sv", "npu_weight_loader.sv"),
    *(f"structural/npu_{name}.sv" for name in ("column", "operands", "tap_sum", "tile_word")),
    *(f"structural/npu_{name}.sv" for name in ("array_structural", "acc_columns", "acc_structural")),
    *("structural/npu_requant_lane.sv", "structural/npu_requant_structural.sv"),
    *("npu_array_behavioural.sv", "npu_array.sv", "npu_acc_behavioural.sv", "npu_acc.sv"),
    *("npu_requant_behavioural.sv", "npu_requant.sv", "npu_addition.sv", "npu_drain.sv", "npu_compute.sv"),
]
WORD_BYTES = 16
CYCLES = 30000
BEATS = 100


@dataclass
class Expected:
    """What a list of commands must do, in order."""

    writes: deque[tuple[int, int, bytes]] = field(default_factory=deque)
    reads: deque[int] = field(default_factory=deque)
    weights: deque[int] = field(default_factory=deque)
    params: deque[int] = field(default_factory=deque)
    useful: deque[int] = field(default_factory=deque)  # of every multiplying beat
    ends: deque[int] = field(default_factory=deque)  # writes up to the end of each command
    states: Counter[str] = field(default_factory=Counter)


class TB(Bench):
    """The three scratchpads, and a source of commands."""

    def __init__(self, dut: Any, idle: str, *salt: object) -> None:
        super().__init__(dut, clear="clear_i")
        self.size = size = parameters()
        self.unit = Unit(size["Rows"], size["Cols"], size["WBits"], size["DwTaps"])
        self.rng = make_rng(idle, *salt)
        self.pauses = pattern(idle, "commands", *salt)
        self.idle, self.op_stalls = idle, pattern(idle, "operands", *salt)
        words = (size["ActWords"], size["WeightWords"])
        self.memories = random_memories(self.unit.rows, *words, self.rng)
        self.params = [self.rng.bytes(WORD_BYTES) for _ in range(size["ParamWords"])]
        self.placer = Placer(self.unit, size, self.rng)
        self.source: deque[Operator] = deque()
        self.stop = False
        self.done = 0
        self.errors = 0
        self.lenient = False  # a command at fault reads what is not compared
        self.forget()
        for name in ("stop_i", "start_valid_i", "clear_i"):
            getattr(dut, name).value = 0

    def forget(self) -> None:
        """Expect nothing."""
        self.want = Expected()
        self.states: Counter[str] = Counter()
        self.kept: list[Stripe] = []
        self.bank = 0
        self.written = 0
        self.op_read: int | None = None
        self.weight_read: int | None = None
        self.param_read: int | None = None

    # ------------------------------------------------------------------------------------------ stimulus
    def draw(self, kind: str, beats: int = BEATS) -> Operator:
        """Return a random operator that stays inside the scratchpads."""
        return self.placer.draw(kind, beats)

    def expect(self, op: Operator) -> None:
        """Note what a command must do, and write its parameters: such that its results spread over int8."""
        f, want = op.fields, self.want
        keep, accumulate = f.get("keep", 0), f.get("accumulate", 0)
        before = self.kept[0].sums if accumulate else None
        stripes = list(sums_of(op, self.memories, self.size["ABits"], before))
        beats, self.bank = reference(op, self.bank)
        self.kept = stripes if keep else []
        for item in beats:
            if item.beat["read"]:
                want.reads.append(item.beat["addr"])
            if op.kind in MACS:
                useful = item.beat["useful_rows"] * item.beat["useful_cols"]
                want.useful.append(useful if item.beat["fire"] else 0)
        want.states["run"] += len(beats)
        if op.kind in MACS:
            self.expect_tiles(op, [item.beat["pass_first"] for item in beats])
        if not keep:
            params = self.write_params(op, stripes)
            want.writes.extend(writes_of(op, stripes, params))
            for item in beats:
                if item.stripe is not None and not item.stripe["reuse"]:
                    first, groups = item.stripe["param_addr"], item.stripe["groups"]
                    want.params.extend(range(first, first + groups * PARAM_GROUP_WORDS))
        self.total = self.written + len(want.writes)
        want.ends.append(self.total)

    def expect_tiles(self, op: Operator, pass_first: list[int]) -> None:
        """Note the words of every tile, and the cycles that a pass waits for its own."""
        starts = [i for i, first in enumerate(pass_first) if first]
        lengths = np.diff([*starts, len(pass_first)])
        passes, blocks, stripes = passes_of(op), list(op.blocks()), op.stripes()
        tiles: list[tuple[int, int]] = []
        base = op.fields["weight_base"]
        for _ in blocks:
            block = base
            for _ in stripes:
                base = block
                for item in passes:
                    tiles.append((base, item.words))
                    base += item.words
        assert len(tiles) == len(starts)
        for address, words in tiles:
            self.want.weights.extend(range(address, address + words))
        waits = tiles[0][1] - 1
        waits += sum(max(0, tiles[i + 1][1] - int(lengths[i])) for i in range(len(tiles) - 1))
        self.want.states["wait_memory"] += waits

    def write_params(self, op: Operator, stripes: list[Stripe]) -> list[Int64]:
        """Choose the parameters of a command and write them; return them by group of 16 channels."""
        params = random_params(op, stripes, self.rng)
        packed = pack_requant_params(*np.concatenate(params, axis=1)).reshape(-1, WORD_BYTES)
        first = op.fields["param_base"]
        self.params[first : first + len(packed)] = [word.tobytes() for word in packed]
        return params

    def queue(self, ops: list[Operator]) -> None:
        """Queue commands and expect what they do."""
        for op in ops:
            self.expect(op)
            self.source.append(op)

    # ------------------------------------------------------------------------------------------ one cycle
    async def step(self) -> None:
        """One cycle: scratchpads and commands are driven, everything is compared."""
        dut = self.dut
        rng = self.rng
        offered = self.source[0] if self.source and not next(self.pauses) else None
        dut.start_valid_i.value = int(offered is not None)
        # while nothing is offered the command is anything
        dut.start_cmd_i.value = offered.command if offered else int.from_bytes(rng.bytes(64), "little")
        dut.stop_i.value = int(self.stop)
        dut.op_ready_i.value = int(not next(self.op_stalls))
        # and scratchpads give what was read in the cycle before, or anything
        if self.op_read is not None:
            data = self.memories.activations[self.op_read]
        else:
            data = rng.integers(-128, 128, self.unit.rows)
        dut.op_data_i.value = join(data, 8)
        weight = self.memories.weights[self.weight_read].tobytes() if self.weight_read is not None else None
        dut.weight_data_i.value = int.from_bytes(weight or rng.bytes(32), "little")
        param = self.params[self.param_read] if self.param_read is not None else rng.bytes(WORD_BYTES)
        dut.param_data_i.value = int.from_bytes(param, "little")
        await self.settle()
        if offered is not None:
            assert int(dut.start_illegal_o.value) == 0, f"refused: {offered}"
            if int(dut.start_ready_o.value) and not self.stop:
                self.source.popleft()
            elif self.stop:
                dut.start_valid_i.value = 0
        self.compare()
        await self.drive()

    def compare(self) -> None:
        """Compare accesses, activity, results and completions of this cycle."""
        dut, want = self.dut, self.want
        stalled = int(dut.op_valid_o.value) and not int(dut.op_ready_i.value)
        self.op_read = None if stalled else self.access("op_valid_o", "op_addr_o", want.reads)
        self.weight_read = self.access("weight_re_o", "weight_addr_o", want.weights)
        self.param_read = self.access("param_re_o", "param_addr_o", want.params)
        beat, useful = int(dut.mac_beat_o.value), int(dut.useful_macs_o.value)
        if beat:
            assert int(dut.mac_cycle_o.value) == 1
            assert useful == want.useful.popleft() if want.useful else self.lenient, "useful MACs of a beat"
        else:
            assert useful == 0
        state = ENGINE_STATES[int(dut.work_o.value)]
        assert state in ("run", "wait_memory", "wait_drain")
        self.states[state] += 1
        assert not beat or state == "run"
        assert not (stalled and (beat or state == "run")), "a beat without its operand"
        if self.stop:
            assert not beat
            assert self.op_read is None
            assert self.param_read is None
        if int(dut.res_we_o.value):
            data = int(dut.res_data_o.value).to_bytes(WORD_BYTES, "little")
            got = (int(dut.res_addr_o.value), int(dut.res_part_o.value), data)
            assert want.writes, f"written, but nothing is expected: {got}"
            assert got == want.writes.popleft(), "(word, part, data)"
            self.written += 1
        if int(dut.done_o.value):
            assert want.ends.popleft() == self.written, "a command ends with its last word"
            self.done += 1
        if int(dut.error_o.value):
            assert ERRORS[int(dut.error_cause_o.value)] == "scratchpad_range"
            self.errors += 1

    def access(self, enable: str, address: str, want: deque[int]) -> int | None:
        """Return what is read in this cycle; it must be the next in order."""
        if not int(getattr(self.dut, enable).value):
            return None
        got = int(getattr(self.dut, address).value)
        if not (self.lenient and not want):
            assert want, f"{enable} at {got}, but nothing is expected"
            assert got == want.popleft(), address
        return got

    # ---------------------------------------------------------------------------------- several cycles
    async def steps(self, count: int) -> None:
        """Let cycles pass."""
        for _ in range(count):
            await self.step()

    async def finish(self) -> None:
        """Run until every command is done: all has been read and written, and the states add up."""
        for _ in range(CYCLES):
            if not self.source and not self.want.ends:
                break
            await self.step()
        await self.steps(3)
        want = self.want
        queues = (want.ends, want.writes, want.reads, want.weights, want.params, want.useful)
        assert [len(queue) for queue in queues] == [0] * 6
        assert self.states["run"] == want.states["run"], "cycles in run"
        # tiles arrive while operands wait
        waits, most = self.states["wait_memory"], want.states["wait_memory"]
        assert waits == most if self.idle == "never" else waits <= most, "cycles in wait_memory"
        assert int(self.dut.start_ready_o.value) == 1
        assert int(self.dut.mac_cycle_o.value) == 0

    async def interrupt(self, how: str) -> None:
        """Break off by reset, by clear, or by a stop as the core does it, with a clear behind it."""
        if how == "stop":
            self.stop = True
            self.source.clear()
            await self.steps(self.placer.pick(1, 12))
        self.dut.start_valid_i.value = 0
        await self.break_off("reset" if how == "reset" else "clear")
        self.stop = False
        self.source.clear()
        self.forget()


@cocotb.test()
@cocotb.parametrize(kind=OPERATORS)
async def operators(dut: Any, kind: str) -> None:
    """Random operators of a kind give the golden results, and read what the reference reads."""
    tb = TB(dut, "random", kind)
    await tb.reset()
    await tb.steps(3)
    for count in (4, 1):
        tb.queue([tb.draw(kind) for _ in range(count)])
        await tb.finish()
    assert tb.done == 5
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def mixed(dut: Any, idle: str) -> None:
    """Operators of all kinds follow each other, the next while the one before is drained."""
    tb = TB(dut, idle, "mixed")
    await tb.reset()
    for _ in range(2):
        tb.queue([tb.draw(str(kind)) for kind in tb.rng.choice(OPERATORS, 5)])
        await tb.finish()
    assert tb.done == 10
    assert not tb.errors


@cocotb.test()
async def kept_sums(dut: Any) -> None:
    """A convolution that keeps its sums is continued by one that adds to them."""
    tb = TB(dut, "random", "kept")
    await tb.reset()
    pairs = 0
    while pairs < 4:
        op = tb.draw("conv")
        f = op.fields
        if f["out_channels"] > tb.unit.cols or f["out_pixels"] > tb.size["StripeDepth"]:
            continue
        whole = f | {"stripe_pixels": tb.placer.pick(f["out_pixels"], tb.size["StripeDepth"])}
        words = sum(item.words for item in passes_of(op))
        other = tb.placer.pick(0, tb.size["WeightWords"] - words)
        first = replace(op, fields=whole | {"keep": 1})
        middle = replace(op, fields=whole | {"keep": 1, "accumulate": 1, "weight_base": other})
        last = replace(op, fields=whole | {"accumulate": 1})
        tb.queue([first, *([middle] if pairs % 2 else []), last, tb.draw("depthwise")])
        pairs += 1
        await tb.finish()
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear", "stop"])
async def broken_off(dut: Any, how: str) -> None:
    """A reset, clear or stop in any cycle of any operator leaves nothing behind."""
    tb = TB(dut, "never", how)
    await tb.reset()
    for kind in OPERATORS:
        tb.queue([tb.draw(kind), tb.draw(kind)])
        await tb.steps(tb.placer.pick(1, 60 if tb.size["Lanes"] > 4 else 200))
        await tb.interrupt(how)
        tb.queue([tb.draw(str(tb.rng.choice(OPERATORS)), 40)])
        await tb.finish()
    assert not tb.errors
    # no command counts as unfinished: an error is the oldest's at once
    tb.source.append(replace(tb.draw("conv", 20), fields=CONV | {"in_base": tb.size["ActWords"]}))
    tb.lenient = True
    await tb.steps(80)
    assert tb.errors > 10


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear"])
async def broken_off_in_stripes(dut: Any, how: str) -> None:
    """A reset or clear in each of the first cycles of commands whose every pixel is a stripe of its own."""
    tb = TB(dut, "never", "stripes", how)
    await tb.reset()
    for cycles in range(1, 25):
        kind = ("conv", "add", "max", "depthwise", "conv")[cycles % 5]
        for interrupted in (True, False):
            op = tb.draw(kind, 6)
            tb.queue([replace(op, fields=op.fields | {"stripe_pixels": 1})])
            if interrupted:
                await tb.steps(cycles)
                await tb.interrupt(how)
        await tb.finish()
    assert not tb.errors


CONV = dict.fromkeys(
    (
        *("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "in_height"),
        *("in_width", "out_width", "out_pixels", "stripe_pixels", "in_channels", "out_channels"),
    ),
    1,
)
"""Fields of an operator of one pixel."""


def outside(tb: TB) -> Iterator[tuple[str, dict[str, int]]]:
    """Give fields that lead a small operator of a kind out of a scratchpad."""
    act, weight, param = tb.size["ActWords"], tb.size["WeightWords"], tb.size["ParamWords"]
    for kind in OPERATORS:
        yield kind, {"in_base": act}
        yield kind, {"in_base": -(1 << 31)}
        yield kind, {"out_base": act}
        yield kind, {"param_base": param - PARAM_GROUP_WORDS + 1}
    for kind in MACS:
        yield kind, {"weight_base": weight}
        yield kind, {"weight_base": 65535}
    yield "add", {"in2_base": act}


@cocotb.test()
async def bad_addresses(dut: Any) -> None:
    """A command that leaves a scratchpad is an error when those before it are complete."""
    tb = TB(dut, "never", "errors")
    await tb.reset()
    small = {"out_channels": 16, "out_pixels": 1, "stripe_pixels": 1}
    for kind, fields in outside(tb):
        before = tb.draw(str(tb.rng.choice(OPERATORS)), 20)
        basis = small if kind == "add" else CONV | {"in_channels": 16, "out_channels": 16}
        slide = {"slide": 1, "row_advance": 1} if kind == "sliding" else {}
        bad = Operator(kind, tb.unit, basis | slide | fields)
        tb.queue([before])
        tb.source.extend([bad, bad])
        want = tb.done + 1
        tb.lenient = True
        for _ in range(CYCLES):
            await tb.step()
            assert not tb.errors or tb.done == want, "an error before the command is the oldest"
            if tb.errors:
                break
        await tb.steps(10)
        assert tb.errors == 11, f"{kind} {fields}"
        assert tb.done == want
        assert not tb.want.writes
        tb.stop = True
        await tb.steps(3)
        assert tb.errors == 11, "a stop ends the error"
        await tb.interrupt("clear" if tb.placer.pick(0, 1) else "reset")
        tb.errors = 0
        tb.lenient = False
    tb.queue([tb.draw("conv")])
    await tb.finish()
    assert not tb.errors


@cocotb.test()
async def illegal_fields(dut: Any) -> None:
    """Each field out of range is reported while the command is offered, and nothing that is legal is."""
    tb = TB(dut, "never", "illegal")
    await tb.reset()
    depth, cols, taps = tb.size["StripeDepth"], tb.unit.cols, tb.unit.taps
    one = dict.fromkeys(
        (
            *("in_height", "in_width", "in_channels", "out_channels", "kernel_h", "kernel_w", "stride_h"),
            *("stride_w", "dilation_h", "dilation_w", "out_width", "out_pixels", "stripe_pixels"),
        ),
        1,
    )
    slide = {"slide": 1, "row_advance": 1}
    cases: list[tuple[str, dict[str, int], bool]] = []
    for name in ("conv", "depthwise", "average_pool", "max_pool"):
        cases += [(name, {}, True), *((name, {key: 0}, False) for key in one)]
        cases += [(name, {"stripe_pixels": depth}, True), (name, {"stripe_pixels": depth + 1}, False)]
        cases.append((name, slide, name == "depthwise"))
        for flag in ("keep", "accumulate"):
            cases.append((name, {flag: 1}, name == "conv"))
            cases.append((name, {flag: 1, "out_pixels": 2}, False))
            cases.append((name, {flag: 1, "out_pixels": 2, "stripe_pixels": 2}, name == "conv"))
            cases.append((name, {flag: 1, "out_channels": cols}, name == "conv"))
            cases.append((name, {flag: 1, "out_channels": cols + 1}, False))
        cases.append((name, {"out_channels": cols + 1, "out_pixels": 65535}, True))
    cases += [
        ("depthwise", slide | {"dilation_w": 2}, False),
        ("depthwise", {"dilation_w": 2}, True),
        ("depthwise", slide | {"row_advance": 0}, False),
        ("depthwise", slide | {"kernel_w": 3, "in_column": -3}, False),
        ("depthwise", slide | {"kernel_w": 3, "in_column": -2}, taps > 2),
        ("depthwise", slide | {"kernel_w": 200, "in_column": -taps, "row_advance": 900}, False),
        ("depthwise", slide | {"kernel_w": 200, "in_column": 1 - taps, "row_advance": 900}, True),
        ("depthwise", slide | {"kernel_w": taps + 1, "row_advance": taps}, False),
        ("depthwise", slide | {"kernel_w": taps + 1, "row_advance": taps + 1}, True),
        ("depthwise", slide | {"kernel_w": taps, "row_advance": 1}, True),
        ("depthwise", slide | {"kernel_w": taps, "row_advance": 7, "in_column": 7}, False),
    ]
    small = {"out_channels": 1, "out_pixels": 1, "stripe_pixels": 1}
    cases += [("add", {}, True), *(("add", {key: 0}, False) for key in small)]
    cases += [("add", {"stripe_pixels": depth + 1}, False), ("add", {"out_channels": cols + 1}, True)]
    parts = tb.unit.rows // 16
    for name in ("conv", "depthwise", "average_pool", "max_pool", "add"):
        inputs = {"add": ("in_part", "in2_part"), "conv": (), "depthwise": ()}.get(name, ("in_part",))
        for part in ("out_part", *inputs):
            cases += [(name, {part: parts - 1, "out_channels": 16}, True), (name, {part: parts}, False)]
            cases += [(name, {part: beyond}, False) for beyond in (8, 15)]
            cases += [(name, {part: 1, "out_channels": 17}, False)]
        cases += [("conv", {"in_part": 1}, False), ("depthwise", {"in_part": 1}, False)]
    for name, change, legal in cases:
        fields = (small if name == "add" else one) | change
        dut.start_cmd_i.value = join([int(word) for word in encode(name, **fields)], 32)
        await tb.settle()
        assert int(dut.start_illegal_o.value) == int(not legal), f"{name} with {change}"


@pytest.mark.parametrize(
    ("a_bits", "w_bits", "rows", "cols", "depth", "lanes", "taps", "structural"),
    [(8, 8, 16, 16, 64, 16, 5, 0), (6, 2, 32, 64, 9, 4, 3, 0), (8, 8, 16, 16, 5, 2, 4, 1)],
)
@pytest.mark.rtl
def test_compute_gives_the_golden_results(
    a_bits: int, w_bits: int, rows: int, cols: int, depth: int, lanes: int, taps: int, structural: int
) -> None:
    """Every cocotb test of this module, for three shapes of the engine, one in its structural form."""
    size = {"ABits": a_bits, "WBits": w_bits, "Rows": rows, "Cols": cols, "StripeDepth": depth}
    size |= {"Lanes": lanes, "DwTaps": taps, "ActWords": 1000, "WeightWords": 600, "ParamWords": 1000}
    needs = [*(f"kind={kind}" for kind in OPERATORS), "mixed", "kept_sums", "broken_off", "in_stripes"]
    block = Block("tb_compute", SOURCES, size | {"Structural": structural})
    run(block, __name__, [*needs, "bad_addresses", "illegal_fields"])
