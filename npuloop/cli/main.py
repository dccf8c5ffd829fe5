"""The command `npuloop`. Every sub-command is one call of the Python API and prints what it gives."""

from __future__ import annotations

from collections.abc import Callable

import typer

from npuloop.cli import bench, cost, gates, layers, measure, networks, report, search, sim, soak
from npuloop.cli.console import reports_errors

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

COMMANDS: dict[str, Callable[..., None]] = {
    "layer": layers.layer,
    "sim": sim.sim,
    "soak": soak.soak,
    "bench": bench.bench,
    "run": networks.run,
    "show": networks.show,
    "quantize": networks.quantize,
    "measure": measure.measure,
    "predict": cost.predict,
    "compare": report.compare,
    "report": report.report,
    "synth": gates.synth,
    "characterize-energy": gates.characterize_energy,
    "characterize-cells": gates.characterize_cells,
    "map": search.map_network,
    "calibrate": cost.calibrate_units,
}
for name, command in COMMANDS.items():
    app.command(name)(reports_errors(command))


if __name__ == "__main__":
    app()
