# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop serve`: requests that arrive, a policy, predicted responses and energies."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from common.errors import UnsupportedError
from common.files import claimed, write_atomically
from npuloop.cli.console import FAILED, console
from npuloop.cli.options import MAX_SEED, SYSTEM, Setting, SystemName, system_of, written_folder
from npuloop.cli.serving import Plan, serve_once, serve_policies


def serve(
    system: SystemName = SYSTEM,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    workload: Annotated[
        Path | None, typer.Option(help="workload.yaml; default: one that npuloop brings, run in RTL too")
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
        bool | None,
        typer.Option(
            "--replay/--no-replay",
            help="run in RTL what the policy has decided on the clock, compared; default: if no --workload "
            "is given",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        written_folder(what="folder for requests.csv or policies.csv, trace.json and report.html"),
    ] = None,
) -> None:
    """Serve a workload on a system: predicted responses, deadlines, energy and utilisation.

    One policy and one seed: a row for each request in requests.csv, a trace for ui.perfetto.dev, report.html.
    Several: the policies side by side, policies.csv and report.html. With --rtl the policy also decides from
    the state of the RTL; with --replay each unit of the RTL gets a queue of what it has decided here. A run
    that was killed goes on when it is given again. Exit status 1 if an output differs.
    """
    from mapping.scheduling.deployment import deploy_workload
    from mapping.scheduling.policies import load_policy, policy_names
    from mapping.scheduling.serving_folder import ServingFolder, fingerprint
    from mapping.scheduling.workload_file import load_with_versions

    config = system_of(system, settings)
    load, known, source = load_with_versions(workload, versions)
    names = policy_names(policy)
    single = len(names) == seeds == 1
    if rtl and replay:
        raise UnsupportedError("--rtl and --replay are two ways to run the requests in RTL; give one of them")
    if (rtl or replay) and not single:
        raise UnsupportedError(
            f"{'--rtl' if rtl else '--replay'} runs one policy with one seed; leave out --seeds and other "
            "policies"
        )
    if replay is None:
        replay = workload is None and single and not rtl
    for name in names:
        load_policy(name)  # an unknown one is an error before the work
    deployment = deploy_workload(config, load, known, source)
    plan = Plan(deployment, load, names, clock, seed, seeds, "live" if rtl else "replay" if replay else "")
    with claimed(out, UnsupportedError) if out is not None else nullcontext():
        folder = None
        if out is not None:
            folder = ServingFolder(out)
            folder.claim(fingerprint(deployment, load, names, clock, seed, seeds, plan.how))
        files, exact = serve_once(plan, folder) if single else serve_policies(plan, folder)
        if out is not None:
            _write(out, files)
    if not all(exact.values()):
        raise typer.Exit(FAILED)


def _write(out: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        write_atomically(out / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
        console.print(f"wrote {out / name}", soft_wrap=True)
