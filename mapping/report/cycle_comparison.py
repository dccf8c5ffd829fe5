# SPDX-License-Identifier: Apache-2.0
"""What `npuloop compare` prints and writes: measured cycles beside the estimates of each method."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace

from rich.table import Table

from common.arrays import Floats
from hw.system import System
from mapping.calibration.design import runs
from mapping.calibration.measurement import Measurement
from mapping.cost.real_networks import real_networks
from mapping.cost.shapes import Shape
from mapping.report.estimates import METHODS, OURS
from mapping.report.style import signed

TINY = ("resnet8", "ds_cnn", "mobilenet_v1", "autoencoder")
"""MLPerf Tiny: what `compare` runs without --shapes."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Measured layers beside the estimates of each method.

    Attributes:
        measurements: (N) measurements.
        estimates: for each of METHODS that is there, (N,) cycles; NaN where it has none.
    """

    measurements: tuple[Measurement, ...]
    estimates: dict[str, Floats]

    def errors(self, method: str) -> list[float | None]:
        """Return the errors of a method in percent; None where it has no estimate."""
        cycles = self.estimates[method].tolist()
        return [
            100 * (value / item.cycles - 1) if value == value else None
            for item, value in zip(self.measurements, cycles, strict=True)
        ]


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
        table.add_row(item.shape.name, item.unit, f"{item.cycles:,}", *cells)
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
