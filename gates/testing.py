# SPDX-License-Identifier: Apache-2.0
"""Blocks and netlists that the tests share."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.paths import build_root
from gates.liberty import Library, read_liberty
from gates.netlist import Bit, Netlist, read_netlist
from gates.synthesis import Synthesis, synthesize
from gates.tools import osu018

MAC = Path(__file__).parent / "tests" / "mac.sv"


@functools.cache
def library() -> Library:
    return read_liberty(osu018())


@functools.cache
def mac(width: int = 4) -> Synthesis:
    return synthesize([MAC], "mac", {"Width": width}, library(), build_root() / "gates" / "tests")


def write_netlist(
    path: Path,
    inputs: Mapping[str, Sequence[Bit]],
    outputs: Mapping[str, Sequence[Bit]],
    cells: Sequence[tuple[str, Mapping[str, Bit]]],
) -> Netlist:
    """Write a netlist in Yosys's JSON format and read it back; instances are called u0, u1, ..."""
    ports = {name: {"direction": "input", "bits": [*bits]} for name, bits in inputs.items()}
    ports |= {name: {"direction": "output", "bits": [*bits]} for name, bits in outputs.items()}
    instances = {
        f"u{number}": {
            "type": cell,
            "parameters": {},
            "connections": {pin: [bit] for pin, bit in pins.items()},
        }
        for number, (cell, pins) in enumerate(cells)
    }
    path.write_text(
        json.dumps({"modules": {"block": {"attributes": {}, "ports": ports, "cells": instances}}})
    )
    return read_netlist(path)
