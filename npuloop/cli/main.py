"""The command `npuloop`. Every sub-command is one call of the Python API and prints what it gives."""

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
from common.paths import data_dir
from golden.layer import load_layer
from hw.system import System
from mapping.bench import (
    cost_model as bench_costs,
    networks as bench_networks,
    search as bench_search,
    utilisation as benchmarks,
)
from mapping.report import digits as digits_report, networks as network_report
from mapping.run import digits as demo, soak as soaking
from mapping.run.layers import LayerRun, core_of, failure_report, pair_of, prepare, run_program, system_of
from npuloop.cli import (
    cost as cli_cost,
    gates as cli_gates,
    measure as cli_measure,
    networks as cli_networks,
    report as cli_report,
    search as cli_map,
)
from npuloop.cli.console import FAILED, Setting, Unit, console, errors, progress, reports_errors
from tb.session import Session

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


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


@app.command()
@reports_errors
def layer(
    files: Annotated[list[Path], typer.Argument(help="layer files (.npz)")],
    unit: Unit = "npu8",
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
    config = system_of(unit, settings)
    core = core_of(config, unit)
    programs = prepare(
        [load_layer(file) for file in files], core, clip=clip_weights, mem_bytes=config.mem_bytes
    )
    with Session(config) as session, progress() as bar:
        runs = [
            run_program(session, program, backpressure=backpressure)
            for program in bar.track(programs, description="layers")
        ]
    console.print(layer_table(runs, f"{unit}: W{core.w_bits}A{core.a_bits}, {core.rows} x {core.columns}"))
    for run in runs:
        if not run.passed:
            errors.print(failure_report(config, run), markup=False)
    if out:
        for name, run in zip(names, runs, strict=True):
            arrays: dict[str, Any] = {"output": run.output}
            write_atomically(out / f"{name}.npz", functools.partial(np.savez_compressed, **arrays))
    if json_file:
        write_json(json_file, layer_report(files, runs, config, unit, backpressure))
    failed = sum(not run.passed for run in runs)
    console.print(
        f"{len(runs) - failed} of {len(runs)} layers equal, {sum(run.cycles for run in runs):,} cycles"
    )
    if failed:
        raise typer.Exit(FAILED)


def layer_report(
    files: Iterable[Path], runs: Iterable[LayerRun], config: System, unit: str, backpressure: int | None
) -> dict[str, Any]:
    """Return what `npuloop layer --json` writes: the unit, and an entry for every file."""
    core = core_of(config, unit)
    return {
        "unit": unit,
        "parameters": {
            key: value for part in core.registers(config.axi_bits).values() for key, value in part.items()
        },
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


@app.command()
@reports_errors
def sim(
    images: Annotated[int, typer.Option(min=1, help="test digits to run")] = demo.DEFAULT_IMAGES,
    waves: Annotated[bool, typer.Option(help="one digit, with waves into sim_build/waves")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="file for the table")] = None,
) -> None:
    """Run a trained network's layers on both units, compare every value, and print cycles and accuracy."""
    if waves:
        for path in demo.trace_digit():
            console.print(f"waves: {path}", markup=False)
        return
    with progress() as bar:
        task = bar.add_task("digits", total=None)
        report = demo.run_digits(images, lambda done, total: bar.update(task, completed=done, total=total))
    for variant in report:
        console.print(digits_report.table(variant))
        console.print(f"{digits_report.verdict(variant)}\n")
    if json_file:
        write_json(json_file, [digits_report.as_json(variant) for variant in report])
    if any(variant.mismatches for variant in report):
        raise typer.Exit(FAILED)


@app.command()
@reports_errors
def soak(
    count: Annotated[int, typer.Option(min=1, help="random layers per unit, or networks")] = 100,
    seed: Annotated[int, typer.Option(help="first seed")] = 1,
    unit: Annotated[str, typer.Option(help="npu8, npu_lb, networks (on both), or all")] = "all",
    settings: Setting = [],  # noqa: B006  # as above
) -> None:
    """Run random layers and networks, without and with back-pressure; print the seed of what fails.

    With --set, the layers run on that unit alone and the networks on npu8 beside the low-bit unit.
    """
    failures: list[str] = []
    for name in ("npu8", "npu_lb", "networks") if unit == "all" else (unit,):
        with progress() as bar:
            task = bar.add_task(name, total=count)
            seeds, done = range(seed, seed + count), functools.partial(bar.advance, task)
            if name == "networks":
                result = soaking.soak_networks(seeds, pair_of(settings), done)
            else:
                result = soaking.soak(name, seeds, settings, done)
        console.print(
            f"{name}: {result.runs} runs of {count} from seed {seed}, {result.cycles:,} cycles, "
            f"{len(result.failures)} failed"
        )
        failures += result.failures
    for failure in failures:
        errors.print(failure, markup=False)
    if failures:
        raise typer.Exit(FAILED)


@app.command()
@reports_errors
def bench(
    settings: Setting = [],  # noqa: B006  # as above
    speed: Annotated[
        bool, typer.Option(help="compare the simulation's speed with a plain C++ harness")
    ] = True,
    layers: Annotated[bool, typer.Option(help="print every layer of the networks")] = True,
) -> None:
    """Measure how busy the arrays are, beside the cycle law, and how fast the simulation is.

    Single layers, a wide layer on one unit and on both, and whole networks where the reference data are. With
    --set, the low-bit unit alone is measured with those parameters, on single layers, and no speed.
    """
    missed: list[str] = []
    with Session(system_of("npu_lb", settings)) as session:
        rows = benchmarks.efficiency(session)
        console.print(benchmarks.efficiency_table(rows))
        for note in benchmarks.gap_notes():
            console.print(f"  {note}", style="dim", soft_wrap=True)
        missed += benchmarks.missed_targets(rows)
        if not settings:
            missed += _bench_networks(session, layers, speed)
    if speed and not settings:
        measured = benchmarks.simulation_speed()
        console.print()
        console.print(benchmarks.speed_table(measured, "both units at work"))
        missed += benchmarks.missed_speed(measured)
        costs = bench_costs.cost_speed()
        console.print()
        console.print(bench_costs.cost_speed_table(costs))
        missed += bench_costs.missed_cost_speed(costs)
        steps = [bench_search.step_time(name) for name in bench_search.NETWORKS]
        console.print()
        console.print(bench_search.step_table(steps))
        missed += bench_search.missed_step_times(steps)
    for line in missed:
        errors.print(f"target missed: {line}", markup=False)
    if missed:
        raise typer.Exit(FAILED)


def _bench_networks(session: Session, layers: bool, speed: bool) -> list[str]:
    """Print what whole networks take; return a line for every target that is missed."""
    split = bench_networks.split_case(session)
    console.print()
    console.print(bench_networks.split_table(split))
    missed = bench_networks.missed_split(split)
    runs = bench_networks.network_runs(session)
    console.print()
    if not runs:
        console.print(f"no networks in {data_dir() / 'models'}: see NPULOOP_DATA", soft_wrap=True)
        return missed
    for run in runs if layers else ():
        console.print(network_report.layer_table([run]))
        console.print()
    console.print(bench_networks.network_table(runs))
    missed += bench_networks.missed_network_targets(runs)
    if speed:
        measured = bench_networks.network_speed(runs[0].program.network, session)
        console.print()
        console.print(benchmarks.speed_table(measured, runs[0].program.network.name))
        missed += benchmarks.missed_speed(measured)
    return missed


for command in (
    cli_networks.run, cli_networks.show, cli_networks.quantize, cli_measure.measure, cli_cost.predict,
    cli_report.compare, cli_report.report, cli_gates.synth,
    cli_gates.characterize_energy, cli_gates.characterize_cells,
):  # fmt: skip
    app.command()(reports_errors(command))
app.command("map")(reports_errors(cli_map.map_network))
app.command("calibrate")(reports_errors(cli_cost.calibrate_units))


if __name__ == "__main__":
    app()
