# SPDX-License-Identifier: Apache-2.0
"""Systems of three and of four cores: random networks and a real one, split over all units, exact in RTL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.testing import data_dir, require
from golden.importers.tflite import load_tflite
from golden.quantize.weights import quantize_weights
from hw.system_file import load_system
from mapping.compiler.legalise import legalise_network
from mapping.run.networks import compile_network, run_inputs
from mapping.run.soak import soak_networks
from tb.session import Session

SYSTEMS = {
    "three, two of a kind": """\
npuloop_system: 1
units:
  - {name: big, count: 2}
  - {name: little, type: npu_lb}
""",
    "four of mixed widths, narrow port": """\
npuloop_system: 1
axi_bits: 64
units:
  - {name: w4a7, w_bits: 4, a_bits: 7, lanes: 8}
  - {name: little, w_bits: 2, rows: 32, cols: 32, act_kib: 64, count: 2}
  - {name: npu8, dw_taps: 3}
""",
}
SEEDS = range(500, 502)


@pytest.mark.parametrize(
    "name",
    ["four of mixed widths, narrow port", pytest.param("three, two of a kind", marks=pytest.mark.slow)],
)
@pytest.mark.data
@pytest.mark.rtl
def test_random_networks_and_a_real_one_are_exact_on_all_units(name: str, tmp_path: Path) -> None:
    path = tmp_path / "system.yaml"
    path.write_text(SYSTEMS[name])
    system = load_system(path)
    result = soak_networks(SEEDS, system)
    assert result.failures == []
    assert result.runs == 2 * len(SEEDS)

    network, _ = quantize_weights(
        load_tflite(require(data_dir() / "models" / "pretrainedResnet_quant.tflite")), 2
    )
    rng = np.random.default_rng(7)
    units = {
        op.name: rng.permutation(np.arange(op.shape[2]) % len(system.cores))
        for op in legalise_network(network).ops
    }
    program = compile_network(network, system, units, observe=True)
    assert set(program.program.starts) == set(system.units)
    x = rng.integers(-128, 128, network.input.shape).astype(np.int8)
    with Session(system) as session:
        (run,) = run_inputs(session, program, x, "layers", backpressure=3)
        assert run.exact, {layer: count for layer, count in run.mismatches.items() if count}
        assert all(run.counters[unit]["macs_useful"] > 0 for unit in system.units)
