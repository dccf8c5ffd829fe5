# SPDX-License-Identifier: Apache-2.0
"""What coverage says: tables for the console, lists of what is missing, and files that CI systems read."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from common.files import write_atomically, write_json
from common.paths import ROOT
from tb.coverage.code import KINDS, Code, CoverageError, Exclusion, Kind, Point, Share, missed, shares
from tb.coverage.monitors import label
from tb.coverage.plan import JOIN, Bins, Plan

GOALS: Mapping[Kind, float] = {"line": 99.0, "branch": 99.0, "toggle": 97.0}
"""Percent that the project promises; of the plan it promises everything."""


@dataclass(frozen=True)
class Item:
    """A point, a cross or a part of the plan's states: which bins have been seen, and which not."""

    name: str
    seen: tuple[str, ...]
    missing: tuple[str, ...]
    excluded: int

    @property
    def share(self) -> Share:
        """Bins seen of those that must be."""
        return Share(len(self.seen), len(self.seen) + len(self.missing))


def plan_items(plan: Plan, bins: Bins, states: Mapping[str, int] | None) -> list[Item]:
    """Return every item of the plan with what has been seen.

    Args:
        plan: the plan.
        bins: hits of the groups' bins.
        states: hits of the states by label; None: no simulator has counted, the states are left out.
    """
    items = []
    for group in plan.groups.values():
        wanted = {point: (list(labels), 0) for point, labels in group.points.items()}
        wanted |= {
            cross.name: ([JOIN.join(values) for values in cross.bins], len(cross.excluded))
            for cross in group.crosses
        }
        for name, (labels, excluded) in wanted.items():
            hits = bins.get(f"{group.name}.{name}", {})
            counts = {each: hits.get(each, 0) for each in labels}
            items.append(_item(f"{group.name}: {name}", counts, excluded))
    for part in plan.states if states is not None else ():
        counts = {state: (states or {}).get(label(state), 0) for state in part.covers}
        items.append(_item(part.name, counts, len(part.excluded)))
    return items


def _item(name: str, hits: Mapping[str, int], excluded: int) -> Item:
    seen = tuple(each for each, count in hits.items() if count)
    return Item(name, seen, tuple(each for each, count in hits.items() if not count), excluded)


def code_table(table: Mapping[str, Mapping[Kind, Share]]) -> Table:
    """Return the table of files, the worst toggles first, all files last."""
    out = Table(title="RTL reached, in percent of the points that count", title_justify="left")
    out.add_column("file")
    for kind in KINDS:
        out.add_column(kind, justify="right")
        out.add_column("of", justify="right")
    for name in sorted(table, key=lambda name: (name == "all", table[name]["toggle"].percent)):
        cells = [(f"{share.percent:.2f}", f"{share.total:,}") for share in table[name].values()]
        cells = [("", "") if of == "0" else (percent, of) for percent, of in cells]
        if name == "all":
            out.add_section()
        out.add_row(name.removeprefix("rtl/"), *(cell for pair in cells for cell in pair))
    return out


def plan_table(items: list[Item]) -> Table:
    """Return the table of the functional plan."""
    out = Table(title="Functional plan", title_justify="left")
    for column in ("item", "seen", "of", "excluded"):
        out.add_column(column, justify="left" if column == "item" else "right")
    for item in items:
        excluded = str(item.excluded) if item.excluded else ""
        out.add_row(item.name, str(item.share.reached), str(item.share.total), excluded)
    return out


def write_missing(path: Path, code: Code | None, left: Mapping[Point, Exclusion], items: list[Item]) -> None:
    """Write the list of everything that has not been reached."""
    lines = [f"plan: {item.name}: {missing}" for item in items for missing in item.missing]
    if code is not None:
        lines += [str(point) for point in missed(code, left)]
    write_atomically(path, lambda file: file.write(("\n".join(lines) + "\n").encode()))


def write_reports(folder: Path, code: Code, left: Mapping[Point, Exclusion]) -> None:
    """Write lines and branches as Cobertura, LCOV and HTML with the source, by way of gcovr.

    Raises:
        CoverageError: gcovr fails; the message holds what it says.
    """
    from gcovr.data_model.version import FORMAT_VERSION

    document = {"gcovr/format_version": FORMAT_VERSION, "files": _gcovr_files(code, left)}
    trace = folder / "gcovr.json"
    write_json(trace, document)
    html = folder / "html"
    html.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "gcovr", "--root", str(ROOT), "--add-tracefile", str(trace)]
    command += ["--cobertura", str(folder / "cobertura.xml"), "--lcov", str(folder / "lcov.info")]
    command += [
        "--html-details",
        str(html / "index.html"),
        "--html-title",
        "npuloop: lines and branches of the RTL",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CoverageError(f"gcovr failed with {done.returncode}:\n{done.stdout}{done.stderr}")


def _gcovr_files(code: Code, left: Mapping[Point, Exclusion]) -> list[dict[str, Any]]:
    """Return the files of gcovr's format."""
    lines: dict[str, dict[int, int]] = defaultdict(dict)
    branches: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for point, count in sorted(code.points.items()):
        if point in left:
            continue
        if point.kind == "line":
            lines[point.file][point.line] = count
        elif point.kind == "branch":
            ways = branches[point.file, point.line]
            ways.append({"count": count, "fallthrough": False, "throw": False, "branchno": len(ways)})
    for (file, line), ways in branches.items():
        lines[file].setdefault(line, max(way["count"] for way in ways))
    return [
        {
            "file": file,
            "functions": [],
            "lines": [
                {"line_number": line, "count": count, "branches": branches.get((file, line), [])}
                for line, count in sorted(numbers.items())
            ],
        }
        for file, numbers in lines.items()
    ]


def unmet(table: Mapping[str, Mapping[Kind, Share]] | None, items: list[Item]) -> list[str]:
    """Return a sentence for each goal that is not met."""
    reached = table["all"] if table is not None else {}
    out = [
        f"{kind}: {share}; the goal is {GOALS[kind]:g} %"
        for kind, share in reached.items()
        if share.percent < GOALS[kind]
    ]
    missing = sum(len(item.missing) for item in items)
    if missing:
        out.append(f"plan: {missing} bins not seen; the goal is all of them")
    return out


def summary(folder: Path, code: Code, left: Mapping[Point, Exclusion], items: list[Item]) -> dict[str, Any]:
    """Return the figures that the verification page quotes, and write them to `summary.json`."""
    table = shares(code, left)["all"]
    plan = Share(sum(item.share.reached for item in items), sum(item.share.total for item in items))
    numbers: dict[str, Any] = {
        kind: {
            "reached": table[kind].reached,
            "total": table[kind].total,
            "percent": round(table[kind].percent, 2),
            "excluded": sum(point.kind == kind for point in left),
        }
        for kind in KINDS
    }
    numbers["plan"] = {
        "reached": plan.reached,
        "total": plan.total,
        "percent": round(plan.percent, 2),
        "excluded": sum(item.excluded for item in items),
    }
    write_json(folder / "summary.json", numbers)
    return numbers
