# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop bench`: utilisation beside the cycle law, and speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from common.paths import data_dir
from hw.system import PRESETS, System
from npuloop.cli.console import FAILED, Tasks, console, errors, progress
from npuloop.cli.options import SYSTEM, Setting, SystemName, system_of

if TYPE_CHECKING:
    from rich.table import Table

    from tb.session import Session

Found = TypeVar("Found")
"""What a benchmark finds of a network."""


def bench(
    system: SystemName = SYSTEM,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    speed: Annotated[
        bool, typer.Option(help="compare the simulation's speed with a plain C++ harness")
    ] = True,
    layers: Annotated[bool, typer.Option(help="print every layer of the networks")] = True,
    sections: Annotated[
        bool, typer.Option("--sections", help="only what it costs to cut networks into sections, in RTL")
    ] = False,
    plans: Annotated[
        bool, typer.Option("--plans", help="only what choosing plans by their price gains, predicted")
    ] = False,
    serving: Annotated[
        bool, typer.Option("--serving", help="only how many requests a second clocks and RTL serve")
    ] = False,
) -> None:
    """Measure how busy the arrays are, beside the cycle law, and how fast the simulation is.

    Single layers on every unit, a wide layer on one unit and on both, and whole networks where the reference
    data are. With --system or --set only single layers are measured, and no speed.
    """
    if sections:
        _bench_sections(system_of(system, settings))
        return
    if plans:
        _bench_plans()
        return
    if serving:
        _bench_serving()
        return
    from mapping.bench import (
        cost_model as bench_costs,
        export as bench_export,
        search as bench_search,
        utilisation as benchmarks,
    )
    from tb.session import Session

    missed: list[str] = []
    config = system_of(system, settings)
    default = config == PRESETS[SYSTEM]
    with Session(config) as session:
        rows = benchmarks.efficiency(session)
        console.print(benchmarks.efficiency_table(rows))
        for note in benchmarks.gap_notes():
            console.print(f"  {note}", style="dim", soft_wrap=True)
        missed += benchmarks.missed_targets(rows)
        if default:
            missed += _bench_networks(session, layers, speed)
    if speed and default:
        measured = benchmarks.simulation_speed()
        console.print()
        console.print(benchmarks.speed_table(measured, "both units at work"))
        missed += benchmarks.missed_speed(measured)
        costs = bench_costs.cost_speed()
        console.print()
        console.print(bench_costs.cost_speed_table(costs))
        missed += bench_costs.missed_cost_speed(costs)
        steps = [bench_search.step_time(name) for name in bench_search.NETWORKS]
        console.print()
        console.print(bench_search.step_table(steps))
        missed += bench_search.missed_step_times(steps)
        imports = [bench_export.import_time(name) for name in bench_export.NETWORKS]
        console.print()
        console.print(bench_export.import_table(imports))
        missed += bench_export.missed_import_times(imports)
    _end([f"target missed: {line}" for line in missed])


def _end(missed: Sequence[str]) -> None:
    """Print what is missed, if anything, and end with the status of a failure then."""
    for line in missed:
        errors.print(line, markup=False)
    if missed:
        raise typer.Exit(FAILED)


def _bench_sections(config: System) -> None:
    """Print what networks take in sections, beside the whole ones."""
    from mapping.bench.sections import missed_prices, prices, prices_table
    from tb.session import Session

    with Session(config) as session, progress() as bar:
        show = Tasks(bar)
        found = prices(session, lambda done, total: show("networks", done, total))
    _print_networks(found, prices_table, missed_prices)


def _bench_serving() -> None:
    """Print how fast requests are served on the default pair."""
    from mapping.bench.serving import bench_serving, missed_serving, serving_table
    from tb.session import Session

    with Session(System()) as session:
        found = bench_serving(session)
    _print_networks(found, serving_table, missed_serving)


def _print_networks(
    found: Sequence[Found],
    table: Callable[[Sequence[Found]], Table],
    missed: Callable[[Sequence[Found]], Sequence[str]],
) -> None:
    """Print what was found of the reference networks, or that there are none, and end; see `_end`."""
    if not found:
        console.print(f"no networks in {data_dir() / 'models'}: see NPULOOP_DATA", soft_wrap=True)
        return
    console.print(table(found))
    _end(missed(found))


def _bench_plans() -> None:
    """Print what public and random networks gain by their plans; all on the default pair."""
    from mapping.bench.plans import (
        SEEDS,
        mapping_times,
        missed_plans,
        plans_summary,
        plans_table,
        public_plans,
        random_plans,
    )

    public = list(public_plans())
    if public:
        console.print(plans_table(public))
        console.print(f"public: {plans_summary(public)}", soft_wrap=True)
    with progress() as bar:
        found = list(bar.track(random_plans(), total=SEEDS, description="random networks"))
    console.print(f"random: {plans_summary(found)}", soft_wrap=True)
    for item in mapping_times():
        console.print(
            f"a mapping of {item.network} in the search: {item.compile_ms:.1f} ms to compile, "
            f"{item.price_ms:.1f} ms to price",
            soft_wrap=True,
        )
    missed = missed_plans([*public, *found])
    _end(missed)


def _bench_networks(session: Session, layers: bool, speed: bool) -> list[str]:
    """Print what whole networks take; return a line for every target that is missed."""
    from mapping.bench import networks as bench_networks, utilisation as benchmarks
    from mapping.report.networks import layer_table

    split = bench_networks.split_case(session)
    console.print()
    console.print(bench_networks.split_table(split))
    missed = bench_networks.missed_split(split)
    runs = bench_networks.network_runs(session)
    console.print()
    if not runs:
        console.print(f"no networks in {data_dir() / 'models'}: see NPULOOP_DATA", soft_wrap=True)
        return missed
    for run in runs if layers else ():
        console.print(layer_table([run]))
        console.print()
    console.print(bench_networks.network_table(runs))
    missed += bench_networks.missed_network_targets(runs)
    if speed:
        measured = bench_networks.network_speed(runs[0].program.network, session)
        console.print()
        console.print(benchmarks.speed_table(measured, runs[0].program.network.name))
        missed += benchmarks.missed_speed(measured)
    return missed
