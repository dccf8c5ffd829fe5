# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop soak`: random layers and networks, and random systems, in RTL."""

from __future__ import annotations

import functools
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import ConfigError
from npuloop.cli.console import FAILED, console, errors, progress
from npuloop.cli.options import MAX_SEED, SYSTEM, Setting, SystemName, system_of, system_options, written_file

if TYPE_CHECKING:
    from hw.system import System
    from mapping.run.soak import SoakResult

NETWORKS, ALL = "networks", "all"
"""What --unit can say instead of a unit."""


def soak(
    count: Annotated[int, typer.Option(min=1, help="random layers per unit, networks, or systems")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="first seed")] = 1,
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
    record: Annotated[
        Path | None,
        written_file("--record", what="file of soaks (.yaml) that this one is added to, with its command"),
    ] = None,
) -> None:
    """Run random layers and networks, without and with back-pressure; print the seed of what fails."""
    started = time.monotonic()
    if record is not None:
        from mapping.run.soak_record import read_soaks

        read_soaks(record)  # refuses what is no record before the work
    if systems:
        if unit != ALL or system != SYSTEM or settings or network:
            raise ConfigError(
                "--systems draws systems, units and networks: leave out --unit, --system, --set and --network"
            )
        result = _soak_systems(range(seed, seed + count))
    else:
        result = _soak_one_system(range(seed, seed + count), unit, system, settings, network, inputs)
    if record is not None:
        from mapping.run.soak_record import record_soak

        record_soak(record, _command_line(), result, time.monotonic() - started)
    for failure in result.failures:
        errors.print(failure, markup=False)
    if result.failures:
        raise typer.Exit(FAILED)


def _command_line() -> str:
    """Return the command that runs, but for its record."""
    words = sys.argv[1:]
    while "--record" in words:
        at = words.index("--record")
        del words[at : at + 2]
    return shlex.join(["npuloop", *(word for word in words if not word.startswith("--record="))])


def _soak_one_system(
    seeds: range, unit: str, system: str, settings: list[str], network: Path | None, inputs: int
) -> SoakResult:
    """Run random layers and networks, or one network, on a system."""
    from mapping.run import soak as soaking

    config = system_of(system, settings)
    for name in {NETWORKS, ALL} & set(config.units):
        raise ConfigError(f"a unit is called {name!r}, which means something else to --unit; rename it")
    if unit not in (NETWORKS, ALL):
        config.index(unit)  # refuses an unknown one
    options = system_options(system, settings)
    if network is not None:
        if unit not in (NETWORKS, ALL):
            raise ConfigError(f"--network runs on all units; leave out --unit {unit}")
        return _soak_network(network, seeds, config, inputs, options)
    total = soaking.SoakResult()
    for name in (*config.units, NETWORKS) if unit == ALL else (unit,):
        with progress() as bar:
            task = bar.add_task(name, total=len(seeds))
            done = functools.partial(bar.advance, task)
            if name == NETWORKS:
                result = soaking.soak_networks(seeds, config, done, options=options)
            else:
                result = soaking.soak(name, seeds, config, done, options=options)
        console.print(
            f"{name}: {result.runs} runs of {len(seeds)} from seed {seeds.start}, {result.cycles:,} cycles, "
            f"{result.values:,} values compared, {result.wrong:,} wrong, {len(result.failures)} failed"
        )
        total.add(result)
    if unit == ALL:
        console.print(f"all: {total.values:,} values compared")
    return total


def _soak_network(path: Path, seeds: range, config: System, inputs: int, options: str) -> SoakResult:
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
    return result


def _soak_systems(seeds: range) -> SoakResult:
    """Run random systems; print each as it is done."""
    from mapping.run.soak import SoakResult
    from mapping.run.soak_systems import soak_systems

    total = SoakResult()
    with progress() as bar:
        task = bar.add_task("systems", total=len(seeds))
        for done in soak_systems(seeds):
            console.print(done.text, soft_wrap=True)
            total.add(done.result)
            bar.advance(task)
    console.print(
        f"{len(seeds)} systems from seed {seeds.start}: {total.runs:,} runs, "
        f"{total.values:,} values compared, {total.wrong:,} wrong, {len(total.failures)} failed"
    )
    return total
