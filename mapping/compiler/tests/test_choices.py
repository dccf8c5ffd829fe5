# SPDX-License-Identifier: Apache-2.0
"""Of plans that may be faster either way the price decides, and the one that it chose can be had again."""

from __future__ import annotations

import pytest

from hw.system import System
from mapping.compiler.compile import compile_graph
from mapping.compiler.legalise import legalise_network
from mapping.compiler.passes import CHANGES, HOPELESS
from mapping.compiler.plan import CapacityError
from mapping.compiler.program import PLAIN, Choice, Program
from mapping.run.random_networks import random_network

SYSTEM = System()
NETWORK, UNITS, _ = random_network(4, SYSTEM.cores)
GRAPH = legalise_network(NETWORK)


def compiled(choice: Choice = PLAIN, **options: object) -> Program:
    return compile_graph(GRAPH, SYSTEM.cores, UNITS, choice=choice, **options)  # type: ignore[arg-type]


def same(one: Program, other: Program) -> bool:
    return one.lists == other.lists and one.starts == other.starts and one.choice == other.choice


def test_the_price_decides_and_the_first_plan_wins_ties() -> None:
    priced: list[Program] = []

    def constant(program: Program) -> float:
        priced.append(program)
        return 1.0

    assert same(compiled(price=constant), compiled())
    assert 1 < len(priced) <= 1 + len(CHANGES)
    assert not any(program.segments for program in priced)  # lists alone
    assert len({str([p.lists[unit] for unit in p.lists]) for p in priced}) == len(priced)  # each once
    assert all(program.estimate <= HOPELESS * priced[0].estimate for program in priced)
    for wanted in priced:
        chosen = compiled(price=lambda program, wanted=wanted: 1.0 - same(program, wanted))
        assert chosen.choice == wanted.choice
        assert same(chosen, compiled(wanted.choice))  # with its memory image


def test_by_the_compilers_own_estimate_no_plan_is_worse_than_the_first() -> None:
    for seed in range(8):
        network, units, _ = random_network(seed, SYSTEM.cores)
        graph = legalise_network(network)
        plain, chosen = (
            compile_graph(graph, SYSTEM.cores, units, image_wanted=False, price=price)
            for price in (None, lambda program: program.estimate)
        )
        assert chosen.estimate <= plain.estimate, seed


def test_a_plan_that_does_not_fit_is_left_out() -> None:
    """Memory for every value of its own is more than values that share take."""
    shared, own = compiled().end, compiled(Choice(shares=False)).end
    assert shared < own
    chosen = compiled(mem_bytes=shared, price=lambda program: float(program.choice.shares))
    assert chosen.choice.shares
    with pytest.raises(CapacityError, match="memory image"):
        compiled(mem_bytes=shared - 64, price=lambda program: program.estimate)
