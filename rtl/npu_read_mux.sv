// SPDX-License-Identifier: Apache-2.0
/// Joins the read channels of the fetch unit (index 0) and the load engine (index 1) on one AXI read port.
///
/// Fetch goes first; a request that is on the port stays until it is taken. Data is routed by its ID, which is the index;
/// the IDs of the requests that come in do not matter.
module npu_read_mux
  import npu_axi_pkg::*;
(
  input  logic          clk_i,
  input  logic          rst_ni,
  // requesters
  input  axi_read_req_t requester_req_i[2],
  output axi_read_rsp_t requester_rsp_o[2],
  // port
  output axi_read_req_t port_req_o,
  input  axi_read_rsp_t port_rsp_i
);
  logic select, locked_q, select_q, r_valid, r_ready;
  logic [AxiCoreIdBits-1:0] r_id;

  assign select = locked_q ? select_q : !requester_req_i[0].ar_valid;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      locked_q <= 1'b0;
      select_q <= 1'b0;
    end else begin
      locked_q <= port_req_o.ar_valid && !port_rsp_i.ar_ready;
      select_q <= select;
    end
  end

  // not by ID: no path from the port's inputs to its outputs; the requesters' ready does not wait for their valid
  assign r_valid = port_rsp_i.r_valid;
  assign r_id    = port_rsp_i.r.id;
  assign r_ready = requester_req_i[0].r_ready && requester_req_i[1].r_ready;

  assign port_req_o = '{
    ar: '{id: AxiCoreIdBits'(select), addr: requester_req_i[select].ar.addr, len: requester_req_i[select].ar.len},
    ar_valid: requester_req_i[select].ar_valid,
    r_ready: r_ready
  };

  for (genvar i = 0; i < 2; i++) begin : gen_requester
    assign requester_rsp_o[i] = '{
      ar_ready: port_rsp_i.ar_ready && select == 1'(i),
      r_valid: r_valid && r_ready && r_id[0] == 1'(i),
      r: port_rsp_i.r
    };
  end

  ReadDataHasAnIdThatWasSent : assert property (@(posedge clk_i) disable iff (!rst_ni) r_valid |-> !r_id[1])
  else $error("Data comes back under the IDs that were sent.");
endmodule
