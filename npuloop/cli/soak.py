# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop soak`: random layers and networks in RTL."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from common.errors import ConfigError
from npuloop.cli.console import FAILED, console, errors, progress
from npuloop.cli.options import MAX_SEED, SYSTEM, Setting, SystemName, system_of, system_options

NETWORKS, ALL = "networks", "all"
"""What --unit can say instead of a unit."""


def soak(
    count: Annotated[int, typer.Option(min=1, help="random layers per unit, or networks")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="first seed")] = 1,
    unit: Annotated[
        str, typer.Option(help=f"unit of the system, for layers; {NETWORKS} (on all units), or {ALL}")
    ] = ALL,
    system: SystemName = SYSTEM,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
) -> None:
    """Run random layers and networks, without and with back-pressure; print the seed of what fails."""
    from mapping.run import soak as soaking

    config = system_of(system, settings)
    for name in {NETWORKS, ALL} & set(config.units):
        raise ConfigError(f"a unit is called {name!r}, which means something else to --unit; rename it")
    if unit not in (NETWORKS, ALL):
        config.index(unit)  # refuses an unknown one
    options = system_options(system, settings)
    failures: list[str] = []
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
            f"{len(result.failures)} failed"
        )
        failures += result.failures
    for failure in failures:
        errors.print(failure, markup=False)
    if failures:
        raise typer.Exit(FAILED)
