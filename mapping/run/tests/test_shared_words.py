# SPDX-License-Identifier: Apache-2.0
"""Tensors of at most 16 channels that share the words of a scratchpad, in RTL."""

from __future__ import annotations

import numpy as np
import pytest

from common.testing import data_dir, require
from golden.importers.tflite import load_tflite
from golden.quantize.weights import quantize_weights
from hw.system import NPU_LB
from mapping.compiler.assignment import Assignment
from mapping.run.networks import NetworkProgram, compile_network, run_inputs
from mapping.run.random_networks import narrow_network
from tb.session import Session

pytestmark = pytest.mark.rtl

PARTS = ("in_part", "in2_part", "out_part")
UNIT = 1
"""Index of npu_lb in the pair."""


def in_parts(program: NetworkProgram) -> set[tuple[str, str]]:
    """Return (operator, field) of what is not in the first part of its words."""
    return {
        (entry.name, name)
        for entries in program.program.lists.values()
        for entry in entries
        for name in PARTS
        if entry.fields.get(name)
    }


def test_random_networks_that_share_words_are_exact(pair: Session) -> None:
    """Half of them as they run without a check, and every operator reads and writes the second part."""
    seen: set[tuple[str, str]] = set()
    for seed in range(24):
        network, units, x = narrow_network(seed, (NPU_LB,), 900)
        mapping = {name: np.full_like(owners, UNIT) for name, owners in units.items()}
        program = compile_network(network, pair.config, mapping, observe=seed % 2 == 0)
        seen |= in_parts(program)
        (run,) = run_inputs(pair, program, x, "layers", seed if seed % 3 else None)
        assert run.exact, f"seed {seed}: {dict(run.mismatches)}"
    written = {(name, "out_part") for name in ("conv", "depthwise", "add", "average_pool", "max_pool")}
    read = {("add", "in_part"), ("add", "in2_part"), ("average_pool", "in_part"), ("max_pool", "in_part")}
    assert seen == written | read


@pytest.mark.data
def test_resnet8_at_two_bits_stays_in_the_scratchpad(pair: Session) -> None:
    """Weights, parameters, the image and the result travel, and nothing else: 89,088 bytes did before."""
    path = require(data_dir() / "models" / "pretrainedResnet_quant.tflite")
    network, _ = quantize_weights(load_tflite(path), 2)
    program = compile_network(network, pair.config, Assignment("npu_lb"))
    assert sum(part.load_bytes for part in program.program.parts) == 62_096
    assert sum(part.store_bytes for part in program.program.parts) == 16
    x = np.random.default_rng(3).integers(-128, 128, network.input.shape).astype(np.int8)
    (run,) = run_inputs(pair, program, x)
    assert run.exact
    assert run.cycles == 34_260
