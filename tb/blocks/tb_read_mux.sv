// SPDX-License-Identifier: Apache-2.0
/// npu_read_mux with flat ports: requester 0 in the low bits.
module tb_read_mux
  import npu_axi_pkg::*;
(
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic [  3:0] id_i,       // the requesters' own IDs, of no meaning
  input  logic [ 63:0] addr_i,
  input  logic [ 15:0] len_i,
  input  logic [  1:0] valid_i,
  output logic [  1:0] ready_o,
  input  logic [  1:0] r_ready_i,
  output logic [  1:0] r_valid_o,
  output logic [265:0] r_o,        // what each requester sees: id, resp, last, data
  output logic [  1:0] port_id_o,
  output logic [ 31:0] port_addr_o,
  output logic [  7:0] port_len_o,
  output logic         port_valid_o,
  input  logic         port_ready_i,
  output logic         port_r_ready_o,
  input  logic [  1:0] port_r_id_i,
  input  logic [130:0] port_r_i,   // resp, last, data
  input  logic         port_r_valid_i
);
  axi_read_req_t requester_req[2];
  axi_read_rsp_t requester_rsp[2];
  axi_read_req_t port_req;
  axi_read_rsp_t port_rsp;

  for (genvar i = 0; i < 2; i++) begin : gen_requester
    assign requester_req[i] = '{
      ar: '{id: id_i[2*i+:2], addr: addr_i[32*i+:32], len: len_i[8*i+:8]},
      ar_valid: valid_i[i],
      r_ready: r_ready_i[i]
    };
    assign ready_o[i]       = requester_rsp[i].ar_ready;
    assign r_valid_o[i]     = requester_rsp[i].r_valid;
    assign r_o[133*i+:133]  = requester_rsp[i].r;
  end
  assign port_id_o      = port_req.ar.id;
  assign port_addr_o    = port_req.ar.addr;
  assign port_len_o     = port_req.ar.len;
  assign port_valid_o   = port_req.ar_valid;
  assign port_r_ready_o = port_req.r_ready;
  assign port_rsp       = '{
    ar_ready: port_ready_i,
    r_valid: port_r_valid_i,
    r: '{id: port_r_id_i, resp: port_r_i[130:129], last: port_r_i[128], data: port_r_i[127:0]}
  };

  npu_read_mux i_mux (
    .requester_req_i(requester_req),
    .requester_rsp_o(requester_rsp),
    .port_req_o     (port_req),
    .port_rsp_i     (port_rsp),
    .*
  );

  RequestStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      port_valid_o && !port_ready_i |=> port_valid_o && $stable(port_id_o) && $stable(port_addr_o) && $stable(port_len_o))
  else $error("A request stays as it is until it is taken (AXI4 A3.2.1).");
endmodule
