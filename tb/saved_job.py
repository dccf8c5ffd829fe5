# SPDX-License-Identifier: Apache-2.0
"""Jobs that failed, saved to be run again: an `.npz` of plain arrays, without pickles.

Member `job` is JSON text: the system, the flavour of the build, and all of the job but the bytes of its
segments, which are the members `segment_0`, `segment_1` and so on.
"""

from __future__ import annotations

import functools
import hashlib
import json
import typing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.array_files import read_npz
from common.arrays import Bytes
from common.errors import NpuloopError, TestbenchError
from common.files import write_atomically
from common.paths import build_root
from hw.core import CoreConfig
from hw.memory import ErrorRange, MemoryModel
from hw.system import System
from tb.build import Flavour
from tb.job import Job

SCHEMA = 2


class SavedJobError(TestbenchError):
    """A file that holds no saved job, or a damaged one."""


@dataclass(frozen=True)
class SavedJob:
    """A job, and the build that it ran in.

    Attributes:
        config: the system.
        job: what it ran. Where its waves went is not kept.
        flavour, structural: see `tb.build.build`.
        seed: see `tb.session.Session`.
    """

    config: System
    job: Job
    flavour: Flavour = "fast"
    structural: bool = False
    seed: int | None = None


def save_job(saved: SavedJob) -> Path:
    """Save a job for `python -m tb.replay`; return the file, which is named by its contents."""
    job = saved.job
    document = {
        "schema": SCHEMA,
        "config": asdict(saved.config),
        "flavour": saved.flavour,
        "structural": saved.structural,
        "seed": saved.seed,
        "job": {
            "addresses": [int(address) for address, _ in job.segments],
            "starts": {unit: [int(value) for value in start] for unit, start in job.starts.items()},
            "reads": [[int(value) for value in item] for item in job.reads],
            "max_cycles": job.max_cycles,
            "memory": asdict(job.memory),
            "reset_after": job.reset_after,
            "stop_on_error": job.stop_on_error,
            "wave_scopes": list(job.wave_scopes),
            "keep_memory": job.keep_memory,
            "fill": job.fill,
        },
    }
    text = json.dumps(document)
    arrays: dict[str, Any] = {f"segment_{i}": data for i, (_, data) in enumerate(job.segments)}
    digest = hashlib.sha256(text.encode())
    for data in arrays.values():
        digest.update(data.tobytes())
    path = build_root() / "failures" / f"{digest.hexdigest()[:12]}.npz"
    arrays["job"] = np.array(text)
    write_atomically(path, functools.partial(np.savez_compressed, allow_pickle=False, **arrays))
    return path


def load_job(path: Path) -> SavedJob:
    """Read a saved job.

    Raises:
        SavedJobError: the file cannot be read, is damaged, or holds something else.
    """
    try:
        arrays = read_npz(path)
        return _saved_job(json.loads(str(arrays["job"][()])), arrays)
    except (
        *(AttributeError, EOFError, IndexError, KeyError, NotImplementedError, RecursionError, RuntimeError),
        *(TypeError, ValueError, NpuloopError),
    ) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SavedJobError(f"{path}: no saved job, or a damaged one ({reason})") from None


def _saved_job(document: dict[str, Any], arrays: dict[str, Any]) -> SavedJob:
    """Return the job of a file's members; whatever is wrong with them raises."""
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']!r}, not {SCHEMA}")
    if document["flavour"] not in typing.get_args(Flavour):
        raise ValueError(f"flavour {document['flavour']!r}")
    config = document["config"]
    config["cores"] = tuple(CoreConfig(**core) for core in config["cores"])
    fields = document["job"]
    segments: list[tuple[int, Bytes]] = [
        (address, arrays[f"segment_{i}"]) for i, address in enumerate(fields.pop("addresses"))
    ]
    memory = fields.pop("memory")
    memory["errors"] = tuple(ErrorRange(**item) for item in memory["errors"])
    starts = {unit: (address, count) for unit, (address, count) in fields.pop("starts").items()}
    reads = [(address, size) for address, size in fields.pop("reads")]
    saved = SavedJob(
        config=System(**config),
        job=Job(segments=segments, starts=starts, reads=reads, memory=MemoryModel(**memory), **fields),
        flavour=document["flavour"],
        structural=bool(document["structural"]),
        seed=None if document["seed"] is None else int(document["seed"]),
    )
    saved.job.check(saved.config)
    return saved
