from tb.formal.prover import Proof
PROOFS=(*(Proof(f"fifo_{d}", "npu_fifo", "prove_fifo", 2, {"Depth": d}) for d in (1,2,3,4,8,16)),
*(Proof(f"tokens_{d}", "npu_tokens", "prove_tokens", 1, {"CountBits": d}) for d in (2,6)),
*(Proof(f"bursts_{d}", "npu_bursts", "prove_bursts", 2, {"AxiDataBits": d}) for d in (64,128)),
*(Proof(f"events_{d}_{e}", "npu_events", "prove_events", 1, {"Requesters": d, "Events": e}) for d,e in ((3,8),(6,4),(6,8),(12,2))),
*(Proof(f"demux_{d}", "npu_axil_demux", "prove_axil_demux", 2, {"Ports": d}) for d in (1,2,4)),
Proof("read_mux", "npu_read_mux","prove_read_mux",2),
Proof("control", "npu_core_control","prove_core_control",2),
*(Proof(f"arbiter_{d}", "npu_axi_arbiter", "prove_axi_arbiter", 2, {"Ports": d}) for d in (1,2,3,4)),
)
