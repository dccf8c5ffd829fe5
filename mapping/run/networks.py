# SPDX-License-Identifier: Apache-2.0
"""Runs whole networks on the units in RTL: a job for each input, compared with the golden model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.arrays import Array
from golden.network import Inputs, Network, check_inputs, run_network, run_nodes
from hw.memory import MemoryModel
from hw.system import System
from mapping.compiler.assignment import Assignment, check_units
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.compile import compile_graph
from mapping.compiler.legalise import legalise_network
from mapping.compiler.program import Program
from mapping.cost.model import planning_price
from mapping.run.layers import BACKPRESSURE_PERCENT, RunError
from tb.job import Job, JobResult
from tb.session import Session, reproduction

Check = Literal["layers", "output", "none"]


@dataclass(frozen=True, eq=False)
class NetworkProgram:
    """A network, compiled for a system.

    Attributes:
        network: the network.
        config: the system.
        units: for each layer the index of the unit of every output channel.
        program: command lists and memory image.
    """

    network: Network
    config: System
    units: Mapping[str, ChannelAssignment]
    program: Program

    @property
    def a_bits(self) -> dict[str, Array]:
        """Width of the activations that each layer's channels see, for the golden model."""
        widths = np.array([core.a_bits for core in self.config.cores])
        return {name: widths[units] for name, units in self.units.items()}


@dataclass(frozen=True)
class LayerCycles:
    """When a unit finished its part of a layer, and the cycles since it finished the one before."""

    layer: str
    unit: str
    end: int
    cycles: int


@dataclass(frozen=True, eq=False)
class NetworkRun:
    """One input through the hardware.

    Attributes:
        program: the compiled network.
        job: the job, for reproduction.
        outputs: the network's outputs by name, without batch axis.
        mismatches: for every compared tensor the number of values that differ from the golden model.
        values: numbers in the compared tensors.
        layers: when each part was finished.
        cycles: first start to last interrupt.
        counters: counter registers of each unit.
        seconds: wall time of the simulation.
    """

    program: NetworkProgram
    job: Job
    outputs: Mapping[str, Array]
    mismatches: Mapping[str, int]
    values: int
    layers: tuple[LayerCycles, ...]
    cycles: int
    counters: Mapping[str, Mapping[str, int]]
    seconds: float

    @property
    def output(self) -> Array:
        """The network's first output, without batch axis."""
        return self.outputs[self.program.network.output_name]

    @property
    def exact(self) -> bool:
        """Whether everything that was compared is equal."""
        return not any(self.mismatches.values())


def compile_network(
    network: Network,
    config: System,
    assignment: Assignment | Mapping[str, ChannelAssignment],
    *,
    observe: bool = False,
    overlap: bool = True,
    cuts: Sequence[str] = (),
) -> NetworkProgram:
    """Compile a network, with the plan that is predicted to take the fewest cycles.

    Where the units have no cost table, it is the plan that the compiler expects to take the fewest. A network
    that stores every value, or that is cut, has the plan that is looked at first.

    Args:
        network: the network.
        config: the system.
        assignment: which unit makes which channels.
        observe: store every value, so that all can be compared.
        overlap, cuts: see `compile_graph`.

    Raises:
        MappingError: the assignment does not fit.
        NpuloopError: see `legalise_network` and `compile_graph`.
    """
    graph = legalise_network(network)
    if isinstance(assignment, Assignment):
        units: Mapping[str, ChannelAssignment] = assignment.units(network, graph, config.cores)
    else:
        units = assignment
        check_units(units, graph, config.cores)
    program = compile_graph(
        graph,
        config.cores,
        units,
        mem_bytes=config.mem_bytes,
        observe=observe,
        overlap=overlap,
        port_bytes=config.axi_bits // 8,
        cuts=cuts,
        price=None if observe or cuts else planning_price(config),
    )
    return NetworkProgram(network, config, units, program)


def network_job(program: NetworkProgram, source: Inputs, backpressure: int | None = None) -> Job:
    """Return the job that runs one input, without batch axis, in the network's element type."""
    compiled, network = program.program, program.network
    values = _on_host(program, {name: batch[:1] for name, batch in check_inputs(network, source).items()})
    inputs = {value.name: values[value.name][0] for value in compiled.graph.inputs}
    memory = MemoryModel()
    if backpressure is not None:
        memory = MemoryModel(backpressure_percent=BACKPRESSURE_PERCENT, backpressure_seed=backpressure)
    reads = [compiled.read_of(value) for value in compiled.observed]
    return Job(
        segments=[*compiled.segments, *compiled.input_segments(inputs)],
        starts=dict(compiled.starts),
        reads=reads + [(part.mark, 16) for part in compiled.parts],
        max_cycles=min(1_000_000 + 20 * compiled.estimate, (1 << 32) - 1),
        memory=memory,
    )


def _on_host(program: NetworkProgram, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the inputs and what the host makes of them, by name, (N, ...)."""
    return run_nodes(program.network, program.program.graph.host_before, inputs)


def run_inputs(
    session: Session,
    program: NetworkProgram,
    inputs: Inputs,
    check: Check = "output",
    backpressure: int | None = None,
) -> Iterator[NetworkRun]:
    """Run a batch of inputs one after the other; yield each as it is done.

    Args:
        session: a running session of the program's system.
        program: the compiled network; to compare all layers it must have been compiled with `observe`.
        inputs: (N, *input shape) or one input, in the network's element type; several by their names.
        check: what to compare with the golden model: every layer, the outputs, or nothing.
        backpressure: seed of random stalls of the memory, or None.

    Raises:
        ShapeError: another input.
        RunError: a unit reports an error or does not finish.
    """
    network, compiled = program.network, program.program
    batches = check_inputs(network, inputs)
    for i in range(len(batches[network.input_name])):
        source = {name: batch[i : i + 1] for name, batch in batches.items()}
        job = network_job(program, source, backpressure)
        result = session.run(job)
        if not result.ok:
            raise RunError(
                f"network {network.name!r}: {result.diagnosis or 'did not finish'}\n"
                f"{reproduction(session.config, job)}"
            )
        layers = _layer_cycles(compiled, result)
        raw = {
            name: compiled.decode(name, data)
            for name, data in zip(compiled.observed, result.reads, strict=False)
        }
        on_device = {
            name: raw[name].reshape(1, *network.tensors[name].shape) for name in compiled.graph.outputs
        }
        values = run_nodes(network, compiled.graph.host_after, _on_host(program, source) | on_device)
        mismatches: dict[str, int] = {}
        if check != "none":
            golden = run_network(network, source, program.a_bits)
            names = compiled.observed if check == "layers" else compiled.graph.outputs
            for name in names:
                mismatches[name] = int((raw[name] != golden[name][0].reshape(raw[name].shape)).sum())
        yield NetworkRun(
            program=program,
            job=job,
            outputs={name: values[name][0] for name in network.output_names},
            mismatches=mismatches,
            values=sum(raw[name].size for name in mismatches),
            layers=layers,
            cycles=result.cycles,
            counters={name: dict(unit.counters) for name, unit in result.units.items()},
            seconds=result.seconds,
        )


def _layer_cycles(program: Program, result: JobResult) -> tuple[LayerCycles, ...]:
    stamps = result.reads[len(program.observed) :]
    before: dict[str, int] = {}
    layers = []
    for part, stamp in zip(program.parts, stamps, strict=True):
        end = int(stamp[:8].view(np.uint64)[0])
        layers.append(LayerCycles(part.layer, part.unit, end, end - before.get(part.unit, 0)))
        before[part.unit] = end
    return tuple(layers)
