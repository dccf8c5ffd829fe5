# SPDX-License-Identifier: Apache-2.0
"""The points that a study has made, and the files that list them: pareto.csv and study.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hw.memory import MemoryModel
from mapping.search.costs import NetworkCosts
from mapping.search.data import DataSet
from mapping.search.objectives import current_model
from mapping.search.plan import Plan
from mapping.search.study_folder import Folder, read

COLUMNS = (
    "name", "kind", "seed", "predicted_cycles", "measured_cycles", "predicted_energy_pj", "energy_pj",
    "accuracy_percent", "float_accuracy_percent", "exact_in_rtl", "mapping", "network",
)  # fmt: skip
"""Columns of pareto.csv."""


@dataclass(frozen=True)
class Point:
    """A mapping of a trained network: what it costs, what it is worth, and that it is true.

    Attributes:
        name, kind, setting, seed: which point.
        predicted_cycles, low, high: by the cost model, with the 90 % interval.
        measured_cycles: of the whole network in RTL.
        predicted_energy_pj: by the energy model, with the predicted cycles; None without energy tables.
        energy_pj: the same with the cycles that were measured. What happens in them is exact in both.
        accuracy_percent: of the integer network on the test set.
        float_accuracy_percent: of the warm-up.
        exact_in_rtl: every tensor in RTL equals the golden model's.
        mapping, network: files, relative to the study's folder.
        layers: name, operator and channels on each unit of every layer with weights.
    """

    name: str
    kind: str
    setting: str
    seed: int
    predicted_cycles: float
    low: float
    high: float
    measured_cycles: int
    predicted_energy_pj: float | None
    energy_pj: float | None
    accuracy_percent: float
    float_accuracy_percent: float
    exact_in_rtl: bool
    mapping: str
    network: str
    layers: tuple[Mapping[str, Any], ...]


def table_text(points: Sequence[Point]) -> str:
    """Return what pareto.csv holds."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for point in points:
        row = asdict(point) | {
            "predicted_cycles": f"{point.predicted_cycles:.1f}",
            "predicted_energy_pj": _pj(point.predicted_energy_pj),
            "energy_pj": _pj(point.energy_pj),
            "accuracy_percent": f"{point.accuracy_percent:.2f}",
            "float_accuracy_percent": f"{point.float_accuracy_percent:.2f}",
            "exact_in_rtl": str(point.exact_in_rtl).lower(),
        }
        writer.writerow(row)
    return text.getvalue()


def _pj(energy: float | None) -> str:
    return "" if energy is None else f"{energy:.0f}"


def study_document(
    plan: Plan, folder: Folder, points: Sequence[Point], command: str, data: DataSet, costs: NetworkCosts
) -> dict[str, Any]:
    """Return what study.json holds: all that the report shows."""
    curves = []
    for seed in plan.seeds:
        epochs = read(folder.work(f"warm-up-s{seed}.json"))["epochs"]
        curves.append(_curve(f"warm-up s{seed}", "warm-up", "", "", seed, epochs))
    for point in points:
        mapping = read(folder.work(f"{point.name}.mapping.json"))
        if mapping["epochs"]:
            curves.append(
                _curve(point.name, "search", point.kind, point.setting, point.seed, mapping["epochs"])
            )
        trained = read(folder.work(f"{point.name}.point.json"))
        for phase, epochs in (trained["epochs"] if trained else {}).items():
            if epochs:
                curves.append(_curve(point.name, phase, point.kind, point.setting, point.seed, epochs))
    reference = current_model(plan.system).program(costs.program(costs.uniform(costs.units[0]))).cycles
    return {
        "study": {
            "model": plan.model, "data": plan.data, "objective": plan.objective, "command": command,
            "units": list(costs.units), "seeds": list(plan.seeds), "recipe": asdict(plan.recipe),
            "test_images": len(data.test_labels), "train_images": len(data.train_labels),
            "proof_images": plan.verification_images, "memory_latency": MemoryModel().latency,
        },
        "reference_cycles": reference,
        "points": [asdict(point) for point in points],
        "curves": curves,
    }  # fmt: skip


def _curve(name: str, phase: str, kind: str, setting: str, seed: int, epochs: Any) -> dict[str, Any]:
    return {"name": name, "phase": phase, "kind": kind, "setting": setting, "seed": seed, "epochs": epochs}
