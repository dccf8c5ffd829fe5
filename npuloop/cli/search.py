# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop map`: search for mappings, train and verify them, beside baselines."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from common.errors import UnsupportedError
from npuloop.cli.console import FAILED, Tasks, console, errors, progress
from npuloop.cli.options import (
    SYSTEM,
    Scheduler,
    Setting,
    SystemName,
    TlsAuthority,
    TlsCertificate,
    TlsKey,
    Workers,
    system_of,
    tls_files,
    written_folder,
)


def map_network(
    model: Annotated[
        str,
        typer.Option(help="digits, resnet8, resnet20, ds_cnn, mobilenet_v1_025, or package.module:function"),
    ] = "digits",
    data: Annotated[
        str, typer.Option(help="digits, cifar10, cifar10:FOLDER, or package.module:function")
    ] = "digits",
    objective: Annotated[
        str, typer.Option(help="latency, energy, or both: the energy-delay product")
    ] = "latency",
    strengths: Annotated[
        str | None, typer.Option(help="of the cost in the loss, for example 0.1,0.3,1: a point for each")
    ] = None,
    target_cycles: Annotated[
        str | None, typer.Option(help="cycles that must be met, for example 40000,45000: a point for each")
    ] = None,
    target_energy: Annotated[
        str | None, typer.Option(help="µJ that must be met, with --objective energy, for example 12.5,15")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="number of seeds, 1, 2, ...")] = 1,
    baselines: Annotated[
        str | None,
        typer.Option(
            help="kinds of points to compare with, or none; default: everything on one unit, for each unit, "
            "first_last, cheapest, layerwise, random"
        ),
    ] = None,
    pin: Annotated[list[str], typer.Option(help="LAYER=UNIT, a layer that is not free; repeatable")] = [],  # noqa: B006  # typer reads it, nobody writes it
    train: Annotated[
        list[str], typer.Option(help="of the recipe, such as search_epochs=10; repeatable")
    ] = [],  # noqa: B006  # as above
    system: SystemName = SYSTEM,
    settings: Setting = [],  # noqa: B006  # as above
    verification_images: Annotated[
        int, typer.Option(min=1, help="test images to run in RTL for each point")
    ] = 2,
    workers: Workers = None,
    scheduler: Scheduler = None,
    tls_ca: TlsAuthority = None,
    tls_cert: TlsCertificate = None,
    tls_key: TlsKey = None,
    out: Annotated[Path, written_folder(what="folder for everything that is made")] = Path("map"),
) -> None:
    """Search which output channels of which layer run on which unit; train, quantise, and run that in RTL.

    Beside every searched mapping stand baselines with the same training. OUT/pareto.csv has a row for each
    point, OUT/report.html draws them, OUT/points has the networks and their MAP.yaml. A run that was stopped
    goes on where it was when the same command is given again.
    Exit status: 0 if every point is exact in RTL, 1 if one is not, 2 if the input is wrong.
    """
    from common.workers import Workers as Pool
    from mapping.report.search import write_report
    from mapping.report.search_console import point_table
    from mapping.report.search_study import load_study
    from mapping.search.objectives import OBJECTIVES, objective_of
    from mapping.search.plan import HEURISTICS, LAYERWISE, RANDOM, Plan
    from mapping.search.recipes import DEFAULT_STRENGTHS, STRENGTHS, recipe_of
    from mapping.search.study import run_study
    from mapping.search.study_folder import Folder

    targets = {"--target-cycles": target_cycles, "--target-energy": target_energy}
    asked = objective_of(objective)
    for option, text in targets.items():
        if text and option != asked.option:
            other = next(name for name, item in OBJECTIVES.items() if item.option == option)
            raise UnsupportedError(f"{option} needs --objective {other}, not {objective}")
    config = system_of(system, settings)
    kinds = (
        (*config.units, *HEURISTICS, LAYERWISE, RANDOM) if baselines is None else tuple(baselines.split(","))
    )
    plan = Plan(
        model=model,
        data=data,
        objective=objective,
        strengths=numbers("--strengths", strengths),
        targets=tuple(value for option, text in targets.items() for value in numbers(option, text)),
        seeds=tuple(range(1, seeds + 1)),
        recipe=recipe_of(model, dict(assignments("--train", train))),
        pins=dict(assignments("--pin", pin)),
        system=config,
        baselines=() if baselines == "none" else kinds,
        verification_images=verification_images,
    )
    if not plan.strengths and not plan.targets:
        plan = replace(plan, strengths=STRENGTHS.get(model, DEFAULT_STRENGTHS))
    command = shlex.join(["npuloop", *sys.argv[1:]])
    pool = Pool(
        workers, scheduler, tls=tls_files(tls_ca, tls_cert, tls_key), preload=("mapping.search.study",)
    )
    with progress() as bar, pool, following(Folder(out).log, bar):
        points = run_study(plan, out, pool.run, Tasks(bar), command)
    document = load_study(out / "study.json")
    write_report(document, out / "report.html")
    console.print(point_table(points, f"{model} on {data}"))
    exact = sum(point.exact_in_rtl for point in points)
    error = max(abs(point.predicted_cycles / point.measured_cycles - 1) for point in points)
    console.print(
        f"\n{exact} of {len(points)} points exact in RTL; predicted cycles within {error:.2%} of measured; "
        f"{out / 'pareto.csv'}, {out / 'report.html'}",
        soft_wrap=True,
    )
    for point in points:
        if not point.exact_in_rtl:
            errors.print(f"{point.name}: differs from the golden model in RTL", markup=False)
    if exact < len(points):
        raise typer.Exit(FAILED)


@contextmanager
def following(log: Path, bar: Progress) -> Iterator[None]:
    """Show the last line of a log that others write beside a progress bar, twice a second."""
    done = threading.Event()

    def follow() -> None:
        task = None
        while not done.wait(0.5):
            if not log.exists():
                continue
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - 500))
                last = file.read().decode(errors="replace").splitlines()[-1:]
            if last:
                task = bar.add_task("", total=None) if task is None else task
                bar.update(task, description=last[0][:110])

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def numbers(option: str, text: str | None) -> tuple[float, ...]:
    """Return the numbers of an option such as "0.1,0.3".

    Raises:
        UnsupportedError: something else.
    """
    try:
        return tuple(float(item) for item in text.split(",")) if text else ()
    except ValueError:
        raise UnsupportedError(
            f"{option} {text!r}: give numbers with commas between, such as 1,2.5"
        ) from None


def assignments(option: str, items: list[str]) -> list[tuple[str, str]]:
    """Return the pairs of an option such as "conv1=npu8".

    Raises:
        UnsupportedError: something else.
    """
    pairs = []
    for item in items:
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise UnsupportedError(f"{option} {item!r}: give NAME=VALUE")
        pairs.append((name, value))
    return pairs
