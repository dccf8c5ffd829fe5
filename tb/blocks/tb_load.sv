// SPDX-License-Identifier: Apache-2.0
/// npu_load with an AXI4 read port as cocotbext-axi expects it, and flat enums.
module tb_load
  import npu_pkg::*;
  import npu_axi_pkg::*;
#(
  parameter int unsigned AxiDataBits = 128,
  parameter int unsigned ActWords    = 1024,
  parameter int unsigned WeightWords = 512,
  parameter int unsigned ParamWords  = 256,
  parameter int unsigned MaxBursts   = 4
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   clear_i,
  input  logic                   stop_i,
  input  logic                   start_valid_i,
  output logic                   start_ready_o,
  input  logic [    CmdBits-1:0] start_cmd_i,
  output logic                   start_illegal_o,
  output logic                   done_o,
  output logic [            2:0] work_o,
  output logic                   quiet_o,
  output logic                   error_o,
  output logic [            7:0] error_cause_o,
  output logic [            1:0] m_axi_arid,
  output logic [           31:0] m_axi_araddr,
  output logic [            7:0] m_axi_arlen,
  output logic [            2:0] m_axi_arsize,
  output logic [            1:0] m_axi_arburst,
  output logic                   m_axi_arvalid,
  input  logic                   m_axi_arready,
  input  logic [            1:0] m_axi_rid,
  input  logic [AxiDataBits-1:0] m_axi_rdata,
  input  logic [            1:0] m_axi_rresp,
  input  logic                   m_axi_rlast,
  input  logic                   m_axi_rvalid,
  output logic                   m_axi_rready,
  output logic [            2:0] write_valid_o,
  input  logic [            2:0] write_ready_i,
  output logic                   write_last_o,
  output logic [           19:0] write_addr_o,
  output logic [          127:0] write_data_o
);
  state_e work;
  error_e cause;
  axi_read_req_t req;
  axi_read_rsp_t rsp;
  assign m_axi_araddr  = req.ar.addr;
  assign m_axi_arlen   = req.ar.len;
  assign m_axi_arvalid = req.ar_valid;
  assign m_axi_rready  = req.r_ready;
  assign rsp           = '{
    ar_ready: m_axi_arready,
    r: '{id: m_axi_rid, data: AxiMaxDataBits'(m_axi_rdata), resp: m_axi_rresp, last: m_axi_rlast},
    r_valid: m_axi_rvalid
  };
  assign work_o        = 3'(work);
  assign error_cause_o = 8'(cause);
  assign m_axi_arid    = '0;
  assign m_axi_arsize  = 3'($clog2(AxiDataBits / 8));
  assign m_axi_arburst = 2'b01;

  npu_load #(
    .AxiDataBits(AxiDataBits),
    .ActWords   (ActWords),
    .WeightWords(WeightWords),
    .ParamWords (ParamWords),
    .MaxBursts  (MaxBursts)
  ) i_load (
    .work_o       (work),
    .error_cause_o(cause),
    .axi_req_o    (req),
    .axi_rsp_i    (rsp),
    .*
  );

  RequestStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      m_axi_arvalid && !m_axi_arready |=> m_axi_arvalid && $stable(m_axi_araddr) && $stable(m_axi_arlen))
  else $error("A request stays as it is until it is taken (AXI4 A3.2.1).");

  BurstIsNotTooLong : assert property (@(posedge clk_i) disable iff (!rst_ni) m_axi_arvalid |-> 32'(m_axi_arlen) < AxiMaxBeats)
  else $error("A burst has at most 16 beats.");
endmodule
