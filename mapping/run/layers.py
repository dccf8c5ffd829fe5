# SPDX-License-Identifier: Apache-2.0
"""Runs layers on a unit in RTL and compares every output with the golden model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from common.arrays import Int8
from common.errors import NpuloopError
from golden.layer import WEIGHTED_OPS, Layer, clip_weights, macs, run_layer
from hw.core import CoreConfig
from hw.memory import MemoryModel
from hw.system import System
from mapping.compiler.compile import compile_layer
from mapping.compiler.program import LayerProgram
from tb.job import Job
from tb.session import Session, reproduction, rerun_with_waves

BACKPRESSURE_PERCENT = 25
"""Share of cycles in which each channel of the memory stalls, where back-pressure is asked for."""


class RunError(NpuloopError):
    """The hardware stopped with an error, or never finished."""


@dataclass(frozen=True)
class LayerRun:
    """One layer on one unit: what came out and what it took.

    Attributes:
        program: the layer as it was compiled.
        backpressure: seed of the memory's stalls, or None.
        output: int8, shape of the layer's output.
        golden: what the golden model gives.
        cycles: start to interrupt.
        counters: all counter registers by name.
    """

    program: LayerProgram
    backpressure: int | None
    output: Int8
    golden: Int8
    cycles: int
    counters: dict[str, int]

    @property
    def layer(self) -> Layer:
        """The layer as it ran."""
        return self.program.layer

    @property
    def unit(self) -> str:
        """Name of the unit."""
        return self.program.unit.name

    @property
    def mismatches(self) -> int:
        """Values that differ from the golden model."""
        return int((self.output != self.golden).sum())

    @property
    def match(self) -> bool:
        """Whether the output equals the golden model's."""
        return self.mismatches == 0

    @property
    def match_expected(self) -> bool | None:
        """Whether the output equals the file's `expected`; None where there is none."""
        return None if self.layer.expected is None else bool(np.array_equal(self.output, self.layer.expected))

    @property
    def passed(self) -> bool:
        """Whether everything that there is to compare is equal."""
        return self.match and self.match_expected is not False

    @property
    def useful_macs(self) -> int:
        """MACs that the network asked for."""
        return self.counters["macs_useful"]

    @property
    def offered_macs(self) -> int:
        """Multipliers times cycles of multiplying commands."""
        return self.counters["macs_offered"]

    @property
    def utilisation(self) -> float:
        """Useful MACs over offered ones; 0 for operators without MACs."""
        return self.useful_macs / self.offered_macs if self.offered_macs else 0.0


def prepare(
    layers: Sequence[Layer], unit: CoreConfig, *, clip: bool = False, mem_bytes: int = 16 << 20
) -> list[LayerProgram]:
    """Compile the layers for a unit; with `clip`, weights are clipped to the unit's range first."""
    ready = [
        clip_weights(layer, unit.w_bits) if clip and layer.op in WEIGHTED_OPS else layer for layer in layers
    ]
    return [compile_layer(layer, unit, mem_bytes=mem_bytes) for layer in ready]


def job_of(program: LayerProgram, *, backpressure: int | None = None, max_cycles: int | None = None) -> Job:
    """Return the job that runs a program, with random back-pressure of that seed if there is one."""
    memory = MemoryModel()
    if backpressure is not None:
        memory = MemoryModel(backpressure_percent=BACKPRESSURE_PERCENT, backpressure_seed=backpressure)
    # no layer that fits the scratchpads is far from this: one MAC column at a time, memory at a tenth of its
    # speed
    bytes_moved = sum(data.size for _, data in program.segments) + program.output[1]
    limit = max_cycles or 100_000 + 10 * bytes_moved + 4 * macs(program.layer) + 64 * program.output[1] * 256
    return Job(
        segments=program.segments,
        starts={program.unit.name: program.commands},
        reads=[program.output],
        max_cycles=min(limit, (1 << 32) - 1),
        memory=memory,
    )


def run_program(session: Session, program: LayerProgram, *, backpressure: int | None = None) -> LayerRun:
    """Run a compiled layer.

    Raises:
        RunError: the unit reports an error or does not finish; with the diagnosis and a line that reproduces
            it.
    """
    job = job_of(program, backpressure=backpressure)
    result = session.run(job)
    unit = result.units[program.unit.name]
    if result.diagnosis or not unit.done:
        raise RunError(
            f"layer {program.layer.name!r} on {program.unit.name}: {result.diagnosis or 'did not finish'}\n"
            f"{reproduction(session.config, job)}"
        )
    return LayerRun(
        program=program,
        backpressure=backpressure,
        output=program.decode_output(result.reads[0]),
        golden=run_layer(program.layer, program.unit.a_bits),
        cycles=unit.cycles,
        counters=dict(unit.counters),
    )


def run_layers(
    layers: Sequence[Layer],
    unit: str | None = None,
    *,
    system: System | None = None,
    backpressure: int | None = None,
    clip: bool = False,
    session: Session | None = None,
) -> Iterator[LayerRun]:
    """Run layers one after the other on a unit in RTL, in one session; yield each as it is done.

    All layers are compiled before the first one runs, so that bad input costs no simulation.

    Args:
        layers: the layers, see golden.layer.load_layer.
        unit: a unit of the system; by default its first.
        system: the system; by default the preset `pair`.
        backpressure: seed of random stalls on every channel of the memory; None for none.
        clip: clip weights to the unit's range.
        session: a running session to use; its system counts then, not `system`.

    Raises:
        NpuloopError: see `System.index`, `prepare`, `run_program`, Session.
    """
    config = session.config if session else system or System()
    core = config.cores[0] if unit is None else config.core(unit)
    programs = prepare(layers, core, clip=clip, mem_bytes=config.mem_bytes)

    def runs() -> Iterator[LayerRun]:
        if session:
            for program in programs:
                yield run_program(session, program, backpressure=backpressure)
            return
        with Session(config) as own:
            for program in programs:
                yield run_program(own, program, backpressure=backpressure)

    return runs()


def failure_report(config: System, run: LayerRun) -> str:
    """Return what is wrong with a run, the line that reproduces it, and its waves: it runs once more."""
    lines = [f"layer {run.layer.name!r} on {run.unit}:"]
    for what, expected in (("the golden model", run.golden), ("the expected output", run.layer.expected)):
        if expected is None or np.array_equal(run.output, expected):
            continue
        where = np.argwhere(run.output != expected)
        first = tuple(int(i) for i in where[0])
        lines.append(
            f"  {len(where)} of {run.output.size} values differ from {what}, first at {first}: "
            f"{int(run.output[first])} instead of {int(expected[first])}"
        )
    job = job_of(run.program, backpressure=run.backpressure)
    lines.append(f"  {reproduction(config, job)}")
    lines.append(f"  waves: {rerun_with_waves(config, job)}")
    return "\n".join(lines)
