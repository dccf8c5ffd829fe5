# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from common.errors import ConfigError
from hw.core import CoreConfig, default_cols
from hw.memory import ErrorRange, MemoryModel
from hw.system import NPU8, NPU_LB, System


@pytest.mark.parametrize(
    ("w_bits", "rows", "cols"),
    [
        (8, 16, 16),
        (7, 16, 16),
        (6, 16, 16),
        (5, 16, 32),
        (4, 16, 32),
        (3, 16, 32),
        (2, 16, 64),
        (2, 32, 32),
        (5, 32, 16),
        (8, 32, 0),
    ],
)
def test_default_columns_fill_the_weight_tile(w_bits: int, rows: int, cols: int) -> None:
    assert default_cols(w_bits, rows) == cols
    if cols >= rows:
        assert CoreConfig("unit", w_bits=w_bits, rows=rows).cols == cols


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"w_bits": 1}, "w_bits = 1 must be 2 to 8"),
        ({"a_bits": 9}, "a_bits = 9"),
        ({"rows": 24}, "rows = 24 must be a multiple of 16"),
        ({"cols": 8}, "cols = 8"),
        ({"rows": 32, "w_bits": 8}, "cols = 0 must be"),
        ({"lanes": 3}, "lanes = 3"),
        ({"dw_taps": 0}, "dw_taps = 0"),
        ({"stripe_depth": 256}, "stripe_depth = 256"),
        ({"param_kib": 256}, "param_kib = 256"),
        ({"act_kib": 1.5}, "act_kib = 1.5 must be an integer"),
        ({"name": "npu 8"}, "name = 'npu 8'"),
    ],
)
def test_wrong_core_parameters_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CoreConfig(**({"name": "unit"} | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cores": ()}, "0 cores"),
        ({"cores": (NPU8, NPU8)}, "its own name"),
        ({"axi_bits": 32}, "axi_bits = 32"),
        ({"mem_bytes": 3 << 20}, "mem_bytes"),
    ],
)
def test_wrong_systems_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        System(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"latency": 1},
        {"beats": 2, "per_cycles": 1},
        {"beats": 0},
        {"backpressure_percent": 99},
        {"errors": (ErrorRange(0, 1),) * 5},
        {"errors": (ErrorRange(0, 0),)},
    ],
)
def test_wrong_memory_models_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MemoryModel(**fields)


def test_a_cores_key_says_its_parameters_and_not_its_name() -> None:
    assert [CoreConfig(name).key for name in ("npu8", "other")] == ["w8a8_16x16"] * 2
    assert CoreConfig("npu_lb", w_bits=2).key == "w2a8_16x64"
    changed = CoreConfig("unit", a_bits=7, w_bits=4, cols=48, lanes=8, act_kib=64, dw_taps=3)
    assert changed.key == "w4a7_16x48_l8_d3_act64"


def test_equal_keys_mean_equal_parameters() -> None:
    changes: list[dict[str, int]] = [
        {}, {"a_bits": 7}, {"w_bits": 4}, {"rows": 32, "w_bits": 2}, {"w_bits": 4, "cols": 16},
        {"stripe_depth": 32}, {"lanes": 8}, {"dw_taps": 3}, {"act_kib": 64}, {"weight_kib": 32},
        {"param_kib": 8},
    ]  # fmt: skip
    keys = [CoreConfig("unit", **change).key for change in changes]
    assert len(set(keys)) == len(changes) == len(fields(CoreConfig))


def test_a_system_gives_its_units_by_name() -> None:
    system = System()
    assert system.units == ("npu8", "npu_lb")
    assert system.core("npu_lb") is NPU_LB
    with pytest.raises(ConfigError, match="no unit 'npu9' in this system; it has npu8, npu_lb"):
        system.core("npu9")
