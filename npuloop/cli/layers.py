# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop layer`: single layers in RTL."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import NpuloopError
from common.files import claimed, write_atomically, write_json
from npuloop.cli.console import BAD_INPUT, FAILED, console, errors, progress
from npuloop.cli.options import (
    SYSTEM,
    Backpressure,
    Setting,
    SystemName,
    Unit,
    system_of,
    unit_of,
    written_file,
    written_folder,
)

if TYPE_CHECKING:
    from mapping.compiler.program import LayerProgram


def layer(
    files: Annotated[list[Path], typer.Argument(help="layer files (.npz)")],
    system: SystemName = SYSTEM,
    unit: Unit = None,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    out: Annotated[Path | None, written_folder(what="folder for the outputs, <name>.npz each")] = None,
    json_file: Annotated[Path | None, written_file("--json", what="file for results and counters")] = None,
    backpressure: Backpressure = None,
    clip_weights: Annotated[bool, typer.Option(help="clip weights to the unit's range first")] = False,
) -> None:
    """Run single layers on a unit in RTL and compare them bit for bit.

    Every output is compared with the golden model, and with the file's expected output where it has one. A
    file that is damaged or that the unit cannot run does not keep the others from running.
    Exit status: 0 if everything is equal, 1 if anything differs, 2 if the input is wrong.
    """
    import numpy as np

    from golden.layer import load_layer
    from mapping.report.layers import layer_report, layer_table
    from mapping.run.layers import failure_report, prepare, run_program
    from tb.session import Session

    names = [file.stem for file in files]
    for name in sorted({name for name in names if names.count(name) > 1} if out else ()):
        raise NpuloopError(
            f"two files are named {name}.npz: their outputs would overwrite each other in {out}"
        )
    config = system_of(system, settings)
    core = config.core(unit_of(config, unit))
    programs: dict[Path, LayerProgram] = {}
    refused: dict[Path, str] = {}
    for file in files:
        described = f"{file}: "
        try:
            (programs[file],) = prepare(
                [load_layer(file)], core, clip=clip_weights, mem_bytes=config.mem_bytes
            )
        except NpuloopError as error:
            refused[file] = str(error) if str(error).startswith(described) else f"{described}{error}"
    for reason in refused.values():
        errors.print(f"error: {reason}", markup=False)
    if not programs:
        raise typer.Exit(BAD_INPUT)
    with claimed(out) if out else nullcontext(), Session(config) as session, progress() as bar:
        runs = [
            run_program(session, program, backpressure=backpressure)
            for program in bar.track(list(programs.values()), description="layers")
        ]
    console.print(
        layer_table(runs, f"{core.name}: W{core.w_bits}A{core.a_bits}, {core.rows} x {core.columns}")
    )
    for run in runs:
        if not run.passed:
            errors.print(failure_report(config, run), markup=False)
    if out:
        for file, run in zip(programs, runs, strict=True):
            arrays: dict[str, Any] = {"output": run.output}
            write_atomically(out / f"{file.stem}.npz", functools.partial(np.savez_compressed, **arrays))
    if json_file:
        write_json(json_file, layer_report(programs, runs, config, core, backpressure, refused))
    failed = sum(not run.passed for run in runs)
    console.print(
        f"{len(runs) - failed} of {len(runs)} layers equal, {sum(run.cycles for run in runs):,} cycles"
    )
    if refused:
        console.print(
            f"{len(refused)} of {len(refused) + len(runs)} files refused: {', '.join(map(str, refused))}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    if failed or refused:
        raise typer.Exit(FAILED if failed else BAD_INPUT)
