# SPDX-License-Identifier: Apache-2.0
"""Mappings brought to a cost: as near below a target as can be, or with more weight bits for the same cost.

Cost changes of steps add up well enough to choose by: what a step cost when it was last tried says which to
try next, and only that one is priced anew.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from mapping.search.baselines import cheapest, feasible_range, most_precise
from mapping.search.costs import MapError, NetworkCosts, State
from mapping.search.preferences import Agreement
from mapping.search.states import (
    RELATIVE_TOLERANCE,
    Move,
    draw_state,
    every_state,
    moves_of,
    number_of_states,
    weight_bits,
)

BUDGET = 400
"""Cost evaluations that `fit` may make, unless it is told otherwise."""
TRIES = 16
"""Pairs of steps that `fit` prices before it gives up."""
MAXIMUM_RESTARTS = 6
"""How often `fit` restarts: from the most precise mapping, then near the best one."""
MAXIMUM_RESTARTS_OUTSIDE = 40
"""The same while no mapping is in the window; then also from random mappings."""
PERTURBATION_STEPS = 4
"""Most random steps away from the best mapping when `fit` restarts near it."""


def upgrade(costs: NetworkCosts, state: State, agreement: Agreement, limit: float | None = None) -> State:
    """Return a mapping with more weight bits that costs no more.

    Takes steps to units with wider weights that keep the cost within the limit, until none is left: first
    those that gain most bits for each channel, of these the ones with most agreement.

    Args:
        costs: the network.
        state: where to start.
        agreement: what channels prefer.
        limit: of the cost; by default what `state` costs. Where that is above the limit, only steps below it
            are taken.

    Raises:
        NpuloopError: see `NetworkCosts.cost`.
    """
    limit = costs.cost(state) if limit is None else limit
    bits = weight_bits(costs)
    moves = [move for move in moves_of(costs) if bits[move.taker] > bits[move.giver]]
    improved = True
    while improved:
        improved = False
        ranked = sorted(
            (bits[move.giver] - bits[move.taker], -agreement(move(state)), at)
            for at, move in enumerate(moves)
        )
        for _, _, at in ranked:
            after = moves[at](state)
            if after != state and costs.cost(after) <= limit:
                state, improved = after, True
    return state


def fit(
    costs: NetworkCosts,
    state: State,
    agreement: Agreement,
    target: float,
    tolerance: float = 0.02,
    *,
    whole: bool = False,
    budget: int = BUDGET,
    seed: int = 0,
    what: str = "cycles",
) -> State:
    """Return a mapping that costs a little less than a target, with as much agreement as is found nearby.

    Below the target by the steps that lose least agreement for what they save; up again by those that gain
    agreement, and where that leaves it too cheap, by those to wider weights; then pairs of steps that gain
    agreement at about the same cost, or reach the window; then all of it from random places nearby. Of few
    mappings, no more than the budget, each is priced instead.

    Args:
        costs: the network.
        state: where to start, such as `nearest`.
        agreement: what channels prefer.
        target: the most that it may cost.
        tolerance: the cost is to be (1 - tolerance) * target or more.
        whole: layers are not split; those that `state` splits begin on the unit that has most of them.
        budget: about how many cost evaluations may be made; the search for the cheapest mapping, where the
            target is near it, not counted.
        seed: of the random places.
        what: unit of the cost, for messages.

    Returns:
        The mapping; where none was found in the window, one below the target, as near as found; where whole
        layers cannot reach the target, the cheapest of whole layers found.

    Raises:
        MapError: the target is below the cheapest mapping or above the most precise one.
        NpuloopError: see `NetworkCosts.cost`.
    """
    precise = most_precise(costs)
    if (1 - tolerance) * target > costs.cost(precise):
        raise _unmet(costs, target, what)
    search = _Fit(costs, agreement, moves_of(costs, whole), target, tolerance, budget)
    rng = np.random.default_rng(seed)
    if whole:
        state = tuple(costs.whole(layer, int(np.argmax(blocks))) for layer, blocks in enumerate(state))
    if number_of_states(costs, whole) <= budget:
        for each in every_state(costs, whole):
            search.cost(each)
        if search.best is not None:
            return search.best
    search.improve(state)
    if search.best is None:
        lowest = cheapest(costs, whole=whole)
        if costs.cost(lowest) > target:
            if whole:
                return lowest
            raise _unmet(costs, target, what)
        search = _Fit(costs, agreement, search.moves, target, tolerance, budget)
        search.improve(lowest)
    for attempt in range(MAXIMUM_RESTARTS_OUTSIDE):
        best = search.best or state
        near = costs.cost(best) >= search.low
        if not search.left or (attempt >= MAXIMUM_RESTARTS and near):
            break
        if attempt == 0:
            place = precise
        elif near or attempt % 2:
            place = best
            for _ in range(int(rng.integers(1, PERTURBATION_STEPS + 1))):
                place = search.moves[int(rng.integers(len(search.moves)))](place)
        else:
            place = draw_state(costs, rng, whole)
        search.improve(place)
    return search.best or state


def check_target(costs: NetworkCosts, target: float, tolerance: float = 0.02, what: str = "cycles") -> None:
    """Refuse a target that `fit` cannot meet with layers split as they need be.

    Args:
        costs: the network.
        target, tolerance, what: see `fit`.

    Raises:
        MapError: the target is below the cheapest mapping found, or above the most precise one.
    """
    least, most = feasible_range(costs)
    if target < least or (1 - tolerance) * target > most:
        raise _unmet(costs, target, what)


def _unmet(costs: NetworkCosts, target: float, what: str) -> MapError:
    least, most = feasible_range(costs)
    pinned = "" if costs.allowed.all() else ", or pin fewer layers"
    return MapError(
        f"target of {_number(target)} {what} cannot be met: mappings of {costs.name!r} take "
        f"{_number(least)} to {_number(most)}; give a target in this range{pinned}"
    )


def _number(value: float) -> str:
    """Return a cost for a message, not below what it is."""
    return f"{math.ceil(value):,}" if value >= 100 else f"{value:.4g}"


class _Fit:
    """The search of `fit`.

    Attributes:
        moves: all steps.
        low, target: the window of costs.
        best: the best mapping at or below the target of all that were priced, if any; see `rank`.
    """

    def __init__(
        self,
        costs: NetworkCosts,
        agreement: Agreement,
        moves: Sequence[Move],
        target: float,
        tolerance: float,
        budget: int,
    ) -> None:
        self.costs = costs
        self.agreement = agreement
        self.target = target
        self.low = (1 - tolerance) * target
        self.budget = budget
        self.moves = moves
        self.best: State | None = None
        self._priced: set[State] = set()
        self._changes: dict[Move, float] = {}
        bits = weight_bits(costs)
        self._wider = {move for move in self.moves if bits[move.taker] > bits[move.giver]}

    @property
    def left(self) -> bool:
        """Whether it may go on. Mappings count that were known before, too: the end depends on no history."""
        return len(self._priced) < self.budget

    def cost(self, state: State) -> float:
        cost = self.costs.cost(state)
        if state not in self._priced:
            self._priced.add(state)
            if cost <= self.target and (self.best is None or self.rank(state) > self.rank(self.best)):
                self.best = state
        return cost

    def rank(self, state: State) -> tuple[float, float]:
        """Return how good a mapping below the target is: first near it, then in agreement."""
        return min(self.costs.cost(state), self.low), self.agreement(state)

    def improve(self, state: State) -> None:
        """Go from a mapping to below the target, into the window if possible, and to more agreement."""
        best = self._repeat(self._down, state)
        place = best if self.cost(best) <= self.target else None
        while place is not None:
            agreeing = self._repeat(self._up, place)
            filled = self._repeat(self._fill, agreeing)
            best = max(best, place, agreeing, filled, key=self.rank)
            place = self._within(best)

    # ----------------------------------------------------------------------------------------- kinds of steps
    def _down(self, state: State) -> State | None:
        """Take the step to the target that loses least agreement for what it saves."""
        excess = self.cost(state) - self.target
        if excess <= 0:
            return None
        return self._best(
            state,
            lambda _, gain, change: (
                -gain / min(-change, excess) if change < -RELATIVE_TOLERANCE * self.target else None
            ),
        )

    def _up(self, state: State) -> State | None:
        """Take the step that gains most agreement for what it costs."""
        room = self.target - self.cost(state)
        least = 1e-3 * self.target
        return self._best(
            state,
            lambda _, gain, change: (
                -gain / max(change, least) if gain > RELATIVE_TOLERANCE and change <= room else None
            ),
        )

    def _fill(self, state: State) -> State | None:
        """Below the window, take the step to wider weights that loses least agreement for what it adds."""
        cost = self.cost(state)
        if cost >= self.low:
            return None
        return self._best(
            state,
            lambda move, gain, change: (
                (RELATIVE_TOLERANCE - gain) / change
                if move in self._wider and RELATIVE_TOLERANCE * self.target < change <= self.target - cost
                else None
            ),
        )

    def _within(self, state: State) -> State | None:
        """Take a step or two that reach the window, or gain agreement within it."""
        cost, agreed, rank = self.cost(state), self.agreement(state), self.rank(state)
        steps = []
        for move in self.moves:
            after = move(state)
            if after != state and self.left:
                steps.append((move, self._change(state, move), self.agreement(after) - agreed))
        choices: list[tuple[float, int, list[Move]]] = []
        for chosen in itertools.chain(itertools.combinations(steps, 1), itertools.combinations(steps, 2)):
            layers = [layer for move, _, _ in chosen for layer in move.layers]
            gain = sum(gained for _, _, gained in chosen)
            expected = cost + sum(change for _, change, _ in chosen)
            if (
                self.low <= expected <= self.target
                and len(layers) == len(set(layers))
                and (cost < self.low or gain > RELATIVE_TOLERANCE)
            ):
                choices.append((-gain, len(choices), [move for move, _, _ in chosen]))
        for _, _, moves in heapq.nsmallest(TRIES, choices):
            after = state
            for move in moves:
                after = move(after)
            if self.left and self.cost(after) <= self.target and self.rank(after) > rank:
                return after
        return None

    # ------------------------------------------------------------------------------------------------ helpers
    def _repeat(self, step: Callable[[State], State | None], state: State) -> State:
        while (after := step(state)) is not None:
            state = after
        return state

    def _change(self, state: State, move: Move) -> float:
        """Return what a step changes the cost by, and keep it as a guess for other mappings."""
        self._changes[move] = self.cost(move(state)) - self.cost(state)
        return self._changes[move]

    def _best(self, state: State, score: Callable[[Move, float, float], float | None]) -> State | None:
        """Return the mapping after the step with the least score of (step, agreement gained, cost added).

        Steps are tried in the order of what they changed when last tried, until the best one is up to date.
        """
        agreed = self.agreement(state)
        queue: list[tuple[float, int, bool]] = []

        def push(at: int, fresh: bool) -> None:
            move = self.moves[at]
            value = score(move, self.agreement(move(state)) - agreed, self._changes[move])
            heapq.heappush(queue, (math.inf if value is None else value, at, fresh))

        for at, move in enumerate(self.moves):
            if move(state) != state and self.left:
                if move not in self._changes:
                    self._change(state, move)
                push(at, fresh=False)
        while queue and self.left:
            value, at, fresh = heapq.heappop(queue)
            if fresh:
                return None if value == math.inf else self.moves[at](state)
            self._change(state, self.moves[at])
            push(at, fresh=True)
        return None
