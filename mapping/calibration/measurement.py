# SPDX-License-Identifier: Apache-2.0
"""One measurement: a shape, compiled and run in RTL, its output compared, its cycles and counters."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from common.errors import UnsupportedError
from golden.layer import Layer, run_layer
from hw.interface import COMMAND_BYTES
from hw.memory import MemoryModel
from hw.sources import rtl_hash
from hw.system import System
from mapping.compiler.compile import compile_graph
from mapping.compiler.legalise import legalise
from mapping.compiler.program import Program
from mapping.cost.model import cores_of, owners, units_of
from mapping.cost.shapes import Shape, layer_of
from mapping.run.layers import RunError
from tb.job import Job, JobResult
from tb.session import Session, reproduction


@dataclass(frozen=True)
class Setup:
    """What is measured on.

    Attributes:
        config: the system.
        memory: latency and bandwidth; no back-pressure.
        rtl: the design's files, see tb.build.build.
    """

    config: System
    memory: MemoryModel = MemoryModel()  # noqa: RUF009  # frozen
    rtl: tuple[Path, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse random stalls: cycles would be one draw of them."""
        if self.memory.backpressure_percent:
            raise UnsupportedError("measurements are taken without back-pressure; set it to 0")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the digest out: whoever receives the setup works it out from the files that it has."""
        return {key: value for key, value in self.__dict__.items() if key != "digest"}

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the RTL and the test bench, of all parameters, and of the memory's settings."""
        parts = [rtl_hash(self.rtl), self.config.package(), json.dumps(self.memory.settings())]
        return _hash(*parts)


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Measurement:
    """What a shape took.

    Attributes:
        shape: the shape.
        unit: the unit, or those that shared the shape, joined with "+".
        cycles: first start to last interrupt, seen by the host.
        counters: all counters of each unit.
        macs: multiply-accumulates that the shape asks for.
        utilisation: those, for each multiplier and cycle of the units that had work.
        setup: digest of the setup.
        commands: hash of the command lists.
        seconds: wall time of the simulation.
    """

    shape: Shape
    unit: str
    cycles: int
    counters: Mapping[str, Mapping[str, int]]
    macs: int
    utilisation: float
    setup: str
    commands: str
    seconds: float

    @property
    def key(self) -> str:
        """Hash of all that decides about the cycles: shape, unit, setup, commands."""
        return measurement_key(self.shape, self.unit, self.setup, self.commands)

    def entry(self) -> dict[str, Any]:
        """Return the measurement as plain data."""
        return asdict(self) | {"shape": self.shape.entry()}

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Measurement:
        """Return the measurement of plain data.

        Raises:
            ShapeError: the shape is none.
            ValueError: a field that is missing, unknown or no number.
        """
        names = [field.name for field in fields(cls)]
        if sorted(entry) != sorted(names):
            raise ValueError(f"its fields are {', '.join(entry)}, not {', '.join(names)}")
        if not isinstance(entry["cycles"], int) or entry["cycles"] < 1:
            raise ValueError(f"cycles is {entry['cycles']!r}")
        return cls(**{**entry, "shape": Shape.from_entry(entry["shape"])})


def measurement_key(shape: Shape, unit: str, setup: str, commands: str) -> str:
    """Return the key of a measurement; see Measurement. A split says who runs a shape, else `unit` does."""
    return _hash(shape.key, "" if shape.split else unit, setup, commands)


def _layer(shape: Shape, unit: str | None, config: System) -> Layer:
    """Return the shape's layer, with weights that all units that have work can hold and sum."""
    cores = cores_of(shape, unit, config)
    return layer_of(shape, min(core.w_bits for core in cores), min(core.acc_bits for core in cores))


def compile_shape(shape: Shape, unit: str | None, config: System) -> Program:
    """Compile a shape for a unit, or for those of its split, as a network's compiler would.

    Raises:
        UnsupportedError, CapacityError, ArithmeticRangeError: see `units_of`, `compile_graph`.
        ConfigError: a unit that the system does not have.
    """
    return compile_graph(
        legalise(_layer(shape, unit, config)), config.cores, {shape.name: owners(shape, unit, config)},
        mem_bytes=config.mem_bytes, port_bytes=config.axi_bits // 8,
    )  # fmt: skip


def commands_digest(program: Program) -> str:
    """Return the hash of a program's command lists."""
    segments = dict(program.segments)
    digest = hashlib.sha256()
    for unit, (address, count) in program.starts.items():
        assert segments[address].size == COMMAND_BYTES * count
        digest.update(f"{unit} {count} ".encode() + segments[address].tobytes())
    return digest.hexdigest()


def measure(session: Session, setup: Setup, shape: Shape, unit: str) -> Measurement:
    """Run a shape and compare its output with the golden model.

    The system is reset first, so that no earlier job decides who is served first.

    Args:
        session: a running session of the setup.
        setup: what is measured on.
        shape: the shape.
        unit: the unit of a shape without a split; a split names its own.

    Raises:
        RunError: a unit reports an error, does not finish, or computes something else; naming the shape.
        NpuloopError: see `compile_shape`, Session.run.
    """
    cores = cores_of(shape, unit, setup.config)
    layer = _layer(shape, unit, setup.config)
    program = compile_shape(shape, unit, setup.config)
    inputs = {
        value.name: x.reshape(value.shape)
        for value, x in zip(legalise(layer).inputs, (layer.input, layer.input2), strict=False)
    }
    memory = setup.memory
    slow = (20 + memory.latency) * memory.per_cycles // memory.beats
    job = Job(
        segments=[*program.segments, *program.input_segments(inputs)],
        starts=dict(program.starts),
        reads=[program.read_of(shape.name)],
        max_cycles=min(1_000_000 + slow * program.estimate, (1 << 32) - 1),
        memory=memory,
    )
    session.reset()
    result = session.run(job)
    problem = result.diagnosis if not result.ok else _difference(shape, unit, setup, layer, program, result)
    place = "+".join(units_of(shape, unit, setup.config))
    if problem:
        raise RunError(f"shape {shape.name!r} on {place}: {problem}\n{reproduction(session.config, job)}")
    multipliers = sum(core.rows * core.columns for core in cores)
    return Measurement(
        shape=shape,
        unit=place,
        cycles=result.cycles,
        counters={name: dict(item.counters) for name, item in result.units.items()},
        macs=shape.macs,
        utilisation=shape.macs / (result.cycles * multipliers),
        setup=setup.digest,
        commands=commands_digest(program),
        seconds=result.seconds,
    )


def _difference(
    shape: Shape, unit: str, setup: Setup, layer: Layer, program: Program, result: JobResult
) -> str:
    """Return how the output differs from the golden model, in words; "" if it does not."""
    output = program.decode(shape.name, result.reads[0])
    makers, wrong = owners(shape, unit, setup.config), 0
    for core in cores_of(shape, unit, setup.config):
        differs = output != run_layer(layer, core.a_bits).reshape(output.shape)
        wrong += int(differs[..., makers == setup.config.index(core.name)].sum())
    return f"{wrong} of {output.size} values differ from the golden model" if wrong else ""
