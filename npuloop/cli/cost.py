# SPDX-License-Identifier: Apache-2.0
"""The sub-commands of the cost model: calibrate and predict."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import NpuloopError
from common.files import check_output_folder, write_json
from hw.memory import MemoryModel
from npuloop.cli.console import FAILED, Tasks, console, errors, progress
from npuloop.cli.options import (
    SYSTEM,
    Latency,
    Scheduler,
    Setting,
    StoreFile,
    SystemName,
    TlsAuthority,
    TlsCertificate,
    TlsKey,
    Unit,
    Workers,
    system_of,
    tls_files,
    unit_of,
    written_file,
)

if TYPE_CHECKING:
    from mapping.calibration.farm import Farm
    from mapping.calibration.store import Store


def calibrate_units(
    system: SystemName = SYSTEM,
    units: Annotated[
        list[str] | None,
        typer.Option("--unit", help="unit of the system; default: its first; several: at the same time"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="all tables of units in this repository")] = False,
    family: Annotated[
        bool, typer.Option("--family", help="the table of all cores that have none of their own")
    ] = False,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    budget: Annotated[
        int | None,
        typer.Option(help="measurements in the fit of a unit, several together take half; default: 160"),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    tls_ca: TlsAuthority = None,
    tls_cert: TlsCertificate = None,
    tls_key: TlsKey = None,
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
    from mapping.calibration.calibrate import BUDGET, EVERY, Bench, calibrate, check, write_table
    from mapping.calibration.farm import Farm
    from mapping.calibration.measurement import Setup
    from mapping.calibration.store import Store, default_path
    from mapping.cost.tables import FOLDER, keys_of
    from mapping.report.cost_console import coefficient_table, errors_table

    if (every or family) and (units or settings or system != SYSTEM):
        option = "--all" if every else "--family"
        raise NpuloopError(f"{option} says which systems; leave out --system, --unit and --set, or {option}")
    if family and (every or checking or budget is not None or latency != MemoryModel.latency):
        raise NpuloopError("--family makes one table; leave out --all, --check, --budget and --latency")
    config = system_of(system, settings)
    chosen = tuple(sorted(set(units), key=config.index)) if units else config.units[:1]
    if not checking:
        check_output_folder(FOLDER)
    kept = Store(store or default_path())
    problems: list[str] = []
    with Farm(workers, scheduler, tls=tls_files(tls_ca, tls_cert, tls_key)) as farm:
        if family:
            _calibrate_family(farm, kept)
            return
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
                table = calibrate(bench, names, BUDGET if budget is None else budget)
            path = write_table(table, bench, names)
            console.print(coefficient_table(table))
            console.print(errors_table(table))
            seconds = time.monotonic() - began
            console.print(f"wrote {path}, in {seconds:,.0f} s\n", markup=False, soft_wrap=True)
    for line in problems:
        errors.print(line, markup=False)
    if problems:
        raise typer.Exit(FAILED)


def _calibrate_family(farm: Farm, kept: Store) -> None:
    """Measure the systems of the family, fit, print what the table is worth, and write it."""
    from mapping.calibration.family import FamilyBench, calibrate_family, write_family
    from mapping.report.cost_console import coefficient_table, errors_table, systems_table

    began = time.monotonic()
    with progress() as bar:
        found = calibrate_family(FamilyBench(farm, kept, Tasks(bar)))
    path = write_family(found)
    console.print(coefficient_table(found.table))
    console.print(systems_table(found))
    console.print(errors_table(found.table))
    console.print(f"wrote {path}, in {time.monotonic() - began:,.0f} s\n", markup=False, soft_wrap=True)


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
    json_file: Annotated[Path | None, written_file("--json", what="file for cycles and energy")] = None,
) -> None:
    """Predict cycles and energy of layers, or of a network with a mapping: nothing is built or simulated.

    Energy is printed where the units have energy tables; a network's with the statistics of its weights and
    of the activations of one input, which the golden model makes.
    """
    from golden.importers.inputs import first_input, random_input, read_inputs
    from golden.importers.models import load_model
    from mapping.compiler.assignment import Assignment, load_assignment
    from mapping.cost.model import CostModel
    from mapping.cost.shapes import load_shapes
    from mapping.energy.statistics import network_statistics
    from mapping.report.cost_console import ends_table, layers_table, phases_table
    from mapping.report.energy_console import energy_model, energy_table, summary
    from mapping.report.prediction_document import network_document, shapes_document
    from mapping.run.networks import compile_network

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
        if json_file:
            write_json(json_file, shapes_document(predictions, chosen, config, energies, reason))
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
    energy = None
    if energies:
        network = compiled.network
        batch = read_inputs(network, input_file) if input_file else random_input(network, seed=1)
        statistics = network_statistics(compiled, first_input(batch))
        energy = energies.program_energy(compiled.program, result.cycles, result.ends, statistics)
        console.print()
        console.print(energy_table(energy, compiled.network.name))
        reason = summary(energies, energy)
    console.print(f"\n{reason}", markup=False, soft_wrap=True)
    console.print(
        f"\n{compiled.network.name}: {result.cycles:,.0f} cycles, "
        f"90 % interval {result.low:,.0f} to {result.high:,.0f}, {result.basis}"
    )
    if json_file:
        write_json(json_file, network_document(compiled.network.name, config, result, energy, reason))
