# SPDX-License-Identifier: Apache-2.0
"""What a search pays for: prices of compiled command lists.

An objective is a function from a system to a price; a new one is one more entry of OBJECTIVES.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from hw.core import CoreConfig
from hw.memory import MemoryModel
from hw.sources import rtl_hash
from hw.system import System
from mapping.compiler.program import Program
from mapping.cost.model import CostModel
from mapping.cost.tables import FOLDER, TableError, path_for
from mapping.energy.model import EnergyModel
from mapping.energy.tables import EnergyTableError, energy_path
from mapping.search.costs import MapError, Price

ENERGY_FOLDER = FOLDER
"""Where the energy tables are."""
PJ_PER_UJ = 1e6


def current_model(config: System) -> CostModel:
    """Return the cost model of a system, whose tables are of the present RTL.

    Raises:
        TableError: a table that is missing, or stale.
    """
    model = CostModel(config, memory=MemoryModel())
    for cores in _priced(config):
        table = model.table(*(core.name for core in cores))
        if table.rtl_sha256 != rtl_hash():
            raise TableError(
                f"{path_for(cores, config)}: stale: it was calibrated on other RTL; run `npuloop calibrate "
                "--all`, and with --family"
            )
    return model


def current_energy(config: System) -> EnergyModel:
    """Return the energy model of a system, whose tables are of the present RTL.

    Raises:
        TableError: a table of cycles or of energies that is missing, or stale.
    """
    return EnergyModel(config, ENERGY_FOLDER, current_model(config))


def energy_if_known(config: System) -> EnergyModel | None:
    """Return the energy model of a system, or None where its energy tables are missing or stale."""
    try:
        return current_energy(config)
    except EnergyTableError:
        return None


def tables_digest(config: System) -> str:
    """Return a hash of the tables of a system: of cycles, and of energies where there are any.

    Raises:
        TableError: a table of cycles is missing.
    """
    current_model(config)
    content = b"".join(path_for(cores, config).read_bytes() for cores in _priced(config))
    for core in config.cores:
        path = energy_path(core, config, ENERGY_FOLDER)
        content += path.read_bytes() if path.exists() else b""
    return hashlib.sha256(content).hexdigest()


def _priced(config: System) -> list[list[CoreConfig]]:
    """Return the units that have prices: each, and all together."""
    return [[core] for core in config.cores] + [list(config.cores)]


def latency(config: System) -> Price:
    """Return the price in predicted cycles, first start to last interrupt."""
    return current_model(config).cycles


def energy(config: System) -> Price:
    """Return the price in µJ, with the idle energy of all units in the predicted cycles.

    Features of the operands are the tables' default ones: weights are not known yet.
    """
    model = current_energy(config)
    return lambda program: model.predicted(program).value_pj / PJ_PER_UJ


def energy_delay(config: System) -> Price:
    """Return the price in µJ · ms: the energy-delay product, which has no weight to choose."""
    model = current_energy(config)

    def price(program: Program) -> float:
        predicted = model.predicted(program)
        return predicted.value_pj / PJ_PER_UJ * predicted.cycles * predicted.period_ns * 1e-6

    return price


@dataclass(frozen=True)
class Objective:
    """What can be paid for.

    Attributes:
        price: the price of a system's programs.
        unit: of the price, for messages.
        option: the option of `npuloop map` that gives targets; empty where there are none.
    """

    price: Callable[[System], Price]
    unit: str
    option: str = ""


OBJECTIVES: dict[str, Objective] = {
    "latency": Objective(latency, "cycles", "--target-cycles"),
    "energy": Objective(energy, "µJ", "--target-energy"),
    "both": Objective(energy_delay, "µJ ms"),
}
"""Objectives by name."""


def objective_of(name: str) -> Objective:
    """Return an objective.

    Raises:
        MapError: there is none of that name.
    """
    if name not in OBJECTIVES:
        raise MapError(f"there is no objective {name!r}; there are {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def price_of(objective: str, config: System) -> Price:
    """Return the price of an objective on a system.

    Raises:
        MapError: an objective that does not exist.
        TableError: tables that are missing or stale.
    """
    return objective_of(objective).price(config)
