# SPDX-License-Identifier: Apache-2.0
"""What the files around the code say: hooks, workflow, citation and changelog agree with the rest."""

from __future__ import annotations

import re
from typing import Any

import yaml

from common.paths import ROOT


def read(name: str) -> Any:
    """The document of a YAML file of the root."""
    return yaml.safe_load((ROOT / name).read_text())


def version() -> str:
    """The version of pyproject.toml."""
    (found,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return str(found)


def lint_commands() -> set[str]:
    """What `make lint` runs, with the programs' paths written out."""
    text = (ROOT / "Makefile").read_text()
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    return {line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()}


def test_hooks_run_what_make_lint_runs_and_fetch_nothing() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    quick = {command for command in lint_commands() if "tb.lint" not in command}
    assert len(quick) == len(lint_commands()) - 1
    assert {hook["entry"] for hook in repository["hooks"]} == quick
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_the_workflow_calls_ci_run_and_nothing_else() -> None:
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    assert [step.get("run") or step["uses"].partition("@")[0] for step in job["steps"]] == [
        "actions/checkout",
        ".ci/run",
    ]


def test_the_version_is_the_same_everywhere() -> None:
    citation = read("CITATION.cff")
    assert citation["version"] == version()
    assert f"{version()}" in (ROOT / "CHANGELOG.md").read_text()
    assert citation["license"] == "Apache-2.0"
    assert [len(paper["authors"]) for paper in citation["references"]] == [3, 7]


def test_files_are_read_in_ways_that_run_nothing_of_theirs() -> None:
    habits = (
        r"import (pickle|shelve|marshal|dill)\b",
        r"yaml\.(unsafe_|full_)?load(_all)?\(",
        r"torch\.load\((?!.*weights_only=True)",
        r"allow_pickle=True",
        r"shell=True|os\.system\(|os\.popen\(",
        r"(?<!\.)\b(eval|exec)\(",
    )
    found = []
    for room in ("common", "hw", "golden", "tb", "gates", "mapping", "npuloop"):
        for file in (ROOT / room).rglob("*.py"):
            if "tests" in file.parts or file.name == "testing.py":
                continue
            for number, line in enumerate(file.read_text().splitlines(), 1):
                if any(re.search(habit, line) for habit in habits):
                    found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []
