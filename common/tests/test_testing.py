# SPDX-License-Identifier: Apache-2.0
"""Reference data that are missing skip a test, and fail it where continuous integration runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.testing import require


@pytest.mark.parametrize(("variable", "outcome"), [("", pytest.skip), ("1", pytest.fail)])
def test_missing_data_skip_a_test_and_fail_it_in_ci(
    variable: str, outcome: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", variable)
    with pytest.raises(outcome.Exception, match=r"vectors is missing\. .*NPULOOP_DATA"):  # type: ignore[attr-defined]
        require(tmp_path / "vectors")
    assert require(tmp_path) == tmp_path
