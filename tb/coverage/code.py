# SPDX-License-Identifier: Apache-2.0
"""Line, branch, toggle and state coverage of the RTL, added up over every build that has counted.

A point is where it stands in the source, not where in the hierarchy or in which configuration: what one core
of one system has reached is reached. A bit of a signal counts as two points, one for each direction.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from common.errors import TestbenchError
from common.files import read_yaml
from common.paths import ROOT

Kind = Literal["line", "branch", "toggle"]
KINDS: tuple[Kind, ...] = ("line", "branch", "toggle")
EXCLUSIONS = Path(__file__).with_name("exclusions.yaml")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_INDEX = re.compile(r"\[(\d+)\]$")
_INDICES = re.compile(r"\[(\d+)-(\d+)\]")


class CoverageError(TestbenchError):
    """Coverage cannot be read, or an exclusion is wrong."""


@dataclass(frozen=True, order=True)
class Point:
    """What is counted: a line, one way out of a branch, or one direction of one bit of a signal.

    Attributes:
        kind: of the three.
        file: relative to the repository.
        line: in the file, from 1.
        what: a branch's column and way, or a signal's name with its index and direction; empty for a line.
    """

    kind: Kind
    file: str
    line: int
    what: str = ""

    def __str__(self) -> str:
        """Return it as a compiler names a place."""
        return f"{self.file}:{self.line}: {self.kind} {self.what}".rstrip()


@dataclass(frozen=True)
class Exclusion:
    """Points that no test can reach, and why.

    Attributes:
        kind: of the points.
        file: names of files below `rtl`, in which * stands for anything.
        what: names of signals without the last index (toggle), also with *, and with [16-63] for an index
            from 16 to 63; or a function, as NAME(): all of its lines and branches.
        bits: of the signals, [lowest, highest]; None: all.
        because: the reason, a sentence.
    """

    kind: Kind
    file: str
    what: str
    bits: tuple[int, int] | None
    because: str


@dataclass
class Code:
    """Hits of every point, and of every state of the plan by its label."""

    points: Counter[Point] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)


def read_code(folder: Path) -> Code:
    """Return what all builds have counted together.

    Raises:
        CoverageError: nothing has been counted.
    """
    code = Code()
    builds = sorted((folder / "code").glob("*.points"))
    if not builds:
        raise CoverageError(f"{folder}: no simulator has counted; run the tests with NPULOOP_CODE_COVERAGE=1")
    for names in builds:
        counts = np.load(names.with_suffix(".npy")).tolist()
        for text, count in zip(names.read_text().split("\n"), counts, strict=True):
            _add(code, text, count)
    return code


def _add(code: Code, text: str, count: int) -> None:
    """Add one of Verilator's points: fields, each a key behind ^A and a value behind ^B."""
    fields = dict(part.split("\x02", 1) for part in text.split("\x01")[1:])
    file, line, kind = fields["f"], int(fields["l"]), fields["t"]
    if kind == "user":
        code.states[fields["o"]] += count
        return
    if Path(file).name.startswith("cover_"):
        return
    if file.startswith("/"):  # benches give whole paths; the RTL may be a copy
        _, rtl, inside = file.rpartition("/rtl/")
        if not rtl:  # a user's own cell in place of the RTL's
            return
        file = f"rtl/{inside}"
    if kind == "toggle":
        code.points[Point("toggle", file, line, fields["o"])] += count
        return
    for first, last in _RANGE.findall(fields.get("S", "")):
        for number in range(int(first), int(last or first) + 1):
            code.points[Point("line", file, number)] += count
    if fields["o"] != "block":
        code.points[Point("branch", file, line, f"{fields['n']} {fields['o']}")] += count


def read_exclusions() -> list[Exclusion]:
    """Return the exclusions of `exclusions.yaml`."""
    found = []
    for item in read_yaml(EXCLUSIONS, CoverageError, "list of exclusions"):
        bits = item.get("bits")
        pair = (bits[0], bits[1]) if bits else None
        given = (item[key] for key in ("kind", "file", "what"))
        for kind, file, what in itertools.product(*([one] if isinstance(one, str) else one for one in given)):
            found.append(Exclusion(kind, file, what, pair, item["because"]))
    return found


def excluded(code: Code, exclusions: Iterable[Exclusion]) -> dict[Point, Exclusion]:
    """Return the points that are left out, each with the exclusion that says so.

    A point that has been reached is not left out, whatever an exclusion says.

    Raises:
        CoverageError: an exclusion leaves nothing out.
    """
    left: dict[Point, Exclusion] = {}
    by_file: dict[str, list[Point]] = defaultdict(list)
    for point in code.points:
        by_file[point.file].append(point)
    lines: dict[str, list[str]] = {}
    for exclusion in exclusions:
        matching = 0
        for file, points in by_file.items():
            if not _pattern(f"rtl/{exclusion.file}").fullmatch(file):
                continue
            if file not in lines:
                lines[file] = (ROOT / file).read_text().splitlines()
            for point in points:
                if point.kind == exclusion.kind and _matches(exclusion, point, lines[file]):
                    matching += 1
                    if not code.points[point]:
                        left.setdefault(point, exclusion)
        if not matching:
            raise CoverageError(
                f"{EXCLUSIONS.name}: {exclusion.kind} {exclusion.what!r} of {exclusion.file} matches "
                "nothing; remove it"
            )
    return left


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    """Return a pattern: * stands for anything, [16-63] for an index, and everything else for itself."""

    def meant(part: str) -> str:
        if part == "*":
            return ".*"
        indices = _INDICES.fullmatch(part)
        if indices is None:
            return re.escape(part)
        return rf"\[(?:{'|'.join(map(str, range(int(indices[1]), int(indices[2]) + 1)))})\]"

    return re.compile("".join(meant(part) for part in re.split(r"(\*|\[\d+-\d+\])", text)))


@functools.cache
def _function(what: str, lines: tuple[str, ...]) -> range:
    """Return the numbers of the lines of a function, given as NAME()."""
    name = what.removesuffix("()")
    head = re.compile(rf"\s*function\b.*\b{re.escape(name)}\(")
    first = next((number for number, line in enumerate(lines, 1) if head.match(line)), None)
    if first is None:
        return range(0)
    return range(first, 1 + next(n for n, line in enumerate(lines, 1) if n > first and "endfunction" in line))


def _matches(exclusion: Exclusion, point: Point, lines: list[str]) -> bool:
    if exclusion.kind != "toggle":
        return point.line in _function(exclusion.what, tuple(lines))
    signal = point.what.rsplit(":", 1)[0]
    index = _INDEX.search(signal)
    name = signal[: index.start()] if index else signal
    bit = int(index[1]) if index else 0
    low, high = exclusion.bits or (0, bit)
    return low <= bit <= high and _pattern(exclusion.what).fullmatch(name) is not None


@dataclass(frozen=True)
class Share:
    """How many points of those that count have been reached."""

    reached: int
    total: int

    @property
    def percent(self) -> float:
        """In percent; a file without points of a kind is reached."""
        return 100.0 if self.total == 0 else 100.0 * self.reached / self.total

    def __str__(self) -> str:
        """Return percent and numbers."""
        return f"{self.percent:.2f} % ({self.reached:,} of {self.total:,})"


def shares(code: Code, left: Mapping[Point, Exclusion]) -> dict[str, dict[Kind, Share]]:
    """Return the share of each kind by file, and of all files under the name `all`."""
    reached: Counter[tuple[str, Kind]] = Counter()
    total: Counter[tuple[str, Kind]] = Counter()
    for point, count in code.points.items():
        if point in left:
            continue
        for name in (point.file, "all"):
            total[name, point.kind] += 1
            reached[name, point.kind] += count > 0
    names = ["all", *sorted({name for name, _ in total} - {"all"})]
    return {name: {kind: Share(reached[name, kind], total[name, kind]) for kind in KINDS} for name in names}


def missed(code: Code, left: Mapping[Point, Exclusion]) -> list[Point]:
    """Return the points that count and have not been reached."""
    return sorted(point for point, count in code.points.items() if not count and point not in left)
