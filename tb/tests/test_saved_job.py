# SPDX-License-Identifier: Apache-2.0
"""Failing jobs are saved without pickles and read back as they were; other files are one clear error."""

from __future__ import annotations

import functools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.paths import build_root
from hw.core import CoreConfig
from hw.memory import ErrorRange, MemoryModel
from hw.system import NPU8, System
from tb import replay
from tb.job import Job
from tb.saved_job import SCHEMA, SavedJob, SavedJobError, load_job, save_job

CONFIG = System((NPU8, CoreConfig("small", w_bits=3, a_bits=7, lanes=4)), axi_bits=64, mem_bytes=1 << 22)
JOB = Job(
    segments=[(0x100, np.arange(64, dtype=np.uint8)), (0x2000, np.zeros(0, np.uint8))],
    starts={"small": (0x100, 1)},
    reads=[(0x300, 16), (0x400, 0)],
    max_cycles=1234,
    memory=MemoryModel(latency=7, data_first=True, errors=(ErrorRange(64, 16, "decerr", reads=False),)),
    reset_after=5,
    stop_on_error=False,
    wave_scopes=["tb_top.u_soc"],
    keep_memory=True,
    fill=3,
)


@pytest.fixture(autouse=True)
def _own_build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPULOOP_BUILD", str(tmp_path / "build"))


def test_a_job_comes_back_as_it_was_saved() -> None:
    path = save_job(SavedJob(CONFIG, JOB, "record", structural=True, seed=9))
    assert path.is_relative_to(build_root())
    saved = load_job(path)
    assert (saved.config, saved.flavour, saved.structural, saved.seed) == (CONFIG, "record", True, 9)
    assert [address for address, _ in saved.job.segments] == [0x100, 0x2000]
    for (_, data), (_, original) in zip(saved.job.segments, JOB.segments, strict=True):
        np.testing.assert_array_equal(data, original)
        assert data.dtype == np.uint8
    for name in (
        *("starts", "reads", "max_cycles", "memory", "reset_after", "stop_on_error"),
        *("wave_scopes", "keep_memory", "fill", "waves"),
    ):
        assert getattr(saved.job, name) == getattr(JOB, name), name


def test_equal_jobs_are_one_file_and_others_are_others() -> None:
    first = save_job(SavedJob(CONFIG, JOB))
    assert save_job(SavedJob(CONFIG, JOB)) == first
    assert save_job(SavedJob(CONFIG, JOB, seed=2)) != first
    other = Job(segments=[(0x100, np.ones(64, np.uint8)), JOB.segments[1]], starts=JOB.starts)
    assert save_job(SavedJob(CONFIG, other)) != first


def test_a_saved_job_holds_no_python_objects() -> None:
    path = save_job(SavedJob(CONFIG, JOB))
    with np.load(path, allow_pickle=False) as archive:
        assert {name: archive[name].dtype.kind for name in archive.files} == {
            "job": "U", "segment_0": "u", "segment_1": "u",
        }  # fmt: skip


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        """Return what a pickle would execute."""
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize(
    "content", [b"", b"hello", pickle.dumps(Trap()), b"\x93NUMPY", b"PK\x03\x04 cut off"], ids=range(5)
)
def test_a_foreign_file_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(SavedJobError, match=r"other\.npz: no saved job, or a damaged one") as raised:
        load_job(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SavedJobError, match=r"none\.npz: no saved job.*no such file"):
        load_job(tmp_path / "none.npz")


def test_a_pickle_inside_is_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "trap.npz"
    np.savez(path, job=np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(SavedJobError, match=r"trap\.npz: no saved job"):
        load_job(path)


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    data = save_job(SavedJob(CONFIG, JOB)).read_bytes()
    path = tmp_path / "cut.npz"
    for size in range(0, len(data), 37):
        path.write_bytes(data[:size])
        with pytest.raises(SavedJobError, match=r"cut\.npz: no saved job"):
            load_job(path)


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON text of a saved job."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    document = json.loads(str(arrays["job"][()]))
    edit(document)
    arrays["job"] = np.array(json.dumps(document))
    with path.open("wb") as file:
        functools.partial(np.savez, allow_pickle=False)(file, **arrays)


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document.update(schema=SCHEMA + 1),
        lambda document: document.update(flavour="tasty"),
        lambda document: document.pop("config"),
        lambda document: document["config"].update(axi_bits=32),
        lambda document: document["config"]["cores"][0].update(rows=17),
        lambda document: document["config"].update(cores=7),
        lambda document: document["job"].update(colour="red"),
        lambda document: document["job"].update(addresses=[0, 0, 0]),
        lambda document: document["job"].update(addresses=[1 << 30, 0]),
        lambda document: document["job"].update(starts={"npu9": [0, 1]}),
        lambda document: document["job"].update(fill=999),
        lambda document: document["job"]["memory"].update(latency=0),
    ],
    ids=range(12),
)
def test_a_damaged_description_is_refused(edit: Callable[[dict[str, Any]], object]) -> None:
    path = save_job(SavedJob(CONFIG, JOB))
    change(path, edit)
    with pytest.raises(SavedJobError, match="no saved job, or a damaged one"):
        load_job(path)


def test_replay_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(b"nothing")
    assert replay.main([str(path)]) == 1
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert "x.npz: no saved job" in text
