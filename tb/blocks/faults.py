# SPDX-License-Identifier: Apache-2.0
"""Cocotb tests that must fail: `test_runner` proves with them that a failure turns a run red."""

from __future__ import annotations

from typing import Any

import cocotb

from tb.blocks.test_tokens import TB


@cocotb.test()
async def wrong_expectation(dut: Any) -> None:
    """A comparison that does not hold."""
    tb = TB(dut)
    await tb.start()
    assert int(dut.available_o.value) == 1


@cocotb.test()
async def broken_assertion(dut: Any) -> None:
    """A token is taken that is not there: only the RTL's own assertion sees it."""
    tb = TB(dut)
    await tb.start()
    dut.take_i.value = 1
    await tb.cycles(3)


@cocotb.test(skip=True)
async def skipped(dut: Any) -> None:
    """A test that does not run."""
    del dut
