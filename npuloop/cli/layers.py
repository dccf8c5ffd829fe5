"""The sub-command `npuloop layer`: single layers in RTL."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from common.errors import NpuloopError
from common.files import write_atomically, write_json
from golden.layer import load_layer
from hw.core import CoreConfig
from hw.system import System
from mapping.cost.tables import core_parameters
from mapping.run.layers import LayerRun, failure_report, prepare, run_program
from npuloop.cli.console import FAILED, console, errors, progress
from npuloop.cli.options import SYSTEM, Setting, SystemName, Unit, system_of, unit_of
from tb.session import Session


def layer_table(runs: Iterable[LayerRun], title: str) -> Table:
    """Return the table of single-layer runs."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    numbers = ("cycles", "MACs", "utilisation", "mismatches")
    for name in ("layer", "operator", *numbers, "expected"):
        table.add_column(name, justify="right" if name in numbers else "left")
    for run in runs:
        expected = {True: "equal", False: "[red]different[/]", None: "-"}[run.match_expected]
        table.add_row(
            run.layer.name, run.layer.op, f"{run.cycles:,}",
            f"{run.useful_macs:,}" if run.offered_macs else "-",
            f"{run.utilisation:.1%}" if run.offered_macs else "-",
            "0" if run.match else f"[red]{run.mismatches}[/]", expected,
        )  # fmt: skip
    return table


def layer(
    files: Annotated[list[Path], typer.Argument(help="layer files (.npz)")],
    system: SystemName = SYSTEM,
    unit: Unit = None,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    out: Annotated[Path | None, typer.Option(help="folder for the outputs, <name>.npz each")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="file for results and counters")] = None,
    backpressure: Annotated[int | None, typer.Option(help="seed of random stalls of the memory")] = None,
    clip_weights: Annotated[bool, typer.Option(help="clip weights to the unit's range first")] = False,
) -> None:
    """Run single layers on a unit in RTL and compare them bit for bit.

    Every output is compared with the golden model, and with the file's expected output where it has one.
    Exit status: 0 if everything is equal, 1 if anything differs, 2 if the input is wrong.
    """
    names = [file.stem for file in files]
    for name in sorted({name for name in names if names.count(name) > 1} if out else ()):
        raise NpuloopError(
            f"two files are named {name}.npz: their outputs would overwrite each other in {out}"
        )
    config = system_of(system, settings)
    core = config.core(unit_of(config, unit))
    programs = prepare(
        [load_layer(file) for file in files], core, clip=clip_weights, mem_bytes=config.mem_bytes
    )
    with Session(config) as session, progress() as bar:
        runs = [
            run_program(session, program, backpressure=backpressure)
            for program in bar.track(programs, description="layers")
        ]
    console.print(
        layer_table(runs, f"{core.name}: W{core.w_bits}A{core.a_bits}, {core.rows} x {core.columns}")
    )
    for run in runs:
        if not run.passed:
            errors.print(failure_report(config, run), markup=False)
    if out:
        for name, run in zip(names, runs, strict=True):
            arrays: dict[str, Any] = {"output": run.output}
            write_atomically(out / f"{name}.npz", functools.partial(np.savez_compressed, **arrays))
    if json_file:
        write_json(json_file, layer_report(files, runs, config, core, backpressure))
    failed = sum(not run.passed for run in runs)
    console.print(
        f"{len(runs) - failed} of {len(runs)} layers equal, {sum(run.cycles for run in runs):,} cycles"
    )
    if failed:
        raise typer.Exit(FAILED)


def layer_report(
    files: Iterable[Path],
    runs: Iterable[LayerRun],
    config: System,
    core: CoreConfig,
    backpressure: int | None,
) -> dict[str, Any]:
    """Return what `npuloop layer --json` writes: the unit, and an entry for every file."""
    return {
        "unit": core.name,
        "parameters": core_parameters(core, config),
        "backpressure_seed": backpressure,
        "files": [
            {
                "file": str(file),
                "name": run.layer.name,
                "op": run.layer.op,
                "match": run.match,
                "match_expected": run.match_expected,
                "mismatches": run.mismatches,
                "cycles": run.cycles,
                "useful_macs": run.useful_macs,
                "offered_macs": run.offered_macs,
                "counters": run.counters,
            }
            for file, run in zip(files, runs, strict=True)
        ],
    }
