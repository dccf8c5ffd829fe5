# SPDX-License-Identifier: Apache-2.0
"""A study that is damaged, missing or no study is one error that names the file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import NpuloopError
from mapping.report.search import write_report
from mapping.report.search_study import StudyError, load_study
from mapping.report.testing import Study, made_up_study


def test_a_study_is_read_from_its_file_or_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    file.write_text(json.dumps(made_up_study()))
    assert load_study(file) == load_study(tmp_path) == made_up_study()


def change(*path: str | int, to: Any = None) -> Callable[[Study], None]:
    """Return what sets a part of a study, or without `to` deletes it."""

    def changed(study: Any) -> None:
        *way, last = path
        for step in way:
            study = study[step]
        if to is None:
            del study[last]
        else:
            study[last] = to

    return changed


BAD = [
    (change("study"), "study is missing"),
    (change("study", to=[]), "study must be a mapping, is []"),
    (change("study", "units", to=[]), "study: units must be the names of the units"),
    (change("study", "test_images", to=4.5), "test_images must be a whole number, is 4.5"),
    (change("reference_cycles", to=0), "reference_cycles must be a number above 0, is 0"),
    (change("points", to={}), "points must be a list"),
    (change("points", to=[]), "there are no points"),
    (change("points", 2, "measured_cycles"), "points 3: measured_cycles is missing"),
    (change("points", 2, "measured_cycles", to="12"), "points 3: measured_cycles must be a number, is '12'"),
    (change("points", 0, "predicted_cycles", to=float("nan")), "predicted_cycles must be a number, is nan"),
    (change("points", 0, "low", to=10**400), "low must be a number"),
    (change("points", 0, "seed", to=True), "seed must be a number, is True"),
    (change("points", 0, "accuracy_percent", to=101), "accuracy_percent must be a number, 0 to 100, is 101"),
    (change("points", 0, "energy_pj", to=-1), "energy_pj must be a number, at least 0, is -1"),
    (change("points", 0, "exact_in_rtl", to="yes"), "exact_in_rtl must be true or false, is 'yes'"),
    (change("points", 0, "mapping", to="/etc/x"), "mapping must be a path from the study's folder"),
    (change("points", 0, "layers", 1, "channels"), "points 1: layers 2: channels is missing"),
    (change("points", 0, "name", to=["a"]), "name must be a text, is ['a']"),
    (
        change("curves", 0, "epochs", 0, "loss", to="low"),
        "curves 1: epochs 1: loss must be a number, is 'low'",
    ),
]


@pytest.mark.parametrize(("spoil", "text"), BAD, ids=[text for _, text in BAD])
def test_a_damaged_study_is_one_error_and_leaves_the_page_alone(
    spoil: Callable[[Study], None], text: str, tmp_path: Path
) -> None:
    study = copy.deepcopy(made_up_study())
    spoil(study)
    file, page = tmp_path / "study.json", tmp_path / "report.html"
    file.write_text(json.dumps(study))
    page.write_text("of yesterday")
    with pytest.raises(StudyError, match=r"run `npuloop map` again$") as caught:
        load_study(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert text in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(StudyError, match="the study: "):
        write_report(study, page)
    assert page.read_text() == "of yesterday"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "there is no study; make it with `npuloop map`"),
        (b"{", "damaged, no valid JSON"),
        (b"\xff\xfe", "damaged, no valid JSON"),
        (b"[" * 100_000, "damaged, no valid JSON"),
        (b"[]", "must be a mapping, is []"),
    ],
    ids=["missing", "cut off", "no text", "deep", "a list"],
)
def test_a_file_that_is_no_study_is_one_error(content: bytes | None, text: str, tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StudyError) as caught:
        load_study(file)
    assert str(caught.value).startswith(f"{file}")
    assert text in str(caught.value)
    assert "npuloop map" in str(caught.value)


def test_a_page_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NpuloopError, match="cannot be written"):
        write_report(made_up_study(), tmp_path / "file" / "report.html")
