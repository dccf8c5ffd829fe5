# SPDX-License-Identifier: Apache-2.0
"""`npuloop soak`: it says how many values it compared, and `--systems` draws the hardware itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from mapping.run import soak as soaking, soak_systems as systems
from mapping.run.random_systems import random_system
from mapping.run.soak import SoakResult
from mapping.run.soak_systems import SystemSoak
from npuloop.cli.testing import npuloop_here


@pytest.fixture
def no_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    def soak(*_: object, **__: object) -> SoakResult:
        return SoakResult(runs=6, values=1000, wrong=0, cycles=5)

    def soak_systems(seeds: Iterable[int]) -> Iterator[SystemSoak]:
        for seed in seeds:
            failures = ["system 4: it hangs"] if seed == 4 else []
            result = SoakResult(runs=8, values=500, wrong=len(failures), cycles=5, failures=failures)
            yield SystemSoak(seed, random_system(seed), 3, 1, ("conv2d on u0",) if seed == 3 else (), result)

    monkeypatch.setattr(soaking, "soak", soak)
    monkeypatch.setattr(soaking, "soak_networks", soak)
    monkeypatch.setattr(systems, "soak_systems", soak_systems)


@pytest.mark.usefixtures("no_simulator")
def test_values_are_summed_over_units_and_networks() -> None:
    done = npuloop_here("soak", "--count", 3, "--seed", 77)
    assert done.returncode == 0, done.stderr
    assert (
        "npu_lb: 6 runs of 3 from seed 77, 5 cycles, 1,000 values compared, 0 wrong, 0 failed" in done.stdout
    )
    assert "all: 3,000 values compared" in done.stdout


@pytest.mark.usefixtures("no_simulator")
def test_systems_are_named_and_what_fails_fails_the_command() -> None:
    done = npuloop_here("soak", "--systems", "--count", 2, "--seed", 3)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith(
        f"system 3, {random_system(3).axi_bits}-bit port, {random_system(3).cores[0].key}"
    )
    assert lines[0].endswith("8 runs, 500 values compared, 0 wrong, 0 failed; nothing fits of conv2d on u0")
    assert lines[-1] == "2 systems from seed 3: 16 runs, 1,000 values compared, 1 wrong, 1 failed"
    assert "system 4: it hangs" in done.stderr
    assert npuloop_here("soak", "--systems", "--count", 1, "--seed", 3).returncode == 0


@pytest.mark.parametrize("option", [("--unit", "npu8"), ("--system", "npu8"), ("--set", "AXI_BITS=64")])
def test_systems_that_are_drawn_are_not_named_too(option: tuple[str, str]) -> None:
    done = npuloop_here("soak", "--systems", *option)
    assert done.returncode == 2
    assert "leave out --unit, --system and --set" in done.stderr
