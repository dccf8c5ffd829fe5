# SPDX-License-Identifier: Apache-2.0
"""Mappings that need no training: of plain rules, the cheapest, random ones of some cost.

Cost changes of steps add up well enough to choose by.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence

import numpy as np

from mapping.search.costs import NetworkCosts, State
from mapping.search.states import RELATIVE_TOLERANCE, Move, draw_state, moves_of, share_out, weight_bits

BUDGET = 400
"""Cost evaluations that `random_state` may make, unless it is told otherwise."""
RANDOM_STARTS = 4
"""Random mappings from which `cheapest` may start, beside the plain ones."""
DESCENTS = 3
"""How many of them it descends from: the cheapest."""
PAIRS = 40
"""Pairs of steps that `cheapest` prices before it gives up."""


def most_precise(costs: NetworkCosts) -> State:
    """Return the mapping of every layer to the unit with the most weight bits that may run it."""
    return tuple(costs.whole(layer, _ranked(costs, layer)[-1]) for layer in range(len(costs.layers)))


def first_last(costs: NetworkCosts) -> State:
    """Return the mapping of the first and last layer to the unit with most weight bits, the others to fewest.

    Both among the units that may run the layer.
    """
    ends = (0, len(costs.layers) - 1)
    return tuple(
        costs.whole(layer, _ranked(costs, layer)[-1 if layer in ends else 0])
        for layer in range(len(costs.layers))
    )


def _ranked(costs: NetworkCosts, layer: int) -> list[int]:
    """Return the units that may run a layer, by weight bits; of equal ones the first is at either end."""
    units = np.flatnonzero(costs.allowed[layer]).tolist()
    bits = weight_bits(costs)
    return [min(units, key=lambda unit: (bits[unit], unit)), max(units, key=lambda unit: (bits[unit], -unit))]


def cheapest(costs: NetworkCosts, seed: int = 0, whole: bool = False) -> State:
    """Return a mapping that no step makes cheaper, and none of the likeliest pairs in neighbouring layers.

    Descends from the cheapest of: everything on each unit, halves, some random mappings. There is no
    guarantee: of small networks it is the cheapest (tested), of large ones the cheapest that was priced.

    Args:
        costs: the network.
        seed: of the random mappings.
        whole: layers are not split.

    Raises:
        NpuloopError: see `NetworkCosts.cost`.
    """
    rng = np.random.default_rng(seed)
    moves = moves_of(costs, whole)
    starts = [costs.uniform(unit) for unit in costs.units]
    if not whole:
        starts.append(
            tuple(share_out(free, total) for free, total in zip(costs.allowed, costs.totals, strict=True))
        )
    starts += [draw_state(costs, rng, whole) for _ in range(RANDOM_STARTS)]
    chosen = heapq.nsmallest(DESCENTS, dict.fromkeys(starts), key=costs.cost)
    best = min((_descended(costs, start, moves) for start in chosen), key=costs.cost)
    while (better := _better_pair(costs, best, moves)) is not None:
        best = _descended(costs, better, moves)
    return best


def feasible_range(costs: NetworkCosts) -> tuple[float, float]:
    """Return what the `cheapest` mapping costs, and the `most_precise` one; errors as `cheapest`.

    To pay more than for the latter makes no sense.
    """
    precise = costs.cost(most_precise(costs))
    return min(costs.cost(cheapest(costs)), precise), precise


def _descended(costs: NetworkCosts, state: State, moves: Sequence[Move]) -> State:
    """Take every step that makes the mapping cheaper, in turn, until none is left."""
    since = 0
    for move in itertools.cycle(moves):
        if since == len(moves):
            break
        since += 1
        after = move(state)
        if costs.cost(after) < costs.cost(state) * (1 - RELATIVE_TOLERANCE):
            state, since = after, 0
    return state


def _better_pair(costs: NetworkCosts, state: State, moves: Sequence[Move]) -> State | None:
    """Return a cheaper mapping, two steps away in layers that follow each other, or nothing.

    The pairs whose steps alone cost least are tried.
    """
    single = [move for move in moves if len(move.layers) == 1 and move(state) != state]
    alone = {move: costs.cost(move(state)) for move in single}
    pairs = [
        (first, second)
        for first, second in itertools.product(single, repeat=2)
        if second.layers[0] == first.layers[0] + 1
    ]
    for first, second in heapq.nsmallest(PAIRS, pairs, key=lambda pair: alone[pair[0]] + alone[pair[1]]):
        after = second(first(state))
        if costs.cost(after) < costs.cost(state) * (1 - RELATIVE_TOLERANCE):
            return after
    return None


def random_state(
    costs: NetworkCosts, rng: np.random.Generator, cost: float, tolerance: float = 0.02, budget: int = BUDGET
) -> State:
    """Return a random mapping of about some cost.

    Starts from a random split of every layer, and takes random steps that bring the cost nearer; starts again
    where they no longer do.

    Args:
        costs: the network.
        rng: draws it.
        cost: what it is to cost.
        tolerance: how far it may be off, relative.
        budget: cost evaluations that may be made.

    Returns:
        The first mapping within the tolerance, or the nearest that was priced.

    Raises:
        NpuloopError: see `NetworkCosts.cost`.
    """
    moves = moves_of(costs)
    priced: set[State] = set()

    def distance(state: State) -> float:
        priced.add(state)
        return abs(costs.cost(state) - cost)

    best = draw_state(costs, rng)
    starts = 1 + budget // (len(moves) + 1)
    for start in range(starts):
        state = draw_state(costs, rng) if start else best
        failed: set[Move] = set()
        while distance(state) > tolerance * cost and len(failed) < len(moves) and len(priced) < budget:
            move = moves[int(rng.integers(len(moves)))]
            if distance(move(state)) < distance(state):
                state, failed = move(state), set()
            else:
                failed.add(move)
        best = min(best, state, key=distance)
        if distance(best) <= tolerance * cost or len(priced) >= budget:
            break
    return best
