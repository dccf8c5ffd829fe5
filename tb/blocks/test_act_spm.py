# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_act_spm: two readers and two writers at once against a plain memory, every cycle compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest

from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS, Bench, make_rng, parameters, pattern

SOURCES = ["npu_sram.sv", "npu_act_spm.sv"]
PART_BYTES = 16
PORTS = ("op", "res", "store", "load")


def bank_of(address: int) -> int:
    """Return the bank of a word: its lowest address bits."""
    return address % max(2, 256 // parameters()["Rows"])


@dataclass(frozen=True)
class Access:
    """What a port asks for; readers have no data, and operand reads take all parts."""

    address: int
    part: int
    data: bytes


def draw(words: int, parts: int, near: int, rng: np.random.Generator) -> Access:
    """Return a random access: half of them within a few words of `near`, where the ports meet."""
    close = (near + int(rng.integers(0, 3))) % words
    address = close if rng.integers(0, 2) else int(rng.integers(0, words))
    return Access(address, int(rng.integers(0, parts)), rng.bytes(PART_BYTES))


class TB(Bench):
    """Drives all four ports and keeps the contents."""

    def __init__(self, dut: Any, pauses: dict[str, str], *salt: object) -> None:
        super().__init__(dut)
        size = parameters()
        self.words, self.parts = size["Words"], size["Rows"] // PART_BYTES
        self.rng = make_rng(sorted(pauses.items()), *salt)
        self.pauses = {port: pattern(name, port, *salt) for port, name in pauses.items()}
        self.memory: list[list[bytes]] = []
        self.held: dict[str, Access | None] = dict.fromkeys(PORTS)
        self.op_data: bytes | None = None
        self.store_data: bytes | None = None
        self.late: Access | None = None  # a result that has met an operand read
        self.waited = dict.fromkeys(("op", "store", "load"), 0)
        self.quiet()

    def quiet(self) -> None:
        """Ask for nothing."""
        for name in ("op_valid_i", "res_we_i", "load_valid_i", "store_valid_i"):
            getattr(self.dut, name).value = 0
        self.held = dict.fromkeys(PORTS)

    async def fill(self) -> None:
        """Write every part of every word, from both writers in turn."""
        self.memory = [[bytes(PART_BYTES)] * self.parts for _ in range(self.words)]
        for address in range(self.words):
            for part in range(self.parts):
                access = Access(address, part, self.rng.bytes(PART_BYTES))
                await self.cycle({("load", "res")[(address + part) % 2]: access})

    async def step(self) -> None:
        """One cycle of random accesses; what the compute side has taken a port from waits unchanged."""
        near = int(self.rng.integers(0, self.words))
        for port in PORTS:
            if self.held[port] is None and not next(self.pauses[port]):
                self.held[port] = draw(self.words, self.parts, near, self.rng)
        await self.cycle({port: access for port, access in self.held.items() if access is not None})

    async def cycle(self, accesses: dict[str, Access]) -> None:
        """One cycle of these accesses: check who is served and what was read before; follow."""
        dut = self.dut
        # without a request a port shows anything
        shown = {port: accesses.get(port) or draw(self.words, self.parts, 0, self.rng) for port in PORTS}
        dut.op_valid_i.value, dut.res_we_i.value = int("op" in accesses), int("res" in accesses)
        dut.load_valid_i.value, dut.store_valid_i.value = int("load" in accesses), int("store" in accesses)
        for port, access in shown.items():
            getattr(dut, f"{port}_addr_i").value = access.address
            if port != "op":
                getattr(dut, f"{port}_part_i").value = access.part
            if port in ("res", "load"):
                getattr(dut, f"{port}_data_i").value = int.from_bytes(access.data, "little")
        await self.settle()
        banks = {port: bank_of(access.address) for port, access in accesses.items()}
        served = {"res"}
        # a late result is written for certain; else one that meets an operand read becomes late
        late, result = self.late, accesses.get("res")
        op_meets = late is not None and banks.get("op") == bank_of(late.address)
        written = late or (result if banks.get("res") != banks.get("op") else None)
        self.late = result if late is not None or written is None else None
        taken = {bank_of(written.address)} if written is not None else set()
        for port in (port for port in ("op", "store", "load") if port in accesses):
            free = not op_meets if port == "op" else banks[port] not in taken
            assert int(getattr(dut, f"{port}_ready_o").value) == int(free), f"{port}: {accesses}"
            self.waited[port] += not free
            if free:
                served.add(port)
            taken.add(banks[port])
        if self.op_data is not None:
            got = int(dut.op_data_o.value).to_bytes(len(self.op_data), "little")
            assert got == self.op_data, "operand, one cycle after its read"
        if self.store_data is not None:
            got = int(dut.store_data_o.value).to_bytes(PART_BYTES, "little")
            assert got == self.store_data, "stored word, one cycle after its read"
        self.op_data = self.store_data = None
        if "op" in served:
            self.op_data = b"".join(self.memory[accesses["op"].address])
        if "store" in served:
            self.store_data = self.memory[accesses["store"].address][accesses["store"].part]
        for write in (written, accesses["load"] if "load" in served else None):
            if write is not None:
                self.memory[write.address][write.part] = write.data
        for port in served:
            self.held[port] = None
        await self.drive()

    async def read_all(self) -> None:
        """Compare every word as operand, and every part as the store engine sees it."""
        self.quiet()
        for address in range(self.words):
            for part in range(self.parts):
                other = (address + 1) % self.words
                accesses = {"store": Access(address, part, b"")}
                if bank_of(other) != bank_of(address):
                    accesses["op"] = Access(other, 0, b"")
                await self.cycle(accesses)
        await self.cycle({})


@cocotb.test()
@cocotb.parametrize(compute=PATTERNS, engines=["never", "bursts"])
async def traffic(dut: Any, compute: str, engines: str) -> None:
    """All four ports at once: a bank serves operands and results, then the engines; no result is lost."""
    pauses = {"op": compute, "res": compute, "load": engines, "store": engines}
    tb = TB(dut, pauses, "traffic")
    await tb.reset()
    await tb.fill()
    steps = 0
    while steps < 120 or not all(tb.waited.values()):
        await tb.step()
        steps += 1
        assert steps < 2000, f"not all have waited: {tb.waited}"
    await tb.read_all()


@cocotb.test()
async def reset_in_flight(dut: Any) -> None:
    """A reset between cycles touches no word, and the reads after it are right."""
    tb = TB(dut, dict.fromkeys(PORTS, "random"), "reset")
    await tb.reset()
    await tb.fill()
    for _ in range(5):
        for _ in range(int(tb.rng.integers(1, 20))):
            await tb.step()
        tb.quiet()
        await tb.break_off("reset")
        tb.op_data = tb.store_data = tb.late = None
    await tb.read_all()


@pytest.mark.parametrize(("rows", "words"), [(16, 64), (32, 104), (64, 20)])
@pytest.mark.rtl
def test_activation_scratchpad_serves_all_ports(rows: int, words: int) -> None:
    """Every cocotb test of this module, for words of one, two and four parts."""
    run(
        Block("npu_act_spm", SOURCES, {"Rows": rows, "Words": words}),
        __name__,
        ["traffic", "reset_in_flight"],
    )
