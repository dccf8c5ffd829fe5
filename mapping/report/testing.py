# SPDX-License-Identifier: Apache-2.0
"""Made-up reports, studies and tables for tests of pages, and what these read off a page."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from common.stamp import stamped
from hw.core import CoreConfig
from hw.memory import MemoryModel
from hw.sources import rtl_hash
from hw.system import NPU8, NPU_LB, System
from mapping.calibration.measurement import Measurement, Setup, commands_digest, compile_shape
from mapping.cost.coefficients import NAMES as PHASE_NAMES, starting_point
from mapping.cost.model import units_of
from mapping.cost.shapes import Shape
from mapping.cost.tables import (
    CostTable,
    Errors,
    Spread,
    keys_of,
    memory_settings,
    parameters_of,
    table_path,
    table_text,
)
from mapping.energy.features import FEATURES
from mapping.energy.tables import NAMES, EnergyTable, LayerStatistics, energy_path, save_energy_table
from mapping.energy.testing import energy, synthetic
from mapping.report.cycle_numbers import GROUPS, Compared, LayerPhases, Staircase, UnitReport, block_slopes
from mapping.report.search import write_report

CONFIG = System()
CONV = Shape("tiny/conv", "conv2d", 16, 32, 6, 6, (3, 3), (1, 1), "same")
ADD = Shape("tiny <b>add</b>", "add", 16, 16, 4, 4)
DENSE = Shape("resnet8/dense", "fully_connected", 64, 10, 1, 1)
SHARED = Shape("resnet8/wide", "conv2d", 16, 48, 4, 4, (1, 1), (1, 1), "valid", {"npu8": 16, "npu_lb": 32})
IMAGES = 200
"""Test images of the made-up study."""
MACS = [name for name in FEATURES if name.startswith("mac.")]
OTHERS = [name for name in FEATURES if name not in MACS]
POINTS = [
    {"network": "one", "layer": "a", "column": 16, "cycles": 256, "zero_share": 0.25,
     "measured": [60.0, 100.0, 150.0], "modelled": [50.0, 110.0, 160.0]},
    {"network": "two", "layer": "b", "column": 17, "cycles": 256, "zero_share": 0.75,
     "measured": [30.0, 50.0, 75.0], "modelled": [20.0, 40.0, 70.0]},
]  # fmt: skip
"""Validation windows that the made-up energy tables keep."""
Runs = list[tuple[str, str]]
"""What a made-up simulation has run: the name of each layer, and its unit."""
Study = dict[str, Any]
"""What study.json holds."""


# ----------------------------------------------------------------------------------------------------- cycles
def table_for(*units: str, config: System = CONFIG) -> CostTable:
    """Return a table with the values of the pipeline's drawings."""
    cores = [config.core(unit) for unit in units]
    confidence = np.full((len(PHASE_NAMES), 2), np.nan)
    confidence[0] = 8.5, 9.5
    return CostTable(
        cores=keys_of(cores),
        date="2025-01-31",
        rtl_sha256="of yesterday",
        parameters=parameters_of(cores, config),
        memory=memory_settings(MemoryModel()),
        tools={"verilator": "5.0"},
        coefficients=starting_point(),
        confidence=confidence,
        spread=Spread(2.0, 0.01, 0.3),
        validity={},
        errors={"fit": Errors(40, 0.123, 0.4, 0.9, 0.01, 0.9991, 91.25)},
        learning_curve=[(0, 12.0), (10, 3.0), (40, 0.75)],
        sample=[],
    )


def cost_tables(folder: Path) -> Path:
    """Write tables of both units and of both together into a folder of that name, and return it."""
    path = folder / "tables"
    path.mkdir()
    for units in (("npu8",), ("npu_lb",), CONFIG.units):
        cores = [CONFIG.core(unit) for unit in units]
        table_path(cores, CONFIG, path).write_text(table_text(table_for(*units)))
    return path


def made_up_job(
    ran: Runs, cycles: Callable[[System, Shape, str], int]
) -> Callable[[Setup, Shape, str], Measurement]:
    """Return what takes the place of a simulation.

    Args:
        ran: gets the name of each layer and its unit.
        cycles: what a layer takes on a unit of a system.
    """

    def job(setup: Setup, shape: Shape, unit: str) -> Measurement:
        place = "+".join(units_of(shape, unit, setup.config))
        ran.append((shape.name, place))
        commands = commands_digest(compile_shape(shape, unit, setup.config))
        taken = cycles(setup.config, shape, unit)
        return Measurement(shape, place, taken, {place: {}}, shape.macs, 0.5, setup.digest, commands, 1.0)

    return job


def made_up_report(title: str = "npu8 <W8>") -> UnitReport:
    """Return what is shown of 4 layers, with numbers that can be checked by hand."""

    def compared(measured: list[int], predicted: list[int], errors: Errors) -> Compared:
        shapes = (CONV, ADD)[: len(measured)]
        half = np.full(len(measured), 2.0)
        return Compared(shapes, np.array(measured, float), np.array(predicted, float), half, errors)

    model = np.array([0, 10, 10, 20, 20], float)
    return UnitReport(
        units=("npu8",),
        title=title,
        table=table_for("npu8"),
        sets={
            # errors of +1 % and -1 %; of +10 % and 0 %
            "held_out_random": compared([100, 200], [101, 198], Errors(2, 1.0, 1.0, 1.0, 0.0, 1.0, 100.0)),
            "held_out_networks": compared([400, 50], [440, 50], Errors(2, 5.0, 9.5, 10.0, 5.0, 0.5, 50.0)),
        },
        staircase=Staircase(np.arange(5.0), model, block_slopes(model, 2), 2, {1: 10, 2: 11, 4: 20}),
        phases=LayerPhases(
            "two layers",
            ("first", "second"),
            {name: np.array([10.0, 1.0]) for name in GROUPS},
            np.array([50.0, 6.0]),
            66.0,
            60.0,
        ),
        estimates={
            "ideal": np.array([200.0, 25.0]),
            "roofline": np.array([300.0, 40.0]),
            "zigzag": np.array([380.0, np.nan]),
            "npuloop": np.array([440.0, 50.0]),
        },
        current=False,
    )


# --------------------------------------------------------------------------------------------------- searches
def point(kind: str, setting: str, seed: int, cycles: float, accuracy: float, **more: Any) -> dict[str, Any]:
    """Return a point; without `more`, its prediction is 1 % high and its interval has the measured cycles."""
    name = "-".join(part for part in (kind, setting, f"s{seed}") if part)
    share = {"npu8": 1.0, "npu_lb": 0.0}.get(kind, 0.25)
    layers = [
        {
            "name": layer,
            "op": "conv2d",
            "channels": {"npu8": int(share * count), "npu_lb": count - int(share * count)},
        }
        for layer, count in (("conv1", 16), ("conv2", 32))
    ]
    return {
        "name": name, "kind": kind, "setting": setting, "seed": seed,
        "predicted_cycles": 1.01 * cycles, "low": 0.99 * cycles, "high": 1.03 * cycles,
        "measured_cycles": cycles, "energy_pj": None,
        "accuracy_percent": accuracy, "float_accuracy_percent": 99.0, "exact_in_rtl": True,
        "mapping": f"points/{name}.yaml", "network": f"points/{name}.npz", "layers": layers,
    } | more  # fmt: skip


def several(kind: str, setting: str, cycles: list[float], accuracies: list[float]) -> list[dict[str, Any]]:
    """Return the points of seeds 1, 2, ..."""
    pairs = zip(cycles, accuracies, strict=True)
    return [point(kind, setting, seed, *pair) for seed, pair in enumerate(pairs, 1)]


def made_up_study() -> Study:
    """Return a study that wins against one baseline, ties with two, and loses against one."""
    points = [
        *several("npu8", "", [2000, 2000, 2000], [97.0, 97.5, 98.0]),
        *several("npu_lb", "", [1000, 1000, 1000], [80.0, 81.0, 82.0]),
        *several("first_last", "", [1300, 1300, 1300], [98.9, 99.0, 99.1]),
        *several("searched", "0.5", [1180, 1200, 1220], [97.4, 97.5, 97.6]),
        *several("searched", "2", [900, 910, 920], [90.0, 91.0, 92.0]),
        *several("searched", "1.5", [1240, 1250, 1260], [95.0, 95.5, 96.0]),
        *several("random", "0.5", [1200, 1200, 1200], [93.0, 97.0, 97.0]),
        *several("cheapest", "", [700, 700, 700], [70.0, 71.0, 72.0]),
    ]
    points[1] |= {"predicted_cycles": 1940.0, "low": 1930.0, "high": 1950.0}  # -3 %, and outside
    epochs = [{"epoch": 1, "loss": 2.0, "accuracy_percent": 50.0}, {"epoch": 2, "loss": 0.5}]
    searching = [
        {"epoch": i, "loss": 1 / i, "accuracy_percent": 90.0 + i, "cost": 2000 - 100 * i, "strength": 0.5}
        for i in (1, 2, 3)
    ]
    warm, search = (
        {"name": phase, "phase": phase, "kind": kind, "setting": setting, "seed": 1, "epochs": rows}
        for phase, kind, setting, rows in (
            ("warm-up", "", "", epochs),
            ("search", "searched", "0.5", searching),
        )
    )
    return {
        "study": {
            "model": "digits", "data": "digits", "objective": "latency",
            "command": "npuloop map --strengths 0.5,1.5,2", "units": ["npu8", "npu_lb"], "seeds": [1, 2, 3],
            "recipe": {"warmup_epochs": 20, "temperature": [1.0, 0.2]}, "test_images": IMAGES,
            "memory_latency": 20,
        },
        "reference_cycles": 2010.0,
        "points": points,
        "curves": [search, warm],
    }  # fmt: skip


def with_energy() -> Study:
    """Return the study with 10 pJ for each cycle, but npu8 for free."""
    study = made_up_study()
    for item in study["points"]:
        item["energy_pj"] = 5.0 if item["kind"] == "npu8" else 10.0 * item["measured_cycles"]
    return study


def page_of(study: Study, folder: Path) -> str:
    """Return the page of a study."""
    path = folder / "report.html"
    write_report(study, path)
    return path.read_text(encoding="utf-8")


# -------------------------------------------------------------------------------------------- energy and area
def table_of(core: CoreConfig, **changed: Any) -> EnergyTable:
    """Return a table of 48 pJ for a column's beat, 16 for its clock, 4 for a bit of every feature."""
    values = dict.fromkeys((*NAMES, *FEATURES), 0.0)
    values |= {"column_beat": 48.0, "column_idle": 16.0, "activation_read": 160.0, "external_byte": 200.0}
    values |= dict.fromkeys(MACS, 4 / len(MACS))
    statistics = LayerStatistics(
        nonzero=dict.fromkeys(MACS, 2.0),
        zero=dict.fromkeys(MACS, 0.5),
        others=dict.fromkeys(OTHERS, 1.0),
        zero_share=0.4,
    )
    table = synthetic(
        core, {}, library={"name": "sky130", "sha256": "0" * 64}, period_ns=30.0, tools={"iverilog": "11"},
        energies={name: energy(value, value / 2, 2 * value) for name, value in values.items()},
        features=FEATURES, statistics=statistics,
        errors={"validation_windows": 2, "points": POINTS}, stimulus={},
    )  # fmt: skip
    return replace(table, **changed)


def area_document(**changed: Any) -> dict[str, Any]:
    """Return what an area table of two units holds."""

    def unit(w_bits: int, side: int, array: float) -> dict[str, Any]:
        return {
            "w_bits": w_bits, "rows": side, "cols": side,
            "groups_um2": {"requantiser": 300_000, "array": array, "registers": 1_000, "unheard of": 99_000},
            "memories_um2": {"activations": 1_000_000, "weights": 500_000},
        }  # fmt: skip

    return {
        "schema": 1, "date": "2026-11-20", "rtl_sha256": rtl_hash(), "libraries": {},
        "tools": {"yosys": "0.70"},
        "units": {"sky130": {NPU8.key: unit(8, 16, 600_000), NPU_LB.key: unit(2, 32, 200_000)}},
    } | changed  # fmt: skip


def folder_of(path: Path, area: Mapping[str, Any] | None, tables: Sequence[EnergyTable]) -> Path:
    """Write tables beside copies of the units' cost tables."""
    for core in (NPU8, NPU_LB):
        shutil.copy(table_path([core], CONFIG), path)
    if area:
        (path / "area.yaml").write_text(yaml.safe_dump(stamped(area), sort_keys=False))
    for table, core in zip(tables, (NPU8, NPU_LB), strict=False):
        save_energy_table(table, energy_path(core, CONFIG, path))
    return path


# ------------------------------------------------------------------------------------------ what a page shows
def drawings(html: str) -> dict[str, ET.Element]:
    """Return the figures of a page, by class and place."""
    pattern = r'<figure class="(\w+)"><img alt="[^"]+" src="data:image/svg\+xml;base64,([^"]+)"'
    texts = [(name, base64.b64decode(data)) for name, data in re.findall(pattern, html)]
    return {f"{i} {name}": ET.fromstring(text) for i, (name, text) in enumerate(texts)}  # noqa: S314  # ours


def cells(html: str, start: str) -> list[list[str]]:
    """Return the rows of all tables whose first cell begins with `start`, without tags."""
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    texts = [[re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]
    return [row for row in texts if row and row[0].startswith(start)]


def text_of(html: str) -> str:
    """Return the words of a page, without tags and figures."""
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r'src="[^"]+"', "", html)).split())


def dots(axes: Axes) -> list[list[list[float]]]:
    """Return the points of each scatter of a panel."""
    scatters = [item for item in axes.collections if isinstance(item, PathCollection)]
    return [np.asarray(item.get_offsets()).tolist() for item in scatters]
