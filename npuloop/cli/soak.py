# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop soak`: random layers and networks, and random systems, in RTL."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import ConfigError
from npuloop.cli.console import FAILED, console, errors, progress
from npuloop.cli.options import SYSTEM, Setting, SystemName, system_of, system_options

if TYPE_CHECKING:
    from hw.system import System

NETWORKS, ALL = "networks", "all"
"""What --unit can say instead of a unit."""


def soak(
    count: Annotated[int, typer.Option(min=1, help="random layers per unit, networks, or systems")] = 100,
    seed: Annotated[int, typer.Option(help="first seed")] = 1,
    unit: Annotated[
        str, typer.Option(help=f"unit of the system, for layers; {NETWORKS} (on all units), or {ALL}")
    ] = ALL,
    system: SystemName = SYSTEM,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    network: Annotated[
        Path | None, typer.Option(help="a model instead: random mappings and inputs, all tensors compared")
    ] = None,
    inputs: Annotated[int, typer.Option(min=1, help="random inputs for each mapping of --network")] = 8,
    systems: Annotated[
        bool, typer.Option("--systems", help="random systems instead, with layers and networks on each")
    ] = False,
) -> None:
    """Run random layers and networks, without and with back-pressure; print the seed of what fails."""
    from mapping.run import soak as soaking

    if systems:
        if unit != ALL or system != SYSTEM or settings or network:
            raise ConfigError(
                "--systems draws systems, units and networks: leave out --unit, --system, --set and --network"
            )
        _soak_systems(range(seed, seed + count))
        return
    config = system_of(system, settings)
    for name in {NETWORKS, ALL} & set(config.units):
        raise ConfigError(f"a unit is called {name!r}, which means something else to --unit; rename it")
    if unit not in (NETWORKS, ALL):
        config.index(unit)  # refuses an unknown one
    options = system_options(system, settings)
    if network is not None:
        if unit not in (NETWORKS, ALL):
            raise ConfigError(f"--network runs on all units; leave out --unit {unit}")
        _soak_network(network, range(seed, seed + count), config, inputs, options)
        return
    failures: list[str] = []
    values = 0
    for name in (*config.units, NETWORKS) if unit == ALL else (unit,):
        with progress() as bar:
            task = bar.add_task(name, total=count)
            seeds, done = range(seed, seed + count), functools.partial(bar.advance, task)
            if name == NETWORKS:
                result = soaking.soak_networks(seeds, config, done, options=options)
            else:
                result = soaking.soak(name, seeds, config, done, options=options)
        console.print(
            f"{name}: {result.runs} runs of {count} from seed {seed}, {result.cycles:,} cycles, "
            f"{result.values:,} values compared, {result.wrong:,} wrong, {len(result.failures)} failed"
        )
        failures += result.failures
        values += result.values
    if unit == ALL:
        console.print(f"all: {values:,} values compared")
    _report(failures)


def _soak_network(path: Path, seeds: range, config: System, inputs: int, options: str) -> None:
    """Run a model under random mappings."""
    from golden.importers.models import load_model
    from mapping.run.soak import soak_one_network

    model = load_model(path)
    with progress() as bar:
        task = bar.add_task(model.name, total=len(seeds))
        done = functools.partial(bar.advance, task)
        options = f"--network {path} {options}".rstrip()
        result = soak_one_network(model, seeds, config, done, inputs=inputs, options=options)
    console.print(
        f"{model.name}: {len(seeds)} mappings from seed {seeds.start}, {inputs} inputs each, "
        f"{result.runs:,} runs, {result.cycles:,} cycles, {result.values:,} values compared, "
        f"{result.wrong:,} wrong, {len(result.failures)} failed"
    )
    _report(result.failures)


def _soak_systems(seeds: range) -> None:
    """Run random systems; print each as it is done."""
    from mapping.run.soak_systems import soak_systems

    failures: list[str] = []
    runs = values = wrong = 0
    with progress() as bar:
        task = bar.add_task("systems", total=len(seeds))
        for done in soak_systems(seeds):
            console.print(done.text, soft_wrap=True)
            failures += done.result.failures
            runs += done.result.runs
            values += done.result.values
            wrong += done.result.wrong
            bar.advance(task)
    console.print(
        f"{len(seeds)} systems from seed {seeds.start}: {runs:,} runs, {values:,} values compared, "
        f"{wrong:,} wrong, {len(failures)} failed"
    )
    _report(failures)


def _report(failures: list[str]) -> None:
    """Print what failed, if anything did, and end with its exit status."""
    for failure in failures:
        errors.print(failure, markup=False)
    if failures:
        raise typer.Exit(FAILED)
