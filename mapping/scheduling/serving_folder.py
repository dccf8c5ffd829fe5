# SPDX-License-Identifier: Apache-2.0
"""The folder that `npuloop serve` writes into: what a run that was killed has left there, and whose it is.

`work/run.json` says what the folder is about; a run about anything else is refused. Beside it lie the figures
of each policy and seed that are done, and the journal of a replay.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from common.files import MAX_TEXT_BYTES, read_bytes, read_json, write_json
from common.user_code import is_function
from hw.sources import rtl_hash
from mapping.scheduling.deployment import Deployment
from mapping.scheduling.metrics import Metrics, Responses
from mapping.scheduling.policies import FIXED, load_policy
from mapping.scheduling.workload import Workload, WorkloadError


def fingerprint(
    deployment: Deployment, workload: Workload, policies: Sequence[str], clock: str, first_seed: int,
    seeds: int, how: str,
) -> dict[str, Any]:  # fmt: skip
    """Return what must be the same for a run to go on, in the words of run.json.

    Args:
        deployment: the system and what it can run, with what that takes.
        workload: the workload.
        policies: as the command line names them.
        clock: the clock's name.
        first_seed, seeds: the first seed, and their number.
        how: how requests run in RTL; empty: not at all.

    Raises:
        PolicyError: a policy that cannot be loaded.
    """
    versions = hashlib.sha256()
    for network, options in deployment.options.items():
        for option in options:
            version = option.version
            said = (network, version.name, version.drop, version.interval, option.units)
            versions.update(repr(said).encode())
            for address, data in option.program.segments:
                versions.update(address.to_bytes(8, "little") + data.tobytes())
    costs = [
        (option.name, option.cycles, option.energy_pj)
        for options in deployment.options.values()
        for option in options
    ]
    document = {
        "workload": _hash(
            repr((workload.streams, workload.duration, workload.confidence, workload.clock_mhz))
        ),
        "versions": versions.hexdigest(),
        "system": deployment.system.package(),
        "cost tables": _hash(
            repr((costs, sorted(deployment.work_pj.items()), sorted(deployment.rest_pj.items())))
        ),
        "policies": {name: _policy(name) for name in policies},
        "clock": clock,
        "seed": first_seed,
        "seeds": seeds,
        "way to run in RTL": how,
    }
    return document | ({"RTL": rtl_hash()} if how else {})


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _policy(name: str) -> str:
    """Return a hash of what decides, where that is not npuloop's own."""
    if name.startswith(FIXED):
        path = Path(name.removeprefix(FIXED))
        return hashlib.sha256(read_bytes(path, MAX_TEXT_BYTES, WorkloadError, "schedule")).hexdigest()
    if is_function(name):
        load_policy(name)  # imports its module
        source = sys.modules[name.partition(":")[0]].__file__
        return "" if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return ""


class ServingFolder:
    """A folder of results, for one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / "work"

    @property
    def journal(self) -> Path:
        """The journal of a replay."""
        return self.work / "replay.jsonl"

    def claim(self, document: dict[str, Any]) -> None:
        """Take the folder for a run.

        Args:
            document: see `fingerprint`.

        Raises:
            WorkloadError: it holds another run, or a damaged one.
        """
        file = self.work / "run.json"
        if not file.exists():
            write_json(file, document)
            return
        try:
            present = read_json(file, WorkloadError, "run")
            keys = dict.fromkeys((*document, *present))
            changed = [key for key in keys if present.get(key) != document.get(key)]
        except (WorkloadError, AttributeError, TypeError):
            raise WorkloadError(f"{file}: damaged; remove the folder, or choose another --out") from None
        if changed:
            raise WorkloadError(
                f"{self.path}: holds a run with other {', '.join(changed)}; choose another --out, "
                "or remove it"
            )

    def _figures(self, policy: str, seed: int) -> Path:
        return self.work / f"{quote(policy, safe='')}.{seed}.json"

    def figures(self, policy: str, seed: int) -> Metrics | None:
        """Return the figures of a policy and a seed, where they are there.

        Raises:
            WorkloadError: they are damaged.
        """
        path = self._figures(policy, seed)
        if not path.exists():
            return None
        document = read_json(path, WorkloadError, "result; remove it, and it is made again")
        try:
            streams = {name: Responses(**item) for name, item in document["streams"].items()}
            return Metrics(**document | {"total": Responses(**document["total"]), "streams": streams})
        except (TypeError, KeyError, AttributeError):
            raise WorkloadError(f"{path}: damaged; remove it, and it is made again") from None

    def keep(self, policy: str, seed: int, figures: Metrics) -> None:
        """Leave the figures of a policy and a seed."""
        write_json(self._figures(policy, seed), asdict(figures))
