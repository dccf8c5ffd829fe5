# SPDX-License-Identifier: Apache-2.0
"""A fixed part of the fuzzing of all commands; `make fuzz` draws more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from npuloop.cli import measure as cli_measure
from npuloop.cli.main import COMMANDS
from npuloop.cli.tests.fuzzing import CALLS_OF, Draw, fault, fuzz
from npuloop.cli.tests.samples import write_samples

SEED, COUNT = 20261301, 100
NOT_DRAWN = {"doctor", "characterize-cells"}
"""Commands that read no file and start programs at once."""


def test_no_call_of_a_fixed_draw_ends_otherwise_than_it_should() -> None:
    faults, calls = fuzz(COUNT, SEED)
    assert not faults, "\n\n".join(faults)
    assert calls.total() == COUNT


def test_every_command_is_drawn() -> None:
    assert set(CALLS_OF) | NOT_DRAWN == set(COMMANDS)


def test_a_call_follows_from_its_seed(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    write_samples(samples)
    drawn: list[Any] = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        words = Draw(5, samples, folder).call()
        contents = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
        drawn.append(([word.replace(str(folder), "") for word in words], contents))
    assert drawn[0] == drawn[1]


def leave(status: int) -> None:
    raise SystemExit(status)


def say(text: str) -> None:
    print(text, file=sys.stderr)


def half_a_file() -> None:
    Path("out").mkdir()
    Path("out/r.json").write_text("{")


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (lambda: 1 // 0, "ZeroDivisionError"),
        (lambda: say("Traceback (most recent call last)"), "no message"),
        (lambda: say("\x1b[2J"), "no message"),
        (lambda: leave(5), "exit status 5"),
        (lambda: leave(2), "0 messages"),
        (lambda: bytearray(b"x" * (600 << 20)), "MiB more"),
        (lambda: Path("left.partial").touch(), "left left.partial"),
        (half_a_file, "left half a file"),
    ],
)
def test_whatever_is_wrong_is_seen(
    fails: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(*_: object) -> None:
        fails()
        leave(0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_measure, "system_of", command)
    assert says in fault(["measure", "--shapes", "s.yaml", "--out", "m.csv"], tmp_path)
