# SPDX-License-Identifier: Apache-2.0
"""Every legal configuration is one that runs; one that is not legal is refused with a sentence."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import ConfigError
from golden.layer import Layer, run_layer
from hw.core import CoreConfig
from hw.system_file import load_system, system_text
from mapping.run import soak_systems as soaking
from mapping.run.layers import LayerRun
from mapping.run.random_layers import OPERATORS
from mapping.run.random_systems import MAX_UNITS, random_system
from mapping.run.scratchpads import whole_scratchpads
from mapping.run.soak_systems import soak_systems
from tb.job import Job

SMALLEST_SCRATCHPADS, EQUAL_UNITS = 14, 11
"""Seeds of systems: 1 KiB of activations and of weights; two units of the same parameters on a wide port."""


def test_random_systems_reach_the_ends_of_every_parameter() -> None:
    systems = [random_system(seed) for seed in range(300)]
    cores = [core for system in systems for core in system.cores]
    assert {len(system.cores) for system in systems} == set(range(1, MAX_UNITS + 1))
    assert {system.axi_bits for system in systems} == {64, 128}
    assert {core.w_bits for core in cores} == set(range(2, 9))
    assert {core.a_bits for core in cores} == set(range(4, 9))
    assert {core.lanes for core in cores} == {1, 2, 4, 8, 16}
    assert {core.dw_taps for core in cores} == set(range(1, 17))
    assert {core.rows for core in cores} == {16, 32, 64, 128}
    assert {1, 255} <= {core.stripe_depth for core in cores}
    assert max(core.rows * core.columns * core.w_bits for core in cores) > 60_000
    for name in ("act_kib", "weight_kib", "param_kib"):
        assert {1, 2, 3} <= {getattr(core, name) for core in cores}
    equal = [s for s in systems if len({core.key for core in s.cores}) < len(s.cores)]
    unlike = [s for s in systems if len({(core.w_bits, core.rows) for core in s.cores}) == 4]
    assert equal
    assert unlike


def test_equal_seeds_give_equal_systems_which_a_file_can_hold(tmp_path: Path) -> None:
    for seed in range(20):
        system = random_system(seed)
        assert system == random_system(seed)
        path = tmp_path / f"{seed}.yaml"
        path.write_text(system_text(system))
        assert load_system(path) == system


@pytest.mark.parametrize("field", [field.name for field in fields(CoreConfig) if field.name != "name"])
def test_what_lies_beyond_the_ends_is_refused_by_its_name(field: str) -> None:
    named = "(rows|cols)" if field == "rows" else field  # rows that are too many leave no columns
    for seed in range(5):
        core = random_system(seed).cores[0]
        values: tuple[Any, ...] = (-1, 0, 4096, 1 << 20, 7.5, True)
        if field == "rows":
            values = tuple(value for value in values if value != 0)  # the width's
        for value in values:
            with pytest.raises(ConfigError, match=rf"core 'u0': {named} = .* must be"):
                replace(core, **{field: value})


@pytest.mark.rtl
def test_systems_of_any_parameters_are_exact() -> None:
    (smallest,) = soak_systems([SMALLEST_SCRATCHPADS], layers=1)
    assert (smallest.system.cores[0].act_kib, smallest.system.cores[0].weight_kib) == (1, 1)
    (equal,) = soak_systems([EQUAL_UNITS], layers=1)
    assert len({core.key for core in equal.system.cores}) == 1 < len(equal.system.cores)
    for done in (smallest, equal):
        assert not done.result.failures, "\n".join(done.result.failures)
        assert done.result.wrong == 0
        assert done.result.values > 1000
        assert done.layers + len(done.refused) == len(OPERATORS) * len(done.system.cores)
        assert done.result.runs == 2 * (done.layers + done.networks)
        assert f"{done.result.values:,} values compared, 0 wrong, 0 failed" in done.text
    assert equal.networks == 3


def test_a_byte_of_a_scratchpad_that_comes_back_otherwise_is_counted() -> None:
    """Of as many commands as the scratchpads need: a transfer has 512 KiB at most."""
    core = CoreConfig("large", act_kib=1200, weight_kib=20, param_kib=9)
    jobs: list[Job] = []

    def run(job: Job) -> SimpleNamespace:
        jobs.append(job)
        data = job.segments[1][1][: job.reads[0][1]].copy()
        data[-1] ^= len(jobs) > 1
        return SimpleNamespace(ok=len(jobs) < 3, diagnosis="it hangs", reads=[data])

    session = SimpleNamespace(run=run)
    assert whole_scratchpads(session, core, 1) == (0, None)  # type: ignore[arg-type]
    assert jobs[0].reads[0][1] == 1200 * 1024
    assert jobs[0].starts["large"][1] == 3 + 1 + 1 + 2 + 3
    assert whole_scratchpads(session, core, 1) == (1, "1 bytes of the activations of large differ")  # type: ignore[arg-type]
    message = "the scratchpads of large could not be filled: it hangs"
    assert whole_scratchpads(session, core, 1) == (0, message)  # type: ignore[arg-type]


@pytest.mark.rtl
def test_a_wrong_value_is_counted_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_one(layer: Layer, a_bits: int) -> object:
        values = run_layer(layer, a_bits)
        if layer.op == "max_pool":
            values = values.copy()
            values.flat[0] ^= 1
        return values

    def no_waves(config: object, run: LayerRun) -> str:
        return f"layer {run.layer.name!r} differs"

    monkeypatch.setattr("mapping.run.layers.run_layer", off_by_one)
    monkeypatch.setattr("mapping.run.soak.failure_report", no_waves)
    (done,) = soaking.soak_systems([SMALLEST_SCRATCHPADS], layers=1, networks=1)
    assert done.result.wrong == 2
    assert len(done.result.failures) == 2
    command = f"npuloop soak --systems --seed {SMALLEST_SCRATCHPADS} --count 1"
    assert done.result.failures[0].startswith(f"system {SMALLEST_SCRATCHPADS}: {command}\nmax_pool ")
