# SPDX-License-Identifier: Apache-2.0
"""Uncalibrated estimates of a layer's cycles, to stand beside the calibrated model: peak, roofline, ZigZag.

None of them has seen a measurement. They know the array's size, the scratchpads and the memory port of
docs/explanation/hardware.md, and the layer; the memory's latency and the commands they know nothing of.

Sources: Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance Model", CACM 2009; Mei et
    al., "ZigZag: Enlarging Joint Architecture-Mapping Design Space Exploration for DNN Accelerators", IEEE
    Transactions on Computers 2021.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from common.errors import UnsupportedError
from golden.layer import WEIGHTED_OPS
from hw.core import CoreConfig
from hw.interface import WEIGHT_WORD_BYTES
from hw.layout import CHANNEL_BLOCK
from mapping.compiler.regions import ceil_div
from mapping.cost.shapes import Shape

PORT_BYTES = 16
"""Bytes per cycle and direction of the memory port: 128-bit AXI."""

VECTOR_LANES = CHANNEL_BLOCK
"""Element operations per cycle of additions and pools, which use the accumulators of 16 columns."""

PARAMETER_BYTES = 9
"""Requantisation parameters of an output channel: bias and multiplier of 32 bits, shift of 8."""

ZIGZAG_ORDERINGS = 6
"""Loop factors whose orders ZigZag tries out (`lpf_limit`): its own default."""


def ideal_cycles(shape: Shape, *cores: CoreConfig) -> float:
    """Return operations / peak: MACs / (rows * columns), or element operations / 16 without MACs.

    Args:
        shape: the layer; of a split one the slower part counts.
        cores: the unit, or for a split layer all units that it names.

    Raises:
        UnsupportedError: several units without a split, or a split that names another unit.
    """
    return max(_compute_cycles(shape, core, channels) for core, channels in _parts(shape, cores))


def roofline_cycles(shape: Shape, *cores: CoreConfig, port_bytes: int = PORT_BYTES) -> float:
    """Return the largest of `ideal_cycles` and the bytes read and the bytes written / port_bytes.

    The port reads and writes at the same time, each at its full width. The bytes of both parts of a split
    layer cross one port.

    Args:
        shape: the layer.
        cores: as of `ideal_cycles`.
        port_bytes: bytes per cycle and direction.

    Raises:
        UnsupportedError: as `ideal_cycles`.
    """
    parts = _parts(shape, cores)
    read = sum(read_bytes(shape, core, channels) for core, channels in parts)
    written = sum(written_bytes(shape, channels) for _, channels in parts)
    return max(ideal_cycles(shape, *cores), read / port_bytes, written / port_bytes)


def read_bytes(shape: Shape, core: CoreConfig, channels: int | None = None) -> int:
    """Return the bytes that a unit must read once for a layer, or for its part of it, without padding.

    The input as far as it is used, weights of w_bits each, and of layers with weights the requantisation
    parameters.

    Args:
        shape: the layer.
        core: the unit.
        channels: output channels that the unit makes; None: all. Where channels are independent, it reads
            only theirs; else the whole input.
    """
    outputs = shape.out_channels if channels is None else channels
    inputs = shape.in_channels
    if shape.op not in ("conv2d", "fully_connected"):
        inputs = ceil_div(outputs * inputs, shape.out_channels)
    total = inputs * _touched(shape, 0) * _touched(shape, 1) * (2 if shape.op == "add" else 1)
    if shape.op in WEIGHTED_OPS:
        weights = shape.weights // shape.out_channels * outputs
        total += ceil_div(weights * core.w_bits, 8) + PARAMETER_BYTES * outputs
    return total


def _touched(shape: Shape, axis: int) -> int:
    """Return the rows (axis 0) or columns of the input that some window covers."""
    size, outputs = ((shape.in_height, shape.out_height), (shape.in_width, shape.out_width))[axis]
    kernel, stride = shape.kernel[axis], shape.stride[axis]
    return min(size, outputs * kernel if stride > kernel else (outputs - 1) * stride + kernel)


def written_bytes(shape: Shape, channels: int | None = None) -> int:
    """Return the bytes of a layer's output, or of some channels of it, without padding."""
    outputs = shape.out_channels if channels is None else channels
    return outputs * shape.out_height * shape.out_width


def _compute_cycles(shape: Shape, core: CoreConfig, channels: int) -> float:
    values = written_bytes(shape, channels)
    if shape.op in WEIGHTED_OPS:
        return values * (shape.weights // shape.out_channels) / (core.rows * core.columns)
    return values * shape.kernel[0] * shape.kernel[1] / VECTOR_LANES


def _parts(shape: Shape, cores: Sequence[CoreConfig]) -> list[tuple[CoreConfig, int]]:
    """Return the output channels that each unit makes."""
    if shape.split is None:
        if len(cores) != 1:
            raise UnsupportedError(
                f"layer {shape.name!r}: {len(cores)} units but no split; give one unit, or say how many "
                "output channels each makes"
            )
        return [(cores[0], shape.out_channels)]
    known = {core.name: core for core in cores}
    for unit in shape.split:
        if unit not in known:
            raise UnsupportedError(
                f"layer {shape.name!r}: its split names unit {unit!r}; it was given {', '.join(known)}"
            )
    return [(known[unit], channels) for unit, channels in shape.split.items()]


# -------------------------------------------------------------------------------------------------- ZigZag
def zigzag_version() -> str | None:
    """Return the installed version of ZigZag, or None without it."""
    try:
        return importlib.metadata.version("zigzag-dse")
    except importlib.metadata.PackageNotFoundError:
        return None


def zigzag_cycles(shapes: Sequence[Shape], core: CoreConfig) -> list[float | None]:
    """Return ZigZag's latency of each layer, loading and storing included: the least of all loop orders.

    It takes seconds per layer; layers of equal geometry are estimated once.

    Args:
        shapes: the layers.
        core: the unit, described by `zigzag_accelerator`.

    Returns:
        cycles; None for additions and pools, for split layers, and where ZigZag finds no loop order that
        fits.

    Raises:
        UnsupportedError: ZigZag is not installed.
    """
    if zigzag_version() is None:
        raise UnsupportedError(
            "ZigZag is not installed; pip install 'npuloop[compare]' (Python 3.11 or newer)"
        )
    known: dict[str, float | None] = {}
    for shape in shapes:
        if shape.key not in known:
            described = shape.op in WEIGHTED_OPS and shape.split is None
            known[shape.key] = _zigzag_latency(shape, core) if described else None
    return [known[shape.key] for shape in shapes]


def zigzag_accelerator(
    core: CoreConfig, depthwise: bool = False, port_bytes: int = PORT_BYTES
) -> dict[str, Any]:
    """Return a unit in ZigZag's description of accelerators.

    Memories and ports are those of docs/explanation/hardware.md, from the array outwards; sizes and port
    widths in bits (per cycle). A port is named by what it serves: an operand (I1 activations, I2 weights, O
    results) and fh, tl, fl, th: from or to the memory above (high) or below (low). Energies are all 1: they
    decide between loop orders of equal latency. No dimension is systolic: a word reaches all columns in the
    same cycle, and the sums leave them together.

    What ZigZag cannot say: the depth of pipelines, bursts and their latency, commands, and the slide
    registers of depthwise layers, which stand here as a read port that is `dw_taps` words wide.

    Args:
        core: the unit.
        depthwise: as depthwise layers use it: rows are channels and columns kernel columns, and sums are kept
            per row. Else columns are output channels, each with its sums.
        port_bytes: bytes per cycle and direction of the memory port.
    """
    port, word, tap_words = 8 * port_bytes, 8 * core.rows, core.dw_taps if depthwise else 1
    both = ["D1", "D2"]
    return {
        "name": core.name,
        "operational_array": {
            "dimensions": both,
            "sizes": [core.rows, core.columns],
            "unit_energy": 1.0,
            "unit_area": 1.0,
        },
        # ZigZag takes the order of the memories as their order from the array outwards
        "memories": {
            # active and shadow tile
            "weight_registers": _memory(
                2 * core.w_bits,
                "I2",
                {"read": [(core.w_bits, "I2, tl")], "write": [(core.w_bits, "I2, fh")]},
                served=[],
                force_double_buffering=True,
            ),
            # two banks of a stripe each
            "accumulators": _memory(
                2 * 32 * core.stripe_depth,
                "O",
                {"read": [(32, "O, tl"), (32, "O, th")], "write": [(32, "O, fl"), (32, "O, fh")]},
                served=["D2" if depthwise else "D1"],
                force_double_buffering=True,
            ),
            "activations": _memory(
                core.act_kib * 8192,
                "I1 O",
                {
                    "read": [(word * tap_words, "I1, tl"), (port, "O, th; O, tl")],
                    "write": [(8 * core.lanes, "O, fl"), (port, "I1, fh; O, fh")],
                },
                served=both,
            ),
            "weights": _memory(
                core.weight_kib * 8192,
                "I2",
                {"read": [(8 * WEIGHT_WORD_BYTES, "I2, tl")], "write": [(port, "I2, fh")]},
                served=both,
            ),
            "memory": _memory(
                2**40,
                "I1 I2 O",
                {
                    "read": [(port, "I1, tl; I2, tl; O, tl")],
                    "write": [(port, "I1, fh; I2, fh; O, fl; O, fh")],
                },
                served=both,
            ),
        },
    }  # fmt: skip


def _memory(
    bits: int, operands: str, ports: dict[str, list[tuple[int, str]]], *, served: list[str], **options: bool
) -> dict[str, Any]:
    return {
        "size": bits,
        "latency": 1,
        "r_cost": 1.0,
        "w_cost": 1.0,
        "area": 0.0,
        "operands": operands.split(),
        "served_dimensions": served,
        "ports": [
            {
                "name": f"{kind[0]}_port_{i}",
                "type": kind,
                "bandwidth_min": width,
                "bandwidth_max": width,
                "allocation": uses.split("; "),
            }
            for kind, entries in ports.items()
            for i, (width, uses) in enumerate(entries, 1)
        ],
        **options,
    }


def zigzag_layer(shape: Shape, core: CoreConfig) -> dict[str, Any]:
    """Return a layer with weights in ZigZag's description of workloads, as its reader of ONNX makes it."""
    groups = shape.in_channels if shape.op == "depthwise_conv2d" else 1
    top, bottom, left, right = shape.pads
    loops = {
        "B": 1,
        "K": shape.out_channels // groups,
        "G": groups,
        "OX": shape.out_width,
        "OY": shape.out_height,
        "C": shape.in_channels // groups,
        "FX": shape.kernel[1],
        "FY": shape.kernel[0],
    }
    return {
        "id": 0,
        "name": shape.name,
        "operator_type": "Conv",
        "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
        "dimension_relations": [f"ix={shape.stride[1]}*ox+1*fx", f"iy={shape.stride[0]}*oy+1*fy"],
        "loop_dims": list(loops),
        "loop_sizes": list(loops.values()),
        "operand_precision": {"W": core.w_bits, "I": 8, "O": 32, "O_final": 8},
        "operand_source": {"W": 0, "I": 0},  # of no other layer
        "pr_loop_dims": ["IX", "IY"],
        "pr_loop_sizes": [shape.in_width, shape.in_height],
        "padding": [[left, right], [top, bottom]],
    }


def zigzag_mapping(shape: Shape, core: CoreConfig) -> dict[str, list[str]]:
    """Return the loops that the array's rows (D1) and columns (D2) take; ZigZag orders the others."""
    if shape.op == "depthwise_conv2d":
        return {"D1": [f"G, {core.rows}"], "D2": [f"FX, {min(shape.kernel[1], core.dw_taps)}"]}
    return {"D1": [f"C, {core.rows}"], "D2": [f"K, {core.columns}"]}


def _zigzag_latency(shape: Shape, core: CoreConfig) -> float | None:
    """Run ZigZag's stages for one layer: those of its `api`, without the ones that write reports."""
    stages = [
        _zigzag("stages.parser.workload_parser", "WorkloadParserStage"),
        _zigzag("stages.parser.accelerator_parser", "AcceleratorParserStage"),
        _zigzag("stages.workload_iterator", "WorkloadStage"),
        _zigzag("stages.results.reduce_stages", "MinimalLatencyStage"),
        _zigzag("stages.mapping.spatial_mapping_generation", "SpatialMappingGeneratorStage"),
        _zigzag("stages.results.reduce_stages", "MinimalLatencyStage"),
        _zigzag("stages.mapping.temporal_mapping_generator_stage", "TemporalMappingGeneratorStage"),
        _zigzag("stages.evaluation.cost_model_evaluation", "CostModelStage"),
    ]
    no_order = _zigzag("opt.loma.engine", "NoValidLoopOrderingFoundException")
    uneven = _zigzag("mapping.temporal_mapping", "TemporalMappingType")("uneven")
    mapping = {"name": "default", "spatial_mapping": zigzag_mapping(shape, core)}
    with tempfile.TemporaryDirectory() as folder:
        accelerator_path, mapping_path = Path(folder) / "accelerator.yaml", Path(folder) / "mapping.yaml"
        accelerator = zigzag_accelerator(core, depthwise=shape.op == "depthwise_conv2d")
        accelerator_path.write_text(yaml.safe_dump(accelerator, sort_keys=False))
        mapping_path.write_text(yaml.safe_dump([mapping], sort_keys=False))
        main = _zigzag("stages.main", "MainStage")(
            stages,
            workload=[zigzag_layer(shape, core)],
            accelerator=str(accelerator_path),
            mapping=str(mapping_path),
            temporal_mapping_type=uneven,
            loma_lpf_limit=ZIGZAG_ORDERINGS,
            loma_show_progress_bar=False,
            nb_mappings_generated=1,
            enable_mix_spatial_mapping_generation=False,
            access_same_data_considered_as_no_access=True,
        )
        try:
            results = main.run()
        except no_order:
            return None
    return float(results[0][0].latency_total2)


def _zigzag(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"zigzag.{module}"), name)
