# SPDX-License-Identifier: Apache-2.0
"""What `npuloop measure` prints and writes: measured cycles beside those of the cost model."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

from rich.table import Table
from rich.text import Text

from mapping.calibration.farm import Job
from mapping.calibration.measurement import Measurement, Setup
from mapping.cost.model import CostModel, Prediction, units_of
from mapping.cost.shapes import Shape
from mapping.cost.tables import TableError, memory_settings

Predict = Callable[[Shape, str], Prediction]
"""What predicts a shape on a unit; a shape with a split names its own units."""


@dataclass(frozen=True)
class Row:
    """One line of the result; fields without a prediction are None."""

    name: str
    op: str
    unit: str
    measured_cycles: int
    predicted_cycles: int | None
    error_percent: float | None
    low_cycles: int | None
    high_cycles: int | None
    utilisation_percent: float
    inside_calibrated_range: bool | None


def predictor(setup: Setup, jobs: Iterable[Job]) -> tuple[Predict | None, str]:
    """Return what predicts the jobs' cycles; or None, and why there are no predictions."""
    costs = CostModel(setup.config)
    try:
        for units in {units_of(shape, unit, setup.config) for shape, unit in jobs}:
            for names in {units, *((unit,) for unit in units)}:
                if costs.table(*names).memory != memory_settings(setup.memory):
                    return None, "the cost table was calibrated with other settings of the memory"
    except TableError as error:
        return None, str(error)
    return costs.layer, ""


def rows_of(measurements: Iterable[Measurement], predict: Predict | None = None) -> list[Row]:
    """Return a row for every measurement, beside its prediction where there is a cost model."""
    return [_row(item, predict(item.shape, item.unit) if predict else None) for item in measurements]


def _row(item: Measurement, prediction: Prediction | None) -> Row:
    return Row(
        name=item.shape.name,
        op=item.shape.op,
        unit=item.unit,
        measured_cycles=item.cycles,
        predicted_cycles=round(prediction.cycles) if prediction else None,
        error_percent=100 * (prediction.cycles / item.cycles - 1) if prediction else None,
        low_cycles=round(prediction.low) if prediction else None,
        high_cycles=round(prediction.high) if prediction else None,
        utilisation_percent=100 * item.utilisation,
        inside_calibrated_range=prediction.inside if prediction else None,
    )


def csv_text(rows: Iterable[Row]) -> str:
    """Return the rows as CSV with a header; a field that is None stays empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = [field.name for field in fields(Row)]
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in names])
    return file.getvalue()


def _cell(value: str | float | bool | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def rows_table(rows: Iterable[Row]) -> Table:
    """Return the rows as a table."""
    table = Table(box=None, pad_edge=False)
    numbers = ("cycles", "predicted", "error", "from", "to", "utilisation")
    for name in ("shape", "operator", "unit", *numbers, "calibrated"):
        table.add_column(name, justify="right" if name in numbers else "left")
    for row in rows:
        bounds = (row.predicted_cycles, row.low_cycles, row.high_cycles)
        predicted, low, high = ("-" if value is None else f"{value:,}" for value in bounds)
        within = row.inside_calibrated_range
        calibrated = Text("outside", style="red") if within is False else "inside" if within else "-"
        table.add_row(
            row.name, row.op, row.unit, f"{row.measured_cycles:,}", predicted,
            "-" if row.error_percent is None else f"{row.error_percent:+.1f} %", low, high,
            f"{row.utilisation_percent:.1f} %",
            calibrated,
        )  # fmt: skip
    return table


def summary(rows: Iterable[Row]) -> str:
    """Return one line: how many shapes, all their cycles, and how far off the predictions are."""
    every = list(rows)
    line = f"{len(every)} shapes measured, {sum(row.measured_cycles for row in every):,} cycles"
    errors = {row.name: row.error_percent for row in every if row.error_percent is not None}
    if not errors:
        return f"{line}; no cost model to compare them with"
    worst = max(errors, key=lambda name: abs(errors[name]))
    mean = sum(abs(error) for error in errors.values()) / len(errors)
    return f"{line}; mean absolute error {mean:.2f} %, worst {errors[worst]:+.2f} % ({worst})"
