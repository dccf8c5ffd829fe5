// SPDX-License-Identifier: Apache-2.0
/// npu_engine_ctrl with flat enums. The datapath refuses commands whose last bit is set.
module tb_engine
  import npu_pkg::*;
#(
  parameter int unsigned Engine     = 1,
  parameter int unsigned QueueDepth = 4,
  parameter int unsigned InFlight   = 4
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  input  logic               clear_i,
  input  logic               stop_i,
  input  logic               cmd_valid_i,
  output logic               cmd_ready_o,
  input  logic [CmdBits-1:0] cmd_i,
  input  logic [       31:0] cmd_index_i,
  input  logic [        2:0] token_available_i,
  output logic [        2:0] token_take_o,
  output logic               post_valid_o,
  output logic [        2:0] post_mask_o,
  input  logic               post_ready_i,
  output logic               signal_valid_o,
  output logic [        7:0] signal_event_o,
  input  logic               signal_ready_i,
  output logic               wait_valid_o,
  output logic [        7:0] wait_event_o,
  output logic [        7:0] wait_amount_o,
  input  logic               wait_grant_i,
  output logic               start_valid_o,
  input  logic               start_ready_i,
  output logic [CmdBits-1:0] start_cmd_o,
  input  logic               done_i,
  input  logic [        2:0] work_i,
  output logic               idle_o,
  output logic               illegal_o,
  output logic [       31:0] oldest_index_o,
  output logic [       31:0] error_index_o,
  output logic [        2:0] state_o,
  output logic [        2:0] diag_tokens_o,
  output logic               diag_on_event_o,
  output logic [        7:0] diag_event_o
);
  state_e state;
  assign state_o = 3'(state);

  npu_engine_ctrl #(
    .Engine    (engine_e'(2'(Engine))),
    .QueueDepth(QueueDepth),
    .InFlight  (InFlight)
  ) i_engine (
    .start_illegal_i(start_cmd_o[CmdBits-1]),
    .work_i         (state_e'(work_i)),
    .state_o        (state),
    .*
  );
endmodule
