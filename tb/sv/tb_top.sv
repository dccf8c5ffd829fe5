// SPDX-License-Identifier: Apache-2.0
/// Test top: npu_soc, its memory and its host. main.cpp drives the clock and the reset; `wake_o` toggles when the
/// host has finished a list of operations. The configuration is the package that build.py writes; `Structural` is build.py's option.
module tb_top #(
  parameter bit Structural = 1'b0  // array, accumulators and requantiser in the form that is synthesised
) (
  input  logic clk_i,
  input  logic rst_ni,
  output logic wake_o
);
  import npu_config_pkg::*;

  localparam int unsigned IdBits = npu_axi_pkg::AxiCoreIdBits + (NumCores > 1 ? $clog2(NumCores) : 1);

  logic host_rst_n, soc_rst_n, restart;
  logic [NumCores-1:0] irq;
  logic [31:0] outstanding;

  logic [15:0] axil_awaddr, axil_araddr;
  logic axil_awvalid, axil_awready, axil_wvalid, axil_wready, axil_bvalid, axil_bready;
  logic axil_arvalid, axil_arready, axil_rvalid, axil_rready;
  logic [31:0] axil_wdata, axil_rdata;
  logic [1:0] axil_bresp, axil_rresp;

  logic [IdBits-1:0] axi_awid, axi_bid, axi_arid, axi_rid;
  logic [31:0] axi_awaddr, axi_araddr;
  logic [7:0] axi_awlen, axi_arlen;
  logic [2:0] axi_awsize, axi_arsize;
  logic [1:0] axi_awburst, axi_arburst, axi_bresp, axi_rresp;
  logic axi_awvalid, axi_awready, axi_wlast, axi_wvalid, axi_wready, axi_bvalid, axi_bready;
  logic axi_arvalid, axi_arready, axi_rlast, axi_rvalid, axi_rready;
  logic [AxiDataBits-1:0] axi_wdata, axi_rdata;
  logic [AxiDataBits/8-1:0] axi_wstrb;

  assign soc_rst_n = rst_ni && host_rst_n;

  tb_host #(
    .NumUnits(NumCores)
  ) u_host (
    .clk_i,
    .rst_ni,
    .soc_rst_no    (host_rst_n),
    .restart_o     (restart),
    .wake_o,
    .irq_i         (irq),
    .m_axil_awaddr (axil_awaddr),
    .m_axil_awvalid(axil_awvalid),
    .m_axil_awready(axil_awready),
    .m_axil_wdata  (axil_wdata),
    .m_axil_wvalid (axil_wvalid),
    .m_axil_wready (axil_wready),
    .m_axil_bresp  (axil_bresp),
    .m_axil_bvalid (axil_bvalid),
    .m_axil_bready (axil_bready),
    .m_axil_araddr (axil_araddr),
    .m_axil_arvalid(axil_arvalid),
    .m_axil_arready(axil_arready),
    .m_axil_rdata  (axil_rdata),
    .m_axil_rresp  (axil_rresp),
    .m_axil_rvalid (axil_rvalid),
    .m_axil_rready (axil_rready)
  );

  npu_soc #(
    .NumCores   (NumCores),
    .Cores      (Cores),
    .AxiDataBits(AxiDataBits),
    .AxiIdBits  (IdBits),
    .Structural (Structural)
  ) u_soc (
    .clk_i,
    .rst_ni        (soc_rst_n),
    .s_axil_awaddr (axil_awaddr),
    .s_axil_awprot (3'd0),
    .s_axil_awvalid(axil_awvalid),
    .s_axil_awready(axil_awready),
    .s_axil_wdata  (axil_wdata),
    .s_axil_wstrb  (4'hf),
    .s_axil_wvalid (axil_wvalid),
    .s_axil_wready (axil_wready),
    .s_axil_bresp  (axil_bresp),
    .s_axil_bvalid (axil_bvalid),
    .s_axil_bready (axil_bready),
    .s_axil_araddr (axil_araddr),
    .s_axil_arprot (3'd0),
    .s_axil_arvalid(axil_arvalid),
    .s_axil_arready(axil_arready),
    .s_axil_rdata  (axil_rdata),
    .s_axil_rresp  (axil_rresp),
    .s_axil_rvalid (axil_rvalid),
    .s_axil_rready (axil_rready),
    .m_axi_awid    (axi_awid),
    .m_axi_awaddr  (axi_awaddr),
    .m_axi_awlen   (axi_awlen),
    .m_axi_awsize  (axi_awsize),
    .m_axi_awburst (axi_awburst),
    .m_axi_awvalid (axi_awvalid),
    .m_axi_awready (axi_awready),
    .m_axi_wdata   (axi_wdata),
    .m_axi_wstrb   (axi_wstrb),
    .m_axi_wlast   (axi_wlast),
    .m_axi_wvalid  (axi_wvalid),
    .m_axi_wready  (axi_wready),
    .m_axi_bid     (axi_bid),
    .m_axi_bresp   (axi_bresp),
    .m_axi_bvalid  (axi_bvalid),
    .m_axi_bready  (axi_bready),
    .m_axi_arid    (axi_arid),
    .m_axi_araddr  (axi_araddr),
    .m_axi_arlen   (axi_arlen),
    .m_axi_arsize  (axi_arsize),
    .m_axi_arburst (axi_arburst),
    .m_axi_arvalid (axi_arvalid),
    .m_axi_arready (axi_arready),
    .m_axi_rid     (axi_rid),
    .m_axi_rdata   (axi_rdata),
    .m_axi_rresp   (axi_rresp),
    .m_axi_rlast   (axi_rlast),
    .m_axi_rvalid  (axi_rvalid),
    .m_axi_rready  (axi_rready),
    .irq_o         (irq)
  );

  // The memory shares the SoC's reset: a reset in the middle of a burst leaves neither side waiting.
  tb_memory #(
    .DataBits(AxiDataBits),
    .IdBits  (IdBits),
    .MemBytes(MemBytes)
  ) u_memory (
    .clk_i,
    .rst_ni       (soc_rst_n),
    .restart_i    (restart),
    .outstanding_o(outstanding),
    .s_axi_awid   (axi_awid),
    .s_axi_awaddr (axi_awaddr),
    .s_axi_awlen  (axi_awlen),
    .s_axi_awvalid(axi_awvalid),
    .s_axi_awready(axi_awready),
    .s_axi_wdata  (axi_wdata),
    .s_axi_wstrb  (axi_wstrb),
    .s_axi_wlast  (axi_wlast),
    .s_axi_wvalid (axi_wvalid),
    .s_axi_wready (axi_wready),
    .s_axi_bid    (axi_bid),
    .s_axi_bresp  (axi_bresp),
    .s_axi_bvalid (axi_bvalid),
    .s_axi_bready (axi_bready),
    .s_axi_arid   (axi_arid),
    .s_axi_araddr (axi_araddr),
    .s_axi_arlen  (axi_arlen),
    .s_axi_arvalid(axi_arvalid),
    .s_axi_arready(axi_arready),
    .s_axi_rid    (axi_rid),
    .s_axi_rdata  (axi_rdata),
    .s_axi_rresp  (axi_rresp),
    .s_axi_rlast  (axi_rlast),
    .s_axi_rvalid (axi_rvalid),
    .s_axi_rready (axi_rready)
  );

  tb_axi_checker #(
    .DataBits(AxiDataBits),
    .IdBits  (IdBits)
  ) u_checker (
    .clk_i,
    .rst_ni (soc_rst_n),
    .awid   (axi_awid),
    .awaddr (axi_awaddr),
    .awlen  (axi_awlen),
    .awsize (axi_awsize),
    .awburst(axi_awburst),
    .awvalid(axi_awvalid),
    .awready(axi_awready),
    .wdata  (axi_wdata),
    .wstrb  (axi_wstrb),
    .wlast  (axi_wlast),
    .wvalid (axi_wvalid),
    .wready (axi_wready),
    .bid    (axi_bid),
    .bresp  (axi_bresp),
    .bvalid (axi_bvalid),
    .bready (axi_bready),
    .arid   (axi_arid),
    .araddr (axi_araddr),
    .arlen  (axi_arlen),
    .arsize (axi_arsize),
    .arburst(axi_arburst),
    .arvalid(axi_arvalid),
    .arready(axi_arready),
    .rid    (axi_rid),
    .rdata  (axi_rdata),
    .rresp  (axi_rresp),
    .rlast  (axi_rlast),
    .rvalid (axi_rvalid),
    .rready (axi_rready)
  );
endmodule
