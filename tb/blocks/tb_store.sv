/// npu_store with an AXI4 write port as cocotbext-axi expects it, and flat enums.
module tb_store
  import npu_pkg::*;
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
    .aw_valid_o   (m_axi_awvalid),
    .aw_ready_i   (m_axi_awready),
    .aw_addr_o    (m_axi_awaddr),
    .aw_len_o     (m_axi_awlen),
    .w_valid_o    (m_axi_wvalid),
    .w_ready_i    (m_axi_wready),
    .w_data_o     (m_axi_wdata),
    .w_strb_o     (m_axi_wstrb),
    .w_last_o     (m_axi_wlast),
    .b_valid_i    (m_axi_bvalid),
    .b_ready_o    (m_axi_bready),
    .b_resp_i     (m_axi_bresp),
    .*
  );

  // AXI4 A3.2.1: a request stays as it is until it is taken.
  assert property (@(posedge clk_i) disable iff (!rst_ni)
      m_axi_awvalid && !m_axi_awready |=> m_axi_awvalid && $stable(m_axi_awaddr) && $stable(m_axi_awlen));
  // A burst has at most 16 beats.
  assert property (@(posedge clk_i) disable iff (!rst_ni) m_axi_awvalid |-> m_axi_awlen < 8'd16);
endmodule
