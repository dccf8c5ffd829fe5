# SPDX-License-Identifier: Apache-2.0
"""Cuts: a graph falls into sections between which its units may run something else.

A section is a run of operators with a list of its own for each unit that has work in it. When it starts,
nothing is in the scratchpads and no token or event is outstanding: what it reads of sections before it is in
memory, and its weights are loaded anew. Only tensors that a later section reads are stored for that; what a
section makes and reads itself stays in the scratchpads as in a graph that is not cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import NpuloopError
from mapping.compiler.graph import Graph


class CutError(NpuloopError):
    """A cut after a layer that the graph does not have, after its last one, or out of order."""


def sections_of(graph: Graph, cuts: Sequence[str]) -> tuple[range, ...]:
    """Return the places in the graph of the operators of each section.

    Args:
        graph: the graph.
        cuts: layers after each of which it is cut, in the order of the graph.

    Raises:
        CutError: a cut that cannot be.
    """
    names = [op.name for op in graph.ops]
    places = [0]
    for name in cuts:
        if name not in names:
            raise CutError(
                f"{graph.name!r}: cannot be cut after {name!r}, which is no layer that runs on a unit; "
                f"there are {', '.join(names)}"
            )
        place = names.index(name) + 1
        if place == len(names):
            raise CutError(f"{graph.name!r}: nothing comes after its last layer {name!r}; leave that cut out")
        if place <= places[-1]:
            raise CutError(
                f"{graph.name!r}: the cut after {name!r} comes before or with the one after "
                f"{names[places[-1] - 1]!r}; name each cut once, in the order of the layers"
            )
        places.append(place)
    return tuple(range(first, end) for first, end in zip(places, [*places[1:], len(names)], strict=True))
