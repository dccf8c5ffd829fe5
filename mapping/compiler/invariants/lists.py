# SPDX-License-Identifier: Apache-2.0
"""What holds of the commands: after emission, scheduling and linking."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from common.arrays import Bools, Int64
from hw.commands import decode
from hw.core import CoreConfig
from hw.interface import ENGINES, TRANSFER_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.emit import COMPUTE, STORE, Access, Command, EmittedPart, commands_of
from mapping.compiler.invariants.require import require
from mapping.compiler.passes import Compilation
from mapping.compiler.regions import ceil_div
from mapping.compiler.schedule import MAX_AHEAD, Engine, Entry, Schedule


def check_emitted(compilation: Compilation) -> None:
    """Run one by one, commands read what has been written, and parts make and store all their outputs."""
    program = compilation.program
    written: dict[tuple[str, int], Bools] = {("memory", 0): _image_words(compilation)}
    section = -1
    for part in compilation.parts:
        require(part.section >= section, "sections are mixed")
        if part.section > section:  # it finds nothing in the scratchpads
            section, written = part.section, {("memory", 0): written["memory", 0]}
        for memory, size in _scratchpads(part.core).items():
            written.setdefault((memory, part.unit), np.zeros(size, bool))
        where = f"layer {part.op.name!r} on {part.core.name}"
        for command in part.commands:
            _check_parts(part, command, where)
            for memory, unit, first, end in command.reads:
                there = written[memory, unit][first:end]
                complete = len(there) == end - first and there.all()
                require(complete, f"{where}: {command.name} reads {memory} before it is written")
            for memory, unit, first, end in command.writes:
                inside = 0 <= first <= end <= len(written[memory, unit])
                require(inside, f"{where}: {command.name} writes outside {memory}")
                written[memory, unit][first:end] = True
        words = part.op.pixels * sum(ceil_div(item.count, CHANNEL_BLOCK) for item in part.ranges)
        require(_computed(part) == words, f"{where}: not all outputs are computed once")
        stored = part.moved_bytes(STORE) // TRANSFER_WORD_BYTES
        require(stored == words * part.stores, f"{where}: not all outputs are stored once")
        require(part.commands[-1].name == "mark", f"{where}: does not end with its time stamp")
    names = [part.op.name for part in compilation.parts]
    require(set(names) == {op.name for op in program.graph.ops}, "a layer has no commands")


def _check_parts(part: EmittedPart, command: Command, where: str) -> None:
    """Check that an operator works on the 16 channels of shared words that its tensors have."""
    if command.engine != COMPUTE:
        return
    fields = {"out_part": part.op.name}
    if part.op.kind != "conv2d":  # its weights say it, see `check_packed`
        fields |= dict(zip(("in_part", "in2_part"), part.op.sources, strict=False))
    for field_name, tensor in fields.items():
        before = -part.kept[tensor].first if tensor in part.kept else 0
        expected = max(0, before) // CHANNEL_BLOCK
        require(command.fields.get(field_name, 0) == expected, f"{where}: {field_name} is not {tensor!r}'s")


def _image_words(compilation: Compilation) -> Bools:
    """Return which 16-byte words of the memory hold inputs or parameters before the start."""
    program = compilation.program
    reads = [program.read_of(name) for name in program.stored]
    size = max([program.end, *(sum(item) for item in reads)])
    words = np.zeros(ceil_div(size, TRANSFER_WORD_BYTES), bool)
    filled = [program.read_of(value.name) for value in program.graph.inputs]
    for part in compilation.parts:
        for slot, item in zip(part.slots, part.parameters, strict=True):
            filled.append((slot.weights, item.weights.size))
            filled += [(slot.params[count], data.size) for count, data in item.params.items()]
    for address, count in filled:
        words[address // TRANSFER_WORD_BYTES : ceil_div(address + count, TRANSFER_WORD_BYTES)] = True
    return words


def _scratchpads(core: CoreConfig) -> dict[str, int]:
    """Return the words of each scratchpad, as accesses count them."""
    return {
        "act": core.act_kib * 1024 // core.rows,
        "weights": core.weight_kib * 1024 // TRANSFER_WORD_BYTES,
        "params": core.param_kib * 1024 // TRANSFER_WORD_BYTES,
    }


def _computed(part: EmittedPart) -> int:
    """Return how many words of 16 results a part's commands make."""
    operators = [item.fields for item in part.commands if item.engine == COMPUTE]
    return sum(
        fields["out_pixels"] * ceil_div(fields["out_channels"], CHANNEL_BLOCK)
        for fields in operators
        if not fields.get("keep")
    )


@dataclass
class _Knowledge:
    """What is known to be complete: of each engine the last command."""

    last: dict[Engine, int] = field(default_factory=dict)

    def learn(self, other: Mapping[Engine, int]) -> None:
        for engine, number in other.items():
            self.last[engine] = max(self.last.get(engine, -1), number)


def check_scheduled(compilation: Compilation) -> None:
    """The lists run to their ends; a command starts when what it depends on is known to be complete."""
    for section, scheduled in enumerate(compilation.schedules):
        _check_section(commands_of(compilation.parts, section), scheduled)


def _check_section(commands: list[Command], scheduled: Schedule) -> None:
    """Check a section by itself: nothing is outstanding before it, and nothing after it."""
    depends, results = _conflicts(commands)
    numbers: dict[int, deque[int]] = defaultdict(deque)
    for number in scheduled.sequence:
        numbers[commands[number].unit].append(number)
    knowledge: dict[Engine, _Knowledge] = defaultdict(_Knowledge)
    fences: dict[Engine, int] = {}
    tokens: dict[tuple[Engine, Engine], deque[dict[Engine, int]]] = defaultdict(deque)
    events: dict[int, deque[dict[Engine, int]]] = defaultdict(deque)
    for unit, entry in _played(scheduled, tokens, events):
        engine = (unit, entry.engine)
        known = knowledge[engine]
        if entry.name == "wait":
            known.learn(events[entry.fields["event_id"]].popleft())
            continue
        if entry.name == "signal":
            events[entry.fields["event_id"]].append(dict(known.last))
            continue
        number = numbers[unit].popleft()
        command = commands[number]
        same = (command.name, command.engine) == (entry.name, entry.engine)
        require(same and command.fields.items() <= entry.fields.items(), f"entry {entry} is not {command}")
        for other in ENGINES:
            if entry.fields.get(f"wait_{other}"):
                known.learn(tokens[(unit, ENGINES.index(other)), engine].popleft())
        where = f"command {number} ({command.name} of unit {unit})"
        for other_engine, other_number in depends[number].items():
            enough = other_engine == engine or known.last.get(other_engine, -1) >= other_number
            require(enough, f"{where} does not wait for command {other_number}")
        if entry.fields.get("fence"):
            fences[engine] = number - 1
        fenced = entry.engine != COMPUTE or results[number] <= fences.get(engine, -1)
        require(fenced, f"{where} reads results that may still be on their way")
        require(known.last.get(engine, -1) < number, f"{where} comes after a later one of its engine")
        known.last[engine] = number
        for other in ENGINES:
            if entry.fields.get(f"post_{other}"):
                queue = tokens[engine, (unit, ENGINES.index(other))]
                queue.append(dict(known.last))
                require(len(queue) <= MAX_AHEAD + 1, f"{where}: too many tokens are outstanding")
    left = any(numbers.values()) or any(tokens.values()) or any(events.values())
    require(not left, "commands, tokens or events are left over")


def _conflicts(commands: list[Command]) -> tuple[list[dict[Engine, int]], list[int]]:
    """Return for each command the last one of each engine that it conflicts with, and whose results it reads.

    Results are those of its own engine.
    """
    sizes: dict[tuple[str, int], int] = defaultdict(int)
    for command in commands:
        for memory, unit, _, end in (*command.reads, *command.writes):
            sizes[memory, unit] = max(sizes[memory, unit], end)
    engines = {(command.unit, command.engine) for command in commands}
    readers = {key: {item: np.full(size, -1) for item in engines} for key, size in sizes.items()}
    writers = {key: {item: np.full(size, -1) for item in engines} for key, size in sizes.items()}
    depends: list[dict[Engine, int]] = []
    results: list[int] = []

    def last(table: Mapping[Engine, Int64], engine: Engine, access: Access) -> int:
        return int(table[engine][access[2] : access[3]].max(initial=-1))

    for number, command in enumerate(commands):
        own = (command.unit, command.engine)
        latest = dict.fromkeys(engines, -1)
        for engine in engines:
            for access in command.reads:
                latest[engine] = max(latest[engine], last(writers[access[:2]], engine, access))
            for access in command.writes:
                latest[engine] = max(latest[engine], last(writers[access[:2]], engine, access))
                latest[engine] = max(latest[engine], last(readers[access[:2]], engine, access))
        for other in command.after:
            engine = (commands[other].unit, commands[other].engine)
            latest[engine] = max(latest[engine], other)
        depends.append({engine: other for engine, other in latest.items() if other >= 0})
        results.append(max((last(writers[access[:2]], own, access) for access in command.reads), default=-1))
        for table, accesses in ((readers, command.reads), (writers, command.writes)):
            for memory, unit, first, end in accesses:
                table[memory, unit][own][first:end] = number
    return depends, results


def _played(
    scheduled: Schedule,
    tokens: Mapping[tuple[Engine, Engine], deque[dict[Engine, int]]],
    events: Mapping[int, deque[dict[Engine, int]]],
) -> Iterator[tuple[int, Entry]]:
    """Yield the entries of all lists, each as it can run: the caller takes and gives tokens and events."""
    queues = {unit: deque(entries) for unit, entries in enumerate(scheduled.lists)}

    def blocked(unit: int, entry: Entry) -> bool:
        if entry.name == "wait":
            return not events[entry.fields["event_id"]]
        waits = (i for i, name in enumerate(ENGINES) if entry.fields.get(f"wait_{name}"))
        return any(not tokens[(unit, i), (unit, entry.engine)] for i in waits)

    while any(queues.values()):
        moved = False
        for unit, queue in queues.items():
            while queue and not blocked(unit, queue[0]):
                moved = True
                yield unit, queue.popleft()
        require(moved, "the lists dead-lock")


def check_linked(compilation: Compilation) -> None:
    """The bytes in memory are the lists, and all of the image lies inside the memory."""
    program = compilation.program
    require(program.end <= compilation.options.mem_bytes, "the image does not fit the memory")
    if compilation.requantisations is None:
        return
    segments = dict(program.segments)
    lists = [item for section in program.sections for item in section.lists.items()]
    starts = [item for section in program.sections for item in section.starts.values()]
    for (unit, entries), (address, count) in zip(lists, starts, strict=True):
        blocks = segments[address].reshape(count, -1)
        require(len(blocks) == len(entries), f"{unit}: {count} commands, not {len(entries)}")
        for number, (block, entry) in enumerate(zip(blocks, entries, strict=True)):
            fields = {name: value for name, value in entry.fields.items() if value}
            expected = {"command": entry.name, "engine": ENGINES[entry.engine]} | fields
            require(decode(block) == expected, f"{unit}: command {number} is not {entry.name}")
