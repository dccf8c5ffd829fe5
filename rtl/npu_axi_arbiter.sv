/// Joins the AXI4 ports of several cores on one memory port, round robin.
///
/// Requests carry the core's index above its own ID bits; answers are routed by it. Write data follows the order of the write
/// addresses, from one core at a time. A request on the port stays until it is taken. Nothing is buffered: no latency is added.
/// Read data is taken when every core could take it; a core's ready must not wait for its valid.
module npu_axi_arbiter #(
  parameter  int unsigned Ports    = 2,
  parameter  int unsigned DataBits = 128,
  parameter  int unsigned IdBits   = 2,     // of a core
  parameter  int unsigned Writes   = 16,    // write bursts in flight, all cores
  localparam int unsigned SelBits  = Ports > 1 ? $clog2(Ports) : 1,
  localparam int unsigned OutBits  = IdBits + SelBits
) (
  input  logic                              clk_i,
  input  logic                              rst_ni,
  // cores
  input  logic [Ports-1:0][     IdBits-1:0] s_axi_awid,
  input  logic [Ports-1:0][           31:0] s_axi_awaddr,
  input  logic [Ports-1:0][            7:0] s_axi_awlen,
  input  logic [Ports-1:0]                  s_axi_awvalid,
  output logic [Ports-1:0]                  s_axi_awready,
  input  logic [Ports-1:0][   DataBits-1:0] s_axi_wdata,
  input  logic [Ports-1:0][ DataBits/8-1:0] s_axi_wstrb,
  input  logic [Ports-1:0]                  s_axi_wlast,
  input  logic [Ports-1:0]                  s_axi_wvalid,
  output logic [Ports-1:0]                  s_axi_wready,
  output logic [      1:0]                  s_axi_bresp,
  output logic [Ports-1:0]                  s_axi_bvalid,
  input  logic [Ports-1:0]                  s_axi_bready,
  input  logic [Ports-1:0][     IdBits-1:0] s_axi_arid,
  input  logic [Ports-1:0][           31:0] s_axi_araddr,
  input  logic [Ports-1:0][            7:0] s_axi_arlen,
  input  logic [Ports-1:0]                  s_axi_arvalid,
  output logic [Ports-1:0]                  s_axi_arready,
  output logic [   IdBits-1:0]              s_axi_rid,
  output logic [ DataBits-1:0]              s_axi_rdata,
  output logic [          1:0]              s_axi_rresp,
  output logic                              s_axi_rlast,
  output logic [Ports-1:0]                  s_axi_rvalid,
  input  logic [Ports-1:0]                  s_axi_rready,
  // memory
  output logic [  OutBits-1:0]              m_axi_awid,
  output logic [         31:0]              m_axi_awaddr,
  output logic [          7:0]              m_axi_awlen,
  output logic                              m_axi_awvalid,
  input  logic                              m_axi_awready,
  output logic [ DataBits-1:0]              m_axi_wdata,
  output logic [DataBits/8-1:0]             m_axi_wstrb,
  output logic                              m_axi_wlast,
  output logic                              m_axi_wvalid,
  input  logic                              m_axi_wready,
  input  logic [  OutBits-1:0]              m_axi_bid,
  input  logic [          1:0]              m_axi_bresp,
  input  logic                              m_axi_bvalid,
  output logic                              m_axi_bready,
  output logic [  OutBits-1:0]              m_axi_arid,
  output logic [         31:0]              m_axi_araddr,
  output logic [          7:0]              m_axi_arlen,
  output logic                              m_axi_arvalid,
  input  logic                              m_axi_arready,
  input  logic [  OutBits-1:0]              m_axi_rid,
  input  logic [ DataBits-1:0]              m_axi_rdata,
  input  logic [          1:0]              m_axi_rresp,
  input  logic                              m_axi_rlast,
  input  logic                              m_axi_rvalid,
  output logic                              m_axi_rready
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

  assign ar_sel = ar_held_q ? ar_last_q : next_of(s_axi_arvalid, ar_last_q);
  assign aw_sel = aw_held_q ? aw_last_q : next_of(s_axi_awvalid, aw_last_q);

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
  assign m_axi_arvalid = s_axi_arvalid[ar_sel];
  assign m_axi_arid    = {ar_sel, s_axi_arid[ar_sel]};
  assign m_axi_araddr  = s_axi_araddr[ar_sel];
  assign m_axi_arlen   = s_axi_arlen[ar_sel];

  // write requests: the order of their data is kept from the moment they are offered, as data may come before the address
  // is taken
  assign m_axi_awvalid = s_axi_awvalid[aw_sel] && (order_ready || aw_held_q);
  assign m_axi_awid    = {aw_sel, s_axi_awid[aw_sel]};
  assign m_axi_awaddr  = s_axi_awaddr[aw_sel];
  assign m_axi_awlen   = s_axi_awlen[aw_sel];

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
  assign m_axi_wvalid = order_valid && s_axi_wvalid[w_sel];
  assign m_axi_wdata  = s_axi_wdata[w_sel];
  assign m_axi_wstrb  = s_axi_wstrb[w_sel];
  assign m_axi_wlast  = s_axi_wlast[w_sel];
  assign w_done       = m_axi_wvalid && m_axi_wready && m_axi_wlast;

  // answers
  assign b_sel        = m_axi_bid[IdBits+:SelBits];
  assign r_sel        = m_axi_rid[IdBits+:SelBits];
  assign m_axi_bready = s_axi_bready[b_sel];
  assign m_axi_rready = s_axi_rready == '1;  // not by ID: no path from the port's inputs to its outputs
  assign s_axi_bresp  = m_axi_bresp;
  assign s_axi_rid    = m_axi_rid[IdBits-1:0];
  assign s_axi_rdata  = m_axi_rdata;
  assign s_axi_rresp  = m_axi_rresp;
  assign s_axi_rlast  = m_axi_rlast;

  always_comb begin
    for (int unsigned p = 0; p < Ports; p++) begin
      s_axi_arready[p] = m_axi_arready && ar_sel == SelBits'(p);
      s_axi_awready[p] = m_axi_awready && (order_ready || aw_held_q) && aw_sel == SelBits'(p);
      s_axi_wready[p]  = m_axi_wready && order_valid && w_sel == SelBits'(p);
      s_axi_bvalid[p]  = m_axi_bvalid && b_sel == SelBits'(p);
      s_axi_rvalid[p]  = m_axi_rvalid && m_axi_rready && r_sel == SelBits'(p);
    end
  end

  // Requests on the port stay as they are until they are taken.
  assert property (@(posedge clk_i) disable iff (!rst_ni)
      m_axi_arvalid && !m_axi_arready |=> m_axi_arvalid && $stable(m_axi_araddr) && $stable(m_axi_arid) && $stable(m_axi_arlen));
  assert property (@(posedge clk_i) disable iff (!rst_ni)
      m_axi_awvalid && !m_axi_awready |=> m_axi_awvalid && $stable(m_axi_awaddr) && $stable(m_axi_awid) && $stable(m_axi_awlen));
endmodule
