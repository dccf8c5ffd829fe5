# SPDX-License-Identifier: Apache-2.0
"""The figures of a mapping study with their captions, and the words that its page uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mapping.report import search_plots as plots
from mapping.report.search_comparison import Cost, Entry, entries_of, pareto_entries
from mapping.report.search_plots import SEARCHED
from mapping.report.search_study import Study, StudyPoint, read_study
from mapping.report.style import percent, signed

PHASES = ("warm-up", "search", "fine-tune", "integer", "qat")
"""Of training, in their order."""


def _words(units: Sequence[str]) -> dict[str, str]:
    return {unit: f"all on {unit}" for unit in units} | {
        SEARCHED: "searched",
        "first_last": f"first and last on {units[0]}",
        "cheapest": "cheapest",
        "layerwise": "whole layers searched",
        "random": "random, equal cost",
    }


MEANINGS = {
    "first_last": "the first and the last layer on the 8-bit unit, all others on the low-bit one",
    "cheapest": "the mapping of least cost, whatever its accuracy",
    "layerwise": "the same search, but every layer goes whole to one unit",
    "random": "mappings drawn at random that cost as much as the searched ones",
}


@dataclass(frozen=True)
class StudyPage:
    """A study with what all sections of its page need.

    Attributes:
        study: the study.
        entries: its kinds and settings, those of a kind together.
        words: what each kind is called.
        appearances: how each kind is drawn, in the order of the keys.
    """

    study: Study
    entries: Sequence[Entry]
    words: Mapping[str, str]
    appearances: Mapping[str, plots.Appearance]

    def kind(self, name: str) -> str:
        """Return what a kind of points is called."""
        return self.words.get(name, name)

    def label(self, entry: Entry | StudyPoint) -> str:
        """Return what an entry or a point is called: its kind and setting."""
        return f"{self.kind(entry.kind)} {entry.setting}".strip()


def study_page(study: Study) -> StudyPage:
    """Return a study with what all sections of its page need."""
    present = list(dict.fromkeys(point.kind for point in study.points))
    ranked = dict.fromkeys([SEARCHED, *study.units, *plots.APPEARANCES, *present])
    appearances = plots.appearances_of([kind for kind in ranked if kind in present], study.units)
    words = {kind: kind for kind in present} | _words(study.units)
    entries = entries_of(study.points, study.test_images)
    entries.sort(
        key=lambda entry: list(appearances).index(entry.kind)
    )  # stable: settings stay in their order
    return StudyPage(study, entries, words, appearances)


def _cost_name(by: Cost) -> str:
    return "measured cycles" if by == "cycles" else "energy, pJ"


def _trade(page: StudyPage, by: Cost) -> tuple[Figure, str]:
    known = [entry for entry in page.entries if entry.cost(by) < math.inf]
    marks = []
    for entry in known:
        trained = [
            item for item in page.study.points if (item.kind, item.setting) == (entry.kind, entry.setting)
        ]
        values = [item.measured if by == "cycles" else item.energy or 0.0 for item in trained]
        runs = tuple(zip(values, (item.accuracy for item in trained), strict=True))
        label = entry.setting if entry.kind == SEARCHED else ""
        interval = (entry.accuracy, entry.low, entry.high)
        marks.append(plots.Mark(entry.kind, label, entry.cost(by), *interval, runs))
    line = [(entry.cost(by), entry.accuracy) for entry in pareto_entries(known, by)]
    present = {entry.kind for entry in known}
    appearances = {kind: item for kind, item in page.appearances.items() if kind in present}
    drawing = plots.trade(marks, line, appearances, page.words, _cost_name(by))
    title = "Accuracy against measured latency" if by == "cycles" else "Accuracy against energy"
    caption = (
        f"<b>{title}.</b> Large: the mean over seeds; small and pale: each seed. The line joins the searched "
        "settings that no other searched setting beats; beside them stands the setting: the strength of the "
        "cost in the loss, or t and a target. What coincides stands "
        "side by side. Bars: 95 % confidence interval of the accuracy, "
        f"{_interval_words(page)}."
    )
    return drawing, caption


def _interval_words(page: StudyPage) -> str:
    over = {entry.spread for entry in page.entries}
    seeds = "of the mean over seeds (Student's t)"
    images = f"of one network on {page.study.test_images:,} test images (Wilson)"
    if over == {"seeds"}:
        return seeds
    if over == {"images"}:
        return images
    return f"{seeds}; {images} where there is one seed or all seeds agree"


def _prediction(page: StudyPage) -> tuple[Figure, str]:
    points = list({item.network: item for item in reversed(page.study.points)}.values())[::-1]
    columns = [(item.measured, item.predicted, item.low, item.high) for item in points]
    measured, predicted, low, high = np.array(columns, float).T
    kinds = [item.kind for item in points]
    names = [item.name for item in points]
    appearances = {kind: item for kind, item in page.appearances.items() if kind in kinds}
    drawing = plots.prediction(names, kinds, measured, predicted, low, high, appearances, page.words)
    worst = max(points, key=lambda item: abs(item.error))
    mean = float(np.mean([abs(item.error) for item in points]))
    inside = sum(item.inside for item in points)
    shared = " (some are of several points)" if len(points) < len(page.study.points) else ""
    caption = (
        f"<b>Predicted beside measured cycles.</b> {len(points)} networks{shared}: mean absolute error "
        f"{percent(mean)}, largest {signed(worst.error, 2)} % ({escape(worst.name)}); {inside} of "
        f"{len(points)} inside their 90 % interval (bars), others are ringed."
    )
    return drawing, caption


def _splits(page: StudyPage) -> tuple[Figure, str] | None:
    searched = [point for point in page.study.points if point.kind == SEARCHED and point.layers]
    if not searched:
        return None
    searched.sort(key=lambda point: point.measured)
    layers = list(dict.fromkeys(layer.name for point in searched for layer in point.layers))
    units = [*page.study.units]
    units += [
        unit
        for unit in dict.fromkeys(
            unit for point in searched for layer in point.layers for unit in layer.channels
        )
        if unit not in units
    ]
    rows = [
        plots.Row(
            f"{point.setting}, seed {point.seed}: {point.measured:,.0f} cycles",
            {layer.name: layer.channels for layer in point.layers},
        )
        for point in searched
    ]
    caption = (
        "<b>Who makes which channels.</b> A row for each searched network, by measured cycles; a column for "
        "each layer, in their order. The bar is the share of its output channels that each unit makes."
    )
    return plots.splits(rows, layers, units), caption


def _training(page: StudyPage) -> tuple[Figure, str] | None:
    curves = [curve for curve in page.study.curves if len(curve.epochs)]
    if not curves:
        return None
    order = {phase: i for i, phase in enumerate(PHASES)}
    curves.sort(key=lambda curve: order.get(curve.phase, len(order)))  # stable: others stay in their order
    kinds = [curve.kind for curve in curves if curve.kind]
    appearances = {**page.appearances, **plots.appearances_of(kinds, page.study.units)}
    caption = (
        "<b>Training.</b> A line for each network. Loss and accuracy are those of training images; the cost "
        f"is the predicted one ({escape(page.study.objective)}) of the mapping as it stands."
    )
    return plots.training(curves, appearances, page.words), caption


def figures(study: Mapping[str, Any]) -> dict[str, tuple[Figure, str]]:
    """Return the figures of a study and their captions in HTML, by name, in the page's order.

    Args:
        study: as `load_study` returns it.

    Returns:
        "latency"; "energy" if points have it; "prediction"; "splits" if something was searched; "training" if
        there are curves.

    Raises:
        StudyError: the study lacks something.
    """
    return figures_of(study_page(read_study(study, "the study")))


def figures_of(page: StudyPage) -> dict[str, tuple[Figure, str]]:
    """Return the figures of a page with their captions; see `figures`."""
    drawn = {"latency": _trade(page, "cycles")}
    if any(entry.energy is not None for entry in page.entries):
        drawn["energy"] = _trade(page, "energy")
    drawn["prediction"] = _prediction(page)
    others = {"splits": _splits(page), "training": _training(page)}
    return drawn | {name: item for name, item in others.items() if item is not None}
