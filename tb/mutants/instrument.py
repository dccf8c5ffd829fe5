# SPDX-License-Identifier: Apache-2.0
"""Writes a copy of a design that holds mutants; which of them is there is chosen when a simulation starts.

Every mutated expression becomes `((npu_mutant_pkg::chosen == 17) ? (mutated) : (original))`, and mutants of
its parts are inside the original. Lines stay where they are. With NPULOOP_MUTANT unset or 0 the copy is the
design.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tb.mutants.elaborate import elaborate
from tb.mutants.mutant import Mutant
from tb.mutants.source import MutantError, Source, one_line

VARIABLE = "NPULOOP_MUTANT"
"""Environment variable with the number of the mutant, from 1; read when a simulation starts."""

_DOUBTFUL = ("stuck", "strobe", "bitwise", "width", "port")
"""Classes of mutants whose type may be another than the original's."""

_READ = f'$c32("std::getenv(\\"{VARIABLE}\\") ? std::atoi(std::getenv(\\"{VARIABLE}\\")) : 0")'
_PACKAGE = "package npu_mutant_pkg; int chosen = {value}; endpackage "
"""Stands before the first package, in its first line. The expression in C++ is for Verilator alone."""


@dataclass(frozen=True)
class Copy:
    """A design with mutants.

    Args:
        texts: the files' texts by name.
        spans: of each mutant, by its number: its own bytes of its file in the copy.
    """

    texts: Mapping[str, str]
    spans: Mapping[int, tuple[str, int, int]]

    def at(self, file: str, offset: int) -> list[int]:
        """Return the numbers of the mutants to which a fault in the copy may belong, the likeliest first.

        A fault in a mutant's own text is its own. Any other belongs to those that follow in its line: where
        types do not fit, what is marked is the assignment.
        """
        for number, (name, begin, end) in self.spans.items():
            if name == file and begin <= offset < end:
                return [number]
        end_of_line = self.texts[file].find("\n", offset)
        return [
            number
            for number, (name, begin, _) in sorted(self.spans.items(), key=lambda item: item[1])
            if name == file and offset <= begin < end_of_line
        ]

    def on_line(self, file: str, line: int) -> list[int]:
        """Return the numbers of the mutants that begin on a line of a file."""
        return sorted(
            number
            for number, (name, begin, _) in self.spans.items()
            if name == file and self.texts[name].count("\n", 0, begin) + 1 == line
        )


def instrument(sources: Sequence[Source], mutants: Mapping[int, Mutant], simulator: bool = True) -> Copy:
    """Return a copy of a design.

    Args:
        sources: the design, in compile order; the first file is compiled first.
        mutants: by their numbers, from 1.
        simulator: for Verilator; else for slang, which does not know the environment.
    """
    by_file: dict[str, list[tuple[int, Mutant]]] = defaultdict(list)
    for number, mutant in mutants.items():
        by_file[mutant.file].append((number, mutant))
    texts: dict[str, str] = {}
    spans: dict[int, tuple[str, int, int]] = {}
    for source in sources:
        first = _PACKAGE.format(value=_READ if simulator else "0") if source is sources[0] else ""
        writer = _Writer(source, by_file[source.name], first)
        texts[source.name] = writer.text()
        spans |= writer.spans
    return Copy(texts, spans)


class _Writer:
    """Writes one file."""

    def __init__(self, source: Source, mutants: Sequence[tuple[int, Mutant]], first: str) -> None:
        self.source = source
        self.pieces = [first]
        self.length = len(first)
        self.spans: dict[int, tuple[str, int, int]] = {}
        places: dict[tuple[int, int], list[tuple[int, Mutant]]] = defaultdict(list)
        for number, mutant in mutants:
            places[mutant.start, mutant.end].append((number, mutant))
        # outermost first; of a statement and its expression the statement
        self.places = sorted(places.items(), key=lambda item: (item[0][0], -item[0][1]))

    def text(self) -> str:
        """Return the file's text."""
        self.between(0, len(self.source.text), 0)
        return "".join(self.pieces)

    def put(self, text: str) -> None:
        """Add text."""
        self.pieces.append(text)
        self.length += len(text)

    def between(self, begin: int, end: int, index: int) -> int:
        """Write the bytes from `begin` to `end`, with the mutated places from `index` on that are in them.

        Returns:
            The first place behind them.
        """
        position = begin
        while index < len(self.places) and self.places[index][0][0] < end:
            (start, stop), mutants = self.places[index]
            if stop > end:
                raise MutantError(f"{self.source.name}: byte {start}: mutants that overlap; report this")
            self.put(self.source.text[position:start])
            index = self.place(start, stop, mutants, index + 1)
            position = stop
        self.put(self.source.text[position:end])
        return index

    def place(self, start: int, stop: int, mutants: Sequence[tuple[int, Mutant]], index: int) -> int:
        """Write a mutated place; return the first place behind it."""
        begin, kind = self.length, mutants[0][1].kind
        if kind == "port":
            name = one_line(self.source.text[start:stop])
            self.put(f"{name}(")
            self.choices(mutants)
            self.put(name.removeprefix(".") + ")" * len(mutants) + ")")
        elif kind == "statement":
            conditions = " && ".join(f"npu_mutant_pkg::chosen != {number}" for number, _ in mutants)
            self.put(f"begin if ({conditions}) ")
            self.spans |= dict.fromkeys(
                (number for number, _ in mutants), (self.source.name, begin, self.length)
            )
            index = self.between(start, stop, index)
            self.put(" end")
        else:
            self.choices(mutants)
            self.put("(")
            index = self.between(start, stop, index)
            self.put(")" + ")" * len(mutants))
        return index

    def choices(self, mutants: Sequence[tuple[int, Mutant]]) -> None:
        """Write the beginnings of conditional expressions."""
        for number, mutant in mutants:
            begin = self.length
            self.put(f"((npu_mutant_pkg::chosen == {number}) ? ({mutant.replacement}) : ")
            self.spans[number] = (self.source.name, begin, self.length)


def legal(sources: Sequence[Source], mutants: Sequence[Mutant], tops: str) -> list[Mutant]:
    """Return the mutants that slang accepts: all are put into one copy, and what it refuses is left out.

    Raises:
        MutantError: the design itself is refused.
    """
    kept = dict(enumerate(mutants, 1))
    while True:
        copy = instrument(sources, kept, simulator=False)
        faults = elaborate(copy.texts, tops).faults
        if not faults:
            return list(kept.values())
        guilty = set()
        for fault in faults:
            hits = copy.at(fault.file, fault.offset)
            doubtful = [number for number in hits if kept[number].operator in _DOUBTFUL]
            guilty |= set(doubtful[:1] or hits[:1])
        if not guilty:
            raise MutantError(f"slang refuses the design: {faults[0]}; run make lint")
        for number in guilty:
            del kept[number]


def write_copy(copy: Copy, original: Path, folder: Path) -> None:
    """Write a copy into a folder, beside whatever else the original's folder holds."""
    shutil.rmtree(folder, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(original, folder, ignore=ignore)
    for name, text in copy.texts.items():
        (folder / name).write_text(text)
