# SPDX-License-Identifier: Apache-2.0
"""What `npuloop predict --json` writes: cycles and energies, by layer and by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hw.system import System
from mapping.cost.model import Prediction, units_of
from mapping.cost.shapes import Shape
from mapping.energy.model import VALUE, Breakdown, EnergyModel, NetworkEnergy

SCHEMA = 1
"""Version of the documents; fields may be added without a new one."""
UJ_PER_PJ = 1e-6


def network_document(
    name: str, config: System, result: Prediction, energy: NetworkEnergy | None, reason: str
) -> dict[str, Any]:
    """Return a network's prediction as plain data; docs/reference/machine-readable.md has the fields.

    Args:
        name: the network's.
        config: the system.
        result: its cycles.
        energy: its energy, or None without tables.
        reason: why there is no energy.
    """
    cycles = result.layer_cycles
    return _head(config) | {
        "network": name,
        **_cycles(result),
        "cycles_by_layer": cycles,
        **_energy(energy, reason),
        "energy_uj_by_layer": energy
        and {layer: parts.value_pj * UJ_PER_PJ for layer, parts in energy.layers.items()},
        "layers": {
            layer: {
                "cycles": cycles[layer],
                "complete_at": {unit: end for (of, unit), end in result.ends.items() if of == layer},
                "energy_uj": energy and energy.layers[layer].value_pj * UJ_PER_PJ,
                "energy_uj_by_part": energy and _parts(energy.layers[layer]),
            }
            for layer in cycles
        },
    }


def shapes_document(
    predictions: Sequence[tuple[Shape, Prediction]],
    unit: str,
    config: System,
    energies: EnergyModel | None,
    reason: str,
) -> dict[str, Any]:
    """Return predictions of single layers as plain data: a list, each with its cycles and its energy.

    Args:
        predictions: shapes with their cycles.
        unit: of those without a split.
        config: the system.
        energies: the energy model, or None without tables.
        reason: why there is no energy.
    """
    return _head(config) | {
        "shapes": [
            {
                "name": shape.name,
                "operator": shape.op,
                "units": list(units_of(shape, unit, config)),
                "macs": shape.macs,
                "calibrated": item.inside,
                **_cycles(item),
                **_energy(energies.layer(shape, unit) if energies else None, reason),
            }
            for shape, item in predictions
        ]
    }


def _head(config: System) -> dict[str, Any]:
    return {"schema": SCHEMA, "command": "predict", "units": {core.name: core.key for core in config.cores}}


def _cycles(result: Prediction) -> dict[str, Any]:
    return {
        "cycles": result.cycles,
        "cycles_interval_90": [result.low, result.high],
        "cycles_basis": result.basis,
        "cycles_by_part": {unit: dict(terms) for unit, terms in result.terms.items()},
    }


def _energy(energy: NetworkEnergy | None, reason: str) -> dict[str, Any]:
    total = energy and energy.total
    return {
        "energy_uj": total and total.value_pj * UJ_PER_PJ,
        "energy_uj_bounds": total and [total.lower_pj * UJ_PER_PJ, total.upper_pj * UJ_PER_PJ],
        "energy_uj_by_part": total and _parts(total),
        "energy_uj_by_unit": energy
        and {unit: parts.value_pj * UJ_PER_PJ for unit, parts in energy.units.items()},
        "energy_missing": None if energy else reason,
    }


def _parts(breakdown: Breakdown) -> dict[str, float]:
    return {group: values[VALUE] * UJ_PER_PJ for group, values in breakdown.groups.items()}
