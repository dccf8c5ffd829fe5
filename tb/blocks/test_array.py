# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_array: dot products and depthwise sums against numpy, tiles packed by hw.layout.

The array has neither reset nor back-pressure: its benches are crossed with pauses of the activations and with
the moments at which the next tile's words arrive, and start from random register contents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest

from common.arrays import Int64
from golden.arithmetic import reduce_activation
from hw.layout import WORD_BYTES, pack_conv_weights, pack_depthwise_weights
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, join, make_rng, parameters, pattern, split

SOURCES = [
    *(
        f"structural/npu_{name}.sv"
        for name in ("column", "operands", "tap_sum", "tile_word", "array_structural")
    ),
    "npu_array_behavioural.sv",
    "npu_array.sv",
]


@dataclass(frozen=True)
class Tile:
    """A weight tile: (Cols, Rows) for convolutions, (taps, Rows) in kernel order for depthwise ones.

    The first `slices` of 16 columns have channels, of depthwise ones of 16 rows.
    """

    weights: Int64
    depthwise: bool
    slices: int
    words: list[int]


@dataclass(frozen=True)
class Beat:
    """An activation word and what is computed on it in the cycle after; `mac` False: it only slides in."""

    act: Int64
    pad: bool
    mac: bool
    tap_pad: int


class TB(Bench):
    """Keeps the array fed: beats on the active tile, words of the next tile behind it."""

    def __init__(self, dut: Any, idle: str, words: str, rng: np.random.Generator) -> None:
        super().__init__(dut)
        size = parameters()
        self.a_bits, self.w_bits = size["ABits"], size["WBits"]
        self.rows, self.cols, self.taps = size["Rows"], size["Cols"], size["DwTaps"]
        self.rng = rng
        self.idle = pattern(idle, "beats")
        self.word_idle = pattern(words, "words")
        self.pad_value = int(rng.integers(-128, 128))
        self.recent: list[Int64] = []  # reduced words, the newest first, as the slide registers hold them
        self.shown: list[int] | None = None  # sums of the cycle before
        self.active: Tile | None = None
        self.pending: list[tuple[int, int]] = []
        self.previous: Beat | None = None
        self.compared = 0
        dut.rst_ni.value = 1
        for name in ("word_valid_i", "swap_i", "shift_i", "mac_i"):
            getattr(dut, name).value = 0
        dut.pad_value_i.value = self.pad_value & 0xFF

    # stimulus
    def draw(self, low: int, high: int, shape: tuple[int, ...]) -> Int64:
        """Return random values in [low, high], sometimes only the two extremes."""
        if self.rng.integers(0, 4) == 0:
            return self.rng.choice(np.array([low, high]), shape)
        return self.rng.integers(low, high + 1, shape)

    def tile(self, depthwise: bool) -> Tile:
        """Return a random tile, over the whole two's complement range."""
        low, high = -(2 ** (self.w_bits - 1)), 2 ** (self.w_bits - 1) - 1
        if depthwise:
            weights = self.draw(low, high, (int(self.rng.integers(1, self.taps + 1)), self.rows))
            packed = pack_depthwise_weights(weights[None, None], self.rows, self.taps, self.w_bits)
        else:
            weights = self.draw(low, high, (self.cols, self.rows))
            packed = pack_conv_weights(weights[:, None, None, :], self.rows, self.cols, self.w_bits)
        blocks = packed.reshape(-1, WORD_BYTES)
        slices = int(self.rng.integers(1, (self.rows if depthwise else self.cols) // 16 + 1))
        words = [int.from_bytes(block.tobytes(), "little") for block in blocks]
        return Tile(weights, depthwise, slices, words)

    def beat(self, mac: bool = True) -> Beat:
        """Return a random beat."""
        depthwise = self.active is not None and self.active.depthwise
        pad = not depthwise and bool(self.rng.integers(0, 4) == 0)
        tap_pad = int(self.rng.integers(0, 2**self.taps)) if self.rng.integers(0, 3) == 0 else 0
        return Beat(self.draw(-128, 127, (self.rows,)), pad, mac, tap_pad)

    # reference
    def reduced(self, values: Int64 | int) -> Int64:
        """Return activations as the multipliers see them."""
        return np.asarray(reduce_activation(values, self.a_bits), dtype=np.int64)

    def expected(self, beat: Beat) -> Int64:
        """Return the sums of the beat that slid in last, of the slices in use."""
        assert self.active is not None
        weights, used = self.active.weights, 16 * self.active.slices
        if not self.active.depthwise:
            return np.asarray(weights[:used] @ self.recent[0])
        pad = self.reduced(self.pad_value)
        # weight j of n belongs to the word that came n - 1 - j words ago
        age = len(weights) - 1 - np.arange(len(weights))
        words = [pad if beat.tap_pad >> int(i) & 1 else self.recent[int(i)] for i in age]
        return np.asarray(sum(w * x for w, x in zip(weights, words, strict=True)))[:used]

    # cycles
    async def step(self, beat: Beat | None, swap: Tile | None = None) -> None:
        """One cycle: cycle 1 of a beat, cycle 2 of the one before, a word of the next tile; checked."""
        dut = self.dut
        dut.shift_i.value = int(beat is not None)
        every = (1 << self.cols // 16) - 1
        # the taps of a depthwise tile are in the first slice
        dut.swap_i.value = 0 if swap is None else 1 if swap.depthwise else (1 << swap.slices) - 1
        tile = swap or self.active
        depthwise = tile is not None and tile.depthwise
        dut.depthwise_i.value = int(depthwise)
        if beat is not None:
            dut.act_i.value = join(beat.act, 8)
            dut.pad_i.value = int(beat.pad)
        before = self.previous
        mac = before is not None and before.mac
        dut.mac_i.value = int(mac)
        if before is not None and self.active is not None:
            dut.slice_i.value = (1 << self.active.slices) - 1 if mac else int(self.rng.integers(0, every + 1))
            dut.tap_mask_i.value = (1 << len(self.active.weights)) - 1 if self.active.depthwise else 0
            dut.tap_pad_i.value = before.tap_pad
        send = bool(self.pending) and not next(self.word_idle)
        dut.word_valid_i.value = int(send)
        if send:
            index, word = self.pending.pop(0)
            dut.word_index_i.value = index
            dut.word_i.value = word
        want = self.expected(before) if before is not None and mac else None
        await self.drive()
        got = split(int(dut.sum_o.value), 32, self.cols).tolist()
        used = 0
        if want is not None:
            used = len(want)
            assert got[:used] == want.tolist(), f"sums of {before} on {self.active}"
            self.compared += 1
        assert self.shown is None or got[used:] == self.shown[used:], "a sum that nobody wants has changed"
        self.shown = got
        if beat is not None:
            newest = self.reduced(np.full(self.rows, self.pad_value) if beat.pad else beat.act)
            # the others slide for depthwise tiles only
            self.recent = [newest, *(self.recent if depthwise else self.recent[1:])][: self.taps]
        if swap is not None:
            self.active = swap
        self.previous = beat

    def offer(self, tile: Tile) -> None:
        """Queue the words of a tile for the shadow, in any order."""
        order = self.rng.permutation(len(tile.words))
        self.pending = [(int(i), tile.words[int(i)]) for i in order]

    async def passes(self, count: int, kinds: list[bool]) -> None:
        """Run passes, each on its own tile; the kinds (depthwise or not) alternate at random."""
        tile = self.tile(kinds[0])
        self.offer(tile)
        for _ in range(count):
            while self.pending:
                await self.step(self.slide_in())
            following = self.tile(bool(self.rng.choice(kinds)))
            if self.active is not None and self.active.depthwise != tile.depthwise:
                await self.step(None)  # another command: the one before has left the array
            # the swap comes with the pass's first word
            self.active, now = tile, self.active
            first = self.beat(mac=not tile.depthwise)
            self.active = now
            await self.step(first, swap=tile)
            self.offer(following)
            warm = len(tile.weights) - 1 if tile.depthwise else 0
            for i in range(int(self.rng.integers(1, 24)) + warm):
                while next(self.idle):
                    await self.step(None)
                await self.step(self.beat(mac=i >= warm - 1))
            tile = following
        await self.step(None)

    def slide_in(self) -> Beat | None:
        """Return a word that is not multiplied, or nothing: what may come while the tile is not complete."""
        return None if next(self.idle) else Beat(self.draw(-128, 127, (self.rows,)), False, False, 0)


@cocotb.test()
@cocotb.parametrize(kind=["conv", "depthwise", "mixed"], idle=PATTERNS, words=["never", "random"])
async def sums(dut: Any, kind: str, idle: str, words: str) -> None:
    """The sums are numpy's for random tiles, activations, pads and pauses."""
    tb = TB(dut, idle, words, make_rng(kind, idle, words))
    await tb.drive()
    await tb.passes(12, {"conv": [False], "depthwise": [True], "mixed": [False, True]}[kind])
    assert tb.compared >= 12


@cocotb.test()
async def every_activation_and_pad_value(dut: Any) -> None:
    """Every int8 value is reduced as the golden model does, as activation, pad word and pad of a tap."""
    tb = TB(dut, "never", "never", make_rng("values"))
    await tb.drive()
    for depthwise in (False, True):
        tile = tb.tile(depthwise)
        tb.offer(tile)
        while tb.pending:
            await tb.step(None)
        await tb.step(Beat(np.zeros(tb.rows, np.int64), False, False, 0), swap=tile)
        for value in range(-128, 128):
            await tb.step(None)
            tb.pad_value = value
            dut.pad_value_i.value = value & 0xFF
            await tb.step(
                Beat(np.arange(value, value + tb.rows) % 256 - 128, not depthwise, not depthwise, 0)
            )
            if depthwise and value >= -128 + tb.taps:
                await tb.step(
                    Beat(np.arange(value, value + tb.rows) % 256 - 128, False, True, value % 2**tb.taps)
                )
            else:
                await tb.step(Beat(np.full(tb.rows, value), False, not depthwise, 0))
    await tb.step(None)
    assert tb.compared == 256 * 2 + 256 - tb.taps


@cocotb.test()
async def shadow_is_apart(dut: Any) -> None:
    """Words that arrive for the next tile, even with a swap, do not touch the active tile."""
    tb = TB(dut, "never", "never", make_rng("shadow"))
    await tb.drive()
    tile = tb.tile(False)
    tb.offer(tile)
    while tb.pending:
        await tb.step(None)
    for _ in range(20):
        following = tb.tile(False)
        tb.offer(following)  # the first word is written in the cycle of the swap
        await tb.step(tb.beat(), swap=tile)
        while tb.pending:
            await tb.step(tb.beat())
        tile = following
    await tb.step(None)
    assert tb.compared >= 40


@pytest.mark.parametrize(
    ("form", "a_bits", "w_bits", "rows", "cols", "taps"),
    [
        ("behavioural", 8, 8, 16, 16, 5),
        ("behavioural", 8, 4, 16, 32, 5),
        ("behavioural", 6, 2, 16, 64, 3),
        ("behavioural", 8, 2, 32, 32, 5),
        ("structural", 8, 8, 16, 16, 16),
        ("structural", 6, 4, 16, 32, 3),
        ("structural", 8, 2, 32, 32, 16),
    ],
)
@pytest.mark.rtl
def test_array_gives_numpys_sums(
    form: str, a_bits: int, w_bits: int, rows: int, cols: int, taps: int
) -> None:
    """Every cocotb test of this module, for both forms and arrays of several widths and shapes."""
    sizes = {"ABits": a_bits, "WBits": w_bits, "Rows": rows, "Cols": cols, "DwTaps": taps}
    block = Block("tb_array", SOURCES, sizes | {"Structural": int(form == "structural")})
    run(block, __name__, ["sums", "every_activation", "shadow_is_apart"])
