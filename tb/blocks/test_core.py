# SPDX-License-Identifier: Apache-2.0
"""Bench of npu_core: whole programs, registers, errors and resets of one core, without the system around it.

Cores with wide words, few lanes, a narrow bus and small scratchpads, which no test of a system builds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import Timer

from common.arrays import Bytes, Words
from hw.commands import encode
from hw.interface import ENGINE_STATES, ENGINES, PARAM_GROUP_WORDS
from hw.layout import pack_requant_params
from tb.blocks.core_bench import COUNTERS, DECERR, DONE, ERROR, SLVERR, SOFT_RESET, START, CoreBench
from tb.blocks.operator_results import Memories, random_params, sums_of, writes_of
from tb.blocks.operators import OPERATORS, Operator, Unit
from tb.blocks.placing import Placer
from tb.blocks.runner import Block, run
from tb.blocks.support import PATTERNS
from tb.blocks.test_compute import SOURCES as COMPUTE

SOURCES = [
    *COMPUTE,
    *("generated/npu_regs_pkg.sv", "generated/npu_regs.sv"),
    *(
        "npu_sram.sv",
        "npu_act_spm.sv",
        "npu_paired_spm.sv",
        "npu_bursts.sv",
        "npu_walk.sv",
        "npu_load.sv",
        "npu_store.sv",
        "npu_fetch.sv",
        "npu_read_mux.sv",
        "npu_tokens.sv",
        "npu_engine_ctrl.sv",
    ),
    *("npu_core_control.sv", "npu_core_errors.sv", "npu_core_counters.sv", "npu_core_regs.sv", "npu_core.sv"),
]
LIST, PARAMS, WEIGHTS, ACTIVATIONS, TARGET, MARK = (0x4000 * i + 0x40 for i in range(6))
MEMORY = 0x18000
WORD = 16
BEATS = 60
QUEUE = 4
"""Commands that wait in front of an engine."""


class TB(CoreBench):
    """A core that runs programs: load everything, operators one after the other, store everything."""

    def __init__(self, dut: Any, idle: str, stall: str, *salt: object) -> None:
        super().__init__(dut, idle, stall, *salt)
        size = self.size
        self.unit = Unit(size["Rows"], size["Cols"], size["WBits"], size["DwTaps"])
        self.words = [1024 // WORD * size[f"{name}Kib"] for name in ("Act", "Weight", "Param")]
        self.memory = bytearray(self.rng.bytes(MEMORY))

    async def begin(self) -> None:
        """Reset, and let interrupts through."""
        await self.start()
        await self.write("irq_enable", DONE | ERROR)

    async def hard_reset(self) -> None:
        """Reset by the pin, in any cycle: no register keeps anything."""
        await self.break_off("reset")
        await Timer(3, "ns")
        assert int(self.dut.irq_o.value) == 0
        await self.cycles(2)
        await self.idle()
        for name in ("irq_enable", "irq_status", "cmd_address", "cmd_count"):
            assert await self.read(name) == 0, name
        await self.write("irq_enable", DONE | ERROR)

    def sizes(self) -> dict[str, int]:
        """Return the sizes that operators are placed in."""
        return {
            "ActWords": self.words[0] * WORD // self.unit.rows,
            "WeightWords": self.words[1] // 2,
            "ParamWords": self.words[2],
            "StripeDepth": self.size["StripeDepth"],
        }

    def transfer(self, name: str, address: int, words: int, **fields: int) -> Words:
        """Return a transfer of consecutive words."""
        shape = {"line_words": words, "lines": 1, "planes": 1, "local_step": 1}
        return encode(name, mem_address=address, **(shape | fields))

    def program(self, count: int) -> tuple[list[Words], Bytes]:
        """Return a program and what it stores: random data, random operators."""
        act, weight, param = self.words
        rows = self.unit.rows
        data = self.rng.integers(-128, 128, (act * WORD // rows, rows))
        weights = self.rng.integers(0, 256, (weight // 2, 32)).astype(np.uint8)
        params = bytearray(self.rng.bytes(param * WORD))
        self.memory[ACTIVATIONS : ACTIVATIONS + act * WORD] = data.astype(np.int8).tobytes()
        placer = Placer(self.unit, self.sizes(), self.rng, most_groups=2)
        commands = [
            self.transfer("load", PARAMS, param, target=2),
            self.transfer("load", WEIGHTS, weight, target=1),
            self.transfer("load", ACTIVATIONS, act, post_compute=1),
        ]
        for i, kind in enumerate(self.rng.choice(OPERATORS, count)):
            free = placer.next_param
            while True:
                placer.next_param = free
                op = placer.draw(str(kind), BEATS)
                stripes = list(sums_of(op, Memories(data, weights), self.size["ABits"]))
                groups = random_params(op, stripes, self.rng)
                writes = writes_of(op, stripes, groups)
                # results must not land on what the command itself reads: the golden model knows no order
                if not self.inputs(op) & {address for address, _, _ in writes}:
                    break
            tokens = {"wait_load": 1} if i == 0 else {"fence": 1}
            if i == count - 1:
                tokens["post_store"] = 1
            commands.append(encode(op.name, **op.fields, **tokens))
            packed = pack_requant_params(*np.concatenate(groups, axis=1)).tobytes()
            place = op.fields["param_base"] * WORD
            params[place : place + len(packed)] = packed
            for address, part, values in writes:
                data[address, part * WORD : (part + 1) * WORD] = np.frombuffer(values, np.int8)
        self.memory[PARAMS : PARAMS + len(params)] = params
        self.memory[WEIGHTS : WEIGHTS + weights.size] = weights.tobytes()
        commands.append(self.transfer("store", TARGET, act, wait_compute=1))
        commands.append(encode("mark", mem_address=MARK, id=0xFACE0000 | count))
        return commands, data.astype(np.int8).reshape(-1).view(np.uint8)

    def inputs(self, op: Operator) -> set[int]:
        """Return the words that an operator may read."""
        f = op.fields
        plane = f["out_pixels"] if op.kind == "add" else f["in_height"] * f["in_width"]
        channels = f["in_channels"] if op.kind == "conv" else f["out_channels"]
        planes = -(-channels // self.unit.rows)
        origins = [op.origin, op.second] if op.kind == "add" else [op.origin]
        return {
            origin + p * f["in_plane"] + i for origin in origins for p in range(planes) for i in range(plane)
        }

    async def exact(self, count: int = 3) -> None:
        """Run a program; every byte that it stores is the golden one, and its time stamp is right."""
        commands, want = self.program(count)
        await self.launch(commands, LIST)
        await self.finish()
        got = [self.written.pop(TARGET + i) for i in range(want.size)]
        np.testing.assert_array_equal(np.array(got, np.uint8), want)
        stamp = bytes(self.written.pop(MARK + i) for i in range(WORD))
        assert not self.written
        assert int.from_bytes(stamp[8:12], "little") == 0xFACE0000 | count
        assert stamp[12:] == bytes(4)
        cycles = self.model.counts["cycles"]
        assert cycles // 2 < int.from_bytes(stamp[:8], "little") < cycles


@cocotb.test()
async def after_reset(dut: Any) -> None:
    """Every register has its value: the configuration, and zero in all others."""
    tb = TB(dut, "never", "never", "reset")
    await tb.start()
    size = tb.size
    assert await tb.fields("id") == {"version": 1, "magic": 0x4E50}
    assert await tb.fields("config_array") == {
        "a_bits": size["ABits"], "w_bits": size["WBits"], "rows": size["Rows"], "cols": size["Cols"],
    }  # fmt: skip
    memory = {"act_kib": size["ActKib"], "weight_kib": size["WeightKib"], "param_kib": size["ParamKib"]}
    assert await tb.fields("config_memory") == memory
    assert await tb.fields("config_pipeline") == {
        "stripe_depth": size["StripeDepth"], "lanes": size["Lanes"], "dw_taps": size["DwTaps"],
        "axi_bits": size["AxiDataBits"],
    }  # fmt: skip
    await tb.idle()
    for name in (*COUNTERS, "irq_enable", "irq_status", "cmd_address", "cmd_count"):
        assert await tb.read(name) == 0, name


@cocotb.test()
@cocotb.parametrize(idle=PATTERNS)
async def programs(dut: Any, idle: str) -> None:
    """Whole programs are exact, and every counter is right, right after the reset and again."""
    tb = TB(dut, idle, idle, "programs")
    await tb.begin()
    for _ in range(2):
        await tb.exact()


@cocotb.test()
async def empty_list(dut: Any) -> None:
    """A list without commands ends at once; what it finds in the counters is gone."""
    tb = TB(dut, "never", "never", "empty")
    await tb.begin()
    await tb.exact(1)
    await tb.launch([], LIST)
    await tb.finish()
    assert tb.model.counts["cycles"] == 1


@cocotb.test()
async def interrupts(dut: Any) -> None:
    """Each interrupt bit reaches the pin only where it is enabled."""
    tb = TB(dut, "never", "never", "interrupts")
    await tb.start()
    illegal = encode("nop", engine=3)
    for enable in range(4):
        await tb.write("irq_enable", enable)
        for commands, bit in (([encode("nop", engine=0)], DONE), ([illegal], ERROR)):
            await tb.launch(commands, LIST)
            await tb.cycles(60)
            assert await tb.read("irq_status") == bit
            assert int(dut.irq_o.value) == int(bool(enable & bit))
            await tb.write("irq_status", bit ^ 3)
            assert await tb.read("irq_status") == bit
            await tb.write("irq_status", bit)
            await tb.cycles(2)
            assert int(dut.irq_o.value) == 0
        await tb.soft_reset()


@cocotb.test()
async def registers_while_busy(dut: Any) -> None:
    """Starts are ignored while a list runs, its address and count are kept, and reads disturb nothing."""
    tb = TB(dut, "random", "random", "busy")
    await tb.begin()
    commands, want = tb.program(2)
    await tb.launch(commands, LIST)
    await tb.write("cmd_address", 0x12345678)
    await tb.write("cmd_count", 0xFFFFFFFF)
    await tb.write("ctrl", START)
    assert await tb.fields("status") == {"busy": 1, "done": 0, "error": 0, "stopping": 0}
    for name in ("id", "config_array", "cycles", "macs_useful_low", "diag_load", "diag_fetch", "error_cause"):
        await tb.write(name, 0xFFFFFFFF)
    await tb.write("ctrl", 0xFF, lanes=1, lane=1)
    last = 0
    while not int(dut.irq_o.value):
        now = await tb.read("cycles")
        assert now > last
        last = now
    await tb.finish()
    got = [tb.written.pop(TARGET + i) for i in range(want.size)]
    np.testing.assert_array_equal(np.array(got, np.uint8), want)
    assert (await tb.read("cmd_address"), await tb.read("cmd_count")) == (0x12345678, 0xFFFFFFFF)


@cocotb.test()
async def events_of_every_engine(dut: Any) -> None:
    """Signals and waits of every engine reach the events with their number and amount."""
    tb = TB(dut, "never", "random", "events")
    await tb.begin()
    order = [int(engine) for engine in tb.rng.permutation(3)]
    commands = []
    for step, engine in enumerate(order):
        commands += [encode("signal", engine=engine, event_id=4 * step + engine)] * (step + 1)
        last = order[step - 1] if step else engine
        commands.append(encode("wait", engine=last, event_id=4 * step + engine, amount=step + 1))
    await tb.launch(commands, LIST)
    await tb.finish()
    want = [(engine, 4 * step + engine) for step, engine in enumerate(order) for _ in range(step + 1)]
    assert sorted(tb.signals) == sorted(want)
    assert not any(tb.events.values())


def waiting(engine: int, other: int, before: int) -> list[Words]:
    """Return a list whose engine waits for a token of another for ever, behind some commands."""
    stuck = encode("nop", engine=engine, **{f"wait_{ENGINES[other]}": 1})
    return [*([encode("nop", engine=engine)] * before), *([stuck] * (QUEUE + 3))]


async def diagnoses(tb: TB, engine: int, dispatched: int, blocked: int, **want: int) -> None:
    """Check the whole diagnosis: of one engine as given, of the others nothing."""
    zero = {"state": 0, "tokens": 0, "on_event": 0, "event_id": 0, "command": 0}
    for i, name in enumerate(ENGINES):
        assert await tb.fields(f"diag_{name}") == (zero | want if i == engine else zero), name
    assert await tb.fields("diag_fetch") == {"dispatched": dispatched, "blocked": blocked}


@cocotb.test()
@cocotb.parametrize(engine=[0, 1, 2])
async def diagnosis(dut: Any, engine: int) -> None:
    """What an engine waits for is in its register, bit by bit; after a soft reset nothing is."""
    tb = TB(dut, "never", "never", "diagnosis")
    await tb.begin()
    wait_token = ENGINE_STATES.index("wait_token")
    for other in range(3):
        if other == engine:
            continue
        before = 5 * other
        await tb.launch(waiting(engine, other, before), LIST)
        await tb.cycles(150)
        place = {"state": wait_token, "tokens": 1 << other, "command": before}
        await diagnoses(tb, engine, before + QUEUE, 1, **place)
        assert await tb.fields("status") == {"busy": 1, "done": 0, "error": 0, "stopping": 0}
        await tb.soft_reset()
    await tb.check_counters()
    for event in (1, 6, 8):
        await tb.launch([encode("wait", engine=engine, event_id=event, amount=2)], LIST)
        await tb.cycles(60)
        await diagnoses(tb, engine, 1, 0, state=wait_token, on_event=1, event_id=event)
        await tb.soft_reset()
    # tokens that nobody has taken: the counter is full, and empty in the next list
    post = encode("nop", engine=engine, **{f"post_{ENGINES[engine - 1]}": 1})
    await tb.launch([post] * 64, LIST)
    await tb.cycles(900)
    await diagnoses(tb, engine, 64, 0, state=wait_token, command=63)
    await tb.soft_reset()
    await tb.launch([post] * 3, LIST)
    await tb.finish()
    other = (engine - 1) % 3
    await tb.launch([encode("nop", engine=other, **{f"wait_{ENGINES[engine]}": 1})], LIST)
    await tb.cycles(60)
    await diagnoses(tb, other, 1, 0, state=wait_token, tokens=1 << engine)
    await tb.soft_reset()
    await tb.exact(1)


@cocotb.test()
async def waiting_for_memory(dut: Any) -> None:
    """The engines on the bus say that they wait for memory; a soft reset ends once memory has answered."""
    tb = TB(dut, "never", "never", "memory")
    await tb.begin()
    state = ENGINE_STATES.index("wait_memory")
    for engine, channel in ((0, "r"), (2, "w"), (2, "b")):
        name = ENGINES[engine]
        nops = [encode("nop", engine=engine)] * 4
        await tb.launch([*nops, tb.transfer(name, TARGET, 40)], LIST)
        await tb.until(lambda: tb.model.counts["read_beats"] == 5 * 64 // tb.bytes, 300, "the list")
        tb.closed = {channel}
        await tb.cycles(80)
        await diagnoses(tb, engine, 5, 0, state=state, command=4)
        await tb.write("ctrl", SOFT_RESET)
        await tb.cycles(40)
        assert await tb.fields("status") == {"busy": 0, "done": 0, "error": 0, "stopping": 1}
        assert int(dut.busy_o.value) == 1
        tb.closed = set()
        await tb.until(lambda: int(dut.busy_o.value) == 0, 400, "ready")
        await tb.idle()
    await tb.exact(1)


def small(name: str, **changes: int) -> Words:
    """Return an operator of one pixel, of which fields are changed."""
    ones = ("in_height", "in_width", "kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h")
    fields = dict.fromkeys((*ones, "dilation_w", "out_width", "out_pixels", "stripe_pixels"), 1)
    fields |= {"in_channels": 16, "out_channels": 16}
    return encode(name, **(fields | changes))


def failing(tb: TB) -> list[tuple[str, Sequence[Words], dict[int, int], int, int]]:
    """Return lists that fail: cause, commands, refused words of memory, engine and index."""
    nop = [encode("nop", engine=engine) for engine in range(3)]
    load, store = tb.transfer("load", ACTIVATIONS, 40), tb.transfer("store", TARGET, 40)
    behind = [load, store]
    act, weight, param = tb.words
    cases: list[tuple[str, Sequence[Words], dict[int, int], int, int]] = []
    for response, name in ((SLVERR, "slverr"), (DECERR, "decerr")):
        cases += [
            (f"load_{name}", [nop[0], load, store], {ACTIVATIONS + 20 * WORD: response}, 0, 1),
            (f"store_{name}", [nop[2], nop[2], store], {TARGET + 20 * WORD: response}, 2, 2),
            (f"fetch_{name}", [*nop, *nop, *nop], {LIST + 5 * 64 + 16: response}, 3, 5),
        ]
    beyond = "scratchpad_range"
    for target, words in enumerate((act, weight, param)):
        bad = tb.transfer("load", ACTIVATIONS, 4, local_address=words - 3, target=target)
        cases.append((beyond, [load, bad, load], {}, 0, 1))
    cases.append((beyond, [nop[2], tb.transfer("store", TARGET, 4, local_address=act - 3)], {}, 2, 1))
    rows = act * WORD // tb.unit.rows
    for change in ({"in_base": rows}, {"out_base": rows}, {"param_base": param - PARAM_GROUP_WORDS + 1}):
        cases.append((beyond, [nop[1], nop[1], nop[1], small("max_pool", **change)], {}, 1, 3))
    cases.append((beyond, [small("conv", weight_base=weight // 2)], {}, 1, 0))
    illegal = "illegal_command"
    for engine, name in enumerate(("load", "conv", "store")):
        bad = encode(name)  # all fields are zero
        cases.append((illegal, [nop[engine], nop[engine], bad, *behind], {}, engine, 2))
        wrong = encode("mark" if engine < 2 else "load", engine=engine)
        cases.append((illegal, [nop[engine], wrong, *behind], {}, engine, 1))
        for name in ("signal", "wait"):
            cases.append((illegal, [encode(name, engine=engine, event_id=tb.size["Events"])], {}, engine, 0))
    cases.append((illegal, [nop[0], nop[1], encode("nop", engine=3), nop[2]], {}, 3, 2))
    return cases


@cocotb.test()
async def errors(dut: Any) -> None:
    """Each engine's errors stop the core and are told with cause, engine and command; then all is right."""
    tb = TB(dut, "random", "random", "errors")
    await tb.begin()
    for i, (cause, commands, refused, engine, index) in enumerate(failing(tb)):
        tb.refused = {(address & ~15): response for address, response in refused.items()}
        await tb.launch(commands, LIST)
        try:
            await tb.fails(cause, engine, index)
        except AssertionError as error:
            raise AssertionError(f"case {i}, {cause} of engine {engine} at {index}: {error}") from error
        tb.refused = {}
        await (tb.soft_reset() if i % 2 else tb.hard_reset())
    for low in (1, 2, 4, 8, 16, 32):
        await tb.launch([encode("nop", engine=0)] * 3, LIST)
        await tb.until(lambda: int(dut.irq_o.value) == 1, 200, "the interrupt")
        await tb.write("irq_status", DONE)
        await tb.launch([], LIST + low, count=2)
        await tb.fails("illegal_command", 3, 0)
        await tb.soft_reset()
    await tb.exact(1)


@cocotb.test()
@cocotb.parametrize(how=["reset", "soft_reset"], idle=["never", "random"])
async def broken_off(dut: Any, how: str, idle: str) -> None:
    """A reset by pin or host in any cycle of a program; the next is exact, with nothing between them."""
    tb = TB(dut, idle, idle, how)
    await tb.begin()
    for _ in range(3):
        commands, want = tb.program(2)
        await tb.launch(commands, LIST)
        # a third of them while storing
        await tb.cycles(int(tb.rng.integers(0, 300 + 2 * want.size // tb.bytes)))
        if how == "reset":
            await tb.hard_reset()
            await tb.check_counters()
        else:
            await tb.soft_reset()
            await tb.check_counters()
            image = want.tobytes()
            for address, value in tb.written.items():
                if TARGET <= address < TARGET + len(image):
                    assert value == image[address - TARGET], "a byte that a stop has changed"
        await tb.exact(1)


@pytest.mark.parametrize(
    "size",
    [
        {"ABits": 8, "WBits": 4, "Rows": 32, "Cols": 32, "StripeDepth": 9, "Lanes": 4, "DwTaps": 3,
         "AxiDataBits": 64, "Events": 16},
        {"ABits": 7, "WBits": 8, "Rows": 16, "Cols": 16, "StripeDepth": 64, "Lanes": 16, "DwTaps": 5,
         "AxiDataBits": 128, "Events": 32},
    ],
    ids=["32x32", "16x16"],
)  # fmt: skip
@pytest.mark.rtl
def test_core_runs_programs(size: dict[str, int]) -> None:
    """Every cocotb test of this module, for two cores that have nothing in common."""
    needs = ["after_reset", "programs", "empty_list", "interrupts", "registers_while_busy", "events_of"]
    needs += ["diagnosis", "waiting_for_memory", "errors", "broken_off"]
    run(Block("tb_core", SOURCES, size | {"ActKib": 2, "WeightKib": 4, "ParamKib": 1}), __name__, needs)
