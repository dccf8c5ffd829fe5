# SPDX-License-Identifier: Apache-2.0
"""What came out of a draw: a file for each mutant, written whole or not at all, and tables made of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common.files import write_json
from tb.mutants.equivalents import Equivalent, reason
from tb.mutants.mutant import CLASSES, Mutant
from tb.mutants.plan import TestFile

PASS_RATE = 0.99
"""Share of the mutants that are not equivalent that the tests must kill."""
Z95 = 1.959964
"""Of the normal distribution: 95 % lie within so many standard deviations."""


@dataclass
class Record:
    """What is known of a mutant.

    Args:
        passed: digests of the files of tests that did not see it, by their names.
        killer: the file that did, or "".
        digest: of that file.
        test: the first test that failed in it, or "" where it hung.
        hung: whether it was ended because it took too long.
        seconds: that all of it took.
    """

    passed: dict[str, str] = field(default_factory=dict)
    killer: str = ""
    digest: str = ""
    test: str = ""
    hung: bool = False
    seconds: float = 0.0

    def fits(self, files: Iterable[TestFile]) -> Record:
        """Return what still holds after tests have changed."""
        digests = {file.name: file.digest for file in files}
        passed = {name: digest for name, digest in self.passed.items() if digests.get(name) == digest}
        if self.killer and digests.get(self.killer) != self.digest:
            return Record(passed, seconds=self.seconds)
        return Record(passed, self.killer, self.digest, self.test, self.hung, self.seconds)

    def survives(self, files: Iterable[TestFile]) -> bool:
        """Return whether all of these files have run and none saw it."""
        return not self.killer and all(self.passed.get(file.name) == file.digest for file in files)


def path_of(folder: Path, number: int) -> Path:
    """Return the file of a mutant's record."""
    return folder / "results" / f"{number}.json"


def load(folder: Path, number: int) -> Record:
    """Return what is known of a mutant."""
    path = path_of(folder, number)
    return Record(**json.loads(path.read_text())) if path.exists() else Record()


def save(folder: Path, number: int, record: Record) -> None:
    """Write what is known of a mutant."""
    write_json(path_of(folder, number), asdict(record))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the Wilson interval of a share, 95 %. (E. B. Wilson, JASA 22, 1927)."""
    if count == 0:
        return 0.0, 1.0
    share, z = hits / count, Z95 * Z95 / count
    middle = (share + z / 2) / (1 + z)
    half = Z95 * math.sqrt(share * (1 - share) / count + z / (4 * count)) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Summary:
    """A draw's outcome.

    Args:
        killed, survived, open: mutants by number; open are those that not all tests have looked at.
        equivalent: those that no test can see, with the reason.
    """

    mutants: Mapping[int, Mutant]
    killed: dict[int, Record]
    survived: list[int]
    open: list[int]
    equivalent: dict[int, Equivalent]

    def part(self, numbers: Container[int]) -> Summary:
        """Return the outcome of some of the mutants."""
        return Summary(
            {number: mutant for number, mutant in self.mutants.items() if number in numbers},
            {number: record for number, record in self.killed.items() if number in numbers},
            [number for number in self.survived if number in numbers],
            [number for number in self.open if number in numbers],
            {number: entry for number, entry in self.equivalent.items() if number in numbers},
        )

    @property
    def rate(self) -> float:
        """The share of killed mutants in those that are killed or survive."""
        judged = len(self.killed) + len(self.survived)
        return len(self.killed) / judged if judged else 1.0

    @property
    def good(self) -> bool:
        """Whether enough are killed, and none is open."""
        return self.rate >= PASS_RATE and not self.open


def summarise(
    mutants: Mapping[int, Mutant],
    records: Mapping[int, Record],
    files: Mapping[int, Sequence[TestFile]],
    entries: Sequence[Equivalent],
) -> Summary:
    """Return a draw's outcome.

    Args:
        mutants: by number.
        records: what is known of them.
        files: the tests that must look at each.
        entries: mutants that no test can see.
    """
    killed: dict[int, Record] = {}
    survived: list[int] = []
    unfinished: list[int] = []
    equivalent: dict[int, Equivalent] = {}
    for number, mutant in mutants.items():
        entry = reason(entries, mutant)
        record = records.get(number, Record())
        if record.killer:
            killed[number] = record
        elif entry is not None:
            equivalent[number] = entry
        elif record.survives(files[number]):
            survived.append(number)
        else:
            unfinished.append(number)
    return Summary(mutants, killed, survived, unfinished, equivalent)


def wrong_equivalents(summary: Summary, entries: Sequence[Equivalent]) -> list[int]:
    """Return the mutants that a test has killed although they are recorded as equivalent."""
    return [number for number in summary.killed if reason(entries, summary.mutants[number]) is not None]


def report(summary: Summary) -> str:
    """Return the tables of a draw and its survivors, as text."""
    lines = [*_table(summary, "class", lambda mutant: mutant.operator, list(CLASSES)), ""]
    lines += [*_table(summary, "module", lambda mutant: mutant.module, []), ""]
    for title, numbers in (("survivors", summary.survived), ("not finished", summary.open)):
        if numbers:
            lines.append(f"{title}:")
            for number in numbers:
                mutant = summary.mutants[number]
                lines += [
                    f"  {number:4} {mutant.place} ({mutant.operator}) {mutant.text}",
                    f"       {mutant.change}",
                ]
            lines.append("")
    for kind in ("equivalent", "unreachable"):
        entries = {number: entry for number, entry in summary.equivalent.items() if entry.kind == kind}
        if entries:
            lines.append(f"{kind}:")
            for number, entry in entries.items():
                mutant = summary.mutants[number]
                lines += [f"  {number:4} {mutant.place} {mutant.change}", f"       {entry.reason}"]
            lines.append("")
    return "\n".join([*lines, verdict(summary)])


def verdict(summary: Summary) -> str:
    """Return how many mutants are killed, in a line."""
    judged = len(summary.killed) + len(summary.survived)
    low, high = wilson(len(summary.killed), judged)
    hung = sum(record.hung for record in summary.killed.values())
    return (
        f"{len(summary.killed)} of {judged} killed ({hung} by the time limit): {summary.rate:.1%}, "
        f"95 % interval {low:.1%} to {high:.1%}; {len(summary.equivalent)} equivalent or unreachable, "
        f"{len(summary.open)} not finished"
    )


def _table(summary: Summary, title: str, group: object, order: list[str]) -> list[str]:
    assert callable(group)
    counts: dict[str, Counter[str]] = {name: Counter() for name in order}
    for kind, numbers in (
        ("killed", summary.killed), ("survived", summary.survived), ("open", summary.open),
        ("equivalent", summary.equivalent),
    ):  # fmt: skip
        for number in numbers:
            counts.setdefault(group(summary.mutants[number]), Counter())[kind] += 1
    kinds = ("drawn", "killed", "survived", "equivalent", "open")
    lines = [f"{title:<26}" + "".join(f"{kind:>12}" for kind in kinds)]
    for name, count in counts.items() if order else sorted(counts.items()):
        if total := sum(count.values()):
            cells = [total, *(count[kind] for kind in kinds[1:])]
            lines.append(f"{name:<26}" + "".join(f"{cell or '-':>12}" for cell in cells))
    return lines
