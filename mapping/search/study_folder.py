# SPDX-License-Identifier: Apache-2.0
"""Where a study keeps its files, and how a phase of training leaves its checkpoints there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.files import read_json, write_json
from mapping.search.costs import MapError
from mapping.search.plan import Plan
from mapping.search.training import Row, TrainingRun


class Folder:
    """Where a study keeps its files.

    Args:
        path: the folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def work(self, name: str) -> Path:
        """Return the path of a checkpoint or an intermediate result."""
        return self.path / "work" / name

    def run(self, name: str, phase: str, seed: int, stream: str = "") -> TrainingRun:
        """Return a phase of training that leaves checkpoints, and a line in the log for every epoch.

        Args:
            name: of the point, or of the warm-up.
            phase: name of the phase.
            seed: of the point.
            stream: name of its random numbers; by default the phase: all points of a seed have the same.
        """

        def log(row: Row) -> None:
            values = ", ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "epoch")
            with self.log.open("a") as file:
                file.write(f"{name}: {phase} {row['epoch']:.0f}: {values}\n")

        self.log.parent.mkdir(parents=True, exist_ok=True)
        return TrainingRun(stream or phase, seed, self.work(f"{name}.{phase}.pt"), report=log)

    @property
    def log(self) -> Path:
        """The log of all epochs, in the order in which they end."""
        return self.work("epochs.log")

    def claim(self, plan: Plan) -> None:
        """Take the folder for a plan.

        Raises:
            MapError: it holds a study with another plan.
        """
        file = self.path / "plan.json"
        fingerprint = plan.fingerprint
        if file.exists():
            try:
                present = read_json(file, MapError, "plan")
                changed = sorted(key for key in fingerprint if present.get(key) != fingerprint[key])
            except (MapError, AttributeError):
                raise MapError(f"{file}: damaged; remove the folder, or choose another --out") from None
            if changed:
                raise MapError(
                    f"{self.path}: holds a study with other {', '.join(changed)}; choose another --out, "
                    "or remove it"
                )
        else:
            write_json(file, fingerprint)


def read(path: Path) -> Any:
    """Return the content of a result that a job has left, or None."""
    return read_json(path, MapError, "result; remove it, and it is made again") if path.exists() else None
