# SPDX-License-Identifier: Apache-2.0
"""Division pass: every operator is divided into the parts that the units make of it.

A part knows what its unit makes, what it reads, and what of that it does not make itself. The passes behind
this one add to the part: `PackedPart`, `PlannedPart`, `PlacedPart`, `EmittedPart`, each a part too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hw.core import CoreConfig
from mapping.compiler.channels import (
    ChannelAssignment,
    ChannelOrder,
    ChannelRange,
    mask_of,
    ranges_of,
    ranges_where,
)
from mapping.compiler.cycle_law import slides
from mapping.compiler.graph import Graph, Op

Ranges = tuple[ChannelRange, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """What one unit makes of an operator.

    Attributes:
        index: the operator's place in the graph.
        section: which of the sections it belongs to, see `cuts`.
        op: the operator.
        unit, core: index and parameters of the unit.
        ranges: physical output channels that the unit makes.
        channels: how many channels of the network these are.
        in_channels: physical channels of the input.
        in_ranges: those of them that somebody makes.
        slides: whether a depthwise kernel slides through the array.
        loads: of each source the channels that units other than this one, or the host, or sections before
            make and that this unit reads, in this part or in another one of its section; only sources that
            have such channels.
        remote: whether another unit makes some of the input in the same section.
    """

    index: int
    section: int
    op: Op
    unit: int
    core: CoreConfig
    ranges: Ranges
    channels: int
    in_channels: int
    in_ranges: Ranges
    slides: bool
    loads: Mapping[str, Ranges]
    remote: bool

    @property
    def physical_channels(self) -> int:
        """Physical output channels that the unit makes."""
        return sum(item.count for item in self.ranges)

    @property
    def needed(self) -> Ranges:
        """The physical input channels that the part reads."""
        return self.ranges if self.op.channelwise else self.in_ranges


def divide(
    graph: Graph,
    units: Mapping[str, ChannelAssignment],
    orders: Mapping[str, ChannelOrder],
    cores: Sequence[CoreConfig],
    sections: Sequence[range],
) -> tuple[Part, ...]:
    """Return the parts: unit by unit, as they first have work, each unit's in the order of the graph.

    Afterwards every physical channel that is made at all (`ChannelOrder.made`) is made by exactly one part,
    and what of these a part reads is made by its own unit in the same section or is in its `loads`.

    Args:
        graph: the graph.
        units: the unit of every output channel of each operator.
        orders: the order of every value's channels.
        cores: the units of the system.
        sections: places in the graph of the operators of each section, see `cuts.sections_of`.
    """
    by_unit: dict[int, dict[str, Ranges]] = {}
    for op in graph.ops:
        for unit in range(len(cores)):
            ranges = tuple(ranges_of(units[op.name], orders[op.name], unit))
            if ranges:
                by_unit.setdefault(unit, {})[op.name] = ranges
    return tuple(
        part
        for unit, ranges in by_unit.items()
        for section in range(len(sections))
        for part in _of_section(graph, units, orders, unit, cores, ranges, sections, section)
    )


def _of_section(
    graph: Graph,
    units: Mapping[str, ChannelAssignment],
    orders: Mapping[str, ChannelOrder],
    unit: int,
    cores: Sequence[CoreConfig],
    ranges: Mapping[str, Ranges],
    sections: Sequence[range],
    section: int,
) -> list[Part]:
    """Return the parts in a section of a unit that makes these ranges of each operator."""
    computed = {graph.ops[index].name for index in sections[section]}
    ranges = {name: made for name, made in ranges.items() if name in computed}
    arriving = _arriving(graph, orders, ranges)
    parts = []
    for index in sections[section]:
        op = graph.ops[index]
        if op.name not in ranges:
            continue
        loads = {name: arriving[name] for name in op.sources if name in arriving}
        parts.append(
            Part(
                index=index,
                section=section,
                op=op,
                unit=unit,
                core=cores[unit],
                ranges=ranges[op.name],
                channels=int((units[op.name] == unit).sum()),
                in_channels=orders[op.sources[0]].physical_channels,
                in_ranges=tuple(ranges_where(orders[op.sources[0]].made)),
                slides=slides(op, cores[unit]),
                loads=loads,
                remote=any(name in computed for name in loads),
            )
        )
    return parts


def _arriving(
    graph: Graph, orders: Mapping[str, ChannelOrder], ranges: Mapping[str, Ranges]
) -> dict[str, Ranges]:
    """Return for every value that a unit reads in a section the channels that it does not make itself there.

    `ranges`: what it makes of each operator of the section.
    """
    arriving: dict[str, Ranges] = {}
    for name in graph.values:
        channels = orders[name].physical_channels
        needed = np.zeros(channels, bool)
        for op in graph.ops:
            if name in op.sources and op.name in ranges:
                needed |= mask_of(ranges[op.name], channels) if op.channelwise else True
        needed &= orders[name].made & ~mask_of(ranges.get(name, ()), channels)
        if needed.any():
            arriving[name] = tuple(ranges_where(needed))
    return arriving
