// SPDX-License-Identifier: Apache-2.0
/// npu_axil_demux with the ports of one host and two cores as cocotbext-axi expects them.
module tb_demux #(
  parameter int unsigned WindowBits = 10
) (
  input  logic        clk_i,
  input  logic        rst_ni,
`define PORT(N) \
  output logic [15:0] m``N``_axil_awaddr, \
  output logic        m``N``_axil_awvalid, \
  input  logic        m``N``_axil_awready, \
  output logic [31:0] m``N``_axil_wdata, \
  output logic [ 3:0] m``N``_axil_wstrb, \
  output logic        m``N``_axil_wvalid, \
  input  logic        m``N``_axil_wready, \
  input  logic [ 1:0] m``N``_axil_bresp, \
  input  logic        m``N``_axil_bvalid, \
  output logic        m``N``_axil_bready, \
  output logic [15:0] m``N``_axil_araddr, \
  output logic        m``N``_axil_arvalid, \
  input  logic        m``N``_axil_arready, \
  input  logic [31:0] m``N``_axil_rdata, \
  input  logic [ 1:0] m``N``_axil_rresp, \
  input  logic        m``N``_axil_rvalid, \
  output logic        m``N``_axil_rready,
  `PORT(0)
  `PORT(1)
  input  logic [15:0] s_axil_awaddr,
  input  logic        s_axil_awvalid,
  output logic        s_axil_awready,
  input  logic [31:0] s_axil_wdata,
  input  logic [ 3:0] s_axil_wstrb,
  input  logic        s_axil_wvalid,
  output logic        s_axil_wready,
  output logic [ 1:0] s_axil_bresp,
  output logic        s_axil_bvalid,
  input  logic        s_axil_bready,
  input  logic [15:0] s_axil_araddr,
  input  logic        s_axil_arvalid,
  output logic        s_axil_arready,
  output logic [31:0] s_axil_rdata,
  output logic [ 1:0] s_axil_rresp,
  output logic        s_axil_rvalid,
  input  logic        s_axil_rready
);
  logic [15:0] awaddr, araddr;
  logic [31:0] wdata;
  logic [3:0] wstrb;
  assign {m1_axil_awaddr, m0_axil_awaddr} = {2{awaddr}};
  assign {m1_axil_araddr, m0_axil_araddr} = {2{araddr}};
  assign {m1_axil_wdata, m0_axil_wdata}   = {2{wdata}};
  assign {m1_axil_wstrb, m0_axil_wstrb}   = {2{wstrb}};

  npu_axil_demux #(
    .Ports     (2),
    .WindowBits(WindowBits)
  ) i_demux (
    .m_axil_awaddr (awaddr),
    .m_axil_awvalid({m1_axil_awvalid, m0_axil_awvalid}),
    .m_axil_awready({m1_axil_awready, m0_axil_awready}),
    .m_axil_wdata  (wdata),
    .m_axil_wstrb  (wstrb),
    .m_axil_wvalid ({m1_axil_wvalid, m0_axil_wvalid}),
    .m_axil_wready ({m1_axil_wready, m0_axil_wready}),
    .m_axil_bresp  ({m1_axil_bresp, m0_axil_bresp}),
    .m_axil_bvalid ({m1_axil_bvalid, m0_axil_bvalid}),
    .m_axil_bready ({m1_axil_bready, m0_axil_bready}),
    .m_axil_araddr (araddr),
    .m_axil_arvalid({m1_axil_arvalid, m0_axil_arvalid}),
    .m_axil_arready({m1_axil_arready, m0_axil_arready}),
    .m_axil_rdata  ({m1_axil_rdata, m0_axil_rdata}),
    .m_axil_rresp  ({m1_axil_rresp, m0_axil_rresp}),
    .m_axil_rvalid ({m1_axil_rvalid, m0_axil_rvalid}),
    .m_axil_rready ({m1_axil_rready, m0_axil_rready}),
    .*
  );

  WriteAddressStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      m0_axil_awvalid && !m0_axil_awready |=> m0_axil_awvalid && $stable(awaddr))
  else $error("A write address that is offered to a core stays as it is until it is taken (AXI4 A3.2.1).");

  WriteDataStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      m1_axil_wvalid && !m1_axil_wready |=> m1_axil_wvalid && $stable(wdata))
  else $error("Write data that is offered to a core stays as it is until it is taken (AXI4 A3.2.1).");

  ReadDataStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      s_axil_rvalid && !s_axil_rready |=> s_axil_rvalid && $stable(s_axil_rdata))
  else $error("Read data that is offered to the host stays as it is until it is taken (AXI4 A3.2.1).");
endmodule
