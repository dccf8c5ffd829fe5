# SPDX-License-Identifier: Apache-2.0
"""The sub-commands that show how good the cost model is: report and compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from common.files import write_atomically
from common.paths import build_root
from hw.memory import MemoryModel
from hw.system import PRESETS, System
from npuloop.cli.console import Tasks, console, progress
from npuloop.cli.options import (
    SYSTEM,
    Setting,
    StoreFile,
    SystemName,
    Unit,
    Workers,
    system_of,
    unit_of,
    written_file,
)

Tables = Annotated[Path | None, typer.Option(help="folder of the cost tables; default: mapping/cost_tables")]


def report(
    system: SystemName = SYSTEM,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    out: Annotated[Path | None, written_file(what="file for the page; default: beside the builds")] = None,
    workers: Workers = None,
    store: StoreFile = None,
    tables: Tables = None,
) -> None:
    """Write one HTML page of how far the cost model is from cycles measured in RTL, with figures.

    It shows npu8, npu_lb with 2 and with 4 bits, and both at the same time; with --system or --set, every
    unit of that system, and all at the same time. Layers that the store lacks are measured. Area and energy
    are shown where their tables are beside the cost tables; what is missing is said.
    """
    from mapping.calibration.calibrate import EVERY, Bench
    from mapping.calibration.farm import Farm
    from mapping.calibration.measurement import Setup
    from mapping.calibration.store import Store, default_path
    from mapping.cost.tables import FOLDER, table_of
    from mapping.report.cycle_numbers import gather
    from mapping.report.cycles import page
    from mapping.report.energy_numbers import gather_energy
    from mapping.report.estimates import known_estimates

    config = system_of(system, settings)
    folder = tables or FOLDER
    hardware = EVERY if config == PRESETS[SYSTEM] else _with_tables(config)
    path = out or build_root() / "report.html"
    for shown, units in hardware:  # a table that is missing is said before anything runs
        table_of([shown.core(unit) for unit in units], shown, folder)
    kept = Store(store or default_path())
    with Farm(workers) as farm, progress() as bar:
        show = Tasks(bar)
        reports = [
            gather(Bench(Setup(shown), farm, kept, folder, show), units, known_estimates(show))
            for shown, units in hardware
        ]
    cores = [shown.core(unit) for shown, units in hardware for unit in units]
    energy = gather_energy(list(dict.fromkeys(cores)), config, folder)
    text = page(reports, energy)
    write_atomically(path, lambda file: file.write(text.encode()))
    for item in reports:
        for name, layers in item.sets.items():
            console.print(
                f"{item.title}: {name.replace('_', ' ')}: {layers.errors.points} layers, mean absolute error "
                f"{layers.errors.mape_percent:.2f} %, at most {layers.errors.max_percent:.2f} %",
                markup=False, soft_wrap=True,
            )  # fmt: skip
    for line in energy.missing:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"wrote {path}", markup=False, soft_wrap=True)


def _with_tables(config: System) -> Sequence[tuple[System, tuple[str, ...]]]:
    """Return every unit of a system, and all together if there are several."""
    together = [config.units] if len(config.units) > 1 else []
    return [(config, units) for units in [*((unit,) for unit in config.units), *together]]


def compare(
    shapes: Annotated[
        Path | None, typer.Option(help="file of shapes (.yaml); default: the layers of MLPerf Tiny")
    ] = None,
    system: SystemName = SYSTEM,
    unit: Unit = None,
    settings: Setting = [],  # noqa: B006  # as above
    out: Annotated[Path | None, written_file(what="file for the table (.csv)")] = None,
    workers: Workers = None,
    store: StoreFile = None,
    tables: Tables = None,
) -> None:
    """Compare measured cycles with ours and with estimates that no measurement has gone into.

    Those are MACs / peak, the roofline, and ZigZag where it is installed. Shapes with a split run on the
    units that it names.
    """
    import numpy as np

    from mapping.calibration.farm import Farm
    from mapping.calibration.measurement import Setup
    from mapping.calibration.store import Store, default_path
    from mapping.cost.model import CostModel
    from mapping.cost.shapes import load_shapes
    from mapping.cost.tables import FOLDER
    from mapping.report.cycle_comparison import Comparison, comparison_table, csv_text, summary, tiny_layers
    from mapping.report.estimates import GET_ZIGZAG, estimates, known_estimates

    config = system_of(system, settings)
    chosen = unit_of(config, unit)
    layers = load_shapes(shapes) if shapes else tiny_layers(config, chosen)
    model = CostModel(config, tables or FOLDER, MemoryModel())
    predicted = np.array([model.layer(shape, chosen).cycles for shape in layers])
    setup = Setup(config, MemoryModel())
    kept = Store(store or default_path())
    jobs = [(shape, chosen) for shape in layers]
    with Farm(workers) as farm, progress() as bar:
        show = Tasks(bar)
        each = farm.measure(setup, jobs, kept, lambda done, total: show("shapes", done, total))
        measurements = {item.shape.name: item for item in each}
        zigzag = known_estimates(show)
        guesses = estimates(layers, chosen, config, predicted, zigzag)
    comparison = Comparison(tuple(measurements[shape.name] for shape in layers), guesses)
    if out:
        text = csv_text(comparison)
        write_atomically(out, lambda file: file.write(text.encode()))
    console.print(comparison_table(comparison))
    console.print()
    for line in summary(comparison):
        console.print(line, markup=False, soft_wrap=True)
    if zigzag is None:
        console.print(GET_ZIGZAG, style="dim", markup=False, soft_wrap=True)
    if out:
        console.print(f"wrote {out}", markup=False, soft_wrap=True)
