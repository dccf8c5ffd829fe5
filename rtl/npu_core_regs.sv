// SPDX-License-Identifier: Apache-2.0
/// Registers of a core: what the host reads is taken from the core's status and counters, what it writes goes to the core.
module npu_core_regs
  import npu_pkg::*;
  import npu_core_pkg::*;
#(
  parameter core_cfg_t Config = '0
) (
  input  logic                                       clk_i,
  input  logic                                       rst_ni,
  // AXI4-Lite
  input  logic [7:0]                                 s_axil_awaddr,
  input  logic [2:0]                                 s_axil_awprot,
  input  logic                                       s_axil_awvalid,
  output logic                                       s_axil_awready,
  input  logic [31:0]                                s_axil_wdata,
  input  logic [3:0]                                 s_axil_wstrb,
  input  logic                                       s_axil_wvalid,
  output logic                                       s_axil_wready,
  output logic [1:0]                                 s_axil_bresp,
  output logic                                       s_axil_bvalid,
  input  logic                                       s_axil_bready,
  input  logic [7:0]                                 s_axil_araddr,
  input  logic [2:0]                                 s_axil_arprot,
  input  logic                                       s_axil_arvalid,
  output logic                                       s_axil_arready,
  output logic [31:0]                                s_axil_rdata,
  output logic [1:0]                                 s_axil_rresp,
  output logic                                       s_axil_rvalid,
  input  logic                                       s_axil_rready,
  // requests
  output logic                                       start_o,          // pulses
  output logic                                       soft_reset_o,
  output logic [31:0]                                list_address_o,
  output logic [31:0]                                list_count_o,
  output logic                                       irq_o,
  // status
  input  core_state_e                                state_i,
  input  logic                                       done_i,
  input  logic                                       irq_done_i,       // pulses
  input  logic                                       irq_error_i,
  input  error_e                                     error_cause_i,
  input  engine_e                                    error_engine_i,
  input  logic [31:0]                                error_index_i,
  input  state_e                                     engine_state_i[NumEngines],
  input  logic [NumEngines-1:0][NumEngines-1:0]      diag_tokens_i,    // those an engine waits for, by posting engine
  input  logic [NumEngines-1:0]                      diag_on_event_i,  // it waits for an event
  input  logic [NumEngines-1:0][EventIdBits-1:0]     diag_event_i,
  input  logic [NumEngines-1:0][31:0]                oldest_i,         // index of its oldest unfinished command
  input  logic [31:0]                                dispatched_i,
  input  logic                                       fetch_blocked_i,
  // counters
  input  logic [31:0]                                cycles_i,
  input  logic [NumEngines-1:0][NumStates-1:0][31:0] state_cycles_i,
  input  logic [31:0]                                read_beats_i,
  input  logic [31:0]                                write_beats_i,
  input  logic [31:0]                                array_first_i,
  input  logic [31:0]                                array_last_i,
  input  logic [63:0]                                macs_useful_i,
  input  logic [63:0]                                macs_offered_i
);
  npu_regs_pkg::npu_regs__in_t hwif_in;
  npu_regs_pkg::npu_regs__out_t hwif_out;

  always_comb begin
    hwif_in = '{default: '0};
    hwif_in.id.magic.next = 16'h4E50;
    hwif_in.id.version.next = 16'd1;
    hwif_in.config_array.a_bits.next = 4'(Config.a_bits);
    hwif_in.config_array.w_bits.next = 4'(Config.w_bits);
    hwif_in.config_array.rows.next = 12'(Config.rows);
    hwif_in.config_array.cols.next = 12'(Config.cols);
    hwif_in.config_memory.act_kib.next = 12'(Config.act_kib);
    hwif_in.config_memory.weight_kib.next = 12'(Config.weight_kib);
    hwif_in.config_memory.param_kib.next = 8'(Config.param_kib);
    hwif_in.config_pipeline.stripe_depth.next = 10'(Config.stripe_depth);
    hwif_in.config_pipeline.lanes.next = 6'(Config.lanes);
    hwif_in.config_pipeline.dw_taps.next = 6'(Config.dw_taps);
    hwif_in.config_pipeline.axi_bits.next = 10'(Config.axi_bits);
    hwif_in.status.busy.next = state_i == CORE_RUN;
    hwif_in.status.done.next = done_i;
    hwif_in.status.error.next = state_i == CORE_ERROR;
    hwif_in.status.stopping.next = state_i == CORE_STOP_ERROR || state_i == CORE_STOP_RESET;
    hwif_in.irq_status.done.hwset = irq_done_i;
    hwif_in.irq_status.error.hwset = irq_error_i;
    hwif_in.error_cause.cause.next = error_cause_i;
    hwif_in.error_cause.engine.next = error_engine_i;
    hwif_in.error_command.index.next = error_index_i;
    hwif_in.diag_load.state.next = engine_state_i[ENGINE_LOAD];
    hwif_in.diag_load.tokens.next = diag_tokens_i[ENGINE_LOAD];
    hwif_in.diag_load.on_event.next = diag_on_event_i[ENGINE_LOAD];
    hwif_in.diag_load.event_id.next = diag_event_i[ENGINE_LOAD];
    hwif_in.diag_load.command.next = oldest_i[ENGINE_LOAD][16:0];
    hwif_in.diag_compute.state.next = engine_state_i[ENGINE_COMPUTE];
    hwif_in.diag_compute.tokens.next = diag_tokens_i[ENGINE_COMPUTE];
    hwif_in.diag_compute.on_event.next = diag_on_event_i[ENGINE_COMPUTE];
    hwif_in.diag_compute.event_id.next = diag_event_i[ENGINE_COMPUTE];
    hwif_in.diag_compute.command.next = oldest_i[ENGINE_COMPUTE][16:0];
    hwif_in.diag_store.state.next = engine_state_i[ENGINE_STORE];
    hwif_in.diag_store.tokens.next = diag_tokens_i[ENGINE_STORE];
    hwif_in.diag_store.on_event.next = diag_on_event_i[ENGINE_STORE];
    hwif_in.diag_store.event_id.next = diag_event_i[ENGINE_STORE];
    hwif_in.diag_store.command.next = oldest_i[ENGINE_STORE][16:0];
    hwif_in.diag_fetch.dispatched.next = dispatched_i[30:0];
    hwif_in.diag_fetch.blocked.next = fetch_blocked_i;
    hwif_in.cycles.value.next = cycles_i;
    hwif_in.load_run.value.next = state_cycles_i[ENGINE_LOAD][STATE_RUN];
    hwif_in.load_wait_token.value.next = state_cycles_i[ENGINE_LOAD][STATE_WAIT_TOKEN];
    hwif_in.load_wait_memory.value.next = state_cycles_i[ENGINE_LOAD][STATE_WAIT_MEMORY];
    hwif_in.load_idle.value.next = state_cycles_i[ENGINE_LOAD][STATE_IDLE];
    hwif_in.compute_run.value.next = state_cycles_i[ENGINE_COMPUTE][STATE_RUN];
    hwif_in.compute_wait_token.value.next = state_cycles_i[ENGINE_COMPUTE][STATE_WAIT_TOKEN];
    hwif_in.compute_wait_memory.value.next = state_cycles_i[ENGINE_COMPUTE][STATE_WAIT_MEMORY];
    hwif_in.compute_wait_drain.value.next = state_cycles_i[ENGINE_COMPUTE][STATE_WAIT_DRAIN];
    hwif_in.compute_idle.value.next = state_cycles_i[ENGINE_COMPUTE][STATE_IDLE];
    hwif_in.store_run.value.next = state_cycles_i[ENGINE_STORE][STATE_RUN];
    hwif_in.store_wait_token.value.next = state_cycles_i[ENGINE_STORE][STATE_WAIT_TOKEN];
    hwif_in.store_wait_memory.value.next = state_cycles_i[ENGINE_STORE][STATE_WAIT_MEMORY];
    hwif_in.store_idle.value.next = state_cycles_i[ENGINE_STORE][STATE_IDLE];
    hwif_in.read_beats.value.next = read_beats_i;
    hwif_in.write_beats.value.next = write_beats_i;
    hwif_in.array_first.value.next = array_first_i;
    hwif_in.array_last.value.next = array_last_i;
    hwif_in.macs_useful.low.value.next = macs_useful_i[31:0];
    hwif_in.macs_useful.high.value.next = macs_useful_i[63:32];
    hwif_in.macs_offered.low.value.next = macs_offered_i[31:0];
    hwif_in.macs_offered.high.value.next = macs_offered_i[63:32];
  end

  npu_regs i_regs (
    .clk   (clk_i),
    .arst_n(rst_ni),
    .s_axil_awready,
    .s_axil_awvalid,
    .s_axil_awaddr,
    .s_axil_awprot,
    .s_axil_wready,
    .s_axil_wvalid,
    .s_axil_wdata,
    .s_axil_wstrb,
    .s_axil_bready,
    .s_axil_bvalid,
    .s_axil_bresp,
    .s_axil_arready,
    .s_axil_arvalid,
    .s_axil_araddr,
    .s_axil_arprot,
    .s_axil_rready,
    .s_axil_rvalid,
    .s_axil_rdata,
    .s_axil_rresp,
    .hwif_in,
    .hwif_out
  );

  assign start_o        = hwif_out.ctrl.start.value;
  assign soft_reset_o   = hwif_out.ctrl.soft_reset.value;
  assign list_address_o = hwif_out.cmd_address.address.value;
  assign list_count_o   = hwif_out.cmd_count.count.value;
  assign irq_o          = (hwif_out.irq_status.done.value && hwif_out.irq_enable.done.value)
      || (hwif_out.irq_status.error.value && hwif_out.irq_enable.error.value);

  if (Config.act_kib < 1 || Config.act_kib > 4095 || Config.weight_kib < 1 || Config.weight_kib > 4095
      || Config.param_kib < 1 || Config.param_kib > 255) begin : gen_ScratchpadsFitTheRegisters
    $fatal(1, "npu_core_regs: act_kib and weight_kib must be 1 to 4095, param_kib 1 to 255");
  end
endmodule
