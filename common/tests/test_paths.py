# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from common import paths


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.delenv("NPULOOP_DATA", raising=False)
    monkeypatch.delenv("NPULOOP_BUILD", raising=False)
    return root


def test_reference_data_lie_beside_the_checkout_where_nothing_says_otherwise(checkout: Path) -> None:
    assert paths.data_dir() == checkout.parent / "shared" / "data"


def test_a_folder_data_in_the_checkout_comes_before_the_one_beside_it(checkout: Path) -> None:
    (checkout.parent / "shared" / "data").mkdir(parents=True)
    (checkout / "data").mkdir()
    assert paths.data_dir() == checkout / "data"


def test_a_file_data_is_no_folder_of_data(checkout: Path) -> None:
    (checkout / "data").write_text("")
    assert paths.data_dir() == checkout.parent / "shared" / "data"


def test_the_environment_comes_first_even_where_its_folder_is_missing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "data").mkdir()
    monkeypatch.setenv("NPULOOP_DATA", str(checkout / "elsewhere"))
    assert paths.data_dir() == checkout / "elsewhere"
    monkeypatch.setenv("NPULOOP_DATA", "")
    assert paths.data_dir() == checkout / "data"


def test_builds_lie_in_the_checkout_unless_the_environment_names_a_folder(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paths.build_root() == checkout / "sim_build"
    monkeypatch.setenv("NPULOOP_BUILD", str(checkout / "other"))
    assert paths.build_root() == checkout / "other"
