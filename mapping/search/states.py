# SPDX-License-Identifier: Apache-2.0
"""Mappings as blocks of channels on units: the steps between them, all of them, and random ones.

All searches for a mapping work on `State`s and price them exactly with `NetworkCosts`. The steps are the same
everywhere (`moves_of`): one block, all that a layer has on a unit, or either for all layers of a group that
share an order of channels; in a group one layer alone often only costs, as its channels then lie in other
places than those of the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mapping.search.costs import NetworkCosts, State, moved

RELATIVE_TOLERANCE = 1e-9
"""Changes of cost, relative to it, and of agreement below this are rounding."""


@dataclass(frozen=True)
class Move:
    """A step from one mapping to another.

    Attributes:
        layers: whose blocks move.
        giver, taker: from this unit to that one.
        whole: all blocks that are there, or one.
    """

    layers: tuple[int, ...]
    giver: int
    taker: int
    whole: bool

    def __call__(self, state: State) -> State:
        """Return the mapping after the step; the same where there is nothing to move."""
        for layer in self.layers:
            there = state[layer][self.giver]
            if there:
                state = moved(state, layer, self.giver, self.taker, there if self.whole else 1)
        return state


def moves_of(costs: NetworkCosts, whole: bool = False) -> tuple[Move, ...]:
    """Return all steps: of a block or everything that is on a unit, of each layer and of each group.

    Args:
        costs: the network.
        whole: only those of everything.
    """
    moves = []
    groups = [members for members in costs.shared if len(members) > 1]
    for layers in [*((layer,) for layer in range(len(costs.layers))), *groups]:
        for giver, taker in itertools.permutations(range(len(costs.units)), 2):
            free = tuple(layer for layer in layers if costs.allowed[layer, [giver, taker]].all())
            if not free or len(free) < len(layers) == 1:
                continue
            one = all(costs.totals[layer] == 1 for layer in free)
            if one or not whole:
                moves.append(Move(free, giver, taker, whole=False))
            if not one:
                moves.append(Move(free, giver, taker, whole=True))
    return tuple(dict.fromkeys(moves))


def weight_bits(costs: NetworkCosts) -> tuple[int, ...]:
    """Return the width of each unit's weights."""
    return tuple(core.w_bits for core in costs.config.cores)


def number_of_states(costs: NetworkCosts, whole: bool) -> int:
    """Return how many mappings there are; those that do not split layers only, where `whole`."""
    units = costs.allowed.sum(axis=1).tolist()
    if whole:
        return math.prod(units)
    return math.prod(
        math.comb(total + free - 1, free - 1) for total, free in zip(costs.totals, units, strict=True)
    )


def every_state(costs: NetworkCosts, whole: bool) -> Iterator[State]:
    """Yield all mappings; there may be very many."""
    choices = []
    for layer, total in enumerate(costs.totals):
        free = np.flatnonzero(costs.allowed[layer]).tolist()
        rows = []
        for places in itertools.combinations_with_replacement(free, 1 if whole else total):
            share = total // len(places)
            rows.append(tuple(share * places.count(unit) for unit in range(len(costs.units))))
        choices.append(rows)
    yield from itertools.product(*choices)


def draw_state(costs: NetworkCosts, rng: np.random.Generator, whole: bool = False) -> State:
    """Draw a mapping: each layer's blocks are cut at random places and go to the units that may run it.

    Or, where layers are not split, each goes to one of them.
    """
    rows = []
    for layer, (free, total) in enumerate(zip(costs.allowed, costs.totals, strict=True)):
        if whole:
            rows.append(costs.whole(layer, int(rng.choice(np.flatnonzero(free)))))
            continue
        cuts = np.sort(rng.integers(0, total + 1, int(free.sum()) - 1))
        row = np.zeros(len(free), np.int64)
        row[free] = np.diff(cuts, prepend=0, append=total)
        rows.append(tuple(row.tolist()))
    return tuple(rows)


def share_out(weights: npt.NDArray[np.generic], total: int) -> tuple[int, ...]:
    """Share a number of blocks out in proportion, by largest remainder; ties go to the first."""
    shares = np.asarray(weights, np.float64)
    exact = shares / shares.sum() * total
    blocks = np.floor(exact + RELATIVE_TOLERANCE).astype(np.int64)
    blocks[np.argsort(blocks - exact, kind="stable")[: total - blocks.sum()]] += 1
    return tuple(blocks.tolist())
