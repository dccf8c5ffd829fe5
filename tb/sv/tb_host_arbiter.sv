// SPDX-License-Identifier: Apache-2.0
/// Shares the AXI4-Lite port between the host's list of operations and its queues: one access at a time.
///
/// The list's signals are passed on in the same cycle while no queue has the port, so that a list beside which no queue asks takes
/// the cycles that it would take alone. After an access of the list the queues come first, one of them, each in its turn; then
/// the list again. A queue keeps `ask_i` and its access up until `done_o` pulses with the answer; one that gives up
/// leaves the port.
module tb_host_arbiter #(
  parameter int unsigned NumUnits = 2
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  // queues
  input  logic [NumUnits-1:0]       ask_i,
  input  logic [NumUnits-1:0]       write_i,
  input  logic [NumUnits-1:0][15:0] address_i,
  input  logic [NumUnits-1:0][31:0] data_i,
  output logic [NumUnits-1:0]       done_o,          // pulses
  output logic [31:0]               data_o,          // of a read
  output logic [1:0]                resp_o,
  // list
  input  logic [15:0]               s_axil_awaddr,
  input  logic                      s_axil_awvalid,
  output logic                      s_axil_awready,
  input  logic [31:0]               s_axil_wdata,
  input  logic                      s_axil_wvalid,
  output logic                      s_axil_wready,
  output logic [1:0]                s_axil_bresp,
  output logic                      s_axil_bvalid,
  input  logic [15:0]               s_axil_araddr,
  input  logic                      s_axil_arvalid,
  output logic                      s_axil_arready,
  output logic [31:0]               s_axil_rdata,
  output logic [1:0]                s_axil_rresp,
  output logic                      s_axil_rvalid,
  // port
  output logic [15:0]               m_axil_awaddr,
  output logic                      m_axil_awvalid,
  input  logic                      m_axil_awready,
  output logic [31:0]               m_axil_wdata,
  output logic                      m_axil_wvalid,
  input  logic                      m_axil_wready,
  input  logic [1:0]                m_axil_bresp,
  input  logic                      m_axil_bvalid,
  output logic                      m_axil_bready,
  output logic [15:0]               m_axil_araddr,
  output logic                      m_axil_arvalid,
  input  logic                      m_axil_arready,
  input  logic [31:0]               m_axil_rdata,
  input  logic [1:0]                m_axil_rresp,
  input  logic                      m_axil_rvalid,
  output logic                      m_axil_rready
);
  localparam int unsigned UnitBits = NumUnits > 1 ? $clog2(NumUnits) : 1;

  logic taken_q;                 // a queue has the port
  logic list_open_q;             // an access of the list is not answered yet
  logic [UnitBits-1:0] owner_q;  // queue that has the port, or had it last
  logic [UnitBits-1:0] next;     // queue that gets it
  logic aw_valid_q, w_valid_q, ar_valid_q;
  logic list_asks, answered;

  assign list_asks = s_axil_awvalid || s_axil_wvalid || s_axil_arvalid;
  assign answered  = m_axil_bvalid || m_axil_rvalid;

  // the first queue behind the last owner that asks
  always_comb begin
    next = owner_q;
    for (int unsigned i = NumUnits; i > 0; i--) begin
      if (ask_i[UnitBits'((32'(owner_q) + i) % NumUnits)]) next = UnitBits'((32'(owner_q) + i) % NumUnits);
    end
  end

  assign m_axil_awaddr  = taken_q ? address_i[owner_q] : s_axil_awaddr;
  assign m_axil_awvalid = taken_q ? aw_valid_q : s_axil_awvalid;
  assign m_axil_wdata   = taken_q ? data_i[owner_q] : s_axil_wdata;
  assign m_axil_wvalid  = taken_q ? w_valid_q : s_axil_wvalid;
  assign m_axil_bready  = 1'b1;
  assign m_axil_araddr  = taken_q ? address_i[owner_q] : s_axil_araddr;
  assign m_axil_arvalid = taken_q ? ar_valid_q : s_axil_arvalid;
  assign m_axil_rready  = 1'b1;

  assign s_axil_awready = !taken_q && m_axil_awready;
  assign s_axil_wready  = !taken_q && m_axil_wready;
  assign s_axil_bresp   = m_axil_bresp;
  assign s_axil_bvalid  = !taken_q && m_axil_bvalid;
  assign s_axil_arready = !taken_q && m_axil_arready;
  assign s_axil_rdata   = m_axil_rdata;
  assign s_axil_rresp   = m_axil_rresp;
  assign s_axil_rvalid  = !taken_q && m_axil_rvalid;

  always_comb begin
    done_o = '0;
    done_o[owner_q] = taken_q && answered;
  end
  assign data_o = m_axil_rdata;
  assign resp_o = m_axil_bvalid ? m_axil_bresp : m_axil_rresp;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      taken_q     <= 1'b0;
      list_open_q <= 1'b0;
      owner_q     <= '0;
      aw_valid_q  <= 1'b0;
      w_valid_q   <= 1'b0;
      ar_valid_q  <= 1'b0;
    end else if (taken_q) begin
      if (m_axil_awready) aw_valid_q <= 1'b0;
      if (m_axil_wready) w_valid_q <= 1'b0;
      if (m_axil_arready) ar_valid_q <= 1'b0;
      if (answered || !ask_i[owner_q]) taken_q <= 1'b0;
    end else begin
      list_open_q <= (list_open_q || list_asks) && !answered;
      if (ask_i != '0 && (answered || !(list_open_q || list_asks))) begin
        taken_q    <= 1'b1;
        owner_q    <= next;
        aw_valid_q <= write_i[next];
        w_valid_q  <= write_i[next];
        ar_valid_q <= !write_i[next];
      end
    end
  end

  OneAnswerAtATime : assert property (@(posedge clk_i) disable iff (!rst_ni) !(m_axil_bvalid && m_axil_rvalid))
  else $error("One access is on the port at a time, so one answer is.");

  OwnerKeepsAsking : assert property (@(posedge clk_i) disable iff (!rst_ni)
      taken_q && (aw_valid_q || w_valid_q || ar_valid_q) && ask_i[owner_q] && !answered |=> !$changed(owner_q))
  else $error("A queue keeps the port until its access is answered.");
endmodule
