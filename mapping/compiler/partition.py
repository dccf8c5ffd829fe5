# SPDX-License-Identifier: Apache-2.0
"""Which operators of a network run on the host and which on the units.

The units' part is what lies between the first and the last layer: the host makes what it reads, from the
network's inputs, and turns what it gives into the network's outputs. Both steps may have several tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from common.errors import UnsupportedError
from golden.network import HOST_OPS, Network, Node


@dataclass(frozen=True)
class Partition:
    """A network's operators by where they run, each list in an order in which it can run.

    Attributes:
        before: what the host runs on the inputs.
        units: layers, and reshapes that a layer reads and that are not the host's.
        after: what the host runs on the units' results; it reads inputs and results of `before` too. A
            reshape can be here and among `units`.
        misplaced: operators of the host between layers, which nothing runs.
    """

    before: tuple[Node, ...]
    units: tuple[Node, ...]
    after: tuple[Node, ...]
    misplaced: tuple[Node, ...]

    @property
    def leading(self) -> tuple[Node, ...]:
        """Reshapes among `units` that no layer precedes: views of inputs, or else the host's too."""
        computed = _readers([node.name for node in self.units if node.layer is not None], self.units)
        return tuple(node for node in self.units if node.layer is None and node.name not in computed)


def partition(network: Network, host_reshapes: bool = False) -> Partition:
    """Return the network's operators by where they run.

    Args:
        network: the network.
        host_reshapes: reshapes before the first layer are the host's; otherwise only those are that an
            operator of the host reads.

    Raises:
        UnsupportedError: no operator runs on a unit.
    """
    nodes = network.nodes
    layers = [node.name for node in nodes if node.layer is not None]
    if not layers:
        raise UnsupportedError(f"network {network.name!r} has no operator that runs on a unit")
    behind = _readers(layers, nodes)
    ahead = _sources(layers, nodes)
    inputs_only = [node for node in nodes if node.layer is None and node.name not in behind]
    for_host = [node.name for node in inputs_only if node.op in HOST_OPS and node.name in ahead]
    feeding = {*for_host, *_sources(for_host, inputs_only)}
    if host_reshapes:
        feeding |= {node.name for node in inputs_only if node.name in ahead}
    before = [node for node in inputs_only if node.name in feeding]
    misplaced = [node for node in nodes if node.op in HOST_OPS and node.name in behind and node.name in ahead]
    taken = {node.name for node in (*before, *misplaced)}
    units = [
        node for node in nodes
        if node.layer is not None or (node.name in ahead and node.name not in taken)
    ]  # fmt: skip
    plain = [node for node in nodes if node.layer is None and node.name not in taken]
    wanted = {*network.output_names, *_sources(network.output_names, plain)}
    after = [node for node in plain if node.name in wanted]
    return Partition(tuple(before), tuple(units), tuple(after), tuple(misplaced))


def _readers(names: Iterable[str], nodes: Iterable[Node]) -> set[str]:
    """Return the nodes that read some tensors, directly or through other nodes."""
    reached, start = set[str](), set(names)
    for node in nodes:
        if any(name in start or name in reached for name in node.inputs):
            reached.add(node.name)
    return reached


def _sources(names: Collection[str], nodes: Iterable[Node]) -> set[str]:
    """Return what some nodes read, directly or through other ones of `nodes`."""
    reached, start = set[str](), set(names)
    for node in reversed(list(nodes)):
        if node.name in start or node.name in reached:
            reached.update(node.inputs)
    return reached
