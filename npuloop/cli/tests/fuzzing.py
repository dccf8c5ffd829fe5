# SPDX-License-Identifier: Apache-2.0
"""Throws damaged files and odd options at every command: `make fuzz N=1000 SEED=7`.

What must hold of every call, whatever it is given: a documented exit status, one message and no traceback
where it is refused, memory and time within bounds, and nothing half-written. Nothing is simulated or
compiled: a call that comes as far is told that there is no simulator.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from typer.testing import CliRunner

from npuloop.cli.main import app
from npuloop.cli.tests import damage
from npuloop.cli.tests.samples import write_samples

MAX_SECONDS = 20.0
"""Of this process, whatever else the machine does."""
MAX_GROWTH_MIB = 512
MAX_MESSAGE = 9000
STATUSES = (0, 1, 2)

INTEGERS = (
    "0",
    "1",
    "2",
    "3",
    "-1",
    "7",
    "1000001",
    "-9223372036854775809",
    "9" * 40,
    "1e3",
    "",
    "0x10",
    "٣",
    "nan",
)
TEXTS = (
    "",
    " ",
    "a=b",
    "=",
    "x" * 5000,
    "\x1b[31m",
    "[red]",
    "[/]",
    "ü",
    "a,b",
    "1,2",
    "nan,inf",
    "-",
    "--",
    "..",
)
SETTINGS = (
    "npu8.W_BITS=4",
    "npu8.ROWS=32",
    "npu8.ROWS=1000000000000",
    "npu8.W_BITS=",
    "AXI_BITS=64",
    "AXI_BITS=-64",
    "npu8.ACT_KIB=0",
    "npu8.LANES=3",
    "LANES=8",
    "npu8.STRIPE_DEPTH=9999999999",
    "=",
    "a.b.c=1",
    "npu8.COLS=100000",
)
VALUES = {
    "system": ("npu8", "npu_lb", "pair", "<system>", "<system>", "npu9", *TEXTS),
    "unit": ("npu8", "npu_lb", "big", "networks", "all", *TEXTS),
    "int": INTEGERS,
    "text": TEXTS,
    "set": SETTINGS,
    "check": ("layers", "none", "output", *TEXTS),
    "place": (
        "out/a.json",
        "out/b.csv",
        "out/a.npy",
        "new/er/file",
        "/proc/x/y",
        "/dev/full",
        "/dev/null/x",
        ".",
        "",
        "<layer>",
        "x" * 300,
        "a\n b'\"ü",
    ),
    "folder": ("out", "new/er", "/proc/x", "/dev/null", "<layer>", "", "x" * 300),
    "data": (
        "digits",
        "cifar10",
        "cifar10:",
        "cifar10:out",
        "<images>",
        "<images>",
        "nix:f",
        "json:loads",
        *TEXTS,
    ),
    "module": ("nix:f", "json:loads", "os:getcwd", "sys:exit", *TEXTS),
    "policy": ("greedy", "edf", "split", "all", "fifo,sjf", "cheapest", "<schedule>", "json:loads", *TEXTS),
    "numbers": ("0.1", "0.1,1", "nan", "inf", "-1", "1e400", ",", "a", "9" * 400),
    "assignment": (
        "conv1=npu8",
        "a=b",
        "conv2d_0=8",
        "=",
        "x",
        "conv2d_0=99999999999999999999",
        "a=" + "9" * 5000,
    ),
}
"""What options are given, by kind; <...> is a file."""
HARDWARE = (("--system", "system"), ("--set", "set"))
ON_UNIT = (*HARDWARE, ("--unit", "unit"))
CALLS_OF: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "layer": (("<layer>",), (*ON_UNIT, ("--out", "folder"), ("--json", "place"), ("--backpressure", "int"))),
    "run": (
        ("<network>",),
        (
            *ON_UNIT,
            ("--mapping", "<mapping>"),
            ("--input", "<input>"),
            ("--output", "place"),
            ("--check", "check"),
            ("--json", "place"),
            ("--backpressure", "int"),
            ("--seed", "int"),
        ),
    ),
    "show": (("<network>",), ()),
    "quantize": (
        ("<network>", "place"),
        (
            *HARDWARE,
            ("--bits", "int"),
            ("--layer", "assignment"),
            ("--mapping", "<mapping>"),
            ("--calibration", "<input>"),
        ),
    ),
    "accuracy": (
        ("<network>", "--data", "data"),
        (*ON_UNIT, ("--mapping", "<mapping>"), ("--limit", "int"), ("--json", "place")),
    ),
    "predict": (
        ("<network>",),
        (*ON_UNIT, ("--mapping", "<mapping>"), ("--input", "<input>"), ("--shapes", "<shapes>")),
    ),
    "measure": (
        ("--shapes", "<shapes>", "--out", "place", "--workers", "0"),
        (*ON_UNIT, ("--latency", "int"), ("--store", "<store>"), ("--store", "place")),
    ),
    "compare": (
        ("--shapes", "<shapes>", "--workers", "0"),
        (
            *ON_UNIT,
            ("--out", "place"),
            ("--store", "<store>"),
            ("--tables", "<tables>"),
            ("--tables", "folder"),
        ),
    ),
    "report": (
        ("--workers", "0"),
        (*HARDWARE, ("--out", "place"), ("--store", "<store>"), ("--tables", "<tables>")),
    ),
    "calibrate": (
        ("--workers", "0", "--store", "<store>"),
        (*ON_UNIT, ("--budget", "int"), ("--latency", "int")),
    ),
    "map": (
        ("--workers", "0", "--model", "module", "--out", "folder"),
        (
            *HARDWARE,
            ("--data", "data"),
            ("--objective", "text"),
            ("--strengths", "numbers"),
            ("--target-cycles", "numbers"),
            ("--seeds", "int"),
            ("--baselines", "text"),
            ("--pin", "assignment"),
            ("--train", "assignment"),
            ("--verification-images", "int"),
            ("--tls-ca", "<layer>"),
        ),
    ),
    "serve": (
        ("--workload", "<workload>", "--versions", "<versions>"),
        (
            *HARDWARE,
            ("--policy", "policy"),
            ("--clock", "text"),
            ("--seed", "int"),
            ("--seeds", "int"),
            ("--out", "folder"),
        ),
    ),
    "synth": (("--check",), (("--out", "<area>"), ("--out", "place"))),
    "characterize-energy": (
        ("--check",),
        (*ON_UNIT, ("--out", "<tables>"), ("--out", "folder"), ("--library", "text")),
    ),
    "area": (("--table", "<area>"), (*ON_UNIT, ("--library", "text"), ("--json", "place"))),
    "soak": ((), (*ON_UNIT, ("--count", "int"), ("--seed", "int"))),
    "sim": ((), (("--images", "int"), ("--json", "place"))),
    "bench": ((), HARDWARE),
    "restamp": (("<area>",), ()),
}
"""Arguments of each command, and options that it may be given: their kinds, or kinds of files."""


class Draw:
    """Draws calls: commands with their options and the files that they name, all from one seed."""

    def __init__(self, seed: int, samples: Path, folder: Path) -> None:
        self._rng = np.random.default_rng(seed)
        self._samples, self._folder = samples, folder
        self._count = 0

    def call(self) -> list[str]:
        """Return the words of a call; its files are in the folder."""
        name = self._one(tuple(CALLS_OF))
        needed, options = CALLS_OF[name]
        words = [name]
        words += [self._value(word) if word in VALUES or word[0] == "<" else word for word in needed]
        for option, kind in options:
            if self._rng.random() < 0.3:
                words += [option, self._value(kind)]
        return words

    def _one(self, choices: tuple[str, ...]) -> str:
        return choices[int(self._rng.integers(len(choices)))]

    def _value(self, kind: str) -> str:
        word = self._one(VALUES[kind]) if kind in VALUES else kind
        if word.startswith("<"):
            prefix = "fixed:" if kind == "policy" else ""
            return prefix + str(self._file(word[1:-1]))
        relative = kind in ("place", "folder") and word and not word.startswith("/")
        return str(self._folder / word) if relative else word

    def _file(self, kind: str) -> Path:
        """Return a file of a kind: whole, damaged, of another kind, or none."""
        choices = sorted(self._samples.glob(f"{kind}.*")) or [self._samples / kind]
        source = choices[int(self._rng.integers(len(choices)))]
        fate = self._rng.random()
        if fate < 0.15:
            return source
        if fate < 0.25:
            return Path(
                self._one(
                    ("/dev/zero", "/dev/full", "/", "/proc/self/mem", "none.npz", "none.yaml", "x" * 300)
                )
            )
        self._count += 1
        target = self._folder / f"{self._count}-{source.name}"
        if source.is_dir():
            target.mkdir()
            for file in source.iterdir():
                content = file.read_bytes()
                damaged = self._rng.random() < 0.5
                (target / file.name).write_bytes(
                    damage.damaged(self._rng, file, content) if damaged else content
                )
            return target
        if fate < 0.3:  # another kind by this name
            others = [file for file in sorted(self._samples.iterdir()) if file.is_file()]
            source = others[int(self._rng.integers(len(others)))]
        target.write_bytes(damage.damaged(self._rng, source, source.read_bytes()))
        return target


@contextlib.contextmanager
def without_simulators() -> Iterator[None]:
    """Have nothing built and nothing simulated: what comes as far ends with one clear error."""
    from tb.build import BuildError

    none = BuildError("no simulator while fuzzing")
    import mapping.calibration.calibrate
    import mapping.calibration.farm
    import mapping.scheduling.workload
    import mapping.scheduling.workload_file
    import mapping.search.study
    import tb.session

    with contextlib.ExitStack() as stack:
        for module in (mapping.calibration.farm, mapping.search.study, tb.session):
            stack.enter_context(mock.patch.object(module, "build", side_effect=none))
        for module in (
            mapping.scheduling.workload,
            mapping.scheduling.workload_file,
        ):  # thousands take minutes
            stack.enter_context(mock.patch.object(module, "MAX_REQUESTS", 60))
        designed = mapping.calibration.calibrate  # what is measured takes seconds to draw
        stack.enter_context(mock.patch.object(designed, "random_shapes", side_effect=none))
        yield


def peak_mib() -> int:
    """Return the most memory that this process has had since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) >> 10
    raise RuntimeError("this kernel does not tell")


def forget_peak() -> None:
    """Let the peak begin again at what is used now."""
    Path("/proc/self/clear_refs").write_text("5")


def fault(words: list[str], folder: Path) -> str:
    """Run a call; return what is wrong with how it ended, or nothing."""
    forget_peak()
    before, began = peak_mib(), time.process_time()
    done = CliRunner().invoke(app, words)
    seconds, grown = time.process_time() - began, peak_mib() - before
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return "".join(traceback.format_exception(done.exception)[-6:])
    if done.exit_code not in STATUSES:
        return f"exit status {done.exit_code}"
    message = done.stderr
    refusals = [line for line in message.splitlines() if line.startswith(("error: ", "Usage: "))]
    if "Traceback" in message or len(message) > MAX_MESSAGE or "\x1b" in message:
        return f"no message for people: {message[:300]!r}"
    if done.exit_code == 2 and len(refusals) != 1:
        return f"{len(refusals)} messages: {message[:300]!r}"
    if seconds > MAX_SECONDS:
        return f"{seconds:.1f} s"
    if grown > MAX_GROWTH_MIB:
        return f"{grown} MiB more"
    for path in folder.rglob("*"):
        if path.name.endswith(".partial"):
            return f"left {path.name}"
    try:
        for path in (folder / "out").glob("*.json"):
            json.loads(path.read_text())
    except ValueError as error:
        return f"left half a file: {error}"
    return ""


def fuzz(count: int, seed: int) -> tuple[list[str], Counter[str]]:
    """Run calls of consecutive seeds; return a paragraph for each fault, and how many calls each command had.

    A call is reproduced by its seed alone.
    """
    faults, calls = [], Counter[str]()
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as name, without_simulators():
        samples = Path(name) / "samples"
        samples.mkdir()
        write_samples(samples)
        for number in range(seed, seed + count):
            with tempfile.TemporaryDirectory(dir=name) as work:
                os.chdir(work)
                words = Draw(number, samples, Path(work)).call()
                wrong = fault(words, Path(work))
                os.chdir(home)
            calls[words[0]] += 1
            if wrong:
                faults.append(f"seed {number}: npuloop {' '.join(word[:200] for word in words)}\n{wrong}")
    return faults, calls


def main() -> int:
    """Run what the command line asks for, and print the faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    faults, calls = fuzz(options.count, options.seed)
    for text in faults:
        print(text, file=sys.stderr)
    each = ", ".join(f"{name} {number}" for name, number in sorted(calls.items()))
    print(f"{sum(calls.values())} calls from seed {options.seed}, {len(faults)} faults ({each})")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
