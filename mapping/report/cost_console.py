# SPDX-License-Identifier: Apache-2.0
"""What `npuloop calibrate` and `npuloop predict` print of cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from rich.table import Table
from rich.text import Text

from hw.system import System
from mapping.calibration.family import FamilyCalibration
from mapping.cost.coefficients import PHASES
from mapping.cost.model import Prediction, units_of
from mapping.cost.shapes import Shape
from mapping.cost.tables import CostTable, Errors
from mapping.energy.model import EnergyModel
from mapping.report.energy_console import scale_of


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


def systems_table(found: FamilyCalibration) -> Table:
    """Return the errors on each system that the fit of a family did not see."""
    shown = Table(title="systems that the fit did not see", title_justify="left", box=None, pad_edge=False)
    numbers = ("port", "layers", "mean %", "largest %", "networks", "mean % ", "largest % ")
    for name in ("units", *numbers):
        shown.add_column(name, justify="right" if name in numbers else "left")
    for (system, layers), (_, networks) in zip(found.layers, found.networks, strict=True):
        cells = [
            cell
            for errors in (layers, networks)
            for cell in (f"{errors.points}", f"{errors.mape_percent:.2f}", f"{errors.max_percent:.2f}")
        ]
        shown.add_row(" ".join(core.key for core in system.cores), f"{system.axi_bits}", *cells)
    return shown


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
    for name in ("shape", "operator", "unit", *numbers, "unit is", "calibrated", "most cycles"):
        shown.add_column(name, justify="right" if name in numbers else "left")
    for place, (shape, item) in enumerate(predictions):
        phases = [(value, name) for terms in item.terms.values() for name, value in terms.items()]
        largest = sorted(phases, reverse=True)[:2]
        energy = [f"{spent[place] / size:,.1f}"] if spent else []
        most = ", ".join(f"{name.removesuffix('_cycles')} {value:,.0f}" for value, name in largest)
        shown.add_row(
            shape.name, shape.op, "+".join(units_of(shape, unit, config)),
            f"{item.cycles:,.0f}", f"{item.low:,.0f}", f"{item.high:,.0f}", f"{shape.macs:,}",
            *energy, item.basis, "yes" if item.inside else Text("no", style="yellow"), most,
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
