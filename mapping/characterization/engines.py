# SPDX-License-Identifier: Apache-2.0
"""Blocks of which one is replayed from the start of an inference on, and what their energy is counted by."""

from __future__ import annotations

from collections.abc import Mapping

from hw.core import CoreConfig
from mapping.characterization.recording import Stream

ENGINES: Mapping[str, str] = {
    "i_load": "npu_load",
    "i_store": "npu_store",
    "i_compute.i_agu": "npu_agu",
    "i_compute.i_array.gen_structural.i_form.i_operands": "npu_operands",
    "i_compute.i_array.gen_structural.i_form.gen_word[0].i_word": "npu_tile_word",
    "i_compute.i_array.gen_structural.i_form.gen_tap_sum[0].i_tap_sum": "npu_tap_sum",
}
"""Blocks of which one is replayed from the start of an inference on, by path in the core."""
ENGINE_CYCLES = 1200


def engine_parameters(core: CoreConfig, axi_bits: int = 128) -> dict[str, dict[str, int]]:
    """Return the parameters of the modules of `ENGINES`, as npu_core and npu_compute pass them on."""
    act, weight, param = (kib * 64 for kib in (core.act_kib, core.weight_kib, core.param_kib))
    return {
        "npu_load": {"AxiDataBits": axi_bits, "ActWords": act, "WeightWords": weight, "ParamWords": param},
        "npu_store": {"AxiDataBits": axi_bits, "ActWords": act},
        "npu_agu": {"Rows": core.rows, "Cols": core.columns, "WBits": core.w_bits, "DwTaps": core.dw_taps},
        "npu_operands": {"ABits": core.a_bits, "Rows": core.rows, "DwTaps": core.dw_taps},
        "npu_tile_word": {},
        "npu_tap_sum": {
            "ProductBits": core.a_bits + core.w_bits,
            "SumBits": core.a_bits + core.w_bits + (core.rows - 1).bit_length(),
            "DwTaps": core.dw_taps,
        },
    }


def engine_events(streams: Mapping[str, Stream], cycles: int) -> dict[str, int]:
    """Return how often each engine did in some cycles what its energy is counted by."""

    def up(module: str, *names: str) -> int:
        columns = (streams[module].signals[name][1][:cycles] for name in names)
        return sum(all(values) for values in zip(*columns, strict=True))

    shifts = up("npu_operands", "shift_i")
    return {
        "npu_load": up("npu_load", "r_go"),
        "npu_store": up("npu_store", "w_go"),
        "npu_agu": up("npu_agu", "valid_o", "ready_i"),
        "npu_operands": shifts,
        "npu_tile_word": up("npu_tile_word", "write_i"),  # of its share of the words
        "npu_tap_sum": shifts,
    }
