# SPDX-License-Identifier: Apache-2.0
"""Which tests look at a mutant, the nearest first.

A block's bench sees a fault in its module within seconds; what only a system shows takes longer. All files
that start a simulator in `make test` follow.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.paths import ROOT

MARKS = "rtl and not slow and not gates"
"""The tests that run: those of `make test` that start a simulator; gates are made of the RTL itself."""

BLIND = {
    "common/tests/test_pytest_plugin.py": "runs pytest on made-up tests",
    "tb/blocks/test_runner.py": "makes benches fail on purpose, to see what their runner says",
    "npuloop/tests/test_wheel.py": "installs npuloop elsewhere, with its own RTL",
}
"""Files whose simulations cannot see a mutant, and why."""

SYSTEM = ("tb/tests/", "mapping/run/tests/")
"""Folders of tests of whole systems; what is in neither is tests of models, tools and commands."""

_MARKED = re.compile(r"mark\.rtl|\bpair: Session\b")
_RTL_FILE = re.compile(r'"((?:structural/|generated/)?npu_\w+\.sv)"')
_PREFIX = "structural/npu_"
_UNKNOWN_SECONDS = 10.0


@dataclass(frozen=True)
class TestFile:
    """A file of tests.

    Args:
        name: relative to the repository.
        seconds: that it takes, builds included; what `durations.json` says.
        rtl: files of the RTL that it names: those of which its bench is made.
        digest: of it and of the helpers beside it.
    """

    __test__ = False

    name: str
    seconds: float
    rtl: frozenset[str]
    digest: str


def files_of_tests(root: Path = ROOT) -> list[TestFile]:
    """Return the files of tests that start a simulator."""
    durations: Mapping[str, float] = json.loads((root / "durations.json").read_text())["files"]
    files = []
    for path in sorted(root.glob("*/**/test_*.py")):
        name = str(path.relative_to(root))
        if name.startswith(("sim_build/", ".", "tb/mutants/")) or name in BLIND:
            continue
        text = path.read_text()
        if not name.startswith(SYSTEM) and not _MARKED.search(text):
            continue
        rtl = _named(text) if name.startswith("tb/blocks/") else frozenset()
        files.append(TestFile(name, durations.get(name, _UNKNOWN_SECONDS), rtl, _digest(path)))
    return files


def _named(text: str) -> frozenset[str]:
    """Return the files of the RTL that a bench names, also those in a list behind a common prefix."""
    files = set(_RTL_FILE.findall(text))
    if _PREFIX in text:
        files |= {f"{_PREFIX}{name}.sv" for name in re.findall(r'"(\w+)"', text)}
    return frozenset(file for file in files if (ROOT / "rtl" / file).exists())


def _digest(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes())
    for helper in sorted([*path.parent.glob("*.py"), *path.parent.glob("*.sv")]):
        if not helper.name.startswith("test_"):
            digest.update(helper.read_bytes())
    return digest.hexdigest()[:16]


def order(files: Sequence[TestFile], rtl: str, near: bool = False) -> list[TestFile]:
    """Return the files of tests in the order in which they look at a mutant.

    Benches of few modules come before benches of many, and quick tests before slow ones.

    Args:
        files: all of them.
        rtl: the file of the RTL in which the mutant is.
        near: only the benches of its module, and the tests of whole systems.
    """

    def distance(file: TestFile) -> int:
        if file.rtl:
            return 0 if rtl in file.rtl else 3  # another block's bench does not hold the mutant
        return 1 if file.name.startswith(SYSTEM) else 2

    chosen = [file for file in files if distance(file) < (2 if near else 3)]
    return sorted(chosen, key=lambda file: (distance(file), len(file.rtl), file.seconds, file.name))
