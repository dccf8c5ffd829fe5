# SPDX-License-Identifier: Apache-2.0
"""The command `npuloop`. Every sub-command is one call of the Python API and prints what it gives."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Annotated

import typer

from common.errors import NpuloopError
from npuloop.cli import (
    accuracy,
    area,
    bench,
    cost,
    doctor,
    gates,
    layers,
    measure,
    networks,
    process,
    report,
    search,
    serve,
    sim,
    soak,
    tables,
)
from npuloop.cli.console import console, reports_errors

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

COMMANDS: dict[str, Callable[..., None]] = {
    "layer": layers.layer,
    "sim": sim.sim,
    "soak": soak.soak,
    "bench": bench.bench,
    "run": networks.run,
    "show": networks.show,
    "quantize": networks.quantize,
    "accuracy": accuracy.accuracy,
    "measure": measure.measure,
    "predict": cost.predict,
    "compare": report.compare,
    "report": report.report,
    "area": area.area,
    "synth": gates.synth,
    "characterize-energy": gates.characterize_energy,
    "characterize-cells": gates.characterize_cells,
    "map": search.map_network,
    "serve": serve.serve,
    "calibrate": cost.calibrate_units,
    "restamp": tables.restamp_tables,
    "doctor": doctor.doctor,
}
for name, command in COMMANDS.items():
    app.command(name)(reports_errors(command))


@reports_errors
def _print_version(asked: bool) -> None:
    """Print the version of the installed package and end the command.

    Raises:
        NpuloopError: the package is not installed.
    """
    if not asked:
        return
    try:
        version = metadata.version("npuloop")
    except metadata.PackageNotFoundError:
        raise NpuloopError("npuloop is not installed, so it has no version; run `make setup`") from None
    console.print(f"npuloop {version}")
    raise typer.Exit


@app.callback()
def _npuloop(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Take the options of `npuloop` itself."""


def main() -> None:
    """Run the command as a process of its own."""
    process.run(app)


if __name__ == "__main__":
    main()
