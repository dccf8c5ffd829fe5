"""The design composed of the synthesised blocks equals the one that simulations run, cycle for cycle."""

from __future__ import annotations

import pytest

from common.paths import ROOT
from hw.core import CoreConfig
from hw.sources import rtl_sources, structural_sources
from hw.system import NPU8, NPU_LB, System
from mapping.run.layers import failure_report, run_layers
from mapping.run.random_layers import OPERATORS, random_layer
from tb.session import Session

SYSTEMS = {
    "pair": System((NPU8, NPU_LB)),
    "w5_a6": System((CoreConfig("npu_lb", w_bits=5, a_bits=6, dw_taps=3),), axi_bits=64),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_structural_design_equals_the_behavioural_one_in_results_and_cycles(system: str) -> None:
    config = SYSTEMS[system]
    with Session(config, opt="-O1", rtl=structural_sources()) as structural, Session(config) as behavioural:
        for core in config.cores:
            unit = config.core(core.name)
            layers = [random_layer(70_000 + 10 * i, unit, op) for op in OPERATORS for i in range(4)]
            mine = run_layers(layers, core.name, session=structural)
            others = run_layers(layers, core.name, session=behavioural)
            for run, other in zip(mine, others, strict=True):
                assert run.passed, failure_report(config, run)
                assert (run.cycles, run.counters) == (other.cycles, other.counters), run.layer.name


def test_every_structural_block_is_in_the_design_once() -> None:
    files = structural_sources()
    names = [file.name for file in files]
    assert len(names) == len(set(names))
    assert {file.name for file in rtl_sources()} < set(names)
    structural = {file for file in files if file.parent == ROOT / "rtl" / "structural"}
    assert {file.name for file in structural} >= {"npu_array.sv", "npu_acc.sv", "npu_requant.sv"}
