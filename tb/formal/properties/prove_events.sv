// SPDX-License-Identifier: Apache-2.0
/// npu_events: no count is lost or made, and a wait is released by its own event only.
///
/// One event, any, is followed: what is proven of it holds of all. Assumed: requesters name events that exist, which
/// npu_engine_ctrl is proven to check.
module prove_events
  import npu_pkg::*;
#(
  parameter int unsigned Requesters = 6,
  parameter int unsigned Events     = 16
) (
  input logic                                   clk_i,
  input logic                                   rst_ni,
  input logic [Requesters-1:0]                  signal_valid_i,
  input logic [Requesters-1:0][EventIdBits-1:0] signal_event_i,
  input logic [Requesters-1:0]                  wait_valid_i,
  input logic [Requesters-1:0][EventIdBits-1:0] wait_event_i,
  input logic [Requesters-1:0][EventIdBits-1:0] wait_amount_i,
  input logic                                   clear_i,
  input logic [EventIdBits-1:0]                 event_i  // that is followed: constant
);
  localparam int unsigned EventBits = $clog2(Events);
  localparam int unsigned Most = (1 << EventIdBits) - 1;

  logic [Requesters-1:0] signal_ready_o, wait_grant_o;
  npu_events #(
    .Requesters(Requesters),
    .Events    (Events)
  ) dut (
    .*
  );

  logic started_q = 1'b0;
  logic [EventIdBits-1:0] event_q;
  logic [EventIdBits+1:0] count_q;           // wider than the counter: nothing wraps unseen
  logic [EventIdBits+1:0] signals, amounts;  // of the event in this cycle; OneAtATime: at most one requester's
  always_comb begin
    signals = '0;
    amounts = '0;
    for (int r = 0; r < Requesters; r++) begin
      if (signal_valid_i[r] && signal_ready_o[r] && signal_event_i[r] == event_i) signals |= 10'd1;
      if (wait_valid_i[r] && wait_grant_o[r] && wait_event_i[r] == event_i) amounts |= 10'(wait_amount_i[r]);
    end
  end
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    event_q   <= event_i;
    if (!rst_ni || clear_i) count_q <= '0;
    else count_q <= count_q + signals - amounts;
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    else assume (event_i == event_q);
    assume (32'(event_i) < Events);
    for (int r = 0; r < Requesters; r++) begin
      if (signal_valid_i[r]) assume (32'(signal_event_i[r]) < Events);
      if (wait_valid_i[r]) assume (32'(wait_event_i[r]) < Events);
    end
  end

  logic [EventIdBits-1:0] count;
  assign count = dut.count_q[event_i[EventBits-1:0]];

  for (genvar r = 0; r < Requesters; r++) begin : gen_requester
    always_comb begin
      if (started_q && rst_ni) begin
        // A grant answers a wait whose own event has reached its amount.
        if (wait_grant_o[r] && wait_event_i[r] == event_i) begin
          WaitIsReleasedByItsOwnEvent : assert (wait_valid_i[r] && count_q >= 10'(wait_amount_i[r]));
        end
        // Only a signaller is answered.
        SignalAnswersASignaller : assert (!signal_ready_o[r] || signal_valid_i[r]);
      end
    end
  end

  always_comb begin
    if (started_q && rst_ni) begin
      // The counter is that of the signals and granted amounts since the last reset: no count is lost, none appears.
      CountIsSignalsLessAmounts : assert (10'(count) == count_q);
      // The count stays within the counter: a full counter holds its signaller, and a grant never takes more than there is.
      CountWithinCounter : assert (count_q <= 10'(Most) && amounts <= count_q);
      // At most one signal and one wait are served in a cycle.
      OneAtATime : assert ($onehot0(signal_ready_o) && $onehot0(wait_grant_o));
      // A signal that could be counted is served in this cycle, if not its own then another: signals never stand still.
      if (signal_valid_i[Requesters-1] && signal_event_i[Requesters-1] == event_i && count_q != 10'(Most)) begin
        SignalsMove : assert (signal_ready_o != '0);
      end
      // A wait whose event has come is served in this cycle, if not its own then another.
      if (wait_valid_i[Requesters-1] && wait_event_i[Requesters-1] == event_i
          && count_q >= 10'(wait_amount_i[Requesters-1])) begin
        WaitsMove : assert (wait_grant_o != '0);
      end
      SignalAndGrantAtOnce : cover (signals == 10'd1 && amounts == 10'd2);
      TwoWaitForTheSame :
      cover (wait_valid_i[0] && wait_valid_i[1] && wait_event_i[0] == event_i && wait_event_i[1] == event_i
          && wait_amount_i[0] == 8'd1 && wait_amount_i[1] == 8'd1 && count_q == 10'd1);
    end
  end
endmodule
