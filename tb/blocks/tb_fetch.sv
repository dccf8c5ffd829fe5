// SPDX-License-Identifier: Apache-2.0
/// npu_fetch with flat ports.
module tb_fetch
  import npu_pkg::*;
  import npu_axi_pkg::*;
#(
  parameter int unsigned AxiDataBits = 128,
  parameter int unsigned Depth       = 4
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   clear_i,
  input  logic                   stop_i,
  input  logic                   start_i,
  input  logic [           31:0] address_i,
  input  logic [           31:0] count_i,
  output logic                   idle_o,
  output logic                   quiet_o,
  output logic                   error_o,
  output logic [            7:0] error_cause_o,
  output logic [           31:0] error_index_o,
  output logic [           31:0] dispatched_o,
  output logic                   blocked_o,
  output logic [            1:0] ar_id_o,
  output logic [           31:0] ar_addr_o,
  output logic [            7:0] ar_len_o,
  output logic                   ar_valid_o,
  input  logic                   ar_ready_i,
  input  logic [AxiDataBits-1:0] r_data_i,
  input  logic [            1:0] r_resp_i,
  input  logic                   r_last_i,
  input  logic                   r_valid_i,
  output logic                   r_ready_o,
  output logic [            2:0] cmd_valid_o,
  input  logic [            2:0] cmd_ready_i,
  output logic [    CmdBits-1:0] cmd_o,
  output logic [           31:0] cmd_index_o
);
  error_e cause;
  axi_read_req_t req;
  axi_read_rsp_t rsp;
  assign error_cause_o = 8'(cause);
  assign ar_id_o       = req.ar.id;
  assign ar_addr_o     = req.ar.addr;
  assign ar_len_o      = req.ar.len;
  assign ar_valid_o    = req.ar_valid;
  assign r_ready_o     = req.r_ready;
  assign rsp           = '{
    ar_ready: ar_ready_i,
    r: '{id: '0, data: AxiMaxDataBits'(r_data_i), resp: r_resp_i, last: r_last_i},
    r_valid: r_valid_i
  };

  npu_fetch #(
    .AxiDataBits(AxiDataBits),
    .Depth      (Depth)
  ) i_fetch (
    .error_cause_o(cause),
    .axi_req_o    (req),
    .axi_rsp_i    (rsp),
    .*
  );
endmodule
