# SPDX-License-Identifier: Apache-2.0
"""Report what has been collected in a folder: `python -m tb.coverage FOLDER`; `make coverage` fills it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from common.errors import NpuloopError
from tb.coverage.code import excluded, read_code, read_exclusions, shares
from tb.coverage.plan import load_plan, merged
from tb.coverage.report import (
    code_table,
    plan_items,
    plan_table,
    summary,
    unmet,
    write_missing,
    write_reports,
)


def report(folder: Path, console: Console, *, plan_only: bool = False) -> list[str]:
    """Print what a folder has collected, write its files, and return a sentence for each goal not met."""
    plan, bins = load_plan(), merged(folder)
    if plan_only:
        items = plan_items(plan, bins, None)
        console.print(plan_table(items))
        write_missing(folder / "missing.txt", None, {}, items)
        return unmet(None, items)
    code = read_code(folder)
    left = excluded(code, read_exclusions())
    table, items = shares(code, left), plan_items(plan, bins, code.states)
    console.print(code_table(table))
    console.print(plan_table(items))
    write_missing(folder / "missing.txt", code, left, items)
    write_reports(folder, code, left)
    for kind, numbers in summary(folder, code, left, items).items():
        console.print(
            f"{kind:6} {numbers['percent']:6.2f} %  {numbers['reached']:,} of {numbers['total']:,}, "
            f"{numbers['excluded']:,} excluded",
            highlight=False,
        )
    console.print(f"not reached: {folder / 'missing.txt'}; source: {folder / 'html' / 'index.html'}")
    return unmet(table, items)


def main() -> int:
    """Run the command; 1 if a goal is not met, 2 for an error."""
    parser = argparse.ArgumentParser(prog="python -m tb.coverage", description=__doc__)
    parser.add_argument("folder", type=Path, help="what NPULOOP_COVERAGE named while the tests ran")
    parser.add_argument("--plan-only", action="store_true", help="the functional plan without its states")
    arguments = parser.parse_args()
    try:
        failed = report(arguments.folder.resolve(), Console(), plan_only=arguments.plan_only)
    except NpuloopError as error:
        print(f"coverage: {error}", file=sys.stderr)
        return 2
    for sentence in failed:
        print(f"coverage: {sentence}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
