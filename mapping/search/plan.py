# SPDX-License-Identifier: Apache-2.0
"""What a study is asked for: its plan, and the specification of every point that it makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hw.sources import rtl_hash
from hw.system import System
from mapping.search.costs import MapError
from mapping.search.objectives import price_of, tables_digest
from mapping.search.training import Recipe

SEARCHED, LAYERWISE, RANDOM = "searched", "layerwise", "random"
HEURISTICS = ("first_last", "cheapest")


@dataclass(frozen=True)
class Plan:
    """Everything that decides a study's result.

    Attributes:
        model, data: names, or `package.module:function`.
        objective: what the cost is, and its unit: see `mapping.search.objectives`.
        strengths: of the cost in the loss; a searched point for each.
        targets: costs that must be met; a searched point for each.
        seeds: of weights and training.
        recipe: how long and how fast to train.
        pins: units of layers that are not free, by layer.
        system: the hardware.
        baselines: kinds of points to compare with.
        verification_images: test images that run in RTL with every tensor compared.
    """

    model: str = "digits"
    data: str = "digits"
    objective: str = "latency"
    strengths: tuple[float, ...] = ()
    targets: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (1,)
    recipe: Recipe = Recipe()  # noqa: RUF009  # frozen
    pins: Mapping[str, str] = field(default_factory=dict)
    system: System = System()  # noqa: RUF009  # frozen
    baselines: tuple[str, ...] = ()
    verification_images: int = 2

    def check(self) -> None:
        """Refuse a plan that cannot be carried out.

        Raises:
            MapError: no points, or an unknown baseline.
            TableError: cost tables that are missing or stale, or no tables for the objective.
            ConfigError, UnsupportedError: a system that cannot be.
        """
        known = (*(core.name for core in self.system.cores), *HEURISTICS, LAYERWISE, RANDOM)
        for kind in self.baselines:
            if kind not in known:
                raise MapError(f"there is no baseline {kind!r}; there are {', '.join(known)}")
        if not (self.strengths or self.targets or self.baselines):
            raise MapError("there is nothing to do: give --strengths, a target or --baselines")
        for name, values in (("strength", self.strengths), ("target", self.targets)):
            for value in values:
                if not (np.isfinite(value) and value > 0):
                    raise MapError(f"{name} {value:g}: it must be above 0")
        if not self.seeds:
            raise MapError("a study needs at least one seed")
        price_of(self.objective, self.system)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a study to be picked up again, in the words of plan.json."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        document["proof_images"] = document.pop("verification_images")
        document["recipe"]["looks"] = document["recipe"].pop("cost_evaluations")
        return document | {"rtl_sha256": rtl_hash(), "cost_tables_sha256": tables_digest(self.system)}


@dataclass(frozen=True)
class PointSpecification:
    """A point that is asked for: a kind of mapping, in one setting, for one seed."""

    kind: str
    setting: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the point and of its files."""
        return "-".join(item for item in (self.kind, self.setting, f"s{self.seed}") if item)


def point_specifications(plan: Plan) -> list[PointSpecification]:
    """Return the points of a plan; random ones come after those whose cost they take."""
    settings = [f"{value:g}" for value in plan.strengths] + [f"t{value:g}" for value in plan.targets]
    specs = []
    for seed in plan.seeds:
        specs += [PointSpecification(SEARCHED, setting, seed) for setting in settings]
        for kind in plan.baselines:
            own = settings if kind in (LAYERWISE, RANDOM) else [""]
            specs += [PointSpecification(kind, setting, seed) for setting in own]
    return sorted(specs, key=lambda spec: spec.kind == RANDOM)
