# SPDX-License-Identifier: Apache-2.0
"""Measured cycles beside predicted ones: as CSV, as a table, and in a line."""

from __future__ import annotations

from mapping.calibration.measurement import Measurement
from mapping.cost.model import Prediction
from mapping.cost.shapes import Shape
from mapping.report.measurements import csv_text, rows_of, rows_table, summary

CONV = Shape("conv", "conv2d", 16, 32, 8, 8, (3, 3), (1, 1), "same")
ADD = Shape("sum [red]", "add", 16, 16, 4, 4)


def test_predictions_fill_the_table() -> None:
    measured = [
        Measurement(shape, "npu8", cycles, {}, shape.macs, 0.5, "s", "c", 0.1)
        for shape, cycles in zip((CONV, ADD), (1000, 200), strict=True)
    ]
    guesses = {
        "conv": Prediction(1050.4, 1000.0, 1100.0, "measured", True, {}, {}),
        "sum [red]": Prediction(180, 170.4, 190, "measured", False, {}, {}),
    }
    rows = rows_of(measured, lambda shape, _: guesses[shape.name])
    assert csv_text(rows).splitlines()[1:] == [
        "conv,conv2d,npu8,1000,1050,5.04,1000,1100,50.00,yes",
        "sum [red],add,npu8,200,180,-10.00,170,190,50.00,no",
    ]
    assert summary(rows) == (
        "2 shapes measured, 1,200 cycles; mean absolute error 7.52 %, worst -10.00 % (sum [red])"
    )
    assert rows_table(rows).row_count == 2
