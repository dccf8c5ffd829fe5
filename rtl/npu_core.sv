// SPDX-License-Identifier: Apache-2.0
/// One NPU: fetch, load, compute and store around three scratchpads; AXI4 master, AXI4-Lite registers, interrupt.
///
///              +--------- registers (AXI4-Lite), interrupt
///              v
///   list --> fetch --> load ----> compute ---> store --> memory
///                        |  tokens   |  tokens   ^
///                        v           v           |
///                    weights,    activations ----+
///                    parameters
///
/// This module is the wiring; npu_core_control has the states, npu_core_errors the first error, npu_core_counters the counters.
module npu_core
  import npu_pkg::*;
  import npu_axi_pkg::*;
  import npu_core_pkg::*;
#(
  parameter core_cfg_t   Config     = '0,
  parameter int unsigned Events     = 16,   // event counters of the SoC
  parameter bit          Structural = 1'b0  // array, accumulators and requantiser in the form that is synthesised
) (
  input  logic                                   clk_i,
  input  logic                                   rst_ni,
  // registers
  input  logic [7:0]                             s_axil_awaddr,
  input  logic [2:0]                             s_axil_awprot,
  input  logic                                   s_axil_awvalid,
  output logic                                   s_axil_awready,
  input  logic [31:0]                            s_axil_wdata,
  input  logic [3:0]                             s_axil_wstrb,
  input  logic                                   s_axil_wvalid,
  output logic                                   s_axil_wready,
  output logic [1:0]                             s_axil_bresp,
  output logic                                   s_axil_bvalid,
  input  logic                                   s_axil_bready,
  input  logic [7:0]                             s_axil_araddr,
  input  logic [2:0]                             s_axil_arprot,
  input  logic                                   s_axil_arvalid,
  output logic                                   s_axil_arready,
  output logic [31:0]                            s_axil_rdata,
  output logic [1:0]                             s_axil_rresp,
  output logic                                   s_axil_rvalid,
  input  logic                                   s_axil_rready,
  // memory
  output axi_read_req_t                          axi_read_req_o,
  input  axi_read_rsp_t                          axi_read_rsp_i,
  output axi_write_req_t                         axi_write_req_o,
  input  axi_write_rsp_t                         axi_write_rsp_i,
  // events, by engine
  output logic [NumEngines-1:0]                  signal_valid_o,
  output logic [NumEngines-1:0][EventIdBits-1:0] signal_event_o,
  input  logic [NumEngines-1:0]                  signal_ready_i,
  output logic [NumEngines-1:0]                  wait_valid_o,
  output logic [NumEngines-1:0][EventIdBits-1:0] wait_event_o,
  output logic [NumEngines-1:0][EventIdBits-1:0] wait_amount_o,
  input  logic [NumEngines-1:0]                  wait_grant_i,
  // status
  output logic                                   busy_o,        // not ready
  output logic                                   soft_reset_o,  // pulse: everything has been forgotten
  output logic                                   irq_o
);
  localparam int unsigned AxiDataBits = Config.axi_bits;
  localparam int unsigned ActParts = Config.act_kib * 1024 / WordBytes;
  localparam int unsigned ActWords = Config.act_kib * 1024 / Config.rows;
  localparam int unsigned ActBits = $clog2(ActWords);
  localparam int unsigned Parts = Config.rows / ChannelBlock;
  localparam int unsigned PartBits = Parts > 1 ? $clog2(Parts) : 1;
  localparam int unsigned WeightWords = Config.weight_kib * 1024 * 8 / WeightWordBits;
  localparam int unsigned WeightBits = $clog2(WeightWords);
  localparam int unsigned ParamWords = Config.param_kib * 1024 / WordBytes;
  localparam int unsigned ParamBits = $clog2(ParamWords);

  core_state_e state;
  logic start, run, stop, clear, done, irq_done, irq_error, quiet, finished, error, host_start, host_soft_reset;
  logic [31:0] list_address, list_count;

  assign busy_o       = state != CORE_READY;
  assign soft_reset_o = clear;

  // ---------------------------------------------------------------- engines' fronts
  logic [NumEngines-1:0] cmd_valid, cmd_ready, engine_idle, illegal, engine_done, start_valid, start_ready, start_illegal;
  logic [NumEngines-1:0] post_valid, post_ready;
  logic [NumEngines-1:0][NumEngines-1:0] available, take, post_mask;
  logic [CmdBits-1:0] cmd;
  logic [NumEngines-1:0][CmdBits-1:0] start_cmd;
  logic [31:0] cmd_index;
  logic [NumEngines-1:0][31:0] oldest, error_oldest;
  state_e engine_state[NumEngines], work[NumEngines];
  logic [NumEngines-1:0][NumEngines-1:0] diag_tokens;
  logic [NumEngines-1:0] diag_on_event;
  logic [NumEngines-1:0][EventIdBits-1:0] diag_event;

  for (genvar e = 0; e < NumEngines; e++) begin : gen_ctrl
    npu_engine_ctrl #(
      .Engine(engine_e'(e)),
      .Events(Events)
    ) i_ctrl (
      .clk_i,
      .rst_ni,
      .clear_i          (clear),
      .stop_i           (stop),
      .cmd_valid_i      (cmd_valid[e]),
      .cmd_ready_o      (cmd_ready[e]),
      .cmd_i            (cmd),
      .cmd_index_i      (cmd_index),
      .token_available_i(available[e]),
      .token_take_o     (take[e]),
      .post_valid_o     (post_valid[e]),
      .post_mask_o      (post_mask[e]),
      .post_ready_i     (post_ready[e]),
      .signal_valid_o   (signal_valid_o[e]),
      .signal_event_o   (signal_event_o[e]),
      .signal_ready_i   (signal_ready_i[e]),
      .wait_valid_o     (wait_valid_o[e]),
      .wait_event_o     (wait_event_o[e]),
      .wait_amount_o    (wait_amount_o[e]),
      .wait_grant_i     (wait_grant_i[e]),
      .start_valid_o    (start_valid[e]),
      .start_ready_i    (start_ready[e]),
      .start_cmd_o      (start_cmd[e]),
      .start_illegal_i  (start_illegal[e]),
      .done_i           (engine_done[e]),
      .work_i           (work[e]),
      .idle_o           (engine_idle[e]),
      .illegal_o        (illegal[e]),
      .oldest_index_o   (oldest[e]),
      .error_index_o    (error_oldest[e]),
      .state_o          (engine_state[e]),
      .diag_tokens_o    (diag_tokens[e]),
      .diag_on_event_o  (diag_on_event[e]),
      .diag_event_o     (diag_event[e])
    );
  end

  npu_tokens i_tokens (
    .clk_i,
    .rst_ni,
    .clear_i     (clear || start),  // a list begins without tokens
    .post_valid_i(post_valid),
    .post_mask_i (post_mask),
    .post_ready_o(post_ready),
    .available_o (available),
    .take_i      (take)
  );

  // ---------------------------------------------------------------- fetch and load share the read channel
  logic fetch_idle, fetch_quiet, fetch_error, fetch_blocked, load_quiet, store_quiet;
  error_e fetch_cause;
  logic [31:0] fetch_index, dispatched;
  logic [NumEngines-1:0] work_error;
  error_e work_cause[NumEngines];
  axi_read_req_t read_req[2];
  axi_read_rsp_t read_rsp[2];

  npu_read_mux i_read_mux (
    .clk_i,
    .rst_ni,
    .requester_req_i(read_req),
    .requester_rsp_o(read_rsp),
    .port_req_o     (axi_read_req_o),
    .port_rsp_i     (axi_read_rsp_i)
  );

  npu_fetch #(
    .AxiDataBits(AxiDataBits)
  ) i_fetch (
    .clk_i,
    .rst_ni,
    .clear_i      (clear),
    .stop_i       (stop),
    .start_i      (start),
    .address_i    (list_address),
    .count_i      (list_count),
    .idle_o       (fetch_idle),
    .quiet_o      (fetch_quiet),
    .error_o      (fetch_error),
    .error_cause_o(fetch_cause),
    .error_index_o(fetch_index),
    .dispatched_o (dispatched),
    .blocked_o    (fetch_blocked),
    .axi_req_o    (read_req[0]),
    .axi_rsp_i    (read_rsp[0]),
    .cmd_valid_o  (cmd_valid),
    .cmd_ready_i  (cmd_ready),
    .cmd_o        (cmd),
    .cmd_index_o  (cmd_index)
  );

  logic [NumTargets-1:0] load_write, load_ready;
  logic load_last;
  logic [LocalAddrBits-1:0] load_addr;
  logic [WordBits-1:0] load_data;

  npu_load #(
    .AxiDataBits(AxiDataBits),
    .ActWords   (ActParts),
    .WeightWords(WeightWords * (WeightWordBits / WordBits)),
    .ParamWords (ParamWords)
  ) i_load (
    .clk_i,
    .rst_ni,
    .clear_i        (clear),
    .stop_i         (stop),
    .start_valid_i  (start_valid[ENGINE_LOAD]),
    .start_ready_o  (start_ready[ENGINE_LOAD]),
    .start_cmd_i    (start_cmd[ENGINE_LOAD]),
    .start_illegal_o(start_illegal[ENGINE_LOAD]),
    .done_o         (engine_done[ENGINE_LOAD]),
    .work_o         (work[ENGINE_LOAD]),
    .quiet_o        (load_quiet),
    .error_o        (work_error[ENGINE_LOAD]),
    .error_cause_o  (work_cause[ENGINE_LOAD]),
    .axi_req_o      (read_req[1]),
    .axi_rsp_i      (read_rsp[1]),
    .write_valid_o  (load_write),
    .write_ready_i  (load_ready),
    .write_last_o   (load_last),
    .write_addr_o   (load_addr),
    .write_data_o   (load_data)
  );

  // ---------------------------------------------------------------- store
  logic store_read, store_read_ready;
  logic [LocalAddrBits-1:0] store_addr;
  logic [WordBits-1:0] store_data;
  logic [63:0] cycles;

  npu_store #(
    .AxiDataBits(AxiDataBits),
    .ActWords   (ActParts)
  ) i_store (
    .clk_i,
    .rst_ni,
    .clear_i        (clear),
    .stop_i         (stop),
    .cycle_i        (cycles),
    .start_valid_i  (start_valid[ENGINE_STORE]),
    .start_ready_o  (start_ready[ENGINE_STORE]),
    .start_cmd_i    (start_cmd[ENGINE_STORE]),
    .start_illegal_o(start_illegal[ENGINE_STORE]),
    .done_o         (engine_done[ENGINE_STORE]),
    .work_o         (work[ENGINE_STORE]),
    .quiet_o        (store_quiet),
    .error_o        (work_error[ENGINE_STORE]),
    .error_cause_o  (work_cause[ENGINE_STORE]),
    .axi_req_o      (axi_write_req_o),
    .axi_rsp_i      (axi_write_rsp_i),
    .read_valid_o   (store_read),
    .read_ready_i   (store_read_ready),
    .read_addr_o    (store_addr),
    .read_data_i    (store_data)
  );

  // ---------------------------------------------------------------- compute
  logic op_valid, op_ready, res_we, weight_re, param_re, mac_cycle, mac_beat;
  logic [ActBits-1:0] op_addr, res_addr;
  logic [Config.rows*8-1:0] op_data;
  logic [PartBits-1:0] res_part;
  logic [WordBits-1:0] res_data, param_data;
  logic [WeightBits-1:0] weight_addr;
  logic [WeightWordBits-1:0] weight_data;
  logic [ParamBits-1:0] param_addr;
  logic [31:0] useful_macs;

  npu_compute #(
    .ABits      (Config.a_bits),
    .WBits      (Config.w_bits),
    .Rows       (Config.rows),
    .Cols       (Config.cols),
    .StripeDepth(Config.stripe_depth),
    .Lanes      (Config.lanes),
    .DwTaps     (Config.dw_taps),
    .ActWords   (ActWords),
    .WeightWords(WeightWords),
    .ParamWords (ParamWords),
    .Structural (Structural)
  ) i_compute (
    .clk_i,
    .rst_ni,
    .clear_i        (clear),
    .stop_i         (stop),
    .start_valid_i  (start_valid[ENGINE_COMPUTE]),
    .start_ready_o  (start_ready[ENGINE_COMPUTE]),
    .start_cmd_i    (start_cmd[ENGINE_COMPUTE]),
    .start_illegal_o(start_illegal[ENGINE_COMPUTE]),
    .done_o         (engine_done[ENGINE_COMPUTE]),
    .work_o         (work[ENGINE_COMPUTE]),
    .error_o        (work_error[ENGINE_COMPUTE]),
    .error_cause_o  (work_cause[ENGINE_COMPUTE]),
    .op_valid_o     (op_valid),
    .op_ready_i     (op_ready),
    .op_addr_o      (op_addr),
    .op_data_i      (op_data),
    .res_we_o       (res_we),
    .res_addr_o     (res_addr),
    .res_part_o     (res_part),
    .res_data_o     (res_data),
    .weight_re_o    (weight_re),
    .weight_addr_o  (weight_addr),
    .weight_data_i  (weight_data),
    .param_re_o     (param_re),
    .param_addr_o   (param_addr),
    .param_data_i   (param_data),
    .mac_cycle_o    (mac_cycle),
    .mac_beat_o     (mac_beat),
    .useful_macs_o  (useful_macs)
  );

  // ---------------------------------------------------------------- scratchpads
  npu_act_spm #(
    .Rows (Config.rows),
    .Words(ActWords)
  ) i_act_spm (
    .clk_i,
    .rst_ni,
    .op_valid_i   (op_valid),
    .op_ready_o   (op_ready),
    .op_addr_i    (op_addr),
    .op_data_o    (op_data),
    .res_we_i     (res_we),
    .res_addr_i   (res_addr),
    .res_part_i   (res_part),
    .res_data_i   (res_data),
    .load_valid_i (load_write[TARGET_ACTIVATIONS]),
    .load_ready_o (load_ready[TARGET_ACTIVATIONS]),
    .load_addr_i  (ActBits'(load_addr / LocalAddrBits'(Parts))),
    .load_part_i  (PartBits'(load_addr % LocalAddrBits'(Parts))),
    .load_data_i  (load_data),
    .store_valid_i(store_read),
    .store_ready_o(store_read_ready),
    .store_addr_i (ActBits'(store_addr / LocalAddrBits'(Parts))),
    .store_part_i (PartBits'(store_addr % LocalAddrBits'(Parts))),
    .store_data_o (store_data)
  );

  npu_paired_spm #(
    .WordBits(WeightWordBits),
    .Words   (WeightWords),
    .LaneBits(WordBits)
  ) i_weight_spm (
    .clk_i,
    .rst_ni,
    .re_i         (weight_re),
    .raddr_i      (weight_addr),
    .rdata_o      (weight_data),
    .write_valid_i(load_write[TARGET_WEIGHTS]),
    .write_ready_o(load_ready[TARGET_WEIGHTS]),
    .write_last_i (load_last),
    .we_i         ({load_addr[0], !load_addr[0]}),
    .waddr_i      (WeightBits'(load_addr >> 1)),
    .wdata_i      (load_data)
  );

  npu_paired_spm #(
    .WordBits(WordBits),
    .Words   (ParamWords),
    .LaneBits(WordBits)
  ) i_param_spm (
    .clk_i,
    .rst_ni,
    .re_i         (param_re),
    .raddr_i      (param_addr),
    .rdata_o      (param_data),
    .write_valid_i(load_write[TARGET_PARAMETERS]),
    .write_ready_o(load_ready[TARGET_PARAMETERS]),
    .write_last_i (load_last),
    .we_i         (1'b1),
    .waddr_i      (ParamBits'(load_addr)),
    .wdata_i      (load_data)
  );

  // ---------------------------------------------------------------- control, errors, counters, registers
  logic [NumEngines-1:0][NumStates-1:0][31:0] state_cycles;
  logic [31:0] read_beats, write_beats, array_first, array_last;
  logic [63:0] macs_useful, macs_offered;
  error_e error_cause;
  engine_e error_engine;
  logic [31:0] error_index;

  assign quiet    = fetch_quiet && load_quiet && store_quiet;
  assign finished = fetch_idle && engine_idle == '1;

  npu_core_control i_control (
    .clk_i,
    .rst_ni,
    .start_i     (host_start),
    .soft_reset_i(host_soft_reset),
    .quiet_i     (quiet),
    .finished_i  (finished),
    .error_i     (error),
    .start_o     (start),
    .run_o       (run),
    .stop_o      (stop),
    .clear_o     (clear),
    .state_o     (state),
    .done_o      (done),
    .irq_done_o  (irq_done),
    .irq_error_o (irq_error)
  );

  npu_core_errors i_errors (
    .clk_i,
    .rst_ni,
    .run_i          (run),
    .clear_i        (start || clear),
    .work_i         (work_error),
    .work_cause_i   (work_cause),
    .work_index_i   (error_oldest),
    .illegal_i      (illegal),
    .illegal_index_i(oldest),
    .fetch_i        (fetch_error),
    .fetch_cause_i  (fetch_cause),
    .fetch_index_i  (fetch_index),
    .error_o        (error),
    .first_cause_o  (error_cause),
    .first_engine_o (error_engine),
    .first_index_o  (error_index)
  );

  npu_core_counters #(
    .Multipliers(Config.rows * Config.cols)
  ) i_counters (
    .clk_i,
    .rst_ni,
    .start_i       (start),
    .run_i         (run),
    .engine_state_i(engine_state),
    .read_beat_i   (axi_read_rsp_i.r_valid && axi_read_req_o.r_ready),
    .write_beat_i  (axi_write_req_o.w_valid && axi_write_rsp_i.w_ready),
    .mac_cycle_i   (mac_cycle),
    .mac_beat_i    (mac_beat),
    .useful_macs_i (useful_macs),
    .cycles_o      (cycles),
    .state_cycles_o(state_cycles),
    .read_beats_o  (read_beats),
    .write_beats_o (write_beats),
    .array_first_o (array_first),
    .array_last_o  (array_last),
    .macs_useful_o (macs_useful),
    .macs_offered_o(macs_offered)
  );

  npu_core_regs #(
    .Config(Config)
  ) i_regs (
    .clk_i,
    .rst_ni,
    .s_axil_awaddr,
    .s_axil_awprot,
    .s_axil_awvalid,
    .s_axil_awready,
    .s_axil_wdata,
    .s_axil_wstrb,
    .s_axil_wvalid,
    .s_axil_wready,
    .s_axil_bresp,
    .s_axil_bvalid,
    .s_axil_bready,
    .s_axil_araddr,
    .s_axil_arprot,
    .s_axil_arvalid,
    .s_axil_arready,
    .s_axil_rdata,
    .s_axil_rresp,
    .s_axil_rvalid,
    .s_axil_rready,
    .start_o        (host_start),
    .soft_reset_o   (host_soft_reset),
    .list_address_o (list_address),
    .list_count_o   (list_count),
    .irq_o,
    .state_i        (state),
    .done_i         (done),
    .irq_done_i     (irq_done),
    .irq_error_i    (irq_error),
    .error_cause_i  (error_cause),
    .error_engine_i (error_engine),
    .error_index_i  (error_index),
    .engine_state_i (engine_state),
    .diag_tokens_i  (diag_tokens),
    .diag_on_event_i(diag_on_event),
    .diag_event_i   (diag_event),
    .oldest_i       (oldest),
    .dispatched_i   (dispatched),
    .fetch_blocked_i(fetch_blocked),
    .cycles_i       (cycles[31:0]),
    .state_cycles_i (state_cycles),
    .read_beats_i   (read_beats),
    .write_beats_i  (write_beats),
    .array_first_i  (array_first),
    .array_last_i   (array_last),
    .macs_useful_i  (macs_useful),
    .macs_offered_i (macs_offered)
  );

  if (Config.rows == 0 || Config.cols == 0 || (Parts & (Parts - 1)) != 0
      || (Config.axi_bits != AxiMaxDataBits / 2 && Config.axi_bits != AxiMaxDataBits)) begin : gen_ArrayIsSupported
    $fatal(1, "npu_core: Config must give rows (16 times a power of two), cols, and axi_bits 64 or 128");
  end
endmodule
