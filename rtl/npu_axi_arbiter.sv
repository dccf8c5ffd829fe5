// SPDX-License-Identifier: Apache-2.0
/// Joins the AXI4 ports of several cores on one memory port, round robin.
///
/// Requests carry the core's index above its own ID bits; answers are routed by it. Write data follows the order of the write
/// addresses, from one core at a time. A request on the port stays until it is taken. Nothing is buffered: no latency is added.
/// Read data is taken when every core could take it; a core's ready must not wait for its valid.
module npu_axi_arbiter
  import npu_axi_pkg::*;
#(
  parameter  int unsigned Ports    = 2,
  parameter  int unsigned DataBits = 128,  // of the memory port
  parameter  int unsigned Writes   = 16,   // write bursts in flight, all cores
  localparam int unsigned SelBits  = Ports > 1 ? $clog2(Ports) : 1,
  localparam int unsigned OutBits  = AxiCoreIdBits + SelBits
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  // cores
  input  axi_read_req_t          core_read_req_i[Ports],
  output axi_read_rsp_t          core_read_rsp_o[Ports],
  input  axi_write_req_t         core_write_req_i[Ports],
  output axi_write_rsp_t         core_write_rsp_o[Ports],
  // memory
  output logic [OutBits-1:0]     m_axi_awid,
  output logic [AxiAddrBits-1:0] m_axi_awaddr,
  output logic [AxiLenBits-1:0]  m_axi_awlen,
  output logic                   m_axi_awvalid,
  input  logic                   m_axi_awready,
  output logic [DataBits-1:0]    m_axi_wdata,
  output logic [DataBits/8-1:0]  m_axi_wstrb,
  output logic                   m_axi_wlast,
  output logic                   m_axi_wvalid,
  input  logic                   m_axi_wready,
  input  logic [OutBits-1:0]     m_axi_bid,
  input  logic [AxiRespBits-1:0] m_axi_bresp,
  input  logic                   m_axi_bvalid,
  output logic                   m_axi_bready,
  output logic [OutBits-1:0]     m_axi_arid,
  output logic [AxiAddrBits-1:0] m_axi_araddr,
  output logic [AxiLenBits-1:0]  m_axi_arlen,
  output logic                   m_axi_arvalid,
  input  logic                   m_axi_arready,
  input  logic [OutBits-1:0]     m_axi_rid,
  input  logic [DataBits-1:0]    m_axi_rdata,
  input  logic [AxiRespBits-1:0] m_axi_rresp,
  input  logic                   m_axi_rlast,
  input  logic                   m_axi_rvalid,
  output logic                   m_axi_rready
);
  // the requester after `last`, in turn; a held request keeps its place
  function automatic logic [SelBits-1:0] next_of(logic [Ports-1:0] valid, logic [SelBits-1:0] last);
    logic [SelBits-1:0] pick;
    logic found;
    pick  = last;
    found = 1'b0;
    for (int unsigned i = 1; i <= Ports; i++) begin
      automatic logic [SelBits-1:0] candidate;
      candidate = SelBits'((32'(last) + i) % Ports);
      if (!found && valid[candidate]) begin
        pick  = candidate;
        found = 1'b1;
      end
    end
    return pick;
  endfunction

  logic [SelBits-1:0] ar_sel, ar_last_q, aw_sel, aw_last_q, w_sel, b_sel, r_sel;
  logic ar_held_q, aw_held_q, order_ready, order_valid, w_done;
  logic [Ports-1:0] ar_valid, aw_valid, w_valid, r_ready;
  axi_address_t ar, aw;
  axi_write_data_t w;

  always_comb begin
    for (int unsigned p = 0; p < Ports; p++) begin
      ar_valid[p] = core_read_req_i[p].ar_valid;
      aw_valid[p] = core_write_req_i[p].aw_valid;
      w_valid[p]  = core_write_req_i[p].w_valid;
      r_ready[p]  = core_read_req_i[p].r_ready;
    end
  end

  assign ar_sel = ar_held_q ? ar_last_q : next_of(ar_valid, ar_last_q);
  assign aw_sel = aw_held_q ? aw_last_q : next_of(aw_valid, aw_last_q);

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      ar_last_q <= '0;
      aw_last_q <= '0;
      ar_held_q <= 1'b0;
      aw_held_q <= 1'b0;
    end else begin
      ar_held_q <= m_axi_arvalid && !m_axi_arready;
      aw_held_q <= m_axi_awvalid && !m_axi_awready;
      if (m_axi_arvalid) ar_last_q <= ar_sel;
      if (m_axi_awvalid) aw_last_q <= aw_sel;
    end
  end

  // read requests
  assign ar            = core_read_req_i[ar_sel].ar;
  assign m_axi_arvalid = ar_valid[ar_sel];
  assign m_axi_arid    = {ar_sel, ar.id};
  assign m_axi_araddr  = ar.addr;
  assign m_axi_arlen   = ar.len;

  // write requests: the order of their data is kept from the moment they are offered, as data may come before the address
  // is taken
  assign aw            = core_write_req_i[aw_sel].aw;
  assign m_axi_awvalid = aw_valid[aw_sel] && (order_ready || aw_held_q);
  assign m_axi_awid    = {aw_sel, aw.id};
  assign m_axi_awaddr  = aw.addr;
  assign m_axi_awlen   = aw.len;

  npu_fifo #(
    .Width(SelBits),
    .Depth(Writes)
  ) i_order (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .valid_i(m_axi_awvalid && !aw_held_q),
    .ready_o(order_ready),
    .data_i (aw_sel),
    .valid_o(order_valid),
    .ready_i(w_done),
    .data_o (w_sel)
  );

  // write data
  assign w            = core_write_req_i[w_sel].w;
  assign m_axi_wvalid = order_valid && w_valid[w_sel];
  assign m_axi_wdata  = w.data[DataBits-1:0];
  assign m_axi_wstrb  = w.strb[DataBits/8-1:0];
  assign m_axi_wlast  = w.last;
  assign w_done       = m_axi_wvalid && m_axi_wready && m_axi_wlast;

  // answers
  assign b_sel        = m_axi_bid[AxiCoreIdBits+:SelBits];
  assign r_sel        = m_axi_rid[AxiCoreIdBits+:SelBits];
  assign m_axi_bready = core_write_req_i[b_sel].b_ready;
  assign m_axi_rready = r_ready == '1;  // not by ID: no path from the port's inputs to its outputs

  for (genvar p = 0; p < Ports; p++) begin : gen_core
    assign core_write_rsp_o[p] = '{
      aw_ready: m_axi_awready && (order_ready || aw_held_q) && aw_sel == SelBits'(p),
      w_ready: m_axi_wready && order_valid && w_sel == SelBits'(p),
      b_resp: m_axi_bresp,
      b_valid: m_axi_bvalid && b_sel == SelBits'(p)
    };
    assign core_read_rsp_o[p] = '{
      ar_ready: m_axi_arready && ar_sel == SelBits'(p),
      r_valid: m_axi_rvalid && m_axi_rready && r_sel == SelBits'(p),
      r: '{
        id: m_axi_rid[AxiCoreIdBits-1:0], resp: m_axi_rresp, last: m_axi_rlast, data: AxiMaxDataBits'(m_axi_rdata)
      }
    };
  end

  ReadRequestStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      m_axi_arvalid && !m_axi_arready |=> m_axi_arvalid && $stable(m_axi_araddr) && $stable(m_axi_arid) && $stable(m_axi_arlen))
  else $error("A read request on the port stays as it is until it is taken.");

  WriteRequestStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      m_axi_awvalid && !m_axi_awready |=> m_axi_awvalid && $stable(m_axi_awaddr) && $stable(m_axi_awid) && $stable(m_axi_awlen))
  else $error("A write request on the port stays as it is until it is taken.");
endmodule
