# SPDX-License-Identifier: Apache-2.0
"""Commands that leave a scratchpad are stopped, and the error is that of the command that left it."""

from __future__ import annotations

import numpy as np
import pytest

from hw.core import CoreConfig
from hw.memory import MemoryModel
from hw.system import NPU8
from tb.testing import TARGET
from tb.tests.faults import FILL, LONG, MARK, WORD, Bench, Sizes, nop, small, stalling


@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("memory", [MemoryModel(), stalling()], ids=["fast", "stalling"])
def test_a_load_beyond_its_scratchpad_is_stopped(bench: Bench, target: int, memory: MemoryModel) -> None:
    size = bench.sizes.targets[target]
    cases = [
        {"local_address": size, "line_words": 1},
        {"local_address": (1 << 20) - 1, "line_words": 1},
        {"local_address": size - 1, "line_words": 2},
        {"local_address": size - 100, "line_words": 101},
        {"local_address": size - 8, "line_words": 2, "lines": 5},
        {"local_address": 0, "line_words": 4, "local_step": 255, "lines": 65535},
        {"local_address": 3, "line_words": 2, "planes": 2, "local_plane_stride": size - 4},
        {"local_address": 0, "line_words": 2, "planes": 40, "local_plane_stride": (1 << 20) - 1},
    ]
    for case in cases:
        bad = small("load", target=target, **case)
        bench.fails(bench.job([bad], memory=memory), "scratchpad_range", "load", 0)
        bench.fails(
            bench.job([nop("load"), bad, small("load")], memory=memory), "scratchpad_range", "load", 1
        )
        bench.recovers()
    last = small("load", target=target, local_address=size - 4)
    assert bench.session.run(bench.job([last], memory=memory)).ok


@pytest.mark.parametrize("memory", [MemoryModel(), stalling(60)], ids=["fast", "stalling"])
def test_a_store_from_beyond_the_scratchpad_is_stopped(bench: Bench, memory: MemoryModel) -> None:
    size = bench.sizes.act_parts
    cases = [
        {"local_address": size, "line_words": 1},
        {"local_address": (1 << 20) - 1, "line_words": 1},
        {"local_address": size - 1, "line_words": 2},
        {"local_address": size - 100, "line_words": 101},
        {"local_address": 0, "line_words": 100, "local_step": 255},
        {"local_address": 3, "line_words": 20, "planes": 3, "local_plane_stride": size // 2 + 8},
    ]
    for case in cases:
        bad = small("store", **case)
        bench.fails(bench.job([bad], memory=memory), "scratchpad_range", "store", 0)
        job = bench.job(
            [small("store", line_words=100), bad, small("mark")], memory=memory, reads=[(MARK, WORD)]
        )
        result = bench.fails(job, "scratchpad_range", "store", 1)
        assert set(result.reads[0].tolist()) == {FILL}
        bench.recovers()
    assert bench.session.run(bench.job([small("store", local_address=size - 4)], memory=memory)).ok


def operand_cases(core: CoreConfig) -> dict[str, tuple[str, dict[str, int]]]:
    """Commands that read or write beyond a scratchpad, by name."""
    sizes = Sizes.of(core)
    words = core.columns * core.rows * core.w_bits // 8 // 32  # of a tile
    wide = core.columns + 1  # two tiles
    deep = core.rows + 1  # two words of channels
    cases: dict[str, tuple[str, dict[str, int]]] = {}
    for name in ("conv", "depthwise", "average_pool", "max_pool", "add"):
        channels = {"out_channels": deep} if name == "add" else {"in_channels": deep, "out_channels": deep}
        cases |= {
            f"{name} reads first word behind": (name, {"in_base": sizes.act_words}),
            f"{name} reads last word behind": (name, {"in_base": sizes.act_words - 3}),
            f"{name} reads before": (name, {"in_base": -1}),
            f"{name} reads far before": (name, {"in_base": -(1 << 31)}),
            f"{name} reads far behind": (name, {"in_base": (1 << 31) - 1}),
            f"{name} writes first word behind": (name, {"out_base": sizes.act_words}),
            f"{name} writes last word behind": (name, {"out_base": sizes.act_words - 3}),
            f"{name} writes plane behind": (name, channels | {"out_plane": sizes.act_words - 66}),
            f"{name} parameters behind": (name, {"param_base": sizes.param_words}),
            f"{name} parameters across the end": (name, {"param_base": sizes.param_words - 8}),
            f"{name} parameters far behind": (name, {"param_base": 65535}),
        }
    cases |= {
        "conv tap before": ("conv", {"in_base": -2}),
        "conv tap behind": ("conv", {"in_base": sizes.act_words - 4, "kernel_h": 2, "in_height": 3}),
        "conv second input plane behind": ("conv", {"in_channels": deep, "in_plane": sizes.act_words - 2}),
        "depthwise slides behind": (
            "depthwise",
            {"in_base": sizes.act_words - 3, "slide": 1, "row_advance": 1},
        ),
        "conv weights behind": ("conv", {"weight_base": sizes.weight_words}),
        "conv weights across the end": ("conv", {"weight_base": sizes.weight_words - words + 1}),
        "conv second tile behind": (
            "conv",
            {"weight_base": sizes.weight_words - words, "out_channels": wide},
        ),
        "conv weights far behind": ("conv", {"weight_base": 65535}),
        "depthwise weights behind": ("depthwise", {"weight_base": sizes.weight_words}),
        "depthwise second tile behind": (
            "depthwise",
            {"weight_base": sizes.weight_words - 1, "kernel_w": 3, "in_width": 4, "in_row_step": 4},
        ),
        "add second input behind": ("add", {"in2_base": sizes.act_words}),
        "add second input's last word behind": ("add", {"in2_base": sizes.act_words - 3}),
        "add second input before": ("add", {"in2_base": -1}),
        "add second input far before": ("add", {"in2_base": -(1 << 31)}),
    }
    return cases


@pytest.mark.parametrize("name", sorted(operand_cases(NPU8)), ids=lambda name: name.replace(" ", "-"))
def test_an_operator_beyond_a_scratchpad_is_stopped(bench: Bench, name: str) -> None:
    op, fields = operand_cases(bench.core)[name]
    bad = small(op, **fields)
    bench.fails(bench.job([bad]), "scratchpad_range", "compute", 0)
    bench.recovers()
    fenced = small(op, fence=1, **fields)
    bench.fails(
        bench.job([nop("compute"), small("conv"), fenced, small("conv")]), "scratchpad_range", "compute", 2
    )
    bench.recovers()


@pytest.mark.parametrize("name", sorted(operand_cases(NPU8)), ids=lambda name: name.replace(" ", "-"))
def test_an_operator_s_error_is_its_own_while_the_one_before_drains(bench: Bench, name: str) -> None:
    """Without a fence two commands are in the engine: the wrong one is named, the one before it finished."""
    op, fields = operand_cases(bench.core)[name]
    long = small("conv", **LONG | {"param_base": 9, "act_min": 77, "act_max": 77})
    job = bench.job([nop("compute"), long, small(op, **fields), small("conv")])
    bench.fails(job, "scratchpad_range", "compute", 2)
    parts = bench.core.rows // WORD
    store = small("store", local_address=1024 * parts, local_step=parts, line_words=64)
    stored = bench.session.run(bench.job([store], reads=[(TARGET, 1024)]))
    np.testing.assert_array_equal(stored.reads[0], np.full(1024, 77))
    bench.recovers()


@pytest.mark.parametrize("memory", [MemoryModel(), stalling()], ids=["fast", "stalling"])
def test_a_load_s_range_error_is_its_own_right_behind_another_load(bench: Bench, memory: MemoryModel) -> None:
    for target, size in enumerate(bench.sizes.targets):
        before = small("load", target=target, line_words=64)
        for local in (size, size - 1):
            bad = small("load", target=target, local_address=local)
            bench.fails(
                bench.job([before, before, bad, before], memory=memory), "scratchpad_range", "load", 2
            )
            bench.recovers()
