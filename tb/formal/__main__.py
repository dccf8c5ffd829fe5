# SPDX-License-Identifier: Apache-2.0
"""``python -m tb.formal [NAME…]`` proves what is named, or all, and prints a table; status 1 if one fails.

A name stands for every proof that begins with it. JOBS in the environment says how many run at a time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from common.errors import NpuloopError, TestbenchError
from tb.formal.proofs import PROOFS
from tb.formal.prover import Outcome, Proof, prove

FAILED, BAD_INPUT = 1, 2
HEADER = ("proof", "block", "parameters", "mode", "seconds", "status", "covers")


def chosen(names: Sequence[str]) -> list[Proof]:
    """Return the proofs that begin with one of the names; all where there is none.

    Raises:
        TestbenchError: a name stands for no proof.
    """
    for name in names:
        if not any(proof.name.startswith(name) for proof in PROOFS):
            known = ", ".join(proof.name for proof in PROOFS)
            raise TestbenchError(f"no proof begins with {name!r}; there are {known}")
    return [proof for proof in PROOFS if not names or proof.name.startswith(tuple(names))]


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a line for each proof, under a header, in columns."""
    rows = [HEADER]
    for outcome in outcomes:
        proof = outcome.proof
        parameters = " ".join(f"{name}={value}" for name, value in proof.parameters.items())
        number = str(len(outcome.covers))
        rows.append(
            (
                proof.name,
                proof.block,
                parameters,
                proof.mode,
                f"{outcome.seconds:.1f}",
                outcome.status,
                number,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def main(names: Sequence[str]) -> int:
    """Prove, print, and return the exit status."""
    began = time.monotonic()
    jobs = int(os.environ.get("JOBS") or os.cpu_count() or 1)
    try:
        with ThreadPoolExecutor(max(1, jobs)) as pool:
            outcomes = list(pool.map(prove, chosen(names)))
    except NpuloopError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    print(table(outcomes))
    failed = [outcome for outcome in outcomes if outcome.status != "proven"]
    for outcome in failed:
        print(outcome.text, file=sys.stderr)
    blocks = len({outcome.proof.block for outcome in outcomes})
    print(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} proofs of {blocks} blocks hold, "
        f"{time.monotonic() - began:.0f} s"
    )
    return FAILED if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
