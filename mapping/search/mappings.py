"""Whole mappings: rounded from what channels prefer, brought to a cost, the cheapest, random, of plain rules.

All work on `State`s, blocks of channels of each layer on each unit, and price them exactly with
`NetworkCosts`. The steps are the same everywhere (`moves_of`): one block, all that a layer has on a unit, or
either for all layers of a group that share an order of channels; in a group one layer alone often only costs,
as its channels then lie in other places than those of the others.

Cost changes of steps add up well enough to choose by: what a step cost when it was last tried says which to
try next, and only that one is priced anew.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import ShapeError
from mapping.search.costs import Floats, MapError, NetworkCosts, State, moved

BUDGET = 400
"""Mappings that `fit` and `random_state` may look at, unless they are told otherwise."""
RANDOM_STARTS = 4
"""Random mappings from which `cheapest` may start, beside the plain ones."""
DESCENTS = 3
"""How many of them it descends from: the cheapest."""
PAIRS = 40
"""Pairs of steps that `cheapest` prices before it gives up."""
TRIES = 16
"""The same of `fit`."""
AGAIN = 6
"""How often `fit` starts again: from the most precise mapping, then near the best one."""
RESTARTS = 40
"""The same while no mapping is in the window; then also from random mappings."""
KICKS = 4
"""Most random steps away from the best one."""
NOTHING = 1e-9
"""Changes of cost (relative) and of agreement below this are rounding."""


# --------------------------------------------------------------------------------------------- preferences
class Agreement:
    """How far a mapping gives channels the units that they prefer.

    Args:
        costs: the network.
        preferences: for each layer (K, U): how much each channel wants each unit; rows sum to 1.

    Attributes:
        orders: see `channel_orders`.

    Raises:
        ShapeError: preferences of another shape.
    """

    def __init__(self, costs: NetworkCosts, preferences: Sequence[Floats]) -> None:
        self.orders = channel_orders(costs, preferences)
        self._sizes = costs.blocks
        self._channels = costs.channels
        self._sums = []
        for name, wanted in zip(costs.layers, preferences, strict=True):
            sums = np.zeros((len(wanted) + 1, len(costs.units)))
            np.cumsum(wanted[self.orders[name]], axis=0, out=sums[1:])
            self._sums.append(sums.tolist())
        self._known: dict[tuple[int, tuple[int, ...]], float] = {}

    def __call__(self, state: State) -> float:
        """Return the mean, over all channels, of the preference for the unit that they get; 0 to 1."""
        total = sum(self.layer(layer, blocks) for layer, blocks in enumerate(state))
        return total / sum(self._channels)

    def layer(self, layer: int, blocks: tuple[int, ...]) -> float:
        """Return the sum over a layer's channels, with (U) blocks on the units."""
        key = (layer, blocks)
        if key not in self._known:
            sums, end, place, found = self._sums[layer], 0, 0, 0.0
            for unit, count in enumerate(blocks):
                end += count * self._sizes[layer]
                start, place = place, min(end, self._channels[layer])
                found += sums[place][unit] - sums[start][unit]
            self._known[key] = found
        return self._known[key]


def channel_orders(costs: NetworkCosts, preferences: Sequence[Floats]) -> dict[str, npt.NDArray[np.int64]]:
    """Return the order in which each layer's channels go to the units, as `NetworkCosts.mapping` takes it.

    Layers that share an order of channels get one: by the sum, over these layers, of the index of the unit
    that a channel expects, sum_u u p_u; channels that expect the same stay in their natural order.

    Args:
        costs: the network.
        preferences: for each layer (K, U); rows sum to 1.

    Returns: for each layer (K,), the channels of the first unit first.
    Raises: ShapeError for preferences of another shape.
    """
    _check(costs, preferences)
    orders = {}
    for members in costs.shared:
        expected = sum(preferences[layer] @ np.arange(len(costs.units)) for layer in members)
        order = np.argsort(expected, kind="stable")
        orders.update({costs.layers[layer]: order for layer in members})
    return {name: orders[name] for name in costs.layers}


def nearest(costs: NetworkCosts, preferences: Sequence[Floats], whole: bool = False) -> State:
    """Return the mapping in which each unit has the channels that it is expected to have, rounded to blocks.

    Only units that may run a layer get any. Blocks left over go where most is missing.

    Args:
        costs: the network.
        preferences: for each layer (K, U).
        whole: layers are not split: each goes to the unit that is expected to have most of it.

    Raises:
        ShapeError: preferences of another shape.
    """
    _check(costs, preferences)
    rows = []
    for layer, wanted in enumerate(preferences):
        expected = np.where(costs.allowed[layer], wanted, 0.0).sum(axis=0)
        if not expected.any():  # no channel wants what it may have
            expected = costs.allowed[layer].astype(np.float64)
        rows.append(
            costs.whole(layer, int(expected.argmax())) if whole else _rounded(expected, costs.totals[layer])
        )
    return tuple(rows)


def _check(costs: NetworkCosts, preferences: Sequence[Floats]) -> None:
    shapes = [tuple(np.shape(wanted)) for wanted in preferences]
    needed = [(channels, len(costs.units)) for channels in costs.channels]
    if shapes != needed:
        raise ShapeError(f"preferences have shapes {shapes}; the layers of {costs.name!r} need {needed}")


def _rounded(weights: npt.NDArray[np.generic], total: int) -> tuple[int, ...]:
    """Share a number of blocks out in proportion, by largest remainder; ties go to the first."""
    shares = np.asarray(weights, np.float64)
    exact = shares / shares.sum() * total
    blocks = np.floor(exact + NOTHING).astype(np.int64)
    blocks[np.argsort(blocks - exact, kind="stable")[: total - blocks.sum()]] += 1
    return tuple(blocks.tolist())


# --------------------------------------------------------------------------------------------------- steps
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


def _bits(costs: NetworkCosts) -> tuple[int, ...]:
    """Return the width of each unit's weights."""
    return tuple(core.w_bits for core in costs.config.cores)


# ------------------------------------------------------------------------------------------- plain mappings
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
    bits = _bits(costs)
    return [min(units, key=lambda unit: (bits[unit], unit)), max(units, key=lambda unit: (bits[unit], -unit))]


# ------------------------------------------------------------------------------------------------- cheapest
def cheapest(costs: NetworkCosts, seed: int = 0, whole: bool = False) -> State:
    """Return a mapping that no step makes cheaper, and none of the likeliest pairs in neighbouring layers.

    Descends from the cheapest of: everything on each unit, halves, some random mappings. It is no proof: of
    small networks it is the cheapest (tested), of large ones the cheapest found.

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
            tuple(_rounded(free, total) for free, total in zip(costs.allowed, costs.totals, strict=True))
        )
    starts += [_drawn(costs, rng, whole) for _ in range(RANDOM_STARTS)]
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
        if costs.cost(after) < costs.cost(state) * (1 - NOTHING):
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
        if costs.cost(after) < costs.cost(state) * (1 - NOTHING):
            return after
    return None


# --------------------------------------------------------------------------------------------------- random
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
        budget: how many mappings may be looked at.

    Returns: the first mapping within the tolerance, or the nearest found.
    Raises: NpuloopError, see `NetworkCosts.cost`.
    """
    moves = moves_of(costs)
    priced: set[State] = set()

    def distance(state: State) -> float:
        priced.add(state)
        return abs(costs.cost(state) - cost)

    best = _drawn(costs, rng)
    starts = 1 + budget // (len(moves) + 1)
    for start in range(starts):
        state = _drawn(costs, rng) if start else best
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


def _drawn(costs: NetworkCosts, rng: np.random.Generator, whole: bool = False) -> State:
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


# ---------------------------------------------------------------------------------------------- all of them
def _number_of_states(costs: NetworkCosts, whole: bool) -> int:
    units = costs.allowed.sum(axis=1).tolist()
    if whole:
        return math.prod(units)
    return math.prod(
        math.comb(total + free - 1, free - 1) for total, free in zip(costs.totals, units, strict=True)
    )


def _every_state(costs: NetworkCosts, whole: bool) -> Iterator[State]:
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


# ------------------------------------------------------------------------------------------------- upgrades
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
    bits = _bits(costs)
    moves = [move for move in moves_of(costs) if bits[move.taker] > bits[move.giver]]
    again = True
    while again:
        again = False
        ranked = sorted(
            (bits[move.giver] - bits[move.taker], -agreement(move(state)), at)
            for at, move in enumerate(moves)
        )
        for _, _, at in ranked:
            after = moves[at](state)
            if after != state and costs.cost(after) <= limit:
                state, again = after, True
    return state


# ------------------------------------------------------------------------------------------ to a given cost
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
    mappings, no more than the budget, each is looked at instead.

    Args:
        costs: the network.
        state: where to start, such as `nearest`.
        agreement: what channels prefer.
        target: the most that it may cost.
        tolerance: the cost is to be (1 - tolerance) * target or more.
        whole: layers are not split; those that `state` splits begin on the unit that has most of them.
        budget: about how many mappings may be looked at; the search for the cheapest one, where the target is
            near it, not counted.
        seed: of the random places.
        what: unit of the cost, for messages.

    Returns: the mapping; where none was found in the window, one below the target, as near as found; where
        whole layers cannot reach the target, the cheapest of whole layers found.
    Raises: MapError for a target below the cheapest mapping or above the most precise one; otherwise see
        `NetworkCosts.cost`.
    """
    precise = most_precise(costs)
    if (1 - tolerance) * target > costs.cost(precise):
        raise _unmet(costs, target, what)
    search = _Fit(costs, agreement, moves_of(costs, whole), target, tolerance, budget)
    rng = np.random.default_rng(seed)
    if whole:
        state = tuple(costs.whole(layer, int(np.argmax(blocks))) for layer, blocks in enumerate(state))
    if _number_of_states(costs, whole) <= budget:
        for each in _every_state(costs, whole):
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
    for attempt in range(RESTARTS):
        best = search.best or state
        near = costs.cost(best) >= search.low
        if not search.left or (attempt >= AGAIN and near):
            break
        if attempt == 0:
            place = precise
        elif near or attempt % 2:
            place = best
            for _ in range(int(rng.integers(1, KICKS + 1))):
                place = search.moves[int(rng.integers(len(search.moves)))](place)
        else:
            place = _drawn(costs, rng, whole)
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
        bits = _bits(costs)
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
            lambda _, gain, change: -gain / min(-change, excess) if change < -NOTHING * self.target else None,
        )

    def _up(self, state: State) -> State | None:
        """Take the step that gains most agreement for what it costs."""
        room = self.target - self.cost(state)
        least = 1e-3 * self.target
        return self._best(
            state,
            lambda _, gain, change: -gain / max(change, least) if gain > NOTHING and change <= room else None,
        )

    def _fill(self, state: State) -> State | None:
        """Below the window, take the step to wider weights that loses least agreement for what it adds."""
        cost = self.cost(state)
        if cost >= self.low:
            return None
        return self._best(
            state,
            lambda move, gain, change: (
                (NOTHING - gain) / change
                if move in self._wider and NOTHING * self.target < change <= self.target - cost
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
                and (cost < self.low or gain > NOTHING)
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
