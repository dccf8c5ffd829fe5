# SPDX-License-Identifier: Apache-2.0
"""Faults that the proofs must find: each a change of one place of the RTL, made in a copy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.errors import TestbenchError
from hw.sources import rtl_sources
from tb.formal.prover import Outcome, Proof, prove

CYCLES = 8
"""Cycles from the reset in which a fault shows, unless a mutant says otherwise."""


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes:
        top: the property module that must find it.
        file: of the RTL.
        old, new: the text that stands there once, and what it becomes.
        cycles: in which it does.
        only: ending of the names of the proofs that must find it; the others need not.
    """

    top: str
    file: str
    old: str
    new: str
    cycles: int = CYCLES
    only: str = ""

    def text(self) -> str:
        """Return the changed file.

        Raises:
            TestbenchError: the text does not stand there exactly once.
        """
        (path,) = (path for path in rtl_sources() if path.name == self.file)
        original = path.read_text()
        if original.count(self.old) != 1:
            raise TestbenchError(
                f"{self.file} has {original.count(self.old)} times {self.old!r}; write it anew"
            )
        return original.replace(self.old, self.new)


def find(mutant: Mutant, proof: Proof) -> Outcome:
    """Return what a proof says of a fault: refuted, with a trace, where it finds it.

    Raises:
        TestbenchError: see `Mutant.text` and `prove`.
    """
    return prove(replace(proof, depth=mutant.cycles, bounded=True), {mutant.file: mutant.text()})


MUTANTS = (
    Mutant(
        "prove_fifo", "npu_fifo.sv", "ready_o = count_q != CountBits'(Depth)", "ready_o = 1'b1", cycles=10
    ),
    Mutant("prove_fifo", "npu_fifo.sv", "if (pop) read_q <=", "if (ready_i) read_q <=", only="_4"),
    Mutant("prove_tokens", "npu_tokens.sv", "- CountBits'(take_i[to][from])", ""),
    Mutant(
        "prove_tokens",
        "npu_tokens.sv",
        "if (post_mask_i[from][to] && count_q[from][to] == '1) post_ready_o",
        "if (1'b0) post_ready_o",
        only="_2bit",
    ),
    Mutant("prove_bursts", "npu_bursts.sv", "if (take > SizeBits'(in_page)) take = SizeBits'(in_page);", ""),
    Mutant(
        "prove_bursts",
        "npu_bursts.sv",
        "plane_q  <= plane_q + plane_stride_q;",
        "plane_q  <= line_q + plane_stride_q;",
    ),
    Mutant(
        "prove_walk",
        "npu_walk.sv",
        "addr_q  <= plane_q + WalkBits'(plane_stride_q);",
        "addr_q  <= addr_q + WalkBits'(plane_stride_q);",
    ),
    Mutant("prove_events", "npu_events.sv", "wait_valid_i[r] && !served_wait &&", "wait_valid_i[r] &&"),
    Mutant("prove_events", "npu_events.sv", ">= wait_amount_i[r]) begin", "!= '0) begin", only="_3x4"),
    Mutant(
        "prove_axi_arbiter",
        "npu_axi_arbiter.sv",
        "m_axi_wvalid && m_axi_wready && m_axi_wlast;",
        "m_axi_wvalid && m_axi_wready;",
    ),
    Mutant(
        "prove_axi_arbiter",
        "npu_axi_arbiter.sv",
        "for (int unsigned i = 1; i <= Ports; i++)",
        "for (int unsigned i = 0; i < Ports; i++)",
        only="_2",
    ),
    Mutant(
        "prove_axi_arbiter",
        "npu_axi_arbiter.sv",
        "m_axi_rready = r_ready == '1;",
        "m_axi_rready = r_ready != '0;",
        only="_2",
    ),
    Mutant(
        "prove_read_mux",
        "npu_read_mux.sv",
        "locked_q ? select_q : !requester_req_i[0].ar_valid",
        "!requester_req_i[0].ar_valid",
    ),
    Mutant(
        "prove_axil_demux",
        "npu_axil_demux.sv",
        "if ((m_axil_awvalid & m_axil_awready) != '0) aw_sent_q <= 1'b1;",
        "",
    ),
    Mutant(
        "prove_engine_ctrl",
        "npu_engine_ctrl.sv",
        "tokens_ok = (wait_mask & ~token_available_i) == '0;",
        "tokens_ok = 1'b1;",
    ),
    Mutant(
        "prove_engine_ctrl",
        "npu_engine_ctrl.sv",
        "!(is_control || header.fence)",
        "!header.fence",
        only="_compute",
    ),
    Mutant(
        "prove_load",
        "npu_load.sv",
        "bursts_valid && in_flight_q != BurstBits'(MaxBursts);",
        "bursts_valid && in_flight_q != BurstBits'(MaxBursts) && !stop_i;",
    ),
    Mutant(
        "prove_store", "npu_store.sv", "if (stop_i && !(w_valid && !w_ready)) empty_q", "if (stop_i) empty_q"
    ),
    Mutant(
        "prove_store", "npu_store.sv", "(lengths_ready || aw_offered_q);", "lengths_ready;", only="_axi128"
    ),
    Mutant("prove_fetch", "npu_fetch.sv", "address_q + 32'(CmdBits / 8);", "address_q + 32'(CmdBits / 16);"),
    Mutant(
        "prove_requant",
        "npu_requant_behavioural.sv",
        "(mask >> 1) + 32'(negative && !(single3_q && (half_q[l] || rest_q[l])));",
        "mask >> 1;",
        only="_behavioural_rounding",
    ),
    Mutant(
        "prove_requant",
        "npu_requant_lane.sv",
        "(mask >> 1) + 32'(negative && !(single4_i && (half_q || rest_q)));",
        "mask >> 1;",
        only="_structural_rounding",
    ),
    Mutant(
        "prove_requant_product",
        "npu_requant_behavioural.sv",
        "(shift_i[l][7] ? 5'd0 : shift_i[l][4:0]);",
        "shift_i[l][4:0];",
        only="_behavioural_product",
    ),
    Mutant(
        "prove_requant_product",
        "npu_requant_lane.sv",
        "(shift_i[7] ? 5'd0 : shift_i[4:0]);",
        "shift_i[4:0];",
        only="_structural_product",
    ),
    Mutant(
        "prove_core_control",
        "npu_core_control.sv",
        "state_q == CORE_STOP_RESET && quiet_i;",
        "state_q == CORE_STOP_RESET;",
    ),
)
