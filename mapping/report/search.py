"""The page of a mapping study: what search finds beside baselines, measured in RTL, and where it loses.

`load_study` reads study.json, `front` and `verdicts` work out the comparison, `write_report` writes HTML that
needs no other file. Accuracies and cycles of one setting are means over its seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtri, stdtrit

from common.errors import NpuloopError
from common.files import write_atomically
from mapping.report import html, search_plots as plots
from mapping.report.search_plots import SEARCHED
from mapping.report.style import Vector, percent, signed, svg

Cost = Literal["cycles", "energy"]
"""By what points are compared, beside accuracy: measured cycles, or energy in pJ."""
CONFIDENCE = 0.95
TOLERANCE = 1e-9
"""Relative difference that is only rounding: means of equal numbers in another order."""
MAX_FILE_BYTES = 256 << 20
LARGEST = 1e300
"""What counts as a number: no infinity, nothing that a float cannot hold."""
NAME = "study.json"
REMEDY = "run `npuloop map` again"
PHASES = ("warm-up", "search", "fine-tune", "integer", "qat")
"""Of training, in their order."""


class StudyError(NpuloopError):
    """A study that is missing, damaged, or lacks something that the report needs."""


# ------------------------------------------------------------------------------------------------- reading
@dataclass(frozen=True)
class _Reader:
    """A part of a document, with its place for messages."""

    value: Any
    place: str

    def wrong(self, expected: str) -> StudyError:
        shown = repr(self.value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return StudyError(f"{self.place} must be {expected}, is {shown}; {REMEDY}")

    def __getitem__(self, name: str) -> _Reader:
        if not isinstance(self.value, Mapping):
            raise self.wrong("a mapping")
        if name not in self.value:
            raise StudyError(f"{self.place}: {name} is missing; {REMEDY}")
        return _Reader(self.value[name], f"{self.place}: {name}")

    def get(self, name: str) -> _Reader | None:
        """Return an entry, or None where it is absent or null."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("a mapping")
        return self[name] if self.value.get(name) is not None else None

    def items(self) -> list[tuple[str, _Reader]]:
        if not isinstance(self.value, Mapping):
            raise self.wrong("a mapping")
        return [(str(name), _Reader(value, f"{self.place}: {name}")) for name, value in self.value.items()]

    def each(self) -> list[_Reader]:
        if not isinstance(self.value, Sequence) or isinstance(self.value, str):
            raise self.wrong("a list")
        return [_Reader(value, f"{self.place} {i}") for i, value in enumerate(self.value, 1)]

    def text(self) -> str:
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | float):
            raise self.wrong("a text")
        return str(self.value)

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise self.wrong("a number")
        if not low <= value <= high:
            ends = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
            raise self.wrong(f"a number, {ends}")
        return float(value)

    def number_or_nan(self) -> float:
        """Return a number; one that is not finite, as diverged training has, as NaN."""
        odd = isinstance(self.value, float) and not math.isfinite(self.value)
        return math.nan if odd else self.number()

    def count(self) -> int:
        value = self.number(0)
        if value != int(value):
            raise self.wrong("a whole number")
        return int(value)

    def cycles(self) -> float:
        value = self.number(0)
        if value == 0:
            raise self.wrong("a number above 0")
        return value

    def relative_path(self) -> str:
        path = self.text()
        if PurePosixPath(path).is_absolute() or "\\" in path:
            raise self.wrong("a path from the study's folder")
        return path


@dataclass(frozen=True)
class _Layer:
    name: str
    channels: dict[str, int]


@dataclass(frozen=True)
class _Point:
    """A trained network in its mapping; cycles, pJ and percent."""

    name: str
    kind: str
    setting: str
    seed: int
    predicted: float
    low: float
    high: float
    measured: float
    energy: float | None
    accuracy: float
    float_accuracy: float | None
    exact: bool
    mapping: str
    network: str
    layers: tuple[_Layer, ...]

    @property
    def error(self) -> float:
        """Of the prediction, percent."""
        return 100 * (self.predicted / self.measured - 1)

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the interval of the prediction."""
        return self.low <= self.measured <= self.high


def _point(item: _Reader) -> _Point:
    energy, float_accuracy = item.get("energy_pj"), item.get("float_accuracy_percent")
    layers = tuple(
        _Layer(layer["name"].text(), {unit: count.count() for unit, count in layer["channels"].items()})
        for layer in item["layers"].each()
    )
    return _Point(
        name=item["name"].text(),
        kind=item["kind"].text(),
        setting=item["setting"].text(),
        seed=item["seed"].count(),
        predicted=item["predicted_cycles"].cycles(),
        low=item["low"].number(),
        high=item["high"].number(),
        measured=item["measured_cycles"].cycles(),
        energy=energy.number(0) if energy else None,
        accuracy=item["accuracy_percent"].number(0, 100),
        float_accuracy=float_accuracy.number(0, 100) if float_accuracy else None,
        exact=item["exact_in_rtl"].flag(),
        mapping=item["mapping"].relative_path(),
        network=item["network"].relative_path(),
        layers=layers,
    )


def _curve(item: _Reader) -> plots.Curve:
    epochs = item["epochs"].each()

    def values(name: str) -> Vector:
        found = [epoch.get(name) for epoch in epochs]
        return np.array([math.nan if value is None else value.number_or_nan() for value in found], float)

    keys = {"loss": "loss", "accuracy": "accuracy_percent", "cost": "cost"}
    kind, setting = item.get("kind"), item.get("setting")
    return plots.Curve(
        phase=item["phase"].text(),
        kind=kind.text() if kind else "",
        setting=setting.text() if setting else "",
        epochs=np.array([epoch["epoch"].number() for epoch in epochs], float),
        values={name: values(keys[name]) for name in plots.QUANTITIES},
    )


@dataclass(frozen=True, eq=False)
class _Study:
    model: str
    data: str
    objective: str
    command: str
    units: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: Mapping[str, Any]
    test_images: int
    proof_images: int | None
    memory_latency: int
    reference_cycles: float
    points: tuple[_Point, ...]
    curves: tuple[plots.Curve, ...]


def _study(document: Any, place: str) -> _Study:
    top = _Reader(document, place)
    about = top["study"]
    units = tuple(unit.text() for unit in about["units"].each())
    if not units:
        raise about["units"].wrong("the names of the units")
    proof = about.get("proof_images")
    points = tuple(_point(item) for item in top["points"].each())
    if not points:
        raise StudyError(f"{place}: there are no points; {REMEDY}")
    return _Study(
        model=about["model"].text(),
        data=about["data"].text(),
        objective=about["objective"].text(),
        command=about["command"].text(),
        units=units,
        seeds=tuple(seed.count() for seed in about["seeds"].each()),
        recipe={name: value.value for name, value in about["recipe"].items()},
        test_images=about["test_images"].count(),
        proof_images=proof.count() if proof else None,
        memory_latency=about["memory_latency"].count(),
        reference_cycles=top["reference_cycles"].cycles(),
        points=points,
        curves=tuple(_curve(item) for item in top["curves"].each()),
    )


def load_study(path: Path) -> dict[str, Any]:
    """Return a study as `npuloop map` wrote it, complete and of the right types.

    Args:
        path: study.json, or the folder that it is in.

    Raises:
        StudyError: it is missing, damaged, or lacks something.
    """
    file = path / NAME if path.is_dir() else path
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise StudyError(f"{file}: larger than {MAX_FILE_BYTES} bytes; this is no study")
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        text = f"{file}: there is no study; make it with `npuloop map`, or name the folder of one"
        raise StudyError(text) from None
    except OSError as error:
        raise StudyError(f"{file}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{file}: damaged, no valid JSON ({error}); {REMEDY}") from None
    _study(document, str(file))
    found: dict[str, Any] = document
    return found


# -------------------------------------------------------------------------------------------- aggregation
@dataclass(frozen=True)
class Entry:
    """The points of one kind and setting.

    Attributes:
        kind: "searched", or the baseline's name.
        setting: such as the share of the reference's cycles; empty where there is none.
        cycles: mean of the measured cycles.
        energy: mean energy, pJ; None where a point has none.
        accuracy: mean on the test images, percent.
        low, high: 95 % confidence interval of the accuracy, percent, within 0 to 100.
        spread: what the interval is about: "seeds", of the mean over seeds (Student's t), or "images", of one
            network on that many test images (Wilson).
        seeds, names: of the points, in their order.
    """

    kind: str
    setting: str
    cycles: float
    energy: float | None
    accuracy: float
    low: float
    high: float
    spread: Literal["seeds", "images"]
    seeds: tuple[int, ...]
    names: tuple[str, ...]

    def cost(self, by: Cost) -> float:
        """Return the mean cycles or pJ; infinite where it is not known."""
        if by == "cycles":
            return self.cycles
        return math.inf if self.energy is None else self.energy


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of a mean, from two normally distributed values or more."""
    count = len(values)
    mean = math.fsum(values) / count
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(count)
    return mean - half, mean + half


def wilson_interval(accuracy: float, images: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share (E. B. Wilson, JASA 1927).

    Args:
        accuracy: percent of the images that are right.
        images: their number; 0: not known, so the interval is 0 to 100.

    Returns: the ends, percent.
    """
    if images == 0:
        return 0.0, 100.0
    share, square = accuracy / 100, float(ndtri((1 + CONFIDENCE) / 2)) ** 2
    middle = share * images + square / 2
    half = math.sqrt(square * (share * (1 - share) * images + square / 4))
    low, high = ((middle + sign * half) / (images + square) for sign in (-1, 1))
    return 100 * max(low, 0.0), 100 * min(high, 1.0)


def aggregate(points: Sequence[Mapping[str, Any]], test_images: int = 0) -> list[Entry]:
    """Return an entry for each kind and setting, in the order of their first points.

    Args:
        points: as in study.json.
        test_images: that accuracies are of; 0: not known. They give the interval where there is one seed, and
            where all seeds have equal accuracies: those say nothing about how far others may be off.

    Raises:
        StudyError: a point lacks something.
    """
    return _entries([_point(_Reader(item, f"point {i}")) for i, item in enumerate(points, 1)], test_images)


def _entries(points: Sequence[_Point], test_images: int) -> list[Entry]:
    groups: dict[tuple[str, str], list[_Point]] = {}
    for point in points:
        groups.setdefault((point.kind, point.setting), []).append(point)
    return [_entry(group, test_images) for group in groups.values()]


def _entry(points: Sequence[_Point], test_images: int) -> Entry:
    accuracies = [point.accuracy for point in points]
    accuracy = math.fsum(accuracies) / len(points)
    energies = [point.energy for point in points if point.energy is not None]
    varied = max(accuracies) > min(accuracies)
    low, high = student_interval(accuracies) if varied else wilson_interval(accuracy, test_images)
    return Entry(
        kind=points[0].kind,
        setting=points[0].setting,
        cycles=math.fsum(point.measured for point in points) / len(points),
        energy=math.fsum(energies) / len(points) if len(energies) == len(points) else None,
        accuracy=accuracy,
        low=max(low, 0.0),
        high=min(high, 100.0),
        spread="seeds" if varied else "images",
        seeds=tuple(point.seed for point in points),
        names=tuple(point.name for point in points),
    )


def _at_most(value: float, limit: float) -> bool:
    return value <= limit or math.isclose(value, limit, rel_tol=TOLERANCE)


def _no_worse(one: Entry, other: Entry, by: Cost) -> bool:
    return _at_most(one.cost(by), other.cost(by)) and _at_most(other.accuracy, one.accuracy)


def front(points: Sequence[Mapping[str, Any]], test_images: int = 0, by: Cost = "cycles") -> list[Entry]:
    """Return the searched entries that no other searched entry beats, by rising cost.

    An entry beats another if it costs no more and is no less accurate, and not the same in both.

    Args:
        points: as in study.json; those of baselines do not count.
        test_images: as of `aggregate`.
        by: what counts as cost.

    Raises:
        StudyError: a point lacks something.
    """
    return _front(aggregate(points, test_images), by)


def _front(entries: Sequence[Entry], by: Cost) -> list[Entry]:
    mine = [entry for entry in entries if entry.kind == SEARCHED and entry.cost(by) < math.inf]

    def beaten(entry: Entry) -> bool:
        return any(_no_worse(other, entry, by) and not _no_worse(entry, other, by) for other in mine)

    return sorted((entry for entry in mine if not beaten(entry)), key=lambda entry: entry.cost(by))


@dataclass(frozen=True)
class Verdict:
    """What search does against a baseline.

    Attributes:
        baseline: the baseline's entry.
        rival: the most accurate searched entry that costs no more; where none is as cheap, the cheapest one.
        as_cheap: whether the rival costs no more.
        points: the rival's accuracy less the baseline's, percentage points.
        cost_percent: the rival's cost beside the baseline's, percent more.
        saving_percent: how much less the cheapest searched entry costs that is no less accurate, percent;
            negative if it costs more, None where none is as accurate.
        apart: whether the two intervals of accuracy have no value in common.
    """

    baseline: Entry
    rival: Entry
    as_cheap: bool
    points: float
    cost_percent: float
    saving_percent: float | None
    apart: bool

    @property
    def nowhere_below(self) -> bool:
        """Whether a searched entry costs no more and is no less accurate, in the mean."""
        return self.as_cheap and _at_most(self.baseline.accuracy, self.rival.accuracy)

    @property
    def strictly_above(self) -> bool:
        """Whether that entry is more accurate and the intervals are apart."""
        return self.nowhere_below and self.apart

    @property
    def result(self) -> Literal["wins", "ties", "loses", "out of reach"]:
        """What to call it.

        "wins": strictly above; "ties": nowhere below, but the intervals overlap; "out of reach": nothing
        searched is as cheap, but the cheapest is more accurate; else "loses".
        """
        if self.nowhere_below:
            return "wins" if self.apart else "ties"
        better = not _at_most(self.rival.accuracy, self.baseline.accuracy)
        return "out of reach" if better and not self.as_cheap else "loses"


def verdicts(entries: Sequence[Entry], by: Cost = "cycles") -> list[Verdict]:
    """Return what search does against each baseline, in the order of the entries.

    If nothing was searched, there are none.

    Args:
        entries: all of a study, from `aggregate`.
        by: what counts as cost; entries without it are left out.
    """
    known = [entry for entry in entries if entry.cost(by) < math.inf]
    mine = [entry for entry in known if entry.kind == SEARCHED]
    return [_verdict(entry, mine, by) for entry in known if entry.kind != SEARCHED and mine]


def _verdict(baseline: Entry, mine: Sequence[Entry], by: Cost) -> Verdict:
    cost = baseline.cost(by)
    cheap = [entry for entry in mine if _at_most(entry.cost(by), cost)]
    if cheap:
        rival = max(cheap, key=lambda entry: (entry.accuracy, -entry.cost(by)))
    else:
        rival = min(mine, key=lambda entry: (entry.cost(by), -entry.accuracy))
    accurate = [entry.cost(by) for entry in mine if _at_most(baseline.accuracy, entry.accuracy)]
    return Verdict(
        baseline=baseline,
        rival=rival,
        as_cheap=bool(cheap),
        points=rival.accuracy - baseline.accuracy,
        cost_percent=100 * (rival.cost(by) / cost - 1) if cost else 0.0,
        saving_percent=100 * (1 - min(accurate) / cost) if accurate and cost else None,
        apart=rival.low > baseline.high or baseline.low > rival.high,
    )


# --------------------------------------------------------------------------------------------------- words
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
class _Page:
    """A study with what all sections need of it."""

    study: _Study
    entries: Sequence[Entry]
    words: Mapping[str, str]
    look: Mapping[str, plots.Appearance]

    def kind(self, name: str) -> str:
        return self.words.get(name, name)

    def label(self, entry: Entry | _Point) -> str:
        return f"{self.kind(entry.kind)} {entry.setting}".strip()


def _page(study: _Study) -> _Page:
    present = list(dict.fromkeys(point.kind for point in study.points))
    ranked = dict.fromkeys([SEARCHED, *study.units, *plots.APPEARANCES, *present])
    look = plots.appearances_of([kind for kind in ranked if kind in present], study.units)
    words = {kind: kind for kind in present} | _words(study.units)
    entries = _entries(study.points, study.test_images)
    entries.sort(key=lambda entry: list(look).index(entry.kind))  # stable: settings stay in their order
    return _Page(study, entries, words, look)


def headline(study: Mapping[str, Any]) -> str:
    """Return in one or two sentences what a study found, as plain text.

    Raises:
        StudyError: the study lacks something.
    """
    return _headline(_page(_study(study, "the study")))


def _headline(page: _Page) -> str:
    first = page.study.units[0]
    found = verdicts(page.entries)
    mine = [entry for entry in page.entries if entry.kind == SEARCHED]
    base = next((item for item in found if item.baseline.kind == first), None)
    if not mine:
        return f"Nothing was searched: {len(page.study.points)} points of baselines."
    best = max(mine, key=lambda entry: (entry.accuracy, -entry.cycles))
    if base is None:
        low, high = min(entry.cycles for entry in mine), max(entry.cycles for entry in mine)
        said = (
            f"Searched mappings take {low:,.0f} to {high:,.0f} cycles in RTL; the most accurate has "
            f"{best.accuracy:.2f} %."
        )
    elif base.saving_percent is not None and base.nowhere_below:
        enough = [item for item in mine if _at_most(base.baseline.accuracy, item.accuracy)]
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
    return f"{said} {_tally(found)}".strip()


def _tally(found: Sequence[Verdict]) -> str:
    if not found:
        return "There are no baselines."
    counts = {name: sum(item.result == name for item in found) for name in ("wins", "ties", "loses")}
    beyond = sum(item.result == "out of reach" for item in found)
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    more = f"; out of reach: {beyond}, cheaper than anything searched, but less accurate" if beyond else ""
    return f"Against {len(found)} baselines, search {said}{more}."


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


# ------------------------------------------------------------------------------------------------ figures
def _cost_name(by: Cost) -> str:
    return "measured cycles" if by == "cycles" else "energy, pJ"


def _trade(page: _Page, by: Cost) -> tuple[Figure, str]:
    known = [entry for entry in page.entries if entry.cost(by) < math.inf]
    marks = []
    for entry in known:
        mine = [
            item for item in page.study.points if (item.kind, item.setting) == (entry.kind, entry.setting)
        ]
        values = [item.measured if by == "cycles" else item.energy or 0.0 for item in mine]
        runs = tuple(zip(values, (item.accuracy for item in mine), strict=True))
        label = entry.setting if entry.kind == SEARCHED else ""
        interval = (entry.accuracy, entry.low, entry.high)
        marks.append(plots.Mark(entry.kind, label, entry.cost(by), *interval, runs))
    line = [(entry.cost(by), entry.accuracy) for entry in _front(known, by)]
    present = {entry.kind for entry in known}
    look = {kind: item for kind, item in page.look.items() if kind in present}
    drawing = plots.trade(marks, line, look, page.words, _cost_name(by))
    title = "Accuracy against measured latency" if by == "cycles" else "Accuracy against energy"
    caption = (
        f"<b>{title}.</b> Large: the mean over seeds; small and pale: each seed. The line joins the searched "
        "settings that no other searched setting beats; beside them stands the setting: the strength of the "
        "cost in the loss, or t and a target. What coincides stands "
        "side by side. Bars: 95 % confidence interval of the accuracy, "
        f"{_interval_words(page)}."
    )
    return drawing, caption


def _interval_words(page: _Page) -> str:
    over = {entry.spread for entry in page.entries}
    seeds = "of the mean over seeds (Student's t)"
    images = f"of one network on {page.study.test_images:,} test images (Wilson)"
    if over == {"seeds"}:
        return seeds
    if over == {"images"}:
        return images
    return f"{seeds}; {images} where there is one seed or all seeds agree"


def _prediction(page: _Page) -> tuple[Figure, str]:
    points = list({item.network: item for item in reversed(page.study.points)}.values())[::-1]
    columns = [(item.measured, item.predicted, item.low, item.high) for item in points]
    measured, predicted, low, high = np.array(columns, float).T
    kinds = [item.kind for item in points]
    names = [item.name for item in points]
    look = {kind: item for kind, item in page.look.items() if kind in kinds}
    drawing = plots.prediction(names, kinds, measured, predicted, low, high, look, page.words)
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


def _splits(page: _Page) -> tuple[Figure, str] | None:
    mine = [point for point in page.study.points if point.kind == SEARCHED and point.layers]
    if not mine:
        return None
    mine.sort(key=lambda point: point.measured)
    layers = list(dict.fromkeys(layer.name for point in mine for layer in point.layers))
    units = [*page.study.units]
    units += [
        unit
        for unit in dict.fromkeys(unit for point in mine for layer in point.layers for unit in layer.channels)
        if unit not in units
    ]
    rows = [
        plots.Row(
            f"{point.setting}, seed {point.seed}: {point.measured:,.0f} cycles",
            {layer.name: layer.channels for layer in point.layers},
        )
        for point in mine
    ]
    caption = (
        "<b>Who makes which channels.</b> A row for each searched network, by measured cycles; a column for "
        "each layer, in their order. The bar is the share of its output channels that each unit makes."
    )
    return plots.splits(rows, layers, units), caption


def _training(page: _Page) -> tuple[Figure, str] | None:
    curves = [curve for curve in page.study.curves if len(curve.epochs)]
    if not curves:
        return None
    order = {phase: i for i, phase in enumerate(PHASES)}
    curves.sort(key=lambda curve: order.get(curve.phase, len(order)))  # stable: others stay in their order
    look = {
        **page.look,
        **plots.appearances_of([curve.kind for curve in curves if curve.kind], page.study.units),
    }
    caption = (
        "<b>Training.</b> A line for each network. Loss and accuracy are those of training images; the cost "
        f"is the predicted one ({escape(page.study.objective)}) of the mapping as it stands."
    )
    return plots.training(curves, look, page.words), caption


def figures(study: Mapping[str, Any]) -> dict[str, tuple[Figure, str]]:
    """Return the figures of a study and their captions in HTML, by name, in the page's order.

    Args:
        study: as `load_study` returns it.

    Returns: "latency"; "energy" if points have it; "prediction"; "splits" if something was searched;
        "training" if there are curves.

    Raises:
        StudyError: the study lacks something.
    """
    return _figures(_page(_study(study, "the study")))


def _figures(page: _Page) -> dict[str, tuple[Figure, str]]:
    found = {"latency": _trade(page, "cycles")}
    if any(entry.energy is not None for entry in page.entries):
        found["energy"] = _trade(page, "energy")
    found["prediction"] = _prediction(page)
    others = {"splits": _splits(page), "training": _training(page)}
    return found | {name: item for name, item in others.items() if item is not None}


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


def _verdict_table(page: _Page, by: Cost) -> str:
    what = "cycles" if by == "cycles" else "pJ"
    rows = []
    for item in verdicts(page.entries, by):
        base, rival = item.baseline, item.rival
        found = [
            f"{rival.cost(by):,.0f} ({signed(item.cost_percent, 1)} %)",
            f"{rival.accuracy:.2f} % ({signed(item.points, 2)})",
        ]
        saving = "-" if item.saving_percent is None else f"{signed(-item.saving_percent, 1)} %"
        rows.append(
            [
                escape(page.label(base)),
                f"{base.cost(by):,.0f}",
                f"{base.accuracy:.2f} %",
                *found,
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


def _entry_table(page: _Page) -> str:
    on_front = _front(page.entries, "cycles")
    energy = any(entry.energy is not None for entry in page.entries)
    rows = []
    for entry in page.entries:
        cells = [f"{entry.cycles:,.1f}", f"{100 * entry.cycles / page.study.reference_cycles:.1f} %"]
        if energy:
            cells.append("-" if entry.energy is None else f"{entry.energy:,.0f}")
        cells += [f"{entry.accuracy:.2f} %", _interval(entry)]
        words = [_basis(entry, page.study.test_images), ", ".join(map(str, entry.seeds))]
        words.append("on the front" if entry in on_front else "")
        rows.append([escape(page.label(entry)), *cells, *words])
    numbers = ["measured cycles", "of the reference", *(["energy, pJ"] if energy else []), "accuracy"]
    head = ["setting", *numbers, "95 % interval", "interval of", "seeds", ""]
    meanings = [
        f"<i>{escape(page.kind(kind))}</i>: {meaning}"
        for kind, meaning in MEANINGS.items()
        if kind in page.look
    ]
    note = f'<p class="note">{"; ".join(meanings)}.</p>\n' if meanings else ""
    return html.table(head, rows, len(numbers) + 1) + note


def _point_table(page: _Page) -> str:
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
        f"{_proof(page.study)} in RTL equal to the golden model bit for bit. <i>Accuracy</i>: of the integer "
        "network on the test images; <i>float</i>: of the float network that it was made from."
    )
    return html.table(head, rows, len(numbers)) + f'<p class="note">{note}</p>\n'


def _proof(study: _Study) -> str:
    if study.proof_images is None:
        return "every run"
    return f"every tensor of {study.proof_images} test image{'s' * (study.proof_images != 1)}"


def _about(page: _Page) -> str:
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
    return html.table(["what", "value"], rows, 0) + f'<p class="note">{escape(html.made())}.</p>\n'


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
    text = _document(_page(_study(study, "the study")))
    write_atomically(path, lambda file: file.write(text.encode()))


def _document(page: _Page) -> str:
    study = page.study
    drawn = {
        name: html.figure(name, f"{study.model}: {name}", svg(drawing), caption)
        for name, (drawing, caption) in _figures(page).items()
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
