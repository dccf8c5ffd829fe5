// SPDX-License-Identifier: Apache-2.0
/// The parts of a core that say how it does, each with its own inputs: counters and registers. Enums are flat, and
/// unpacked arrays packed.
module tb_core_status
  import npu_pkg::*;
  import npu_core_pkg::*;
#(
  parameter int unsigned Multipliers = 256,
  parameter int unsigned Values      = 0    // of the configuration: a number of a set below
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  // counters
  input  logic               count_start_i,
  input  logic               count_run_i,
  input  logic [  2:0][ 2:0] engine_state_i,
  input  logic               read_beat_i,
  input  logic               write_beat_i,
  input  logic               mac_cycle_i,
  input  logic               mac_beat_i,
  input  logic [       31:0] useful_macs_i,
  output logic [       63:0] cycles_o,
  output logic [2:0][4:0][31:0] state_cycles_o,
  output logic [       31:0] read_beats_o,
  output logic [       31:0] write_beats_o,
  output logic [       31:0] array_first_o,
  output logic [       31:0] array_last_o,
  output logic [       63:0] macs_useful_o,
  output logic [       63:0] macs_offered_o,
  // registers
  input  logic [        2:0] reg_state_i,
  input  logic               reg_done_i,
  input  logic               reg_irq_done_i,
  input  logic               reg_irq_error_i,
  input  logic [        7:0] reg_cause_i,
  input  logic [        1:0] reg_engine_i,
  input  logic [       31:0] reg_index_i,
  input  logic [  2:0][ 2:0] reg_engine_state_i,
  input  logic [  2:0][ 2:0] reg_tokens_i,
  input  logic [        2:0] reg_on_event_i,
  input  logic [  2:0][ 7:0] reg_event_i,
  input  logic [  2:0][31:0] reg_oldest_i,
  input  logic [       31:0] reg_dispatched_i,
  input  logic               reg_blocked_i,
  input  logic [       31:0] reg_cycles_i,
  input  logic [2:0][4:0][31:0] reg_state_cycles_i,
  input  logic [       31:0] reg_read_beats_i,
  input  logic [       31:0] reg_write_beats_i,
  input  logic [       31:0] reg_array_first_i,
  input  logic [       31:0] reg_array_last_i,
  input  logic [       63:0] reg_macs_useful_i,
  input  logic [       63:0] reg_macs_offered_i,
  output logic               reg_start_o,
  output logic               reg_soft_reset_o,
  output logic [       31:0] reg_list_address_o,
  output logic [       31:0] reg_list_count_o,
  output logic               irq_o,
  input  logic [        7:0] s_axil_awaddr,
  input  logic [        2:0] s_axil_awprot,
  input  logic               s_axil_awvalid,
  output logic               s_axil_awready,
  input  logic [       31:0] s_axil_wdata,
  input  logic [        3:0] s_axil_wstrb,
  input  logic               s_axil_wvalid,
  output logic               s_axil_wready,
  output logic [        1:0] s_axil_bresp,
  output logic               s_axil_bvalid,
  input  logic               s_axil_bready,
  input  logic [        7:0] s_axil_araddr,
  input  logic [        2:0] s_axil_arprot,
  input  logic               s_axil_arvalid,
  output logic               s_axil_arready,
  output logic [       31:0] s_axil_rdata,
  output logic [        1:0] s_axil_rresp,
  output logic               s_axil_rvalid,
  input  logic               s_axil_rready
);
  // every bit of the registers is 1 in one of these and 0 in the other; a core itself could not have them all
  localparam core_cfg_t Configs[2] = '{
    '{a_bits: 10, w_bits: 5, rows: 2730, cols: 1365, stripe_depth: 682, lanes: 21, dw_taps: 42,
      act_kib: 2730, weight_kib: 1365, param_kib: 170, axi_bits: 341},
    '{a_bits: 5, w_bits: 10, rows: 1365, cols: 2730, stripe_depth: 341, lanes: 42, dw_taps: 21,
      act_kib: 1365, weight_kib: 2730, param_kib: 85, axi_bits: 682}
  };

  state_e engine_state[NumEngines], reg_engine_state[NumEngines];
  always_comb begin
    for (int e = 0; e < NumEngines; e++) begin
      engine_state[e]     = state_e'(engine_state_i[e]);
      reg_engine_state[e] = state_e'(reg_engine_state_i[e]);
    end
  end

  npu_core_counters #(
    .Multipliers(Multipliers)
  ) i_counters (
    .start_i       (count_start_i),
    .run_i         (count_run_i),
    .engine_state_i(engine_state),
    .*
  );

  npu_core_regs #(
    .Config(Configs[Values])
  ) i_regs (
    .start_o        (reg_start_o),
    .soft_reset_o   (reg_soft_reset_o),
    .list_address_o (reg_list_address_o),
    .list_count_o   (reg_list_count_o),
    .state_i        (core_state_e'(reg_state_i)),
    .done_i         (reg_done_i),
    .irq_done_i     (reg_irq_done_i),
    .irq_error_i    (reg_irq_error_i),
    .error_cause_i  (error_e'(reg_cause_i)),
    .error_engine_i (engine_e'(reg_engine_i)),
    .error_index_i  (reg_index_i),
    .engine_state_i (reg_engine_state),
    .diag_tokens_i  (reg_tokens_i),
    .diag_on_event_i(reg_on_event_i),
    .diag_event_i   (reg_event_i),
    .oldest_i       (reg_oldest_i),
    .dispatched_i   (reg_dispatched_i),
    .fetch_blocked_i(reg_blocked_i),
    .cycles_i       (reg_cycles_i),
    .state_cycles_i (reg_state_cycles_i),
    .read_beats_i   (reg_read_beats_i),
    .write_beats_i  (reg_write_beats_i),
    .array_first_i  (reg_array_first_i),
    .array_last_i   (reg_array_last_i),
    .macs_useful_i  (reg_macs_useful_i),
    .macs_offered_i (reg_macs_offered_i),
    .*
  );
endmodule
