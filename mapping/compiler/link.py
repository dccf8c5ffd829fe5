# SPDX-License-Identifier: Apache-2.0
"""Linking pass: the command lists become bytes behind everything else in the memory image."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from common.errors import UnsupportedError
from hw.commands import CommandError, check, command_list, encode
from hw.core import CoreConfig
from hw.interface import COMMAND_BYTES, COMMANDS, TRANSFER_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.channels import ChannelOrder
from mapping.compiler.cycle_law import cycle_law
from mapping.compiler.emit import LOAD, STORE, EmittedPart
from mapping.compiler.graph import Graph
from mapping.compiler.place import Image
from mapping.compiler.plan import CapacityError
from mapping.compiler.program import PartReport, Section
from mapping.compiler.regions import ceil_div
from mapping.compiler.schedule import Entry, Schedule


def link(
    graph: Graph, cores: Sequence[CoreConfig], schedules: Sequence[Schedule], image: Image, mem_bytes: int
) -> tuple[Section, ...]:
    """Place the command lists; return the sections: for each unit that has work its list and where it lies.

    Afterwards the bytes at these addresses decode to the lists, and the whole image lies inside the memory.

    Args:
        graph: the graph, for messages.
        cores: the units of the system.
        schedules: their lists, section by section.
        image: the memory image that takes them.
        mem_bytes: size of the memory.

    Raises:
        UnsupportedError: a layer beyond a command's fields.
        CapacityError: the memory is too small.
    """
    sections = []
    for schedule in schedules:
        lists = {core.name: items for core, items in zip(cores, schedule.lists, strict=True) if items}
        starts = {unit: (_placed(graph, entries, image), len(entries)) for unit, entries in lists.items()}
        sections.append(Section(lists, starts, schedule.cycles))
    if image.base > mem_bytes:
        enough = max(1, (1 << (image.base - 1).bit_length()) >> 20)
        raise CapacityError(
            f"{graph.name!r}: its memory image ends at {image.base} bytes; the memory has {mem_bytes}; give "
            f"the system's file memory_mib: {enough}"
        )
    return tuple(sections)


def _placed(graph: Graph, entries: Sequence[Entry], image: Image) -> int:
    """Return the address of a list, which the image takes if it has bytes."""
    words = []
    for entry in entries:
        engine = entry.engine if COMMANDS[entry.name][2] is None else None
        try:
            if image.sizes_only:
                check(entry.name, entry.fields)
            else:
                words.append(encode(entry.name, engine=engine, **entry.fields))
        except CommandError as error:
            raise UnsupportedError(
                f"layer {graph.ops[entry.layer].name!r} is beyond a command: {error}"
            ) from None
    return (
        image.reserve(len(entries) * COMMAND_BYTES) if image.sizes_only else image.place(command_list(words))
    )


def reports(
    graph: Graph, parts: Collection[EmittedPart], orders: Mapping[str, ChannelOrder], word_cycles: int
) -> tuple[PartReport, ...]:
    """Return what is known of each part, in the order of the graph and of the units.

    Args:
        graph: the graph.
        parts: the parts.
        orders: the order of every value's channels.
        word_cycles: cycles that the port takes for 16 bytes.
    """
    ordered = sorted(parts, key=lambda part: (part.index, part.unit))
    return tuple(_report(graph, part, orders, word_cycles) for part in ordered)


def _report(
    graph: Graph, part: EmittedPart, orders: Mapping[str, ChannelOrder], word_cycles: int
) -> PartReport:
    op = part.op
    law = cycle_law(op, part.core, part.physical_channels, part.in_channels, part.slides)
    in_words = sum(parameters.bytes for parameters in part.parameters) // TRANSFER_WORD_BYTES
    inputs = {item.name: item for item in graph.inputs}
    for name in op.sources:
        if name in inputs:
            in_words += inputs[name].pixels * ceil_div(orders[name].physical_channels, CHANNEL_BLOCK)
    blocks = ceil_div(part.physical_channels, CHANNEL_BLOCK)
    out_words = op.pixels * blocks if op.name in graph.outputs else 0
    return PartReport(
        layer=op.name,
        unit=part.core.name,
        channels=part.channels,
        macs=op.macs * part.channels // op.shape[2],
        law_cycles=law,
        bound_cycles=max(law, word_cycles * in_words, word_cycles * out_words),
        load_bytes=part.moved_bytes(LOAD),
        store_bytes=part.moved_bytes(STORE),
        commands=len(part.commands),
        mark=part.mark,
    )
