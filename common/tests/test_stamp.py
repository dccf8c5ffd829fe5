# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from common.errors import NpuloopError
from common.files import read_yaml
from common.stamp import check_stamp, checksum, restamp, stamped

TABLE = {"schema": 1, "date": "2026-11-21", "cycles": [1, 2.5, None], "nested": {"b": 1e-7, "a": True}}


class TableError(NpuloopError):
    pass


def check(path: Path) -> None:
    check_stamp(path, read_yaml(path, TableError, "table"), TableError, "make it again")


def test_a_table_as_it_was_written_is_accepted_whatever_its_layout(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    document = stamped(TABLE)
    assert list(document)[:2] == ["schema", "sha256"]
    assert stamped(document) == document
    for text in (
        yaml.safe_dump(document, sort_keys=False),
        yaml.safe_dump(document, default_flow_style=True),
        f"# a comment\n{yaml.safe_dump(document)}",
    ):
        path.write_text(text)
        check(path)
        assert not restamp(path)
        assert path.read_text() == text


def test_every_changed_figure_is_refused_until_somebody_accepts_it(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    text = f"# head\n{yaml.safe_dump(stamped(TABLE), sort_keys=False)}"
    for before, after in (
        ("2.5", "2.6"),
        ("null", "0"),
        ("true", "false"),
        ("cycles", "cycle"),
        ("b:", "c:"),
    ):
        changed = text.replace(before, after)
        assert changed != text
        path.write_text(changed)
        with pytest.raises(TableError) as caught:
            check(path)
        assert str(caught.value) == (
            f"{path}: was changed after it was written: its checksum is another; make it again, or accept it "
            f"as it is with `npuloop restamp {path}`"
        )
        assert restamp(path)
        check(path)
        assert [line for line in path.read_text().splitlines() if not line.startswith("sha256")] == [
            line for line in changed.splitlines() if not line.startswith("sha256")
        ]


def test_a_table_without_a_checksum_is_refused_until_it_is_stamped(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    path.write_text("schema: 1\nfigure: 2\n")
    with pytest.raises(TableError, match="has no checksum; make it again, or accept it"):
        check(path)
    assert restamp(path)
    assert path.read_text() == f"schema: 1\nsha256: {checksum({'schema': 1, 'figure': 2})}\nfigure: 2\n"
    check(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [("- 1\n", "has no `schema`"), ("{schema: 1}\n", "has no line of its own"), ("a: [", "no valid YAML")],
)
def test_what_is_no_table_is_not_stamped(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(NpuloopError, match=says):
        restamp(path)
    assert path.read_text() == text
