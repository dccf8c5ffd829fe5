# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop serve`: requests that arrive, a policy, predicted responses and energies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from common.errors import UnsupportedError
from common.files import claimed, write_atomically
from npuloop.cli.console import FAILED, Tasks, console, errors, progress
from npuloop.cli.options import MAX_SEED, SYSTEM, Setting, SystemName, system_of, written_folder

if TYPE_CHECKING:
    from mapping.scheduling.deployment import Deployment
    from mapping.scheduling.policy import Policy
    from mapping.scheduling.simulate import Run
    from mapping.scheduling.workload import Arrival, Workload


def serve(
    system: SystemName = SYSTEM,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    workload: Annotated[
        Path | None, typer.Option(help="workload.yaml; default: one of digits that npuloop brings")
    ] = None,
    versions: Annotated[
        Path | None, typer.Option(help="versions.yaml; default: the workload's, else its models as they are")
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="greedy, greedy-energy, fifo, sjf, edf, cheapest, split, preempt, fixed:FILE, or "
            "package.module:function; several with commas, or all"
        ),
    ] = "greedy",
    clock: Annotated[
        Literal["exact", "fast"], typer.Option(help="the timing model, or a quick estimate for exploring")
    ] = "exact",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="of the arrivals; the first of several")] = 1,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="number of seeds")] = 1,
    rtl: Annotated[
        bool, typer.Option("--rtl", help="run the same requests in RTL, outputs compared")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="run in RTL what the policy has decided on the clock, compared")
    ] = False,
    out: Annotated[
        Path | None,
        written_folder(what="folder for requests.csv, trace.json and report.html, or policies.csv"),
    ] = None,
) -> None:
    """Serve a workload on a system: predicted responses, deadlines, energy and utilisation.

    One policy and one seed: a row for each request in requests.csv, a trace for ui.perfetto.dev, report.html.
    Several: the policies side by side, and policies.csv. With --rtl the policy also decides from the state of
    the RTL; with --replay each unit of the RTL gets a queue of what it has decided here. Exit status 1 if an
    output differs.
    """
    from mapping.report.serving import policies_table, rtl_summary, streams_table, summary
    from mapping.report.serving_page import serving_page
    from mapping.scheduling.bounds import optimum
    from mapping.scheduling.deployment import deploy_workload
    from mapping.scheduling.metrics import Metrics, metrics
    from mapping.scheduling.policies import load_policy, policy_names
    from mapping.scheduling.results import policies_csv, requests_csv, trace_json
    from mapping.scheduling.simulate import simulate
    from mapping.scheduling.workload import arrivals_of
    from mapping.scheduling.workload_file import load_with_versions

    config = system_of(system, settings)
    load, known, source = load_with_versions(workload, versions)
    names = policy_names(policy)
    if rtl and replay:
        raise UnsupportedError("--rtl and --replay are two ways to run the requests in RTL; give one of them")
    if (rtl or replay) and not len(names) == seeds == 1:
        raise UnsupportedError(
            f"{'--rtl' if rtl else '--replay'} runs one policy with one seed; leave out --seeds and other "
            "policies"
        )
    for name in names:
        load_policy(name)  # an unknown one is an error before the work
    deployment = deploy_workload(config, load, known, source)
    figures: dict[str, list[Metrics]] = {name: [] for name in names}
    bounds = []
    run: Run | None = None
    with progress() as bar:
        show = Tasks(bar)
        for number in range(seed, seed + seeds):
            arrivals = arrivals_of(load, number)
            bounds.append(optimum(deployment, load, arrivals))
            for name in names:
                what = f"{name}, seed {number}"
                run = simulate(
                    deployment, load, arrivals, load_policy(name), clock,
                    lambda done, total, what=what: show(what, done, total),  # type: ignore[misc]
                )  # fmt: skip
                figures[name].append(metrics(run))
    assert run is not None  # there is a seed and a policy
    if len(names) == seeds == 1:
        (result,) = figures[names[0]]
        console.print(streams_table(result, load))
        console.print(summary(result), soft_wrap=True)
        measured, exact = None, None
        if rtl:
            measured, exact = _in_rtl(deployment, load, arrivals_of(load, seed), load_policy(names[0]))
        if replay:
            measured, exact = _replayed(run)
        if measured and exact is not None:
            console.print(rtl_summary(result, metrics(measured), exact), soft_wrap=True)
        files = {
            "requests.csv": requests_csv(run, measured, exact),
            "trace.json": trace_json(measured or run, load.clock_mhz),
        }
        files["report.html"] = serving_page(run, result, load, names[0], clock)
    else:
        means = [bound for bound in bounds if bound is not None]
        bound = sum(means) / len(means) if len(means) == len(bounds) else None
        console.print(policies_table(figures, load, bound))
        files, exact = {"policies.csv": policies_csv(figures, seed)}, None
    if out is not None:
        _write(out, files)
    if exact is not None and not all(exact.values()):
        raise typer.Exit(FAILED)


def _in_rtl(
    deployment: Deployment, load: Workload, arrivals: Sequence[Arrival], policy: Policy
) -> tuple[Run, dict[int, bool]]:
    """Return the same requests in RTL, and whether each was exact."""
    from mapping.scheduling.rtl_clock import RtlClock
    from mapping.scheduling.simulate import simulate
    from tb.session import Session

    with Session(deployment.system) as session, progress() as bar:
        show = Tasks(bar)
        clock = RtlClock(deployment, session)
        told = lambda done, total: show("in RTL", done, total)  # noqa: E731
        run = simulate(deployment, load, arrivals, policy, clock, told)
    _print_failures(clock.failed)
    return run, clock.exact


def _replayed(predicted: Run) -> tuple[Run, dict[int, bool]]:
    """Return the requests of a prediction in RTL, and whether each was exact."""
    from mapping.scheduling.rtl_replay import replay
    from tb.session import Session

    with Session(predicted.deployment.system) as session, progress() as bar:
        show = Tasks(bar)
        done = replay(predicted, session, progress=lambda done, total: show("in RTL", done, total))
    _print_failures(done.failed)
    return done.run, dict(done.exact)


def _print_failures(failed: Mapping[int, str]) -> None:
    for number, reason in failed.items():
        errors.print(f"request {number}: {reason}")


def _write(out: Path, files: Mapping[str, str]) -> None:
    with claimed(out, UnsupportedError):
        for name, text in files.items():
            write_atomically(out / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
            console.print(f"wrote {out / name}", soft_wrap=True)
