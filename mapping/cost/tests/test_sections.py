# SPDX-License-Identifier: Apache-2.0
"""Where networks are cut: sections as short as asked for, and none cheaper among all ways to cut."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest

from common.arrays import Floats
from golden.importers.models import load_model
from hw.system import System
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.compile import compile_graph
from mapping.compiler.graph import Graph
from mapping.compiler.legalise import legalise_network
from mapping.compiler.passes import Options, front, section_schedule
from mapping.cost.model import CostModel
from mapping.cost.requests import Request, time_requests
from mapping.cost.sections import START_CYCLES, choose_cuts
from mapping.run.random_networks import random_network

SYSTEM = System()


@pytest.fixture(scope="module")
def coefficients() -> Mapping[str, Floats]:
    return CostModel(SYSTEM).coefficients(SYSTEM.units)


def digits() -> tuple[Graph, dict[str, ChannelAssignment]]:
    graph = legalise_network(load_model("digits_int8"))
    return graph, {op.name: np.zeros(op.shape[2], np.int64) for op in graph.ops}


def section_cycles(
    graph: Graph,
    units: Mapping[str, ChannelAssignment],
    cuts: tuple[str, ...],
    coefficients: Mapping[str, Floats],
) -> list[float]:
    """What each section takes alone."""
    program = compile_graph(graph, SYSTEM.cores, units, cuts=cuts)
    return [
        time_requests([Request(section.lists)], SYSTEM.cores, coefficients, recording=False)[0].end
        for section in program.sections
    ]


def test_a_network_that_is_short_enough_is_not_cut(coefficients: Mapping[str, Floats]) -> None:
    graph, units = digits()
    (whole,) = section_cycles(graph, units, (), coefficients)
    assert choose_cuts(graph, SYSTEM.cores, units, coefficients, whole + 1) == ()
    assert choose_cuts(graph, SYSTEM.cores, units, coefficients, whole - 1) != ()


def test_no_other_cuts_are_cheaper(coefficients: Mapping[str, Floats]) -> None:
    """All divisions of a small network are compared, by the cycles of the timing model."""
    graph, units = digits()
    names = [op.name for op in graph.ops]
    for longest in (1500.0, 1100.0, 700.0):
        cuts = choose_cuts(graph, SYSTEM.cores, units, coefficients, longest)
        chosen = section_cycles(graph, units, cuts, coefficients)
        places = [0, *(names.index(name) + 1 for name in cuts), len(names)]
        for first, end, cycles in zip(places, places[1:], chosen, strict=False):
            assert cycles <= longest or end - first == 1
        for count in range(len(names)):
            for other in combinations(names[:-1], count):
                found = section_cycles(graph, units, other, coefficients)
                sizes = np.diff([0, *(names.index(name) + 1 for name in other), len(names)])
                if all(c <= longest or size == 1 for c, size in zip(found, sizes, strict=True)):
                    price = sum(found) + START_CYCLES * len(other)
                    assert price >= sum(chosen) + START_CYCLES * len(cuts) - 0.02 * sum(chosen)


def test_layers_that_are_longer_are_sections_of_their_own(coefficients: Mapping[str, Floats]) -> None:
    graph, units = digits()
    cuts = choose_cuts(graph, SYSTEM.cores, units, coefficients, 1.0)
    assert cuts == tuple(op.name for op in graph.ops[:-1])


def test_a_section_alone_is_the_section_of_the_program() -> None:
    """Commands for estimates are those of the program, but for the addresses in memory."""
    for seed in range(6):
        network, units, _ = random_network(seed, SYSTEM.cores)
        graph = legalise_network(network)
        cuts = (graph.ops[2].name, graph.ops[5].name)
        program = compile_graph(graph, SYSTEM.cores, units, cuts=cuts)
        begun = front(graph, SYSTEM.cores, units, Options(image_wanted=False))
        spans = (range(3), range(3, 6), range(6, len(graph.ops)))
        for section, span in zip(program.sections, spans, strict=True):
            alone = section_schedule(begun, SYSTEM.cores, units, Options(image_wanted=False), span)
            for core, entries in zip(SYSTEM.cores, alone.lists, strict=True):
                there = section.lists.get(core.name, ())
                kept = [item for item in there if item.name not in ("wait", "signal")]
                found = [item for item in entries if item.name not in ("wait", "signal")]
                assert len(found) == len(kept)
                for one, two in zip(
                    sorted(found, key=lambda item: (item.engine, item.layer)),
                    sorted(kept, key=lambda item: (item.engine, item.layer)),
                    strict=True,
                ):
                    assert (one.name, one.engine, one.layer) == (two.name, two.engine, two.layer)
