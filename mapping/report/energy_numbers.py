# SPDX-License-Identifier: Apache-2.0
"""What the page shows of energy and area: what the tables say, and of a real network's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.arrays import Array
from common.errors import NpuloopError
from golden.network import Network
from hw.core import CoreConfig
from hw.sources import rtl_hash
from hw.system import System
from mapping.characterization.area import FILE as AREA_FILE, AreaError, read_area
from mapping.characterization.recording import real_input, real_network
from mapping.compiler.assignment import Assignment
from mapping.cost.model import CostModel
from mapping.cost.tables import FOLDER
from mapping.energy.model import EnergyModel, NetworkEnergy
from mapping.energy.statistics import network_statistics
from mapping.energy.tables import REMEDY, EnergyTable, EnergyTableError, energy_path, load_energy_table
from mapping.report import energy_plots as plots
from mapping.report.energy_plots import VALUE, MacEnergy, UnitBar, Validation
from mapping.run.networks import compile_network

NETWORK, NETWORK_TITLE = "resnet8", "ResNet8"
"""The network whose layers are shown, as in `mapping.characterization.recording.MODELS`."""
IMAGE = 0
AREA_REMEDY = "make it with `npuloop synth`"
ZERO_SHARES = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True, eq=False)
class UnitEnergy:
    """What is shown of a unit.

    Attributes:
        title: the unit, its widths and its shape.
        table: its energy table.
        validation: windows of the table; None where it keeps none.
        network: what the network takes on the unit, alone in its system; None where that is not known.
        current: whether the RTL is that of the table.
    """

    title: str
    table: EnergyTable
    validation: Validation | None
    network: NetworkEnergy | None
    current: bool

    @property
    def mac(self) -> MacEnergy:
        """What a MAC in the array takes."""
        return mac_energy(self.table, self.title, self.validation)


@dataclass(frozen=True, eq=False)
class EnergyReport:
    """What the section shows.

    Attributes:
        area: units by library.
        area_table: the table that they are from; None without one.
        area_current: whether the RTL is that of the table.
        units: those that have energy tables, by falling width of their weights.
        missing: what is not shown: a line of plain text each, which says how to get it.
    """

    area: Mapping[str, tuple[UnitBar, ...]]
    area_table: Mapping[str, Any] | None
    area_current: bool
    units: tuple[UnitEnergy, ...]
    missing: tuple[str, ...]


def gather_energy(cores: Sequence[CoreConfig], config: System, folder: Path = FOLDER) -> EnergyReport:
    """Return what is known of energy and area; what is not becomes a line in `missing`.

    Args:
        cores: the units whose energies are shown.
        config: a system; everything of it but its units counts.
        folder: of the tables.
    """
    missing: list[str] = []
    area: dict[str, tuple[UnitBar, ...]] = {}
    table: Mapping[str, Any] | None = None
    try:
        table, area = load_area(folder / AREA_FILE.name)
    except AreaError as error:
        missing.append(f"No area: {error}.")
    units = []
    for core in sorted(cores, key=lambda core: -core.w_bits):
        alone = replace(config, cores=(core,))
        try:
            unit, lines = _unit(core, alone, folder)
            units.append(unit)
            missing += lines
        except EnergyTableError as error:
            missing.append(f"No energy of {core_title(core)}: {error}.")
    return EnergyReport(
        area=area,
        area_table=table,
        area_current=table is not None and table["rtl_sha256"] == rtl_hash(),
        units=tuple(units),
        missing=tuple(missing),
    )


def core_title(core: CoreConfig) -> str:
    """Return a unit's name, widths and shape."""
    return f"{core.name} W{core.w_bits}A{core.a_bits} {core.rows} x {core.columns}"


def _unit(core: CoreConfig, config: System, folder: Path) -> tuple[UnitEnergy, list[str]]:
    """Return what is shown of a unit, and a line for what is not."""
    path, title = energy_path(core, config, folder), core_title(core)
    table = load_energy_table(path)
    network, missing = None, []
    try:
        narrow = real_network(NETWORK, core.w_bits)
        network = network_energy(narrow, real_input(NETWORK, IMAGE), core, config, folder)
    except NpuloopError as error:
        missing.append(f"No energy of {NETWORK_TITLE} on {title}: {error}.")
    validation = validation_of(table, title, path)
    if validation is None:
        missing.append(f"No validation windows of {title}: {path} keeps none; {REMEDY}.")
    return UnitEnergy(title, table, validation, network, table.rtl_sha256 == rtl_hash()), missing


def network_energy(
    network: Network, source: Array, core: CoreConfig, config: System, folder: Path = FOLDER
) -> NetworkEnergy:
    """Return what a network takes on a unit, in predicted cycles and with the features of one input.

    Args:
        network: with weights as narrow as the unit's.
        source: the input, without batch axis.
        core: the unit.
        config: a system of this unit alone.
        folder: of the cost and energy tables.

    Raises:
        TableError: a table is missing or of other hardware.
        UnsupportedError, CapacityError: the unit cannot run the network.
    """
    model = EnergyModel(config, folder, CostModel(config, folder))
    compiled = compile_network(network, config, Assignment(core.name))
    return model.predicted(compiled.program, network_statistics(compiled, source))


def mac_energy(table: EnergyTable, title: str, validation: Validation | None = None) -> MacEnergy:
    """Return what a MAC in the array takes: its features, and its share of the beat and of the clock.

    A column's beat and clock are shared among its rows, as if all multiplied in every cycle.

    Args:
        table: the unit's energies.
        title: of the unit.
        validation: what was measured; without them only the streams' own share of zeros counts as measured.
    """
    fixed = np.add(table.energies["column_beat"].bounds, table.energies["column_idle"].bounds)
    fixed = fixed / table.parameters["rows"]
    lines = []
    for share in ZERO_SHARES.tolist():
        means = table.statistics.at(share).means
        slopes = [
            mean * np.array(table.energies[name].bounds)
            for name, mean in means.items()
            if name.startswith("mac.")
        ]
        lines.append(fixed + np.sum(slopes, axis=0))
    usual = table.statistics.zero_share
    seen = np.append(validation.zero_shares, usual) if validation else np.array([usual])
    return MacEnergy(
        label=title,
        w_bits=table.parameters["w_bits"],
        shares=ZERO_SHARES,
        energy_pj=np.array(lines).T,
        usual=usual,
        known=(float(seen.min()), float(seen.max())),
    )


def validation_of(table: EnergyTable, title: str, path: Path) -> Validation | None:
    """Return the validation windows that a table keeps in `errors`, or None if it keeps none.

    Args:
        table: the table.
        title: of the unit.
        path: the table's file, for the error.

    Raises:
        EnergyTableError: they are damaged.
    """
    points = table.errors.get("points")
    if not points:
        return None
    try:
        shares = np.array([float(point["zero_share"]) for point in points])
        measured = np.array([_three(point["measured"]) for point in points])
        modelled = np.array([_three(point["modelled"]) for point in points])
        networks = tuple(str(point["network"]) for point in points)
    except (KeyError, TypeError, ValueError) as error:
        raise EnergyTableError(
            f"{path}: the validation windows in `errors` are damaged ({error}); {REMEDY}"
        ) from None
    return Validation(title, networks, shares, measured.T, modelled[:, VALUE])


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    lower, value, upper = values
    return float(lower), float(value), float(upper)


def load_area(path: Path) -> tuple[Mapping[str, Any], dict[str, tuple[UnitBar, ...]]]:
    """Return an area table, and its units by library, in its order.

    Raises:
        AreaError: it is missing, damaged or newer than this program; the message says how to make it.
    """
    table = read_area(path)
    try:
        bars = {
            str(library): tuple(_bar(str(name), unit) for name, unit in units.items())
            for library, units in table["units"].items()
            if units
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AreaError(f"{path}: is damaged ({error}); {AREA_REMEDY}") from None
    if not bars:
        raise AreaError(f"{path}: has no units; {AREA_REMEDY}")
    return table, bars


def _bar(name: str, unit: Mapping[str, Any]) -> UnitBar:
    cells, memories = (
        {str(what): float(um2) for what, um2 in unit[key].items()} for key in ("groups_um2", "memories_um2")
    )
    if not cells.get(plots.ARRAY, 0) > 0:
        raise ValueError(f"{name} has no array")
    macros = {str(what): float(um2) for what, um2 in unit.get("open_memories_um2", {}).items()}
    label = f"W{int(unit['w_bits'])}, {int(unit['rows'])} x {int(unit['cols'])}"
    return UnitBar(label, cells, memories, macros)
