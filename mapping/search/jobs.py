# SPDX-License-Identifier: Apache-2.0
"""The jobs of a study: warm-up of a seed, a mapping, a point.

Every job keeps its results and checkpoints in the study's folder and picks up from them, whoever runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.files import write_atomically, write_json
from golden.network import Network, run_network
from golden.network_file import save_network
from golden.quantize.export import export
from golden.quantize.qat import QatNetwork, quantize_input
from hw.system import System
from mapping.compiler.assignment import assignment_text
from mapping.compiler.channels import ChannelAssignment
from mapping.run.networks import NetworkProgram, compile_network, run_inputs
from mapping.search import baselines, training
from mapping.search.costs import NetworkCosts, State
from mapping.search.data import DataSet, load_data
from mapping.search.fitting import fit, upgrade
from mapping.search.mixing import Mixture
from mapping.search.models import build_model
from mapping.search.objectives import current_model, energy_if_known, objective_of, price_of
from mapping.search.plan import LAYERWISE, RANDOM, SEARCHED, Plan, PointSpecification
from mapping.search.points import Point
from mapping.search.preferences import Agreement, nearest
from mapping.search.study_folder import Folder, read
from mapping.search.training import CostWeight, Recipe, TrainingRun
from tb.session import Session


def warm_up_job(plan: Plan, path: Path, seed: int) -> None:
    """Train the float network of a seed; leave its weights and its accuracy."""
    folder, name = Folder(path), f"warm-up-s{seed}"
    if folder.work(f"{name}.json").exists():
        return
    data = load_data(plan.data)
    model = build_model(plan.model, data, seed)
    run = folder.run(name, "warm-up", seed, stream=name)
    with training.one_thread():
        training.warm_up(model, data, plan.recipe, run)
        accuracy = training.accuracy(model, data)
    write_json(folder.work(f"{name}.json"), {"float_accuracy_percent": accuracy, "epochs": run.rows})


def warmed_up(plan: Plan, folder: Folder, data: DataSet, seed: int) -> torch.nn.Module:
    """Return the float network of a seed, trained."""
    model = build_model(plan.model, data, seed)
    state = torch.load(folder.work(f"warm-up-s{seed}.warm-up.pt"), weights_only=True)
    model.load_state_dict(state["model"])
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def costs_of(plan: Plan, data: DataSet) -> NetworkCosts:
    """Return the costs of the network's mappings; what its weights are does not matter."""
    model = build_model(plan.model, data, plan.seeds[0]).eval()
    network = export(model, data.train_images[:8], name=network_name(plan))
    return NetworkCosts(network, plan.system, price_of(plan.objective, plan.system), plan.pins)


def network_name(plan: Plan) -> str:
    """Return the name that the integer networks of a study have."""
    return plan.model.replace(".", "_").replace(":", "_")


def mapping_job(plan: Plan, path: Path, spec: PointSpecification, near: float | None = None) -> None:
    """Find a mapping; leave it, its cost and the search's epochs.

    Args:
        spec: the point that the mapping is for.
        near: for a random mapping, the cost that it is to have.
    """
    folder = Folder(path)
    result = folder.work(f"{spec.name}.mapping.json")
    if result.exists():
        return
    data = load_data(plan.data)
    costs = costs_of(plan, data)
    run = folder.run(spec.name, "search", spec.seed, stream=f"search {spec.kind}")
    order = None
    if spec.kind in (SEARCHED, LAYERWISE):
        state, order = _searched(plan, folder, data, costs, spec, run)
    elif spec.kind == RANDOM:
        assert near is not None
        state = baselines.random_state(costs, np.random.default_rng([spec.seed, run.number(0)]), near)
    elif spec.kind == "cheapest":
        state = baselines.cheapest(costs)
    elif spec.kind == "first_last":
        state = baselines.first_last(costs)
    else:
        state = costs.uniform(spec.kind)
    units = {name: owner.tolist() for name, owner in costs.mapping(state, order).items()}
    write_json(result, {"units": units, "cost": costs.cost(state), "state": state, "epochs": run.rows})


def _searched(
    plan: Plan, folder: Folder, data: DataSet, costs: NetworkCosts, spec: PointSpecification, run: TrainingRun
) -> tuple[State, dict[str, ChannelAssignment]]:
    """Search, and return the state with the channels' order."""
    whole = spec.kind == LAYERWISE
    target = float(spec.setting[1:]) if spec.setting.startswith("t") else None
    reference = costs.cost(costs.uniform(costs.units[0]))
    with training.one_thread():
        model = warmed_up(plan, folder, data, spec.seed)
        bits = [core.w_bits for core in plan.system.cores]
        mixture = Mixture(model, costs.layers, bits, costs.allowed, tied=whole)
        cost_weight = CostWeight(float(spec.setting) if target is None else 0.3, reference, target, whole)
        training.search(mixture, costs, cost_weight, data, plan.recipe, run)
        preferences = mixture.preferences()
    agreement = Agreement(costs, preferences)
    state = nearest(costs, preferences, whole)
    if target is not None:
        unit = objective_of(plan.objective).unit
        state = fit(costs, state, agreement, target, whole=whole, what=unit)
    elif not whole:
        state = upgrade(costs, state, agreement)
    return state, dict(agreement.orders)


def point_job(plan: Plan, path: Path, specs: Sequence[PointSpecification]) -> list[Point]:
    """Train, convert, test and verify one mapping, to which several specifications of a seed have come."""
    folder, first = Folder(path), specs[0]
    result = folder.work(f"{first.name}.point.json")
    document = read(result)
    if document is None:
        document = _trained_point(plan, folder, first)
        write_json(result, document)
    values = {item.name: document[item.name] for item in fields(Point) if item.name in document}
    return [Point(**(values | asdict(spec) | {"name": spec.name})) for spec in specs]


def _trained_point(plan: Plan, folder: Folder, spec: PointSpecification) -> dict[str, Any]:
    data, config = load_data(plan.data), plan.system
    mapping = read(folder.work(f"{spec.name}.mapping.json"))
    units = {name: np.array(owner, np.int64) for name, owner in mapping["units"].items()}
    tune, refine = (folder.run(spec.name, phase, spec.seed) for phase in ("fine-tune", "integer"))
    with training.one_thread():
        model = warmed_up(plan, folder, data, spec.seed)
        _, network = train_mapped(model, units, config, data, plan.recipe, tune, refine, network_name(plan))
    program = compile_network(network, config, units)
    file = folder.path / "points" / f"{spec.name}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_network(network, file)
    text = assignment_text(program.units, config.cores, network.name)
    write_atomically(file.with_suffix(".yaml"), lambda handle: handle.write(text.encode()))
    prediction = current_model(config).program(program.program)
    images = quantize_input(network, data.test_images)
    cycles, exact = verify_in_rtl(program, images[: plan.verification_images])
    energies = energy_if_known(config)
    predicted_pj, measured_pj = (
        energies.program_energy(program.program, each).value_pj if energies else None
        for each in (prediction.cycles, float(cycles))
    )
    right = run_network(network, images, program.a_bits)[network.output_name].argmax(axis=1)
    ops = {node.name: node.op for node in network.nodes}
    return {
        "predicted_cycles": prediction.cycles,
        "low": prediction.low,
        "high": prediction.high,
        "measured_cycles": cycles,
        "predicted_energy_pj": predicted_pj,
        "energy_pj": measured_pj,
        "accuracy_percent": 100.0 * float((right == data.test_labels.numpy()).mean()),
        "float_accuracy_percent": read(folder.work(f"warm-up-s{spec.seed}.json"))["float_accuracy_percent"],
        "exact_in_rtl": exact,
        "mapping": f"points/{spec.name}.yaml",
        "network": f"points/{spec.name}.npz",
        "layers": [
            {
                "name": name,
                "op": ops[name],
                "channels": {core.name: int((units[name] == i).sum()) for i, core in enumerate(config.cores)},
            }
            for name in weighted(units, network)
        ],
        "epochs": {"fine-tune": tune.rows, "integer": refine.rows},
    }


def weighted(units: Mapping[str, ChannelAssignment], network: Network) -> list[str]:
    """Return the layers with weights among those that have units."""
    return [node.name for node in network.nodes if node.name in units and node.weight_bits is not None]


def train_mapped(
    model: torch.nn.Module,
    units: Mapping[str, ChannelAssignment],
    config: System,
    data: DataSet,
    recipe: Recipe,
    tune: TrainingRun,
    refine: TrainingRun,
    name: str,
) -> tuple[QatNetwork, Network]:
    """Train a float module for a mapping and return its integer network, as `training.integer_network` does.

    Args:
        model: trained in floating point; changed in place.
        units: for each layer the index of the unit of every output channel; those of others are not used.
        tune, refine: the two phases.
        name: of the network.
    """
    w_bits, a_bits = (
        np.array([getattr(core, kind) for core in config.cores], np.int8) for kind in ("w_bits", "a_bits")
    )
    modules = dict(model.named_modules())
    layers = {layer: owner for layer, owner in units.items() if hasattr(modules.get(layer), "weight")}
    bits = {layer: w_bits[owner] for layer, owner in layers.items()}
    training.fine_tune(model, bits, data, recipe, tune)
    activations = {layer: a_bits[owner] for layer, owner in layers.items()}
    return training.integer_network(model, bits, activations, data, recipe, refine, name)


def verify_in_rtl(program: NetworkProgram, images: np.ndarray[Any, Any]) -> tuple[int, bool]:
    """TrainingRun a mapped network in RTL.

    Args:
        program: the compiled network.
        images: inputs, int8.

    Returns:
        Cycles of one inference, and whether every tensor of every image, and the output of the measured run,
        equal the golden model's.
    """
    observed = compile_network(program.network, program.config, program.units, observe=True)
    with Session(program.config) as session:
        (plain,) = run_inputs(session, program, images[:1])
        runs = list(run_inputs(session, observed, images, "layers"))
    return plain.cycles, plain.exact and all(run.exact for run in runs)
