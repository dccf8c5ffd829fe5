# SPDX-License-Identifier: Apache-2.0
"""The page of cycles: how far the cost model's are from measured ones, and why.

`page` writes HTML that needs no other file, of what `cycle_numbers.gather` has worked out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure

from mapping.calibration.calibrate import LIMITS, LIMITS_TOGETHER
from mapping.cost.baselines import zigzag_version
from mapping.cost.coefficients import PHASES
from mapping.cost.tables import CostTable, Errors
from mapping.report import cycle_plots as plots, html
from mapping.report.cycle_numbers import SPLIT_CHANNELS, Staircase, UnitReport
from mapping.report.energy import section
from mapping.report.energy_numbers import EnergyReport
from mapping.report.estimates import GET_ZIGZAG, METHODS
from mapping.report.style import signed, svg

SET_NAMES = {"held_out_random": "random layers", "held_out_networks": "layers of real networks"}
GROUP_MEANINGS = {
    "array": "beats of the array, start and hand-over of stripes",
    "drain": "requantising, where the array waits for it",
    "load": "words from memory and their latency",
    "store": "words to memory and its answer",
    "waiting": "for a bank of the scratchpad, for the other unit on the port",
    "control": "fetching and dispatching commands, tokens, events",
}
COLUMNS = {
    "points": "layers",
    "mape_percent": "mean absolute error",
    "p95_percent": "95th percentile",
    "max_percent": "maximum",
    "bias_percent": "bias",
    "kendall_tau": "Kendall τ",
    "coverage_percent": "in their 90 % interval",
}
"""Headings of error figures, by field of Errors."""


ENERGY = "energy"
"""Name of the heading of energy and area."""


def page(reports: Sequence[UnitReport], energy: EnergyReport | None = None) -> str:
    """Return the page as HTML that needs no other file.

    Args:
        reports: the units.
        energy: what is known of energy and area; without it the page has no such section.
    """
    links = "".join(f'<a href="#u{i}">{escape(item.title)}</a>' for i, item in enumerate(reports))
    if energy:
        links += f'<a href="#{ENERGY}">Energy and area</a>'
    parts = [f"<nav>{links}</nav>\n", _summary(reports)]
    parts += [_section(i, item) for i, item in enumerate(reports)]
    if energy:
        parts.append(section(energy, ENERGY))
    colophon = html.colophon()
    colophon += f", ZigZag {zigzag_version()}." if zigzag_version() else f". {GET_ZIGZAG}."
    parts.append(f'<h2>About this page</h2>\n<p class="note">{escape(colophon)}</p>\n')
    lead = (
        "Predicted cycles beside cycles measured in RTL, from the first start to the last "
        "interrupt, of layers that no fit has seen. An error is predicted / measured - 1."
    )
    title, heading = "npuloop: errors of the cost model", "How far is the cost model from the hardware?"
    return html.document(title, heading, lead, parts)


def _limits(units: Sequence[str]) -> Mapping[str, float]:
    return LIMITS_TOGETHER if len(units) > 1 else LIMITS


def figures(report: UnitReport) -> dict[str, tuple[Figure, str]]:
    """Return a unit's figures and what they say, in HTML, by name."""
    sets = [
        (SET_NAMES[name], item.measured, item.predicted, item.inside.astype(float))
        for name, item in report.sets.items()
    ]
    every = [item.errors for item in report.sets.values()]
    outside = sum(int((~item.inside).sum()) for item in report.sets.values())
    count = sum(item.points for item in every)
    spread, steps, layers = report.table.spread, report.staircase, report.phases
    first, *others = report.units
    slope = "average slope" if others else "slope of the gradient"
    label = "output channels"
    if others:
        label = (
            f"of {SPLIT_CHANNELS} output channels, those on {first}; the others are on {' and '.join(others)}"
        )
    known = {METHODS[name]: values for name, values in report.estimates.items()}
    real = report.sets["held_out_networks"].measured
    ratios = {name: values / real for name, values in known.items()}
    off = layers.predicted_total / layers.measured_total - 1
    totals = (
        f"{layers.title}: predicted {layers.predicted_total:,.0f} cycles, measured "
        f"{layers.measured_total:,.0f}: {signed(100 * off, 2)} %"
    )
    curve = report.table.learning_curve
    captions = {
        "accuracy": (
            f"<b>Predicted against measured.</b> {count} layers, {outside} outside their 90 % interval: "
            "these are ringed. Shaded is the interval of layers that never wait for a bank or the port. "
            f"Half an interval: {spread.absolute_cycles:.1f} cycles, {100 * spread.relative:.2f} % of the "
            f"cycles and {100 * spread.waiting:.0f} % of those of waiting, the root of the sum of their "
            "squares."
        ),
        "distribution": (
            "<b>Errors.</b> Above: signed, positive where too much is predicted. Below: the share of layers "
            "whose error is smaller."
        ),
        "staircase": (
            "<b>The channel staircase.</b> Convolution 3 x 3 on 16 x 16 pixels and 32 input channels: "
            f"{len(steps.measured)} measurements, at most {_worst_step(steps):.2f} % from the model."
        ),
        "phases": (
            f"<b>What the cycles are made of.</b> {escape(totals)}. Shown is the critical path, "
            "between the ends of one layer and the next. "
            + "; ".join(f"{name}: {meaning}" for name, meaning in GROUP_MEANINGS.items())
            + "."
        ),
        "methods": "<b>Uncalibrated estimates beside ours</b>, on the layers of real networks.",
        "learning": f"<b>Learning curve.</b> {curve[-1][0]} measurements give {curve[-1][1]:.2f} %.",
    }
    drawn = {
        "accuracy": plots.accuracy(sets, lambda cycles: spread.half(cycles, 0.0)),
        "distribution": plots.distribution(sets, _limits(report.units)),
        "staircase": plots.staircase(
            steps.channels, steps.model, steps.slopes, steps.measured, steps.block, label, slope
        ),
        "phases": plots.phases(layers.layers, layers.cycles, layers.measured),
        "methods": plots.methods(ratios),
        "learning": plots.learning(curve, _limits(report.units)["mape_percent"]),
    }
    return {name: (figure, captions[name]) for name, figure in drawn.items()}


def _worst_step(steps: Staircase) -> float:
    """Return the largest error of a staircase's measured points, percent."""
    return max(100 * abs(float(steps.model[count]) / cycles - 1) for count, cycles in steps.measured.items())


def _section(number: int, report: UnitReport) -> str:
    drawn = {name: _figure(name, report, *item) for name, item in figures(report).items()}
    return (
        f'<h2 id="u{number}">{escape(report.title)}</h2>\n'
        f'<div class="two">{drawn["accuracy"]}{drawn["distribution"]}</div>\n'
        f"{drawn['staircase']}{drawn['phases']}"
        f'<div class="two">{drawn["methods"]}{drawn["learning"]}</div>\n'
        f"<h3>Errors</h3>\n{_errors(report)}<h3>Estimates of the layers of real networks</h3>\n"
        f"{_methods(report)}<h3>Coefficients</h3>\n{_coefficients(report.table)}"
        f"<h3>Where this comes from</h3>\n{_provenance(report)}"
    )


def _figure(name: str, report: UnitReport, drawing: Figure, caption: str) -> str:
    return html.figure(name, f"{report.title}: {name}", svg(drawing), caption)


def _summary(reports: Sequence[UnitReport]) -> str:
    rows = []
    for i, report in enumerate(reports):
        for name, item in report.sets.items():
            link = f'<a href="#u{i}">{escape(report.title)}</a>: {escape(SET_NAMES[name])}'
            rows.append([link, *_figures(item.errors, report)])
    text = html.table(["held-out set", *COLUMNS.values()], rows, len(COLUMNS))
    limits = ", and ".join(
        f"of {what} {', '.join(f'{COLUMNS[name]} {limit:g} %' for name, limit in bounds.items())}"
        for what, bounds in (("a unit", LIMITS), ("split layers", LIMITS_TOGETHER))
    )
    return f'{text}<p class="note">Limits, red where missed: {limits}.</p>\n'


def _figures(errors: Errors, report: UnitReport) -> list[str]:
    cells = []
    for name in COLUMNS:
        value = getattr(errors, name)
        text = f"{value:.4f}" if name == "kendall_tau" else f"{value:.2f} %"
        if name == "points":
            text = str(value)
        elif name == "bias_percent":
            text = f"{signed(value, 2)} %"
        elif name == "coverage_percent":
            text = f"{value:.1f} %"
        over = value > _limits(report.units).get(name, float("inf"))
        cells.append(f'<span class="over">{text}</span>' if over else text)
    return cells


def _errors(report: UnitReport) -> str:
    sets = {"fit (from the table)": report.table.errors["fit"]}
    sets |= {SET_NAMES[name]: item.errors for name, item in report.sets.items()}
    rows = [[escape(name), *_figures(errors, report)] for name, errors in sets.items()]
    return html.table(["set", *COLUMNS.values()], rows, len(COLUMNS))


def _methods(report: UnitReport) -> str:
    real = report.sets["held_out_networks"].measured
    rows = []
    for name, values in report.estimates.items():
        error = 100 * np.abs(values / real - 1)
        known = error[np.isfinite(error)]
        cells = (f"{known.mean():.2f} %", f"{np.percentile(known, 95):.2f} %", f"{known.max():.2f} %")
        rows.append([escape(METHODS[name]), str(len(known)), *cells])
    return html.table(["method", *list(COLUMNS.values())[:4]], rows, 4)


def _coefficients(table: CostTable) -> str:
    rows = []
    for phase, value, (low, high) in zip(PHASES, table.coefficients, table.confidence, strict=True):
        interval = f"{low:.2f} to {high:.2f}" if np.isfinite(low) else "not fitted here"
        cells = (f"{value:.2f}", interval, f"{phase.start:g}", f"<code>{phase.counter}</code>")
        rows.append([f"<code>{phase.name}</code>", *cells, escape(phase.meaning)])
    head = ["phase", "cycles", "95 % confidence", "before calibration", "hardware counter", "per"]
    return html.table(head, rows, 3)


def _provenance(report: UnitReport) -> str:
    table = report.table
    other = '<span class="over">which is not the present RTL: calibrate again</span>'
    state = "which is the present RTL" if report.current else other
    parameters = [
        [f"parameters of {escape(unit)}", escape(_pairs(values))] for unit, values in table.parameters.items()
    ]
    rows = [
        ["calibrated", escape(table.date)],
        ["RTL", f"<code>{escape(table.rtl_sha256)}</code>, {state}"],
        ["memory", escape(_pairs(table.memory))],
        *parameters,
        ["tools", escape(_pairs(table.tools))],
    ]
    return html.table(["what", "value"], rows, 0)


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
