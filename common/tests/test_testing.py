# SPDX-License-Identifier: Apache-2.0
"""Reference data that are missing skip a test, and fail it where continuous integration runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.testing import require

SKIPPED, FAILED = pytest.skip.Exception, pytest.fail.Exception


@pytest.mark.parametrize(("variable", "outcome"), [("", SKIPPED), ("1", FAILED)])
def test_missing_data_skip_a_test_and_fail_it_in_ci(
    variable: str, outcome: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", variable)
    with pytest.raises((SKIPPED, FAILED), match=r"vectors is missing\. .*NPULOOP_DATA") as caught:
        require(tmp_path / "vectors")
    assert caught.type is outcome
    assert require(tmp_path) == tmp_path
