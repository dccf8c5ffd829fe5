# SPDX-License-Identifier: Apache-2.0
"""Which unit makes which output channel of which layer, and the file that says so: MAP.yaml.

    npuloop_mapping: 1                  # version of the format
    network: resnet8                    # optional; checked against the model's name
    default: npu8                       # unit of the layers that are not listed; else the system's first
    layers:
      conv2d_1: npu_lb                  # a whole layer
      conv2d_2: {npu8: 10, npu_lb: 6}   # the first 10 channels, and the other 6
      conv2d_3:                         # or channel by channel
        npu8: [0, 3, 8-15]
        npu_lb: [1, 2, 4-7]

docs/reference/mapping-file.md says more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.errors import NpuloopError
from common.files import read_yaml
from golden.network import HOST_OPS, Network
from hw.core import CoreConfig
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.graph import Graph

FORMAT_VERSION = 1
Channels = int | tuple[int, ...]
"""A number of channels, or the channels themselves."""


class MappingError(NpuloopError):
    """A mapping that does not fit its network or its system, or a damaged mapping file."""


@dataclass(frozen=True)
class Assignment:
    """Which unit makes which output channels.

    Attributes:
        default: unit of the layers that are not listed; None: the system's first.
        layers: for each listed layer its unit, or the channels of every unit: how many, in the order of the
            units, or which.
        network: name of the network it was made for, or "".
        source: for messages: the file, or what else it comes from.
    """

    default: str | None = None
    layers: Mapping[str, str | Mapping[str, Channels]] = field(default_factory=dict)
    network: str = ""
    source: str = "mapping"

    def units(
        self, network: Network | None, graph: Graph, cores: Sequence[CoreConfig]
    ) -> dict[str, ChannelAssignment]:
        """Return the index of the unit of every output channel, for each operator of the graph.

        Args:
            network: the network, for messages about its layers that do not run on a unit; or None.
            graph: its graph.
            cores: the units of the system.

        Raises:
            MappingError: an unknown network, layer, unit or channel, or channels that do not add up.
        """
        if network and self.network and self.network != network.name:
            raise MappingError(f"{self.source}: made for network {self.network!r}, not for {network.name!r}")
        names = [core.name for core in cores]
        default = names[0] if self.default is None else self.default
        if default not in names:
            raise MappingError(
                f"{self.source}: no unit {default!r} in this system; it has {', '.join(names)}"
            )
        channels = {op.name: op.shape[2] for op in graph.ops}
        for name in self.layers:
            if name not in channels:
                raise MappingError(
                    f"{self.source}: {self._unknown(name, network)}; it has {', '.join(channels)}"
                )
        return {
            name: self._layer(name, count, self.layers.get(name, default), names)
            for name, count in channels.items()
        }

    def _unknown(self, name: str, network: Network | None) -> str:
        for node in network.nodes if network else ():
            if node.name == name:
                where = "runs on the host" if node.op in HOST_OPS else "takes no unit"
                return f"layer {name!r} ({node.op}) {where} and cannot be mapped; remove it"
        return f"the network has no layer {name!r}"

    def _layer(
        self, name: str, channels: int, choice: str | Mapping[str, Channels], names: Sequence[str]
    ) -> ChannelAssignment:
        where = f"{self.source}, layer {name!r}"
        parts: Mapping[str, Channels] = {choice: channels} if isinstance(choice, str) else choice
        units = np.full(channels, -1, np.int64)
        counted = 0
        for unit, part in parts.items():
            if unit not in names:
                raise MappingError(f"{where}: no unit {unit!r} in this system; it has {', '.join(names)}")
            if isinstance(part, int):
                chosen: Sequence[int] = range(counted, counted + part)
                counted += part
            else:
                chosen = part
            for channel in chosen:
                if not 0 <= channel < channels:
                    raise MappingError(
                        f"{where}: channel {channel} of {unit} does not exist; "
                        f"the layer has {channels} channels"
                    )
                if units[channel] >= 0:
                    raise MappingError(f"{where}: channel {channel} is mapped twice")
                units[channel] = names.index(unit)
        missing = np.flatnonzero(units < 0)
        if len(missing):
            raise MappingError(
                f"{where}: {len(missing)} of {channels} channels are not mapped, the first is {missing[0]}; "
                "the units' channels must add up to the layer's"
            )
        return units


def check_units(units: Mapping[str, ChannelAssignment], graph: Graph, cores: Sequence[CoreConfig]) -> None:
    """Refuse units of channels that do not fit the graph or the system.

    Raises:
        MappingError: a layer is missing, or has another number of channels, or a unit that does not exist.
    """
    for op in graph.ops:
        owner = units.get(op.name)
        if owner is None or np.shape(owner) != (op.shape[2],) or owner.dtype.kind not in "iu":
            raise MappingError(
                f"layer {op.name!r}: give the index of a unit for each of its {op.shape[2]} channels"
            )
        if owner.min() < 0 or owner.max() >= len(cores):
            raise MappingError(f"layer {op.name!r}: unit {owner.max()} of {len(cores)}; units count from 0")


def load_assignment(path: str | Path) -> Assignment:
    """Read a mapping file.

    Raises:
        MappingError: one message that names the file, the layer and what is wrong.
    """
    path = Path(path)
    document = read_yaml(path, MappingError, "mapping file")
    if not isinstance(document, dict) or document.get("npuloop_mapping") != FORMAT_VERSION:
        raise MappingError(f"{path}: no mapping file; it begins with `npuloop_mapping: {FORMAT_VERSION}`")
    for key in document:
        if key not in ("npuloop_mapping", "network", "default", "layers"):
            raise MappingError(
                f"{path}: unknown key {key!r}; there are npuloop_mapping, network, default, layers"
            )
    for key in ("default", "network"):
        if not isinstance(document.get(key, ""), str):
            raise MappingError(f"{path}: {key} must be a name, not {document[key]!r}")
    layers = document.get("layers") or {}
    if not isinstance(layers, dict):
        raise MappingError(f"{path}: layers must map layer names to units")
    return Assignment(
        default=document.get("default"),
        layers={str(name): _choice(f"{path}, layer {name!r}", value) for name, value in layers.items()},
        network=document.get("network", ""),
        source=str(path),
    )


def _choice(where: str, value: Any) -> str | dict[str, Channels]:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or not value:
        raise MappingError(f"{where}: give a unit, or channels for each unit, not {value!r}")
    parts: dict[str, Channels] = {}
    for unit, part in value.items():
        if isinstance(part, int) and not isinstance(part, bool) and part >= 0:
            parts[str(unit)] = part
        elif isinstance(part, list):
            parts[str(unit)] = tuple(channel for item in part for channel in _channels(where, item))
        else:
            raise MappingError(f"{where}: {unit} has {part!r}; give a number of channels or a list of them")
    if len({isinstance(part, int) for part in parts.values()}) > 1:
        raise MappingError(f"{where}: give numbers of channels for all units, or lists for all")
    return parts


def _channels(where: str, item: Any) -> Sequence[int]:
    if isinstance(item, int) and not isinstance(item, bool):
        return (item,)
    first, dash, last = str(item).partition("-")
    if dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last) < 1 << 16:
        return range(int(first), int(last) + 1)
    raise MappingError(f"{where}: {item!r} is no channel; write 3, or 8-15")


def assignment_text(
    units: Mapping[str, ChannelAssignment], cores: Sequence[CoreConfig], network: str = ""
) -> str:
    """Return the mapping file of an assignment of every channel."""
    layers: dict[str, Any] = {}
    for name, owner in units.items():
        used = [int(unit) for unit in dict.fromkeys(owner.tolist())]
        if len(used) == 1:
            layers[name] = cores[used[0]].name
        elif (np.diff(owner) >= 0).all():
            layers[name] = {cores[unit].name: int((owner == unit).sum()) for unit in used}
        else:
            layers[name] = {
                cores[unit].name: _ranges(np.flatnonzero(owner == unit).tolist()) for unit in used
            }
    document: dict[str, Any] = {"npuloop_mapping": FORMAT_VERSION}
    if network:
        document["network"] = network
    document |= {"default": cores[0].name, "layers": layers}
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=110)


def _ranges(channels: Sequence[int]) -> list[int | str]:
    items: list[list[int]] = []
    for channel in channels:
        if items and items[-1][1] == channel - 1:
            items[-1][1] = channel
        else:
            items.append([channel, channel])
    return [a if a == b else f"{a}-{b}" for a, b in items]
