// SPDX-License-Identifier: Apache-2.0
/// State of a core: ready -> run -> ready (done), or -> stop -> error on the first error, until a soft reset.
///
/// A soft reset is taken in every state and goes first: the core stops, and when its bus traffic has ended (`quiet_i`) everything is
/// forgotten (`clear_o`, one cycle) and the core is ready. `start_o` is up in the cycle in which a list starts: the counters
/// and the first error begin anew.
module npu_core_control
  import npu_core_pkg::*;
(
  input  logic        clk_i,
  input  logic        rst_ni,
  // requests of the host, pulses
  input  logic        start_i,     // ignored unless the core is ready
  input  logic        soft_reset_i,
  // from the engines
  input  logic        quiet_i,     // no bus traffic in flight
  input  logic        finished_i,  // every command of the list is complete
  input  logic        error_i,
  // to the engines
  output logic        start_o,
  output logic        run_o,
  output logic        stop_o,      // nothing new is started
  output logic        clear_o,
  // status
  output core_state_e state_o,
  output logic        done_o,      // the last list has ended without error
  output logic        irq_done_o,  // pulses
  output logic        irq_error_o
);
  core_state_e state_q;
  logic done_q;

  assign run_o       = state_q == CORE_RUN;
  assign start_o     = start_i && state_q == CORE_READY && !soft_reset_i;
  assign stop_o      = state_q != CORE_RUN && state_q != CORE_READY;
  assign clear_o     = state_q == CORE_STOP_RESET && quiet_i;
  assign state_o     = state_q;
  assign done_o      = done_q;
  assign irq_done_o  = run_o && !error_i && finished_i && !soft_reset_i;
  assign irq_error_o = state_q == CORE_STOP_ERROR && quiet_i && !soft_reset_i;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      state_q <= CORE_READY;
      done_q  <= 1'b0;
    end else begin
      unique case (state_q)
        CORE_READY: if (start_o) state_q <= CORE_RUN;
        CORE_RUN: begin
          if (error_i) state_q <= CORE_STOP_ERROR;
          else if (finished_i) state_q <= CORE_READY;
        end
        CORE_STOP_ERROR: if (quiet_i) state_q <= CORE_ERROR;
        CORE_STOP_RESET: if (quiet_i) state_q <= CORE_READY;
        default: ;
      endcase
      if (soft_reset_i) state_q <= CORE_STOP_RESET;
      if (start_o || soft_reset_i) done_q <= 1'b0;
      else if (run_o && !error_i && finished_i) done_q <= 1'b1;
    end
  end

  StateIsKnown : assert property (@(posedge clk_i) disable iff (!rst_ni)
      state_q inside {CORE_READY, CORE_RUN, CORE_STOP_ERROR, CORE_ERROR, CORE_STOP_RESET})
  else $error("The core is in one of its five states.");
endmodule
