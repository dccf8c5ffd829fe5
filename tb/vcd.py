# SPDX-License-Identifier: Apache-2.0
"""Reads back what a `record` session has traced: the value of every signal in every clock cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import TestbenchError


class TraceError(TestbenchError):
    """A trace that cannot be read, or lacks what is looked for."""


@dataclass(frozen=True)
class Recording:
    """The signals of some modules, cycle by cycle.

    Attributes:
        cycles: how many there are.
        signals: by scope and name: width in bits, and the value before each rising edge of the clock.
            Elements of an unpacked array are signals: `name[0]`.
    """

    cycles: int
    signals: Mapping[str, Mapping[str, tuple[int, list[int]]]]

    def scope(self, path: str) -> Mapping[str, tuple[int, list[int]]]:
        """Return the signals of a module.

        Raises:
            TraceError: it was not traced.
        """
        if path not in self.signals:
            raise TraceError(f"{path} is not in the trace; there are {', '.join(self.signals) or 'none'}")
        return self.signals[path]


def read_trace(path: Path, scopes: Sequence[str], clock: str = "clk_i") -> Recording:
    """Read the signals of some modules from a VCD file, as they are before each rising edge of their clock.

    The first cycle ends with the first rising edge after a falling one; a clock that is low at the end is
    taken to rise once more. Unknown bits are 0.

    Args:
        path: the file.
        scopes: paths of the modules, from `tb_top` on.
        clock: name of the clock in the first of them.

    Raises:
        TraceError: the file is not there, is not a VCD file, or lacks a module or the clock.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: cannot be read as a trace: {error}") from None
    head, definitions, body = text.partition("$enddefinitions $end")
    if not definitions:
        raise TraceError(f"{path}: not a VCD file")
    places = _definitions(head, set(scopes))
    missing = [scope for scope in scopes if not any(where == scope for _, _, where, _ in places)]
    tick = next((code for code, _, where, name in places if (where, name) == (scopes[0], clock)), None)
    if missing or tick is None:
        raise TraceError(f"{path}: {', '.join(missing) or f'{scopes[0]}.{clock}'} is not in the trace")
    values = {code: 0 for code, *_ in places}
    step: dict[str, int] = {}  # what changes in one step of time, in any order
    samples: dict[str, list[int]] = {code: [] for code in values}
    fell = False
    for line in [*body.splitlines(), "#"]:
        kind = line[:1]
        if kind == "#":
            level = step.get(tick)
            if level == 1 and fell:
                for code, sample in samples.items():
                    sample.append(values[code])
            if level is not None:
                fell = level == 0 and (fell or values[tick] == 1)
            values.update(step)
            step.clear()
        elif kind == "b":
            bits, _, code = line[1:].partition(" ")
            if code in values:
                step[code] = int(bits.replace("x", "0").replace("z", "0"), 2)
        elif kind and kind in "01xz":
            code = line[1:]
            if code in values:
                step[code] = int(kind == "1")
    if fell:
        for code, sample in samples.items():
            sample.append(values[code])
    signals: dict[str, dict[str, tuple[int, list[int]]]] = {scope: {} for scope in scopes}
    for code, width, where, name in places:
        signals[where][name] = (width, samples[code])
    return Recording(len(samples[tick]), signals)


def _definitions(head: str, scopes: set[str]) -> list[tuple[str, int, str, str]]:
    """Return code, width, scope and name of the signals of the scopes."""
    definitions: list[tuple[str, int, str, str]] = []
    path: list[str] = []
    for line in head.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "$scope":
            path.append(words[2])
        elif words[0] == "$upscope":
            path.pop()
        elif words[0] == "$var" and ".".join(path) in scopes:
            # an element of an array keeps its number, a vector loses its range
            name = words[4].partition("[")[0] if ":" in words[4] else words[4]
            definitions.append((words[3], int(words[2]), ".".join(path), name))
    return definitions
