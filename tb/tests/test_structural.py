# SPDX-License-Identifier: Apache-2.0
"""The design composed of the synthesised blocks equals the one that simulations run, cycle for cycle."""

from __future__ import annotations

import pytest

from hw.core import CoreConfig
from hw.sources import rtl_sources
from hw.system import NPU8, NPU_LB, System
from mapping.run.layers import failure_report, run_layers
from mapping.run.random_layers import OPERATORS, random_layer
from tb.session import Session

SYSTEMS = {
    "pair": System((NPU8, NPU_LB)),
    "w5_a6": System((CoreConfig("npu_lb", w_bits=5, a_bits=6, dw_taps=3),), axi_bits=64),
}


@pytest.mark.parametrize("system", ["pair", pytest.param("w5_a6", marks=pytest.mark.slow)])
@pytest.mark.rtl
def test_the_structural_design_equals_the_behavioural_one_in_results_and_cycles(system: str) -> None:
    config = SYSTEMS[system]
    with Session(config, structural=True) as structural, Session(config) as behavioural:
        for core in config.cores:
            unit = config.core(core.name)
            layers = [random_layer(70_000 + 10 * i, unit, op) for op in OPERATORS for i in range(4)]
            structural_runs = run_layers(layers, core.name, session=structural)
            behavioural_runs = run_layers(layers, core.name, session=behavioural)
            for run, reference in zip(structural_runs, behavioural_runs, strict=True):
                assert run.passed, failure_report(config, run)
                assert (run.cycles, run.counters) == (reference.cycles, reference.counters), run.layer.name


def test_one_list_has_both_forms_and_every_file_once() -> None:
    names = [file.name for file in rtl_sources()]
    assert len(names) == len(set(names))
    for block in ("npu_array", "npu_acc", "npu_requant"):
        assert {f"{block}.sv", f"{block}_behavioural.sv", f"{block}_structural.sv"} <= set(names)
