# SPDX-License-Identifier: Apache-2.0
"""What the page of cycles shows, worked out from measurements of layers that the fit never saw.

`gather` measures what the store lacks; the layers are those of `calibrate.held_out`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.arrays import Bools, Floats, Int64
from common.paths import data_dir
from golden.importers.models import load_model
from golden.layer import WEIGHTED_OPS
from golden.network import Network
from golden.quantize.weights import quantize_weights
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from hw.sources import rtl_hash
from hw.system import System
from mapping.calibration.calibrate import HELD_OUT_SETS, Bench, equal_parts, held_out
from mapping.calibration.fit import Fitter, Point, errors_of
from mapping.compiler.assignment import Assignment
from mapping.compiler.legalise import legalise_network
from mapping.compiler.program import Program
from mapping.cost.coefficients import NAMES
from mapping.cost.model import CostModel
from mapping.cost.shapes import Shape
from mapping.cost.tables import CostTable, Errors, table_of
from mapping.cost.timing import time_lists
from mapping.report.energy_numbers import core_title
from mapping.report.estimates import Estimate, estimates
from mapping.run.networks import NetworkProgram, compile_network, run_inputs
from tb.session import Session

GROUPS = {
    "array": ("operator_cycles", "array_cycles", "handover_cycles"),
    "drain": ("drain_cycles", "requant_cycles", "add_cycles"),
    "load": ("burst_cycles", "load_latency_cycles", "load_word_cycles"),
    "store": ("store_start_cycles", "store_word_cycles", "store_latency_cycles"),
    "waiting": ("array_bank_cycles", "load_bank_cycles", "store_bank_cycles"),
    "control": (
        "launch_cycles", "stagger_cycles", "fetch_cycles", "queue_cycles", "token_cycles", "event_cycles",
    ),
}  # fmt: skip
"""Phases that the report shows as one."""
STEPS = Shape("staircase", "conv2d", 32, 1, 16, 16, (3, 3), (1, 1), "same")
"""The layer whose channels are counted up."""
SPLIT_CHANNELS = 96
"""Output channels of the layer that two units share."""
MODEL = "pretrainedResnet_quant.tflite"
FALLBACK = "resnet8"


@dataclass(frozen=True, eq=False)
class Compared:
    """Layers that the fit never saw.

    Attributes:
        shapes: (N) layers.
        measured, predicted, half: (N,) cycles; half of each prediction's 90 % interval.
        errors: how far they are apart.
    """

    shapes: tuple[Shape, ...]
    measured: Floats
    predicted: Floats
    half: Floats
    errors: Errors

    @property
    def inside(self) -> Bools:
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

    channels: Floats
    model: Floats
    slopes: Floats
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
    cycles: Mapping[str, Floats]
    measured: Floats
    predicted_total: float
    measured_total: float


@dataclass(frozen=True, eq=False)
class UnitReport:
    """What the page shows of a unit.

    Attributes:
        units: the unit, or those that run together.
        title: for the heading.
        table: its cost table.
        sets: by name of the set.
        staircase: of STEPS.
        phases: of ResNet8.
        estimates: for each of METHODS that is there, (N,) cycles of the layers of real networks; NaN where it
            has none.
        current: whether the RTL is that of the table.
    """

    units: tuple[str, ...]
    title: str
    table: CostTable
    sets: Mapping[str, Compared]
    staircase: Staircase
    phases: LayerPhases
    estimates: Mapping[str, Floats]
    current: bool


def gather(bench: Bench, units: Sequence[str], estimate: Estimate | None = None) -> UnitReport:
    """Return what the page shows of a unit, or of several together, measuring what the store lacks.

    Args:
        bench: what it runs on.
        units: the unit, or those that run together.
        estimate: ZigZag, or None without it.

    Raises:
        TableError: a table is missing, damaged or of other hardware.
        FarmError, StoreError, BuildError, RunError: see `Farm.measure`, `run_inputs`.
    """
    config = bench.setup.config
    model = CostModel(config, bench.folder)
    table = table_of(bench.cores(units), config, bench.folder)
    sets = {
        name: compared(bench.measure(shapes, units, HELD_OUT_SETS[name]), model, units)
        for name, shapes in held_out(bench, units).items()
    }
    networks = sets["held_out_networks"]
    together = len(units) > 1
    steps = _shared_staircase(bench, model, units) if together else _staircase(bench, model, units[0])
    return UnitReport(
        units=tuple(units),
        title=" + ".join(core_title(config.core(name)) for name in units),
        table=table,
        sets=sets,
        staircase=steps,
        phases=network_phases(bench, model, units, networks),
        estimates=estimates(networks.shapes, units[0], config, networks.predicted, estimate),
        current=table.rtl_sha256 == rtl_hash(bench.setup.rtl),
    )


def compared(points: Sequence[Point], model: CostModel, units: Sequence[str]) -> Compared:
    """Return measured layers beside what the model predicts."""
    apart = {unit: model.table(unit).coefficients for unit in units} if len(units) > 1 else None
    table = model.table(*units)
    paths = Fitter(apart).paths(points, table.coefficients)
    pairs = zip(paths.cycles, paths.waiting, strict=True)
    return Compared(
        shapes=tuple(point.shape for point in points),
        measured=np.array([point.cycles for point in points], float),
        predicted=paths.cycles,
        half=np.array([table.spread.half(cycles, waiting) for cycles, waiting in pairs]),
        errors=errors_of(points, paths, table.spread),
    )


# ---------------------------------------------------------------------------------------------- staircase
def block_slopes(cycles: Floats, block: int) -> Floats:
    """Return the average slope over the block that each step lies in: what the gradient of the channels is.

    Args:
        cycles: (N,) cycles of 0, 1, ... channels.
        block: channels of a block; the last may be cut off.

    Returns:
        (N - 1,) cycles per channel; entry n is for n to n + 1 channels.
    """
    starts = np.arange(0, len(cycles) - 1, block)
    ends = np.minimum(starts + block, len(cycles) - 1)
    return np.repeat((cycles[ends] - cycles[starts]) / (ends - starts), ends - starts)


def _staircase(bench: Bench, model: CostModel, unit: str) -> Staircase:
    block = model.config.cores[model.config.index(unit)].columns
    most = max(SPLIT_CHANNELS, 3 * block)
    counts = sorted({1, *range(16, most + 1, 16), *range(block + 1, most, block)})
    points = bench.measure([_steps(count) for count in counts], (unit,), "channel staircase")
    cycles = [0.0, *(model.layer(_steps(count), unit).cycles for count in range(1, most + 1))]
    measured = {point.shape.out_channels: point.cycles for point in points}
    return _steps_of(np.array(cycles), block, measured)


def _shared_staircase(bench: Bench, model: CostModel, units: Sequence[str]) -> Staircase:
    """Return the cycles by the channels that the first unit makes; the others share the rest."""
    first, *others = units

    def parts(count: int) -> dict[str, int]:
        split = {first: count, **equal_parts(SPLIT_CHANNELS - count, others)}
        return {unit: channels for unit, channels in split.items() if channels}

    def shared(count: int) -> Shape:
        split = parts(count)
        return replace(_steps(SPLIT_CHANNELS), split=split if len(split) > 1 else None)

    block = model.config.core(first).columns
    counts = sorted({*range(0, SPLIT_CHANNELS + 1, 8), *range(1, SPLIT_CHANNELS, 16)})
    measured: dict[int, int] = {}
    for together in dict.fromkeys(tuple(parts(count)) for count in (SPLIT_CHANNELS, 0, *counts)):
        here = [count for count in counts if tuple(parts(count)) == together]
        points = bench.measure([shared(count) for count in here], together, "channel staircase")
        measured |= {count: point.cycles for count, point in zip(here, points, strict=True)}
    every = range(SPLIT_CHANNELS + 1)
    cycles = [model.layer(shared(count), next(iter(parts(count)))).cycles for count in every]
    return _steps_of(np.array(cycles), block, measured)


def _steps(channels: int) -> Shape:
    return replace(STEPS, name=f"staircase_{channels}", out_channels=channels)


def _steps_of(cycles: Floats, block: int, measured: Mapping[int, int]) -> Staircase:
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
    program: Program, cores: Sequence[CoreConfig], coefficients: Mapping[str, Floats], port_bytes: int = 16
) -> tuple[tuple[str, ...], list[dict[str, float]]]:
    """Return what the cycles between the ends of a program's layers are made of.

    The critical path goes from the start to the end without a gap. It is cut where a layer
    is complete on all its units.

    Args:
        program: the program.
        cores: the units of the system.
        coefficients: of each unit that has work.
        port_bytes: width of the memory's port.

    Returns:
        The layers in the order of their ends, and for each the cycles of every phase.
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
    terms = [dict.fromkeys(NAMES, 0.0) for _ in layers]
    for segment in timing.path:
        for i in range(np.searchsorted(edges, segment.begin, "right"), len(layers)):
            low = max(segment.begin, edges[i - 1] if i else 0.0)
            if low >= segment.end:
                break
            terms[i][NAMES[segment.term]] += min(segment.end, edges[i]) - low
    return layers, terms


def network_phases(bench: Bench, model: CostModel, units: Sequence[str], networks: Compared) -> LayerPhases:
    """Return ResNet8's phases: of the whole network as one program, measured; of its layers without its file.

    Args:
        bench: what it runs on.
        model: the cost model.
        units: the unit, or those that run together.
        networks: measured layers of real networks.
    """
    path = data_dir() / "models" / MODEL
    if not path.exists():
        return _separate_phases(model, units[0], networks)
    program = _resnet8(path, units, model.config)
    coefficients = model.coefficients(list(program.program.lists))
    layers, terms = layer_phases(
        program.program, model.config.cores, coefficients, model.config.axi_bits // 8
    )
    bench.progress(f"{'+'.join(units)}: whole network", 0, 1)
    inputs = np.random.default_rng(1).integers(-128, 128, program.network.input.shape).astype(np.int8)
    with Session(model.config, rtl=bench.setup.rtl) as session:
        run = next(run_inputs(session, program, inputs))
    bench.progress(f"{'+'.join(units)}: whole network", 1, 1)
    ends: dict[str, float] = {}
    for part in run.layers:
        ends[part.layer] = max(ends.get(part.layer, 0), part.end)
    measured = np.diff([0.0, *(ends[name] for name in layers)])
    total = sum(sum(item.values()) for item in terms)
    title = "ResNet8, the whole network as one program"
    return LayerPhases(title, layers, _stacked(terms), measured, total, run.cycles)


def _resnet8(path: Path, units: Sequence[str], config: System) -> NetworkProgram:
    """Return ResNet8 on a unit, or with its wider layers on several; weights as narrow as the units'."""
    network = load_model(path)
    graph = legalise_network(network)
    first, *others = units
    wide = [op for op in graph.ops if others and op.shape[2] >= CHANNEL_BLOCK * len(units)]
    split = {
        op.name: {first: CHANNEL_BLOCK, **equal_parts(op.shape[2] - CHANNEL_BLOCK, others)} for op in wide
    }
    assignment = Assignment(first, split)
    owners = assignment.units(network, graph, config.cores)
    return compile_network(_narrowed(network, owners, config), config, assignment)


def _narrowed(network: Network, units: Mapping[str, Int64], config: System) -> Network:
    widths = np.array([core.w_bits for core in config.cores])
    weighted = [node.name for node in network.nodes if node.op in WEIGHTED_OPS]
    return quantize_weights(network, {name: widths[units[name]] for name in weighted})[0]


def _separate_phases(model: CostModel, unit: str, networks: Compared) -> LayerPhases:
    """Return the phases of a network's distinct layers, each on its own."""
    indices = [i for i, shape in enumerate(networks.shapes) if shape.name.startswith(f"{FALLBACK}/")]
    terms = []
    for i in indices:
        parts = model.layer(networks.shapes[i], unit).terms.values()
        terms.append({name: sum(part[name] for part in parts) for name in NAMES})
    layers = tuple(networks.shapes[i].name.removeprefix(f"{FALLBACK}/") for i in indices)
    measured = networks.measured[indices]
    total = sum(sum(item.values()) for item in terms)
    title = "distinct layers of ResNet8, each alone"
    return LayerPhases(title, layers, _stacked(terms), measured, total, float(measured.sum()))


def _stacked(terms: Sequence[Mapping[str, float]]) -> dict[str, Floats]:
    layers = [grouped(item) for item in terms]
    return {group: np.array([item[group] for item in layers]) for group in GROUPS}
