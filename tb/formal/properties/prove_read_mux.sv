// SPDX-License-Identifier: Apache-2.0
/// npu_read_mux: every request goes out once, unchanged, and its data comes back to who has asked.
///
/// Assumed: requesters keep to AXI4 (a request stays until it is taken), and memory answers with IDs that were sent.
module prove_read_mux
  import npu_axi_pkg::*;
(
  input logic                clk_i,
  input logic                rst_ni,
  input axi_read_req_t [1:0] requests_i,
  input axi_read_rsp_t       port_rsp_i
);
  axi_read_req_t requester_req_i[2];
  axi_read_rsp_t requester_rsp_o[2];
  axi_read_req_t port_req_o;
  assign requester_req_i[0] = requests_i[0];
  assign requester_req_i[1] = requests_i[1];
  npu_read_mux dut (.*);

  logic [1:0] asked, taken, got;  // by requester: AR valid, AR handshake, R handshake
  always_comb begin
    for (int i = 0; i < 2; i++) begin
      asked[i] = requests_i[i].ar_valid;
      taken[i] = requests_i[i].ar_valid && requester_rsp_o[i].ar_ready;
      got[i]   = requester_rsp_o[i].r_valid && requests_i[i].r_ready;
    end
  end

  logic started_q = 1'b0;
  logic running_q;  // no reset in the cycle before
  logic [1:0] waiting_q;
  axi_read_req_t [1:0] before_q;
  axi_read_req_t port_q;
  logic port_waits_q;
  logic [7:0] passed_q;  // requests of fetch that went out while one of load waited for its first turn
  always_ff @(posedge clk_i) begin
    started_q    <= 1'b1;
    running_q    <= rst_ni;
    waiting_q    <= asked & ~taken;
    before_q     <= requests_i;
    port_q       <= port_req_o;
    port_waits_q <= port_req_o.ar_valid && !port_rsp_i.ar_ready;
    if (!rst_ni || !asked[0] || taken[0]) passed_q <= '0;
    else passed_q <= passed_q + 8'(taken[1]);
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    if (started_q && running_q) begin
      for (int i = 0; i < 2; i++) begin
        if (waiting_q[i]) assume (requests_i[i].ar_valid && requests_i[i].ar == before_q[i].ar);
      end
    end
    if (port_rsp_i.r_valid) assume (!port_rsp_i.r.id[1]);
  end

  logic sent, owner;
  assign sent  = port_req_o.ar_valid && port_rsp_i.ar_ready;
  assign owner = port_rsp_i.r.id[0];

  for (genvar i = 0; i < 2; i++) begin : gen_requester
    always_comb begin
      if (started_q && rst_ni) begin
        if (taken[i]) begin
          // It goes out unchanged, under the number of its requester.
          RequestIsUnchanged : assert (port_req_o.ar.addr == requests_i[i].ar.addr && port_req_o.ar.len == requests_i[i].ar.len);
          RequestCarriesItsOwner : assert (port_req_o.ar.id == 2'(i));
        end
        // Data comes to its owner only, and nowhere when the other could not take it.
        if (requester_rsp_o[i].r_valid) begin
          DataComesToItsOwner :
          assert (owner == 1'(i) && port_rsp_i.r_valid && port_req_o.r_ready && requester_rsp_o[i].r == port_rsp_i.r);
        end
      end
    end
  end

  always_comb begin
    if (started_q && rst_ni) begin
      // A request goes out when its requester sees it taken: one for one.
      OneForOne : assert (sent == (taken != '0) && $onehot0(taken));
      // A beat that is taken from the port is taken by its owner in the same cycle: none is lost.
      NoBeatIsLost : assert ((port_rsp_i.r_valid && port_req_o.r_ready) == (got != '0) && $onehot0(got));
      if (running_q && port_waits_q) begin
        // A request on the port stays as it is until it is taken.
        RequestStaysUntilTaken : assert (port_req_o.ar_valid && port_req_o.ar == port_q.ar);
      end
      // Somebody's request is on the port while somebody asks.
      PortNeverIdlesWhileAsked : assert (port_req_o.ar_valid == (asked != '0));
      // Fetch lets at most one request of load go before its own.
      FetchWaitsForOneAtMost : assert (passed_q <= 8'd1);
      FetchGoesNext : assert (passed_q == '0 || !asked[0] || !dut.select);
      LockIsOfTheRequestOnThePort : assert (!dut.locked_q || !running_q || (port_waits_q && dut.select_q == port_q.ar.id[0]));
      BothAskAndLoadHolds : cover (asked == '1 && dut.select && taken[1] && waiting_q == '1);
      DataForLoad : cover (got[1]);
      DataForFetch : cover (got[0]);
    end
  end
endmodule
