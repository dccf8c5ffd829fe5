# SPDX-License-Identifier: Apache-2.0
"""Made-up energy tables for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hw.core import CoreConfig
from hw.sources import rtl_hash
from hw.system import System
from mapping.cost.tables import core_parameters
from mapping.energy.tables import NAMES, Energy, EnergyTable, LayerStatistics, energy_path, save_energy_table

CONFIG = System()
FEATURES = ("mac.one", "mac.toggles", "accumulate.toggles", "requantise.toggles")
STATISTICS = LayerStatistics(
    nonzero={"mac.one": 1.0, "mac.toggles": 4.0},
    zero={"mac.one": 0.5, "mac.toggles": 0.25},
    others={"accumulate.toggles": 8.0, "requantise.toggles": 2.0},
    zero_share=0.25,
)


def energy(value: float, lower: float | None = None, upper: float | None = None) -> Energy:
    """Return an energy of a made-up origin."""
    return Energy(lower, value, upper, "gate-measured", "event", "a test")


def synthetic(core: CoreConfig, values: Mapping[str, float], **changed: Any) -> EnergyTable:
    """Return a table with given energies and nothing else; half and twice as much are its bounds."""
    energies = {
        name: energy(values.get(name, 0.0), values.get(name, 0.0) / 2, 2 * values.get(name, 0.0))
        for name in (*NAMES, *FEATURES)
    }
    table = EnergyTable(
        core=core.key, library={"name": "made up", "sha256": "0" * 64}, rtl_sha256=rtl_hash(),
        parameters=core_parameters(core, CONFIG), period_ns=10.0, tools={"yosys": "1"}, date="2026-11-21",
        energies=energies, features=FEATURES, statistics=STATISTICS,
        errors={"validation_windows": {"mape_percent": 1.5}}, stimulus={"images": 3},
    )  # fmt: skip
    return replace(table, **changed)


def write_tables(folder: Path, values: Mapping[str, float], config: System = CONFIG, **changed: Any) -> Path:
    """Write a synthetic table with the same energies for each unit of a system."""
    for core in config.cores:
        save_energy_table(synthetic(core, values, **changed), energy_path(core, config, folder))
    return folder
