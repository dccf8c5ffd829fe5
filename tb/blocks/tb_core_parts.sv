// SPDX-License-Identifier: Apache-2.0
/// npu_core_control, npu_core_errors and npu_core_counters side by side, with flat ports.
module tb_core_parts
  import npu_pkg::*;
  import npu_core_pkg::*;
#(
  parameter int unsigned Multipliers = 256
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  // control
  input  logic         control_start_i,
  input  logic         soft_reset_i,
  input  logic         quiet_i,
  input  logic         finished_i,
  input  logic         control_error_i,
  output logic         start_o,
  output logic         run_o,
  output logic         stop_o,
  output logic         clear_o,
  output logic [  2:0] state_o,
  output logic         done_o,
  output logic         irq_done_o,
  output logic         irq_error_o,
  // errors
  input  logic         run_i,
  input  logic         clear_i,
  input  logic [  2:0] work_i,
  input  logic [ 23:0] work_cause_i,
  input  logic [ 95:0] work_index_i,
  input  logic [  2:0] illegal_i,
  input  logic [ 95:0] illegal_index_i,
  input  logic         fetch_i,
  input  logic [  7:0] fetch_cause_i,
  input  logic [ 31:0] fetch_index_i,
  output logic         error_o,
  output logic [  7:0] first_cause_o,
  output logic [  1:0] first_engine_o,
  output logic [ 31:0] first_index_o,
  // counters, which share run_i
  input  logic         start_i,
  input  logic [  8:0] engine_state_i,
  input  logic         read_beat_i,
  input  logic         write_beat_i,
  input  logic         mac_cycle_i,
  input  logic         mac_beat_i,
  input  logic [ 31:0] useful_macs_i,
  output logic [ 63:0] cycles_o,
  output logic [479:0] state_cycles_o,
  output logic [ 31:0] read_beats_o,
  output logic [ 31:0] write_beats_o,
  output logic [ 31:0] array_first_o,
  output logic [ 31:0] array_last_o,
  output logic [ 63:0] macs_useful_o,
  output logic [ 63:0] macs_offered_o
);
  core_state_e state;
  error_e work_cause[NumEngines], first_cause;
  engine_e first_engine;
  state_e engine_state[NumEngines];
  assign state_o        = 3'(state);
  assign first_cause_o  = 8'(first_cause);
  assign first_engine_o = 2'(first_engine);
  for (genvar e = 0; e < NumEngines; e++) begin : gen_engine
    assign work_cause[e]   = error_e'(work_cause_i[8*e+:8]);
    assign engine_state[e] = state_e'(engine_state_i[3*e+:3]);
  end

  npu_core_control i_control (
    .start_i(control_start_i),
    .error_i(control_error_i),
    .state_o(state),
    .*
  );

  npu_core_errors i_errors (
    .work_cause_i  (work_cause),
    .fetch_cause_i (error_e'(fetch_cause_i)),
    .first_cause_o (first_cause),
    .first_engine_o(first_engine),
    .*
  );

  npu_core_counters #(
    .Multipliers(Multipliers)
  ) i_counters (
    .engine_state_i(engine_state),
    .*
  );
endmodule
