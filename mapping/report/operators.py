# SPDX-License-Identifier: Apache-2.0
"""Where a model's operators run: on a unit, on the host, nowhere, or refused and why."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from common.errors import UnsupportedError
from golden.importers.tflite import OperatorReport, TfliteReport
from golden.importers.tflite_operators import HOST, NOTHING, UNIT, VIEW
from golden.network import Network
from mapping.compiler.legalise import placement
from mapping.report.console import console_table

REFUSED = "refused"


def places_of(network: Network) -> dict[str, str]:
    """Return for each node where it runs: UNIT, HOST, VIEW or REFUSED."""
    return _places(network)[0]


def _places(network: Network) -> tuple[dict[str, str], dict[str, str]]:
    """Return where each node runs, and why some do not."""
    places = {node.name: HOST for node in network.nodes}
    try:
        parts, reasons = placement(network)
    except UnsupportedError:  # nothing runs on a unit
        return places, {}
    places |= {node.name: UNIT if node.layer is not None else VIEW for node in parts.units}
    return places | dict.fromkeys(reasons, REFUSED), reasons


def operator_table(report: TfliteReport, title: str) -> Table:
    """Return the table of a file's operators: by name, how many run where, and why some are refused."""
    table = console_table(title, ("operator",), ("in the file", UNIT, HOST, "no command", REFUSED))
    table.add_column("why refused", overflow="fold")
    places, reasons = _places(report.network) if report.network else ({}, {})
    for name in dict.fromkeys(item.name for item in report.operators):
        items = [item for item in report.operators if item.name == name]
        found = [_place(item, places) for item in items]
        texts = [f"{item.index}: {_reason(item, reasons)}" for item in items if _reason(item, reasons)]
        counts = (found.count(UNIT), found.count(HOST), found.count(VIEW) + found.count(NOTHING))
        refused = found.count(REFUSED)
        table.add_row(
            name, str(len(items)), *(str(count or "-") for count in counts),
            Text(str(refused), style="red") if refused else "-", _few(texts),
        )  # fmt: skip
    return table


def _place(item: OperatorReport, places: dict[str, str]) -> str:
    """Return where an operator runs: refused where one of its nodes is, else where the first that counts."""
    if item.reason:
        return REFUSED
    found = [places[name] for name in item.nodes if name in places]
    if not places:
        return item.runs
    return next((place for place in (REFUSED, UNIT, HOST, VIEW) if place in found), NOTHING)


def _reason(item: OperatorReport, reasons: dict[str, str]) -> str:
    return item.reason or next((reasons[name] for name in item.nodes if name in reasons), "")


def _few(texts: list[str]) -> str:
    """Return the first reason, and how many more there are."""
    if not texts:
        return ""
    return texts[0] + (f" (and {len(texts) - 1} more)" if len(texts) > 1 else "")
