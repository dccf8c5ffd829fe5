# SPDX-License-Identifier: Apache-2.0
"""--help answers at once and tells the truth: it loads nothing slow, and names what there is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from common.paths import ROOT
from gates.tools import SKY130
from golden.zoo.digits import load_digits_network
from mapping.calibration import calibrate as calibrating
from mapping.characterization import area, energy
from mapping.cost.tables import FOLDER
from mapping.run import digits
from mapping.run.networks import Check
from mapping.scheduling.policies import NAMES
from mapping.search.data import DATA_SETS
from mapping.search.models import MODELS
from mapping.search.objectives import OBJECTIVES
from mapping.search.plan import HEURISTICS, LAYERWISE, RANDOM
from mapping.search.training import Recipe
from npuloop.cli import doctor as cli_doctor, networks as cli_networks
from npuloop.cli.main import COMMANDS, app
from tb import doctor

SLOW = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "dask", "distributed", "cocotb", "tflite")
"""Packages that take long to load."""

LOADED = f"""
import sys
from typer.testing import CliRunner
from npuloop.cli.main import COMMANDS, app
for command in ("", *COMMANDS):
    done = CliRunner().invoke(app, [*([command] if command else []), "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage: " in done.output
    print(command or "npuloop", *(name for name in {SLOW} if name in sys.modules))
"""


def fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a new Python in the checkout."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def test_help_loads_nothing_slow() -> None:
    done = fresh("-c", LOADED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["npuloop", *COMMANDS]


# ------------------------------------------------------------------------------------------------------ names
def help_of(command: str, option: str) -> str:
    """Return what a command's help says of an option."""
    group: Any = typer.main.get_command(app)
    (parameter,) = (item for item in group.commands[command].params if option in item.opts)
    text: str = parameter.help
    return text


def in_checkout(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    ("command", "option", "says"),
    [
        ("sim", "--images", f"of {len(load_digits_network('int8').test_set()[0])};"),
        ("sim", "--images", f"default: {digits.DEFAULT_IMAGES};"),
        ("run", "--check", f": {', '.join(get_args(Check))};"),
        ("compare", "--tables", f"default: {in_checkout(FOLDER)};"),
        ("report", "--tables", f"default: {in_checkout(FOLDER)};"),
        ("synth", "--system", f"default: {', '.join(area.EVERY.units)};"),
        ("area", "--table", f"default: {in_checkout(area.FILE)};"),
        ("area", "--library", f": {' or '.join(area.LIBRARIES)};"),
        ("synth", "--library", f"{' or '.join(area.LIBRARIES)};"),
        ("synth", "--out", f"default: {in_checkout(area.FILE)};"),
        ("characterize-energy", "--system", f"default: {', '.join(energy.EVERY.units)};"),
        ("characterize-energy", "--library", f": {' or '.join(area.LIBRARIES)};"),
        ("characterize-energy", "--out", f"default: {in_checkout(FOLDER)};"),
        ("characterize-cells", "--out", f"default: {in_checkout(SKY130)};"),
        ("map", "--model", f"{', '.join(MODELS)}, or package.module:function"),
        ("map", "--data", f"{', '.join(DATA_SETS)}, cifar10:FOLDER, or"),
        ("map", "--objective", f"{', '.join([*OBJECTIVES][:-1])}, or {[*OBJECTIVES][-1]}:"),
        ("map", "--baselines", f"for each unit, {', '.join((*HEURISTICS, LAYERWISE, RANDOM))};"),
        ("serve", "--policy", f"{', '.join(NAMES)}, fixed:FILE, or package.module:function;"),
        ("calibrate", "--budget", f"default: {calibrating.BUDGET};"),
    ],
)
def test_a_help_text_names_what_there_is(command: str, option: str, says: str) -> None:
    assert says in f"{help_of(command, option)};"


def test_the_entry_of_a_recipe_that_the_help_changes_exists() -> None:
    (name,) = (word.partition("=")[0] for word in help_of("map", "--train").split() if "=" in word)
    assert name in {item.name for item in fields(Recipe)}


def test_a_network_run_compares_what_the_library_can_compare() -> None:
    assert get_args(Check) == cli_networks.CHECKS


# ---------------------------------------------------------------------------------------- version and doctor
@pytest.mark.parametrize("module", ["npuloop", "npuloop.cli.main"])
def test_the_version_is_that_of_the_package(module: str) -> None:
    done = fresh("-m", module, "--version")
    assert (done.returncode, done.stdout) == (0, f"npuloop {metadata.version('npuloop')}\n"), done.stderr


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: npuloop is not installed")
    assert done.stdout == ""


def test_the_doctor_prints_what_it_finds_and_hands_its_status_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(COMMANDS)[-1] == "doctor"
    assert COMMANDS["doctor"] is cli_doctor.doctor
    present = doctor.Need("a thing", "here")
    missing = doctor.Need("another", None, "some-package")
    monkeypatch.setattr(doctor, "optional", lambda: iter(()))
    for needs, status in (([present], 0), ([present, missing], 1)):
        monkeypatch.setattr(doctor, "required", lambda needs=needs: iter(needs))
        done = CliRunner().invoke(app, ["doctor"])
        assert done.exit_code == status, done.output
        assert "a thing" in done.stdout
        assert ("sudo apt-get install some-package" in done.stdout) == bool(status)
