# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop area`: what the area table says of a system's units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.files import write_json
from npuloop.cli.console import console
from npuloop.cli.options import SYSTEM, Setting, SystemName, Units, system_of, units_of, written_file


def area(
    system: SystemName = SYSTEM,
    units: Units = None,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    library: Annotated[str, typer.Option(help="cell library: sky130 or osu018")] = "sky130",
    table: Annotated[
        Path | None, typer.Option(help="area table; default: mapping/cost_tables/area.yaml")
    ] = None,
    json_file: Annotated[Path | None, written_file("--json", what="file for the figures")] = None,
) -> None:
    """Print area, frequency and registers of the units, as `npuloop synth` has found them.

    Nothing is synthesised. Exit status: 0, 2 if the input is wrong, or the table lacks a unit or is stale.
    """
    from mapping.characterization.area import FILE
    from mapping.report.area_figures import area_document, area_figures_table

    config = system_of(system, settings)
    cores = [config.core(unit) for unit in units_of(config, units)]
    document = area_document(cores, library, table or FILE)
    console.print(area_figures_table(document))
    if json_file:
        write_json(json_file, document)
