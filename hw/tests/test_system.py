from __future__ import annotations

from typing import Any

import pytest

from common.errors import ConfigError
from hw.core import CoreConfig, default_cols
from hw.memory import ErrorRange, MemoryModel
from hw.system import NPU8, System
from tb.job import JobError


@pytest.mark.parametrize(
    ("w_bits", "rows", "cols"), [(8, 16, 16), (4, 16, 32), (2, 16, 64), (3, 16, 32), (2, 32, 32), (5, 16, 16)]
)
def test_default_columns_fill_the_weight_tile(w_bits: int, rows: int, cols: int) -> None:
    assert default_cols(w_bits, rows) == cols
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
    with pytest.raises(JobError):
        MemoryModel(**fields)
