# SPDX-License-Identifier: Apache-2.0
"""Cycles of layers by methods that have seen no measurement, beside ours; ZigZag's are kept in a file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.arrays import Floats
from common.errors import NpuloopError
from common.files import read_json, write_json
from common.paths import build_root
from golden.layer import WEIGHTED_OPS
from hw.core import CoreConfig
from hw.system import System
from mapping.cost.baselines import (
    ideal_cycles,
    roofline_cycles,
    zigzag_accelerator,
    zigzag_cycles,
    zigzag_layer,
    zigzag_version,
)
from mapping.cost.model import cores_of
from mapping.cost.shapes import Shape

OURS, IDEAL, ROOFLINE, ZIGZAG = "npuloop", "ideal", "roofline", "zigzag"
METHODS = {IDEAL: "MACs / peak", ROOFLINE: "roofline", ZIGZAG: "ZigZag", OURS: "npuloop"}
GET_ZIGZAG = (
    "ZigZag is not installed; for its estimates: pip install 'npuloop[compare]' (Python 3.11 or newer)"
)
Estimate = Callable[[Sequence[Shape], CoreConfig], list[float | None]]
"""ZigZag's cycles of layers on a unit."""


def estimates(
    shapes: Sequence[Shape], unit: str, config: System, predicted: Floats, estimate: Estimate | None = None
) -> dict[str, Floats]:
    """Return the cycles of layers by each method, in the order of METHODS.

    Args:
        shapes: the layers.
        unit: the unit of those without a split.
        config: the system.
        predicted: (N,) the cost model's.
        estimate: ZigZag, or None without it.

    Returns:
        (N,) cycles for each method that is there; NaN where it has no estimate.
    """
    cores = [cores_of(shape, unit, config) for shape in shapes]
    port = config.axi_bits // 8
    pairs = list(zip(shapes, cores, strict=True))
    cycles = {
        IDEAL: np.array([ideal_cycles(shape, *units) for shape, units in pairs]),
        ROOFLINE: np.array([roofline_cycles(shape, *units, port_bytes=port) for shape, units in pairs]),
    }
    whole = [i for i, shape in enumerate(shapes) if shape.split is None and shape.op in WEIGHTED_OPS]
    if estimate and whole:
        values = estimate([shapes[i] for i in whole], config.cores[config.index(unit)])
        cycles[ZIGZAG] = np.full(len(shapes), np.nan)
        cycles[ZIGZAG][whole] = [np.nan if value is None else value for value in values]
    return cycles | {OURS: np.asarray(predicted, float)}


@dataclass(frozen=True)
class KnownEstimates:
    """ZigZag's cycles; it takes seconds per layer, so they are kept in a file.

    Attributes:
        path: the file; a damaged one counts as empty.
        progress: called with the layers done and all of them.
    """

    path: Path
    progress: Callable[[str, int, int], None] = lambda what, done, total: None  # noqa: ARG005

    def __call__(self, shapes: Sequence[Shape], core: CoreConfig) -> list[float | None]:
        """Return the cycles of layers with weights on a unit; None where ZigZag finds no order of loops."""
        logging.getLogger("zigzag").setLevel(logging.ERROR)
        known = self._read()
        cycles = []
        for i, shape in enumerate(shapes, 1):
            key = _digest(
                zigzag_version(),
                zigzag_accelerator(core, depthwise=shape.op == "depthwise_conv2d"),
                {**zigzag_layer(shape, core), "name": ""},
            )
            if key not in known:
                known[key] = zigzag_cycles([shape], core)[0]
                write_json(self.path, known)
            cycles.append(known[key])
            self.progress(f"{core.name}: ZigZag", i, len(shapes))
        return cycles

    def _read(self) -> dict[str, float | None]:
        try:
            document = read_json(self.path, NpuloopError, "list of estimates")
        except NpuloopError:
            return {}
        return document if isinstance(document, dict) else {}


def known_estimates(progress: Callable[[str, int, int], None]) -> KnownEstimates | None:
    """Return ZigZag's estimates, kept beside the builds; None where it is not installed."""
    return KnownEstimates(build_root() / "zigzag.json", progress) if zigzag_version() else None


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
