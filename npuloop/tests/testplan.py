# SPDX-License-Identifier: Apache-2.0
"""The test plan: what the pages promise about behaviour, and which tests check it, as data.

`docs/reference/testplan.yaml` has the promises, by page. `python -m npuloop.tests.testplan` writes
`docs/reference/testplan.md` again, which shows them. The functions that look for faults take a plan and the
folder that its paths are relative to, and return what is wrong.
"""

from __future__ import annotations

import ast
import functools
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.files import read_yaml
from common.paths import ROOT

PLAN = ROOT / "docs" / "reference" / "testplan.yaml"
PAGE = PLAN.with_suffix(".md")

SUITE = ("common", "hw", "golden", "gates", "tb", "mapping", "npuloop")
"""The rooms that have tests."""
PROMISING = ("docs/reference", "docs/explanation", "docs/how-to")
"""The folders of which every page promises something."""
LEAST_QUOTED = 12
"""Characters of a quotation, so that it can hardly stand in a page by chance."""

KEYS = ("name", "promise", "says", "tests", "also", "open")


@dataclass(frozen=True)
class Promise:
    """What a page promises, and what checks it.

    Attributes:
        name: names the promise in the whole plan, in lower case with hyphens.
        promise: the promise in one sentence.
        page: the page that makes it, relative to the root.
        says: a literal quotation from the page; line ends and indentation do not count.
        tests: files of tests, or `file::function` for one test of them.
        also: the command that checks it besides, or instead, of tests; empty where none does.
        open: a sentence on what no test checks; empty where nothing is left.
    """

    name: str
    promise: str
    page: str
    says: str
    tests: tuple[str, ...] = ()
    also: str = ""
    open: str = ""


# ---------------------------------------------------------------------------------------------------- reading
def read_plan(path: Path = PLAN) -> list[Promise]:
    """Return the promises of a plan, page by page in the order of the file.

    Raises:
        ConfigError: the file is no plan; one line names the file, the entry and the remedy.
    """
    document = read_yaml(path, ConfigError, "mapping of pages to promises")
    if not isinstance(document, dict) or not all(isinstance(entries, list) for entries in document.values()):
        raise ConfigError(f"{path}: no test plan; write a list of promises under each page")
    return [
        _promise(entry, str(page), f"{path}, {page}, entry {number}")
        for page, entries in document.items()
        for number, entry in enumerate(entries, 1)
    ]


def _promise(entry: Any, page: str, where: str) -> Promise:
    """Return the promise that an entry describes."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: is {entry!r}; write a mapping with {', '.join(KEYS)}")
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(KEYS)}")
    for key in ("name", "promise", "says"):
        if key not in entry:
            raise ConfigError(f"{where}: {key!r} is missing; write it")
    texts = {key: entry[key] for key in KEYS if key in entry and key != "tests"}
    for key, value in texts.items():
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{where}: {key} is {value!r}; write a text")
    tests = entry.get("tests", [])
    if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
        raise ConfigError(f"{where}: tests is {tests!r}; write a list of FILE or FILE::FUNCTION")
    if not (tests or "also" in entry or "open" in entry):
        raise ConfigError(f"{where}: nothing checks it; name tests, or say under `open` what is missing")
    return Promise(page=page, tests=tuple(tests), **{key: _on_one_line(text) for key, text in texts.items()})


def _on_one_line(text: str) -> str:
    """Return a text with each run of white space as one blank."""
    return " ".join(text.split())


# ----------------------------------------------------------------------------------------------------- faults
def faulty_names(plan: Sequence[Promise]) -> list[str]:
    """Return the names that stand twice or have another form than `lower-case-and-hyphens`."""
    counts = Counter(item.name for item in plan)
    twice = [f"{name}: stands {count} times" for name, count in counts.items() if count > 1]
    wrong = [name for name in counts if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)]
    return twice + [f"{name}: no name in lower case with hyphens" for name in wrong]


def missing_quotations(plan: Sequence[Promise], root: Path) -> list[str]:
    """Return the promises whose page does not exist, or does not have the quotation, or one too short."""
    found = []
    for item in plan:
        if not (root / item.page).is_file():
            found.append(f"{item.name}: there is no page {item.page}")
        elif len(item.says) < LEAST_QUOTED:
            found.append(f"{item.name}: quote more of the page than {item.says!r}")
        elif item.says not in _on_one_line((root / item.page).read_text()):
            found.append(f"{item.name}: {item.page} does not say {item.says!r}")
    return found


@functools.cache
def names_of_tests(path: Path) -> frozenset[str]:
    """Return the names of a file's tests: those of pytest, and those of cocotb that a bench runs."""
    functions = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    return frozenset(
        node.name
        for node in functions
        if node.name.startswith("test_")
        or any(ast.unparse(decorator) == "cocotb.test()" for decorator in node.decorator_list)
    )


def missing_tests(plan: Sequence[Promise], root: Path) -> list[str]:
    """Return the tests that promises name and that do not exist, or that one promise names twice."""
    found = []
    for item in plan:
        found += [f"{item.name}: {test} stands twice" for test, n in Counter(item.tests).items() if n > 1]
        for test in item.tests:
            name, _, function = test.partition("::")
            if not (Path(name).name.startswith("test_") and name.endswith(".py") and (root / name).is_file()):
                found.append(f"{item.name}: there is no file of tests {name}")
            elif "::" in test and function not in names_of_tests(root / name):
                found.append(f"{item.name}: {name} has no test {function!r}")
    return found


def pages_without_promise(plan: Sequence[Promise], root: Path) -> list[str]:
    """Return the pages that should promise something and of which the plan has nothing."""
    named = {item.page for item in plan}
    pages = [page for folder in PROMISING for page in sorted((root / folder).glob("*.md"))]
    return [name for page in pages if (name := page.relative_to(root).as_posix()) not in named]


def unnamed_files(plan: Sequence[Promise], root: Path) -> list[str]:
    """Return the files of tests that no promise names. That is no fault: they check how, not what."""
    named = {test.partition("::")[0] for item in plan for test in item.tests}
    files = [path for room in SUITE for path in sorted((root / room).rglob("test_*.py"))]
    return [name for path in files if (name := path.relative_to(root).as_posix()) not in named]


# ------------------------------------------------------------------------------------------------------- page
def page(plan: Sequence[Promise], root: Path = ROOT) -> str:
    """Return the page that shows a plan."""
    unnamed = unnamed_files(plan, root)
    left = [item for item in plan if item.open]
    tests = {test for item in plan for test in item.tests}
    pages = {item.page for item in plan}
    head = f"""# Test plan

*Generated by `python -m npuloop.tests.testplan` from testplan.yaml: do not edit.*

Every promise of the pages about behaviour, and the tests that check it: {len(plan)} promises of {len(pages)}
pages, {len(tests)} tests and files of tests. A file without names of tests is meant whole.
`npuloop/tests/test_testplan.py` checks that pages still say it and that tests exist. What no test checks is
said in the row, after **open** ({len(left)} promises). {_sentence_on(unnamed)}
"""
    by_page: dict[str, list[Promise]] = {}
    for item in plan:
        by_page.setdefault(item.page, []).append(item)
    sections = [_section(name, items) for name, items in by_page.items()]
    return "\n".join([head, *sections]).rstrip("\n") + "\n"


def _sentence_on(unnamed: Sequence[str]) -> str:
    """Return a sentence on the files of tests that no promise names: how many, and which."""
    if not unnamed:
        return "Every file of tests is in the plan."
    names = ", ".join(f"`{name}`" for name in unnamed)
    return f"No promise names {len(unnamed)} {'file' if len(unnamed) == 1 else 'files'} of tests: {names}."


def _section(name: str, items: Sequence[Promise]) -> str:
    """Return the table of one page's promises."""
    target = Path(os.path.relpath(name, PAGE.parent.relative_to(ROOT))).as_posix()
    title = f"[{name}]({target})" if ROOT / name != PAGE else name
    rows = [f"| `{item.name}` | {_cell(item.promise)} | {_checked_by(item)} |" for item in items]
    return "\n".join([f"## {title}", "", "| name | promise | checked by |", "|---|---|---|", *rows, ""])


def _checked_by(item: Promise) -> str:
    """Return what checks a promise: tests file by file, the command, and what is left."""
    files: dict[str, list[str]] = {}
    for test in item.tests:
        name, _, function = test.partition("::")
        files.setdefault(name, []).extend([function] if function else [])
    parts = [f"`{name}`" + (f": {', '.join(names)}" if names else "") for name, names in files.items()]
    if item.also:
        parts.append(f"`{item.also}`")
    if item.open:
        parts.append(f"**open**: {_cell(item.open)}")
    return "; ".join(parts)


def _cell(text: str) -> str:
    """Return a text as it stands in a cell of a table."""
    return text.replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(read_plan()))
