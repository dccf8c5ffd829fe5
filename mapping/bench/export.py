# SPDX-License-Identifier: Apache-2.0
"""What it takes to bring in a network of full size: export from PyTorch, and compilation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import nn

from golden.quantize.export import export
from golden.zoo.image_networks import mobilenet_v2, resnet18
from hw.system import System
from mapping.compiler.assignment import Assignment
from mapping.report.console import console_table
from mapping.run.networks import compile_network
from mapping.search.training import one_thread

NETWORKS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "ResNet18": (resnet18, 5.0),
    "MobileNetV2": (mobilenet_v2, 3.0),
}
"""Modules, and the processor seconds that their export may take."""
COMPILE_LIMIT = 5.0
"""Processor seconds that a compilation may take."""
IMAGE = (1, 3, 224, 224)


@dataclass(frozen=True)
class ImportTime:
    """Processor seconds of a network's way in, on one thread."""

    network: str
    export: float
    compile: float


def import_time(network: str) -> ImportTime:
    """Return what a network takes that is calibrated on one image and compiled for both units.

    Export has everything in it: recording, scales of weights, calibration, comparison with the module.
    """
    torch.manual_seed(1)
    module = NETWORKS[network][0]().eval()
    config = System()
    with one_thread():
        image = torch.rand(IMAGE)
        began = time.process_time()
        exported = export(module, image, name=network)
        between = time.process_time()
        compile_network(exported, config, Assignment(config.cores[0].name))
        return ImportTime(network, between - began, time.process_time() - between)


def import_table(times: list[ImportTime]) -> Table:
    """Return the table of what networks take."""
    table = console_table(
        "Networks for 224 x 224 images, one thread", ("network",), ("export s", "compile s")
    )
    for item in times:
        table.add_row(item.network, f"{item.export:.1f}", f"{item.compile:.1f}")
    return table


def missed_import_times(times: list[ImportTime]) -> list[str]:
    """Return a line for every network that takes too long."""
    missed = []
    for item in times:
        for what, seconds, limit in (
            ("export", item.export, NETWORKS[item.network][1]), ("compilation", item.compile, COMPILE_LIMIT),
        ):  # fmt: skip
            if seconds > limit:
                missed.append(f"{what} of {item.network} takes {seconds:.1f} s, the limit is {limit:.0f}")
    return missed
