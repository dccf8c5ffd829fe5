# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop measure`: cycles of shapes, measured in RTL, beside those of the cost model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.files import write_atomically
from hw.memory import MemoryModel
from npuloop.cli.console import console, progress
from npuloop.cli.options import (
    SYSTEM,
    Latency,
    Scheduler,
    Setting,
    StoreFile,
    SystemName,
    TlsAuthority,
    TlsCertificate,
    TlsKey,
    Unit,
    Workers,
    system_of,
    tls_files,
    unit_of,
    written_file,
)

if TYPE_CHECKING:
    from mapping.calibration.farm import Job
    from mapping.calibration.measurement import Measurement


def measure(
    shapes: Annotated[Path, typer.Option(help="file of shapes (.yaml)")],
    out: Annotated[Path, written_file(what="file for the table (.csv)")],
    system: SystemName = SYSTEM,
    unit: Unit = None,
    settings: Setting = [],  # noqa: B006  # typer reads it, nobody writes it
    workers: Workers = None,
    scheduler: Scheduler = None,
    tls_ca: TlsAuthority = None,
    tls_cert: TlsCertificate = None,
    tls_key: TlsKey = None,
    latency: Latency = MemoryModel.latency,
    store: StoreFile = None,
) -> None:
    """Measure what layers take on a unit in RTL: one job for each shape, its output compared.

    Shapes with a split run on the units that it names. What has been measured before is taken from the store,
    unless the hardware or the commands have changed.
    Exit status: 0 if all were measured, 2 if the input is wrong or a measurement failed.
    """
    from mapping.calibration.farm import Farm
    from mapping.calibration.measurement import Setup
    from mapping.calibration.store import Store, default_path
    from mapping.cost.shapes import load_shapes
    from mapping.report.measurements import csv_text, predictor, rows_of, rows_table, summary

    setup = Setup(system_of(system, settings), MemoryModel(latency=latency))
    chosen = unit_of(setup.config, unit)
    layers = load_shapes(shapes)
    jobs: list[Job] = [(shape, chosen) for shape in layers]
    kept = Store(store or default_path())
    measurements: dict[str, Measurement] = {}
    with Farm(workers, scheduler, tls=tls_files(tls_ca, tls_cert, tls_key)) as farm, progress() as bar:
        task = bar.add_task("shapes", total=len(jobs))
        each = farm.measure(setup, jobs, kept, lambda done, _: bar.update(task, completed=done))
        measurements = {item.shape.name: item for item in each}
    predict, note = predictor(setup, jobs)
    rows = rows_of([measurements[shape.name] for shape in layers], predict)
    text = csv_text(rows)
    write_atomically(out, lambda file: file.write(text.encode()))
    console.print(rows_table(rows))
    console.print(f"\n{summary(rows)}", markup=False, soft_wrap=True)
    if note:
        console.print(f"no predictions: {note}", markup=False, soft_wrap=True)
    console.print(f"wrote {out}", markup=False, soft_wrap=True)
