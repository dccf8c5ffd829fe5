# SPDX-License-Identifier: Apache-2.0
"""A study: searched mappings and baselines of one network, each trained, turned to integers and run in RTL.

    1. warm-up      one float network for each seed
    2. mappings     searched ones (and whole-layer ones) from it; the other baselines need no training
    3. points       every mapping: fine-tuned from the warm-up, exact integers, test set, RTL

Searched mappings and baselines are treated alike: the same warm-up, the same fine-tuning, the same random
numbers. A search hands over nothing but its mapping, so that what differs between two points is the mapping.

Every job keeps its results and checkpoints in the study's folder and picks up from them, whoever runs it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from common.errors import NpuloopError
from common.files import claimed, write_atomically, write_json
from mapping.search.costs import MapError, NetworkCosts
from mapping.search.data import DataSet, load_data
from mapping.search.fitting import check_target
from mapping.search.jobs import costs_of, mapping_job, point_job, warm_up_job
from mapping.search.objectives import objective_of
from mapping.search.plan import RANDOM, SEARCHED, Plan, PointSpecification, point_specifications
from mapping.search.points import Point, study_document, table_text
from mapping.search.study_folder import Folder, read
from tb.build import build

Runner = Callable[[Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]], Iterator[tuple[int, Any]]]
"""Runs jobs and yields each one's index and its result, or the exception that it raised."""


def run_study(
    plan: Plan,
    path: Path,
    run: Runner,
    progress: Callable[[str, int, int], None] | None = None,
    command: str = "run_study",
) -> list[Point]:
    """Carry out a plan, or what is left of it.

    Args:
        plan: the plan.
        path: the study's folder.
        run: runs jobs, in processes or in this one.
        progress: called with a phase, and how many of its jobs are done, of how many.
        command: what was asked for, for the report.

    Returns:
        The points; in the folder are then pareto.csv and study.json.

    Raises:
        MapError: see `Plan.check` and `Folder.claim`; or jobs that have failed, after the others are done.
    """
    plan.check()
    folder = Folder(path)
    data = load_data(plan.data)
    costs = costs_of(plan, data)
    for target in plan.targets:
        check_target(costs, target, what=objective_of(plan.objective).unit)
    with claimed(path, MapError):
        folder.claim(plan)
        return _carry_out(plan, folder, run, progress, command, data, costs)


def _carry_out(
    plan: Plan,
    folder: Folder,
    run: Runner,
    progress: Callable[[str, int, int], None] | None,
    command: str,
    data: DataSet,
    costs: NetworkCosts,
) -> list[Point]:
    """Carry out a plan in its folder, which this run has for itself."""
    path = folder.path
    build(plan.system)

    def phase(name: str, jobs: Sequence[tuple[str, Callable[..., Any], tuple[Any, ...]]]) -> list[Any]:
        results: list[Any] = [None] * len(jobs)
        failures = []
        if progress:
            progress(name, 0, len(jobs))
        calls = [(function, arguments) for _, function, arguments in jobs]
        for done, (index, outcome) in enumerate(run(calls), start=1):
            if progress:
                progress(name, done, len(jobs))
            if isinstance(outcome, Exception):
                ours = isinstance(outcome, NpuloopError)
                what = str(outcome) if ours else f"{type(outcome).__name__}: {outcome}"
                failures.append(f"{jobs[index][0]}: {what}")
            results[index] = outcome
        if failures:
            raise MapError("; ".join(failures))
        return results

    phase("warm-up", [(f"warm-up of seed {seed}", warm_up_job, (plan, path, seed)) for seed in plan.seeds])
    specs = point_specifications(plan)
    first = [spec for spec in specs if spec.kind != RANDOM]
    phase("mappings", [(spec.name, mapping_job, (plan, path, spec)) for spec in first])
    rest = [spec for spec in specs if spec.kind == RANDOM]
    phase(
        "random mappings",
        [(spec.name, mapping_job, (plan, path, spec, _near(folder, spec))) for spec in rest],
    )
    same: dict[tuple[int, str], list[PointSpecification]] = {}
    for spec in specs:
        units = json.dumps(read(folder.work(f"{spec.name}.mapping.json"))["units"], sort_keys=True)
        same.setdefault((spec.seed, hashlib.sha256(units.encode()).hexdigest()), []).append(spec)
    groups = list(same.values())
    results = phase("points", [(group[0].name, point_job, (plan, path, group)) for group in groups])
    points = {point.name: point for group in results for point in group}
    ordered = [points[spec.name] for spec in specs]
    write_json(folder.path / "study.json", study_document(plan, folder, ordered, command, data, costs))
    write_atomically(folder.path / "pareto.csv", lambda file: file.write(table_text(ordered).encode()))
    return ordered


def _near(folder: Folder, spec: PointSpecification) -> float:
    """Return the cost of the searched mapping that a random one is to be compared with."""
    searched = PointSpecification(SEARCHED, spec.setting, spec.seed)
    return float(read(folder.work(f"{searched.name}.mapping.json"))["cost"])
