// SPDX-License-Identifier: Apache-2.0
/// npu_store with an AXI4 write port as cocotbext-axi expects it, and flat enums.
module tb_store
  import npu_pkg::*;
  import npu_axi_pkg::*;
#(
  parameter int unsigned AxiDataBits = 128,
  parameter int unsigned ActWords    = 1024,
  parameter int unsigned MaxBursts   = 4
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic                     clear_i,
  input  logic                     stop_i,
  input  logic [             63:0] cycle_i,
  input  logic                     start_valid_i,
  output logic                     start_ready_o,
  input  logic [      CmdBits-1:0] start_cmd_i,
  output logic                     start_illegal_o,
  output logic                     done_o,
  output logic [              2:0] work_o,
  output logic                     quiet_o,
  output logic                     error_o,
  output logic [              7:0] error_cause_o,
  output logic [              1:0] m_axi_awid,
  output logic [             31:0] m_axi_awaddr,
  output logic [              7:0] m_axi_awlen,
  output logic [              2:0] m_axi_awsize,
  output logic [              1:0] m_axi_awburst,
  output logic                     m_axi_awvalid,
  input  logic                     m_axi_awready,
  output logic [  AxiDataBits-1:0] m_axi_wdata,
  output logic [AxiDataBits/8-1:0] m_axi_wstrb,
  output logic                     m_axi_wlast,
  output logic                     m_axi_wvalid,
  input  logic                     m_axi_wready,
  input  logic [              1:0] m_axi_bid,
  input  logic [              1:0] m_axi_bresp,
  input  logic                     m_axi_bvalid,
  output logic                     m_axi_bready,
  output logic                     read_valid_o,
  input  logic                     read_ready_i,
  output logic [             19:0] read_addr_o,
  input  logic [            127:0] read_data_i
);
  state_e work;
  error_e cause;
  axi_write_req_t req;
  axi_write_rsp_t rsp;
  assign m_axi_awaddr  = req.aw.addr;
  assign m_axi_awlen   = req.aw.len;
  assign m_axi_awvalid = req.aw_valid;
  assign m_axi_wdata   = req.w.data[AxiDataBits-1:0];
  assign m_axi_wstrb   = req.w.strb[AxiDataBits/8-1:0];
  assign m_axi_wlast   = req.w.last;
  assign m_axi_wvalid  = req.w_valid;
  assign m_axi_bready  = req.b_ready;
  assign rsp           = '{
    aw_ready: m_axi_awready, w_ready: m_axi_wready, b_resp: m_axi_bresp, b_valid: m_axi_bvalid
  };
  assign work_o        = 3'(work);
  assign error_cause_o = 8'(cause);
  assign m_axi_awid    = '0;
  assign m_axi_awsize  = 3'($clog2(AxiDataBits / 8));
  assign m_axi_awburst = 2'b01;

  npu_store #(
    .AxiDataBits(AxiDataBits),
    .ActWords   (ActWords),
    .MaxBursts  (MaxBursts)
  ) i_store (
    .work_o       (work),
    .error_cause_o(cause),
    .axi_req_o    (req),
    .axi_rsp_i    (rsp),
    .*
  );

  RequestStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      m_axi_awvalid && !m_axi_awready |=> m_axi_awvalid && $stable(m_axi_awaddr) && $stable(m_axi_awlen))
  else $error("A request stays as it is until it is taken (AXI4 A3.2.1).");

  BurstIsNotTooLong : assert property (@(posedge clk_i) disable iff (!rst_ni) m_axi_awvalid |-> 32'(m_axi_awlen) < AxiMaxBeats)
  else $error("A burst has at most 16 beats.");
endmodule
