# SPDX-License-Identifier: Apache-2.0
"""The sub-command `npuloop sim`: the embedded networks on the default system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.files import write_json
from npuloop.cli.console import FAILED, console, progress
from npuloop.cli.options import written_file


def sim(
    images: Annotated[
        int | None, typer.Option(min=1, help="test digits to run, of 450; default: 100")
    ] = None,
    waves: Annotated[bool, typer.Option(help="one digit, with waves into sim_build/waves")] = False,
    json_file: Annotated[Path | None, written_file("--json", what="file for the table")] = None,
) -> None:
    """Run a trained network's layers on both units, compare every value, and print cycles and accuracy."""
    from mapping.report import digits as digits_report
    from mapping.run import digits as demo

    if waves:
        for path in demo.trace_digit():
            console.print(f"waves: {path}", markup=False)
        return
    with progress() as bar:
        task = bar.add_task("digits", total=None)
        count = demo.DEFAULT_IMAGES if images is None else images
        report = demo.run_digits(count, lambda done, total: bar.update(task, completed=done, total=total))
    for variant in report:
        console.print(digits_report.table(variant))
        console.print(f"{digits_report.verdict(variant)}\n")
    if json_file:
        write_json(json_file, [digits_report.as_json(variant) for variant in report])
    if any(variant.mismatches for variant in report):
        raise typer.Exit(FAILED)
