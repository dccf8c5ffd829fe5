# SPDX-License-Identifier: Apache-2.0
"""The embedded real input: trained digits networks, whole, on the units of the default system in RTL.

Each unit runs the variant of its weights' width; every tensor is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.paths import build_root
from golden.zoo.digits import DigitsNetwork, load_digits_network, quantize_image
from hw.system import System
from mapping.compiler.assignment import Assignment
from mapping.run.layers import RunError
from mapping.run.networks import NetworkRun, compile_network, network_job, run_inputs
from tb.build import build
from tb.session import Session, rerun_with_waves

VARIANTS = {8: "int8", 2: "ternary"}
"""Variants of the network by the width of their weights."""
PLACES = tuple((core.name, VARIANTS[core.w_bits]) for core in System().cores)
"""Units of the default system, and the variant that each runs."""
DEFAULT_IMAGES = 100
"""Test images that `npuloop sim` runs; there are 450."""


@dataclass(frozen=True)
class VariantReport:
    """One variant on one unit.

    Attributes:
        unit: the unit.
        digits: the network with its test set.
        runs: one for each image.
        correct: how many digits the hardware found.
    """

    unit: str
    digits: DigitsNetwork
    runs: tuple[NetworkRun, ...]
    correct: int

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.runs)

    @property
    def mismatches(self) -> int:
        """Values that differ from the golden model, over all layers and images."""
        return sum(sum(run.mismatches.values()) for run in self.runs)

    @property
    def accuracy(self) -> float:
        """Share of the images whose digit the hardware found."""
        return self.correct / self.images


def run_digits(
    images: int = DEFAULT_IMAGES, on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> list[VariantReport]:
    """Run the first `images` test digits through both variants; see `VariantReport`.

    Raises:
        RunError: the hardware reports an error, or its cycles depend on the data.
        TestbenchError: the simulator cannot be built or dies.
    """
    reports = []
    with Session(System()) as session:
        for place, (unit, variant) in enumerate(PLACES):
            digits = load_digits_network(variant)
            data, labels = digits.test_set()
            count = min(images, len(data))
            program = compile_network(digits.network, session.config, Assignment(unit), observe=True)
            runs: list[NetworkRun] = []
            for run in run_inputs(session, program, quantize_image(data[:count]), "layers"):
                runs.append(run)
                on_progress(place * count + len(runs), len(PLACES) * count)
            if len({run.cycles for run in runs}) != 1:
                raise RunError(f"network {digits.network.name!r}: its cycles depend on the data")
            digits_found = np.array([run.output.argmax() for run in runs])
            reports.append(
                VariantReport(unit, digits, tuple(runs), int((digits_found == labels[:count]).sum()))
            )
    return reports


def trace_digit() -> list[Path]:
    """Run one digit through both variants with waves and return the trace files."""
    config = System()
    suffix = build(config, "wave").trace_suffix
    paths = []
    for unit, variant in PLACES:
        digits = load_digits_network(variant)
        program = compile_network(digits.network, config, Assignment(unit))
        job = network_job(program, quantize_image(digits.test_set()[0][0]))
        path = build_root() / "waves" / f"{unit}-digits{suffix}"
        paths.append(rerun_with_waves(config, job, path))
    return paths
