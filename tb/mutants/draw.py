# SPDX-License-Identifier: Apache-2.0
"""A draw of mutants, and the copy of the RTL that holds it."""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common.files import write_json
from common.paths import ROOT
from hw.sources import TB, TESTBENCH, rtl_sources
from hw.system import System
from tb.build import find_verilator
from tb.mutants.elaborate import TOPS, elaborate
from tb.mutants.generate import mutants
from tb.mutants.instrument import instrument, legal, write_copy
from tb.mutants.mutant import Mutant
from tb.mutants.source import MutantError, Source, read

_ERROR = re.compile(r"%Error[^:\n]*: ([^:\n]+):(\d+):\d+: (.*)")


@dataclass(frozen=True)
class Draw:
    """Mutants in one copy of a design.

    Args:
        rtl: the folder of the copy.
        mutants: by number, from 1.
        refused: drawn, but the simulator does not build with them; others were drawn instead.
        every: how many mutants the design has.
    """

    rtl: Path
    mutants: dict[int, Mutant]
    refused: list[Mutant]
    every: int


def design() -> list[Source]:
    """Return the RTL."""
    root = ROOT / "rtl"
    return read(root, [str(file.relative_to(root)) for file in rtl_sources()])


def all_mutants(
    sources: Sequence[Source], tops: str = TOPS, files: Sequence[str] | None = None
) -> list[Mutant]:
    """Return all legal mutants of a design.

    Args:
        sources: the design in compile order.
        tops: see :func:`tb.mutants.elaborate.elaborate`.
        files: only of these; None: of all.

    Raises:
        MutantError: slang refuses the design itself.
    """
    seen = elaborate({source.name: source.text for source in sources}, tops)
    if seen.faults:
        raise MutantError(f"slang refuses the design: {seen.faults[0]}; run make lint")
    found = mutants(sources, seen)
    return legal(sources, [mutant for mutant in found if files is None or mutant.file in files], tops)


def shuffled(every: Sequence[Mutant], seed: int) -> list[Mutant]:
    """Return mutants in the order in which a seed draws them."""
    return random.Random(seed).sample(every, len(every))  # noqa: S311 a seeded draw


def draws(every: Sequence[Mutant], count: int, seeds: Sequence[int]) -> list[Mutant]:
    """Return mutants in the order in which several seeds draw them: so many of each, then the others.

    What two seeds would draw belongs to the first.
    """
    chosen: list[Mutant] = []
    for seed in seeds:
        taken = set(chosen)
        chosen += [mutant for mutant in shuffled(every, seed) if mutant not in taken][:count]
    taken = set(chosen)
    return chosen + [mutant for mutant in shuffled(every, seeds[-1]) if mutant not in taken]


def folder_of(
    root: Path, count: int, seeds: Sequence[int], sources: Sequence[Source], every: Sequence[Mutant]
) -> Path:
    """Return the folder of a draw: another for each number, seeds, design and list of its mutants."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.text.encode() + b"\0")
    for mutant in every:
        digest.update(f"{mutant.start} {mutant.end} {mutant.key}\n".encode())
    name = "-".join(map(str, seeds))
    return root / f"seed{name}-{count}-{digest.hexdigest()[:12]}"


def prepare(folder: Path, count: int, order: Sequence[Mutant], sources: Sequence[Source]) -> Draw:
    """Return a draw, made if its folder does not hold it yet.

    Args:
        folder: of the draw.
        count: how many mutants.
        order: all mutants in the order in which they are drawn.
        sources: the design.

    Raises:
        MutantError: the design has fewer mutants, or the simulator does not build whatever is left out.
    """
    path = folder / "draw.json"
    if path.exists():
        stored = json.loads(path.read_text())
        kept = {int(number): Mutant(**entry) for number, entry in stored["mutants"].items()}
        refused = [Mutant(**entry) for entry in stored["refused"]]
        return Draw(folder / "rtl", kept, refused, stored["every"])
    refused = []
    while True:
        left = [mutant for mutant in order if mutant not in refused][:count]
        if len(left) < count:
            raise MutantError(f"there are {len(left)} mutants; draw at most so many instead of {count}")
        drawn = dict(enumerate(left, 1))
        copy = instrument(sources, drawn)
        write_copy(copy, ROOT / "rtl", folder / "rtl")
        guilty = {number for file, line in _errors(folder) for number in copy.on_line(file, line)}
        if not guilty:
            break
        refused += [drawn[number] for number in sorted(guilty)]
    write_json(path, {
        "mutants": {str(number): asdict(mutant) for number, mutant in drawn.items()},
        "refused": [asdict(mutant) for mutant in refused], "every": len(order),
    })  # fmt: skip
    return Draw(folder / "rtl", drawn, refused, len(order))


def _errors(folder: Path) -> list[tuple[str, int]]:
    """Return file and line of what Verilator refuses in a copy, in both forms of the design.

    Raises:
        MutantError: it refuses something that is not in the copy.
    """
    rtl = folder / "rtl"
    package = folder / "npu_config_pkg.sv"
    package.write_text(System().package())
    control, *testbench = (str(TB / name) for name in TESTBENCH)
    files = [str(rtl / file.relative_to(ROOT / "rtl")) for file in rtl_sources()]
    files.insert(sum(Path(file).stem.endswith("_pkg") for file in files), str(package))
    verilator = find_verilator()
    places = []
    for structural in (0, 1):
        done = subprocess.run(
            [
                str(verilator.executable), "--lint-only", "--assert", "--no-timing", "-Wno-fatal",
                "-Wno-lint", "-Wno-style", "--top-module", "tb_top", f"-GStructural={structural}",
                control, *files, *testbench,
            ],
            env=verilator.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = [(Path(name), int(line), text) for name, line, text in _ERROR.findall(done.stderr)]
        for name, line, text in found:
            if not name.is_relative_to(rtl):
                raise MutantError(f"Verilator refuses {name}:{line}: {text}")
            places.append((str(name.relative_to(rtl)), line))
        if done.returncode != 0 and not found:
            raise MutantError(f"Verilator refuses the copy in {rtl}\n{done.stderr[-2000:]}")
    return places
