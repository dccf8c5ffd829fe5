# SPDX-License-Identifier: Apache-2.0
"""The whole chain on one input: fake-quantised forward pass = integer network = RTL, every tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from golden.layer import WEIGHTED_OPS
from golden.network import run_network
from golden.quantize.qat import convert, prepare_qat, quantize_input
from golden.quantize.testing import NAMES, images_for, model_for
from mapping.compiler.legalise import legalise_network
from mapping.run.networks import compile_network, run_inputs
from mapping.run.random_networks import random_units
from tb.session import Session
from tb.testing import REDUCED_UNITS

pytestmark = pytest.mark.rtl


def chain(session: Session, name: str) -> None:
    """Train a network for a few steps on a random split over the session's units, then compare all three."""
    cores = session.config.cores
    x = images_for(name, 12)
    wide = convert(prepare_qat(model_for(name), x, name=name))
    rng = np.random.default_rng(5)
    units = {op.name: random_units(rng, op.shape[2], len(cores)) for op in legalise_network(wide).ops}
    bits, a_bits = (np.array([getattr(core, key) for core in cores]) for key in ("w_bits", "a_bits"))
    weighted = [node.name for node in wide.nodes if node.op in WEIGHTED_OPS]
    training = prepare_qat(
        model_for(name), x, weight_bits={layer: bits[units[layer]] for layer in weighted}, name=name
    )
    for layer in weighted:
        training.weighted(layer).set_a_bits(a_bits[units[layer]])
    optimizer = torch.optim.Adam(training.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        training(x[:8]).square().mean().backward()
        optimizer.step()

    network = convert(training)
    program = compile_network(network, session.config, units, observe=True)
    inputs = quantize_input(network, x[8:])
    training.eval()
    fake: dict[str, Any] = training.integers(x[8:])
    golden = run_network(network, inputs, program.a_bits)
    assert fake.keys() == golden.keys()
    for layer, values in golden.items():
        np.testing.assert_array_equal(fake[layer], values, err_msg=f"{name}, {layer}")
    for i, run in enumerate(run_inputs(session, program, inputs, "layers")):
        assert run.exact, f"{name}, input {i}: {dict(run.mismatches)}"
        np.testing.assert_array_equal(run.output, fake[network.output_name][i])


@pytest.mark.parametrize("name", NAMES)
def test_fake_quantised_is_integer_is_rtl(name: str, pair: Session) -> None:
    chain(pair, name)


def test_the_chain_holds_with_reduced_activations() -> None:
    with Session(REDUCED_UNITS) as session:
        chain(session, NAMES[0])
