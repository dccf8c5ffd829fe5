# SPDX-License-Identifier: Apache-2.0
"""What `npuloop predict` and `npuloop run` print and write about energy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from hw.system import System
from mapping.cost.tables import FOLDER
from mapping.energy.model import LOWER, UPPER, VALUE, Breakdown, EnergyModel, NetworkEnergy
from mapping.energy.tables import GROUPS, METHODS, EnergyTableError

UNITS = ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))


def energy_model(config: System, folder: Path = FOLDER) -> tuple[EnergyModel | None, str]:
    """Return the energy model of a system; without one, None and the reason in one line."""
    try:
        return EnergyModel(config, folder), ""
    except EnergyTableError as error:
        return None, f"no energy: {error}"


def scale_of(pj: float) -> tuple[float, str]:
    """Return a unit for an energy: pJ in it, and its name; the number then is 10 or more."""
    return next(((size, name) for size, name in UNITS if pj >= 10 * size), UNITS[-1])


def energy_table(network: NetworkEnergy, name: str) -> Table:
    """Return the energy of each layer, of each unit and of all, by part of the hardware."""
    size, unit = scale_of(network.value_pj)
    table = Table(title=f"{name}: energy, {unit}", title_justify="left", box=None, pad_edge=False)
    table.add_column("layer", no_wrap=True)
    for heading in ("energy", *(group.replace("_", " ") for group in GROUPS)):
        table.add_column(heading, justify="right", vertical="bottom")

    def row(what: str, breakdown: Breakdown, bound: int = VALUE, style: str = "") -> None:
        values = [breakdown.groups[group][bound] for group in GROUPS]
        table.add_row(what, *(f"{value / size:,.1f}" for value in (sum(values), *values)), style=style)

    for layer, breakdown in network.layers.items():
        row(layer, breakdown)
    table.add_section()
    for unit_name, breakdown in network.units.items():
        row(f"on {unit_name}", breakdown)
    table.add_section()
    row("all", network.total, style="bold")
    whole = network.value_pj or 1.0
    shares = (f"{network.total.groups[group][VALUE] / whole:.0%}" for group in GROUPS)
    table.add_row("share", "", *shares)
    row("lower bound", network.total, LOWER, "dim")
    row("upper bound", network.total, UPPER, "dim")
    return table


def summary(model: EnergyModel, network: NetworkEnergy) -> str:
    """Return one line: the energy, its bounds, the mean power, and what the figures rest on."""
    size, unit = scale_of(network.value_pj)
    low, value, high = (
        pj / size for pj in (network.total.lower_pj, network.value_pj, network.total.upper_pj)
    )
    table = next(iter(model.tables.values()))
    used = {energy.method for energy in table.energies.values()}
    methods = ", ".join(method for method in METHODS if method in used)
    return (
        f"{value:,.1f} {unit} ({low:,.1f} without glitches, {high:,.1f} with the load of wires), "
        f"{network.power_mw:,.1f} mW at {1000 / network.period_ns:,.0f} MHz; "
        f"cells of {table.library['name']}; {methods}"
    )


def energy_report(network: NetworkEnergy) -> dict[str, Any]:
    """Return energies as plain data, pJ."""

    def parts(breakdown: Breakdown) -> dict[str, Any]:
        return {
            "lower_pj": breakdown.lower_pj,
            "value_pj": breakdown.value_pj,
            "upper_pj": breakdown.upper_pj,
            "parts_pj": {group: breakdown.groups[group][VALUE] for group in GROUPS},
        }

    def each(breakdowns: Mapping[str, Breakdown]) -> dict[str, Any]:
        return {name: parts(breakdown) for name, breakdown in breakdowns.items()}

    return parts(network.total) | {
        "period_ns": network.period_ns,
        "power_mw": network.power_mw,
        "layers": each(network.layers),
        "units": each(network.units),
    }
