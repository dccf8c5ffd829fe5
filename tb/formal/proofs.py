# SPDX-License-Identifier: Apache-2.0
"""The proofs: which property module, with which parameters, how. docs/explanation/proofs.md explains them."""

from __future__ import annotations

from tb.formal.prover import Proof

ENGINES = ("load", "compute", "store")
"""Engines by number."""
QUEUE_OUTPUTS = ("dut.head", "dut.head_index", "dut.flight_mask", "dut.flight_index", "dut.work_index")
"""What the queues of an engine's front give."""

PROOFS = (
    # the slowest first: workers end together
    *(
        Proof(
            f"fetch_axi{bits}",
            "npu_fetch",
            "prove_fetch",
            depth=1,
            parameters={"AxiDataBits": bits},
            free=("dut.cmd_o",),
        )
        for bits in (64, 128)
    ),
    *(
        Proof(
            f"requant_{form}_rounding",
            "npu_requant",
            "prove_requant",
            depth=6,
            parameters={"Structural": structural},
            free=("*product_q",),
        )
        for structural, form in enumerate(("behavioural", "structural"))
    ),
    *(
        Proof(
            f"engine_ctrl_{engine}",
            "npu_engine_ctrl",
            "prove_engine_ctrl",
            depth=1,
            parameters={"Engine": number},
            free=QUEUE_OUTPUTS,
        )
        for number, engine in enumerate(ENGINES)
    ),
    *(
        Proof(
            f"{name}_axi{bits}",
            f"npu_{name}",
            f"prove_{name}",
            depth=2,
            parameters={"AxiDataBits": bits} | parameters,
            free=free,
        )
        for name, parameters, free in (
            ("store", {"MaxBursts": 2}, ("dut.word",)),
            ("load", {"MaxBursts": 2}, ("dut.walk_cmd",)),
            ("bursts", {}, ()),
        )
        for bits in (128, 64)
    ),
    *(
        Proof(f"fifo_{depth}", "npu_fifo", "prove_fifo", depth=1, parameters={"Depth": depth})
        for depth in (8, 4, 3, 2, 1)
    ),
    *(
        Proof(
            f"events_{requesters}x{events}",
            "npu_events",
            "prove_events",
            depth=1,
            parameters={"Requesters": requesters, "Events": events},
        )
        for requesters, events in ((6, 4), (3, 4))
    ),
    *(
        Proof(
            f"axi_arbiter_{ports}",
            "npu_axi_arbiter",
            "prove_axi_arbiter",
            depth=2,
            parameters={"Ports": ports},
        )
        for ports in (4, 3, 2, 1)
    ),
    *(
        Proof(f"tokens_{bits}bit", "npu_tokens", "prove_tokens", depth=1, parameters={"CountBits": bits})
        for bits in (6, 2)
    ),
    *(
        Proof(
            f"axil_demux_{ports}", "npu_axil_demux", "prove_axil_demux", depth=2, parameters={"Ports": ports}
        )
        for ports in (4, 2, 1)
    ),
    *(
        Proof(
            f"requant_{form}_product",
            "npu_requant",
            "prove_requant_product",
            depth=3,
            parameters={"Structural": structural},
        )
        for structural, form in enumerate(("behavioural", "structural"))
    ),
    Proof("walk", "npu_walk", "prove_walk", depth=1),
    Proof("read_mux", "npu_read_mux", "prove_read_mux", depth=2),
    Proof("core_control", "npu_core_control", "prove_core_control", depth=2),
)
