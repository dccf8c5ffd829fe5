// SPDX-License-Identifier: Apache-2.0
/// Counters of a core: they begin with a command list (`start_i`) and count while it runs (`run_i`).
///
/// Every engine is in exactly one state per cycle, so the states of an engine sum to the cycles.
module npu_core_counters
  import npu_pkg::*;
#(
  parameter int unsigned Multipliers = 256  // of the array
) (
  input  logic                                       clk_i,
  input  logic                                       rst_ni,
  input  logic                                       start_i,
  input  logic                                       run_i,
  // what happens in this cycle
  input  state_e                                     engine_state_i[NumEngines],
  input  logic                                       read_beat_i,
  input  logic                                       write_beat_i,
  input  logic                                       mac_cycle_i,     // a multiplying command is in the engine
  input  logic                                       mac_beat_i,      // the array multiplies
  input  logic [31:0]                                useful_macs_i,   // of this beat
  // counters
  output logic [63:0]                                cycles_o,
  output logic [NumEngines-1:0][NumStates-1:0][31:0] state_cycles_o,  // by engine and what it did
  output logic [31:0]                                read_beats_o,
  output logic [31:0]                                write_beats_o,
  output logic [31:0]                                array_first_o,
  output logic [31:0]                                array_last_o,
  output logic [63:0]                                macs_useful_o,
  output logic [63:0]                                macs_offered_o
);
  logic [NumEngines-1:0][NumStates-1:0][31:0] state_cycles_q;
  logic [31:0] read_beats_q, write_beats_q, array_first_q, array_last_q;
  logic [63:0] cycles_q, useful_q, offered_q;
  logic array_seen_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      cycles_q       <= '0;
      state_cycles_q <= '0;
      read_beats_q   <= '0;
      write_beats_q  <= '0;
      array_first_q  <= '0;
      array_last_q   <= '0;
      array_seen_q   <= 1'b0;
      useful_q       <= '0;
      offered_q      <= '0;
    end else if (start_i) begin
      cycles_q       <= '0;
      state_cycles_q <= '0;
      read_beats_q   <= '0;
      write_beats_q  <= '0;
      array_first_q  <= '0;
      array_last_q   <= '0;
      array_seen_q   <= 1'b0;
      useful_q       <= '0;
      offered_q      <= '0;
    end else if (run_i) begin
      cycles_q <= cycles_q + 64'd1;
      for (int unsigned e = 0; e < NumEngines; e++) begin
        state_cycles_q[e][engine_state_i[e]] <= state_cycles_q[e][engine_state_i[e]] + 32'd1;
      end
      read_beats_q  <= read_beats_q + 32'(read_beat_i);
      write_beats_q <= write_beats_q + 32'(write_beat_i);
      useful_q      <= useful_q + 64'(useful_macs_i);
      if (mac_cycle_i) offered_q <= offered_q + 64'(Multipliers);
      if (mac_beat_i) begin
        array_seen_q <= 1'b1;
        array_last_q <= cycles_q[31:0];
        if (!array_seen_q) array_first_q <= cycles_q[31:0];
      end
    end
  end

  assign cycles_o       = cycles_q;
  assign state_cycles_o = state_cycles_q;
  assign read_beats_o   = read_beats_q;
  assign write_beats_o  = write_beats_q;
  assign array_first_o  = array_first_q;
  assign array_last_o   = array_last_q;
  assign macs_useful_o  = useful_q;
  assign macs_offered_o = offered_q;

  for (genvar e = 0; e < NumEngines; e++) begin : gen_engine
    EngineIsInOneState : assert property (@(posedge clk_i) disable iff (!rst_ni)
        engine_state_i[e] inside {STATE_IDLE, STATE_RUN, STATE_WAIT_TOKEN, STATE_WAIT_MEMORY, STATE_WAIT_DRAIN})
    else $error("An engine is in exactly one state per cycle, so that its counters sum to the cycles.");
  end
endmodule
