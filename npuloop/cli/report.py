"""The sub-commands that show how good the cost model is: report and compare."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from common.files import write_atomically
from common.paths import build_root
from hw.memory import MemoryModel
from hw.system import PRESETS, System
from mapping.calibration.calibrate import EVERY, Bench
from mapping.calibration.design import runs
from mapping.calibration.farm import Farm
from mapping.calibration.measurement import Measurement, Setup
from mapping.calibration.store import Store, default_path
from mapping.cost.baselines import zigzag_version
from mapping.cost.model import CostModel
from mapping.cost.real_networks import real_networks
from mapping.cost.shapes import Shape, load_shapes
from mapping.cost.tables import FOLDER
from mapping.report.cycle_numbers import gather
from mapping.report.cycles import page
from mapping.report.energy_numbers import gather_energy
from mapping.report.estimates import GET_ZIGZAG, METHODS, OURS, Estimate, KnownEstimates, estimates
from mapping.report.style import signed
from npuloop.cli.console import Tasks, console, progress
from npuloop.cli.options import SYSTEM, Setting, StoreFile, SystemName, Unit, Workers, system_of, unit_of

TINY = ("resnet8", "ds_cnn", "mobilenet_v1", "autoencoder")
"""MLPerf Tiny: what `compare` runs without --shapes."""


def _zigzag(show: Tasks) -> Estimate | None:
    return KnownEstimates(build_root() / "zigzag.json", show) if zigzag_version() else None


def report(
    system: SystemName = SYSTEM,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    out: Annotated[Path | None, typer.Option(help="file for the page; default: beside the builds")] = None,
    workers: Workers = None,
    store: StoreFile = None,
    tables: Annotated[Path, typer.Option(help="folder of the cost tables")] = FOLDER,
) -> None:
    """Write one HTML page of how far the cost model is from cycles measured in RTL, with figures.

    It shows npu8, npu_lb with 2 and with 4 bits, and both at the same time; with --system or --set, every
    unit of that system, and all at the same time. Layers that the store lacks are measured. Area and energy
    are shown where their tables are beside the cost tables; what is missing is said.
    """
    config = system_of(system, settings)
    hardware = EVERY if config == PRESETS[SYSTEM] else _with_tables(config)
    path = out or build_root() / "report.html"
    for shown, units in hardware:  # a table that is missing is said before anything runs
        CostModel(shown, tables).table(*units)
    kept = Store(store or default_path())
    with Farm(workers) as farm, progress() as bar:
        show = Tasks(bar)
        reports = [
            gather(Bench(Setup(shown), farm, kept, tables, show), units, _zigzag(show))
            for shown, units in hardware
        ]
    cores = [shown.core(unit) for shown, units in hardware for unit in units]
    energy = gather_energy(list(dict.fromkeys(cores)), config, tables)
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


# ------------------------------------------------------------------------------------------------ compare
@dataclass(frozen=True, eq=False)
class Comparison:
    """Measured layers beside the estimates of each method.

    Attributes:
        measurements: (N) measurements.
        estimates: for each of METHODS that is there, (N,) cycles; NaN where it has none.
    """

    measurements: tuple[Measurement, ...]
    estimates: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]

    def errors(self, method: str) -> list[float | None]:
        """Return the errors of a method in percent; None where it has no estimate."""
        cycles = self.estimates[method].tolist()
        return [
            100 * (value / item.cycles - 1) if value == value else None
            for item, value in zip(self.measurements, cycles, strict=True)
        ]


def compare(
    shapes: Annotated[
        Path | None, typer.Option(help="file of shapes (.yaml); default: the layers of MLPerf Tiny")
    ] = None,
    system: SystemName = SYSTEM,
    unit: Unit = None,
    settings: Setting = [],  # noqa: B006  # as above
    out: Annotated[Path | None, typer.Option(help="file for the table (.csv)")] = None,
    workers: Workers = None,
    store: StoreFile = None,
    tables: Annotated[Path, typer.Option(help="folder of the cost tables")] = FOLDER,
) -> None:
    """Compare measured cycles with ours and with estimates that no measurement has gone into.

    Those are MACs / peak, the roofline, and ZigZag where it is installed. Shapes with a split run on the
    units that it names.
    """
    config = system_of(system, settings)
    chosen = unit_of(config, unit)
    layers = load_shapes(shapes) if shapes else tiny_layers(config, chosen)
    model = CostModel(config, tables, MemoryModel())
    predicted = np.array([model.layer(shape, chosen).cycles for shape in layers])
    setup = Setup(config, MemoryModel())
    kept = Store(store or default_path())
    jobs = [(shape, chosen) for shape in layers]
    with Farm(workers) as farm, progress() as bar:
        show = Tasks(bar)
        each = farm.measure(setup, jobs, kept, lambda done, total: show("shapes", done, total))
        measurements = {item.shape.name: item for item in each}
        guesses = estimates(layers, chosen, config, predicted, _zigzag(show))
    comparison = Comparison(tuple(measurements[shape.name] for shape in layers), guesses)
    if out:
        text = csv_text(comparison)
        write_atomically(out, lambda file: file.write(text.encode()))
    console.print(comparison_table(comparison))
    console.print()
    for line in summary(comparison):
        console.print(line, markup=False, soft_wrap=True)
    if zigzag_version() is None:
        console.print(GET_ZIGZAG, style="dim", markup=False, soft_wrap=True)
    if out:
        console.print(f"wrote {out}", markup=False, soft_wrap=True)


def tiny_layers(config: System, unit: str) -> list[Shape]:
    """Return the distinct layers of MLPerf Tiny's networks that a unit can run, named network/layer."""
    layers: dict[str, Shape] = {}
    networks = real_networks()
    for network in TINY:
        for shape in networks[network]:
            layers.setdefault(shape.key, replace(shape, name=f"{network}/{shape.name}"))
    return [shape for shape in layers.values() if runs(config, shape, unit)]


def _order(comparison: Comparison) -> list[str]:
    """Return the methods, ours first."""
    return [OURS, *(name for name in comparison.estimates if name != OURS)]


def csv_text(comparison: Comparison) -> str:
    """Return a comparison as CSV with a header; what a method has no estimate of stays empty."""
    methods = _order(comparison)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ["name", "op", "unit", "measured_cycles"]
    writer.writerow([*head, *(f"{name}_{what}" for name in methods for what in ("cycles", "error_percent"))])
    errors = {name: comparison.errors(name) for name in methods}
    for i, item in enumerate(comparison.measurements):
        row = [item.shape.name, item.shape.op, item.unit, str(item.cycles)]
        for name in methods:
            error = errors[name][i]
            row += ["", ""] if error is None else [f"{comparison.estimates[name][i]:.0f}", _plain(error)]
        writer.writerow(row)
    return file.getvalue()


def _plain(error: float) -> str:
    return f"{round(error, 2) + 0.0:.2f}"  # never -0.00


def comparison_table(comparison: Comparison) -> Table:
    """Return a comparison as a table."""
    methods = _order(comparison)
    table = Table(box=None, pad_edge=False)
    table.add_column("shape", overflow="fold")
    table.add_column("unit", no_wrap=True)
    for head in ("measured", *(head for name in methods for head in (METHODS[name], "error"))):
        table.add_column(head, justify="right", no_wrap=True)
    errors = {name: comparison.errors(name) for name in methods}
    for i, item in enumerate(comparison.measurements):
        cells = []
        for name in methods:
            error = errors[name][i]
            value = comparison.estimates[name][i]
            cells += ["-", "-"] if error is None else [f"{value:,.0f}", f"{signed(error, 1)} %"]
        table.add_row(escape(item.shape.name), item.unit, f"{item.cycles:,}", *cells)
    return table


def summary(comparison: Comparison) -> list[str]:
    """Return a line for each method: mean and largest absolute error, and the layer that has it."""
    lines = []
    for name in _order(comparison):
        pairs = zip(comparison.measurements, comparison.errors(name), strict=True)
        known = [(error, item.shape.name) for item, error in pairs if error is not None]
        if not known:
            lines.append(f"{METHODS[name]}: no estimate of these layers")
            continue
        worst, where = max(known, key=lambda pair: abs(pair[0]))
        mean = sum(abs(error) for error, _ in known) / len(known)
        lines.append(
            f"{METHODS[name]}: mean absolute error {mean:.2f} %, largest {signed(worst, 2)} % ({where}), "
            f"{len(known)} of {len(comparison.measurements)} layers"
        )
    return lines
