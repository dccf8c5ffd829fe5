# SPDX-License-Identifier: Apache-2.0
"""--system, --set and --unit mean the same in every command."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from common.errors import ConfigError
from golden.zoo.digits import network_file
from hw.core import CoreConfig
from hw.system import NPU8, System
from mapping.cost.model import CostModel
from mapping.cost.shapes import Shape, shapes_text
from npuloop.cli.main import COMMANDS, app
from npuloop.cli.options import system_of, system_options, unit_of, units_of

RENAMED = "npuloop_system: 1\nunits:\n  - {name: big}\n  - {name: little, type: npu_lb}\n"
"""The default system by other names."""
REQUIRED = {
    "layer": ("none.npz",),
    "run": ("none.npz",),
    "quantize": ("none.npz", "out.npz", "--bits", "4"),
    "measure": ("--shapes", "none.yaml", "--out", "out.csv"),
    "predict": ("--shapes", "none.yaml"),
    "accuracy": ("none.npz", "--data", "none.npz"),
}
"""What a command needs besides, of which nothing exists."""
WITH_SYSTEM = (
    "layer", "run", "soak", "bench", "predict", "measure", "calibrate", "compare", "report", "map", "serve",
    "area", "quantize", "accuracy", "characterize-energy", "synth",
)  # fmt: skip
WITHOUT_SYSTEM = ("sim", "show", "characterize-cells", "restamp", "doctor")


def npuloop(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def refusal(done: Result) -> str:
    """Return the error, which is one line."""
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def renamed(tmp_path: Path) -> Path:
    path = tmp_path / "system.yaml"
    path.write_text(RENAMED)
    return path


def test_every_command_either_has_a_system_or_needs_none() -> None:
    assert {*WITH_SYSTEM, *WITHOUT_SYSTEM} == set(COMMANDS)


@pytest.mark.parametrize("command", WITH_SYSTEM)
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--system", "none.yaml"), "none.yaml: no such file, and no preset; presets are npu8, npu_lb, pair"),
        (("--system", "RENAMED", "--set", "big.LANES=3"), "core 'big': lanes = 3 must be 1, 2, 4, 8 or 16"),
        (
            ("--system", "RENAMED", "--set", "npu8.LANES=8"),
            "no unit 'npu8' in this system; it has big, little",
        ),
        (
            ("--system", "RENAMED", "--set", "WEIGHT_KIB=32"),
            "'WEIGHT_KIB=32' does not say of which unit; the system has big, little: write big.WEIGHT_KIB=32",
        ),
        (("--system", "npu8", "--set", "LANES=3"), "core 'npu8': lanes = 3 must be"),
        (("--system", "pair", "--set", "AXI_BITS=32"), "axi_bits = 32 must be 64 or 128"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_reads_the_system_first_and_alike(
    command: str, options: tuple[str, ...], says: str, renamed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(renamed.parent)
    given = [str(renamed) if item == "RENAMED" else item for item in options]
    assert says in refusal(npuloop(command, *REQUIRED.get(command, ()), *given))


def test_units_are_those_of_the_system_and_the_first_is_the_default() -> None:
    system = System((CoreConfig("big"), CoreConfig("little", w_bits=2)))
    assert unit_of(system, None) == "big"
    assert unit_of(system, "little") == "little"
    assert units_of(system, None) == ("big", "little")
    assert units_of(system, ["little", "big", "little"]) == ("big", "little")
    for wrong in (lambda: unit_of(system, "npu8"), lambda: units_of(system, ["big", "npu8"])):
        with pytest.raises(ConfigError, match="no unit 'npu8' in this system; it has big, little"):
            wrong()


def test_the_options_of_a_system_give_it_again() -> None:
    assert system_options("pair", ()) == ""
    settings = ("npu_lb.W_BITS=4", "AXI_BITS=64")
    assert system_options("pair", settings) == "--set npu_lb.W_BITS=4 --set AXI_BITS=64"
    assert system_options("s.yaml", settings[:1]) == "--system s.yaml --set npu_lb.W_BITS=4"
    assert system_of("pair", settings) == System(
        (NPU8, CoreConfig("npu_lb", w_bits=4, stripe_depth=16, weight_kib=16)), axi_bits=64
    )


def test_predictions_are_the_same_whatever_the_units_are_called(renamed: Path, tmp_path: Path) -> None:
    def shapes(first: str, second: str) -> Path:
        path = tmp_path / f"{first}.yaml"
        sizes = ("conv2d", 16, 48, 6, 6, (3, 3), (1, 1), "same")
        split = {first: 16, second: 32}
        path.write_text(shapes_text([Shape("whole", *sizes), Shape("shared", *sizes, split=split)]))
        return path

    usual = npuloop("predict", "--shapes", shapes("npu8", "npu_lb"), "--unit", "npu_lb")
    other = npuloop("predict", "--shapes", shapes("big", "little"), "--unit", "little", "--system", renamed)
    assert usual.exit_code == other.exit_code == 0, other.output
    words = [item.stdout.split() for item in (usual, other)]
    names = {"npu_lb": "little", "npu8+npu_lb": "big+little"}
    assert [names.get(word, word) for word in words[0]] == words[1]


def test_a_setting_of_a_unit_leaves_the_other_as_it_was(tmp_path: Path) -> None:
    """Only the unit that was changed has another price, by what others like it take."""
    changed = ("--set", "npu_lb.WEIGHT_KIB=64")
    plain = npuloop("predict", network_file("int8"), "--unit", "npu8", "--no-phases")
    same = npuloop("predict", network_file("int8"), "--unit", "npu8", "--no-phases", *changed)
    assert plain.exit_code == same.exit_code == 0, same.output
    assert plain.stdout.splitlines()[-1] == same.stdout.splitlines()[-1]
    own = npuloop(
        "predict", network_file("int8"), "--unit", "npu8", "--set", "npu8.WEIGHT_KIB=64", "--no-phases"
    )
    assert own.exit_code == 0, own.output
    assert plain.stdout.splitlines()[-1].endswith(", measured")
    assert own.stdout.splitlines()[-1].endswith(", interpolated")


def test_units_together_that_have_no_table_are_priced_by_the_family(tmp_path: Path) -> None:
    system = tmp_path / "three.yaml"
    little = "{name: little, w_bits: 2, stripe_depth: 16, weight_kib: 16}"
    system.write_text(f"npuloop_system: 1\nunits: [{{name: big, count: 2}}, {little}]\n")
    mapping = tmp_path / "map.yaml"
    mapping.write_text("npuloop_mapping: 1\nlayers: {conv2: {big_0: 8, big_1: 8, little: 16}}\n")
    network = network_file("ternary")
    done = npuloop("predict", network, "--system", system, "--mapping", mapping, "--no-phases")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].endswith(", interpolated")
    alone = npuloop("predict", network, "--system", system, "--no-phases")
    assert alone.exit_code == 0, alone.output
    cycles = CostModel(System()).table("npu8")
    assert CostModel(system_of(str(system), ())).table("big_1") is cycles
