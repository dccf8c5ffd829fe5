# SPDX-License-Identifier: Apache-2.0
"""What `npuloop synth`, `characterize-energy` and `characterize-cells` print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from gates.cells.validation import Comparison
from mapping.characterization.area_family import AreaCalibration
from mapping.characterization.energy import ValidationWindow
from mapping.characterization.replays import BOUNDS
from mapping.energy.tables import EnergyTable


def area_table(library: str, units: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the areas of some units as a table."""
    table = Table(
        title=f"Area in cells of {library}, memories of CACTI 7 and of open macros, mm²; no clock tree",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    table.add_column("unit", no_wrap=True)
    for name in (
        "array", "other cells", "CACTI 7", "unit", "open macros", "unit", "array / first's",
        "units in first's area", "MHz", "with wires",
    ):  # fmt: skip
        table.add_column(name, justify="right", vertical="bottom")
    table.add_column("slowest block")
    for name, unit in units.items():
        table.add_row(
            name, _mm2(unit["array_area_um2"]), _mm2(unit["rest_area_um2"]), _mm2(unit["memory_area_um2"]),
            _mm2(unit["unit_area_um2"]), *_open(unit),
            f"{unit['array_per_reference_array']:.2f}", f"{unit['units_per_reference_area']:.2f}",
            f"{unit['max_frequency_mhz']:.0f}", f"{unit['max_frequency_wired_mhz']:.0f}",
            unit["critical_path"]["block"],
        )  # fmt: skip
    gated = ", ".join(
        f"{name} {unit['gated_flops']:,} of {unit['flops']:,}, {unit['clock_gates']} gates"
        for name, unit in units.items()
    )
    table.caption = f"registers behind clock gates: {gated}"
    table.caption_justify = "left"
    return table


def area_errors_table(found: AreaCalibration) -> Table:
    """Return how far the area model is from cores that it was not fitted to."""
    shown = Table(
        title=f"cores that the area model did not see, in cells of {found.model.library}; errors in percent",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    for name in ("core", "area, mm²", "area", "MHz", "MHz with wires"):
        shown.add_column(name, justify="left" if name == "core" else "right")
    for item in found.held_out:
        errors = (item.area, item.max_mhz, item.max_mhz_wired)
        shown.add_row(item.core.key, _mm2(item.area_um2), *(f"{100 * error:+.1f}" for error in errors))
    return shown


def area_errors_summary(found: AreaCalibration) -> str:
    """Return what there is to say of the area model in a line."""
    unseen = [100 * abs(item.area) for item in found.held_out]
    clocks = [100 * abs(item.max_mhz) for item in found.held_out]
    half = 100 * found.model.interval_90["area"]
    return (
        f"{len(found.fit)} cores in the fit; of {len(unseen)} others the area is off by "
        f"{sum(unseen) / len(unseen):.1f} % on average and {max(unseen):.1f} % at most, the frequency by "
        f"{sum(clocks) / len(clocks):.1f} and {max(clocks):.1f} %; 90 % interval ± {half:.1f} %, which holds "
        f"for {found.covered} of them"
    )


def _open(unit: Mapping[str, Any]) -> tuple[str, str]:
    """Return the area of the memories as open macros, and that of the unit with them."""
    if "open_memories_um2" not in unit:
        return "-", "-"
    macros = sum(unit["open_memories_um2"].values())
    return _mm2(macros), _mm2(unit["unit_area_um2"] - unit["memory_area_um2"] + macros)


def _mm2(um2: float) -> str:
    return f"{um2 / 1e6:.3f}"


def validation_table(core: str, windows: Sequence[ValidationWindow]) -> Table:
    """Return what the gates and the model say of the validation windows."""
    table = Table(
        title=f"{core}: a column with its accumulator and requantiser lane, pJ a cycle",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    for name in ("network", "layer"):
        table.add_column(name)
    for name in ("column", *(f"gates, {bound}" for bound in BOUNDS), "model", "error"):
        table.add_column(name, justify="right")
    for window in windows:
        measured = [f"{value / window.cycles:.2f}" for value in window.measured_pj]
        modelled = f"{window.modelled_pj[1] / window.cycles:.2f}"
        error = f"{100 * window.error:+.1f} %"
        table.add_row(window.network, window.layer, str(window.column), *measured, modelled, error)
    return table


def validation_summary(table: EnergyTable) -> str:
    """Return one line: how far the model is from the gates on windows that the fit did not see."""
    errors = table.errors
    return (
        f"{errors['validation_windows']} windows that the fit did not see: {errors['mean_percent']} % on "
        f"average, {errors['max_percent']} % at most, bias {errors['bias_percent']:+} %"
    )


def cells_table(comparisons: Iterable[Comparison]) -> Table:
    """Return figures of our cells beside published ones."""
    table = Table(title="Beside published cells", title_justify="left", box=None, pad_edge=False)
    for name in ("cell", "quantity", "ours", "published", "error"):
        table.add_column(name, justify="left" if name in ("cell", "quantity") else "right")
    for item in comparisons:
        table.add_row(
            item.cell, item.quantity, f"{item.ours:.4g} {item.unit}", f"{item.published:.4g}",
            f"{100 * item.error:+.1f} %",
        )  # fmt: skip
    return table
