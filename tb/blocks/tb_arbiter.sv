/// npu_axi_arbiter with three cores' ports as cocotbext-axi expects them.
module tb_arbiter #(
  parameter int unsigned DataBits = 128,
  parameter int unsigned Writes   = 4
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
`define PORT(N) \
  input  logic [           1:0] s``N``_axi_awid, \
  input  logic [          31:0] s``N``_axi_awaddr, \
  input  logic [           7:0] s``N``_axi_awlen, \
  input  logic [           2:0] s``N``_axi_awsize, \
  input  logic [           1:0] s``N``_axi_awburst, \
  input  logic                  s``N``_axi_awvalid, \
  output logic                  s``N``_axi_awready, \
  input  logic [  DataBits-1:0] s``N``_axi_wdata, \
  input  logic [DataBits/8-1:0] s``N``_axi_wstrb, \
  input  logic                  s``N``_axi_wlast, \
  input  logic                  s``N``_axi_wvalid, \
  output logic                  s``N``_axi_wready, \
  output logic [           1:0] s``N``_axi_bid, \
  output logic [           1:0] s``N``_axi_bresp, \
  output logic                  s``N``_axi_bvalid, \
  input  logic                  s``N``_axi_bready, \
  input  logic [           1:0] s``N``_axi_arid, \
  input  logic [          31:0] s``N``_axi_araddr, \
  input  logic [           7:0] s``N``_axi_arlen, \
  input  logic [           2:0] s``N``_axi_arsize, \
  input  logic [           1:0] s``N``_axi_arburst, \
  input  logic                  s``N``_axi_arvalid, \
  output logic                  s``N``_axi_arready, \
  output logic [           1:0] s``N``_axi_rid, \
  output logic [  DataBits-1:0] s``N``_axi_rdata, \
  output logic [           1:0] s``N``_axi_rresp, \
  output logic                  s``N``_axi_rlast, \
  output logic                  s``N``_axi_rvalid, \
  input  logic                  s``N``_axi_rready,
  `PORT(0)
  `PORT(1)
  `PORT(2)
  output logic [           3:0] m_axi_awid,
  output logic [          31:0] m_axi_awaddr,
  output logic [           7:0] m_axi_awlen,
  output logic [           2:0] m_axi_awsize,
  output logic [           1:0] m_axi_awburst,
  output logic                  m_axi_awvalid,
  input  logic                  m_axi_awready,
  output logic [  DataBits-1:0] m_axi_wdata,
  output logic [DataBits/8-1:0] m_axi_wstrb,
  output logic                  m_axi_wlast,
  output logic                  m_axi_wvalid,
  input  logic                  m_axi_wready,
  input  logic [           3:0] m_axi_bid,
  input  logic [           1:0] m_axi_bresp,
  input  logic                  m_axi_bvalid,
  output logic                  m_axi_bready,
  output logic [           3:0] m_axi_arid,
  output logic [          31:0] m_axi_araddr,
  output logic [           7:0] m_axi_arlen,
  output logic [           2:0] m_axi_arsize,
  output logic [           1:0] m_axi_arburst,
  output logic                  m_axi_arvalid,
  input  logic                  m_axi_arready,
  input  logic [           3:0] m_axi_rid,
  input  logic [  DataBits-1:0] m_axi_rdata,
  input  logic [           1:0] m_axi_rresp,
  input  logic                  m_axi_rlast,
  input  logic                  m_axi_rvalid,
  output logic                  m_axi_rready
);
  // The cores' IDs come back on answers with the arbiter's shared signals.
  logic [1:0] bresp, rid, rresp;
  logic [DataBits-1:0] rdata;
  logic rlast;
  assign {s0_axi_bid, s1_axi_bid, s2_axi_bid} = {3{m_axi_bid[1:0]}};
  assign {s0_axi_bresp, s1_axi_bresp, s2_axi_bresp} = {3{bresp}};
  assign {s0_axi_rid, s1_axi_rid, s2_axi_rid} = {3{rid}};
  assign {s0_axi_rdata, s1_axi_rdata, s2_axi_rdata} = {3{rdata}};
  assign {s0_axi_rresp, s1_axi_rresp, s2_axi_rresp} = {3{rresp}};
  assign {s0_axi_rlast, s1_axi_rlast, s2_axi_rlast} = {3{rlast}};
  assign m_axi_awsize  = 3'($clog2(DataBits / 8));
  assign m_axi_arsize  = 3'($clog2(DataBits / 8));
  assign m_axi_awburst = 2'b01;
  assign m_axi_arburst = 2'b01;

  npu_axi_arbiter #(
    .Ports   (3),
    .DataBits(DataBits),
    .IdBits  (2),
    .Writes  (Writes)
  ) i_arbiter (
    .s_axi_awid   ({s2_axi_awid, s1_axi_awid, s0_axi_awid}),
    .s_axi_awaddr ({s2_axi_awaddr, s1_axi_awaddr, s0_axi_awaddr}),
    .s_axi_awlen  ({s2_axi_awlen, s1_axi_awlen, s0_axi_awlen}),
    .s_axi_awvalid({s2_axi_awvalid, s1_axi_awvalid, s0_axi_awvalid}),
    .s_axi_awready({s2_axi_awready, s1_axi_awready, s0_axi_awready}),
    .s_axi_wdata  ({s2_axi_wdata, s1_axi_wdata, s0_axi_wdata}),
    .s_axi_wstrb  ({s2_axi_wstrb, s1_axi_wstrb, s0_axi_wstrb}),
    .s_axi_wlast  ({s2_axi_wlast, s1_axi_wlast, s0_axi_wlast}),
    .s_axi_wvalid ({s2_axi_wvalid, s1_axi_wvalid, s0_axi_wvalid}),
    .s_axi_wready ({s2_axi_wready, s1_axi_wready, s0_axi_wready}),
    .s_axi_bresp  (bresp),
    .s_axi_bvalid ({s2_axi_bvalid, s1_axi_bvalid, s0_axi_bvalid}),
    .s_axi_bready ({s2_axi_bready, s1_axi_bready, s0_axi_bready}),
    .s_axi_arid   ({s2_axi_arid, s1_axi_arid, s0_axi_arid}),
    .s_axi_araddr ({s2_axi_araddr, s1_axi_araddr, s0_axi_araddr}),
    .s_axi_arlen  ({s2_axi_arlen, s1_axi_arlen, s0_axi_arlen}),
    .s_axi_arvalid({s2_axi_arvalid, s1_axi_arvalid, s0_axi_arvalid}),
    .s_axi_arready({s2_axi_arready, s1_axi_arready, s0_axi_arready}),
    .s_axi_rid    (rid),
    .s_axi_rdata  (rdata),
    .s_axi_rresp  (rresp),
    .s_axi_rlast  (rlast),
    .s_axi_rvalid ({s2_axi_rvalid, s1_axi_rvalid, s0_axi_rvalid}),
    .s_axi_rready ({s2_axi_rready, s1_axi_rready, s0_axi_rready}),
    .*
  );
endmodule
