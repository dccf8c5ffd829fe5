# SPDX-License-Identifier: Apache-2.0
"""Read study.json, which `npuloop map` leaves: complete and of the right types, or one error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from common.arrays import Floats
from common.errors import NpuloopError
from common.files import read_json
from mapping.report import search_plots as plots

MAX_FILE_BYTES = 256 << 20
LARGEST = 1e300
"""What counts as a number: no infinity, nothing that a float cannot hold."""
NAME = "study.json"
REMEDY = "run `npuloop map` again"


class StudyError(NpuloopError):
    """A study that is missing, damaged, or lacks something that the report needs."""


@dataclass(frozen=True)
class Reader:
    """A part of a document, with its place for messages.

    Every method refuses what it does not expect.

    Raises:
        StudyError: the value is of another type, out of range, or missing; the message names the place.
    """

    value: Any
    place: str

    def wrong(self, expected: str) -> StudyError:
        """Return the error of a value that is something else than expected."""
        shown = repr(self.value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return StudyError(f"{self.place} must be {expected}, is {shown}; {REMEDY}")

    def __getitem__(self, name: str) -> Reader:
        """Return an entry, which must be there."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("a mapping")
        if name not in self.value:
            raise StudyError(f"{self.place}: {name} is missing; {REMEDY}")
        return Reader(self.value[name], f"{self.place}: {name}")

    def get(self, name: str) -> Reader | None:
        """Return an entry, or None where it is absent or null."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("a mapping")
        return self[name] if self.value.get(name) is not None else None

    def items(self) -> list[tuple[str, Reader]]:
        """Return the names of a mapping and its entries."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("a mapping")
        return [(str(name), Reader(value, f"{self.place}: {name}")) for name, value in self.value.items()]

    def each(self) -> list[Reader]:
        """Return the items of a list."""
        if not isinstance(self.value, Sequence) or isinstance(self.value, str):
            raise self.wrong("a list")
        return [Reader(value, f"{self.place} {i}") for i, value in enumerate(self.value, 1)]

    def text(self) -> str:
        """Return a text; numbers are written as one."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | float):
            raise self.wrong("a text")
        return str(self.value)

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        """Return a finite number within limits."""
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
        """Return a whole number from 0 on."""
        value = self.number(0)
        if value != int(value):
            raise self.wrong("a whole number")
        return int(value)

    def cycles(self) -> float:
        """Return a number above 0."""
        value = self.number(0)
        if value == 0:
            raise self.wrong("a number above 0")
        return value

    def relative_path(self) -> str:
        """Return a path that begins in the study's folder."""
        path = self.text()
        if PurePosixPath(path).is_absolute() or "\\" in path:
            raise self.wrong("a path from the study's folder")
        return path


@dataclass(frozen=True)
class StudyLayer:
    """A layer with weights, and its output channels on each unit."""

    name: str
    channels: dict[str, int]


@dataclass(frozen=True)
class StudyPoint:
    """A trained network in its mapping; cycles, energies in pJ, accuracies in percent."""

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
    layers: tuple[StudyLayer, ...]

    @property
    def error(self) -> float:
        """The error of the prediction, percent."""
        return 100 * (self.predicted / self.measured - 1)

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the interval of the prediction."""
        return self.low <= self.measured <= self.high


def read_point(item: Reader) -> StudyPoint:
    """Return a point of a study; errors as of `Reader`."""
    energy, float_accuracy = item.get("energy_pj"), item.get("float_accuracy_percent")
    layers = tuple(
        StudyLayer(layer["name"].text(), {unit: count.count() for unit, count in layer["channels"].items()})
        for layer in item["layers"].each()
    )
    return StudyPoint(
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


def _curve(item: Reader) -> plots.Curve:
    epochs = item["epochs"].each()

    def values(name: str) -> Floats:
        entries = [epoch.get(name) for epoch in epochs]
        return np.array([math.nan if entry is None else entry.number_or_nan() for entry in entries], float)

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
class Study:
    """A study as its page shows it."""

    model: str
    data: str
    objective: str
    command: str
    units: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: Mapping[str, Any]
    test_images: int
    verification_images: int | None
    memory_latency: int
    reference_cycles: float
    points: tuple[StudyPoint, ...]
    curves: tuple[plots.Curve, ...]


def read_study(document: Any, place: str) -> Study:
    """Return the study that a document holds.

    Args:
        document: the content of study.json.
        place: what messages begin with.

    Raises:
        StudyError: the document lacks something, or has something of another type.
    """
    top = Reader(document, place)
    about = top["study"]
    units = tuple(unit.text() for unit in about["units"].each())
    if not units:
        raise about["units"].wrong("the names of the units")
    verified = about.get("proof_images")
    points = tuple(read_point(item) for item in top["points"].each())
    if not points:
        raise StudyError(f"{place}: there are no points; {REMEDY}")
    return Study(
        model=about["model"].text(),
        data=about["data"].text(),
        objective=about["objective"].text(),
        command=about["command"].text(),
        units=units,
        seeds=tuple(seed.count() for seed in about["seeds"].each()),
        recipe={name: value.value for name, value in about["recipe"].items()},
        test_images=about["test_images"].count(),
        verification_images=verified.count() if verified else None,
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
    if not file.exists():
        text = f"{file}: there is no study; make it with `npuloop map`, or name the folder of one"
        raise StudyError(text)
    document = read_json(file, StudyError, f"study ({REMEDY})")
    read_study(document, str(file))
    study: dict[str, Any] = document
    return study
