# SPDX-License-Identifier: Apache-2.0
"""The design refuses wrong parameters by itself, whoever elaborates it."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.paths import ROOT
from hw.core import CoreConfig
from hw.system import System
from tb.build import find_verilator
from tb.lint import verilator_command

WRONG = {"w_bits": 9, "stripe_depth": 256, "lanes": 3, "dw_taps": 17, "param_kib": 256}
"""Values beyond their ranges, which `CoreConfig` would refuse."""


@pytest.mark.rtl
def test_wrong_parameters_stop_elaboration_and_are_named() -> None:
    core = CoreConfig("core")
    members = {name: getattr(core, name) for name in CoreConfig.__dataclass_fields__} | WRONG
    wrong: Any = SimpleNamespace(cores=[SimpleNamespace(**members)], axi_bits=32)
    literal = System.parameter(cast("System", wrong))
    command = [
        f"-GCores={literal}" if word.startswith("-GCores=") else word
        for word in verilator_command(System((core,)), structural=False)
    ]
    assert f"-GCores={literal}" in command
    environment = find_verilator().environment()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    for message in (
        "npu_array_behavioural: ABits must be 4 to 8, WBits 2 to 8",
        "npu_compute: StripeDepth must be 1 to 255",
        "npu_drain: Lanes must divide 16, and 16 divide Cols",
        "npu_agu: DwTaps must be 1 to min(16, Cols)",
        "npu_core_regs: act_kib and weight_kib must be 1 to 4095, param_kib 1 to 255",
        "npu_soc: axi_bits of every core must equal AxiDataBits",
    ):
        assert f"USERFATAL: rtl/{message.partition(':')[0]}.sv" in done.stderr
        assert message in done.stderr
