# SPDX-License-Identifier: Apache-2.0
"""The fit of the area model: random cores are synthesised, laws are fitted, others say how good they are."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.optimize import nnls

from common.arrays import Floats
from common.files import write_atomically
from common.stamp import stamped
from gates.memories import LANE_BITS, TECHNOLOGIES, memory
from hw.core import CoreConfig
from hw.system import System
from mapping.characterization.area import EVERY, UnitArea, keys, unit_area
from mapping.cost.area_model import DELAYS, FILE, SCHEMA, SUMS, AreaModel, delay_terms, kind_of, sum_terms
from mapping.cost.tables import core_parameters
from mapping.run.random_systems import usual_core

FIT_SEEDS = range(16)
HELD_OUT_SEEDS = range(1000, 1010)
"""Seeds of the cores; those of the area table are in the fit, too."""
MACRO_WORDS = tuple(sorted({round(32 * 2 ** (step / 2)) // 8 * 8 for step in range(23)}))
"""Words of the macros that CACTI is asked about; 65,536 are the most of a core."""
COVERAGE = 0.90
PRIOR = 0.02
"""Relative size of an error of a delay that is as bad as a coefficient of a whole delay (ridge)."""
FIGURES = ("area", "max_mhz", "max_mhz_wired")
"""What has an interval."""


def drawn_core(seed: int) -> CoreConfig:
    """Return the random core of a seed; see `usual_core`."""
    return usual_core(np.random.default_rng([seed, 0xA3EA]), f"core_{seed}")


@dataclass(frozen=True)
class CoreErrors:
    """How far the model is from the synthesis of a core, relative, positive where it says too much.

    Attributes:
        core: the core.
        area_um2: as synthesised, with its memories.
        area, max_mhz, max_mhz_wired: the errors.
    """

    core: CoreConfig
    area_um2: float
    area: float
    max_mhz: float
    max_mhz_wired: float


def fit_model(library: str, units: Sequence[UnitArea], macros: Sequence[tuple[int, float]]) -> AreaModel:
    """Return the model of synthesised units, without intervals.

    Args:
        library: name of their cell library.
        units: the units.
        macros: words of a macro of 128 bits and its area, µm².
    """
    cores = [unit.core for unit in units]
    totals: dict[str, dict[str, Floats]] = {}
    for number, unit in enumerate(units):
        for block in unit.blocks:
            kind = kind_of(block.group, block.block.partition(".")[0])
            values = totals.setdefault(kind, {name: np.zeros(len(units)) for name in (*SUMS, *DELAYS)})
            for name in SUMS:
                values[name][number] += block.count * getattr(block, name)
            for name in DELAYS:
                values[name][number] = max(values[name][number], getattr(block, name))
    rows = np.array([delay_terms(core) for core in cores])
    sums = {}
    for kind, values in totals.items():
        terms = np.array([sum_terms(kind, core) for core in cores])
        sums[kind] = {name: _fit(terms, values[name]) for name in SUMS}
    return AreaModel(
        library=library,
        sums=sums,
        delays={
            kind: {name: _ridge(rows, values[name]) for name in DELAYS}
            for kind, values in totals.items()
            if (values[DELAYS[0]] > 0).all()
        },
        macros=tuple(macros),
        parameters={core.key: core_parameters(core, System((core,))) for core in cores},
        interval_90={},
    )


def _fit(terms: Floats, values: Floats) -> tuple[float, ...]:
    """Return coefficients of zero or more with the least relative error."""
    sizes = np.maximum(np.abs(values), max(1e-9, 1e-3 * float(np.abs(values).max(initial=0.0))))
    if not values.any():
        return (0.0,) * len(terms[0])
    solution: Floats = nnls(terms / sizes[:, None], values / sizes)[0]
    return tuple(float(value) for value in solution)


def _ridge(terms: Floats, values: Floats) -> tuple[float, ...]:
    """Return coefficients with the least relative error; all but the first are held near zero."""
    mean = float(values.mean())
    held = np.diag([0.0, *[PRIOR] * (terms.shape[1] - 1)])
    rows = np.concatenate([terms / values[:, None] * mean, held])
    target = np.concatenate([np.ones(len(values)), np.zeros(terms.shape[1])])
    solution: Floats = np.linalg.lstsq(rows, target, rcond=None)[0] * mean
    return tuple(float(value) for value in solution)


def errors_of_core(model: AreaModel, unit: UnitArea) -> CoreErrors:
    """Return how far the model is from a synthesised unit."""
    area = unit.cells_um2 + unit.memory_um2
    return CoreErrors(
        core=unit.core,
        area_um2=area,
        area=model.area_um2(unit.core) / area - 1,
        max_mhz=unit.slowest.path_ns / model.slowest("path_ns", unit.core)[1] - 1,
        max_mhz_wired=unit.slowest_wired.wired_ns / model.slowest("wired_ns", unit.core)[1] - 1,
    )


def left_out(
    library: str, units: Sequence[UnitArea], macros: Sequence[tuple[int, float]]
) -> list[CoreErrors]:
    """Return the errors of each unit with a model of all others."""
    return [
        errors_of_core(fit_model(library, [*units[:i], *units[i + 1 :]], macros), unit)
        for i, unit in enumerate(units)
    ]


def intervals(errors: Sequence[CoreErrors]) -> dict[str, float]:
    """Return half of the 90 % interval of each of FIGURES: the quantile of errors (conformal prediction)."""
    place = min(1.0, COVERAGE * (len(errors) + 1) / len(errors))
    return {
        name: float(np.quantile([abs(getattr(item, name)) for item in errors], place)) for name in FIGURES
    }


def macros_of(library: str) -> list[tuple[int, float]]:
    """Return words and area, µm², of macros of 128 bits beside a library; errors as in `memory`."""
    node = TECHNOLOGIES[library].node_nm
    return [(words, memory(words, LANE_BITS, "1rw", node).area_um2) for words in MACRO_WORDS]


@dataclass(frozen=True, eq=False)
class AreaCalibration:
    """A model, and what it is worth.

    Attributes:
        model: the model.
        fit: errors of each core of the fit with a model of all others.
        held_out: errors of cores that the fit never saw.
    """

    model: AreaModel
    fit: Sequence[CoreErrors]
    held_out: Sequence[CoreErrors]

    @property
    def covered(self) -> int:
        """How many held-out areas lie in their interval."""
        return sum(abs(item.area) <= self.model.interval_90["area"] for item in self.held_out)


def calibrate_area(
    library: str,
    fit: Iterable[int] = FIT_SEEDS,
    held_out: Iterable[int] = HELD_OUT_SEEDS,
    workers: int = 2,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,  # noqa: ARG005
) -> AreaCalibration:
    """Synthesise cores, and fit the model.

    Args:
        library: name of the cell library.
        fit: seeds of the cores of the fit, beside those of the area table.
        held_out: seeds of the cores that the errors are of.
        workers: how many blocks are synthesised at a time.
        progress: called while it goes on.

    Raises:
        GatesError: a tool or the library is missing, or a block cannot be synthesised.
    """

    def measured(cores: Sequence[CoreConfig], what: str) -> list[UnitArea]:
        units = []
        for number, core in enumerate(cores):
            progress(what, number, len(cores))
            units.append(unit_area(core, library, workers))
        progress(what, len(cores), len(cores))
        return units

    cores = {core.key: core for core in (*EVERY.cores, *(drawn_core(seed) for seed in fit))}
    units = measured(list(cores.values()), "cores of the fit")
    unseen = [drawn_core(seed) for seed in held_out]
    others = measured([core for core in unseen if core.key not in cores], "cores that the fit does not see")
    macros = macros_of(library)
    errors = left_out(library, units, macros)
    model = fit_model(library, units, macros)
    model = AreaModel(**{**vars(model), "interval_90": intervals(errors)})
    return AreaCalibration(model, errors, [errors_of_core(model, unit) for unit in others])


def family_document(calibrations: Sequence[AreaCalibration]) -> dict[str, Any]:
    """Return the file of the area model, a model for each library."""
    return {
        "schema": SCHEMA,
        "date": dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
        **keys(item.model.library for item in calibrations),
        "models": {item.model.library: _entry(item) for item in calibrations},
    }


def _entry(item: AreaCalibration) -> dict[str, Any]:
    model = item.model
    return {
        "interval_90": {name: _short(value) for name, value in model.interval_90.items()},
        "errors_percent": {"leave_one_out": _errors(item.fit), "held_out": _errors(item.held_out)},
        "macros": [[words, round(area)] for words, area in model.macros],
        "sums": _laws(model.sums),
        "delays": _laws(model.delays),
        "parameters": {key: dict(values) for key, values in model.parameters.items()},
    }


def _errors(errors: Sequence[CoreErrors]) -> dict[str, Any]:
    return {
        "cores": len(errors),
        **{
            name: {"mean": round(float(sizes.mean()), 2), "largest": round(float(sizes.max()), 2)}
            for name in FIGURES
            for sizes in [100 * np.abs([getattr(error, name) for error in errors])]
        },
    }


def _laws(laws: Mapping[str, Mapping[str, tuple[float, ...]]]) -> dict[str, Any]:
    return {
        kind: {name: [_short(value) for value in values] for name, values in law.items()}
        for kind, law in laws.items()
    }


def _short(value: float) -> float:
    """Return a number with six significant digits."""
    return 0.0 if value == 0 else round(value, 5 - math.floor(math.log10(abs(value))))


def write_area_model(document: Mapping[str, Any], path: Path = FILE) -> None:
    """Write the file of the model; whole or not at all."""
    head = "# Written by `npuloop synth --family`; docs/reference/cost-tables.md says what the fields mean.\n"
    text = head + yaml.safe_dump(stamped(document), sort_keys=False, width=120, default_flow_style=None)
    write_atomically(path, lambda file: file.write(text.encode()))
