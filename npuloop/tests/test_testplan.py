# SPDX-License-Identifier: Apache-2.0
"""The test plan: its promises stand in the pages, its tests exist, and its page is up to date.

Each check is proved on a plan that is wrong on purpose.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.paths import ROOT
from npuloop.tests import testplan
from npuloop.tests.testplan import (
    Promise,
    faulty_names,
    missing_quotations,
    missing_tests,
    names_of_tests,
    pages_without_promise,
    read_plan,
    unnamed_files,
)

DOCS = "docs"
ADDER, ADDING = f"{DOCS}/reference/adder.md", f"{DOCS}/how-to/adding.md"
BENCH = """
import cocotb
import pytest

def helper(): pass
def test_adds(): pass
@pytest.mark.slow
def test_adds_much(): pass
@cocotb.test()
async def beats(dut): pass
@cocotb.test()
@cocotb.parametrize(idle=[0, 1])
async def stalls(dut, idle): pass
class Case:
    def test_inside(self): pass
"""


@pytest.fixture(scope="module")
def plan() -> list[Promise]:
    return read_plan()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with two pages and two files of tests."""
    files = {
        ADDER: "# Adder\n\nTwo and two\n  are four, and\n  never five.\n",
        ADDING: "# Adding\n",
        f"{DOCS}/results/sums.md": "# Sums\n",
        "golden/tests/test_adder.py": BENCH,
        "tb/blocks/test_carry.py": "def test_carries(): pass\n",
        "tb/blocks/adder.py": "def test_no(): pass\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


SUM = Promise(
    "two-and-two", "Sums are exact.", ADDER, "Two and two are four",
    ("golden/tests/test_adder.py::test_adds", "golden/tests/test_adder.py::beats"),
)  # fmt: skip


# -------------------------------------------------------------------------------------- the plan of the house
def test_every_promise_stands_in_its_page(plan: list[Promise]) -> None:
    assert missing_quotations(plan, ROOT) == []


def test_every_test_of_the_plan_exists(plan: list[Promise]) -> None:
    assert missing_tests(plan, ROOT) == []


def test_names_of_promises_are_unique(plan: list[Promise]) -> None:
    assert faulty_names(plan) == []


def test_every_page_promises_something(plan: list[Promise]) -> None:
    assert pages_without_promise(plan, ROOT) == []


def test_the_page_is_up_to_date(plan: list[Promise]) -> None:
    assert testplan.PAGE.read_text() == testplan.page(plan), "run python -m npuloop.tests.testplan"


# ----------------------------------------------------------------------------------------- what checks notice
def test_names_that_are_wrong_are_found() -> None:
    plan = [SUM, replace(SUM, promise="Another."), replace(SUM, name="Two_and_two"), replace(SUM, name="2-x")]
    assert faulty_names(plan) == [
        "two-and-two: stands 2 times",
        "Two_and_two: no name in lower case with hyphens",
    ]


def test_quotations_that_do_not_stand_in_the_page_are_found(root: Path) -> None:
    plan = [
        SUM,
        replace(SUM, name="across-lines", says="are four, and never five"),
        replace(SUM, name="other-words", says="Two and two are five"),
        replace(SUM, name="no-page", page=f"{DOCS}/reference/none.md"),
        replace(SUM, name="a-folder", page="docs/reference"),
        replace(SUM, name="too-short", says="are four"),
    ]
    assert missing_quotations(plan, root) == [
        f"other-words: {ADDER} does not say 'Two and two are five'",
        f"no-page: there is no page {DOCS}/reference/none.md",
        "a-folder: there is no page docs/reference",
        "too-short: quote more of the page than 'are four'",
    ]


def test_tests_that_do_not_exist_are_found(root: Path) -> None:
    file = "golden/tests/test_adder.py"
    assert names_of_tests(root / file) == {"test_adds", "test_adds_much", "beats", "stalls"}
    plan = [
        SUM,
        replace(SUM, name="whole", tests=(file,)),
        replace(SUM, name="helper", tests=(f"{file}::helper", f"{file}::test_adds_much")),
        replace(SUM, name="inside", tests=(f"{file}::test_inside", f"{file}::")),
        replace(SUM, name="gone", tests=("golden/tests/test_gone.py", "golden/tests/test_gone.py::test_a")),
        replace(SUM, name="no-tests", tests=("tb/blocks/adder.py::test_no", "golden/tests")),
        replace(SUM, name="twice", tests=(f"{file}::stalls", f"{file}::stalls")),
    ]
    assert missing_tests(plan, root) == [
        "helper: golden/tests/test_adder.py has no test 'helper'",
        "inside: golden/tests/test_adder.py has no test 'test_inside'",
        "inside: golden/tests/test_adder.py has no test ''",
        "gone: there is no file of tests golden/tests/test_gone.py",
        "gone: there is no file of tests golden/tests/test_gone.py",
        "no-tests: there is no file of tests tb/blocks/adder.py",
        "no-tests: there is no file of tests golden/tests",
        "twice: golden/tests/test_adder.py::stalls stands twice",
    ]


def test_pages_that_promise_nothing_are_found(root: Path) -> None:
    assert pages_without_promise([SUM], root) == [ADDING]
    assert pages_without_promise([SUM, replace(SUM, page=ADDING)], root) == []


def test_files_of_tests_that_no_promise_names_are_counted_on_the_page(root: Path) -> None:
    assert unnamed_files([SUM], root) == ["tb/blocks/test_carry.py"]
    assert "No promise names 1 file of tests: `tb/blocks/test_carry.py`." in testplan.page([SUM], root)
    named = replace(SUM, tests=(*SUM.tests, "tb/blocks/test_carry.py::test_carries"))
    assert "Every file of tests is in the plan." in testplan.page([named], root)


def test_the_page_shows_tests_commands_and_what_is_open(root: Path) -> None:
    item = replace(
        SUM, promise="a | b", also="make lint", open="Carries.", tests=(*SUM.tests, "tb/blocks/test_carry.py")
    )
    text = testplan.page([item], root)
    assert f"## [{ADDER}](adder.md)" in text
    assert (
        r"| `two-and-two` | a \| b | `golden/tests/test_adder.py`: test_adds, beats; "
        "`tb/blocks/test_carry.py`; `make lint`; **open**: Carries. |"
    ) in text.splitlines()
    assert "(../../README.md)" in testplan.page([replace(SUM, page="README.md")], root)


# --------------------------------------------------------------------------------------------------- the file
def entry(**changes: str) -> str:
    """A plan of one entry, as YAML."""
    fields = {"name": "sums", "promise": "Sums are exact.", "says": "are four, and", "tests": "[a.py]"}
    lines = [f"{key}: {value}" for key, value in (fields | changes).items() if value]
    return "A.md:\n  - " + "\n    ".join(lines) + "\n"


def test_a_plan_is_read_page_by_page(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(entry(says='"are\n      four"', also="make lint", open="Carries."))
    assert read_plan(path) == [
        Promise("sums", "Sums are exact.", "A.md", "are four", ("a.py",), "make lint", "Carries.")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no test plan; write a list of promises under each page"),
        ("A.md: 3", "no test plan"),
        ("A.md:\n  - sums", "A.md, entry 1: is 'sums'; write a mapping with name, promise"),
        (entry(test="[a.py]"), "entry 1: unknown key 'test'; there are name, promise"),
        (entry(says=""), "entry 1: 'says' is missing; write it"),
        (entry(promise="3"), "entry 1: promise is 3; write a text"),
        (entry(open="''"), "entry 1: open is ''; write a text"),
        (entry(tests="a.py"), "entry 1: tests is 'a.py'; write a list of FILE or FILE::FUNCTION"),
        (entry(tests="[]"), "entry 1: nothing checks it; name tests, or say under `open` what is missing"),
        (entry() + entry(), "key 'A.md' stands twice"),
    ],
)
def test_a_file_that_is_no_plan_is_one_clear_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_plan(path)
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
