# SPDX-License-Identifier: Apache-2.0
"""Every proof is broken once by a fault in the RTL: it turns red, with a trace and the assertion's text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.errors import TestbenchError
from tb.formal.mutants import MUTANTS, Mutant, find
from tb.formal.proofs import PROOFS
from tb.formal.prover import Proof

PAIRS = [
    (mutant, proof)
    for mutant in MUTANTS
    for proof in PROOFS
    if proof.top == mutant.top and proof.name.endswith(mutant.only)
]
LAST = dict(PAIRS)
"""One proof for each mutant: the quickest comes last."""


@pytest.mark.formal
@pytest.mark.parametrize(
    ("mutant", "proof"),
    [
        pytest.param(mutant, proof, marks=() if LAST[mutant] is proof else pytest.mark.slow)
        for mutant, proof in PAIRS
    ],
    ids=lambda item: item.name if isinstance(item, Proof) else item.file.removesuffix(".sv"),
)
def test_a_fault_turns_its_proof_red(mutant: Mutant, proof: Proof) -> None:
    outcome = find(mutant, proof)
    assert outcome.status == "refuted"
    assert outcome.failed
    assert outcome.trace is not None
    assert outcome.trace.read_text().startswith("$")
    assert "assert (" in outcome.text
    assert str(outcome.trace) in outcome.text


def test_there_is_a_fault_for_every_proof() -> None:
    assert {proof.name for _, proof in PAIRS} == {proof.name for proof in PROOFS}


def test_a_fault_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(TestbenchError, match=r"npu_fifo.sv has 0 times 'nowhere'; write it anew"):
        replace(MUTANTS[0], old="nowhere").text()
