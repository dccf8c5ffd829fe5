# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_drain: stripes against a model of every cycle, from parameters and sums to the scratchpad.

The requantiser is played by a pipeline that gives random results: what reaches it, and what becomes of its
results, is compared on its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import cocotb
import numpy as np
import pytest

from common.arrays import Int64
from hw.interface import PARAM_GROUP_WORDS
from tb.blocks.runner import Block, run
from tb.blocks.structures import STRIPE, pack
from tb.blocks.support import PATTERNS, Bench, join, make_rng, parameters, pattern, split

BLOCK = 16
WORD_BYTES = 16
ADDRESSES = 2**20
REQUANT_LATENCY = 5
CYCLES = 20000


@dataclass(frozen=True)
class Stripe:
    """What the sequencer announces; the fields of npu_compute_pkg's stripe_t, by its names."""

    out_addr: int
    out_part: int
    out_plane: int
    groups: int
    param_addr: int
    reuse: int
    pixels: int
    bank: int
    keep: int
    last: int
    single: int
    zero_point: int
    act_min: int
    act_max: int

    @property
    def vector(self) -> int:
        """The stripe as one vector."""
        return pack(dict(vars(self)), STRIPE)

    def place(self, group: int, pixel: int, parts: int) -> tuple[int, int]:
        """Return the word and part of the scratchpad that a channel block of a pixel goes to."""
        word, part = divmod(self.out_part + group, parts)
        return (self.out_addr + word * self.out_plane + pixel) % ADDRESSES, part


@dataclass(frozen=True)
class Feed:
    """What goes to the requantiser in a cycle: tags, and where its operands come from."""

    store: bool
    last: bool
    address: int
    part: int
    sub: int
    group: int
    params: int  # first word of the group's parameters
    stripe: Stripe


class TB(Bench):
    """Announces stripes, fills banks, holds parameters and sums, and plays the requantiser."""

    def __init__(self, dut: Any, idle: str, *salt: object) -> None:
        super().__init__(dut, clear="clear_i")
        size = parameters()
        self.parts, self.groups = size["Rows"] // BLOCK, size["Cols"] // BLOCK
        self.lanes, self.subs = size["Lanes"], BLOCK // size["Lanes"]
        self.act_words, self.param_words = size["ActWords"], size["ParamWords"]
        self.rng = make_rng(idle, *salt)
        self.pauses = {name: pattern(idle, name, *salt) for name in ("announce", "full")}
        self.memory = [self.rng.bytes(WORD_BYTES) for _ in range(self.param_words)]
        self.sums = np.zeros((2, 256, self.groups, BLOCK), np.int64)
        self.source: deque[Stripe] = deque()
        self.stop = False
        self.done = self.errors = self.written = 0
        self.forget()
        for name in ("stop_i", "stripe_valid_i", "bank_full_i", "result_valid_i", "clear_i"):
            getattr(dut, name).value = 0

    def forget(self) -> None:
        """Expect an empty block."""
        self.ahead: deque[Stripe] = deque()  # whose parameters have not been read
        self.now: deque[Stripe] = deque()
        self.summing: deque[Stripe] = deque()  # announced, and the bank is not full
        self.full = [False, False]
        self.sets: list[int] = []  # parameters read, by their first word
        self.sets_used = 0
        self.word = self.group_ahead = 0
        self.group = self.pixel = self.sub = 0
        self.in_pipe = 0
        self.feed: Feed | None = None
        self.read: tuple[int, int] | None = None  # bank and pixel that were read last
        self.param: int | None = None
        self.results: deque[tuple[Feed, int] | None] = deque([None] * REQUANT_LATENCY)
        self.collected: list[int] = []

    # ------------------------------------------------------------------------------------------ stimulus
    def draw(self, bank: int, reuse: bool, **fixed: int) -> Stripe:
        """Return a random stripe that stays inside the scratchpads."""
        rng = self.rng

        def pick(low: int, high: int) -> int:
            return int(rng.integers(low, high + 1))

        groups = fixed.get("groups", 1 if reuse else pick(1, self.groups))
        fields = {
            "out_part": pick(0, self.parts - 1),
            "groups": groups,
            "param_addr": pick(0, self.param_words - groups * PARAM_GROUP_WORDS),
            "reuse": int(reuse),
            "pixels": pick(1, 6) if pick(0, 9) else pick(1, 40),
            "bank": bank,
            "keep": 0,
            "last": pick(0, 1),
            "single": pick(0, 1),
            "zero_point": pick(0, 255),
            "act_min": pick(0, 255),
            "act_max": pick(0, 255),
        } | fixed
        planes = (fields["out_part"] + fields["groups"] - 1) // self.parts
        room = self.act_words - fields["pixels"]
        plane = pick(0, room // planes if planes else 65535)
        address = pick(0, room - planes * plane)
        return Stripe(**({"out_addr": address, "out_plane": plane} | fields))

    def queue(self, count: int) -> None:
        """Queue random stripes: banks alternate, but a kept one is added to; some reuse their parameters."""
        bank, may_reuse = 0, False
        for _ in range(count):
            keep = int(self.rng.integers(0, 5) == 0)
            reuse = may_reuse and not keep and bool(self.rng.integers(0, 2))
            self.source.append(self.draw(bank, reuse, keep=keep))
            if not keep:
                bank ^= 1
                may_reuse = True

    # ------------------------------------------------------------------------------------------ one cycle
    async def step(self) -> None:
        """One cycle: drive what the surroundings do, compare every output, follow."""
        dut, rng = self.dut, self.rng
        announce = self.announced()
        dut.stop_i.value = int(self.stop)
        dut.stripe_valid_i.value = int(announce is not None)
        shown = announce or self.draw(int(rng.integers(0, 2)), reuse=False)
        dut.stripe_i.value = shown.vector
        dut.bank_full_i.value = self.full[0] | self.full[1] << 1
        param = self.memory[self.param] if self.param is not None else rng.bytes(WORD_BYTES)
        dut.param_data_i.value = int.from_bytes(param, "little")
        sums: Int64 = rng.integers(-(2**31), 2**31, BLOCK)
        if self.feed is not None:
            assert self.read is not None
            sums = self.sums[self.read[0], self.read[1], self.feed.group]
        dut.acc_data_i.value = join(sums, 32)
        result = self.drive_result()
        await self.settle()
        assert int(dut.stripe_ready_o.value) == int(len(self.ahead) < 2 and len(self.now) < 2)
        pushed = announce if int(dut.stripe_ready_o.value) else None
        self.compare_feed()
        keep_done = self.read_sums(result)
        self.compare_write(result, keep_done)
        if pushed is not None:
            assert self.source.popleft() is pushed
            for queue in (self.ahead, self.now, self.summing):
                queue.append(pushed)
            shape = (pushed.pixels, self.groups, BLOCK)
            self.sums[pushed.bank, : pushed.pixels] = rng.integers(-(2**31), 2**31, shape)
        await self.drive()

    def announced(self) -> Stripe | None:
        """Return the stripe that is announced in this cycle; let banks become full in order."""
        if self.summing and not self.full[self.summing[0].bank] and not next(self.pauses["full"]):
            self.full[self.summing.popleft().bank] = True
        if not self.source or next(self.pauses["announce"]):
            return None
        bank = self.source[0].bank
        busy = self.full[bank] or any(stripe.bank == bank for stripe in self.now)
        return None if busy else self.source[0]

    def drive_result(self) -> tuple[Feed, int] | None:
        """Give the requantiser's result of this cycle: random bytes, or nothing (and random tags)."""
        dut, rng = self.dut, self.rng
        result = self.results.popleft()
        dut.result_valid_i.value = int(result is not None)
        tags = (bool(rng.integers(0, 2)), bool(rng.integers(0, 2)), int(rng.integers(0, ADDRESSES)), 0)
        if result is not None:
            tags = (result[0].store, result[0].last, result[0].address, result[0].part)
        dut.result_store_i.value, dut.result_last_i.value = int(tags[0]), int(tags[1])
        dut.result_addr_i.value, dut.result_part_i.value = tags[2], tags[3]
        other = int.from_bytes(rng.bytes(self.lanes), "little")
        dut.result_i.value = result[1] if result is not None else other
        return result

    def compare_feed(self) -> None:
        """Compare what goes to the requantiser with what was issued in the cycle before."""
        dut, feed = self.dut, self.feed
        assert int(dut.requant_valid_o.value) == int(feed is not None)
        if feed is None:
            self.results.append(None)
            return
        assert int(dut.acc_group_o.value) == feed.group
        stripe = feed.stripe
        tags = [int(getattr(dut, f"requant_{name}_o").value) for name in ("store", "last", "addr", "part")]
        assert tags == [feed.store, feed.last, feed.address, feed.part], f"tags of {feed}"
        names = ("single", "zero_point", "act_min", "act_max")
        for name in names:
            assert int(getattr(dut, f"requant_{name}_o").value) == getattr(stripe, name), name
        assert self.read is not None
        channels = slice(feed.sub * self.lanes, (feed.sub + 1) * self.lanes)
        params = b"".join(self.memory[feed.params : feed.params + PARAM_GROUP_WORDS])
        words = np.frombuffer(params[: 8 * BLOCK], "<i4").astype(np.int64)
        shifts = np.frombuffer(params[8 * BLOCK :], np.int8).astype(np.int64)
        want = {
            "sum": self.sums[self.read[0], self.read[1], feed.group, channels],
            "bias": words[:BLOCK][channels],
            "multiplier": words[BLOCK:][channels],
            "shift": shifts[channels],
        }
        for name, values in want.items():
            bits = 8 if name == "shift" else 32
            got = split(int(getattr(dut, f"requant_{name}_o").value), bits, self.lanes)
            assert got.tolist() == values.tolist(), f"{name} of {feed}"
        self.results.append((feed, int.from_bytes(self.rng.bytes(self.lanes), "little")))

    def read_params(self) -> tuple[bool, bool]:
        """Compare the reading of parameters; return whether it goes on, and whether its address is bad."""
        dut = self.dut
        head = self.ahead[0] if self.ahead else None
        skip = head is not None and bool(head.keep or head.reuse)
        # one set is in use from the start, the other is filled when the one before it has been taken
        reading = head is not None and not skip and len(self.sets) == self.sets_used and not self.stop
        if not reading or head is None:
            assert int(dut.param_re_o.value) == 0
            self.param = None
            if skip:
                self.ahead.popleft()
            return False, False
        base = head.param_addr + self.group_ahead * PARAM_GROUP_WORDS
        address = (base + self.word) % ADDRESSES
        inside = address < self.param_words
        assert int(dut.param_re_o.value) == int(inside)
        self.param = address if inside else None
        if inside:
            assert int(dut.param_addr_o.value) == address
            self.word += 1
        return True, not inside

    def finish_set(self) -> None:
        """At the end of the cycle: a set whose last word was read counts."""
        if self.word < PARAM_GROUP_WORDS:
            return
        head = self.ahead[0]
        self.sets.append(head.param_addr + self.group_ahead * PARAM_GROUP_WORDS)
        self.word, self.group_ahead = 0, self.group_ahead + 1
        if self.group_ahead == head.groups:
            self.group_ahead = 0
            self.ahead.popleft()

    def read_sums(self, result: tuple[Feed, int] | None) -> bool:
        """Compare reads of sums, errors and freed banks; return whether a kept stripe ends."""
        dut = self.dut
        reading, bad_param = self.read_params()
        head = self.now[0] if self.now else None
        ready = head is not None and self.full[head.bank] and not self.stop
        first = self.pixel == self.sub == 0
        reuse = head is not None and self.group == 0 and bool(head.reuse)
        has_set = not first or reuse or len(self.sets) > self.sets_used
        address, part = head.place(self.group, self.pixel, self.parts) if head is not None else (0, 0)
        inside = address < self.act_words
        issue = head is not None and ready and not head.keep and has_set and inside
        keep_done = head is not None and ready and bool(head.keep) and self.in_pipe == 0
        error = head is not None and ready and not head.keep and self.in_pipe == 0
        error = error and (not inside or (not has_set and reading and bad_param))
        assert int(dut.error_o.value) == int(error)
        self.errors += error
        assert int(dut.acc_re_o.value) == int(issue and self.sub == 0)
        last = False
        self.feed = None
        if issue and head is not None:
            if self.sub == 0:
                got = (int(dut.acc_bank_o.value), int(dut.acc_pixel_o.value))
                assert got == (head.bank, self.pixel)
                assert int(dut.acc_slice_o.value) == self.group
                self.read = got
            if first and not reuse:
                self.sets_used += 1
            last = self.advance(head, address, part)
        freed = 1 << head.bank if head is not None and (last or keep_done) else 0
        assert int(dut.bank_free_o.value) == freed
        if freed and head is not None:
            self.full[head.bank] = False
            self.now.popleft()
        if result is not None and result[0].store:
            self.in_pipe -= 1
        self.finish_set()
        self.kept_last = bool(keep_done and head is not None and head.last)
        return keep_done

    def advance(self, head: Stripe, address: int, part: int) -> bool:
        """Note what is issued and go to the next; return whether the stripe ends."""
        end_sub = self.sub == self.subs - 1
        end_pixel = end_sub and self.pixel == head.pixels - 1
        end = end_pixel and self.group == head.groups - 1
        params = self.sets[self.sets_used - 1]
        command_ends = bool(end and head.last)
        self.feed = Feed(end_sub, command_ends, address, part, self.sub, self.group, params, head)
        self.in_pipe += end_sub
        self.sub = 0 if end_sub else self.sub + 1
        self.pixel = 0 if end_pixel else self.pixel + end_sub
        self.group = 0 if end else self.group + end_pixel
        return end

    def compare_write(self, result: tuple[Feed, int] | None, keep_done: bool) -> None:
        """Compare writes into the scratchpad and the end of commands."""
        dut = self.dut
        write = result is not None and result[0].store
        assert int(dut.write_o.value) == int(write)
        done = keep_done and self.kept_last
        if result is not None:
            self.collected.append(result[1])
        if write and result is not None:
            feed = result[0]
            got = (int(dut.write_addr_o.value), int(dut.write_part_o.value))
            assert got == (feed.address, feed.part)
            parts = self.collected[-self.subs :]
            want = sum(value << 8 * self.lanes * i for i, value in enumerate(parts))
            assert int(dut.write_data_o.value) == want
            self.collected.clear()
            self.written += 1
            done = done or feed.last
        assert int(dut.done_o.value) == int(done)
        self.done += done

    # ---------------------------------------------------------------------------------- several cycles
    async def steps(self, count: int) -> None:
        """Let cycles pass."""
        for _ in range(count):
            await self.step()

    async def finish(self) -> None:
        """Run until everything queued has been written."""
        wanted = self.done + sum(stripe.last for stripe in (*self.source, *self.now))
        wanted += sum(item is not None and item[0].last for item in self.results)
        wanted += int(self.feed is not None and self.feed.last)
        for _ in range(CYCLES):
            if not self.source and not self.now and not self.in_pipe:
                break
            await self.step()
        await self.steps(3)
        assert self.done == wanted

    async def interrupt(self, how: str) -> None:
        """Break off by reset, by clear, or by a stop as the core does it, with a clear behind it."""
        if how == "stop":
            self.stop = True
            await self.steps(int(self.rng.integers(1, 12)))
        for name in ("stripe_valid_i", "result_valid_i", "bank_full_i"):
            getattr(self.dut, name).value = 0
        await self.break_off("reset" if how == "reset" else "clear")
        self.stop = False
        self.source.clear()
        self.forget()


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def stripes(dut: Any, idle: str) -> None:
    """Random stripes are requantised and written, word by word, each with its own parameters."""
    tb = TB(dut, idle, "stripes")
    await tb.reset()
    await tb.steps(3)
    tb.queue(16)
    await tb.finish()
    assert tb.written
    assert not tb.errors


@cocotb.test()
async def longest(dut: Any) -> None:
    """255 pixels in one group, and all groups of one pixel."""
    tb = TB(dut, "never", "longest")
    await tb.reset()
    tb.source.append(tb.draw(0, False, pixels=min(255, 2 * tb.lanes * 8), groups=1, last=1))
    tb.source.append(tb.draw(1, False, pixels=1, groups=tb.groups, last=1))
    tb.source.append(tb.draw(0, True, pixels=3, out_part=tb.parts - 1, last=1))
    await tb.finish()
    assert tb.done == 3


@cocotb.test()
@cocotb.parametrize(how=["reset", "clear", "stop"], idle=["never", "random"])
async def broken_off(dut: Any, how: str, idle: str) -> None:
    """A reset, clear or stop in any cycle leaves nothing behind."""
    tb = TB(dut, idle, how)
    await tb.reset()
    for _ in range(14):
        tb.queue(4)
        await tb.steps(int(tb.rng.integers(0, 25 + 10 * tb.subs)))
        await tb.interrupt(how)
        await tb.steps(1)
    tb.queue(3)
    await tb.finish()
    assert not tb.errors


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def bad_addresses(dut: Any, idle: str) -> None:
    """A word or parameter outside is an error once all before it is written; then nothing goes on."""
    tb = TB(dut, idle, "errors")
    await tb.reset()
    end, plane = tb.act_words, tb.act_words - 5
    last_group = tb.param_words - PARAM_GROUP_WORDS
    wide = tb.groups > 1
    cases: list[dict[str, int]] = [
        {"out_addr": end, "pixels": 3},
        {"out_addr": end - 2, "pixels": 3},
        {"out_addr": ADDRESSES - 1, "pixels": 1},
        {"param_addr": tb.param_words},
        {"param_addr": last_group + 1, "groups": 1},
        {"param_addr": ADDRESSES - 1},
    ]
    if wide:
        cases.append({"param_addr": last_group, "groups": 2})
        cases.append({"out_addr": 10, "out_plane": plane, "groups": tb.parts + 1, "out_part": 0, "pixels": 1})
    for case in cases:
        tb.queue(2)
        good = [replace(stripe, keep=0, reuse=0, bank=i) for i, stripe in enumerate(tb.source)]
        tb.source.clear()
        tb.source.extend([*good, tb.draw(0, False, **case), tb.draw(1, False)])
        for _ in range(CYCLES):
            if tb.errors:
                break
            await tb.step()
        await tb.steps(15)
        assert tb.errors == 16, case
        tb.stop = True
        await tb.steps(3)
        assert tb.errors == 16, "a stop ends the error"
        await tb.interrupt("clear" if tb.rng.integers(0, 2) else "reset")
        tb.errors = 0
    tb.queue(2)
    await tb.finish()
    assert not tb.errors


@pytest.mark.parametrize(("rows", "cols", "lanes"), [(16, 16, 16), (32, 64, 4), (64, 128, 16), (16, 48, 1)])
@pytest.mark.rtl
def test_drain_writes_every_word(rows: int, cols: int, lanes: int) -> None:
    """Every cocotb test of this module, for words of one to four parts and few lanes."""
    size = {"Rows": rows, "Cols": cols, "Lanes": lanes, "ActWords": 1000, "ParamWords": 192}
    block = Block("tb_drain", ["npu_fifo.sv", "npu_drain.sv"], size)
    run(block, __name__, ["stripes", "longest", "broken_off", "bad_addresses"])
