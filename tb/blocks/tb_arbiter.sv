// SPDX-License-Identifier: Apache-2.0
/// npu_axi_arbiter with three cores' ports as cocotbext-axi expects them.
module tb_arbiter
  import npu_axi_pkg::*;
#(
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
  axi_read_req_t read_req[3];
  axi_read_rsp_t read_rsp[3];
  axi_write_req_t write_req[3];
  axi_write_rsp_t write_rsp[3];
`define CONNECT(N) \
  assign write_req[N] = '{ \
    aw: '{id: s``N``_axi_awid, addr: s``N``_axi_awaddr, len: s``N``_axi_awlen}, aw_valid: s``N``_axi_awvalid, \
    w: '{data: AxiMaxDataBits'(s``N``_axi_wdata), strb: AxiMaxStrbBits'(s``N``_axi_wstrb), last: s``N``_axi_wlast}, \
    w_valid: s``N``_axi_wvalid, b_ready: s``N``_axi_bready \
  }; \
  assign read_req[N] = '{ \
    ar: '{id: s``N``_axi_arid, addr: s``N``_axi_araddr, len: s``N``_axi_arlen}, ar_valid: s``N``_axi_arvalid, \
    r_ready: s``N``_axi_rready \
  }; \
  assign s``N``_axi_awready = write_rsp[N].aw_ready; \
  assign s``N``_axi_wready  = write_rsp[N].w_ready; \
  assign s``N``_axi_bid     = m_axi_bid[1:0]; \
  assign s``N``_axi_bresp   = write_rsp[N].b_resp; \
  assign s``N``_axi_bvalid  = write_rsp[N].b_valid; \
  assign s``N``_axi_arready = read_rsp[N].ar_ready; \
  assign s``N``_axi_rid     = read_rsp[N].r.id; \
  assign s``N``_axi_rdata   = read_rsp[N].r.data[DataBits-1:0]; \
  assign s``N``_axi_rresp   = read_rsp[N].r.resp; \
  assign s``N``_axi_rlast   = read_rsp[N].r.last; \
  assign s``N``_axi_rvalid  = read_rsp[N].r_valid;
  `CONNECT(0)
  `CONNECT(1)
  `CONNECT(2)
  assign m_axi_awsize  = 3'($clog2(DataBits / 8));
  assign m_axi_arsize  = 3'($clog2(DataBits / 8));
  assign m_axi_awburst = 2'b01;
  assign m_axi_arburst = 2'b01;

  npu_axi_arbiter #(
    .Ports   (3),
    .DataBits(DataBits),
    .Writes  (Writes)
  ) i_arbiter (
    .core_read_req_i (read_req),
    .core_read_rsp_o (read_rsp),
    .core_write_req_i(write_req),
    .core_write_rsp_o(write_rsp),
    .*
  );
endmodule
