// SPDX-License-Identifier: Apache-2.0
/// npu_core_control: what the proofs of the engines assume of it, and that errors and resets are never missed.
///
/// Nothing is assumed of the surroundings.
module prove_core_control
  import npu_core_pkg::*;
(
  input logic clk_i,
  input logic rst_ni,
  input logic start_i,
  input logic soft_reset_i,
  input logic quiet_i,
  input logic finished_i,
  input logic error_i
);
  logic start_o, run_o, stop_o, clear_o, done_o, irq_done_o, irq_error_o;
  core_state_e state_o;
  npu_core_control dut (.*);

  logic started_q = 1'b0;
  logic running_q, stop_q, clear_q, reset_q, error_q;
  core_state_e state_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    running_q <= rst_ni;
    stop_q    <= stop_o;
    clear_q   <= clear_o;
    reset_q   <= soft_reset_i;
    error_q   <= run_o && error_i;
    state_q   <= state_o;
  end
  always_comb if (!started_q) assume (!rst_ni);

  always_comb begin
    if (started_q && rst_ni) begin
      // The core is in one of its five states.
      StateIsKnown : assert (state_o inside {CORE_READY, CORE_RUN, CORE_STOP_ERROR, CORE_ERROR, CORE_STOP_RESET});
      // The engines are cleared only while they are stopped and no bus traffic is in flight.
      ClearedOnlyWhenStoppedAndQuiet : assert (!clear_o || (stop_o && quiet_i));
      // A list starts only while the engines are not stopped.
      StartsOnlyWhenReady : assert (!start_o || (state_o == CORE_READY && !stop_o && !clear_o));
      // It is done, or in error, or running; never two of these.
      InterruptsExclude : assert (!(irq_done_o && irq_error_o));
      if (running_q) begin
        // A stop stays until the engines are cleared.
        StopStaysUntilCleared : assert (!stop_q || stop_o || clear_q);
        // A soft reset is taken in every state.
        ResetIsTaken : assert (!reset_q || state_o == CORE_STOP_RESET);
        // An error stops the core.
        ErrorStops : assert (!error_q || stop_o);
      end
      DoneIsReady : assert (!done_o || state_o == CORE_READY || stop_o);
      ErrorThenReset : cover (running_q && state_q == CORE_ERROR && state_o == CORE_STOP_RESET);
      DoneAfterReset : cover (done_o && irq_done_o == 1'b0 && state_o == CORE_READY);
      ResetWaitsForQuiet : cover (running_q && state_q == CORE_STOP_RESET && clear_o && !clear_q);
    end
  end
endmodule
