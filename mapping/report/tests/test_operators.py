# SPDX-License-Identifier: Apache-2.0
"""The table of where a model's operators run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from golden.importers.testing import Case, conv, written
from golden.importers.tflite import examine_tflite
from mapping.report.networks import show_table
from mapping.report.operators import operator_table, places_of


def lines(table: Table) -> dict[str, list[str]]:
    """Return the printed rows by their first word, as words."""
    console = Console(width=240)
    with console.capture() as capture:
        console.print(table)
    rows = [line.split() for line in capture.get().splitlines() if line.strip()]
    return {row[0]: row[1:] for row in rows}


def mixed(tmp_path: Path) -> Path:
    """A first reshape that is no view, a TRANSPOSE between layers, a PAD, a softmax."""
    case = Case.start((1, 256))
    case.then("RESHAPE", case.output((1, 8, 8, 4), keep=True), case.builder.constant([1, 8, 8, 4]))
    case.pad(1, 1, 1, 1).convolution(padding="VALID")
    case.then("TRANSPOSE", case.output((1, 8, 8, 4), keep=True), case.builder.constant([0, 2, 1, 3]))
    case.convolution().mean(False, (0.1, 0)).softmax()
    return written(case.build(), tmp_path)


def test_every_operator_stands_where_it_runs(tmp_path: Path) -> None:
    report = examine_tflite(mixed(tmp_path))
    assert report.network is not None
    assert places_of(report.network) == {
        "reshape_0": "host", "conv2d_2": "unit", "transpose_3": "refused", "conv2d_4": "unit",
        "mean_5": "unit", "reshape_5_out": "view", "softmax_6": "host",
    } | {"reshape_5_out": "host"}  # fmt: skip
    rows = lines(operator_table(report, "model"))
    assert rows["RESHAPE"] == ["1", "-", "1", "-", "-"]
    assert rows["PAD"] == ["1", "-", "-", "1", "-"]
    assert rows["CONV_2D"] == ["2", "2", "-", "-", "-"]
    assert rows["TRANSPOSE"][:5] == ["1", "-", "-", "-", "1"]
    assert "transpose runs on the host, and only at a network's ends" in " ".join(rows["TRANSPOSE"])
    assert rows["SOFTMAX"] == ["1", "-", "1", "-", "-"]
    assert lines(show_table(report.network))["transpose_3"][:2] == ["conv2d_2", "refused"]


def test_a_refused_file_says_where_its_operators_would_run_and_why_others_do_not(tmp_path: Path) -> None:
    case = conv()
    for _ in range(3):
        case.then("TANH", case.output(case.shape))
    case.convolution(activation=4).softmax()
    rows = lines(operator_table(examine_tflite(written(case.build(), tmp_path)), "model"))
    assert rows["CONV_2D"][:5] == ["2", "1", "-", "-", "1"]
    assert " ".join(rows["CONV_2D"][5:]).startswith("4: fused activation number 4")
    assert rows["TANH"] == ["3", "-", "-", "-", "3", "1:", "not", "supported", "(and", "2", "more)"]
    assert rows["SOFTMAX"] == ["1", "-", "1", "-", "-"]
