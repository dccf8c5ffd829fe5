# SPDX-License-Identifier: Apache-2.0
"""A record of soaks keeps what was run, and refuses what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.paths import ROOT
from hw.sources import rtl_hash
from mapping.run.soak import SoakResult
from mapping.run.soak_record import SoakRecordError, read_soaks, record_soak

COMMITTED = ROOT / "docs" / "results" / "soaks.yaml"


def test_a_soak_is_added_and_the_same_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results" / "soaks.yaml"
    assert read_soaks(path) == []
    record_soak(path, "npuloop soak --count 3", SoakResult(runs=6, values=100, cycles=7), 1.6)
    record_soak(path, "npuloop soak --count 4", SoakResult(runs=8, values=10, wrong=1, failures=["x"]), 0.2)
    record_soak(path, "npuloop soak --count 3", SoakResult(runs=6, values=101, cycles=7), 1.4)
    second, first = read_soaks(path)
    assert first["values"] == 101
    assert first["seconds"] == 1
    assert first["rtl_sha256"] == rtl_hash()
    assert (second["wrong"], second["failed_runs"], second["runs"]) == (1, 1, 8)


@pytest.mark.parametrize("text", ["values: 3\n", "- 3\n", "[", "\0"])
def test_another_file_is_no_record(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(SoakRecordError, match=r"other\.yaml"):
        record_soak(path, "npuloop soak", SoakResult(), 1.0)
    assert path.read_text() == text


def test_the_committed_record_has_a_hundred_million_values_and_none_is_wrong() -> None:
    soaks = read_soaks(COMMITTED)
    assert max(int(entry["values"]) for entry in soaks) >= 100_000_000
    assert [entry["command"] for entry in soaks if entry["wrong"] or entry["failed_runs"]] == []
