// SPDX-License-Identifier: Apache-2.0
/// npu_events with flat ports.
module tb_events #(
  parameter int unsigned Requesters = 6,
  parameter int unsigned Events     = 16
) (
  input  logic                    clk_i,
  input  logic                    rst_ni,
  input  logic                    clear_i,
  input  logic [  Requesters-1:0] signal_valid_i,
  input  logic [Requesters*8-1:0] signal_event_i,
  output logic [  Requesters-1:0] signal_ready_o,
  input  logic [  Requesters-1:0] wait_valid_i,
  input  logic [Requesters*8-1:0] wait_event_i,
  input  logic [Requesters*8-1:0] wait_amount_i,
  output logic [  Requesters-1:0] wait_grant_o
);
  npu_events #(
    .Requesters(Requesters),
    .Events    (Events)
  ) i_events (
    .*
  );
endmodule
