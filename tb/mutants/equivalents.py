# SPDX-License-Identifier: Apache-2.0
"""Mutants that no test can see, as data: each with the reason why.

An entry of `equivalents.yaml` names a file, one or several lines by their text, and changes by theirs; line
numbers would be wrong after the next edit. An entry that fits no mutant of the RTL is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.files import read_yaml
from tb.mutants.mutant import Mutant
from tb.mutants.source import MutantError

FILE = Path(__file__).with_name("equivalents.yaml")
KINDS = {
    "equivalent": "the design does the same with it, in every cycle that anyone looks at",
    "unreachable": "no legal configuration and no legal command gets there",
}
_ANY = "*"
_ARROW = "-> "


@dataclass(frozen=True)
class Equivalent:
    """Mutants that no test can see.

    Args:
        file: of the RTL.
        line: the line's text.
        change: as `Mutant.change`, or from its arrow on; "*" for every change of the line.
        nth: which of several equal lines; None: all.
        kind: one of `KINDS`.
        reason: a sentence.
    """

    file: str
    line: str
    change: str
    nth: int | None
    kind: str
    reason: str

    def fits(self, mutant: Mutant) -> bool:
        """Return whether a mutant is one of these."""
        return (
            mutant.file == self.file
            and mutant.text == self.line
            and self._names(mutant.change)
            and self.nth in (None, mutant.nth)
        )

    def _names(self, change: str) -> bool:
        if self.change.startswith(_ARROW):
            return change.endswith(f" {self.change}")
        return self.change in (_ANY, change)


def load(path: Path = FILE) -> list[Equivalent]:
    """Return the entries of a file, one for each line and change.

    Raises:
        MutantError: the file is not as it should be; the message names the entry.
    """
    found = []
    for number, entry in enumerate(read_yaml(path, MutantError, "list of equivalent mutants") or [], 1):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict) or not {"file", "lines", "reason"} <= entry.keys():
            raise MutantError(f"{where}: needs file, lines and reason")
        if unknown := entry.keys() - {"file", "lines", "changes", "nth", "kind", "reason"}:
            raise MutantError(f"{where}: unknown keys {', '.join(sorted(unknown))}")
        kind = entry.get("kind", "equivalent")
        if kind not in KINDS:
            raise MutantError(f"{where}: kind is {kind!r}; write one of {', '.join(KINDS)}")
        reason = " ".join(str(entry["reason"]).split())
        if len(reason.split()) < 5 or not reason.endswith("."):
            raise MutantError(f"{where}: the reason is no sentence")
        found += [
            Equivalent(entry["file"], line, change, entry.get("nth"), kind, reason)
            for line in _strings(entry["lines"], where)
            for change in _strings(entry.get("changes", [_ANY]), where)
        ]
    return found


def _strings(value: Any, where: str) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise MutantError(f"{where}: lines and changes are texts, or lists of them")
    return values


def stale(entries: Sequence[Equivalent], mutants: Iterable[Mutant]) -> list[Equivalent]:
    """Return the entries that fit no mutant: their line or their change is no longer in the RTL."""
    by_line: dict[tuple[str, str], list[Mutant]] = {}
    for mutant in mutants:
        by_line.setdefault((mutant.file, mutant.text), []).append(mutant)
    return [
        entry
        for entry in entries
        if not any(entry.fits(mutant) for mutant in by_line.get((entry.file, entry.line), []))
    ]


def reason(entries: Sequence[Equivalent], mutant: Mutant) -> Equivalent | None:
    """Return why no test can see a mutant, or None."""
    return next((entry for entry in entries if entry.fits(mutant)), None)
