# SPDX-License-Identifier: Apache-2.0
"""The house: pages without dead links or stale commands, files that are short, docstrings of one form.

Each check is a function of a folder or of text that returns what is wrong, and each is proved on something
that is wrong on purpose.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from common.errors import ConfigError
from common.paths import ROOT
from hw.system import PRESETS
from hw.system_file import with_settings
from npuloop.cli.main import app

ROOMS = ("common", "hw", "golden", "gates", "tb", "mapping", "npuloop", "rtl")
MAX_LINES = 500
MAX_COLUMNS = 100

GENERATED = ("rtl/generated/", "hw/interface.py")
OTHER_OPTIONS = {"--timing"}
"""Options that pages name of programs that are not ours."""

NO_MODULES = ("npuloop.data", "npuloop.policies")
"""Dotted names that are something else: groups of entry points."""

LONG_FILES: dict[str, str] = {}
"""Files that may be longer than `MAX_LINES`, each with the reason."""

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
FLAT_SECTION = re.compile(r"^ *(Raises|Returns|Args|Attributes|Yields):[ \t]*\S", re.MULTILINE)
LINK = re.compile(r"\[[^\[\]]*\]\(([^()\s]+)\)")


# ---------------------------------------------------------------------------------------------------- reading
def pages(root: Path) -> list[Path]:
    """Return the Markdown pages of the root, and all under docs."""
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


def without_blocks(text: str) -> str:
    """Return a page's text without its fenced blocks, line for line."""
    return FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)


def blocks(text: str, *languages: str) -> list[str]:
    """Return the fenced blocks of these languages; "" is a block without one."""
    return [match[3] for match in FENCE.finditer(text) if match[2] in languages]


def inline_code(text: str) -> list[str]:
    """Return what stands between backquotes outside fenced blocks, on one line each."""
    return [" ".join(match[1].split()) for match in INLINE.finditer(without_blocks(text))]


def sources(root: Path, *endings: str) -> Iterator[Path]:
    """Yield the source files of the rooms, generated ones left out."""
    for room in ROOMS:
        for path in sorted((root / room).rglob("*")):
            if path.suffix in endings and not str(path.relative_to(root)).startswith(GENERATED):
                yield path


def in_all_pages(check: Callable[[str], Iterable[str]]) -> list[str]:
    """Return what a check of a page's text finds in every page of the house, with the page's name."""
    return [f"{page.relative_to(ROOT)}: {fault}" for page in pages(ROOT) for fault in check(page.read_text())]


# ------------------------------------------------------------------------------------------------------ links
def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    names: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.*)$", without_blocks(page.read_text()), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", LINK.sub("", heading).lower())
        name = anchor = plain.strip().replace(" ", "-")
        number = 0
        while anchor in names:
            number += 1
            anchor = f"{name}-{number}"
        names.add(anchor)
    return names


def dead_links(page: Path) -> list[str]:
    """Return the links of a page to files and headings that do not exist."""
    dead = []
    for target in LINK.findall(INLINE.sub("", without_blocks(page.read_text()))):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    return dead


def test_no_link_is_dead() -> None:
    assert [f"{page}: {target}" for page in pages(ROOT) for target in dead_links(page)] == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# One\n\n## The form, `of` it\n\n## Twice\n\n## Twice\n")
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#the-form-of-it) [c](#here) [d](https://x.org/y#z)\n"
        "[e\nf](nobody.md) "
        "[g](other.md#two) `[h](code.md)` [i](other.md#twice-1) [j](other.md#twice-2) [k](#there)\n"
        "```\n[l](block.md)\n```\n"
    )
    assert dead_links(page) == ["nobody.md", "other.md#two", "other.md#twice-2", "#there"]


# --------------------------------------------------------------------------------------------------- commands
def commands(text: str) -> list[str]:
    """Return what a page tells a reader to type: `npuloop ...` and `make ...`, in blocks and inline.

    In a block, what stands behind two spaces is an explanation, and a comma separates two commands.
    """
    lines = inline_code(text)
    for block in blocks(text, "", "sh", "bash"):
        lines += [re.split(r"  +|\s#", line.strip())[0] for line in re.sub(r"\\\n *", "", block).splitlines()]
    typed = [part.strip() for line in lines for part in re.split(r",\s(?=npuloop |make )", line)]
    return [
        re.sub(r"^\.venv/bin/", "", line) for line in typed if re.match(r"(\.venv/bin/)?npuloop |make ", line)
    ]


@functools.cache
def make_names() -> tuple[frozenset[str], frozenset[str]]:
    """Return the targets of the Makefile and the variables that a caller may set."""
    text = (ROOT / "Makefile").read_text()
    return (
        frozenset(re.findall(r"^([a-z-]+):", text, re.MULTILINE)),
        frozenset(re.findall(r"^(\w+) *\?=", text, re.MULTILINE)),
    )


@functools.cache
def fault_of_command(command: str) -> str:
    """Return what is wrong with a command, or nothing: whether its arguments exist is not looked at."""
    program, *words = [word for word in shlex.split(command) if word not in ("...", "…")]
    if program == "make":
        targets, variables = make_names()
        return ", ".join(
            f"no target or variable {word!r}"
            for word in words
            if word not in targets and word.partition("=")[0] not in variables
        )
    result = CliRunner().invoke(app, [*words, "--help"])  # which parses all options and does nothing
    if result.exit_code:
        return " ".join(result.output.split())
    system = next((value for option, value in pairwise(words) if option == "--system"), "pair")
    settings = [value for option, value in pairwise(words) if option == "--set"]
    try:
        with_settings(PRESETS.get(system, PRESETS["pair"]), settings if system in PRESETS else [])
    except ConfigError as error:
        return str(error)
    return ""


@functools.cache
def options() -> frozenset[str]:
    """Return the options of all sub-commands."""
    group: Any = typer.main.get_command(app)
    return frozenset(
        option
        for command in group.commands.values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    ) | {"--help"}


def stale_commands(text: str) -> list[str]:
    """Return the commands of a page that do not parse, and options that no command has."""
    stale = [f"{command}: {fault}" for command in commands(text) if (fault := fault_of_command(command))]
    named = [match[0] for code in inline_code(text) if (match := re.match(r"--[a-z][a-z-]*", code))]
    return stale + [option for option in named if option not in options() | OTHER_OPTIONS]


def test_every_command_in_a_page_parses() -> None:
    assert in_all_pages(stale_commands) == []


def test_commands_that_do_not_parse_are_found() -> None:
    page = """
Say `npuloop show MODEL` or `npuloop
run MODEL --nonsense 3`, not `npuloop dance` `--quickly`; `make sim` and `make cake`.

```
npuloop run MODEL --check layers     what `npuloop dance` does
make area, npuloop synth --glue      both
npuloop map --model resnet8 \\
            --colour red
make soak N=1000 SEED=7              random ones
make soak M=1000                     nobody knows M
.venv/bin/npuloop predict --shapes S.yaml
npuloop bench --set W_BITS=4         of which unit?
```

```python
npuloop dance
```
"""
    assert len(commands(page)) == 13
    faults = stale_commands(page)
    assert [fault.partition(":")[0] for fault in faults] == [
        "npuloop run MODEL --nonsense 3", "npuloop dance", "make cake", "npuloop synth --glue",
        "npuloop map --model resnet8 --colour red", "make soak M=1000", "npuloop bench --set W_BITS=4",
        "--quickly",
    ]  # fmt: skip
    assert "No such option: --nonsense" in faults[0]
    assert "No such command 'dance'" in faults[1]


# ------------------------------------------------------------------------------------------------- names
def resolves(name: str) -> bool:
    """Return whether a dotted name is a module of the house, or something in one."""
    module, *rest = name.split(".")
    target_object: Any = importlib.import_module(module)
    for part in rest:
        module = f"{module}.{part}"
        try:
            target_object = (
                getattr(target_object, part)
                if hasattr(target_object, part)
                else importlib.import_module(module)
            )
        except ModuleNotFoundError:
            return False
    return True


def unknown_names(text: str) -> list[str]:
    """Return paths and dotted names of the house in a page that do not exist, and imports that fail."""
    rooms = "|".join(ROOMS)
    unknown = [
        code
        for code in inline_code(text)
        if (re.fullmatch(rf"(?:{rooms}|docs)/[\w./+-]+", code) and not (ROOT / code).exists())
        or (re.fullmatch(rf"(?:{rooms})(?:\.\w+)+", code) and code not in NO_MODULES and not resolves(code))
    ]
    for block in blocks(text, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ROOMS:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                unknown += [name for name in names if not resolves(name)]
    return unknown


def test_every_file_and_name_in_a_page_exists() -> None:
    assert in_all_pages(unknown_names) == []


def test_names_that_do_not_exist_are_found() -> None:
    page = """
`golden/layer.py`, `golden/cake.py`, `golden.layer.load_layer`, `golden.layer.cake`,
`mapping/cost_tables/<unit>.yaml`

```python
from golden.layer import Layer, Cake
from cake import slices
```
"""
    assert unknown_names(page) == ["golden/cake.py", "golden.layer.cake", "golden.layer.Cake"]


def pages_named(text: str) -> list[str]:
    """Return the paths of pages that a source file names."""
    return re.findall(r"\bdocs/[\w/+-]+\.md\b", text)


def test_every_page_that_a_source_file_names_exists() -> None:
    files = [*sources(ROOT, ".py", ".sv", ".yaml", ".rdl", ".cpp", ".sh"), ROOT / "Makefile"]
    files.remove(Path(__file__))
    named = [(file, name) for file in files for name in pages_named(file.read_text())]
    assert len(named) > 10
    assert [f"{file}: {name}" for file, name in named if not (ROOT / name).exists()] == []


# --------------------------------------------------------------------------------------------- size and form
def long_files(root: Path) -> dict[str, int]:
    """Return the files of more than `MAX_LINES` lines, of those that people write, with their lines."""
    lines = {
        str(path.relative_to(root)): len(path.read_text().splitlines())
        for path in sources(root, ".py", ".sv", ".svh", ".cpp", ".h")
    }
    return {name: count for name, count in lines.items() if count > MAX_LINES}


def test_no_file_is_long_without_a_reason() -> None:
    assert sorted(long_files(ROOT)) == sorted(LONG_FILES)


def test_long_files_are_found(tmp_path: Path) -> None:
    for name, lines in {
        "golden/short.py": 500, "golden/long.py": 501, "rtl/long.sv": 501, "rtl/generated/long.sv": 900,
        "gates/long.lib": 900,
    }.items():  # fmt: skip
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x\n" * lines)
    assert long_files(tmp_path) == {"golden/long.py": 501, "rtl/long.sv": 501}


def wide_lines(text: str) -> list[str]:
    """Return the lines of prose beyond `MAX_COLUMNS`, without tables, code and what has no place to wrap.

    Generated pages are left out.
    """
    if "*Generated by " in text:
        return []
    return [
        line
        for line in without_blocks(text).splitlines()
        if len(line) > MAX_COLUMNS
        and not line.lstrip().startswith("|")
        and " " in line[: MAX_COLUMNS + 1].strip()
    ]


def test_prose_wraps() -> None:
    assert in_all_pages(wide_lines) == []


def test_wide_lines_are_found() -> None:
    wide = "word " * 20 + "word"
    page = f"{wide}\n{wide[:100]}\n| {wide} |\n```\n{wide}\n```\n{'x' * 120}\n- {wide}\n"
    assert wide_lines(page) == [wide, f"- {wide}"]
    assert wide_lines(f"*Generated by a script*\n{wide}\n") == []


def docstrings_with_a_flat_section(source: str) -> list[int]:
    """Return the lines of docstrings in which text stands behind `Raises:` on its line."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        getattr(node, "lineno", 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and FLAT_SECTION.search(ast.get_docstring(node) or "")
    ]


def test_sections_of_docstrings_have_one_form() -> None:
    flat = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources(ROOT, ".py")
        for line in docstrings_with_a_flat_section(path.read_text())
    ]
    assert flat == []


@pytest.mark.parametrize(
    ("docstring", "lines"),
    [
        ("Do it.\n\n    Raises: ValueError where it cannot.\n    ", [1]),
        ("Do it.\n\n    Raises:\n        ValueError: it cannot.\n    ", []),
        ("Do it. Raises: nothing.", []),
    ],
)
def test_sections_of_another_form_are_found(docstring: str, lines: list[int]) -> None:
    assert docstrings_with_a_flat_section(f'def f():\n    """{docstring}"""\n') == lines
