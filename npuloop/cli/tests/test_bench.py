# SPDX-License-Identifier: Apache-2.0
"""The bench's exit status says whether a target is missed; nothing is measured here."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from typer.testing import CliRunner

from mapping.bench import utilisation
from npuloop.cli.main import app
from tb import session


@pytest.mark.parametrize(
    ("missed", "status"), [([], 0), (["npu8: array busy 91.0 %, the target is 97 %"], 1)]
)
def test_a_missed_target_is_named_and_the_status_is_1(
    missed: list[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "Session", nullcontext)
    monkeypatch.setattr(utilisation, "efficiency", lambda _: [])
    monkeypatch.setattr(utilisation, "efficiency_table", lambda _: "the table")
    monkeypatch.setattr(utilisation, "missed_targets", lambda _: missed)
    done = CliRunner().invoke(app, ["bench", "--set", "npu8.LANES=8"])
    assert done.exit_code == status, done.output
    assert "the table" in done.stdout
    assert done.stderr.splitlines() == [f"target missed: {line}" for line in missed]
