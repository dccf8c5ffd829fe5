# SPDX-License-Identifier: Apache-2.0
"""The page of a mapping study: what search finds beside baselines, measured in RTL, and where it loses.

`write_report` writes HTML that needs no other file, of a study that `search_study.load_study` has read.
Accuracies and cycles of one setting are means over its seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from common.files import write_atomically
from mapping.report import html
from mapping.report.search_comparison import Cost, Entry, Verdict, at_most, pareto_entries, verdicts
from mapping.report.search_figures import MEANINGS, StudyPage, figures_of, study_page
from mapping.report.search_plots import SEARCHED
from mapping.report.search_study import Study, read_study
from mapping.report.style import signed, svg


# --------------------------------------------------------------------------------------------------- words
def headline(study: Mapping[str, Any]) -> str:
    """Return in one or two sentences what a study found, as plain text.

    Raises:
        StudyError: the study lacks something.
    """
    return _headline(study_page(read_study(study, "the study")))


def _headline(page: StudyPage) -> str:
    first = page.study.units[0]
    comparisons = verdicts(page.entries)
    searched = [entry for entry in page.entries if entry.kind == SEARCHED]
    base = next((item for item in comparisons if item.baseline.kind == first), None)
    if not searched:
        return f"Nothing was searched: {len(page.study.points)} points of baselines."
    best = max(searched, key=lambda entry: (entry.accuracy, -entry.cycles))
    if base is None:
        low, high = min(entry.cycles for entry in searched), max(entry.cycles for entry in searched)
        said = (
            f"Searched mappings take {low:,.0f} to {high:,.0f} cycles in RTL; the most accurate has "
            f"{best.accuracy:.2f} %."
        )
    elif base.saving_percent is not None and base.nowhere_below:
        enough = [item for item in searched if at_most(base.baseline.accuracy, item.accuracy)]
        entry = min(enough, key=lambda item: item.cycles)
        said = (
            f"At {entry.accuracy:.2f} % accuracy against {base.baseline.accuracy:.2f} %, the searched "
            f"mapping ({entry.setting}) takes {entry.cycles:,.0f} cycles in RTL instead of "
            f"{base.baseline.cycles:,.0f} of everything on {first}: {base.saving_percent:.1f} % fewer."
        )
    else:
        gap = base.baseline.accuracy - best.accuracy
        share = 100 * (best.cycles / base.baseline.cycles - 1)
        said = (
            f"No searched mapping is as accurate as everything on {first} "
            f"({base.baseline.accuracy:.2f} %) in as few cycles ({base.baseline.cycles:,.0f}); the "
            f"most accurate ({best.setting}) has {best.accuracy:.2f} % ({signed(-gap, 2)} points) "
            f"in {best.cycles:,.0f} cycles in RTL ({signed(share, 1)} %)."
        )
    return f"{said} {_tally(comparisons)}".strip()


def _tally(comparisons: Sequence[Verdict]) -> str:
    if not comparisons:
        return "There are no baselines."
    counts = {name: sum(item.result == name for item in comparisons) for name in ("wins", "ties", "loses")}
    beyond = sum(item.result == "out of reach" for item in comparisons)
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    more = f"; out of reach: {beyond}, cheaper than anything searched, but less accurate" if beyond else ""
    return f"Against {len(comparisons)} baselines, search {said}{more}."


def _outcome(item: Verdict, by: Cost) -> str:
    """Return a verdict in words."""
    if item.result == "wins":
        return "wins: more accurate, intervals apart"
    if item.result == "ties":
        saved = item.saving_percent or 0.0
        less = "fewer cycles" if by == "cycles" else "less energy"
        return f"ties: intervals overlap{f'; {saved:.1f} % {less}' if saved >= 0.05 else ''}"
    if item.result == "out of reach":
        return "out of reach: nothing searched is as cheap"
    where = "intervals apart" if item.apart else "intervals overlap"
    return f"loses: {'less accurate' if item.as_cheap else 'costs more and is no more accurate'}, {where}"


# ------------------------------------------------------------------------------------------------- tables
def _interval(entry: Entry) -> str:
    return f"{entry.low:.2f} to {entry.high:.2f} %"


def _basis(entry: Entry, images: int) -> str:
    if entry.spread == "seeds":
        return f"mean of {len(entry.seeds)} seeds"
    agree = "seeds agree; " if len(entry.seeds) > 1 else ""
    return f"{agree}{images:,} test images"


def _red(text: str, over: bool = True) -> str:
    return f'<span class="over">{text}</span>' if over else text


def _verdict_table(page: StudyPage, by: Cost) -> str:
    what = "cycles" if by == "cycles" else "pJ"
    rows = []
    for item in verdicts(page.entries, by):
        base, rival = item.baseline, item.rival
        against = [
            f"{rival.cost(by):,.0f} ({signed(item.cost_percent, 1)} %)",
            f"{rival.accuracy:.2f} % ({signed(item.points, 2)})",
        ]
        saving = "-" if item.saving_percent is None else f"{signed(-item.saving_percent, 1)} %"
        rows.append(
            [
                escape(page.label(base)),
                f"{base.cost(by):,.0f}",
                f"{base.accuracy:.2f} %",
                *against,
                saving,
                escape(rival.setting or page.label(rival)),
                _red(_outcome(item, by), item.result == "loses"),
            ]
        )
    head = [
        "baseline",
        what,
        "accuracy",
        f"{what}, searched",
        "accuracy, searched",
        "same accuracy",
        "setting",
        "search",
    ]
    if not rows:
        return '<p class="note">There is nothing to compare.</p>\n'
    note = (
        f"Beside each baseline: the most accurate searched setting of no more {what}, in the mean over "
        "seeds; where none is as cheap, the cheapest. In brackets: the difference, of accuracies in points. "
        f"<i>Same accuracy</i>: {what} of the cheapest searched setting that is no less accurate, beside the "
        f"baseline's. <i>Wins</i>: no more {what}, more accurate, and the 95 % intervals have nothing in "
        f"common. <i>Ties</i>: no more {what}, no less accurate, but the intervals overlap. <i>Out of "
        "reach</i>: the baseline is cheaper than anything searched, and less accurate than the cheapest. "
        "<i>Loses</i>, red: all else. The searched setting is chosen by the same test accuracy that is "
        "compared, which favours it a little."
    )
    return html.table(head, rows, 5) + f'<p class="note">{note}</p>\n'


def _entry_table(page: StudyPage) -> str:
    pareto_front = pareto_entries(page.entries, "cycles")
    energy = any(entry.energy is not None for entry in page.entries)
    rows = []
    for entry in page.entries:
        cells = [f"{entry.cycles:,.1f}", f"{100 * entry.cycles / page.study.reference_cycles:.1f} %"]
        if energy:
            cells.append("-" if entry.energy is None else f"{entry.energy:,.0f}")
        cells += [f"{entry.accuracy:.2f} %", _interval(entry)]
        words = [_basis(entry, page.study.test_images), ", ".join(map(str, entry.seeds))]
        words.append("on the Pareto front" if entry in pareto_front else "")
        rows.append([escape(page.label(entry)), *cells, *words])
    numbers = ["measured cycles", "of the reference", *(["energy, pJ"] if energy else []), "accuracy"]
    head = ["setting", *numbers, "95 % interval", "interval of", "seeds", ""]
    meanings = [
        f"<i>{escape(page.kind(kind))}</i>: {meaning}"
        for kind, meaning in MEANINGS.items()
        if kind in page.appearances
    ]
    note = f'<p class="note">{"; ".join(meanings)}.</p>\n' if meanings else ""
    return html.table(head, rows, len(numbers) + 1) + note


def _point_table(page: StudyPage) -> str:
    energy = any(point.energy is not None for point in page.study.points)
    rows = []
    for point in page.study.points:
        cells = [
            f"{point.measured:,.0f}",
            f"{point.predicted:,.1f}",
            _red(f"{signed(point.error, 2)} %", not point.inside),
            f"{point.low:,.0f} to {point.high:,.0f}",
        ]
        if energy:
            cells.append("-" if point.energy is None else f"{point.energy:,.0f}")
        cells.append(f"{point.accuracy:.2f} %")
        cells.append("-" if point.float_accuracy is None else f"{point.float_accuracy:.2f} %")
        files = [("mapping", point.mapping), ("network", point.network)]
        links = " ".join(f'<a href="{escape(quote(path))}">{name}</a>' for name, path in files)
        words = ["exact" if point.exact else _red("differs"), links]
        rows.append([escape(point.name), *cells, *words])
    numbers = ["measured cycles", "predicted", "error", "90 % interval", *(["energy, pJ"] if energy else [])]
    numbers += ["accuracy", "float"]
    head = ["point", *numbers, "in RTL", "files"]
    note = (
        "A point is named by its kind, setting and seed. Error: predicted / measured - 1, red outside of the "
        "90 % interval of the prediction. <i>Exact</i>: "
        f"{_verified(page.study)} in RTL equal to the golden model bit for bit. <i>Accuracy</i>: of the "
        "integer network on the test images; <i>float</i>: of the float network that it was made from."
    )
    return html.table(head, rows, len(numbers)) + f'<p class="note">{note}</p>\n'


def _verified(study: Study) -> str:
    if study.verification_images is None:
        return "every run"
    return f"every tensor of {study.verification_images} test image{'s' * (study.verification_images != 1)}"


def _about(page: StudyPage) -> str:
    study = page.study
    recipe = ", ".join(f"{name} {_shown(value)}" for name, value in study.recipe.items())
    rows = [
        ["command", f"<code>{escape(study.command)}</code>"],
        ["model, data", escape(f"{study.model}, {study.data}")],
        ["objective", escape(study.objective)],
        ["units", escape(", ".join(study.units))],
        ["seeds", ", ".join(map(str, study.seeds))],
        ["recipe", escape(recipe) or "-"],
        ["test images", f"{study.test_images:,}"],
        ["memory latency", f"{study.memory_latency} cycles"],
        [
            "reference",
            f"{study.reference_cycles:,.1f} cycles, predicted, everything on {escape(study.units[0])}",
        ],
    ]
    return html.table(["what", "value"], rows, 0) + f'<p class="note">{escape(html.colophon())}.</p>\n'


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# --------------------------------------------------------------------------------------------------- page
def write_report(study: Mapping[str, Any], path: Path) -> None:
    """Write the page of a study, whole or not at all.

    Args:
        study: as `load_study` returns it.
        path: the HTML file; links to mappings and networks hold if it is in the study's folder.

    Raises:
        StudyError: the study lacks something.
        NpuloopError: the file cannot be written.
    """
    text = _document(study_page(read_study(study, "the study")))
    write_atomically(path, lambda file: file.write(text.encode()))


def _document(page: StudyPage) -> str:
    study = page.study
    drawn = {
        name: html.figure(name, f"{study.model}: {name}", svg(drawing), caption)
        for name, (drawing, caption) in figures_of(page).items()
    }
    wrong = [point.name for point in study.points if not point.exact]
    exact = (
        f"All {len(study.points)} points are exact in RTL."
        if not wrong
        else _red(f"{len(wrong)} of {len(study.points)} points differ in RTL: {escape(', '.join(wrong))}.")
    )
    energy = ""
    if "energy" in drawn:
        energy = f"<h2>Energy</h2>\n{drawn['energy']}<h3>By energy</h3>\n{_verdict_table(page, 'energy')}"
    conditions = (
        f"Seeds {', '.join(map(str, study.seeds))}; {study.test_images:,} test images; memory latency "
        f"{study.memory_latency} cycles."
    )
    parts = [
        f"<p>{exact} {conditions}</p>\n",
        drawn["latency"],
        f"<h3>Where search wins, ties, loses</h3>\n{_verdict_table(page, 'cycles')}",
        f"<h3>Means over seeds</h3>\n{_entry_table(page)}",
        energy,
        f"<h2>Prediction</h2>\n{drawn['prediction']}",
        f"<h2>Mappings</h2>\n{drawn['splits']}" if "splits" in drawn else "",
        f"<h2>Training</h2>\n{drawn['training']}" if "training" in drawn else "",
        f"<h2>All points</h2>\n{_point_table(page)}",
        f"<h2>About this study</h2>\n{_about(page)}",
    ]
    heading = f"What does a searched mapping of {study.model} gain?"
    return html.document(f"npuloop: mapping of {study.model}", heading, escape(_headline(page)), parts)
