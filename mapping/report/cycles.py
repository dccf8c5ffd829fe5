"""The report: one page that shows how far the cost model's cycles are from measured ones, and why.

Everything is worked out from measurements of layers that the fit never saw, those of `calibrate.held_out`;
`gather` measures what the store lacks, `page` writes HTML that needs no other file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from common.paths import data_dir
from golden.importers.models import load_model
from golden.layer import WEIGHTED_OPS
from golden.network import Network
from golden.quantize.weights import quantize_weights
from hw.core import CoreConfig
from hw.sources import rtl_hash
from hw.system import System
from mapping.calibration.calibrate import HELD_OUT_SETS, LIMITS, PAIR_LIMITS, Bench, held_out
from mapping.calibration.fit import Fitter, Point, errors_of
from mapping.calibration.measurement import unit_of
from mapping.compiler.assignment import Assignment
from mapping.compiler.compile import Program
from mapping.compiler.legalise import legalise_network
from mapping.cost.baselines import (
    ideal_cycles,
    roofline_cycles,
    zigzag_accelerator,
    zigzag_cycles,
    zigzag_layer,
    zigzag_version,
)
from mapping.cost.coefficients import NAMES, PHASES, Vector
from mapping.cost.model import PAIR, CostModel, cores_of
from mapping.cost.shapes import Shape
from mapping.cost.tables import CostTable, Errors
from mapping.cost.timing import time_lists
from mapping.report import cycle_plots as plots, html
from mapping.report.energy import EnergyReport, core_title, section
from mapping.report.style import signed, svg
from mapping.run.networks import NetworkProgram, compile_network, run_inputs
from tb.session import Session

SET_NAMES = {"held_out_random": "random layers", "held_out_networks": "layers of real networks"}
GROUPS = {
    "array": ("operator_cycles", "array_cycles", "handover_cycles"),
    "drain": ("drain_cycles", "requant_cycles", "add_cycles"),
    "load": ("burst_cycles", "load_latency_cycles", "load_word_cycles"),
    "store": ("store_start_cycles", "store_word_cycles", "store_latency_cycles"),
    "waiting": ("load_bank_cycles", "store_bank_cycles", "port_cycles"),
    "control": (
        "launch_cycles", "stagger_cycles", "fetch_cycles", "queue_cycles", "token_cycles", "event_cycles",
    ),
}  # fmt: skip
"""Phases that the report shows as one."""
GROUP_MEANINGS = {
    "array": "beats of the array, start and hand-over of stripes",
    "drain": "requantising, where the array waits for it",
    "load": "words from memory and their latency",
    "store": "words to memory and its answer",
    "waiting": "for a bank of the scratchpad, for the other unit on the port",
    "control": "fetching and dispatching commands, tokens, events",
}
STEPS = Shape("staircase", "conv2d", 32, 1, 16, 16, (3, 3), (1, 1), "same")
"""The layer whose channels are counted up."""
SPLIT_CHANNELS = 96
"""Output channels of the layer that two units share."""
MODEL = "pretrainedResnet_quant.tflite"
FALLBACK = "resnet8"
OURS, IDEAL, ROOFLINE, ZIGZAG = "npuloop", "ideal", "roofline", "zigzag"
METHODS = {IDEAL: "MACs / peak", ROOFLINE: "roofline", ZIGZAG: "ZigZag", OURS: "npuloop"}
GET_ZIGZAG = (
    "ZigZag is not installed; for its estimates: pip install 'npuloop[compare]' (Python 3.11 or newer)"
)
Estimate = Callable[[Sequence[Shape], CoreConfig], list[float | None]]
"""ZigZag's cycles of layers on a unit."""


# ------------------------------------------------------------------------------------------------ numbers
@dataclass(frozen=True, eq=False)
class Compared:
    """Layers that the fit never saw.

    Attributes:
        shapes: (N) layers.
        measured, predicted, half: (N,) cycles; half of each prediction's 90 % interval.
        errors: how far they are apart.
    """

    shapes: tuple[Shape, ...]
    measured: Vector
    predicted: Vector
    half: Vector
    errors: Errors

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """(N,) whether each measurement lies in its interval."""
        return np.abs(self.predicted - self.measured) <= self.half


@dataclass(frozen=True, eq=False)
class Staircase:
    """A layer's cycles by its channels, one more each.

    Attributes:
        channels: (N,) channels, from 0.
        model: (N,) predicted cycles.
        slopes: (N - 1,) cycles per channel, averaged over blocks.
        block: channels of a block.
        measured: cycles by channels.
    """

    channels: Vector
    model: Vector
    slopes: Vector
    block: int
    measured: Mapping[int, int]


@dataclass(frozen=True, eq=False)
class LayerPhases:
    """What the cycles of a network's layers are made of.

    Attributes:
        title: what ran.
        layers: (L) names.
        cycles: for each of GROUPS, (L,) predicted cycles.
        measured: (L,) cycles, between the ends of neighbouring layers.
        predicted_total, measured_total: cycles of all.
    """

    title: str
    layers: tuple[str, ...]
    cycles: Mapping[str, Vector]
    measured: Vector
    predicted_total: float
    measured_total: float


@dataclass(frozen=True, eq=False)
class UnitReport:
    """What the page shows of a unit.

    Attributes:
        unit: the unit, or PAIR.
        title: for the heading.
        table: its cost table.
        sets: by name of the set.
        staircase: of STEPS.
        phases: of ResNet8.
        estimates: for each of METHODS that is there, (N,) cycles of the layers of real networks; NaN where it
            has none.
        current: whether the RTL is that of the table.
    """

    unit: str
    title: str
    table: CostTable
    sets: Mapping[str, Compared]
    staircase: Staircase
    phases: LayerPhases
    estimates: Mapping[str, Vector]
    current: bool


def gather(bench: Bench, unit: str, estimate: Estimate | None = None) -> UnitReport:
    """Return what the page shows of a unit, measuring what the store lacks.

    Args:
        bench: what it runs on.
        unit: the unit, or PAIR.
        estimate: ZigZag, or None without it.

    Raises:
        TableError: a table is missing, damaged or of other hardware.
        FarmError, StoreError, BuildError, RunError: see `Farm.measure`, `run_inputs`.
    """
    config = bench.setup.config
    model = CostModel(config, bench.folder)
    names = [core.name for core in config.cores] if unit == PAIR else [unit]
    table = model.table(*names)
    sets = {
        name: compared(bench.measure(shapes, unit, HELD_OUT_SETS[name]), model, names)
        for name, shapes in held_out(bench, unit).items()
    }
    networks = sets["held_out_networks"]
    steps = _shared_staircase(bench, model) if unit == PAIR else _staircase(bench, model, unit)
    return UnitReport(
        unit=unit,
        title=" + ".join(core_title(config.cores[config.index(name)]) for name in names),
        table=table,
        sets=sets,
        staircase=steps,
        phases=network_phases(bench, model, unit, networks),
        estimates=estimates(networks.shapes, unit, config, networks.predicted, estimate),
        current=table.rtl_sha256 == rtl_hash(bench.setup.rtl),
    )


def compared(points: Sequence[Point], model: CostModel, units: Sequence[str]) -> Compared:
    """Return measured layers beside what the model predicts."""
    apart = {unit: model.table(unit).coefficients for unit in units} if len(units) > 1 else None
    table = model.table(*units)
    chains = Fitter(model.config, apart).chains(points, table.coefficients)
    pairs = zip(chains.cycles, chains.waiting, strict=True)
    return Compared(
        shapes=tuple(point.shape for point in points),
        measured=np.array([point.cycles for point in points], float),
        predicted=chains.cycles,
        half=np.array([table.spread.half(cycles, waiting) for cycles, waiting in pairs]),
        errors=errors_of(points, chains, table.spread),
    )


# ---------------------------------------------------------------------------------------------- staircase
def block_slopes(cycles: Vector, block: int) -> Vector:
    """Return the average slope over the block that each step lies in: what the gradient of the channels is.

    Args:
        cycles: (N,) cycles of 0, 1, ... channels.
        block: channels of a block; the last may be cut off.

    Returns: (N - 1,) cycles per channel; entry n is for n to n + 1 channels.
    """
    starts = np.arange(0, len(cycles) - 1, block)
    ends = np.minimum(starts + block, len(cycles) - 1)
    return np.repeat((cycles[ends] - cycles[starts]) / (ends - starts), ends - starts)


def _staircase(bench: Bench, model: CostModel, unit: str) -> Staircase:
    block = model.config.cores[model.config.index(unit)].columns
    most = max(SPLIT_CHANNELS, 3 * block)
    counts = sorted({1, *range(16, most + 1, 16), *range(block + 1, most, block)})
    points = bench.measure([_steps(count) for count in counts], unit, "channel staircase")
    cycles = [0.0, *(model.layer(_steps(count), unit).cycles for count in range(1, most + 1))]
    measured = {point.shape.out_channels: point.cycles for point in points}
    return _steps_of(np.array(cycles), block, measured)


def _shared_staircase(bench: Bench, model: CostModel) -> Staircase:
    """Return the cycles by the channels that the first unit makes, the second makes the rest."""
    first, second = (core.name for core in model.config.cores)

    def shared(count: int) -> Shape:
        split = {first: count, second: SPLIT_CHANNELS - count}
        return replace(_steps(SPLIT_CHANNELS), split=split if all(split.values()) else None)

    def where(count: int) -> str:
        return PAIR if 0 < count < SPLIT_CHANNELS else (first if count else second)

    block = model.config.cores[model.config.index(first)].columns
    counts = sorted({*range(0, SPLIT_CHANNELS + 1, 8), *range(1, SPLIT_CHANNELS, 16)})
    measured: dict[int, int] = {}
    for unit in (first, second, PAIR):
        mine = [count for count in counts if where(count) == unit]
        points = bench.measure([shared(count) for count in mine], unit, "channel staircase")
        measured |= {count: point.cycles for count, point in zip(mine, points, strict=True)}
    cycles = [model.layer(shared(count), where(count)).cycles for count in range(SPLIT_CHANNELS + 1)]
    return _steps_of(np.array(cycles), block, measured)


def _steps(channels: int) -> Shape:
    return replace(STEPS, name=f"staircase_{channels}", out_channels=channels)


def _steps_of(cycles: Vector, block: int, measured: Mapping[int, int]) -> Staircase:
    channels = np.arange(len(cycles), dtype=float)
    return Staircase(channels, cycles, block_slopes(cycles, block), block, measured)


# ------------------------------------------------------------------------------------------------- phases
def grouped(terms: Mapping[str, float]) -> dict[str, float]:
    """Return cycles of phases, by name, as those of GROUPS; a phase that no group has counts as control."""
    groups = {name: group for group, names in GROUPS.items() for name in names}
    totals = dict.fromkeys(GROUPS, 0.0)
    for name, cycles in terms.items():
        totals[groups.get(name, "control")] += cycles
    return totals


def layer_phases(
    program: Program, cores: Sequence[CoreConfig], coefficients: Mapping[str, Vector], port_bytes: int = 16
) -> tuple[tuple[str, ...], list[dict[str, float]]]:
    """Return what the cycles between the ends of a program's layers are made of.

    The chain of phases that ends last goes from the start to the end without a gap. It is cut where a layer
    is complete on all its units.

    Args:
        program: the program.
        cores: the units of the system.
        coefficients: of each unit that has work.
        port_bytes: width of the memory's port.

    Returns: the layers in the order of their ends, and for each the cycles of every phase.
    """
    timing = time_lists(program.lists, cores, coefficients, port_bytes)
    ends: dict[str, float] = {}
    for unit, entries in program.lists.items():
        for entry, end in zip(entries, timing.ends[unit], strict=True):
            if entry.name == "mark":
                name = program.graph.ops[entry.layer].name
                ends[name] = max(ends.get(name, 0.0), end)
    layers = tuple(sorted(ends, key=ends.__getitem__))
    edges = np.array([ends[name] for name in layers])
    edges[-1] = timing.cycles
    found = [dict.fromkeys(NAMES, 0.0) for _ in layers]
    for step in timing.steps:
        for i in range(np.searchsorted(edges, step.begin, "right"), len(layers)):
            low = max(step.begin, edges[i - 1] if i else 0.0)
            if low >= step.end:
                break
            found[i][NAMES[step.term]] += min(step.end, edges[i]) - low
    return layers, found


def network_phases(bench: Bench, model: CostModel, unit: str, networks: Compared) -> LayerPhases:
    """Return ResNet8's phases: of the whole network as one program, measured; of its layers without its file.

    Args:
        bench: what it runs on.
        model: the cost model.
        unit: the unit, or PAIR.
        networks: measured layers of real networks.
    """
    path = data_dir() / "models" / MODEL
    if not path.exists():
        return _separate_phases(model, unit, networks)
    program = _resnet8(path, unit, model.config)
    coefficients = model.coefficients(list(program.program.lists))
    layers, terms = layer_phases(
        program.program, model.config.cores, coefficients, model.config.axi_bits // 8
    )
    bench.progress(f"{unit}: whole network", 0, 1)
    inputs = np.random.default_rng(1).integers(-128, 128, program.network.input.shape).astype(np.int8)
    with Session(model.config, rtl=bench.setup.rtl) as session:
        run = next(run_inputs(session, program, inputs))
    bench.progress(f"{unit}: whole network", 1, 1)
    ends: dict[str, float] = {}
    for part in run.layers:
        ends[part.layer] = max(ends.get(part.layer, 0), part.end)
    measured = np.diff([0.0, *(ends[name] for name in layers)])
    total = sum(sum(item.values()) for item in terms)
    title = "ResNet8, the whole network as one program"
    return LayerPhases(title, layers, _stacked(terms), measured, total, run.cycles)


def _resnet8(path: Path, unit: str, config: System) -> NetworkProgram:
    """Return ResNet8 on a unit, or with its wider layers on both; weights as narrow as the units'."""
    network = load_model(path)
    graph = legalise_network(network)
    assignment = Assignment(unit)
    if unit == PAIR:
        first, second = (core.name for core in config.cores)
        wide = {op.name: op.shape[2] for op in graph.ops if op.shape[2] >= 32}
        split = {name: {first: 16, second: count - 16} for name, count in wide.items()}
        assignment = Assignment(first, split)
    units = assignment.units(network, graph, config.cores)
    return compile_network(_narrowed(network, units, config), config, assignment)


def _narrowed(network: Network, units: Mapping[str, npt.NDArray[np.int64]], config: System) -> Network:
    widths = np.array([core.w_bits for core in config.cores])
    weighted = [node.name for node in network.nodes if node.op in WEIGHTED_OPS]
    return quantize_weights(network, {name: widths[units[name]] for name in weighted})[0]


def _separate_phases(model: CostModel, unit: str, networks: Compared) -> LayerPhases:
    """Return the phases of a network's distinct layers, each on its own."""
    mine = [i for i, shape in enumerate(networks.shapes) if shape.name.startswith(f"{FALLBACK}/")]
    terms = []
    for i in mine:
        parts = model.layer(networks.shapes[i], unit).terms.values()
        terms.append({name: sum(part[name] for part in parts) for name in NAMES})
    layers = tuple(networks.shapes[i].name.removeprefix(f"{FALLBACK}/") for i in mine)
    measured = networks.measured[mine]
    total = sum(sum(item.values()) for item in terms)
    title = "distinct layers of ResNet8, each alone"
    return LayerPhases(title, layers, _stacked(terms), measured, total, float(measured.sum()))


def _stacked(terms: Sequence[Mapping[str, float]]) -> dict[str, Vector]:
    found = [grouped(item) for item in terms]
    return {group: np.array([item[group] for item in found]) for group in GROUPS}


# ---------------------------------------------------------------------------------------------- baselines
def estimates(
    shapes: Sequence[Shape], unit: str, config: System, predicted: Vector, estimate: Estimate | None = None
) -> dict[str, Vector]:
    """Return the cycles of layers by each method, in the order of METHODS.

    Args:
        shapes: the layers.
        unit: the unit of those without a split.
        config: the system.
        predicted: (N,) the cost model's.
        estimate: ZigZag, or None without it.

    Returns: (N,) cycles for each method that is there; NaN where it has no estimate.
    """
    cores = [cores_of(shape, unit_of(shape, unit), config) for shape in shapes]
    port = config.axi_bits // 8
    pairs = list(zip(shapes, cores, strict=True))
    found = {
        IDEAL: np.array([ideal_cycles(shape, *mine) for shape, mine in pairs]),
        ROOFLINE: np.array([roofline_cycles(shape, *mine, port_bytes=port) for shape, mine in pairs]),
    }
    whole = [i for i, shape in enumerate(shapes) if shape.split is None and shape.op in WEIGHTED_OPS]
    if estimate and whole:
        values = estimate([shapes[i] for i in whole], config.cores[config.index(unit)])
        found[ZIGZAG] = np.full(len(shapes), np.nan)
        found[ZIGZAG][whole] = [np.nan if value is None else value for value in values]
    return found | {OURS: np.asarray(predicted, float)}


@dataclass(frozen=True)
class KnownEstimates:
    """ZigZag's cycles; it takes seconds per layer, so they are kept in a file.

    Attributes:
        path: the file; a damaged one counts as empty.
        progress: called with the layers done and all of them.
    """

    path: Path
    progress: Callable[[str, int, int], None] = lambda what, done, total: None  # noqa: ARG005

    def __call__(self, shapes: Sequence[Shape], core: CoreConfig) -> list[float | None]:
        """Return the cycles of layers with weights on a unit; None where ZigZag finds no order of loops."""
        from common.files import write_json

        logging.getLogger("zigzag").setLevel(logging.ERROR)
        known = self._read()
        found = []
        for i, shape in enumerate(shapes, 1):
            key = _digest(
                zigzag_version(),
                zigzag_accelerator(core, depthwise=shape.op == "depthwise_conv2d"),
                {**zigzag_layer(shape, core), "name": ""},
            )
            if key not in known:
                known[key] = zigzag_cycles([shape], core)[0]
                write_json(self.path, known)
            found.append(known[key])
            self.progress(f"{core.name}: ZigZag", i, len(shapes))
        return found

    def _read(self) -> dict[str, float | None]:
        try:
            document = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


# --------------------------------------------------------------------------------------------------- page
COLUMNS = {
    "points": "layers",
    "mape_percent": "mean absolute error",
    "p95_percent": "95th percentile",
    "max_percent": "maximum",
    "bias_percent": "bias",
    "kendall_tau": "Kendall τ",
    "coverage_percent": "in their 90 % interval",
}
"""Headings of error figures, by field of Errors."""


ENERGY = "energy"
"""Name of the heading of energy and area."""


def page(reports: Sequence[UnitReport], energy: EnergyReport | None = None) -> str:
    """Return the page as HTML that needs no other file.

    Args:
        reports: the units.
        energy: what is known of energy and area; without it the page has no such section.
    """
    links = "".join(f'<a href="#u{i}">{escape(item.title)}</a>' for i, item in enumerate(reports))
    if energy:
        links += f'<a href="#{ENERGY}">Energy and area</a>'
    parts = [f"<nav>{links}</nav>\n", _summary(reports)]
    parts += [_section(i, item) for i, item in enumerate(reports)]
    if energy:
        parts.append(section(energy, ENERGY))
    made = html.made()
    made += f", ZigZag {zigzag_version()}." if zigzag_version() else f". {GET_ZIGZAG}."
    parts.append(f'<h2>About this page</h2>\n<p class="note">{escape(made)}</p>\n')
    lead = (
        "Predicted cycles beside cycles measured in RTL, from the first start to the last "
        "interrupt, of layers that no fit has seen. An error is predicted / measured - 1."
    )
    title, heading = "npuloop: errors of the cost model", "How far is the cost model from the hardware?"
    return html.document(title, heading, lead, parts)


def _limits(unit: str) -> Mapping[str, float]:
    return PAIR_LIMITS if unit == PAIR else LIMITS


def figures(report: UnitReport) -> dict[str, tuple[Figure, str]]:
    """Return a unit's figures and what they say, in HTML, by name."""
    sets = [
        (SET_NAMES[name], item.measured, item.predicted, item.inside.astype(float))
        for name, item in report.sets.items()
    ]
    every = [item.errors for item in report.sets.values()]
    outside = sum(int((~item.inside).sum()) for item in report.sets.values())
    count = sum(item.points for item in every)
    spread, steps, layers = report.table.spread, report.staircase, report.phases
    slope = "slope of the gradient" if report.unit != PAIR else "average slope"
    names = report.table.unit.split("+")
    label = "output channels"
    if report.unit == PAIR:
        label = f"of {SPLIT_CHANNELS} output channels, those on {names[0]}; the others are on {names[1]}"
    known = {METHODS[name]: values for name, values in report.estimates.items()}
    real = report.sets["held_out_networks"].measured
    ratios = {name: values / real for name, values in known.items()}
    off = layers.predicted_total / layers.measured_total - 1
    made = (
        f"{layers.title}: predicted {layers.predicted_total:,.0f} cycles, measured "
        f"{layers.measured_total:,.0f}: {signed(100 * off, 2)} %"
    )
    curve = report.table.learning_curve
    captions = {
        "accuracy": (
            f"<b>Predicted against measured.</b> {count} layers, {outside} outside their 90 % interval: "
            "these are ringed. Shaded is the interval of layers that never wait for a bank or the port. "
            f"Half an interval: {spread.absolute_cycles:.1f} cycles, {100 * spread.relative:.2f} % of the "
            f"cycles and {100 * spread.waiting:.0f} % of those of waiting, the root of the sum of their "
            "squares."
        ),
        "distribution": (
            "<b>Errors.</b> Above: signed, positive where too much is predicted. Below: the share of layers "
            "whose error is smaller."
        ),
        "staircase": (
            "<b>The channel staircase.</b> Convolution 3 x 3 on 16 x 16 pixels and 32 input channels: "
            f"{len(steps.measured)} measurements, at most {_worst_step(steps):.2f} % from the model."
        ),
        "phases": (
            f"<b>What the cycles are made of.</b> {escape(made)}. Shown is the chain of phases that ends "
            "last, between the ends of one layer and the next. "
            + "; ".join(f"{name}: {meaning}" for name, meaning in GROUP_MEANINGS.items())
            + "."
        ),
        "methods": "<b>Uncalibrated estimates beside ours</b>, on the layers of real networks.",
        "learning": f"<b>Learning curve.</b> {curve[-1][0]} measurements give {curve[-1][1]:.2f} %.",
    }
    drawn = {
        "accuracy": plots.accuracy(sets, lambda cycles: spread.half(cycles, 0.0)),
        "distribution": plots.distribution(sets, _limits(report.unit)),
        "staircase": plots.staircase(
            steps.channels, steps.model, steps.slopes, steps.measured, steps.block, label, slope
        ),
        "phases": plots.phases(layers.layers, layers.cycles, layers.measured),
        "methods": plots.methods(ratios),
        "learning": plots.learning(curve, _limits(report.unit)["mape_percent"]),
    }
    return {name: (figure, captions[name]) for name, figure in drawn.items()}


def _worst_step(steps: Staircase) -> float:
    """Return the largest error of a staircase's measured points, percent."""
    return max(100 * abs(float(steps.model[count]) / cycles - 1) for count, cycles in steps.measured.items())


def _section(number: int, report: UnitReport) -> str:
    drawn = {name: _figure(name, report, *item) for name, item in figures(report).items()}
    return (
        f'<h2 id="u{number}">{escape(report.title)}</h2>\n'
        f'<div class="two">{drawn["accuracy"]}{drawn["distribution"]}</div>\n'
        f"{drawn['staircase']}{drawn['phases']}"
        f'<div class="two">{drawn["methods"]}{drawn["learning"]}</div>\n'
        f"<h3>Errors</h3>\n{_errors(report)}<h3>Estimates of the layers of real networks</h3>\n"
        f"{_methods(report)}<h3>Coefficients</h3>\n{_coefficients(report.table)}"
        f"<h3>Where this comes from</h3>\n{_provenance(report)}"
    )


def _figure(name: str, report: UnitReport, drawing: Figure, caption: str) -> str:
    return html.figure(name, f"{report.title}: {name}", svg(drawing), caption)


def _summary(reports: Sequence[UnitReport]) -> str:
    rows = []
    for i, report in enumerate(reports):
        for name, item in report.sets.items():
            link = f'<a href="#u{i}">{escape(report.title)}</a>: {escape(SET_NAMES[name])}'
            rows.append([link, *_figures(item.errors, report)])
    text = html.table(["held-out set", *COLUMNS.values()], rows, len(COLUMNS))
    limits = ", and ".join(
        f"of {what} {', '.join(f'{COLUMNS[name]} {limit:g} %' for name, limit in found.items())}"
        for what, found in (("a unit", LIMITS), ("split layers", PAIR_LIMITS))
    )
    return f'{text}<p class="note">Limits, red where missed: {limits}.</p>\n'


def _figures(errors: Errors, report: UnitReport) -> list[str]:
    cells = []
    for name in COLUMNS:
        value = getattr(errors, name)
        text = f"{value:.4f}" if name == "kendall_tau" else f"{value:.2f} %"
        if name == "points":
            text = str(value)
        elif name == "bias_percent":
            text = f"{signed(value, 2)} %"
        elif name == "coverage_percent":
            text = f"{value:.1f} %"
        over = value > _limits(report.unit).get(name, float("inf"))
        cells.append(f'<span class="over">{text}</span>' if over else text)
    return cells


def _errors(report: UnitReport) -> str:
    found = {"fit (from the table)": report.table.errors["fit"]}
    found |= {SET_NAMES[name]: item.errors for name, item in report.sets.items()}
    rows = [[escape(name), *_figures(errors, report)] for name, errors in found.items()]
    return html.table(["set", *COLUMNS.values()], rows, len(COLUMNS))


def _methods(report: UnitReport) -> str:
    real = report.sets["held_out_networks"].measured
    rows = []
    for name, values in report.estimates.items():
        error = 100 * np.abs(values / real - 1)
        known = error[np.isfinite(error)]
        cells = (f"{known.mean():.2f} %", f"{np.percentile(known, 95):.2f} %", f"{known.max():.2f} %")
        rows.append([escape(METHODS[name]), str(len(known)), *cells])
    return html.table(["method", *list(COLUMNS.values())[:4]], rows, 4)


def _coefficients(table: CostTable) -> str:
    rows = []
    for phase, value, (low, high) in zip(PHASES, table.coefficients, table.confidence, strict=True):
        interval = f"{low:.2f} to {high:.2f}" if np.isfinite(low) else "not fitted here"
        cells = (f"{value:.2f}", interval, f"{phase.start:g}", f"<code>{phase.counter}</code>")
        rows.append([f"<code>{phase.name}</code>", *cells, escape(phase.meaning)])
    head = ["phase", "cycles", "95 % confidence", "before calibration", "hardware counter", "per"]
    return html.table(head, rows, 3)


def _provenance(report: UnitReport) -> str:
    table = report.table
    other = '<span class="over">which is not the present RTL: calibrate again</span>'
    state = "which is the present RTL" if report.current else other
    parameters = [
        [f"parameters of {escape(unit)}", escape(_pairs(values))] for unit, values in table.parameters.items()
    ]
    rows = [
        ["calibrated", escape(table.date)],
        ["RTL", f"<code>{escape(table.rtl_sha256)}</code>, {state}"],
        ["memory", escape(_pairs(table.memory))],
        *parameters,
        ["tools", escape(_pairs(table.tools))],
    ]
    return html.table(["what", "value"], rows, 0)


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
