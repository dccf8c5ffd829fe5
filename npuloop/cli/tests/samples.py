# SPDX-License-Identifier: Apache-2.0
"""A valid file of every kind that commands read, for `fuzzing` to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from common.array_files import read_npz, write_npz
from golden.importers.inputs import random_input
from golden.importers.testing import conv
from golden.layer import OPS, save_layer
from golden.network_file import load_network
from golden.zoo.digits import network_file
from hw.memory import MemoryModel
from hw.system import NPU8, System
from mapping.calibration.measurement import Measurement, Setup
from mapping.calibration.store import Store
from mapping.cost.shapes import Shape, shapes_text
from mapping.cost.tables import FOLDER
from mapping.run.random_layers import random_layer

SYSTEM = """\
npuloop_system: 1
axi_bits: 128
memory_mib: 16
units:
  - {name: big}
  - {name: npu_lb, w_bits: 2, rows: 32, cols: 32, act_kib: 64}
  - {name: spare, type: npu_lb, lanes: 8, count: 1}
"""
MAPPING = """\
npuloop_mapping: 1
default: npu8
layers:
  conv2d_1: npu_lb
  conv2d_2: {npu8: 10, npu_lb: 6}
  conv2d_3:
    npu8: [0, 3, 8-15]
    npu_lb: [1, 2, 4-7]
"""
SHAPES = (
    Shape("stem", "conv2d", 3, 16, 16, 16, (3, 3), (1, 1), "same"),
    Shape("wide", "conv2d", 16, 48, 8, 8, (1, 1), (1, 1), "same", {"npu8": 16, "npu_lb": 32}),
    Shape("dense", "fully_connected", 64, 10, 1, 1),
)


WORKLOAD = """\
npuloop_workload: 1
clock_mhz: 100
duration: 30 us
confidence: strict
versions: versions.yaml
streams:
  - {network: digits, arrivals: {kind: poisson, rate_hz: 400000}, deadline: 100 us, priority: 1}
  - {name: frames, network: digits, arrivals: {kind: frames, sensor_hz: 200000, every: 2}, drop_late: true}
  - {name: loop, network: digits, requests: 3, arrivals: {kind: loadgen, scenario: single_stream}}
  - {name: next, network: digits, arrivals: {kind: cascade, after: frames, probability: 0.5}}
  - {name: bursts, network: digits, arrivals: {kind: bursts, period: 10 us, size: 2, spacing: 50}}
  - {name: trace, network: digits, accuracy_limit: 1.5, arrivals: {kind: trace, times: [5, 1 us]}}
"""
VERSIONS = """\
npuloop_versions: 1
versions:
  - {name: int8, network: digits, file: digits_int8, unit: npu8, accuracy_drop: 0.2, interval: [-0.5, 1.0]}
  - {name: ternary, network: digits, file: digits_ternary}
"""
SCHEDULE = "version,units,start_cycle\nint8,npu8,0.0\nternary,npu_lb,12.0\nternary,npu8,\n"


def write_samples(folder: Path) -> None:
    """Write the samples; of a kind there may be several, `tables` is a folder."""
    for i, op in enumerate(OPS):
        save_layer(random_layer(i + 1, NPU8, op), folder / f"layer.{op}.npz")
    shutil.copy(network_file("int8"), folder / "network.npz")
    arrays = read_npz(network_file("int8"))
    renamed = str(arrays["network"]).replace('"conv1"', '"[/x]"')
    write_npz(arrays | {"network": np.array(renamed)}, folder / "network.renamed.npz")
    (folder / "network.tflite").write_bytes(conv().build())
    (folder / "system.yaml").write_text(SYSTEM)
    (folder / "mapping.yaml").write_text(MAPPING)
    (folder / "workload.yaml").write_text(WORKLOAD)
    (folder / "versions.yaml").write_text(VERSIONS)
    (folder / "schedule.csv").write_text(SCHEDULE)
    (folder / "shapes.yaml").write_text(shapes_text(SHAPES))
    (batch,) = random_input(load_network(network_file("int8")), 1).values()
    np.save(folder / "input.npy", batch)
    write_npz({"input": batch}, folder / "input.npz")
    images = np.zeros((3, 8, 8, 1), np.uint8)
    write_npz({"image": images, "label": np.arange(3)}, folder / "images.npz")
    setup = Setup(System(), MemoryModel())
    store = Store(folder / "store.jsonl")
    for i, shape in enumerate(SHAPES[::2]):
        store.add(
            Measurement(shape, "npu8", 1010 + i, {"npu8": {}}, shape.macs, 0.25, setup.digest, "c", 0.25)
        )
    (folder / "tables").mkdir()
    for file in FOLDER.glob("*.yaml"):
        shutil.copy(file, folder / "tables")
    shutil.copy(FOLDER / "area.yaml", folder / "area.yaml")
