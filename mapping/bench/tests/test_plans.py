# SPDX-License-Identifier: Apache-2.0
"""The bench of plans says what choosing gains, and which networks are slower for storing less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.testing import data_dir, require
from mapping.bench.plans import (
    mapping_times,
    missed_plans,
    plans_summary,
    plans_table,
    public_plans,
    random_plans,
)
from npuloop.cli.console import console


def test_plans_of_random_networks_gain_where_they_differ() -> None:
    found = list(random_plans((4, 6)))
    assert [item.network for item in found] == ["random 4", "random 6"]
    assert found[0].chosen < 0.96 * found[0].plain
    assert all(item.chosen <= item.plain for item in found)
    assert missed_plans(found) == []
    slower = replace(found[0], chosen=1.002 * found[0].stored)
    assert missed_plans([slower]) == ["random 4: takes 0.20 % more than with every tensor stored"]
    assert plans_summary(found).startswith("2 networks: 1 gain more than 0.2 %, 4.30 % at most")
    assert "0 slower than with every tensor stored, by their first plans 1;" in plans_summary(found)
    assert "1 slower than with every tensor stored, by 0.200 % at most" in plans_summary([slower])
    with console.capture() as capture:
        console.print(plans_table(found))
    assert "random 4" in capture.get()


@pytest.mark.data
def test_public_networks_are_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = require(data_dir() / "models" / "kws_ref_model.tflite")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / file.name).symlink_to(file)
    (tmp_path / "models" / "none.tflite").write_bytes(b"none")
    monkeypatch.setattr("mapping.bench.plans.data_dir", lambda: tmp_path)
    found = list(public_plans())
    assert [item.network for item in found] == ["kws_ref_model on npu8", "kws_ref_model on npu_lb"]
    assert all(item.chosen <= item.stored for item in found)
    (times,) = mapping_times(2)
    assert times.network == "kws_ref_model"
    assert min(times.compile_ms, times.price_ms) > 0
