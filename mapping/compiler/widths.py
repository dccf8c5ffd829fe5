# SPDX-License-Identifier: Apache-2.0
"""Widths of a network's weights that fit the units of a mapping."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from golden.layer import WEIGHTED_OPS
from golden.network import Network
from golden.quantize.weights import Widths
from hw.system import System
from mapping.compiler.assignment import Assignment
from mapping.compiler.legalise import legalise_network


def weight_widths(
    network: Network,
    config: System,
    bits: int | None = None,
    layers: Mapping[str, int] | None = None,
    assignment: Assignment | None = None,
) -> dict[str, Widths]:
    """Return the width that each layer's weights should have, or each of its channels, in bits.

    Args:
        network: the network.
        config: the system, for an assignment.
        bits: width of all weights.
        layers: widths of single layers, by name, instead of `bits`.
        assignment: which unit makes which channels; every channel becomes as narrow as its unit's weights,
            whatever the other arguments say.

    Raises:
        MappingError: an assignment that does not fit the network or the system.
    """
    weighted = [node.name for node in network.nodes if node.op in WEIGHTED_OPS]
    widths: dict[str, Widths] = dict.fromkeys(weighted, bits) if bits is not None else {}
    widths |= layers or {}
    if assignment is not None:
        units = assignment.units(network, legalise_network(network), config.cores)
        core_bits = np.array([core.w_bits for core in config.cores])
        widths |= {name: core_bits[units[name]] for name in weighted}
    return widths
