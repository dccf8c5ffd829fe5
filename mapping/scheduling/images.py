# SPDX-License-Identifier: Apache-2.0
"""Options at places of their own in memory, with inputs for their requests and the outputs that must come."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from common.arrays import Array, Bytes
from common.errors import UnsupportedError
from golden.importers.inputs import random_input
from golden.network import run_network, run_nodes
from mapping.compiler.compile import compile_graph
from mapping.compiler.legalise import legalise_network
from mapping.compiler.program import Program
from mapping.compiler.schedule import EVENTS
from mapping.scheduling.deployment import Deployment, Option
from tb.queues import QueuedRequest

INPUTS = 4
"""Random inputs of each network that its requests take in turn."""
PAGE = 0x1000
PATIENCE, LEAST_PATIENCE = 20, 100_000
"""A request is given up after so many times the cycles that it takes alone, and so many more."""


@dataclass(frozen=True, eq=False)
class Image:
    """An option in memory.

    Attributes:
        option: the option.
        program: its lists and parameters, at their place.
        inputs: for each kind of request the memory segments of its inputs.
        outputs: for each kind the golden model's outputs by name.
        events: event counters that it uses.
    """

    option: Option
    program: Program
    inputs: tuple[list[tuple[int, Bytes]], ...]
    outputs: tuple[Mapping[str, Array], ...]
    events: frozenset[int]

    def input_segments(self, request: int) -> list[tuple[int, Bytes]]:
        """Return what is written for a request before its first section.

        Always: a network may have written over its last input.
        """
        return self.inputs[request % INPUTS]

    def queued(
        self, number: int, request: int, option: Option, arrival: int = 0, after: Sequence[int] = ()
    ) -> QueuedRequest:
        """Return a section of a request as the host's queues take it.

        Args:
            number: in the queues.
            request: the request.
            option: what is left of it, from the section on.
            arrival: cycle of the queues before which it does not start.
            after: numbers, in the queues, of those that must be complete before.
        """
        return QueuedRequest(
            number=number,
            starts=self.program.sections[option.section].starts,
            arrival=arrival,
            after=tuple(after),
            limit=LEAST_PATIENCE + math.ceil(PATIENCE * option.next_cycles),
            segments=[] if option.begun else self.input_segments(request),
            reads=[] if option.then else self.reads(),
        )

    def reads(self) -> list[tuple[int, int]]:
        """Return where the outputs lie, (byte address, bytes)."""
        return [self.program.read_of(name) for name in self.program.graph.outputs]

    def exact(self, request: int, raw: Sequence[Bytes]) -> bool:
        """Return whether what was read of a request is what the golden model says."""
        for name, data in zip(self.program.graph.outputs, raw, strict=True):
            value = self.program.decode(name, data)
            if not (value == self.outputs[request % INPUTS][name].reshape(value.shape)).all():
                return False
        return True


class Images:
    """Places for the options of a deployment, each made when it is first asked for.

    Args:
        deployment: the system and what it can run.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._images: dict[int, Image] = {}  # by their programs: what is left of an option has its image
        self._end = 0  # first address that is free

    def __contains__(self, option: Option) -> bool:
        """Return whether an option has its place."""
        return id(option.program) in self._images

    def place(self, option: Option) -> Image:
        """Return an option's image.

        Raises:
            CapacityError: the memory is too small for all.
            UnsupportedError: there are too few event counters for the options that may run at once.
        """
        if option not in self:
            self._images[id(option.program)] = self._make(option)
        return self._images[id(option.program)]

    def _make(self, option: Option) -> Image:
        network = option.network
        program = self._compile(option, 0)
        events = _events(program)
        if events:
            program = self._compile(option, self._first_event(option, len(events)))
        self._end = (program.end + PAGE - 1) // PAGE * PAGE
        widths = np.array([core.a_bits for core in self._deployment.system.cores])
        a_bits = {name: widths[owner] for name, owner in option.owners.items()}
        inputs, outputs = [], []
        for seed in range(INPUTS):
            batch = random_input(network, seed + 1)
            values = run_nodes(network, program.graph.host_before, batch)
            golden = run_network(network, batch, a_bits)
            given = {value.name: values[value.name][0] for value in program.graph.inputs}
            inputs.append(program.input_segments(given))
            outputs.append({name: golden[name][0] for name in program.graph.outputs})
        return Image(option, program, tuple(inputs), tuple(outputs), _events(program))

    def _compile(self, option: Option, first_event: int) -> Program:
        system = self._deployment.system
        return compile_graph(
            legalise_network(option.network), system.cores, option.owners, base=self._end,
            mem_bytes=system.mem_bytes, port_bytes=system.axi_bits // 8, first_event=first_event,
            cuts=option.program.cuts, choice=option.program.choice,
        )  # fmt: skip

    def _first_event(self, option: Option, count: int) -> int:
        """Return the first of some event counters that no option uses that may run at the same time."""
        beside = [image for image in self._images.values() if _at_once(image.option, option)]
        used = {event for image in beside for event in image.events}
        for first in range(EVENTS - count + 1):
            if not used & set(range(first, first + count)):
                return first
        others = ", ".join(image.option.name for image in beside if image.events)
        raise UnsupportedError(
            f"{option.name}: needs {count} event counters in a row, and {len(used)} of {EVENTS} are for what "
            f"may run beside it ({others}); leave one of these versions out"
        )


def _at_once(option: Option, other: Option) -> bool:
    """Return whether sections of two options may run at the same time: they have no unit in common."""
    pairs = product(option.program.sections, other.program.sections)
    return any(not set(one.lists) & set(two.lists) for one, two in pairs)


def _events(program: Program) -> frozenset[int]:
    lists = (entries for section in program.sections for entries in section.lists.values())
    entries = (entry for entries in lists for entry in entries)
    return frozenset(entry.fields["event_id"] for entry in entries if entry.name in ("signal", "wait"))
