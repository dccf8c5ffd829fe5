# SPDX-License-Identifier: Apache-2.0
"""The coefficients of the cost model: named phases of the hardware, each with the counter that sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from common.arrays import Floats


@dataclass(frozen=True)
class Phase:
    """A phase of the hardware.

    Attributes:
        name: the coefficient, in cycles.
        start: value before anything is measured, from the pipeline's drawings.
        counter: counter register that counts the phase's cycles.
        meaning: what it is, and per what.
    """

    name: str
    start: float
    counter: str
    meaning: str


PHASES = (
    Phase("launch_cycles", 7, "cycles", "start to first request for a command, last completion to interrupt"),
    Phase("stagger_cycles", 5, "cycles", "start of a unit to the start of the next one"),
    Phase("fetch_cycles", 20, "load_idle", "request for a command to its first word"),
    Phase(
        "queue_cycles",
        1,
        "load_idle",
        "command read to its dispatch; then to its engine, and the next request",
    ),
    Phase("token_cycles", 2, "load_wait_token", "completion of a command to the start of one that waits"),
    Phase("event_cycles", 2, "load_wait_token", "SIGNAL or WAIT"),
    Phase("burst_cycles", 1, "load_wait_memory", "request of a burst to the next request"),
    Phase("load_latency_cycles", 20, "load_wait_memory", "request of a burst to its first word"),
    Phase("load_word_cycles", 1, "load_run", "beat of a load on the port"),
    Phase("load_bank_cycles", 1, "load_wait_memory", "16 bytes loaded that meet an operand or a result"),
    Phase("store_start_cycles", 3, "store_wait_memory", "start of a store to its first word on the port"),
    Phase("store_word_cycles", 1, "store_run", "beat of a store on the port"),
    Phase("store_bank_cycles", 1, "store_wait_memory", "16 bytes stored that meet an operand or a result"),
    Phase("store_latency_cycles", 19, "store_wait_memory", "last word of a burst to the memory's answer"),
    Phase("operator_cycles", 1, "compute_wait_memory", "operator without weights: start to first beat"),
    Phase("array_cycles", 1, "compute_run", "beat of the array, by the cycle law"),
    Phase("array_bank_cycles", 1, "compute_wait_drain", "operand that waits for a late result in its bank"),
    Phase("handover_cycles", 3, "compute_wait_drain", "last beat of a stripe to its first sum or next start"),
    Phase("drain_cycles", 1, "compute_wait_drain", "16 channels of a pixel requantised, or parameters read"),
    Phase("requant_cycles", 5, "compute_wait_drain", "last sum to the operator's completion"),
    Phase("add_cycles", 2, "compute_wait_drain", "rescaling of an addition's last operands, per stripe"),
)
NAMES = tuple(phase.name for phase in PHASES)
TERM = {name: index for index, name in enumerate(NAMES)}


def starting_point() -> Floats:
    """Return the coefficients before calibration."""
    return np.array([phase.start for phase in PHASES], float)


def named(values: Floats) -> Mapping[str, float]:
    """Return the values by name."""
    return dict(zip(NAMES, values.tolist(), strict=True))
