// SPDX-License-Identifier: Apache-2.0
/// npu_axil_demux: every access reaches its core once, unchanged, or is answered with DECERR; answers come back to the host.
///
/// Assumed: host and cores keep to AXI4-Lite: what is offered stays until it is taken, and a core answers after it has taken
/// an access, once.
module prove_axil_demux #(
  parameter int unsigned Ports        = 2,
  parameter int unsigned WindowBits   = 10,
  parameter int unsigned RegisterBits = 8
) (
  input logic                   clk_i,
  input logic                   rst_ni,
  input logic [15:0]            s_axil_awaddr,
  input logic                   s_axil_awvalid,
  input logic [31:0]            s_axil_wdata,
  input logic [3:0]             s_axil_wstrb,
  input logic                   s_axil_wvalid,
  input logic                   s_axil_bready,
  input logic [15:0]            s_axil_araddr,
  input logic                   s_axil_arvalid,
  input logic                   s_axil_rready,
  input logic [Ports-1:0]       m_axil_awready,
  input logic [Ports-1:0]       m_axil_wready,
  input logic [Ports-1:0][1:0]  m_axil_bresp,
  input logic [Ports-1:0]       m_axil_bvalid,
  input logic [Ports-1:0]       m_axil_arready,
  input logic [Ports-1:0][31:0] m_axil_rdata,
  input logic [Ports-1:0][1:0]  m_axil_rresp,
  input logic [Ports-1:0]       m_axil_rvalid
);
  localparam logic [1:0] Decerr = 2'b11;

  logic s_axil_awready, s_axil_wready, s_axil_bvalid, s_axil_arready, s_axil_rvalid;
  logic [1:0] s_axil_bresp, s_axil_rresp;
  logic [31:0] s_axil_rdata, m_axil_wdata;
  logic [15:0] m_axil_awaddr, m_axil_araddr;
  logic [3:0] m_axil_wstrb;
  logic [Ports-1:0] m_axil_awvalid, m_axil_wvalid, m_axil_bready, m_axil_arvalid, m_axil_rready;
  npu_axil_demux #(
    .Ports       (Ports),
    .WindowBits  (WindowBits),
    .RegisterBits(RegisterBits)
  ) dut (
    .*
  );

  // what the host has handed over and not yet got an answer to; what of it a core has taken
  logic aw_q, w_q, ar_q, aw_sent_q, w_sent_q, ar_sent_q;
  logic [15:0] awaddr_q, araddr_q;
  logic [31:0] wdata_q;
  logic [3:0] wstrb_q;
  logic aw_go, w_go, b_go, ar_go, r_go;
  logic [Ports-1:0] w_core, r_core;  // one hot: whose access it is; none: nobody's
  assign aw_go = s_axil_awvalid && s_axil_awready;
  assign w_go  = s_axil_wvalid && s_axil_wready;
  assign b_go  = s_axil_bvalid && s_axil_bready;
  assign ar_go = s_axil_arvalid && s_axil_arready;
  assign r_go  = s_axil_rvalid && s_axil_rready;
  for (genvar p = 0; p < Ports; p++) begin : gen_port
    assign w_core[p] = 32'(awaddr_q) >> WindowBits == p && 32'(awaddr_q) % (1 << WindowBits) < (1 << RegisterBits);
    assign r_core[p] = 32'(araddr_q) >> WindowBits == p && 32'(araddr_q) % (1 << WindowBits) < (1 << RegisterBits);
  end
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      {aw_q, w_q, ar_q, aw_sent_q, w_sent_q, ar_sent_q} <= '0;
      awaddr_q <= '0;
      araddr_q <= '0;
      wdata_q  <= '0;
      wstrb_q  <= '0;
    end else begin
      if (aw_go) begin
        aw_q     <= 1'b1;
        awaddr_q <= s_axil_awaddr;
      end
      if (w_go) begin
        w_q     <= 1'b1;
        wdata_q <= s_axil_wdata;
        wstrb_q <= s_axil_wstrb;
      end
      if (ar_go) begin
        ar_q     <= 1'b1;
        araddr_q <= s_axil_araddr;
      end
      if ((m_axil_awvalid & m_axil_awready) != '0) aw_sent_q <= 1'b1;
      if ((m_axil_wvalid & m_axil_wready) != '0) w_sent_q <= 1'b1;
      if ((m_axil_arvalid & m_axil_arready) != '0) ar_sent_q <= 1'b1;
      if (b_go) {aw_q, w_q, aw_sent_q, w_sent_q} <= '0;
      if (r_go) {ar_q, ar_sent_q} <= '0;
    end
  end

  // the cycle before
  logic started_q = 1'b0;
  logic running_q;
  logic s_aw_q, s_w_q, s_ar_q, s_b_q, s_r_q;  // waited for its ready
  logic [Ports-1:0] m_aw_q, m_w_q, m_ar_q, m_b_q, m_r_q;
  logic [15:0] s_awaddr_q, s_araddr_q;
  logic [35:0] s_wdata_q;
  logic [Ports-1:0][1:0] m_bresp_q, m_rresp_q;
  logic [Ports-1:0][31:0] m_rdata_q;
  logic [1:0] s_bresp_q, s_rresp_q;
  logic [31:0] s_rdata_q;
  always_ff @(posedge clk_i) begin
    started_q  <= 1'b1;
    running_q  <= rst_ni;
    s_aw_q     <= s_axil_awvalid && !s_axil_awready;
    s_w_q      <= s_axil_wvalid && !s_axil_wready;
    s_ar_q     <= s_axil_arvalid && !s_axil_arready;
    s_b_q      <= s_axil_bvalid && !s_axil_bready;
    s_r_q      <= s_axil_rvalid && !s_axil_rready;
    m_aw_q     <= m_axil_awvalid & ~m_axil_awready;
    m_w_q      <= m_axil_wvalid & ~m_axil_wready;
    m_ar_q     <= m_axil_arvalid & ~m_axil_arready;
    m_b_q      <= m_axil_bvalid & ~m_axil_bready;
    m_r_q      <= m_axil_rvalid & ~m_axil_rready;
    s_awaddr_q <= s_axil_awaddr;
    s_araddr_q <= s_axil_araddr;
    s_wdata_q  <= {s_axil_wstrb, s_axil_wdata};
    m_bresp_q  <= m_axil_bresp;
    m_rresp_q  <= m_axil_rresp;
    m_rdata_q  <= m_axil_rdata;
    s_bresp_q  <= s_axil_bresp;
    s_rresp_q  <= s_axil_rresp;
    s_rdata_q  <= s_axil_rdata;
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    if (started_q && running_q) begin
      if (s_aw_q) assume (s_axil_awvalid && s_axil_awaddr == s_awaddr_q);
      if (s_w_q) assume (s_axil_wvalid && {s_axil_wstrb, s_axil_wdata} == s_wdata_q);
      if (s_ar_q) assume (s_axil_arvalid && s_axil_araddr == s_araddr_q);
    end
    for (int p = 0; p < Ports; p++) begin
      // a core answers what it has taken, and its answer stays
      if (m_axil_bvalid[p]) assume (w_core[p] && aw_sent_q && w_sent_q);
      if (m_axil_rvalid[p]) assume (r_core[p] && ar_sent_q);
      if (started_q && running_q && m_b_q[p]) assume (m_axil_bvalid[p] && m_axil_bresp[p] == m_bresp_q[p]);
      if (started_q && running_q && m_r_q[p]) begin
        assume (m_axil_rvalid[p] && m_axil_rdata[p] == m_rdata_q[p] && m_axil_rresp[p] == m_rresp_q[p]);
      end
    end
  end

  for (genvar p = 0; p < Ports; p++) begin : gen_core
    always_comb begin
      if (started_q && rst_ni) begin
        // A write reaches the core of its window only, complete and unchanged, and each half of it once.
        AddressReachesItsCoreOnce : assert (m_axil_awvalid[p] == (aw_q && w_q && w_core[p] && !aw_sent_q));
        DataReachesItsCoreOnce : assert (m_axil_wvalid[p] == (aw_q && w_q && w_core[p] && !w_sent_q));
        ReadReachesItsCoreOnce : assert (m_axil_arvalid[p] == (ar_q && r_core[p] && !ar_sent_q));
        // A core's answer is taken when the host takes it.
        AnswersAreTakenByTheHost :
        assert ((m_axil_bvalid[p] && m_axil_bready[p]) == (b_go && w_core[p])
            && (m_axil_rvalid[p] && m_axil_rready[p]) == (r_go && r_core[p]));
        // The host's answer is its core's.
        if (b_go && w_core[p]) WriteAnswerIsOfItsCore : assert (s_axil_bresp == m_axil_bresp[p]);
        if (r_go && r_core[p]) begin
          ReadAnswerIsOfItsCore : assert (s_axil_rdata == m_axil_rdata[p] && s_axil_rresp == m_axil_rresp[p]);
        end
        if (running_q) begin
          // What is offered to a core stays until it is taken.
          OffersToCoresStay :
          assert ((!m_aw_q[p] || m_axil_awvalid[p]) && (!m_w_q[p] || m_axil_wvalid[p]) && (!m_ar_q[p] || m_axil_arvalid[p]));
        end
      end
    end
  end

  always_comb begin
    if (started_q && rst_ni) begin
      // The next access is taken when the one before is answered, not earlier.
      OneWriteAtATime : assert (s_axil_awready == !aw_q && s_axil_wready == !w_q);
      OneReadAtATime : assert (s_axil_arready == !ar_q);
      // A write goes on as it came.
      WriteIsUnchanged :
      assert ((m_axil_awvalid == '0 || m_axil_awaddr == awaddr_q)
          && (m_axil_wvalid == '0 || {m_axil_wstrb, m_axil_wdata} == {wstrb_q, wdata_q}));
      ReadIsUnchanged : assert (m_axil_arvalid == '0 || m_axil_araddr == araddr_q);
      // An access to nobody's address is answered with DECERR at once.
      if (w_core == '0) UnknownWriteIsRefused :
      assert (s_axil_bvalid == (aw_q && w_q) && (!s_axil_bvalid || s_axil_bresp == Decerr));
      if (r_core == '0) UnknownReadIsRefused : assert (s_axil_rvalid == ar_q && (!ar_q || s_axil_rresp == Decerr));
      // An answer comes only to an access.
      AnswersHaveAnAccess : assert ((!s_axil_bvalid || (aw_q && w_q)) && (!s_axil_rvalid || ar_q));
      if (running_q) begin
        // An answer stays as it is until the host takes it.
        AnswersStay :
        assert ((!s_b_q || (s_axil_bvalid && s_axil_bresp == s_bresp_q))
            && (!s_r_q || (s_axil_rvalid && {s_axil_rresp, s_axil_rdata} == {s_rresp_q, s_rdata_q})));
      end
      RegistersAgree :
      assert (dut.aw_held_q == aw_q && dut.w_held_q == w_q && dut.ar_held_q == ar_q && dut.aw_sent_q == aw_sent_q
          && dut.w_sent_q == w_sent_q && dut.ar_sent_q == ar_sent_q && m_axil_awaddr == awaddr_q && m_axil_araddr == araddr_q
          && m_axil_wdata == wdata_q && m_axil_wstrb == wstrb_q);
      SentIsOfAnAccess :
      assert ((!aw_sent_q && !w_sent_q || (aw_q && w_q && w_core != '0)) && (!ar_sent_q || (ar_q && r_core != '0)));
      WriteToTheLastCore : cover (b_go && w_core[Ports-1] && s_axil_bresp == 2'b00);
      ReadOfTheLastCore : cover (r_go && r_core[Ports-1] && s_axil_rresp == 2'b00);
      WriteToNobody : cover (b_go && w_core == '0);
      ReadOfAGap : cover (r_go && 32'(araddr_q) >> WindowBits < Ports && r_core == '0);
    end
  end
endmodule
