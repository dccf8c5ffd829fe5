# SPDX-License-Identifier: Apache-2.0
"""What the fault tests share: small legal commands, a reference layer, and one unit to break and to check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from common.arrays import Int8, Words
from golden.arithmetic import weight_range
from golden.layer import Layer, run_layer
from hw.commands import command_list, decode, encode
from hw.core import CoreConfig
from hw.interface import ENGINES, REGISTERS
from hw.memory import ErrorRange, MemoryModel
from hw.system import NPU8, NPU_LB
from mapping.compiler.compile import compile_layer
from mapping.compiler.program import LayerProgram
from mapping.run.layers import job_of
from tb.host import DIAGS, OpList
from tb.job import Job, JobResult, UnitError
from tb.session import Session
from tb.testing import LIST, SOURCE, TARGET, UNITS, list_job

MARK = 0x38_0000
OTHER = 0x80_0000
"""Where the program of the unit that is not to be disturbed lies."""

FILL = 0xA5
WORD = 16
BACKPRESSURE = 9
"""Seed of the memory's stalls."""

SHAPE: dict[str, int] = {
    "in_height": 2, "in_width": 2, "in_row_step": 2, "tap_row_step": 2, "in_plane": 4, "out_plane": 4,
    "in_channels": 16, "out_channels": 16, "kernel_h": 1, "kernel_w": 1, "stride_h": 1, "stride_w": 1,
    "dilation_h": 1, "dilation_w": 1, "stripe_pixels": 4, "out_width": 2, "out_pixels": 4, "out_base": 64,
    "act_min": -128, "act_max": 127,
}  # fmt: skip
ADD_SHAPE: dict[str, int] = {
    "in_plane": 4, "out_plane": 4, "out_channels": 16, "stripe_pixels": 4, "out_pixels": 4, "in2_base": 4,
    "out_base": 64, "act_min": -128, "act_max": 127,
}  # fmt: skip
TRANSFER_SHAPE: dict[str, int] = {"line_words": 4, "lines": 1, "planes": 1, "local_step": 1}

SMALL: dict[str, dict[str, int]] = {
    "conv": SHAPE,
    "depthwise": SHAPE,
    "max_pool": SHAPE,
    "average_pool": SHAPE,
    "add": ADD_SHAPE,
    "load": TRANSFER_SHAPE | {"mem_address": SOURCE},
    "store": TRANSFER_SHAPE | {"mem_address": TARGET},
    "mark": {"mem_address": MARK},
}
"""Fields of a small legal command of every operator."""


CORES = {core.name: core for core in (NPU8, NPU_LB)}
"""The units' parameters by name."""


@dataclass(frozen=True)
class Sizes:
    """Words of a core's scratchpads: of activations in words of ROWS bytes and in 16-byte parts of these."""

    act_words: int
    act_parts: int
    weight_words: int
    param_words: int

    @classmethod
    def of(cls, core: CoreConfig) -> Sizes:
        """Return those of a core."""
        parts = core.act_kib * 1024 // WORD
        return cls(
            parts * WORD // core.rows, parts, core.weight_kib * 1024 // 32, core.param_kib * 1024 // WORD
        )

    @property
    def targets(self) -> tuple[int, int, int]:
        """16-byte words of what a load writes to."""
        return self.act_parts, 2 * self.weight_words, self.param_words


LONG: dict[str, int] = SHAPE | {
    "in_height": 8, "in_width": 8, "in_row_step": 8, "tap_row_step": 8, "in_plane": 64, "out_plane": 64,
    "out_width": 8, "out_pixels": 64, "stripe_pixels": 16, "out_base": 1024,
}  # fmt: skip
"""A command whose results take long to drain, so that the next one is in the engine with it."""
LONG_DRAINS = 100
"""Cycles after which LONG has computed, and is still draining."""

Response = Literal["slverr", "decerr"]
RESPONSES: tuple[Response, ...] = ("slverr", "decerr")


def small(name: str, **changes: int) -> Words:
    """Return a small legal command with some fields changed."""
    return encode(name, **(SMALL[name] | changes))


def nop(engine: str, **fields: int) -> Words:
    """Return a command that does nothing but wait and post."""
    return encode("nop", engine=engine, **fields)


def conv_layer(
    core: CoreConfig, height: int, width: int, channels: int, outputs: int, kernel: int = 1
) -> Layer:
    """Return a convolution that keeps the image's size, with outputs that spread over int8."""
    rng = np.random.default_rng((height, width, channels, outputs, kernel))
    low, high = weight_range(core.w_bits)
    before = (kernel - 1) // 2
    spread = round(np.log2(74 * max(high, 1) * np.sqrt(channels * kernel * kernel) / 80))
    return Layer(
        name=f"conv_{height}x{width}x{channels}", op="conv2d", act_min=-128, act_max=127,
        input=rng.integers(-128, 128, (height, width, channels)).astype(np.int8),
        weights=rng.integers(low, high, (outputs, kernel, kernel, channels), endpoint=True).astype(np.int8),
        bias=rng.integers(-500, 500, outputs).astype(np.int32),
        multiplier=rng.integers(1 << 30, 1 << 31, outputs, dtype=np.int64).astype(np.int32),
        shift=np.full(outputs, -spread, np.int32),
        stride=(1, 1), dilation=(1, 1), padding=(before, kernel - 1 - before, before, kernel - 1 - before),
        input_zero_point=3, output_zero_point=-4,
    )  # fmt: skip


def commands_of(program: LayerProgram) -> list[dict[str, Any]]:
    """Return the decoded commands of a program."""
    address, count = program.commands
    data = dict(program.segments)[address].reshape(count, -1)
    return [dict(decode(block)) for block in data]


def encoded(command: Mapping[str, Any]) -> Words:
    """Return a decoded command as words again."""
    fields = {key: value for key, value in command.items() if key not in ("command", "engine")}
    return encode(command["command"], engine=command["engine"], **fields)


SILENT = ("status", "error_cause", "error_command", *DIAGS)
"""Registers that are zero in a unit that has nothing to do and no error."""


def registers(session: Session, names: Iterable[str] = tuple(REGISTERS)) -> dict[str, dict[str, int]]:
    """Return the values of registers of all units, by unit and name; nothing else happens."""
    ops = OpList()
    reads = {
        (core.name, name): ops.read(i, name) for i, core in enumerate(session.config.cores) for name in names
    }
    results, _ = session._execute(ops)
    values: dict[str, dict[str, int]] = {core.name: {} for core in session.config.cores}
    for (unit, name), op in reads.items():
        values[unit][name] = results.value(op)
    return values


def assert_silent(session: Session, units: Iterable[str]) -> None:
    """Check what units say of themselves after a soft reset: no error, and engines that wait for nothing."""
    values = registers(session, SILENT)
    assert {unit: values[unit] for unit in units} == {unit: dict.fromkeys(SILENT, 0) for unit in units}


@dataclass(frozen=True)
class Reference:
    """A layer, its golden result, and the cycles it takes after power-up, by seed of the back-pressure."""

    program: LayerProgram
    golden: Int8
    cycles: Mapping[int | None, int]


def reference_program(core: CoreConfig, base: int = 0) -> LayerProgram:
    """Return the reference layer: loads, four bands of computing and stores overlap."""
    return compile_layer(conv_layer(core, 16, 16, 16, 32), core, base)


def measure_reference(session: Session, core: CoreConfig) -> Reference:
    """Run the reference layer on a session and keep its cycles."""
    program = reference_program(core)
    golden = run_layer(program.layer, core.a_bits)
    cycles: dict[int | None, int] = {}
    for seed in (None, BACKPRESSURE):
        result = session.run(job_of(program, backpressure=seed))
        assert result.ok, result.diagnosis
        np.testing.assert_array_equal(program.decode_output(result.reads[0]), golden)
        cycles[seed] = result.units[core.name].cycles
    return Reference(program, golden, cycles)


@dataclass(frozen=True)
class Bench:
    """One unit of a session: runs lists on it that fail, and the reference layer afterwards."""

    session: Session
    core: CoreConfig
    reference: Reference

    @property
    def unit(self) -> str:
        return self.core.name

    @property
    def sizes(self) -> Sizes:
        """Words of its scratchpads."""
        return Sizes.of(self.core)

    @property
    def other(self) -> CoreConfig:
        """The pair's other unit."""
        return next(core for core in self.session.config.cores if core.name != self.unit)

    def job(self, commands: Sequence[Words], **fields: Any) -> Job:
        """Return a job of one list."""
        return list_job(commands, units=[self.unit], **({"max_cycles": 100_000} | fields))

    def fails(self, job: Job, cause: str, engine: str, command: int) -> JobResult:
        """Run a job that must end with this error, by interrupt, with nothing left on the bus."""
        result = self.session.run(job)
        assert not result.timed_out, result.diagnosis
        unit = result.units[self.unit]
        assert unit.error == UnitError(cause, engine, command), result.diagnosis
        assert not unit.busy
        assert not unit.done
        assert not unit.stopping
        assert result.stuck == ()
        if job.stop_on_error and len(job.starts) == 1:
            assert result.outstanding == 0
        assert_silent(self.session, CORES)  # a failed job ends with a soft reset of all units
        first = result.diagnosis.splitlines()[list(result.units).index(self.unit)]
        assert first.startswith(f"{self.unit}: {cause} in {engine}, command {command}")
        return result

    def recovers(self, backpressure: int | None = None) -> None:
        """Run the reference layer: bit-exact, in exactly the cycles that it takes after power-up."""
        program = self.reference.program
        result = self.session.run(job_of(program, backpressure=backpressure))
        assert result.ok, result.diagnosis
        np.testing.assert_array_equal(program.decode_output(result.reads[0]), self.reference.golden)
        assert result.units[self.unit].cycles == self.reference.cycles[backpressure]
        assert result.outstanding == 0

    def reset(self, job: Job, after: int) -> JobResult:
        """Run a job and soft-reset it: the units are ready, no error is left, nothing is on the bus."""
        result = self.session.run(replace(job, reset_after=after))
        assert result.stuck == (), f"reset after {after} cycles"
        assert result.outstanding == 0
        assert result.diagnosis == ""
        for unit in result.units.values():
            assert not unit.busy
            assert not unit.stopping
            assert not unit.done
            assert unit.error is None
            assert [diag.state for diag in unit.diag.values()] == ["idle"] * len(ENGINES)
        assert_silent(self.session, job.starts)
        return result


def stalling(percent: int = 25, **fields: Any) -> MemoryModel:
    """Return a memory with back-pressure."""
    return MemoryModel(backpressure_percent=percent, backpressure_seed=BACKPRESSURE, **fields)


def broken(
    address: int, response: Response, percent: int, *, reads: bool = True, writes: bool = True
) -> MemoryModel:
    """Return a memory of which one word answers with an error."""
    errors = (ErrorRange(address, WORD, response, reads=reads, writes=writes),)
    return MemoryModel(errors=errors, backpressure_percent=percent, backpressure_seed=BACKPRESSURE)


def event_is_gone(pair: Session, event: int) -> None:
    """Check that neither unit finds a count in the event."""
    for unit in UNITS:
        commands = [encode("wait", engine="store", event_id=event, amount=1)]
        job = Job(segments=[(LIST, command_list(commands))], starts={unit: (LIST, 1)}, max_cycles=200)
        result = pair.run(job)
        assert result.timed_out, f"event {event} has leaked to {unit}"
        assert result.units[unit].diag["store"].event == event
