// SPDX-License-Identifier: Apache-2.0
/// npu_core_control and npu_core_errors side by side, with flat ports.
module tb_core_parts
  import npu_pkg::*;
  import npu_core_pkg::*;
(
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
  output logic [ 31:0] first_index_o
);
  core_state_e state;
  error_e work_cause[NumEngines], first_cause;
  engine_e first_engine;
  assign state_o        = 3'(state);
  assign first_cause_o  = 8'(first_cause);
  assign first_engine_o = 2'(first_engine);
  for (genvar e = 0; e < NumEngines; e++) begin : gen_engine
    assign work_cause[e] = error_e'(work_cause_i[8*e+:8]);
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
endmodule
