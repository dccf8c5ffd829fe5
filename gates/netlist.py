# SPDX-License-Identifier: Apache-2.0
"""Flat netlists: instances of cells, and the nets between them, from Yosys's JSON format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import GatesError

Bit = int | Literal["0", "1", "x", "z"]
"""A net's number, or a constant."""


@dataclass(frozen=True)
class Port:
    """A port of the block; `bits` from the least significant on."""

    name: str
    direction: str
    bits: tuple[Bit, ...]


@dataclass(frozen=True)
class Instance:
    """An instance of a cell, or of a module that was left out.

    Attributes:
        name: its name.
        cell: of what.
        pins: the bits of each pin, from the least significant on.
        parameters: values of the module's parameters, as unsigned numbers.
    """

    name: str
    cell: str
    pins: Mapping[str, tuple[Bit, ...]]
    parameters: Mapping[str, int]


@dataclass(frozen=True)
class Netlist:
    """A block: its ports and what is in it."""

    name: str
    path: Path
    ports: Mapping[str, Port]
    instances: tuple[Instance, ...]

    def ports_of(self, direction: str) -> tuple[Port, ...]:
        """Return the ports of a direction, `input` or `output`."""
        return tuple(port for port in self.ports.values() if port.direction == direction)


def read_netlist(path: Path) -> Netlist:
    """Read a netlist of one module from a file in Yosys's JSON format.

    Raises:
        GatesError: the file cannot be read or holds something else.
    """
    try:
        modules = json.loads(path.read_text())["modules"]
        tops = {name: module for name, module in modules.items() if "top" in module["attributes"]}
        ((name, module),) = tops.items() or modules.items()
        ports = {
            key: Port(key, value["direction"], tuple(value["bits"])) for key, value in module["ports"].items()
        }
        instances = tuple(
            Instance(
                name=key,
                cell=value["type"],
                pins={pin: tuple(bits) for pin, bits in value["connections"].items()},
                parameters={name: int(text, 2) for name, text in value["parameters"].items()},
            )
            for key, value in module["cells"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GatesError(f"{path} is not a netlist of one module in Yosys's JSON format: {error!r}") from None
    return Netlist(name, path, ports, instances)
