"""A study: searched mappings and baselines of one network, each trained, turned to integers and run in RTL.

    1. warm-up      one float network for each seed
    2. mappings     searched ones (and whole-layer ones) from it; the other baselines need no training
    3. points       every mapping: fine-tuned from the warm-up, exact integers, test set, RTL

Searched mappings and baselines are treated alike: the same warm-up, the same fine-tuning, the same random
numbers. A search hands over nothing but its mapping, so that what differs between two points is the mapping.

Every job keeps its results and checkpoints in the study's folder and picks up from them, whoever runs it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import NpuloopError
from common.files import write_atomically, write_json
from golden.network import Network, run_network
from golden.network_file import save_network
from golden.quantize.export import export
from golden.quantize.qat import QatNetwork, quantize_input
from hw.memory import MemoryModel
from hw.sources import rtl_hash
from hw.system import System
from mapping.compiler.assignment import assignment_text
from mapping.compiler.channels import ChannelAssignment
from mapping.run.layers import pair_of
from mapping.run.networks import NetworkProgram, compile_network, run_inputs
from mapping.search import baselines, training
from mapping.search.costs import MapError, NetworkCosts, State
from mapping.search.data import DataSet, load_data
from mapping.search.fitting import check_target, fit, upgrade
from mapping.search.mixing import Mixture
from mapping.search.models import build_model
from mapping.search.objectives import current_model, energy_if_known, objective_of, price_of, tables_digest
from mapping.search.preferences import Agreement, nearest
from mapping.search.training import Pull, Recipe, Row, Run
from tb.build import build
from tb.session import Session

SEARCHED, LAYERWISE, RANDOM = "searched", "layerwise", "random"
HEURISTICS = ("first_last", "cheapest")
COLUMNS = (
    "name", "kind", "seed", "predicted_cycles", "measured_cycles", "predicted_energy_pj", "energy_pj",
    "accuracy_percent", "float_accuracy_percent", "exact_in_rtl", "mapping", "network",
)  # fmt: skip
"""Columns of pareto.csv."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a study's result.

    Attributes:
        model, data: names, or `package.module:function`.
        objective: what the cost is, and its unit: see `mapping.search.objectives`.
        strengths: of the cost in the loss; a searched point for each.
        targets: costs that must be met; a searched point for each.
        seeds: of weights and training.
        recipe: how long and how fast to train.
        pins: units of layers that are not free, by layer.
        settings: parameters of the low-bit unit ("W_BITS=4").
        baselines: kinds of points to compare with.
        proof_images: test images that run in RTL with every tensor compared.
    """

    model: str = "digits"
    data: str = "digits"
    objective: str = "latency"
    strengths: tuple[float, ...] = ()
    targets: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (1,)
    recipe: Recipe = Recipe()  # noqa: RUF009  # frozen
    pins: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    proof_images: int = 2

    @property
    def config(self) -> System:
        """The system."""
        return pair_of(self.settings)

    def check(self) -> None:
        """Refuse a plan that cannot be carried out.

        Raises:
            MapError: no points, or an unknown baseline.
            TableError: cost tables that are missing or stale, or no tables for the objective.
            ConfigError, UnsupportedError: a system that cannot be.
        """
        known = (*(core.name for core in self.config.cores), *HEURISTICS, LAYERWISE, RANDOM)
        for kind in self.baselines:
            if kind not in known:
                raise MapError(f"there is no baseline {kind!r}; there are {', '.join(known)}")
        if not (self.strengths or self.targets or self.baselines):
            raise MapError("there is nothing to do: give --strengths, a target or --baselines")
        for name, values in (("strength", self.strengths), ("target", self.targets)):
            for value in values:
                if not (np.isfinite(value) and value > 0):
                    raise MapError(f"{name} {value:g}: it must be above 0")
        if not self.seeds:
            raise MapError("a study needs at least one seed")
        price_of(self.objective, self.config)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a study to be picked up again."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document | {"rtl_sha256": rtl_hash(), "cost_tables_sha256": tables_digest(self.config)}


@dataclass(frozen=True)
class Wish:
    """A point that is to be made: a kind of mapping, in one setting, for one seed."""

    kind: str
    setting: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the point and of its files."""
        return "-".join(item for item in (self.kind, self.setting, f"s{self.seed}") if item)


@dataclass(frozen=True)
class Point:
    """A mapping of a trained network: what it costs, what it is worth, and that it is true.

    Attributes:
        name, kind, setting, seed: which point.
        predicted_cycles, low, high: by the cost model, with the 90 % interval.
        measured_cycles: of the whole network in RTL.
        predicted_energy_pj: by the energy model, with the predicted cycles; None without energy tables.
        energy_pj: the same with the cycles that were measured. What happens in them is exact in both.
        accuracy_percent: of the integer network on the test set.
        float_accuracy_percent: of the warm-up.
        exact_in_rtl: every tensor in RTL equals the golden model's.
        mapping, network: files, relative to the study's folder.
        layers: name, operator and channels on each unit of every layer with weights.
    """

    name: str
    kind: str
    setting: str
    seed: int
    predicted_cycles: float
    low: float
    high: float
    measured_cycles: int
    predicted_energy_pj: float | None
    energy_pj: float | None
    accuracy_percent: float
    float_accuracy_percent: float
    exact_in_rtl: bool
    mapping: str
    network: str
    layers: tuple[Mapping[str, Any], ...]


class Folder:
    """Where a study keeps its files.

    Args:
        path: the folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def work(self, name: str) -> Path:
        """Return the path of a checkpoint or an intermediate result."""
        return self.path / "work" / name

    def run(self, wish: str, phase: str, seed: int, stream: str = "") -> Run:
        """Return a phase of training that leaves checkpoints, and a line in the log for every epoch.

        Args:
            wish: name of the point, or of the warm-up.
            phase: name of the phase.
            seed: of the point.
            stream: name of its random numbers; by default the phase: all points of a seed have the same.
        """

        def log(row: Row) -> None:
            values = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
            with self.log.open("a") as file:
                file.write(f"{wish}: {phase} {row['epoch']:.0f}: {values}\n")

        self.log.parent.mkdir(parents=True, exist_ok=True)
        return Run(stream or phase, seed, self.work(f"{wish}.{phase}.pt"), report=log)

    @property
    def log(self) -> Path:
        """The log of all epochs, in the order in which they end."""
        return self.work("epochs.log")

    def claim(self, plan: Plan) -> None:
        """Take the folder for a plan.

        Raises:
            MapError: it holds a study with another plan.
        """
        file = self.path / "plan.json"
        wanted = plan.fingerprint
        if file.exists():
            try:
                found = json.loads(file.read_text())
                changed = sorted(key for key in wanted if found.get(key) != wanted[key])
            except (OSError, ValueError, AttributeError):
                raise MapError(f"{file}: damaged; remove the folder, or choose another --out") from None
            if changed:
                raise MapError(
                    f"{self.path}: holds a study with other {', '.join(changed)}; choose another --out, "
                    "or remove it"
                )
        else:
            write_json(file, wanted)


def read(path: Path) -> Any:
    """Return the content of a result that a job has left, or None."""
    return json.loads(path.read_text()) if path.exists() else None


# ------------------------------------------------------------------------------------------------------- jobs
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
    return NetworkCosts(network, plan.config, price_of(plan.objective, plan.config), plan.pins)


def network_name(plan: Plan) -> str:
    """Return the name that the integer networks of a study have."""
    return plan.model.replace(".", "_").replace(":", "_")


def mapping_job(plan: Plan, path: Path, wish: Wish, near: float | None = None) -> None:
    """Find a mapping; leave it, its cost and the search's epochs.

    Args:
        wish: what mapping.
        near: for a random mapping, the cost that it is to have.
    """
    folder = Folder(path)
    result = folder.work(f"{wish.name}.mapping.json")
    if result.exists():
        return
    data = load_data(plan.data)
    costs = costs_of(plan, data)
    run = folder.run(wish.name, "search", wish.seed, stream=f"search {wish.kind}")
    order = None
    if wish.kind in (SEARCHED, LAYERWISE):
        state, order = _searched(plan, folder, data, costs, wish, run)
    elif wish.kind == RANDOM:
        assert near is not None
        state = baselines.random_state(costs, np.random.default_rng([wish.seed, run.number(0)]), near)
    elif wish.kind == "cheapest":
        state = baselines.cheapest(costs)
    elif wish.kind == "first_last":
        state = baselines.first_last(costs)
    else:
        state = costs.uniform(wish.kind)
    units = {name: owner.tolist() for name, owner in costs.mapping(state, order).items()}
    write_json(result, {"units": units, "cost": costs.cost(state), "state": state, "epochs": run.rows})


def _searched(
    plan: Plan, folder: Folder, data: DataSet, costs: NetworkCosts, wish: Wish, run: Run
) -> tuple[State, dict[str, ChannelAssignment]]:
    """Search, and return the state with the channels' order."""
    whole = wish.kind == LAYERWISE
    target = float(wish.setting[1:]) if wish.setting.startswith("t") else None
    reference = costs.cost(costs.uniform(costs.units[0]))
    with training.one_thread():
        model = warmed_up(plan, folder, data, wish.seed)
        bits = [core.w_bits for core in plan.config.cores]
        mixture = Mixture(model, costs.layers, bits, costs.allowed, tied=whole)
        pull = Pull(float(wish.setting) if target is None else 0.3, reference, target, whole)
        training.search(mixture, costs, pull, data, plan.recipe, run)
        preferences = mixture.preferences()
    agreement = Agreement(costs, preferences)
    state = nearest(costs, preferences, whole)
    if target is not None:
        unit = objective_of(plan.objective).unit
        state = fit(costs, state, agreement, target, whole=whole, what=unit)
    elif not whole:
        state = upgrade(costs, state, agreement)
    return state, dict(agreement.orders)


def point_job(plan: Plan, path: Path, wishes: Sequence[Wish]) -> list[Point]:
    """Train, convert, test and prove one mapping that several wishes of one seed have come to."""
    folder, first = Folder(path), wishes[0]
    result = folder.work(f"{first.name}.point.json")
    document = read(result)
    if document is None:
        document = _make_point(plan, folder, first)
        write_json(result, document)
    values = {item.name: document[item.name] for item in fields(Point) if item.name in document}
    return [Point(**(values | asdict(wish) | {"name": wish.name})) for wish in wishes]


def _make_point(plan: Plan, folder: Folder, wish: Wish) -> dict[str, Any]:
    data, config = load_data(plan.data), plan.config
    found = read(folder.work(f"{wish.name}.mapping.json"))
    units = {name: np.array(owner, np.int64) for name, owner in found["units"].items()}
    tune, refine = (folder.run(wish.name, phase, wish.seed) for phase in ("fine-tune", "integer"))
    with training.one_thread():
        model = warmed_up(plan, folder, data, wish.seed)
        _, network = train_mapped(model, units, config, data, plan.recipe, tune, refine, network_name(plan))
    program = compile_network(network, config, units)
    file = folder.path / "points" / f"{wish.name}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_network(network, file)
    text = assignment_text(program.units, config.cores, network.name)
    write_atomically(file.with_suffix(".yaml"), lambda handle: handle.write(text.encode()))
    prediction = current_model(config).program(program.program)
    images = quantize_input(network, data.test_images)
    cycles, exact = prove(program, images[: plan.proof_images])
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
        "float_accuracy_percent": read(folder.work(f"warm-up-s{wish.seed}.json"))["float_accuracy_percent"],
        "exact_in_rtl": exact,
        "mapping": f"points/{wish.name}.yaml",
        "network": f"points/{wish.name}.npz",
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
    tune: Run,
    refine: Run,
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


def prove(program: NetworkProgram, images: np.ndarray[Any, Any]) -> tuple[int, bool]:
    """Run a mapped network in RTL.

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


# ------------------------------------------------------------------------------------------------------ study
Runner = Callable[[Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]], Iterator[tuple[int, Any]]]
"""Runs jobs and yields each one's index and its result, or the exception that it raised."""


def wishes_of(plan: Plan) -> list[Wish]:
    """Return the points of a plan; random ones come after those whose cost they take."""
    settings = [f"{value:g}" for value in plan.strengths] + [f"t{value:g}" for value in plan.targets]
    wishes = []
    for seed in plan.seeds:
        wishes += [Wish(SEARCHED, setting, seed) for setting in settings]
        for kind in plan.baselines:
            own = settings if kind in (LAYERWISE, RANDOM) else [""]
            wishes += [Wish(kind, setting, seed) for setting in own]
    return sorted(wishes, key=lambda wish: wish.kind == RANDOM)


def run_study(
    plan: Plan,
    path: Path,
    run: Runner,
    progress: Callable[[str, int, int], None] | None = None,
    command: str = "run_study",
) -> list[Point]:
    """Carry out a plan, or what is left of it.

    Args:
        plan: the plan.
        path: the study's folder.
        run: runs jobs, in processes or in this one.
        progress: called with a phase, and how many of its jobs are done, of how many.
        command: what was asked for, for the report.

    Returns:
        The points; in the folder are then pareto.csv and study.json.

    Raises:
        MapError: see `Plan.check` and `Folder.claim`; or jobs that have failed, after the others are done.
    """
    plan.check()
    folder = Folder(path)
    data = load_data(plan.data)
    costs = costs_of(plan, data)
    for target in plan.targets:
        check_target(costs, target, what=objective_of(plan.objective).unit)
    folder.claim(plan)
    build(plan.config)

    def phase(name: str, jobs: Sequence[tuple[str, Callable[..., Any], tuple[Any, ...]]]) -> list[Any]:
        results: list[Any] = [None] * len(jobs)
        failures = []
        if progress:
            progress(name, 0, len(jobs))
        calls = [(function, arguments) for _, function, arguments in jobs]
        for done, (index, outcome) in enumerate(run(calls), start=1):
            if progress:
                progress(name, done, len(jobs))
            if isinstance(outcome, Exception):
                ours = isinstance(outcome, NpuloopError)
                what = str(outcome) if ours else f"{type(outcome).__name__}: {outcome}"
                failures.append(f"{jobs[index][0]}: {what}")
            results[index] = outcome
        if failures:
            raise MapError("; ".join(failures))
        return results

    phase("warm-up", [(f"warm-up of seed {seed}", warm_up_job, (plan, path, seed)) for seed in plan.seeds])
    wishes = wishes_of(plan)
    first = [wish for wish in wishes if wish.kind != RANDOM]
    phase("mappings", [(wish.name, mapping_job, (plan, path, wish)) for wish in first])
    rest = [wish for wish in wishes if wish.kind == RANDOM]
    phase(
        "random mappings",
        [(wish.name, mapping_job, (plan, path, wish, _near(folder, wish))) for wish in rest],
    )
    same: dict[tuple[int, str], list[Wish]] = {}
    for wish in wishes:
        units = json.dumps(read(folder.work(f"{wish.name}.mapping.json"))["units"], sort_keys=True)
        same.setdefault((wish.seed, hashlib.sha256(units.encode()).hexdigest()), []).append(wish)
    groups = list(same.values())
    made = phase("points", [(group[0].name, point_job, (plan, path, group)) for group in groups])
    points = {point.name: point for group in made for point in group}
    ordered = [points[wish.name] for wish in wishes]
    write_json(folder.path / "study.json", study_document(plan, folder, ordered, command, data, costs))
    write_atomically(folder.path / "pareto.csv", lambda file: file.write(table_text(ordered).encode()))
    return ordered


def _near(folder: Folder, wish: Wish) -> float:
    """Return the cost of the searched mapping that a random one is to be compared with."""
    searched = Wish(SEARCHED, wish.setting, wish.seed)
    return float(read(folder.work(f"{searched.name}.mapping.json"))["cost"])


def table_text(points: Sequence[Point]) -> str:
    """Return what pareto.csv holds."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for point in points:
        row = asdict(point) | {
            "predicted_cycles": f"{point.predicted_cycles:.1f}",
            "predicted_energy_pj": _pj(point.predicted_energy_pj),
            "energy_pj": _pj(point.energy_pj),
            "accuracy_percent": f"{point.accuracy_percent:.2f}",
            "float_accuracy_percent": f"{point.float_accuracy_percent:.2f}",
            "exact_in_rtl": str(point.exact_in_rtl).lower(),
        }
        writer.writerow(row)
    return text.getvalue()


def _pj(energy: float | None) -> str:
    return "" if energy is None else f"{energy:.0f}"


def study_document(
    plan: Plan, folder: Folder, points: Sequence[Point], command: str, data: DataSet, costs: NetworkCosts
) -> dict[str, Any]:
    """Return what study.json holds: all that the report shows."""
    curves = []
    for seed in plan.seeds:
        epochs = read(folder.work(f"warm-up-s{seed}.json"))["epochs"]
        curves.append(_curve(f"warm-up s{seed}", "warm-up", "", "", seed, epochs))
    for point in points:
        found = read(folder.work(f"{point.name}.mapping.json"))
        if found["epochs"]:
            curves.append(
                _curve(point.name, "search", point.kind, point.setting, point.seed, found["epochs"])
            )
        made = read(folder.work(f"{point.name}.point.json"))
        for phase, epochs in (made["epochs"] if made else {}).items():
            if epochs:
                curves.append(_curve(point.name, phase, point.kind, point.setting, point.seed, epochs))
    reference = current_model(plan.config).program(costs.program(costs.uniform(costs.units[0]))).cycles
    return {
        "study": {
            "model": plan.model, "data": plan.data, "objective": plan.objective, "command": command,
            "units": list(costs.units), "seeds": list(plan.seeds), "recipe": asdict(plan.recipe),
            "test_images": len(data.test_labels), "train_images": len(data.train_labels),
            "proof_images": plan.proof_images, "memory_latency": MemoryModel().latency,
        },
        "reference_cycles": reference,
        "points": [asdict(point) for point in points],
        "curves": curves,
    }  # fmt: skip


def _curve(name: str, phase: str, kind: str, setting: str, seed: int, epochs: Any) -> dict[str, Any]:
    return {"name": name, "phase": phase, "kind": kind, "setting": setting, "seed": seed, "epochs": epochs}
