# SPDX-License-Identifier: Apache-2.0
"""Bench of a core's counters and registers: up to the ends of their widths, every bit at its place."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from hw.interface import ENGINES, REGISTERS
from tb.blocks.runner import Block, run
from tb.blocks.support import CLOCK_NS, Bench, make_rng, parameters

READY, RUN, STOP_ERROR, ERROR, STOP_RESET = range(5)
STATES = 5
CYCLES = 1800
TIMEOUT_NS = 2000 * CLOCK_NS
CONFIGS: tuple[dict[str, int], ...] = (
    {"a_bits": 10, "w_bits": 5, "rows": 2730, "cols": 1365, "stripe_depth": 682, "lanes": 21, "dw_taps": 42,
     "act_kib": 2730, "weight_kib": 1365, "param_kib": 170, "axi_bits": 341},
    {"a_bits": 5, "w_bits": 10, "rows": 1365, "cols": 2730, "stripe_depth": 341, "lanes": 42, "dw_taps": 21,
     "act_kib": 1365, "weight_kib": 2730, "param_kib": 85, "axi_bits": 682},
)  # fmt: skip
"""What `tb_core_status.sv` has under the same numbers."""
CONSTANTS = ("config_array", "config_memory", "config_pipeline")


class TB(Bench):
    """Drives all inputs; those that a test does not name stay zero."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut)
        for item in dut:
            if item._name.endswith("_i") and item._name not in ("clk_i", "rst_ni"):
                item.value = 0

    def bits(self, rng: np.random.Generator, **shares: float) -> dict[str, int]:
        """Drive bits at random, each with its share of ones; return them."""
        values = {name: int(rng.random() < share) for name, share in shares.items()}
        for name, value in values.items():
            getattr(self.dut, name).value = value
        return values

    def vectors(self, rng: np.random.Generator, **widths: int) -> dict[str, int]:
        """Drive vectors of some bits at random; return them."""
        values = {name: int.from_bytes(rng.bytes(64), "little") % 2**width for name, width in widths.items()}
        for name, value in values.items():
            getattr(self.dut, name).value = value
        return values

    def outputs(self, *names: str) -> tuple[int, ...]:
        """Return outputs."""
        return tuple(int(getattr(self.dut, name).value) for name in names)


class Counters:
    """Model of the counters: `(name, bits)` and what they hold."""

    WIDTHS = (
        ("cycles_o", 64), ("read_beats_o", 32), ("write_beats_o", 32), ("array_first_o", 32),
        ("array_last_o", 32), ("macs_useful_o", 64), ("macs_offered_o", 64),
    )  # fmt: skip

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.values = dict.fromkeys((name for name, _ in self.WIDTHS), 0)
        self.states = [0] * (len(ENGINES) * STATES)
        self.seen = False

    def count(self, values: dict[str, int]) -> None:
        """Follow a cycle of a run."""
        own = self.values
        if values["mac_beat_i"]:
            own["array_last_o"] = own["cycles_o"]
            own["array_first_o"] = own["array_first_o"] if self.seen else own["cycles_o"]
            self.seen = True
        own["cycles_o"] += 1
        own["read_beats_o"] += values["read_beat_i"]
        own["write_beats_o"] += values["write_beat_i"]
        own["macs_useful_o"] += values["useful_macs_i"]
        own["macs_offered_o"] += values["mac_cycle_i"] * parameters()["Multipliers"]
        for engine in range(len(ENGINES)):
            self.states[engine * STATES + (values["engine_state_i"] >> 3 * engine & 7)] += 1
        for name, width in self.WIDTHS:
            own[name] %= 2**width


@cocotb.test()
async def counters(dut: Any) -> None:
    """Every counter in every cycle: while a list runs, when one starts, and over the end of its width."""
    tb, rng, model = TB(dut), make_rng("counters"), Counters()
    await tb.reset()
    started = 0
    for cycle in range(CYCLES):
        if cycle % 701 == 700:
            await tb.break_off("reset")
            model.clear()
        values = tb.bits(
            rng, count_start_i=0.005, count_run_i=0.8, read_beat_i=0.5, write_beat_i=0.5, mac_cycle_i=0.5,
            mac_beat_i=0.05,
        )  # fmt: skip
        values |= tb.vectors(rng, useful_macs_i=32)
        states = [int(state) for state in rng.integers(0, STATES, len(ENGINES))]
        values["engine_state_i"] = sum(state << 3 * engine for engine, state in enumerate(states))
        dut.engine_state_i.value = values["engine_state_i"]
        if cycle in (900, 1600):
            # near the end of every counter, as after days of running
            await tb.settle()
            for name, width in Counters.WIDTHS:
                register = {"macs_useful_o": "useful_q", "macs_offered_o": "offered_q"}.get(
                    name, name[:-1] + "q"
                )
                model.values[name] = 2**width - 40
                getattr(dut.i_counters, register).value = model.values[name]
        await tb.settle()
        assert tb.outputs(*model.values) == tuple(model.values.values()), f"cycle {cycle}"
        seen = int(dut.state_cycles_o.value)
        assert [seen >> 32 * i & 0xFFFF_FFFF for i in range(len(model.states))] == model.states
        if values["count_start_i"]:
            model.clear()
            started += 1
        elif values["count_run_i"]:
            model.count(values)
        await tb.drive()
    assert started > 5


class Host:
    """An AXI4-Lite master."""

    def __init__(self, dut: Any) -> None:
        self.master = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk_i, dut.rst_ni, reset_active_level=False
        )

    async def read(self, name: str) -> int:
        """Read a register."""
        answer = await with_timeout(self.master.read(REGISTERS[name][0], 4), TIMEOUT_NS, "ns")
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    async def write(self, name: str, value: int) -> None:
        """Write a register."""
        data = value.to_bytes(4, "little")
        answer = await with_timeout(self.master.write(REGISTERS[name][0], data), TIMEOUT_NS, "ns")
        assert answer.resp == AxiResp.OKAY


def packed(register: str, **fields: int) -> int:
    """Return a register's value."""
    layout = REGISTERS[register][1]
    assert fields.keys() == layout.keys()
    return sum((value & ((1 << layout[name][1]) - 1)) << layout[name][0] for name, value in fields.items())


def expected_registers(values: dict[str, int], config: dict[str, int]) -> dict[str, int]:
    """Return what the host reads of the core's status and counters."""

    def part(name: str, index: int, width: int) -> int:
        return values[name] >> width * index & (1 << width) - 1

    state = values["reg_state_i"]
    expected = {
        "id": packed("id", magic=0x4E50, version=1),
        **{name: packed(name, **{n: config[n] for n in REGISTERS[name][1]}) for name in CONSTANTS},
        "status": packed(
            "status", busy=int(state == RUN), done=values["reg_done_i"], error=int(state == ERROR),
            stopping=int(state in (STOP_ERROR, STOP_RESET)),
        ),
        "error_cause": packed("error_cause", cause=values["reg_cause_i"], engine=values["reg_engine_i"]),
        "error_command": values["reg_index_i"],
        "diag_fetch": packed(
            "diag_fetch", dispatched=values["reg_dispatched_i"], blocked=values["reg_blocked_i"]
        ),
    }  # fmt: skip
    states = ("run", "wait_token", "wait_memory", "wait_drain", "idle")
    numbers = {"idle": 0, "run": 1, "wait_token": 2, "wait_memory": 3, "wait_drain": 4}
    for engine, name in enumerate(ENGINES):
        expected[f"diag_{name}"] = packed(
            f"diag_{name}", state=part("reg_engine_state_i", engine, 3),
            tokens=part("reg_tokens_i", engine, 3), on_event=part("reg_on_event_i", engine, 1),
            event_id=part("reg_event_i", engine, 8), command=part("reg_oldest_i", engine, 32),
        )  # fmt: skip
        for what in states:
            if f"{name}_{what}" in REGISTERS:
                expected[f"{name}_{what}"] = part("reg_state_cycles_i", STATES * engine + numbers[what], 32)
    for name in ("cycles", "read_beats", "write_beats", "array_first", "array_last"):
        expected[name] = values[f"reg_{name}_i"]
    for name in ("macs_useful", "macs_offered"):
        expected[f"{name}_low"] = values[f"reg_{name}_i"] & 0xFFFF_FFFF
        expected[f"{name}_high"] = values[f"reg_{name}_i"] >> 32
    return expected


@cocotb.test()
async def registers(dut: Any) -> None:
    """The host reads every bit of the core's status, counters and configuration at its place."""
    tb, rng = TB(dut), make_rng("registers")
    host = Host(dut)
    await tb.reset()
    config = CONFIGS[parameters()["Values"]]
    for turn in range(8):
        values = tb.vectors(
            rng, reg_done_i=1, reg_index_i=32, reg_tokens_i=9, reg_on_event_i=3, reg_event_i=24,
            reg_oldest_i=96, reg_dispatched_i=32, reg_blocked_i=1, reg_cycles_i=32, reg_state_cycles_i=480,
            reg_read_beats_i=32,
            reg_write_beats_i=32, reg_array_first_i=32, reg_array_last_i=32, reg_macs_useful_i=64,
            reg_macs_offered_i=64, reg_cause_i=3, reg_engine_i=2,
        )  # fmt: skip
        values["reg_state_i"] = turn % 5
        states = [int(state) for state in rng.integers(0, STATES, len(ENGINES))]
        values["reg_engine_state_i"] = sum(state << 3 * engine for engine, state in enumerate(states))
        for name in ("reg_state_i", "reg_engine_state_i"):
            getattr(dut, name).value = values[name]
        expected = expected_registers(values, config)
        assert expected.keys() == REGISTERS.keys() - {
            "ctrl", "irq_enable", "irq_status", "cmd_address", "cmd_count",
        }  # fmt: skip
        for name, value in expected.items():
            assert await host.read(name) == value, name


@cocotb.test()
async def interrupts_and_requests(dut: Any) -> None:
    """An interrupt is up while its cause is set and enabled; lists and pulses reach the core."""
    tb, rng = TB(dut), make_rng("interrupts")
    host = Host(dut)
    await tb.reset()
    assert tb.outputs("irq_o", "reg_start_o", "reg_soft_reset_o") == (0, 0, 0)
    for enabled in range(4):
        for cause in range(4):
            await host.write("irq_enable", enabled)
            await tb.drive()
            dut.reg_irq_done_i.value, dut.reg_irq_error_i.value = cause & 1, cause >> 1
            await tb.drive()
            dut.reg_irq_done_i.value = dut.reg_irq_error_i.value = 0
            await tb.cycles(2)
            assert int(dut.irq_o.value) == int(bool(enabled & cause))
            assert await host.read("irq_status") == cause
            await host.write("irq_status", cause)
            await tb.cycles(2)
            assert int(dut.irq_o.value) == 0
    for _ in range(6):
        address, count = (int(value) for value in rng.integers(0, 2**32, 2))
        await host.write("cmd_address", address)
        await host.write("cmd_count", count)
        assert tb.outputs("reg_list_address_o", "reg_list_count_o") == (address, count)
    for value in (1, 2, 3):
        seen = [0, 0]
        task = cocotb.start_soon(host.write("ctrl", value))
        for _ in range(12):
            await tb.drive()
            await tb.settle()
            seen = [seen[0] + int(dut.reg_start_o.value), seen[1] + int(dut.reg_soft_reset_o.value)]
        await task
        assert seen == [value & 1, value >> 1]


@pytest.mark.parametrize(("multipliers", "values"), [(256, 0), (0x1234567, 1)])
@pytest.mark.rtl
def test_a_core_says_what_it_does(multipliers: int, values: int) -> None:
    """Every cocotb test of this module; one array is so large that its offers soon need more than 32 bits."""
    sources = [
        "generated/npu_regs_pkg.sv", "generated/npu_regs.sv", "npu_core_counters.sv",
        "npu_core_regs.sv",
    ]  # fmt: skip
    block = Block("tb_core_status", sources, {"Multipliers": multipliers, "Values": values})
    run(block, __name__, ["counters", "registers", "interrupts_and_requests"])
