# SPDX-License-Identifier: Apache-2.0
"""The public functions of npuloop, each one call: what `import npuloop` offers.

Arguments that recur: `system` is a preset's name ("pair"), a path to a `system.yaml`, or a `System`.
`mapping` says which unit makes which output channels: None is everything on the system's first unit, a unit's
name is everything there, a path is a `MAP.yaml`, and an `Assignment` is one that was made in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.arrays import Array
from common.errors import UnsupportedError
from common.workers import Workers
from golden.importers.inputs import first_input, random_input
from golden.importers.models import load_model
from golden.network import Inputs, Network, check_inputs
from golden.network_file import save_network
from golden.quantize.export import export
from golden.quantize.qat import convert, prepare_qat
from golden.quantize.weights import Widths, quantize_weights
from hw.system import System
from hw.system_file import load_system
from mapping.compiler.assignment import Assignment, load_assignment
from mapping.compiler.widths import weight_widths
from mapping.cost.model import CostModel, Prediction
from mapping.energy.model import EnergyModel, NetworkEnergy
from mapping.energy.statistics import network_statistics
from mapping.energy.tables import EnergyTableError
from mapping.run.networks import Check, NetworkProgram, NetworkRun, compile_network, run_inputs
from mapping.scheduling.clocks import EXACT
from mapping.scheduling.deployment import deploy_workload
from mapping.scheduling.metrics import Metrics, metrics
from mapping.scheduling.policies import load_policy
from mapping.scheduling.policy import Policy
from mapping.scheduling.simulate import Run, simulate
from mapping.scheduling.workload import arrivals_of
from mapping.scheduling.workload_file import load_with_versions
from mapping.search.plan import Plan
from mapping.search.points import Point
from mapping.search.study import run_study
from tb.session import Session

__all__ = [
    "Network", "Plan", "Price", "Service", "System", "compile", "load", "predict", "quantize", "run", "save",
    "search", "serve",
]  # fmt: skip

SystemLike = System | str | Path
MappingLike = Assignment | str | Path | None


def load(path: str | Path) -> Network:
    """Read a quantised network: an int8 `.tflite` model, or a network file (`.npz`).

    Raises:
        NpuloopError: the file is missing or damaged, or has an operator that no unit and no host step runs.
    """
    return load_model(path)


def save(network: Network, path: str | Path) -> None:
    """Write a network file (`.npz`), which `load` reads."""
    save_network(network, path)


def quantize(
    model: nn.Module | Network,
    calibration: torch.Tensor | Array | Sequence[torch.Tensor] | None = None,
    *,
    bits: int | None = None,
    layers: Mapping[str, int] | None = None,
    mapping: MappingLike = None,
    system: SystemLike = "pair",
    name: str = "network",
) -> Network:
    """Quantise a float module after training, or narrow the weights of a quantised network.

    Args:
        model: a trained `nn.Module`, or a network.
        calibration: of a module, float32 inputs (N, C, H, W) that show the ranges of its activations; of a
            network, inputs as it reads them, (N, ...), with which the biases of narrowed channels are
            corrected.
        bits: width of all weights; by default 8, or with a mapping that of each channel's unit.
        layers: widths of single layers, by name.
        mapping, system: which units will make which channels, see the module.
        name: of a module's network.

    Raises:
        UnsupportedError: an operator or an argument that cannot be.
        NpuloopError: see `golden.quantize.export` and `quantize_weights`.
    """
    if isinstance(model, Network):
        inputs = None if calibration is None else np.asarray(calibration)
        return quantize_weights(model, _widths(model, bits, layers, mapping, system), inputs)[0]
    if calibration is None:
        raise UnsupportedError("an nn.Module needs calibration: inputs that show its activations' ranges")
    batches = (
        calibration if isinstance(calibration, torch.Tensor | Sequence) else torch.from_numpy(calibration)
    )
    network = convert(prepare_qat(model, batches, name=name))  # whose layers have names
    return export(model, batches, name=name, weight_bits=_widths(network, bits, layers, mapping, system))


def compile(  # noqa: A001  # what it does to a network; the door is `npuloop.compile`
    network: Network, mapping: MappingLike = None, *, system: SystemLike = "pair", observe: bool = False
) -> NetworkProgram:
    """Compile a network into command lists and a memory image.

    Args:
        network: the network.
        mapping, system: see the module.
        observe: store every tensor, so that `run(..., check="layers")` can compare them all.

    Raises:
        MappingError: the mapping does not fit the network or the system.
        UnsupportedError, CapacityError: a layer that no unit can run, or that fits no scratchpad.
    """
    return compile_network(network, _system(system), _assignment(mapping), observe=observe)


def run(
    program: NetworkProgram, inputs: Inputs | None = None, *, check: Check = "output", seed: int = 1
) -> list[NetworkRun]:
    """Run a compiled network in RTL and compare it bit for bit with the golden model.

    The simulator of the system is built when it is first needed, which takes about half a minute.

    Args:
        program: from `compile`.
        inputs: (N, *input shape) or one input, in the network's element type; of a network with several
            inputs all of them by name. None: a random one.
        check: what to compare: "output", "layers" (compiled with `observe`) or "none".
        seed: of the random input.

    Returns:
        A run for each input: `output`, `cycles`, `exact`, `counters` and more.

    Raises:
        ShapeError: another input.
        RunError: a unit reports an error or does not finish.
        BuildError: the simulator cannot be built; `npuloop doctor` says what is missing.
    """
    batch = _inputs(program.network, inputs, seed)
    with Session(program.config) as session:
        return list(run_inputs(session, program, batch, check))


@dataclass(frozen=True)
class Price:
    """What a compiled network takes by the models.

    Attributes:
        cycles: predicted cycles with a 90 % interval, phases and the end of every part.
        energy: predicted energy by layer, unit and part of the hardware, with bounds; None where a unit has
            no energy table.
    """

    cycles: Prediction
    energy: NetworkEnergy | None


def predict(program: NetworkProgram, inputs: Inputs | None = None, *, seed: int = 1) -> Price:
    """Predict the cycles and the energy of a compiled network without simulating it.

    Args:
        program: from `compile`.
        inputs: one input whose activations the energy is of; None: a random one.
        seed: of the random input.

    Raises:
        TableError: a unit has no cost table, or a stale one; `npuloop calibrate` makes it.
    """
    cycles = CostModel(program.config).program(program.program)
    try:
        energies = EnergyModel(program.config)
    except EnergyTableError:
        return Price(cycles, None)
    statistics = network_statistics(program, first_input(_inputs(program.network, inputs, seed)))
    return Price(cycles, energies.program_energy(program.program, cycles.cycles, cycles.ends, statistics))


def search(plan: Plan, out: str | Path, *, workers: int | None = None) -> list[Point]:
    """Search which output channels run on which unit while the network is trained; verify it in RTL.

    Args:
        plan: model, data, objective, strengths or targets, baselines and recipe.
        out: folder of the study; a study that was cut off goes on where it was.
        workers: processes; None: one per core, 0: this one.

    Returns:
        The points: accuracy, predicted and measured cycles, energy, and whether RTL was exact.

    Raises:
        MapError: a plan that cannot be carried out, or jobs that failed.
        TableError: a unit has no cost table, or a stale one.
    """
    with Workers(workers, preload=("mapping.search.study",)) as pool:
        return run_study(plan, Path(out), pool.run, command="npuloop.search")


@dataclass(frozen=True)
class Service:
    """A workload, served.

    Attributes:
        run: what became of each request: `run.requests`.
        metrics: responses, late requests, energy and utilisation.
    """

    run: Run
    metrics: Metrics


def serve(
    workload: str | Path | None = None,
    *,
    system: SystemLike = "pair",
    versions: str | Path | None = None,
    policy: str | Policy = "greedy",
    clock: str = EXACT,
    seed: int = 1,
) -> Service:
    """Serve requests that arrive on a system: predicted responses, energy and utilisation.

    Args:
        workload: a `workload.yaml`; None: one that npuloop brings.
        system: see the module.
        versions: a `versions.yaml`; None: the one that the workload names, else its models as they are.
        policy: the name of a policy, or a function: see `mapping.scheduling.policy`.
        clock: "exact" is the timing model; "fast" a quick estimate.
        seed: of the arrivals.

    Raises:
        WorkloadError: a workload or versions that cannot be served.
        PolicyError: an unknown policy, or one that decides what cannot be.
        TableError: a unit has no cost table.
    """
    load, known, source = load_with_versions(workload, versions)
    decide = load_policy(policy) if isinstance(policy, str) else policy
    deployment = deploy_workload(_system(system), load, known, source)
    run = simulate(deployment, load, arrivals_of(load, seed), decide, clock)
    return Service(run, metrics(run))


def _system(system: SystemLike) -> System:
    return system if isinstance(system, System) else load_system(str(system))


def _assignment(mapping: MappingLike) -> Assignment:
    if mapping is None or isinstance(mapping, Assignment):
        return mapping or Assignment()
    if isinstance(mapping, Path) or Path(mapping).suffix in (".yaml", ".yml"):
        return load_assignment(mapping)
    return Assignment(mapping)


def _inputs(network: Network, inputs: Inputs | None, seed: int) -> dict[str, Array]:
    return random_input(network, seed) if inputs is None else check_inputs(network, inputs)


def _widths(
    network: Network,
    bits: int | None,
    layers: Mapping[str, int] | None,
    mapping: MappingLike,
    system: SystemLike,
) -> dict[str, Widths]:
    if mapping is None:
        return weight_widths(network, _system(system), 8 if bits is None else bits, layers)
    if bits is not None or layers:
        raise UnsupportedError("give bits and layers, or else a mapping, whose units have their widths")
    return weight_widths(network, _system(system), assignment=_assignment(mapping))
