# SPDX-License-Identifier: Apache-2.0
"""How `npuloop serve` does its work, and goes on with what a run that was killed has left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from npuloop.cli.console import Tasks, console, errors, progress

if TYPE_CHECKING:
    from mapping.scheduling.clocks import Clock
    from mapping.scheduling.deployment import Deployment
    from mapping.scheduling.measured import Measured
    from mapping.scheduling.serving_folder import ServingFolder
    from mapping.scheduling.simulate import Run
    from mapping.scheduling.workload import Workload

Progress: TypeAlias = Callable[[int, int], None]
"""Takes the requests that are done and all."""
Results: TypeAlias = tuple[dict[str, str], Mapping[int, bool]]
"""Files by their names, and for each request that ran in RTL whether it was exact."""


@dataclass(frozen=True)
class Plan:
    """What is served.

    Attributes:
        deployment: the system and what it can run.
        workload: the workload.
        policies: their names.
        clock: the clock's name.
        first_seed, seeds: the first seed of the arrivals, and their number.
        how: how requests run in RTL: "live", "replay", or "" for not at all.
    """

    deployment: Deployment
    workload: Workload
    policies: list[str]
    clock: str
    first_seed: int
    seeds: int
    how: str


def _simulate(plan: Plan, policy: str, seed: int, clock: str | Clock, told: Progress) -> Run:
    """Serve with a policy and a seed, on the clock of a name or one in RTL."""
    from mapping.scheduling.policies import load_policy
    from mapping.scheduling.simulate import simulate
    from mapping.scheduling.workload import arrivals_of

    arrivals = arrivals_of(plan.workload, seed)
    return simulate(plan.deployment, plan.workload, arrivals, load_policy(policy), clock, told)


def _predict(plan: Plan, policy: str, seed: int, show: Tasks) -> Run:
    told: Progress = lambda done, total: show(f"{policy}, seed {seed}", done, total)  # noqa: E731
    return _simulate(plan, policy, seed, plan.clock, told)


def serve_once(plan: Plan, folder: ServingFolder | None) -> Results:
    """Serve with one policy and one seed; print it and return requests.csv, trace.json and report.html."""
    from mapping.report.serving import rtl_summary, streams_table, summary
    from mapping.report.serving_page import serving_page
    from mapping.scheduling.metrics import metrics
    from mapping.scheduling.results import requests_csv, trace_json

    (policy,) = plan.policies
    with progress() as bar:
        run = _predict(plan, policy, plan.first_seed, Tasks(bar))
    figures = metrics(run)
    console.print(streams_table(figures, plan.workload))
    console.print(summary(figures), soft_wrap=True)
    measured = None
    if plan.how:
        with progress() as bar:
            show = Tasks(bar)
            told: Progress = lambda done, total: show("in RTL", done, total)  # noqa: E731
            measured = _live(plan, told) if plan.how == "live" else _replayed(run, folder, told)
        for number, reason in measured.failed.items():
            errors.print(f"request {number}: {reason}")
        console.print(rtl_summary(run, measured), soft_wrap=True)
    files = {
        "requests.csv": requests_csv(run, measured),
        "trace.json": trace_json(measured.run if measured else run, plan.workload.clock_mhz),
        "report.html": serving_page(run, plan.workload, policy, plan.clock, measured),
    }
    return files, measured.exact if measured else {}


def _live(plan: Plan, told: Progress) -> Measured:
    """Return the same requests in RTL, where the policy decides from its state."""
    from mapping.scheduling.measured import Measured
    from mapping.scheduling.rtl_clock import RtlClock
    from tb.session import Session

    (policy,) = plan.policies
    with Session(plan.deployment.system) as session, RtlClock(plan.deployment, session) as clock:
        run = _simulate(plan, policy, plan.first_seed, clock, told)
    return Measured(run, clock.exact, clock.failed)


def _replayed(run: Run, folder: ServingFolder | None, told: Progress) -> Measured:
    """Return the requests of a prediction in RTL; those that the folder has measured are not run again."""
    from mapping.scheduling.journal import Journal
    from mapping.scheduling.rtl_replay import is_complete, measured, replay
    from tb.session import Session

    journal = Journal(folder.journal) if folder is not None else None
    if journal is not None and is_complete(run, journal):
        return measured(run, journal.rows)
    with Session(run.deployment.system) as session:
        return replay(run, session, journal=journal, progress=told)


def serve_policies(plan: Plan, folder: ServingFolder | None) -> Results:
    """Serve with each policy and seed; print them side by side and return policies.csv and report.html."""
    from mapping.report.serving import policies_table
    from mapping.report.serving_policies import policies_page
    from mapping.scheduling.bounds import Optimum, optimum
    from mapping.scheduling.metrics import Metrics, metrics
    from mapping.scheduling.results import policies_csv
    from mapping.scheduling.workload import arrivals_of

    figures: dict[str, list[Metrics]] = {name: [] for name in plan.policies}
    bounds = []
    with progress() as bar:
        show = Tasks(bar)
        for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
            bounds.append(optimum(plan.deployment, plan.workload, arrivals_of(plan.workload, seed)))
            for name, runs in figures.items():
                known = folder.figures(name, seed) if folder is not None else None
                if known is None:
                    known = metrics(_predict(plan, name, seed, show))
                    if folder is not None:
                        folder.keep(name, seed, known)
                runs.append(known)
    if any(bound.missing for bound in bounds):
        errors.print("for the optimum of these requests install OR-tools: pip install 'npuloop[optimum]'")
    best = Optimum(_mean([bound.mean for bound in bounds]), _mean([bound.late_percent for bound in bounds]))
    console.print(policies_table(figures, plan.workload, best))
    page = policies_page(figures, plan.workload, plan.clock, plan.first_seed, best)
    return {"policies.csv": policies_csv(figures, plan.first_seed), "report.html": page}, {}


def _mean(values: Sequence[float | None]) -> float | None:
    """Return a mean over seeds; None: one of them is not known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
