# SPDX-License-Identifier: Apache-2.0
"""What `npuloop sim` prints and writes of the digits networks: a table, a sentence, plain data."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from mapping.report.networks import layer_table, rows_of
from mapping.run.digits import VariantReport


def table(report: VariantReport) -> Table:
    """Return the table of a variant: layer, unit, cycles, utilisation, mismatches."""
    return layer_table(report.runs)


def verdict(report: VariantReport) -> str:
    """Return the sentence about accuracy."""
    return (
        f"{report.unit} got {report.correct} of {report.images} digits right ({report.accuracy:.1%}); "
        f"the float network {report.digits.float_correct(report.images)}"
    )


def as_json(report: VariantReport) -> dict[str, Any]:
    """Return the table as plain data."""
    return {
        "unit": report.unit,
        "variant": report.digits.variant,
        "images": report.images,
        "correct": report.correct,
        "accuracy": report.accuracy,
        "float_correct": report.digits.float_correct(report.images),
        "mismatches": report.mismatches,
        "total_cycles": report.runs[0].cycles,
        "layers": [
            {
                "name": row.part.layer,
                "op": row.op,
                "cycles": row.measured.cycles,
                "macs": row.part.macs,
                "utilisation": row.utilisation,
                "mismatches": sum(run.mismatches[row.part.layer] for run in report.runs),
            }
            for row in rows_of(report.runs[0])
        ],
    }
