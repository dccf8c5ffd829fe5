"""Runs a saved job again, with waves: ``python -m tb.replay FILE [--no-waves]``."""

from __future__ import annotations

import argparse
import pickle
from dataclasses import replace
from pathlib import Path

from common.paths import build_root
from tb.build import build
from tb.session import Session, SimulatorError


def main() -> int:
    """Run the saved job and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tb.replay", description="Run a saved job again.")
    parser.add_argument("file", type=Path, help="a job that a failing session has saved (a pickle: trust it)")
    parser.add_argument("--no-waves", action="store_true", help="use the flavour and seed that failed")
    arguments = parser.parse_args()
    saved = pickle.loads(arguments.file.read_bytes())  # noqa: S301  # the user's own file
    job, config = saved["job"], saved["config"]
    flavour = saved["flavour"]
    if not arguments.no_waves:
        flavour = "wave"
        waves = build_root() / "waves" / f"{arguments.file.stem}{build(config, 'wave').trace_suffix}"
        job = replace(job, waves=waves)
        print(f"waves: {waves}")
    try:
        with Session(config, flavour, seed=saved["seed"]) as session:
            result = session.run(job)
    except SimulatorError as error:
        print(error)
        return 1
    print(result.diagnosis or f"done in {result.cycles} cycles")
    return 0 if result.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
