# SPDX-License-Identifier: Apache-2.0
"""`python -m tb.mutants`: draw mutants of the RTL and see which the tests kill."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import NpuloopError
from common.files import write_atomically
from common.paths import build_root
from tb.mutants.campaign import Campaign
from tb.mutants.draw import all_mutants, design, draws, folder_of, prepare
from tb.mutants.equivalents import load, stale
from tb.mutants.mutant import CLASSES
from tb.mutants.plan import files_of_tests
from tb.mutants.results import PASS_RATE, report, verdict, wrong_equivalents
from tb.mutants.source import MutantError


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m tb.mutants", description=__doc__)
    parser.add_argument(
        "--count", type=_positive, default=100, help="how many mutants are drawn by each seed"
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[1], help="of the draw; several share a copy")
    parser.add_argument("--jobs", type=_positive, default=2, help="mutants that run at the same time")
    parser.add_argument("--near", action="store_true", help="only benches of its module and tests of systems")
    parser.add_argument(
        "--most", type=float, default=math.inf, help="only benches, and files that take so many seconds"
    )
    parser.add_argument("--with-equivalents", action="store_true", help="run those that are recorded too")
    parser.add_argument("--report", action="store_true", help="print what is known, run nothing")
    parser.add_argument("--list", metavar="FILE", help="list all mutants of a file of the RTL, run nothing")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 1 where too few are killed, 2 where it cannot run."""
    chosen = options(arguments)
    try:
        return _list(chosen.list) if chosen.list else _campaign(chosen)
    except NpuloopError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mutants: interrupted; the same command goes on", file=sys.stderr)
        return 130


def _list(file: str) -> int:
    sources = design()
    if file not in {source.name for source in sources}:
        raise MutantError(f"the RTL has no file {file}; write for example npu_fifo.sv")
    for mutant in all_mutants(sources, files=[file]):
        print(f"{mutant.place} {mutant.operator}: {mutant.change}")
    for name, meaning in CLASSES.items():
        print(f"{name}: {meaning}")
    return 0


def _campaign(chosen: argparse.Namespace) -> int:
    sources, entries = design(), load()
    every = all_mutants(sources)
    old = stale(entries, every)
    if old:
        raise MutantError(
            f"equivalents.yaml: no mutant fits {old[0].file}: {old[0].line!r} {old[0].change!r}"
        )
    folder = folder_of(build_root() / "mutants", chosen.count, chosen.seed, sources, every)
    draw = prepare(folder, chosen.count * len(chosen.seed), draws(every, chosen.count, chosen.seed), sources)
    campaign = Campaign(
        folder,
        draw,
        files_of_tests(),
        entries,
        near=chosen.near,
        most=chosen.most,
        with_equivalents=chosen.with_equivalents,
    )
    seeds = " and ".join(map(str, chosen.seed))
    print(f"{len(draw.mutants)} of {draw.every} mutants, seed {seeds}, in {folder}", flush=True)
    for mutant in draw.refused:
        print(f"the simulator does not build with {mutant.place} {mutant.change}: another was drawn")
    summary = campaign.summary() if chosen.report else campaign.run(chosen.jobs)
    text = report(summary)
    print(f"\n{text}")
    for i, seed in enumerate(chosen.seed if len(chosen.seed) > 1 else []):
        part = summary.part(range(i * chosen.count + 1, (i + 1) * chosen.count + 1))
        print(f"seed {seed}: {verdict(part)}")
    _write(folder / "report.txt", text)
    if chosen.near or chosen.most < math.inf:
        print("not all tests have looked: those left out may kill survivors")
    for number in wrong_equivalents(summary, entries):
        print(f"mutant {number} is killed although equivalents.yaml has it: {summary.killed[number].test}")
    if not summary.good:
        print(f"fewer than {PASS_RATE:.0%} are killed, or mutants are not finished", file=sys.stderr)
    return 0 if summary.good and not wrong_equivalents(summary, entries) else 1


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(f"{text}\n".encode()))


if __name__ == "__main__":
    sys.exit(main())
