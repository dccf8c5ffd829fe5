// SPDX-License-Identifier: Apache-2.0
/// Event counters of the SoC: semaphores that order commands of different cores.
///
/// Every requester (one per engine and core) may signal one event and wait for one event at a time. Signals are served
/// one per cycle, lowest index first; a wait is granted in a cycle in which its counter has reached the amount, which is then
/// subtracted. Waits are served one per cycle too, so two waiters cannot take the same count.
module npu_events
  import npu_pkg::*;
#(
  parameter int unsigned Requesters = 6,
  parameter int unsigned Events     = 16,  // a power of two
  parameter int unsigned CountBits  = EventIdBits
) (
  input  logic                                   clk_i,
  input  logic                                   rst_ni,
  input  logic [Requesters-1:0]                  signal_valid_i,
  input  logic [Requesters-1:0][EventIdBits-1:0] signal_event_i,
  output logic [Requesters-1:0]                  signal_ready_o,
  input  logic [Requesters-1:0]                  wait_valid_i,
  input  logic [Requesters-1:0][EventIdBits-1:0] wait_event_i,
  input  logic [Requesters-1:0][EventIdBits-1:0] wait_amount_i,
  output logic [Requesters-1:0]                  wait_grant_o,
  input  logic                                   clear_i
);
  localparam int unsigned EventBits = $clog2(Events);

  logic [CountBits-1:0] count_q[Events];
  logic [Events-1:0] add;
  logic [Events-1:0][CountBits-1:0] subtract;

  always_comb begin
    logic served_signal, served_wait;
    served_signal  = 1'b0;
    served_wait    = 1'b0;
    signal_ready_o = '0;
    wait_grant_o   = '0;
    add            = '0;
    subtract       = '0;
    for (int unsigned r = 0; r < Requesters; r++) begin
      // a full counter holds its signaller: no signal is lost
      if (signal_valid_i[r] && !served_signal && count_q[signal_event_i[r][EventBits-1:0]] != '1) begin
        served_signal = 1'b1;
        signal_ready_o[r] = 1'b1;
        add[signal_event_i[r][EventBits-1:0]] = 1'b1;
      end
      if (wait_valid_i[r] && !served_wait && count_q[wait_event_i[r][EventBits-1:0]] >= wait_amount_i[r]) begin
        served_wait = 1'b1;
        wait_grant_o[r] = 1'b1;
        subtract[wait_event_i[r][EventBits-1:0]] = wait_amount_i[r];
      end
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      for (int unsigned e = 0; e < Events; e++) count_q[e] <= '0;
    end else if (clear_i) begin
      for (int unsigned e = 0; e < Events; e++) count_q[e] <= '0;
    end else begin
      for (int unsigned e = 0; e < Events; e++) count_q[e] <= count_q[e] + CountBits'(add[e]) - subtract[e];
    end
  end

  if (CountBits != EventIdBits) begin : gen_CounterHoldsAnAmount
    $fatal(1, "npu_events: CountBits must be 8, the bits of the commands' amount");
  end
  if (Events < 2 || Events > (1 << EventIdBits) || (1 << EventBits) != Events) begin : gen_CountersFitTheCommands
    $fatal(1, "npu_events: Events must be a power of two, 2 to 256");
  end
endmodule
