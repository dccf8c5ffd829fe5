# SPDX-License-Identifier: Apache-2.0
"""What a mapping of a network costs, in place, and how that changes with the channels on each unit.

A layer's cost depends on its neighbours: what one unit makes and another reads crosses the memory, and units
work at the same time on different layers. So the price of a mapping is that of the whole network's command
lists, and the gradient of a layer's channels is what moving one block of them changes there, all other layers
as they are.

Between blocks the cost is interpolated multilinearly, by sampling: expected channels are rounded to blocks at
random, without bias, and each layer is tried at the other end of its cell. The mean over samples is the
gradient of the interpolation: the average slope over a block of columns. (The straight-through gradient of a
ceil is 1 for each block instead of for each channel: wrong by the width of the block.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from common.arrays import Bools, Floats, Int64
from common.errors import NpuloopError
from golden.layer import WEIGHTED_OPS
from golden.network import Network
from hw.system import System
from mapping.compiler.channels import ChannelAssignment, order_groups
from mapping.compiler.compile import compile_graph
from mapping.compiler.graph import Graph, Op
from mapping.compiler.legalise import legalise_network
from mapping.compiler.program import Program
from mapping.compiler.regions import ceil_div
from mapping.cost.differentiable import block_channels

State: TypeAlias = tuple[tuple[int, ...], ...]
"""Blocks of output channels of each layer with weights (L) on each unit (U), the first unit's first."""
Price: TypeAlias = Callable[[Program], float]
"""The cost of compiled command lists, such as their predicted cycles."""


class MapError(NpuloopError):
    """A search that cannot be: a layer that no unit can run, a pin or a target that cannot be met."""


@dataclass(frozen=True)
class Sample:
    """The cost near some expected channels, rounded at random.

    Attributes:
        state: the rounded channels.
        cost: of that state.
        slopes: (L, U) cost of one more channel on a unit, up to a constant for each layer: only differences
            between units count, as the channels of a layer are given. 0 where a layer has no choice.
    """

    state: State
    cost: float
    slopes: Floats


class NetworkCosts:
    """Prices of the mappings of one network on one system.

    Args:
        network: the network; its weights do not matter.
        config: the system.
        price: what is to be paid; see `Price`.
        pins: units of layers that are not free, by layer.

    Attributes:
        layers: (L) names of the layers with weights, in order. Others follow the maker of their input.
        ops: (L) their operators, as in the network.
        channels: (L) their output channels.
        blocks: (L) channels of a block, which move together: what the narrowest array makes in one pass.
        totals: (L) number of blocks.
        units: (U) names of the units.
        allowed: (L, U) which unit may run which layer.
        evaluations: how many mappings have been compiled and priced.

    Raises:
        MapError: an unknown pin, or a layer that no unit can run.
    """

    def __init__(
        self, network: Network, config: System, price: Price, pins: Mapping[str, str] | None = None
    ) -> None:
        self.name = network.name
        self.config = config
        self.price = price
        self.graph = legalise_network(network)
        free = {node.name: node.op for node in network.nodes if node.op in WEIGHTED_OPS}
        ops = [op for op in self.graph.ops if op.name in free]
        self.layers = tuple(op.name for op in ops)
        self.ops = tuple(free[name] for name in self.layers)
        self.channels = tuple(op.shape[2] for op in ops)
        self.blocks = tuple(
            min(block_channels(self.ops[layer], core) for core in config.cores) for layer in range(len(ops))
        )
        self.totals = tuple(
            ceil_div(channels, size) for channels, size in zip(self.channels, self.blocks, strict=True)
        )
        self.units = tuple(core.name for core in config.cores)
        self.evaluations = 0
        self._known: dict[State, float] = {}
        self._groups = order_groups(self.graph)
        self.allowed = self._possible()
        self._pin(pins or {})

    # ------------------------------------------------------------------------------------------------ prices
    def cost(self, state: State) -> float:
        """Return the price of a mapping.

        Raises:
            NpuloopError: the compiler refuses it.
        """
        if state not in self._known:
            self.evaluations += 1
            self._known[state] = self.price(self.program(state))
        return self._known[state]

    def program(self, state: State) -> Program:
        """Return the network's command lists, without a memory image; errors as `cost`."""
        return self._compiled(self.graph, self.mapping(state))

    def _compiled(self, graph: Graph, units: Mapping[str, ChannelAssignment]) -> Program:
        return compile_graph(
            graph, self.config.cores, units, mem_bytes=self.config.mem_bytes,
            port_bytes=self.config.axi_bits // 8, image_wanted=False,
        )  # fmt: skip

    def mapping(self, state: State, order: Mapping[str, Int64] | None = None) -> dict[str, ChannelAssignment]:
        """Return the unit of every output channel of every operator, as the compiler takes it.

        Args:
            state: how many blocks are on which unit.
            order: for each layer its channels, (K,), in the order in which they go to the units, the first
                ones to the first unit; by default their natural order. Layers that share an order of
                channels must have one here; see `shared`.
        """
        parts = {
            name: np.repeat(np.arange(len(self.units)), counts)
            for name, counts in zip(self.layers, self.counts(state), strict=True)
        }
        for name, ranks in (order or {}).items():
            placed = np.empty_like(parts[name])
            placed[ranks] = parts[name]
            parts[name] = placed
        units: dict[str, ChannelAssignment] = {}
        for op in self.graph.ops:
            units[op.name] = parts[op.name] if op.name in parts else self._follow(op, units)
        return units

    def _follow(self, op: Op, units: Mapping[str, ChannelAssignment]) -> ChannelAssignment:
        """Return the units of an operator without weights: those of the source that is made last."""
        sources = [name for name in units if name in op.sources]
        return units[sources[-1]] if sources else np.zeros(op.shape[2], np.int64)

    @property
    def shared(self) -> tuple[tuple[int, ...], ...]:
        """The layers, by index, whose outputs have one order of channels, as those that an addition joins."""
        together: dict[str, list[int]] = {}
        for index, name in enumerate(self.layers):
            together.setdefault(self._groups[name], []).append(index)
        return tuple(tuple(members) for members in together.values())

    # ------------------------------------------------------------------------------------------------ states
    def counts(self, state: State) -> tuple[tuple[int, ...], ...]:
        """Return the output channels of every layer on every unit, (L, U); the last block may be smaller."""
        rows = []
        for blocks, size, channels in zip(state, self.blocks, self.channels, strict=True):
            ends = np.minimum(np.cumsum(blocks) * size, channels)
            rows.append(tuple(np.diff(ends, prepend=0).tolist()))
        return tuple(rows)

    def uniform(self, unit: str) -> State:
        """Return the mapping of everything to a unit, but for layers that must be elsewhere."""
        column = self.units.index(unit)
        columns = [column if free[column] else int(free.argmax()) for free in self.allowed]
        return tuple(self.whole(layer, chosen) for layer, chosen in enumerate(columns))

    def whole(self, layer: int, unit: int) -> tuple[int, ...]:
        """Return a layer's blocks with all of them on one unit."""
        return tuple(self.totals[layer] if u == unit else 0 for u in range(len(self.units)))

    def sample(self, expected: Floats, rng: np.random.Generator, whole: bool = False) -> Sample:
        """Round expected channels to blocks at random, and price that mapping and its neighbours.

        Args:
            expected: (L, U) channels; each row sums to the layer's, with 0 where `allowed` is not.
            rng: draws the rounding; its mean is `expected`.
            whole: layers are not split: a layer is one block.

        Returns:
            The sample; the mean of its slopes is the gradient of the multilinear interpolation.

        Raises:
            NpuloopError: see `cost`.
        """
        sizes = np.array(self.totals) if whole else np.ones(len(self.totals), int)
        rows, givers = [], []
        for layer, share in enumerate(expected):
            exact = share / self.channels[layer] * self.totals[layer] / sizes[layer]
            blocks, giver = _round(np.where(self.allowed[layer], exact, 0.0), rng)
            rows.append(tuple((blocks * sizes[layer]).tolist()))
            givers.append(giver)
        state = tuple(rows)
        cost = self.cost(state)
        slopes = np.zeros(expected.shape)
        for layer, giver in enumerate(givers):
            for taker in np.flatnonzero(self.allowed[layer]).tolist():
                if taker != giver:
                    step = int(sizes[layer])
                    per_channel = self.totals[layer] / (step * self.channels[layer])
                    slopes[layer, taker] = (
                        self.cost(moved(state, layer, giver, taker, step)) - cost
                    ) * per_channel
        return Sample(state, cost, slopes)

    # ---------------------------------------------------------------------------------------- restrictions
    def _possible(self) -> Bools:
        """Return which unit can run which layer."""
        allowed = np.ones((len(self.layers), len(self.units)), bool)
        for layer, op in enumerate(op for op in self.graph.ops if op.name in self.layers):
            sources = tuple(self.graph.values[name] for name in op.sources)
            alone = Graph(op.name, sources, (op,), (op.name,))
            refusal: NpuloopError | None = None
            for column in range(len(self.units)):
                error = self._refusal(alone, column)
                allowed[layer, column] = error is None
                refusal = error or refusal
            if not allowed[layer].any():
                raise MapError(f"network {self.name!r}: no unit can run layer {op.name!r} ({refusal})")
        return allowed

    def _refusal(self, alone: Graph, unit: int) -> NpuloopError | None:
        """Return why a unit cannot run a graph of one layer, or nothing."""
        try:
            self._compiled(alone, {op.name: np.full(op.shape[2], unit) for op in alone.ops})
        except NpuloopError as error:
            return error
        return None

    def _pin(self, pins: Mapping[str, str]) -> None:
        for name, unit in pins.items():
            if name not in self.layers:
                known = ", ".join(self.layers)
                raise MapError(
                    f"pin {name}={unit}: there is no layer {name!r} with weights; there are {known}"
                )
            if unit not in self.units:
                raise MapError(f"pin {name}={unit}: no unit {unit!r}; the system has {', '.join(self.units)}")
            layer, column = self.layers.index(name), self.units.index(unit)
            if not self.allowed[layer, column]:
                raise MapError(f"pin {name}={unit}: {unit} cannot run this layer; pin it to another unit")
            self.allowed[layer] = False
            self.allowed[layer, column] = True


def moved(state: State, layer: int, giver: int, taker: int, blocks: int = 1) -> State:
    """Return a state with blocks of a layer moved from one unit to another."""
    row = list(state[layer])
    row[giver] -= blocks
    row[taker] += blocks
    return (*state[:layer], tuple(row), *state[layer + 1 :])


def _round(exact: Floats, rng: np.random.Generator) -> tuple[Int64, int]:
    """Round numbers, whose sum is whole, to whole ones with that sum; the mean of the result is `exact`.

    Returns:
        The numbers (U), and one that was rounded up, or is above 0 where none was.
    """
    total = round(float(exact.sum()))
    low = np.floor(exact + 1e-9)
    rest = np.maximum(exact - low, 0.0)
    missing = int(total - low.sum())
    up = np.zeros(len(exact), bool)
    if (
        missing
    ):  # systematic sampling: a comb of teeth one apart, at a random place, over the rests end to end
        edges = np.cumsum(rest) * (missing / rest.sum())
        teeth = np.floor(np.concatenate([[0.0], edges]) + rng.random())
        up = np.diff(teeth) > 0
    blocks = (low + up).astype(np.int64)
    givers = np.flatnonzero(up if up.any() else blocks > 0)
    return blocks, int(rng.choice(givers))
