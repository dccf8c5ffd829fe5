"""The sub-commands of the cost model: calibrate and predict."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from common.errors import NpuloopError
from golden.importers.models import load_model
from hw.memory import MemoryModel
from hw.system import System
from mapping.calibration.calibrate import BUDGET, EVERY, Bench, calibrate, check, write_table
from mapping.calibration.farm import Farm
from mapping.calibration.measurement import Setup
from mapping.calibration.store import Store, default_path
from mapping.compiler.assignment import Assignment, load_assignment
from mapping.cost.coefficients import PHASES
from mapping.cost.model import CostModel, Prediction, units_of
from mapping.cost.shapes import Shape, load_shapes
from mapping.cost.tables import CostTable, Errors, keys_of
from mapping.energy.model import EnergyModel
from mapping.energy.statistics import network_statistics
from mapping.report.energy_console import energy_model, energy_table, scale_of, summary
from mapping.run.networks import compile_network
from npuloop.cli.console import FAILED, Tasks, console, errors, progress
from npuloop.cli.networks import read_inputs
from npuloop.cli.options import (
    SYSTEM,
    Latency,
    Scheduler,
    Setting,
    StoreFile,
    SystemName,
    Unit,
    Workers,
    system_of,
    unit_of,
)


def calibrate_units(
    system: SystemName = SYSTEM,
    units: Annotated[
        list[str] | None,
        typer.Option("--unit", help="unit of the system; default: its first; several: at the same time"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="all tables of this repository")] = False,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    budget: Annotated[
        int, typer.Option(help="measurements in the fit of a unit; several together take half")
    ] = BUDGET,
    workers: Workers = None,
    scheduler: Scheduler = None,
    latency: Latency = MemoryModel.latency,
    store: StoreFile = None,
    checking: Annotated[
        bool, typer.Option("--check", help="measure a sample and compare it with the table; write nothing")
    ] = False,
) -> None:
    """Measure layers in RTL, fit the cost model, write its table into mapping/cost_tables.

    With several --unit, it is how these units slow each other down; each of them is calibrated before. A run
    that was cut off goes on where it was.
    Exit status: 0 if the table is written, or with --check still holds; 1 if it does not; 2 if the input is
    wrong or a measurement failed.
    """
    if every and (units or settings or system != SYSTEM):
        raise NpuloopError("--all makes all tables; leave out --system, --unit and --set, or --all")
    config = system_of(system, settings)
    chosen = tuple(sorted(set(units), key=config.index)) if units else config.units[:1]
    kept = Store(store or default_path())
    problems: list[str] = []
    with Farm(workers, scheduler) as farm:
        for hardware, names in EVERY if every else ((config, chosen),):
            setup = Setup(hardware, MemoryModel(latency=latency))
            with progress() as bar:
                bench = Bench(setup, farm, kept, progress=Tasks(bar))
                if checking:
                    reasons = check(bench, names)
                    problems += reasons
                    table_name = keys_of(bench.cores(names))
                    console.print(f"{table_name}: {'stale' if reasons else 'holds'}", soft_wrap=True)
                    continue
                began = time.monotonic()
                table = calibrate(bench, names, budget)
            path = write_table(table, bench, names)
            console.print(coefficient_table(table))
            console.print(errors_table(table))
            seconds = time.monotonic() - began
            console.print(f"wrote {path}, in {seconds:,.0f} s\n", markup=False, soft_wrap=True)
    for line in problems:
        errors.print(line, markup=False)
    if problems:
        raise typer.Exit(FAILED)


def coefficient_table(table: CostTable) -> Table:
    """Return a table's coefficients with their confidence intervals."""
    title = f"{table.cores}: coefficients, cycles"
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("phase", "value", "95 % confidence", "per"):
        shown.add_column(name, justify="right" if name in ("value", "95 % confidence") else "left")
    for phase, value, (low, high) in zip(PHASES, table.coefficients, table.confidence, strict=True):
        if low == low:  # fitted
            shown.add_row(phase.name, f"{value:.2f}", f"{low:.2f} to {high:.2f}", phase.meaning)
    return shown


def errors_table(table: CostTable) -> Table:
    """Return how far a table's predictions were from the measurements."""
    shown = Table(title=f"{table.cores}: errors", title_justify="left", box=None, pad_edge=False)
    shown.add_column("set")
    names = [item.name for item in fields(Errors)]
    for name in names:
        shown.add_column(name.replace("_percent", " %").replace("_", " "), justify="right")
    for name, set_errors in table.errors.items():
        shown.add_row(name.replace("_", " "), *(f"{getattr(set_errors, item):.3g}" for item in names))
    return shown


def predict(
    model: Annotated[Path | None, typer.Argument(help="network: .tflite or network file")] = None,
    shapes: Annotated[Path | None, typer.Option(help="file of shapes (.yaml) instead")] = None,
    system: SystemName = SYSTEM,
    unit: Unit = None,
    mapping: Annotated[Path | None, typer.Option(help="MAP.yaml: which unit makes which channels")] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", help="input (.npy) whose values the energy is of; default: random"),
    ] = None,
    settings: Setting = [],  # noqa: B006  # as above
    phases: Annotated[bool, typer.Option(help="print what the cycles are made of")] = True,
) -> None:
    """Predict cycles and energy of layers, or of a network with a mapping: nothing is built or simulated.

    Energy is printed where the units have energy tables; a network's with the statistics of its weights and
    of the activations of one input, which the golden model makes.
    """
    if (model is None) == (shapes is None):
        raise NpuloopError("give a network or --shapes FILE, one of them")
    if shapes is not None and mapping is not None:
        raise NpuloopError("--mapping belongs to a network; a shape has a split")
    config = system_of(system, settings)
    chosen = unit_of(config, unit)
    costs = CostModel(config)
    if shapes is not None:
        predictions = [(shape, costs.layer(shape, chosen)) for shape in load_shapes(shapes)]
        energies, reason = energy_model(config)
        console.print(layers_table(predictions, chosen, config, energies))
        if reason:
            console.print(f"\n{reason}", markup=False, soft_wrap=True)
        return
    assert model is not None
    if mapping is not None and unit is not None:
        raise NpuloopError("give --unit or --mapping, one of them")
    assignment = load_assignment(mapping) if mapping else Assignment(chosen, source="--unit")
    compiled = compile_network(load_model(model), config, assignment)
    result = costs.program(compiled.program)
    console.print(ends_table(result))
    if phases:
        console.print(phases_table(result))
    energies, reason = energy_model(config)
    if energies:
        source = read_inputs(compiled.network, input_file, seed=1)[0]
        statistics = network_statistics(compiled, source)
        energy = energies.program_energy(compiled.program, result.cycles, result.ends, statistics)
        console.print()
        console.print(energy_table(energy, compiled.network.name))
        reason = summary(energies, energy)
    console.print(f"\n{reason}", markup=False, soft_wrap=True)
    console.print(
        f"\n{compiled.network.name}: {result.cycles:,.0f} cycles, "
        f"90 % interval {result.low:,.0f} to {result.high:,.0f}"
    )


def layers_table(
    predictions: Sequence[tuple[Shape, Prediction]],
    unit: str,
    config: System,
    energies: EnergyModel | None = None,
) -> Table:
    """Return the predictions of layers, with their energies if there is a model of them."""
    spent = [energies.layer(shape, unit).value_pj for shape, _ in predictions] if energies else []
    size, scale = scale_of(max(spent, default=0.0))
    heading = [f"energy, {scale}"] if energies else []
    shown = Table(box=None, pad_edge=False)
    numbers = ("cycles", "from", "to", "MACs", *heading)
    for name in ("shape", "operator", "unit", *numbers, "calibrated", "most cycles"):
        shown.add_column(name, justify="right" if name in numbers else "left")
    for place, (shape, item) in enumerate(predictions):
        phases = [(value, name) for terms in item.terms.values() for name, value in terms.items()]
        largest = sorted(phases, reverse=True)[:2]
        energy = [f"{spent[place] / size:,.1f}"] if spent else []
        most = ", ".join(f"{name.removesuffix('_cycles')} {value:,.0f}" for value, name in largest)
        shown.add_row(
            shape.name, shape.op, "+".join(units_of(shape, unit, config)),
            f"{item.cycles:,.0f}", f"{item.low:,.0f}", f"{item.high:,.0f}", f"{shape.macs:,}",
            *energy, "yes" if item.inside else "[yellow]no[/]", most,
        )  # fmt: skip
    return shown


def ends_table(result: Prediction) -> Table:
    """Return when each unit has finished each layer."""
    shown = Table(box=None, pad_edge=False)
    for name in ("layer", "unit", "complete at", "cycles"):
        shown.add_column(name, justify="right" if name in ("complete at", "cycles") else "left")
    before: dict[str, float] = {}
    for (layer, unit), end in sorted(result.ends.items(), key=lambda item: item[1]):
        shown.add_row(layer, unit, f"{end:,.0f}", f"{end - before.get(unit, 0.0):,.0f}")
        before[unit] = end
    return shown


def phases_table(result: Prediction) -> Table:
    """Return the phases that the cycles are made of: their sum is the total."""
    shown = Table(title="what the cycles are made of", title_justify="left", box=None, pad_edge=False)
    shown.add_column("phase")
    for unit in result.terms:
        shown.add_column(unit, justify="right")
    shown.add_column("meaning")
    for phase in PHASES:
        cells = [terms[phase.name] for terms in result.terms.values()]
        if any(cells):
            shown.add_row(phase.name, *(f"{value:,.0f}" for value in cells), phase.meaning)
    return shown
