# SPDX-License-Identifier: Apache-2.0
"""What `npuloop layer` prints and writes of single layers in RTL: a table, plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from hw.core import CoreConfig
from hw.system import System
from mapping.cost.tables import core_parameters
from mapping.run.layers import LayerRun


def layer_table(runs: Iterable[LayerRun], title: str) -> Table:
    """Return the table of single-layer runs."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    numbers = ("cycles", "MACs", "utilisation", "mismatches")
    for name in ("layer", "operator", *numbers, "expected"):
        table.add_column(name, justify="right" if name in numbers else "left")
    for run in runs:
        different = Text("different", style="red")
        expected = "-" if run.match_expected is None else "equal" if run.match_expected else different
        table.add_row(
            run.layer.name, run.layer.op, f"{run.cycles:,}",
            f"{run.useful_macs:,}" if run.offered_macs else "-",
            f"{run.utilisation:.1%}" if run.offered_macs else "-",
            "0" if run.match else Text(str(run.mismatches), style="red"), expected,
        )  # fmt: skip
    return table


def layer_report(
    files: Iterable[Path],
    runs: Iterable[LayerRun],
    config: System,
    core: CoreConfig,
    backpressure: int | None,
    refused: Mapping[Path, str],
) -> dict[str, Any]:
    """Return what `npuloop layer --json` writes: the unit, an entry for every file that ran, and the others.

    `refused`: why files did not run.
    """
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
        "refused": [{"file": str(file), "error": reason} for file, reason in refused.items()],
    }
