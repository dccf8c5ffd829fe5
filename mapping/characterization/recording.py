# SPDX-License-Identifier: Apache-2.0
"""Operand streams of real layers: what passes the ports of the synthesised blocks while a network runs.

The simulator is built in the structural form, so that a block's ports in the recording are those of its
netlist. The run is compared with the golden model before anything is made of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from common.arrays import Array
from common.errors import NpuloopError
from common.paths import build_root, data_dir
from golden.importers.models import load_model
from golden.network import Network
from golden.quantize.weights import quantize_weights
from hw.core import CoreConfig
from hw.layout import CHANNEL_BLOCK
from hw.system import System
from mapping.compiler.assignment import Assignment
from mapping.run.networks import compile_network, network_job, run_inputs as run_network_inputs
from tb.session import Session
from tb.vcd import Recording, read_trace

CORE = "tb_top.u_soc.gen_core[0].i_core"
COMPUTE = f"{CORE}.i_compute"
FORM = "gen_structural.i_form"
"""Path from a block with two forms to the one that is synthesised."""
ACC_COLUMNS = 4
"""Columns whose accumulators are a block."""
MAC_STAGES = 2
"""Cycles from a beat, which the counters see, to its products."""

MODELS = {
    "resnet8": ("pretrainedResnet_quant.tflite", "cifar10/cifar10_test_first2000.npz"),
    "ds_cnn": ("kws_ref_model.tflite", "kws/kws01_first500.npz"),
}
"""Networks whose streams are recorded, and the file of their inputs, in the reference data."""


class RecordingError(NpuloopError):
    """Streams that cannot be recorded."""


Signals = Mapping[str, tuple[int, list[int]]]
"""By name of a signal its width and its value in every cycle. See `tb.vcd.Recording`."""


@dataclass(frozen=True)
class Stream:
    """What passed a block."""

    block: str
    place: int
    signals: Signals


@dataclass(frozen=True)
class NetworkStreams:
    """The streams of one inference.

    Attributes:
        network: name in `MODELS`.
        image: number of the input.
        core: the unit.
        layers: name, first cycle and end of each layer in the recording.
        engines: the streams of blocks that are there once, by module; from the start of the inference on.
        columns, accumulators, lanes: the streams of the chosen columns: of the array's column, of the block
            that its accumulator is in, and of its requantiser's lane.
        modules: signals of other modules, by path from the core on; from the start of the inference on.
    """

    network: str
    image: int
    core: CoreConfig
    layers: tuple[tuple[str, int, int], ...]
    engines: Mapping[str, Stream]
    columns: tuple[Stream, ...]
    accumulators: tuple[Stream, ...]
    lanes: tuple[Stream, ...]
    modules: Mapping[str, Signals] = field(default_factory=dict)


def real_network(name: str, w_bits: int = 8) -> Network:
    """Return a network of `MODELS`, its weights narrowed to that many bits.

    Raises:
        NpuloopError: the reference data is not there.
    """
    network = load_model(data_dir() / "models" / MODELS[name][0])
    return network if w_bits == 8 else quantize_weights(network, w_bits)[0]


def real_input(name: str, image: int) -> Array:
    """Return an input of a network of `MODELS`, int8.

    Raises:
        RecordingError: the reference data is not there.
    """
    path = data_dir() / MODELS[name][1]
    try:
        with np.load(path) as data:
            if "image" in data:
                return np.asarray(data["image"][image].astype(np.int16) - 128, np.int8)
            return np.asarray(data["input"][image], np.int8)
    except (OSError, KeyError, IndexError) as error:
        raise RecordingError(
            f"{path}: cannot be read ({error}); NPULOOP_DATA names the folder of reference data"
        ) from None


def column_path(column: int) -> str:
    """Return the path of a column of the array, from the compute engine on."""
    return f"i_array.{FORM}.gen_column[{column}].i_column"


def accumulator_path(column: int) -> str:
    """Return the path of the block that a column's accumulator is in, from the compute engine on."""
    place, inside = divmod(column, CHANNEL_BLOCK)
    return f"gen_acc[{place}].i_acc.{FORM}.gen_columns[{inside // ACC_COLUMNS * ACC_COLUMNS}].i_columns"


def record(
    core: CoreConfig, name: str, image: int, columns: Sequence[int], engines: Mapping[str, str] | None = None,
    modules: Collection[str] = (), module_cycles: int | None = None,
) -> NetworkStreams:  # fmt: skip
    """Run a real network's input on a unit in RTL and return the streams of some columns.

    Args:
        core: the unit, alone in its system.
        name: network in `MODELS`.
        image: number of the input.
        columns: columns of the array; a column's lane of the requantiser is its number modulo the lanes.
        engines: other blocks: module by path from the core on.
        modules: paths of other modules from the core on; empty for the core itself.
        module_cycles: cycles of these that are kept; all by default.

    Raises:
        RecordingError: the output differs from the golden model, or there is no reference data.
    """
    network, config = real_network(name, core.w_bits), System((core,))
    program = compile_network(network, config, Assignment(core.name))
    source = real_input(name, image)
    scopes = {
        "column": [f"{COMPUTE}.{column_path(k)}" for k in columns],
        "acc": [f"{COMPUTE}.{accumulator_path(k)}" for k in columns],
        "lane": [f"{COMPUTE}.i_requant.{FORM}.gen_lane[{k % core.lanes}].i_lane" for k in columns],
    }
    others = {f"{CORE}.{path}": module for path, module in (engines or {}).items()}
    named = {path: f"{CORE}.{path}".rstrip(".") for path in modules}
    always = f"{COMPUTE}.{column_path(0)}"  # the first slice works in every beat
    groups = [*scopes.values(), others, named.values(), [always]]
    recorded = list(dict.fromkeys(scope for group in groups for scope in group))
    parent = build_root() / "recordings"
    parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=parent) as folder,
        Session(config, "record", structural=True) as session,
    ):
        waves = Path(folder) / "ports.vcd"  # of the first job: all registers are as the reset leaves them
        session.run(replace(network_job(program, source), waves=waves, wave_scopes=recorded))
        trace = read_trace(waves, recorded)
        run = next(run_network_inputs(session, program, source))
    if not run.exact:
        raise RecordingError(f"{name}, input {image} on {core.name}: the RTL differs from the golden model")
    mac = trace.scope(always)["mac_i"][1]
    start = mac.index(1) - MAC_STAGES - run.counters[core.name]["array_first"]
    begin, layers = start, []
    for layer in run.layers:
        layers.append((layer.layer, begin, start + layer.end))
        begin = start + layer.end

    def streams(kind: str, module: str) -> tuple[Stream, ...]:
        return tuple(_stream(trace, scope, module, k) for scope, k in zip(scopes[kind], columns, strict=True))

    return NetworkStreams(
        network=name, image=image, core=core, layers=tuple(layers),
        engines={module: _stream(trace, scope, module, 0) for scope, module in others.items()},
        columns=streams("column", "npu_column"),
        accumulators=streams("acc", "npu_acc_columns"), lanes=streams("lane", "npu_requant_lane"),
        modules={
            path: {
                name: (width, values[:module_cycles]) for name, (width, values) in trace.scope(scope).items()
            }
            for path, scope in named.items()
        },
    )  # fmt: skip


def _stream(trace: Recording, scope: str, module: str, place: int) -> Stream:
    return Stream(module, place, trace.scope(scope))
