# SPDX-License-Identifier: Apache-2.0
"""How busy the hardware is, beside the cycle law, and how fast the simulation runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.table import Table

from common.arrays import Bytes
from golden.arithmetic import weight_range
from golden.layer import Layer
from hw.core import CoreConfig
from hw.system import System
from mapping.compiler.compile import compile_layer
from mapping.compiler.program import LayerProgram
from mapping.compiler.regions import ceil_div
from mapping.report.console import console_table
from mapping.run.layers import LayerRun, job_of, run_program
from tb.session import Session
from tb.speed import Speed, compare_speed

MIN_SPEED_RATIO = 0.7
SPEED_REPEATS = 8

BIG, LITTLE = System().units
"""The units of the default system, which have targets."""


@dataclass(frozen=True)
class Case:
    """A layer to measure, what its gaps to the law are, and what it must reach: (unit, column) to a limit."""

    name: str
    op: str
    size: int
    channels: int
    outputs: int
    kernel: int
    gap: str
    targets: dict[tuple[str, str], float]


CASES = (
    Case("conv 3x3 64-64, 16x16", "conv2d", 16, 64, 64, 3,
         "array: none; end to end: the first band's loads and the last one's store",
         {(BIG, "busy"): 0.97}),
    Case("conv 3x3 64-64, 32x32", "conv2d", 32, 64, 64, 3,
         "as above, over four times the pixels", {(BIG, "end to end"): 0.90}),
    Case("depthwise 3x3 64, 16x16", "depthwise_conv2d", 16, 64, 64, 3,
         "array: each stripe and kernel row slides one word in before its first output; "
         "busy: kx * ROWS multipliers at most",
         {(BIG, "array / law"): 1.1, (LITTLE, "array / law"): 1.1}),
    Case("pointwise 64-64, 32x32", "conv2d", 32, 64, 64, 1,
         "array: none on npu8; on npu_lb requantisation takes as long as the array, and is a few cycles late "
         "once; end to end: npu_lb needs its input as fast as the bus brings it", {}),
    Case("fully connected 256-256", "fully_connected", 1, 256, 256, 1,
         "array: bound by the weight port, 8 cycles a tile for one pixel (the last tile counts one cycle); "
         "end to end: the bus brings the weights at half that rate", {}),
)  # fmt: skip


@dataclass(frozen=True)
class Efficiency:
    """One case on one unit, with its data in the scratchpads and streamed. Cycles, and shares 0 to 1."""

    case: Case
    core: CoreConfig
    law: int
    resident: LayerRun
    streamed: LayerRun

    @property
    def array(self) -> int:
        """Cycles from the first to the last of the array, the data lying in the scratchpads."""
        return self.resident.counters["array_last"] - self.resident.counters["array_first"] + 1

    @property
    def multipliers(self) -> int:
        """Multipliers of the unit's array."""
        return self.core.rows * self.core.columns

    @property
    def busy(self) -> float:
        """Share of multiplier cycles that do useful work, from the first to the last array cycle."""
        return self.resident.useful_macs / (self.multipliers * self.array)

    @property
    def end_to_end(self) -> float:
        """The same from start to interrupt, transfers included."""
        return self.streamed.useful_macs / (self.multipliers * self.streamed.cycles)


def law_of(program: LayerProgram) -> int:
    """Return the array cycles of a layer without stalls: the cycle law (`compiler.cycle_law`)."""
    return sum(part.law_cycles for part in program.program.parts)


def bench_layer(case: Case, unit: CoreConfig) -> Layer:
    """Return the case's layer with random values that the unit can hold."""
    rng = np.random.default_rng(1)
    low, high = weight_range(unit.w_bits)
    shapes = {
        "conv2d": (case.outputs, case.kernel, case.kernel, case.channels),
        "depthwise_conv2d": (1, case.kernel, case.kernel, case.channels),
        "fully_connected": (case.outputs, case.channels),
    }
    dense = case.op == "fully_connected"
    products = case.kernel**2 * (1 if case.op == "depthwise_conv2d" else case.channels)
    spread = 74 * max(0.8, high / np.sqrt(3)) * np.sqrt(products)  # standard deviation of the sums
    shift = 1 - round(np.log2(spread / 40))
    return Layer(
        name=case.name,
        op=case.op,
        input=rng.integers(
            -128, 128, (case.channels,) if dense else (case.size, case.size, case.channels)
        ).astype(np.int8),
        weights=rng.integers(low, high + 1, shapes[case.op]).astype(np.int8),
        bias=rng.integers(-1000, 1000, case.outputs).astype(np.int32),
        multiplier=np.full(case.outputs, 1 << 30, np.int32),
        shift=np.full(case.outputs, shift, np.int32),
        padding=(0, 0, 0, 0) if dense else (case.kernel // 2,) * 4,
    )


def efficiency(session: Session) -> list[Efficiency]:
    """Run every case on every unit of the session's system; outputs are compared on the way.

    Raises:
        RunError: the hardware stops with an error.
    """
    rows = []
    for core in session.config.cores:
        for case in CASES:
            layer = bench_layer(case, core)
            resident = run_program(session, compile_layer(layer, core, overlap=False))
            streamed = run_program(session, compile_layer(layer, core))
            rows.append(Efficiency(case, core, law_of(resident.program), resident, streamed))
    return rows


def missed_targets(rows: Sequence[Efficiency]) -> list[str]:
    """Return a line for every target that is not reached, and for every output that differs."""
    missed = []
    for row in rows:
        name = f"{row.case.name} on {row.core.name}"
        missed += [
            f"{name}: {run.mismatches} values differ from the golden model"
            for run in (row.resident, row.streamed)
            if not run.match
        ]
        for (unit, what), limit in row.case.targets.items():
            if unit != row.core.name:
                continue
            value = {"busy": row.busy, "end to end": row.end_to_end, "array / law": row.array / row.law}[what]
            if (value > limit) if what == "array / law" else (value < limit):
                missed.append(f"{name}: {what} is {value:.3f}, the limit {limit}")
    return missed


def efficiency_table(rows: Sequence[Efficiency]) -> Table:
    """Return the table of `npuloop bench`: the array on data in the scratchpads, the layer from memory."""
    numbers = ("cycle law", "array cycles", "array / law", "busy", "all cycles", "end to end")
    title = "Efficiency (memory: latency 20 cycles, 16 bytes per cycle)"
    table = console_table(title, ("layer", "unit"), numbers)
    for row in rows:
        table.add_row(
            row.case.name, row.core.name, f"{row.law:,}", f"{row.array:,}", f"{row.array / row.law:.3f}",
            f"{row.busy:.1%}", f"{row.streamed.cycles:,}", f"{row.end_to_end:.1%}",
        )  # fmt: skip
    return table


def gap_notes() -> list[str]:
    """Return a line for each case: why it stays behind the law."""
    return [f"{case.name}: {case.gap}" for case in CASES]


def repeat(program: LayerProgram, times: int) -> LayerProgram:
    """Return the program with its command list run several times over: a longer job of the same work."""
    address, count = program.commands
    commands = next(data for start, data in program.segments if start == address)
    others = tuple(segment for segment in program.segments if segment[0] != address)
    at = ceil_div(program.end, 64) * 64
    long = np.tile(commands, times)
    starts = {program.unit.name: (at, count * times)}
    whole = replace(program.program.whole, starts=starts)
    again = replace(program.program, sections=(whole,), end=at + long.size)
    return replace(program, segments=(*others, (at, long)), program=again)


def simulation_speed() -> Speed:
    """Return the simulator's speed in a session and in the plain harness, both units at work, same job."""
    config = System()
    segments: list[tuple[int, Bytes]] = []
    starts: dict[str, tuple[int, int]] = {}
    base = 0
    for unit, times in ((BIG, SPEED_REPEATS), (LITTLE, 4 * SPEED_REPEATS)):
        core = config.core(unit)
        program = repeat(compile_layer(bench_layer(CASES[1], core), core, base), times)
        segments += program.segments
        starts[unit] = program.commands
        base = program.end
    job = replace(job_of(program), segments=segments, starts=starts, reads=(), max_cycles=100_000_000)
    return compare_speed(config, job)


def missed_speed(speed: Speed) -> list[str]:
    """Return a line if a session is too slow beside the plain harness."""
    if speed.ratio >= MIN_SPEED_RATIO:
        return []
    return [f"session speed is {speed.ratio:.2f} of the plain harness's, the limit {MIN_SPEED_RATIO}"]


def speed_table(speed: Speed, what: str) -> Table:
    """Return the table of the simulation's speed."""
    title = f"Simulation speed, {what}, {speed.cycles:,} cycles"
    table = console_table(title, ("how",), ("cycles per second",), no_wrap=False)
    table.add_row("session (cocotb)", f"{speed.session_hz:,.0f}")
    table.add_row("plain C++ harness", f"{speed.raw_hz:,.0f}")
    table.add_row("ratio", f"{speed.ratio:.2f}")
    return table
