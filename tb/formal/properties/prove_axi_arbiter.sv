// SPDX-License-Identifier: Apache-2.0
/// npu_axi_arbiter: no request, beat or answer is lost; data follows its address; answers go to their owner; nobody starves.
///
/// One core, any, is followed: what is proven of it holds of all. Assumed: cores keep to AXI4 (what is offered stays until it is
/// taken), and memory answers under IDs of cores that exist.
module prove_axi_arbiter
  import npu_axi_pkg::*;
#(
  parameter  int unsigned Ports    = 2,
  parameter  int unsigned DataBits = 64,
  parameter  int unsigned Writes   = 4,
  localparam int unsigned SelBits  = Ports > 1 ? $clog2(Ports) : 1,
  localparam int unsigned OutBits  = AxiCoreIdBits + SelBits
) (
  input logic                       clk_i,
  input logic                       rst_ni,
  input axi_read_req_t  [Ports-1:0] reads_i,
  input axi_write_req_t [Ports-1:0] writes_i,
  input logic                       m_axi_awready,
  input logic                       m_axi_wready,
  input logic [OutBits-1:0]         m_axi_bid,
  input logic [AxiRespBits-1:0]     m_axi_bresp,
  input logic                       m_axi_bvalid,
  input logic                       m_axi_arready,
  input logic [OutBits-1:0]         m_axi_rid,
  input logic [DataBits-1:0]        m_axi_rdata,
  input logic [AxiRespBits-1:0]     m_axi_rresp,
  input logic                       m_axi_rlast,
  input logic                       m_axi_rvalid,
  input logic [SelBits-1:0]         core_i,   // that is followed: constant
  input logic                       follow_i  // follow the write burst that is offered now, if none is followed
);
  axi_read_req_t core_read_req_i[Ports];
  axi_read_rsp_t core_read_rsp_o[Ports];
  axi_write_req_t core_write_req_i[Ports];
  axi_write_rsp_t core_write_rsp_o[Ports];
  logic [OutBits-1:0] m_axi_awid, m_axi_arid;
  logic [AxiAddrBits-1:0] m_axi_awaddr, m_axi_araddr;
  logic [AxiLenBits-1:0] m_axi_awlen, m_axi_arlen;
  logic [DataBits-1:0] m_axi_wdata;
  logic [DataBits/8-1:0] m_axi_wstrb;
  logic m_axi_awvalid, m_axi_wlast, m_axi_wvalid, m_axi_bready, m_axi_arvalid, m_axi_rready;
  npu_axi_arbiter #(
    .Ports   (Ports),
    .DataBits(DataBits),
    .Writes  (Writes)
  ) dut (
    .*
  );

  // by core: valid, and handshakes
  logic [Ports-1:0] ar, ar_go, aw, aw_go, w, w_go, b_valid, b_go, r_valid, r_go;
  axi_read_rsp_t [Ports-1:0] reads_rsp;
  axi_write_rsp_t [Ports-1:0] writes_rsp;
  for (genvar p = 0; p < Ports; p++) begin : gen_flat
    assign core_read_req_i[p]  = reads_i[p];
    assign core_write_req_i[p] = writes_i[p];
    assign reads_rsp[p]        = core_read_rsp_o[p];
    assign writes_rsp[p]       = core_write_rsp_o[p];
    assign ar[p]               = reads_i[p].ar_valid;
    assign ar_go[p]            = ar[p] && core_read_rsp_o[p].ar_ready;
    assign aw[p]               = writes_i[p].aw_valid;
    assign aw_go[p]            = aw[p] && core_write_rsp_o[p].aw_ready;
    assign w[p]                = writes_i[p].w_valid;
    assign w_go[p]             = w[p] && core_write_rsp_o[p].w_ready;
    assign b_valid[p]          = core_write_rsp_o[p].b_valid;
    assign b_go[p]             = b_valid[p] && writes_i[p].b_ready;
    assign r_valid[p]          = core_read_rsp_o[p].r_valid;
    assign r_go[p]             = r_valid[p] && reads_i[p].r_ready;
  end

  // the cycle before
  logic started_q = 1'b0;
  logic running_q, m_ar_waits_q, m_aw_waits_q;
  logic [SelBits-1:0] core_q;
  logic [Ports-1:0] ar_waits_q, aw_waits_q, w_waits_q;
  axi_read_req_t [Ports-1:0] reads_q;
  axi_write_req_t [Ports-1:0] writes_q;
  logic [OutBits+AxiAddrBits+AxiLenBits-1:0] m_ar_q, m_aw_q;
  always_ff @(posedge clk_i) begin
    started_q    <= 1'b1;
    running_q    <= rst_ni;
    core_q       <= core_i;
    ar_waits_q   <= ar & ~ar_go;
    aw_waits_q   <= aw & ~aw_go;
    w_waits_q    <= w & ~w_go;
    reads_q      <= reads_i;
    writes_q     <= writes_i;
    m_ar_waits_q <= m_axi_arvalid && !m_axi_arready;
    m_aw_waits_q <= m_axi_awvalid && !m_axi_awready;
    m_ar_q       <= {m_axi_arid, m_axi_araddr, m_axi_arlen};
    m_aw_q       <= {m_axi_awid, m_axi_awaddr, m_axi_awlen};
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    else assume (core_i == core_q);
    assume (32'(core_i) < Ports);
    if (m_axi_bvalid) assume (32'(m_axi_bid >> AxiCoreIdBits) < Ports);
    if (m_axi_rvalid) assume (32'(m_axi_rid >> AxiCoreIdBits) < Ports);
    if (started_q && running_q) begin
      for (int p = 0; p < Ports; p++) begin
        if (ar_waits_q[p]) assume (ar[p] && reads_i[p].ar == reads_q[p].ar);
        if (aw_waits_q[p]) assume (aw[p] && writes_i[p].aw == writes_q[p].aw);
        if (w_waits_q[p]) assume (w[p] && writes_i[p].w == writes_q[p].w);
      end
    end
  end

  // how often others went first while the followed core waited
  logic [7:0] ar_passed_q, aw_passed_q;
  logic m_ar_go, m_aw_go, m_w_go, offered, w_end;
  assign m_ar_go = m_axi_arvalid && m_axi_arready;
  assign m_aw_go = m_axi_awvalid && m_axi_awready;
  assign m_w_go  = m_axi_wvalid && m_axi_wready;
  assign offered = m_axi_awvalid && !(running_q && m_aw_waits_q);  // for the first time
  assign w_end   = m_w_go && m_axi_wlast;
  always_ff @(posedge clk_i) begin
    if (!rst_ni || !ar[core_i] || ar_go[core_i]) ar_passed_q <= '0;
    else ar_passed_q <= ar_passed_q + 8'(m_ar_go);
    if (!rst_ni || !aw[core_i] || aw_go[core_i]) aw_passed_q <= '0;
    else aw_passed_q <= aw_passed_q + 8'(m_aw_go);
  end

  // write bursts that were offered and whose data has not ended; one of them is followed
  logic [7:0] bursts_q, ahead_q;
  logic followed_q;
  logic [SelBits-1:0] owner_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      bursts_q   <= '0;
      followed_q <= 1'b0;
    end else begin
      bursts_q <= bursts_q + 8'(offered) - 8'(w_end);
      if (followed_q) begin
        ahead_q <= ahead_q - 8'(w_end);
        if (w_end && ahead_q == '0) followed_q <= 1'b0;
      end else if (offered && follow_i) begin
        followed_q <= 1'b1;
        owner_q    <= SelBits'(m_axi_awid >> AxiCoreIdBits);
        ahead_q    <= bursts_q - 8'(w_end);
      end
    end
  end

  // cores from the one after the followed to the one that had the last turn
  function automatic logic [7:0] turns(logic [SelBits-1:0] last);
    return 8'((32'(last) + Ports - 32'(core_i)) % Ports);
  endfunction
  logic [7:0] place;
  logic [SelBits-1:0] r_owner, b_owner;
  assign place   = 8'((32'(dut.i_order.read_q) + 32'(ahead_q)) % Writes);
  assign r_owner = SelBits'(m_axi_rid >> AxiCoreIdBits);
  assign b_owner = SelBits'(m_axi_bid >> AxiCoreIdBits);

  for (genvar s = 0; s < Writes; s++) begin : gen_slot
    always_comb begin
      if (started_q && rst_ni && (s + Writes - 32'(dut.i_order.read_q)) % Writes < 32'(bursts_q)) begin
        OrderNamesACore : assert (32'(dut.i_order.mem_q[s]) < Ports);
      end
    end
  end

  always_comb begin
    if (started_q && rst_ni) begin
      // A read request goes out when its core sees it taken: one for one.
      ReadsOneForOne : assert (m_ar_go == (ar_go != '0) && $onehot0(ar_go));
      WritesOneForOne : assert (m_aw_go == (aw_go != '0) && $onehot0(aw_go));
      BeatsOneForOne : assert (m_w_go == (w_go != '0) && $onehot0(w_go));
      if (ar_go[core_i]) begin
        // A request goes out unchanged, with its core's index above its ID.
        ReadIsUnchanged :
        assert ({m_axi_arid, m_axi_araddr, m_axi_arlen}
            == {core_i, reads_i[core_i].ar.id, reads_i[core_i].ar.addr, reads_i[core_i].ar.len});
      end
      if (aw_go[core_i]) begin
        WriteIsUnchanged :
        assert ({m_axi_awid, m_axi_awaddr, m_axi_awlen}
            == {core_i, writes_i[core_i].aw.id, writes_i[core_i].aw.addr, writes_i[core_i].aw.len});
      end
      if (w_go[core_i]) begin
        // Write data goes out unchanged.
        BeatIsUnchanged :
        assert (m_axi_wdata == writes_i[core_i].w.data[DataBits-1:0] && m_axi_wstrb == writes_i[core_i].w.strb[DataBits/8-1:0]
            && m_axi_wlast == writes_i[core_i].w.last);
      end
      if (running_q) begin
        // A request on the port stays as it is until it is taken.
        ReadRequestStaysUntilTaken :
        assert (!m_ar_waits_q || (m_axi_arvalid && {m_axi_arid, m_axi_araddr, m_axi_arlen} == m_ar_q));
        WriteRequestStaysUntilTaken :
        assert (!m_aw_waits_q || (m_axi_awvalid && {m_axi_awid, m_axi_awaddr, m_axi_awlen} == m_aw_q));
      end
      HeldIsWhatWaits :
      assert (dut.ar_held_q == (running_q && m_ar_waits_q) && dut.aw_held_q == (running_q && m_aw_waits_q)
          && (!dut.ar_held_q || ar_waits_q[dut.ar_last_q]) && (!dut.aw_held_q || aw_waits_q[dut.aw_last_q]));
      // Somebody's request is on the port while anybody asks; writes need room for their order.
      ReadPortNeverIdles : assert (m_axi_arvalid == (ar != '0));
      WritePortNeverIdles : assert (m_axi_awvalid || aw == '0 || bursts_q == 8'(Writes));
      // Every other core goes first at most once while a core waits.
      ReadsDoNotStarve : assert (ar_passed_q < 8'(Ports));
      WritesDoNotStarve : assert (aw_passed_q < 8'(Ports));
      if (ar[core_i]) begin
        ReadTurnsAreCounted :
        assert (ar_passed_q + 8'(dut.ar_held_q) <= turns(dut.ar_last_q) || (dut.ar_held_q && dut.ar_last_q == core_i));
      end
      if (aw[core_i]) begin
        WriteTurnsAreCounted :
        assert (aw_passed_q + 8'(dut.aw_held_q) <= turns(dut.aw_last_q) || (dut.aw_held_q && dut.aw_last_q == core_i));
      end
      LastIsACore : assert (32'(dut.ar_last_q) < Ports && 32'(dut.aw_last_q) < Ports);
      // Data of a write burst follows that of the bursts that were offered before it, and is its own core's.
      if (followed_q) begin
        DataFollowsTheOrderOfAddresses : assert (ahead_q != '0 || !m_w_go || w_go[owner_q]);
        FollowedBurstIsInside : assert (ahead_q < bursts_q);
        FollowedBurstIsStored : assert (dut.i_order.mem_q[place] == owner_q);
      end
      // No write data without its address.
      NoDataWithoutAddress : assert (!m_axi_wvalid || bursts_q != '0);
      BurstsAreCounted : assert (8'(dut.i_order.count_q) == bursts_q && bursts_q <= 8'(Writes));
      OrderPointersAgree :
      assert (32'(dut.i_order.write_q) == (32'(dut.i_order.read_q) + 32'(bursts_q)) % Writes
          && 32'(dut.i_order.read_q) < Writes && 32'(dut.i_order.write_q) < Writes);
      // An answer goes to its owner, and is taken from the port when its owner takes it.
      WriteAnswersGoToTheirOwner :
      assert (b_valid[core_i] == (m_axi_bvalid && b_owner == core_i)
          && (!m_axi_bvalid || m_axi_bready == writes_i[b_owner].b_ready) && writes_rsp[core_i].b_resp == m_axi_bresp);
      ReadDataGoesToItsOwner :
      assert (r_valid[core_i] == (m_axi_rvalid && m_axi_rready && r_owner == core_i)
          && (!m_axi_rready || reads_i[core_i].r_ready));
      NoReadBeatIsLost : assert ((m_axi_rvalid && m_axi_rready) == (r_go != '0) && $onehot0(r_go));
      if (r_go[core_i]) begin
        ReadDataIsUnchanged :
        assert (reads_rsp[core_i].r.data[DataBits-1:0] == m_axi_rdata && reads_rsp[core_i].r.resp == m_axi_rresp
            && reads_rsp[core_i].r.last == m_axi_rlast && reads_rsp[core_i].r.id == m_axi_rid[AxiCoreIdBits-1:0]);
      end
      LastCoreWaitsLongest : cover (32'(core_i) == Ports - 1 && ar_go[core_i] && 32'(ar_passed_q) == Ports - 1);
      WriteWaitsLongest : cover (aw_go[core_i] && 32'(aw_passed_q) == Ports - 1);
      DataBeforeItsAddress : cover (m_w_go && m_aw_waits_q && bursts_q == 8'd1 && w_go[core_i]);
      FollowedBurstEnds : cover (followed_q && w_end && ahead_q == '0 && bursts_q == 8'd3);
      AnswerToTheLastCore : cover (32'(core_i) == Ports - 1 && b_go[core_i] && r_go[core_i]);
    end
  end
endmodule
