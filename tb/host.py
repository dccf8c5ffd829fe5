# SPDX-License-Identifier: Apache-2.0
"""The host processor's side: a job becomes operations of tb_host.sv, and their results the job's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.arrays import Bytes, Words
from common.errors import TestbenchError
from hw.commands import CommandError, decode, describe
from hw.interface import ENGINE_STATES, ENGINES, ERRORS, REGISTERS
from hw.system import System
from tb.job import EngineDiag, Job, JobError, UnitError, UnitResult

UNIT_BYTES = 0x400
"""Distance between the register blocks of two units."""

OP_WORDS = 8
RESULT_WORDS = 4
MAX_OPS = 1024

# Operations and infos of tb_host.sv
END, WRITE, READ, POLL, WAIT, DELAY, RESET, FAIL = range(8)
INFO_TIMEOUT, INFO_UNIT_ERROR, INFO_NO_ANSWER = 8, 9, 10

RAW_JOB_MAGIC = 0x4A55504E
SOFT_RESET_CYCLES = 100_000
"""Cycles in which a soft reset must be over: the traffic in flight has to end first."""

COUNTERS = tuple(name for name, (offset, _) in REGISTERS.items() if offset >= REGISTERS["cycles"][0])
_FETCH = "fetch"
DIAGS = tuple(f"diag_{engine}" for engine in (*ENGINES, _FETCH))


class HostError(TestbenchError):
    """The units' registers do not answer as they must."""


def register_address(unit: int, register: str) -> int:
    """Return the AXI4-Lite address of a unit's register."""
    return unit * UNIT_BYTES + REGISTERS[register][0]


def pack(register: str, **fields: int) -> int:
    """Return a register's value with these fields set."""
    layout = REGISTERS[register][1]
    return sum(value << layout[name][0] for name, value in fields.items())


def unpack(register: str, value: int) -> dict[str, int]:
    """Return a register's fields."""
    return {name: value >> lsb & ((1 << width) - 1) for name, (lsb, width) in REGISTERS[register][1].items()}


@dataclass
class OpList:
    """Operations for tb_host.sv, in order. Methods that add one return its index, which is its result's."""

    ops: list[tuple[int, ...]] = field(default_factory=list)

    def add(self, *op: int) -> int:
        """Append an operation: its code and up to four operands."""
        self.ops.append(op)
        return len(self.ops) - 1

    def write(self, unit: int, register: str, value: int) -> int:
        """Write a register."""
        return self.add(WRITE, register_address(unit, register), value)

    def read(self, unit: int, register: str) -> int:
        """Read a register."""
        return self.add(READ, register_address(unit, register))

    def words(self) -> Words:
        """Return the list, ended, as the words of `ops`."""
        if len(self.ops) >= MAX_OPS:
            raise JobError(f"{len(self.ops)} host operations; the host holds {MAX_OPS - 1}")
        array = np.zeros((len(self.ops) + 1, OP_WORDS), dtype=np.uint32)
        for i, op in enumerate(self.ops):
            array[i, : len(op)] = op
        array[len(self.ops), 0] = END
        return array.reshape(-1)


@dataclass(frozen=True)
class Results:
    """The words of `results` after a list has ended, by operation."""

    array: Words

    def __post_init__(self) -> None:
        """Check nothing but the shape."""
        if self.array.ndim != 2 or self.array.shape[1] != RESULT_WORDS:
            raise HostError(f"results of shape {self.array.shape}")

    def value(self, op: int) -> int:
        """Value of an operation."""
        return int(self.array[op, 0])

    def info(self, op: int) -> int:
        """AXI response, or one of the INFO numbers."""
        return int(self.array[op, 1])

    def cycle(self, op: int) -> int:
        """Cycle at which the operation ended, since the list started."""
        return int(self.array[op, 2])


def check_answers(ops: OpList, results: Results) -> None:
    """Raise :class:`HostError` if a register access had no answer or an error response."""
    names = {offset: name for name, (offset, _) in REGISTERS.items()}
    for i, op in enumerate(ops.ops):
        info = results.info(i)
        if info == INFO_NO_ANSWER or (op[0] in (READ, WRITE) and info != 0):
            address = op[1]
            name = names.get(address % UNIT_BYTES, f"offset {address % UNIT_BYTES:#x}")
            what = "was not answered" if info == INFO_NO_ANSWER else f"was answered with AXI response {info}"
            raise HostError(f"access to register {name} of unit {address // UNIT_BYTES} {what}")


@dataclass(frozen=True)
class JobOps:
    """A job's operations and where in them the results lie."""

    ops: OpList
    first_start: int
    waited: int | None
    polls: Mapping[str, int]
    registers: Mapping[str, Mapping[str, int]]


ENDED = pack("irq_status", done=1, error=1)
"""Both interrupts of a unit; irq_enable has the same fields."""


def interrupt_ops(ops: OpList, index: int) -> None:
    """Append what clears and enables both interrupts of a unit."""
    ops.write(index, "irq_status", ENDED)
    ops.write(index, "irq_enable", ENDED)


def soft_reset_ops(ops: OpList, config: System, units: list[str]) -> dict[str, int]:
    """Append a soft reset of units; return for each the operation that waits until it is ready."""
    for unit in units:
        ops.write(config.index(unit), "ctrl", pack("ctrl", soft_reset=1))
    mask = pack("status", busy=1, error=1, stopping=1)
    return {
        unit: ops.add(POLL, register_address(config.index(unit), "status"), mask, 0, SOFT_RESET_CYCLES)
        for unit in units
    }


def job_ops(job: Job, config: System) -> JobOps:
    """Return a job's operations: set up, start all units back to back, wait, read every result register."""
    ops = OpList()
    units = {unit: config.index(unit) for unit in job.starts}
    for unit, index in units.items():
        address, count = job.starts[unit]
        interrupt_ops(ops, index)
        ops.write(index, "cmd_address", address)
        ops.write(index, "cmd_count", count)
    starts = [ops.write(index, "ctrl", pack("ctrl", start=1)) for index in units.values()]
    polls: dict[str, int] = {}
    waited: int | None = None
    if job.reset_after is not None:
        if job.reset_after:
            ops.add(DELAY, job.reset_after)
        polls = soft_reset_ops(ops, config, list(units))
    elif units:
        mask = sum(1 << index for index in units.values())
        error = pack("irq_status", error=1) if job.stop_on_error else 0
        waited = ops.add(WAIT, mask, REGISTERS["irq_status"][0], error, job.max_cycles)
    names = ["status", "error_cause", "error_command", *DIAGS, *COUNTERS]
    registers = {unit: {name: ops.read(index, name) for name in names} for unit, index in units.items()}
    return JobOps(ops, starts[0] if starts else 0, waited, polls, registers)


def unit_error(cause: int, command: int) -> UnitError:
    """Return the error that a unit's registers error_cause and error_command tell of."""
    fields = unpack("error_cause", cause)
    code = fields["cause"]
    name = ERRORS[code] if code < len(ERRORS) else f"cause {code}"
    return UnitError(name, (*ENGINES, _FETCH)[fields["engine"]], command)


def unit_result(name: str, registers: Mapping[str, int]) -> UnitResult:
    """Return a unit's result from the values of its registers."""
    status = unpack("status", registers["status"])
    error = unit_error(registers["error_cause"], registers["error_command"]) if status["error"] else None
    counters: dict[str, int] = {}
    for register in COUNTERS:
        if register.endswith("_high"):
            counters[register.removesuffix("_high")] |= registers[register] << 32
        else:
            counters[register.removesuffix("_low")] = registers[register]
    diag = {}
    for engine_name in ENGINES:
        fields = unpack(f"diag_{engine_name}", registers[f"diag_{engine_name}"])
        state = fields["state"]
        diag[engine_name] = EngineDiag(
            engine_name,
            ENGINE_STATES[state] if state < len(ENGINE_STATES) else f"state {state}",
            tuple(other for bit, other in enumerate(ENGINES) if fields["tokens"] >> bit & 1),
            fields["event_id"] if fields["on_event"] else None,
            fields["command"],
        )
    fetch = unpack("diag_fetch", registers["diag_fetch"])
    return UnitResult(
        name=name,
        busy=bool(status["busy"]),
        done=bool(status["done"]),
        stopping=bool(status["stopping"]),
        error=error,
        cycles=counters["cycles"],
        counters=counters,
        diag=diag,
        dispatched=fetch["dispatched"],
        blocked=bool(fetch["blocked"]),
    )


def _command_text(job: Job, unit: str, index: int) -> str:
    data = job.command_at(unit, index)
    if data is None:
        return f"command {index}"
    try:
        return f"command {index}: {describe(decode(data))}"
    except CommandError as error:
        return f"command {index}: {error}"


def diagnose(job: Job, unit: UnitResult) -> str:
    """Return in words what a unit's error was, or what each of its engines does and waits for."""
    if unit.error is not None:
        error = unit.error
        return f"{unit.name}: {error.cause} in {error.engine}, {_command_text(job, unit.name, error.command)}"
    if unit.done:
        return f"{unit.name}: done"
    lines = [f"{unit.name}: busy" if unit.busy else f"{unit.name}: neither busy nor done"]
    for diag in unit.diag.values():
        text = diag.state.replace("_", " ")
        if diag.state == "wait_token":
            waits = [f"a token from {other}" for other in diag.tokens]
            waits += [f"event {diag.event}"] if diag.event is not None else []
            text = f"waits for {' and '.join(waits) or 'a token'}"
        elif diag.state == "wait_memory":
            text = "waits for memory"
        elif diag.state == "wait_drain":
            text = "waits for the write-out"
        if diag.state != "idle":
            text += f" at {_command_text(job, unit.name, diag.command)}"
        lines.append(f"  {diag.engine}: {text}")
    total = job.starts[unit.name][1]
    blocked = ", the next one waits for room in its engine's queue" if unit.blocked else ""
    lines.append(f"  fetch: {unit.dispatched} of {total} commands dispatched{blocked}")
    return "\n".join(lines)


def write_raw_job(path: Path, job: Job, config: System) -> None:
    """Write a job as the file that the simulator runs without Python (+raw_job=FILE)."""
    job.check(config)
    ops = job_ops(job, config).ops
    settings = np.array(job.memory.settings(), dtype=np.uint32)
    with path.open("wb") as file:
        file.write(np.uint32(RAW_JOB_MAGIC).tobytes())
        for array in (settings, ops.words()):
            file.write(np.uint32(array.nbytes).tobytes() + array.tobytes())
        file.write(np.uint32(len(job.segments)).tobytes())
        for address, data in job.segments:
            file.write(np.array([address, len(data)], dtype=np.uint32).tobytes() + _bytes(data))


def _bytes(data: Bytes) -> bytes:
    return np.ascontiguousarray(data).tobytes()
