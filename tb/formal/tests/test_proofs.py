# SPDX-License-Identifier: Apache-2.0
"""Every proof holds: it follows from itself, from any state after a reset, and what it covers can happen."""

from __future__ import annotations

import re

import pytest

from hw.sources import rtl_sources
from tb.formal.proofs import PROOFS
from tb.formal.prover import PROPERTIES, Proof, labels, prove

ASSUMED = {
    "ReadDataHasAnIdThatWasSent": "memory answers with IDs that were sent",
    "CompletionBelongsToACommandInFlight": "the datapath completes only what it has been given",
    "DataComesForWhatWasAsked": "memory sends only what was asked",
    "AnswerBelongsToABurstInFlight": "memory answers only what it has taken",
}
"""Assertions of the RTL that say what a block's surroundings do: its proof assumes them."""


LONG = ("fetch_axi64",)
"""Proofs that take a minute or two; those of the same block on a wider port are among the others."""


@pytest.mark.formal
@pytest.mark.parametrize(
    "proof",
    [pytest.param(proof, marks=pytest.mark.slow if proof.name in LONG else ()) for proof in PROOFS],
    ids=lambda proof: proof.name,
)
def test_it_holds(proof: Proof) -> None:
    outcome = prove(proof)
    assert outcome.status == "proven", outcome.text
    assert outcome.covers == tuple(sorted(labels(proof, "cover")))
    assert not proof.bounded


def test_every_property_module_is_used_and_says_something() -> None:
    assert {proof.source for proof in PROOFS} == set(PROPERTIES.glob("*.sv"))
    assert len({proof.name for proof in PROOFS}) == len(PROOFS)
    for proof in PROOFS:
        assert labels(proof, "assert")
        assert labels(proof, "cover")


def test_assertions_of_proven_blocks_are_proven_under_their_names() -> None:
    blocks = {proof.block for proof in PROOFS}
    written = {
        name
        for path in rtl_sources()
        if path.stem in blocks
        for name in re.findall(r"^ *(\w+) : assert property", path.read_text(), re.MULTILINE)
    }
    proven = {name for proof in PROOFS for name in labels(proof, "assert")}
    assert len(written) > 10
    assert written - proven == set(ASSUMED)
