# SPDX-License-Identifier: Apache-2.0
"""Runs a saved job again, with waves: ``python -m tb.replay FILE [--no-waves]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.errors import NpuloopError
from common.paths import build_root
from tb.build import build
from tb.saved_job import load_job
from tb.session import Session


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the saved job and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tb.replay", description="Run a saved job again.")
    parser.add_argument("file", type=Path, help="a job that a failing session has saved")
    parser.add_argument("--no-waves", action="store_true", help="use the flavour and seed that failed")
    options = parser.parse_args(arguments)
    try:
        saved = load_job(options.file)
        job, flavour = saved.job, saved.flavour
        if not options.no_waves:
            flavour = "wave"
            built = build(saved.config, flavour, structural=saved.structural)
            waves = build_root() / "waves" / f"{options.file.stem}{built.trace_suffix}"
            job = replace(job, waves=waves)
            print(f"waves: {waves}")
        with Session(saved.config, flavour, seed=saved.seed, structural=saved.structural) as session:
            result = session.run(job)
    except NpuloopError as error:
        print(error)
        return 1
    print(result.diagnosis or f"done in {result.cycles} cycles")
    return 0 if result.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
