// SPDX-License-Identifier: Apache-2.0
/// Splits one AXI4-Lite port into a register window of 2^WindowBits bytes per core.
///
/// One read and one write at a time, a few cycles each. An address beyond the last window, or
/// beyond the registers of its window, is answered with DECERR.
module npu_axil_demux #(
  parameter int unsigned Ports        = 2,
  parameter int unsigned WindowBits   = 10,
  parameter int unsigned RegisterBits = 8  // registers fill the first 2^RegisterBits bytes of a window
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  // host
  input  logic [15:0]            s_axil_awaddr,
  input  logic                   s_axil_awvalid,
  output logic                   s_axil_awready,
  input  logic [31:0]            s_axil_wdata,
  input  logic [3:0]             s_axil_wstrb,
  input  logic                   s_axil_wvalid,
  output logic                   s_axil_wready,
  output logic [1:0]             s_axil_bresp,
  output logic                   s_axil_bvalid,
  input  logic                   s_axil_bready,
  input  logic [15:0]            s_axil_araddr,
  input  logic                   s_axil_arvalid,
  output logic                   s_axil_arready,
  output logic [31:0]            s_axil_rdata,
  output logic [1:0]             s_axil_rresp,
  output logic                   s_axil_rvalid,
  input  logic                   s_axil_rready,
  // cores: address and data are shared
  output logic [15:0]            m_axil_awaddr,
  output logic [Ports-1:0]       m_axil_awvalid,
  input  logic [Ports-1:0]       m_axil_awready,
  output logic [31:0]            m_axil_wdata,
  output logic [3:0]             m_axil_wstrb,
  output logic [Ports-1:0]       m_axil_wvalid,
  input  logic [Ports-1:0]       m_axil_wready,
  input  logic [Ports-1:0][1:0]  m_axil_bresp,
  input  logic [Ports-1:0]       m_axil_bvalid,
  output logic [Ports-1:0]       m_axil_bready,
  output logic [15:0]            m_axil_araddr,
  output logic [Ports-1:0]       m_axil_arvalid,
  input  logic [Ports-1:0]       m_axil_arready,
  input  logic [Ports-1:0][31:0] m_axil_rdata,
  input  logic [Ports-1:0][1:0]  m_axil_rresp,
  input  logic [Ports-1:0]       m_axil_rvalid,
  output logic [Ports-1:0]       m_axil_rready
);
  localparam logic [1:0] Decerr = 2'b11;
  localparam int unsigned SelBits = 16 - WindowBits;

  // write: take address and data, pass them on, pass the answer back
  logic aw_held_q, w_held_q, aw_sent_q, w_sent_q;
  logic [SelBits-1:0] w_sel, r_sel;
  logic w_known, r_known, ar_held_q, ar_sent_q;

  assign s_axil_awready = !aw_held_q;
  assign s_axil_wready  = !w_held_q;
  assign w_sel          = m_axil_awaddr[15:WindowBits];
  assign w_known        = 32'(w_sel) < Ports && m_axil_awaddr[WindowBits-1:RegisterBits] == '0;

  always_comb begin
    m_axil_awvalid = '0;
    m_axil_wvalid  = '0;
    m_axil_bready  = '0;
    s_axil_bvalid  = aw_held_q && w_held_q && !w_known;
    s_axil_bresp   = Decerr;
    for (int unsigned p = 0; p < Ports; p++) begin
      if (aw_held_q && w_held_q && w_known && w_sel == SelBits'(p)) begin
        m_axil_awvalid[p] = !aw_sent_q;
        m_axil_wvalid[p]  = !w_sent_q;
        m_axil_bready[p]  = s_axil_bready;
        s_axil_bvalid     = m_axil_bvalid[p];
        s_axil_bresp      = m_axil_bresp[p];
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      aw_held_q     <= 1'b0;
      w_held_q      <= 1'b0;
      aw_sent_q     <= 1'b0;
      w_sent_q      <= 1'b0;
      m_axil_awaddr <= '0;
      m_axil_wdata  <= '0;
      m_axil_wstrb  <= '0;
    end else if (s_axil_bvalid && s_axil_bready) begin
      aw_held_q <= 1'b0;
      w_held_q  <= 1'b0;
      aw_sent_q <= 1'b0;
      w_sent_q  <= 1'b0;
    end else begin
      if (s_axil_awvalid && s_axil_awready) begin
        aw_held_q     <= 1'b1;
        m_axil_awaddr <= s_axil_awaddr;
      end
      if (s_axil_wvalid && s_axil_wready) begin
        w_held_q     <= 1'b1;
        m_axil_wdata <= s_axil_wdata;
        m_axil_wstrb <= s_axil_wstrb;
      end
      if ((m_axil_awvalid & m_axil_awready) != '0) aw_sent_q <= 1'b1;
      if ((m_axil_wvalid & m_axil_wready) != '0) w_sent_q <= 1'b1;
    end
  end

  // read
  assign s_axil_arready = !ar_held_q;
  assign r_sel          = m_axil_araddr[15:WindowBits];
  assign r_known        = 32'(r_sel) < Ports && m_axil_araddr[WindowBits-1:RegisterBits] == '0;

  always_comb begin
    m_axil_arvalid = '0;
    m_axil_rready  = '0;
    s_axil_rvalid  = ar_held_q && !r_known;
    s_axil_rresp   = Decerr;
    s_axil_rdata   = '0;
    for (int unsigned p = 0; p < Ports; p++) begin
      if (ar_held_q && r_known && r_sel == SelBits'(p)) begin
        m_axil_arvalid[p] = !ar_sent_q;
        m_axil_rready[p]  = s_axil_rready;
        s_axil_rvalid     = m_axil_rvalid[p];
        s_axil_rresp      = m_axil_rresp[p];
        s_axil_rdata      = m_axil_rdata[p];
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      ar_held_q     <= 1'b0;
      ar_sent_q     <= 1'b0;
      m_axil_araddr <= '0;
    end else if (s_axil_rvalid && s_axil_rready) begin
      ar_held_q <= 1'b0;
      ar_sent_q <= 1'b0;
    end else begin
      if (s_axil_arvalid && s_axil_arready) begin
        ar_held_q     <= 1'b1;
        m_axil_araddr <= s_axil_araddr;
      end
      if ((m_axil_arvalid & m_axil_arready) != '0) ar_sent_q <= 1'b1;
    end
  end

  if (Ports < 1 || Ports > (1 << SelBits) || RegisterBits >= WindowBits) begin : gen_PortsFitTheWindows
    $fatal(1, "npu_axil_demux: 1 to 2^(16 - WindowBits) ports, and registers smaller than the window");
  end
endmodule
