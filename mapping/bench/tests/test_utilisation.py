# SPDX-License-Identifier: Apache-2.0
"""Efficiency: limits that the hardware must keep, and cycle counts, which are exact."""

from __future__ import annotations

import pytest

from mapping.bench import cost_model as bench_costs, utilisation as bench
from tb.session import Session

# (layer, unit): (cycle law, array cycles on resident data, cycles start to interrupt). A change of the
# hardware or of the compiler that changes one of these must say so here.
CYCLES = {
    ("conv 3x3 64-64, 16x16", "npu8"): (36864, 36897, 38177),
    ("conv 3x3 64-64, 32x32", "npu8"): (147456, 147665, 149329),
    ("depthwise 3x3 64, 16x16", "npu8"): (3072, 3168, 3962),
    ("pointwise 64-64, 32x32", "npu8"): (16384, 16417, 17768),
    ("fully connected 256-256", "npu8"): (2048, 3705, 4649),
    ("conv 3x3 64-64, 16x16", "npu_lb"): (9216, 9216, 10136),
    ("conv 3x3 64-64, 32x32", "npu_lb"): (36864, 36908, 38628),
    ("depthwise 3x3 64, 16x16", "npu_lb"): (1536, 1661, 2224),
    ("pointwise 64-64, 32x32", "npu_lb"): (4096, 4347, 5860),
    ("fully connected 256-256", "npu_lb"): (512, 505, 1582),
}


@pytest.fixture(scope="module")
def rows(pair: Session) -> list[bench.Efficiency]:
    return bench.efficiency(pair)


def test_cycles_are_exactly_the_documented_ones(rows: list[bench.Efficiency]) -> None:
    assert {(r.case.name, r.core.name): (r.law, r.array, r.streamed.cycles) for r in rows} == CYCLES


def test_every_efficiency_target_is_reached(rows: list[bench.Efficiency]) -> None:
    assert sum(len(row.case.targets) for row in rows) >= 4
    assert bench.missed_targets(rows) == []


def test_a_missed_target_is_reported(rows: list[bench.Efficiency]) -> None:
    from dataclasses import replace

    case = replace(rows[0].case, targets={("npu8", "busy"): 1.01, ("npu8", "array / law"): 0.99})
    assert len(bench.missed_targets([replace(rows[0], case=case)])) == 2


def test_the_convolution_keeps_97_percent_of_the_multipliers_busy(rows: list[bench.Efficiency]) -> None:
    row = next(r for r in rows if r.core.name == "npu8" and r.case.name == "conv 3x3 64-64, 16x16")
    assert row.busy >= 0.97
    row = next(r for r in rows if r.core.name == "npu8" and r.case.name == "conv 3x3 64-64, 32x32")
    assert row.end_to_end >= 0.90


def test_a_repeated_program_does_the_same_work_several_times(pair: Session) -> None:
    from mapping.compiler.compile import compile_layer
    from mapping.run.layers import run_program

    core = pair.config.cores[0]
    program = compile_layer(bench.bench_layer(bench.CASES[4], core), core)
    once, thrice = run_program(pair, program), run_program(pair, bench.repeat(program, 3))
    assert once.match
    assert thrice.match
    assert thrice.useful_macs == 3 * once.useful_macs


def test_the_cost_model_is_looked_up_fast_enough_and_says_when_it_is_not() -> None:
    speed = bench_costs.cost_speed("ds_cnn")
    assert 0 < speed.new < speed.gradients
    assert bench_costs.missed_cost_speed(bench_costs.CostSpeed(1, 1, 100_000)) == []
    (line,) = bench_costs.missed_cost_speed(bench_costs.CostSpeed(1, 1, 99_999))
    assert "99,999 layers a second" in line
