# SPDX-License-Identifier: Apache-2.0
"""The licence: every file says in its first three lines that it is Apache-2.0, or REUSE.toml says it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from common.paths import ROOT

LINE = "SPDX-License-Identifier: Apache-2.0"
FIRST_LINES = 3
WITHOUT = ("LICENSE",)
"""The text of the licence itself."""
SOURCES = re.compile(r".*\.(py|sv|vlt|cpp|sh|rdl)|(.*/)?Makefile|\.ci/run")
"""Files that say it themselves, but for those of `MAY_BE_LISTED`."""
MAY_BE_LISTED = re.compile(r"hw/interface\.py|rtl/generated/\w+\.sv|gates/cells/\w+\.py")
"""Sources that REUSE.toml may list: what is generated, and what is hashed as it is."""


def tracked(root: Path) -> list[str]:
    """Return the files that git knows; of an archive without git, those that .gitignore does not name.

    `safe.directory` lets git read a checkout of another owner, as continuous integration has it.
    """
    git = ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z"]
    if (root / ".git").exists():
        done = subprocess.run(git, capture_output=True, text=True, check=True)
        names = [name for name in done.stdout.split("\0") if name]
    else:
        ignored = [line.strip("/") for line in (root / ".gitignore").read_text().splitlines()]
        paths = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
        names = [
            str(path)
            for path in paths
            if not any(Path(part).match(pattern) for part in path.parts for pattern in ignored)
        ]
    return sorted(name for name in names if (root / name).is_file())


def licence_tables(text: str) -> list[tuple[str, ...]]:
    """Return the patterns of each table of a REUSE.toml that gives a licence.

    Raises:
        AssertionError: a table without a comment above that says why.
    """
    tables = []
    for before, table in zip(*(text.split("[[annotations]]")[i:] for i in (0, 1)), strict=False):
        body = re.split(r"^#", table, maxsplit=1, flags=re.MULTILINE)[0]
        patterns = re.search(r'^path = (\[.*?\]|".*?")$', body, re.MULTILINE | re.DOTALL)
        assert patterns, f"a table without a path: {body}"
        assert before.rstrip("\n").splitlines()[-1].startswith("#"), f"nothing says why: {patterns[1]}"
        if "SPDX-License-Identifier" in body:
            value = ast.literal_eval(patterns[1])  # strings and lists of them are written as in Python
            tables.append((value,) if isinstance(value, str) else tuple(value))
    return tables


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern of REUSE.toml matches a file: `*` is anything but a slash, `**` anything."""
    parts = re.split(r"(\*\*|\*)", pattern)
    words = {"**": ".*", "*": "[^/]*"}
    return re.fullmatch("".join(words.get(part, re.escape(part)) for part in parts), name) is not None


def says_it(file: Path) -> bool:
    """Return whether a file has the line among its first ones."""
    with file.open("rb") as stream:
        return any(LINE.encode() in stream.readline() for _ in range(FIRST_LINES))


def faults(root: Path, names: Sequence[str], tables: Iterable[Sequence[str]]) -> list[str]:
    """Return what is wrong: files that nothing or two things give a licence, patterns that match no file."""
    patterns = [pattern for table in tables for pattern in table]
    found = []
    for name in names:
        listed = [pattern for pattern in patterns if matches(pattern, name)]
        said = says_it(root / name)
        if name in WITHOUT:
            continue
        if not said and not listed:
            found.append(f"{name}: no line '{LINE}', and not in REUSE.toml")
        if said + len(listed) > 1:
            found.append(f"{name}: twice, by {'its own line, ' * said}{', '.join(listed)}")
        if listed and SOURCES.fullmatch(name) and not MAY_BE_LISTED.fullmatch(name):
            found.append(f"{name}: a source says it itself, not REUSE.toml")
    unused = [pattern for pattern in patterns if not any(matches(pattern, name) for name in names)]
    return found + [f"REUSE.toml: no file is {pattern}" for pattern in unused]


def test_every_file_has_its_licence_once() -> None:
    names = tracked(ROOT)
    assert len(names) > 100
    assert faults(ROOT, names, licence_tables((ROOT / "REUSE.toml").read_text())) == []


def test_files_without_a_licence_and_with_two_are_found(tmp_path: Path) -> None:
    said = f"# {LINE}\n"
    texts = {
        "a.py": said, "b.py": "import a\n", "c.sh": f"#!/bin/sh\n{said}", "d.py": f"\n\n\n{said}",
        "hw/interface.py": "", "page.md": "# Page\n", "guide/page.md": f"<!-- {LINE} -->\n",
        "rtl/top.sv": "module top;\n", "LICENSE": "",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    tables = [("**.md",), ("hw/*.py", "rtl/*.sv"), ("guide/*.csv",)]
    assert faults(tmp_path, list(texts), tables) == [
        f"b.py: no line '{LINE}', and not in REUSE.toml",
        f"d.py: no line '{LINE}', and not in REUSE.toml",
        "guide/page.md: twice, by its own line, **.md",
        "rtl/top.sv: a source says it itself, not REUSE.toml",
        "REUSE.toml: no file is guide/*.csv",
    ]
    assert "page.md: twice, by **.md, *.md" in faults(tmp_path, ["page.md"], [("**.md",), ("*.md",)])


def test_tables_are_read_with_their_reasons() -> None:
    table = '[[annotations]]\npath = {}\nSPDX-License-Identifier = "Apache-2.0"\n'
    whole = '# All.\n[[annotations]]\npath = "**"\nSPDX-FileCopyrightText = "Us"\n\n'
    text = f"version = 1\n\n{whole}# Data.\n{table}\n# Pages.\n{table}"
    several = '[\n  "a.csv",\n  "b.csv",\n]'
    text = text.replace("{}", several, 1).replace("{}", '"**.md"')
    assert licence_tables(text) == [("a.csv", "b.csv"), ("**.md",)]
    with pytest.raises(AssertionError, match=r"nothing says why: \[\"x\"\]"):
        licence_tables(f"version = 1\n\n{table}".replace("{}", '["x"]'))


@pytest.mark.parametrize(
    ("pattern", "name", "holds"),
    [
        ("**.md", "README.md", True),
        ("**.md", "guide/a/b.md", True),
        ("guide/*.md", "guide/a/b.md", False),
        ("guide/*.md", "guide/a.md", True),
        ("a.csv", "a-csv", False),
    ],
)
def test_stars_match_as_in_reuse(pattern: str, name: str, holds: bool) -> None:
    assert matches(pattern, name) is holds


def test_an_archive_without_git_has_the_same_files(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text(".venv/\n__pycache__/\n/data/\n*.egg-info/\n")
    for name in ("a.py", "hw/b.py", ".venv/c.py", "hw/__pycache__/b.pyc", "data/d.npz", "x.egg-info/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert tracked(tmp_path) == [".gitignore", "a.py", "hw/b.py"]
