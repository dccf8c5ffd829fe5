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
/// States: ready -> run -> ready (done), or -> stop -> error on the first error, until a soft reset. A soft reset is taken in every
/// state: the engines stop, bus traffic in flight ends (reads are dropped, owed writes carry no strobes), then everything but
/// the configuration registers, the interrupt status and the counters is forgotten.
module npu_core
  import npu_pkg::*;
#(
  parameter  core_cfg_t   Config      = '0,
  parameter  int unsigned Events      = 16,
  localparam int unsigned AxiDataBits = Config.axi_bits
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  // registers
  input  logic [              7:0] s_axil_awaddr,
  input  logic [              2:0] s_axil_awprot,
  input  logic                     s_axil_awvalid,
  output logic                     s_axil_awready,
  input  logic [             31:0] s_axil_wdata,
  input  logic [              3:0] s_axil_wstrb,
  input  logic                     s_axil_wvalid,
  output logic                     s_axil_wready,
  output logic [              1:0] s_axil_bresp,
  output logic                     s_axil_bvalid,
  input  logic                     s_axil_bready,
  input  logic [              7:0] s_axil_araddr,
  input  logic [              2:0] s_axil_arprot,
  input  logic                     s_axil_arvalid,
  output logic                     s_axil_arready,
  output logic [             31:0] s_axil_rdata,
  output logic [              1:0] s_axil_rresp,
  output logic                     s_axil_rvalid,
  input  logic                     s_axil_rready,
  // memory: full-width INCR bursts
  output logic [              1:0] m_axi_awid,
  output logic [             31:0] m_axi_awaddr,
  output logic [              7:0] m_axi_awlen,
  output logic                     m_axi_awvalid,
  input  logic                     m_axi_awready,
  output logic [  AxiDataBits-1:0] m_axi_wdata,
  output logic [AxiDataBits/8-1:0] m_axi_wstrb,
  output logic                     m_axi_wlast,
  output logic                     m_axi_wvalid,
  input  logic                     m_axi_wready,
  input  logic [              1:0] m_axi_bresp,
  input  logic                     m_axi_bvalid,
  output logic                     m_axi_bready,
  output logic [              1:0] m_axi_arid,
  output logic [             31:0] m_axi_araddr,
  output logic [              7:0] m_axi_arlen,
  output logic                     m_axi_arvalid,
  input  logic                     m_axi_arready,
  input  logic [              1:0] m_axi_rid,
  input  logic [  AxiDataBits-1:0] m_axi_rdata,
  input  logic [              1:0] m_axi_rresp,
  input  logic                     m_axi_rlast,
  input  logic                     m_axi_rvalid,
  output logic                     m_axi_rready,
  // events, by engine
  output logic [              2:0] signal_valid_o,
  output logic [         2:0][7:0] signal_event_o,
  input  logic [              2:0] signal_ready_i,
  output logic [              2:0] wait_valid_o,
  output logic [         2:0][7:0] wait_event_o,
  output logic [         2:0][7:0] wait_amount_o,
  input  logic [              2:0] wait_grant_i,
  // status
  output logic                     busy_o,        // not ready
  output logic                     soft_reset_o,  // pulse: everything has been forgotten
  output logic                     irq_o
);
  localparam int unsigned ActParts = Config.act_kib * 64;  // 16-byte words
  localparam int unsigned ActWords = Config.act_kib * 1024 / Config.rows;
  localparam int unsigned ActBits = $clog2(ActWords);
  localparam int unsigned Parts = Config.rows / 16;
  localparam int unsigned PartBits = Parts > 1 ? $clog2(Parts) : 1;
  localparam int unsigned PartShift = $clog2(Parts);
  localparam int unsigned WeightWords = Config.weight_kib * 32;
  localparam int unsigned WeightBits = $clog2(WeightWords);
  localparam int unsigned ParamWords = Config.param_kib * 64;
  localparam int unsigned ParamBits = $clog2(ParamWords);

  typedef enum logic [2:0] {
    READY,
    RUN,
    STOP_ERROR,  // on the way to ERROR
    ERROR,
    STOP_RESET   // on the way to READY
  } core_state_e;

  core_state_e state_q;
  logic stop, clear, start, soft_reset, quiet, finished, error;
  npu_regs_pkg::npu_regs__in_t hwif_in;
  npu_regs_pkg::npu_regs__out_t hwif_out;

  // ---------------------------------------------------------------- engines' fronts
  logic [2:0] cmd_valid, cmd_ready, engine_idle, illegal, engine_done, start_valid, start_ready, start_illegal;
  logic [2:0] post_valid, post_ready;
  logic [2:0][2:0] available, take, post_mask;
  logic [CmdBits-1:0] cmd;
  logic [2:0][CmdBits-1:0] start_cmd;
  logic [31:0] cmd_index;
  logic [2:0][31:0] oldest, error_oldest;
  state_e engine_state[3], work[3];
  logic [2:0][2:0] diag_tokens;
  logic [2:0] diag_on_event;
  logic [2:0][7:0] diag_event;

  for (genvar e = 0; e < 3; e++) begin : gen_ctrl
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
  logic fetch_idle, fetch_quiet, fetch_error, load_quiet, load_error, store_quiet, store_error, compute_error;
  logic fetch_blocked;
  error_e fetch_cause, load_cause, store_cause, compute_cause;
  logic [31:0] fetch_index, dispatched;
  logic [1:0] ar_valid, ar_ready, r_valid, r_ready, r_resp;
  logic [1:0][31:0] ar_addr;
  logic [1:0][7:0] ar_len;
  logic [AxiDataBits-1:0] r_data;
  logic r_last;

  npu_read_mux #(
    .AxiDataBits(AxiDataBits)
  ) i_read_mux (
    .clk_i,
    .rst_ni,
    .ar_valid_i  (ar_valid),
    .ar_ready_o  (ar_ready),
    .ar_addr_i   (ar_addr),
    .ar_len_i    (ar_len),
    .r_valid_o   (r_valid),
    .r_ready_i   (r_ready),
    .r_data_o    (r_data),
    .r_resp_o    (r_resp),
    .r_last_o    (r_last),
    .m_ar_valid_o(m_axi_arvalid),
    .m_ar_ready_i(m_axi_arready),
    .m_ar_id_o   (m_axi_arid),
    .m_ar_addr_o (m_axi_araddr),
    .m_ar_len_o  (m_axi_arlen),
    .m_r_valid_i (m_axi_rvalid),
    .m_r_ready_o (m_axi_rready),
    .m_r_id_i    (m_axi_rid),
    .m_r_data_i  (m_axi_rdata),
    .m_r_resp_i  (m_axi_rresp),
    .m_r_last_i  (m_axi_rlast)
  );

  npu_fetch #(
    .AxiDataBits(AxiDataBits)
  ) i_fetch (
    .clk_i,
    .rst_ni,
    .clear_i      (clear),
    .stop_i       (stop),
    .start_i      (start),
    .address_i    (hwif_out.cmd_address.address.value),
    .count_i      (hwif_out.cmd_count.count.value),
    .idle_o       (fetch_idle),
    .quiet_o      (fetch_quiet),
    .error_o      (fetch_error),
    .error_cause_o(fetch_cause),
    .error_index_o(fetch_index),
    .dispatched_o (dispatched),
    .blocked_o    (fetch_blocked),
    .ar_valid_o   (ar_valid[0]),
    .ar_ready_i   (ar_ready[0]),
    .ar_addr_o    (ar_addr[0]),
    .ar_len_o     (ar_len[0]),
    .r_valid_i    (r_valid[0]),
    .r_ready_o    (r_ready[0]),
    .r_data_i     (r_data),
    .r_resp_i     (r_resp),
    .r_last_i     (r_last),
    .cmd_valid_o  (cmd_valid),
    .cmd_ready_i  (cmd_ready),
    .cmd_o        (cmd),
    .cmd_index_o  (cmd_index)
  );

  logic [2:0] load_write;
  logic load_act_ready;
  logic [19:0] load_addr;
  logic [127:0] load_data;

  npu_load #(
    .AxiDataBits(AxiDataBits),
    .ActWords   (ActParts),
    .WeightWords(WeightWords * 2),
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
    .error_o        (load_error),
    .error_cause_o  (load_cause),
    .ar_valid_o     (ar_valid[1]),
    .ar_ready_i     (ar_ready[1]),
    .ar_addr_o      (ar_addr[1]),
    .ar_len_o       (ar_len[1]),
    .r_valid_i      (r_valid[1]),
    .r_ready_o      (r_ready[1]),
    .r_data_i       (r_data),
    .r_resp_i       (r_resp),
    .r_last_i       (r_last),
    .write_valid_o  (load_write),
    .act_ready_i    (load_act_ready),
    .write_addr_o   (load_addr),
    .write_data_o   (load_data)
  );

  // ---------------------------------------------------------------- store
  logic store_read, store_read_ready;
  logic [19:0] store_addr;
  logic [127:0] store_data;
  logic [63:0] cycles_q;

  assign m_axi_awid = 2'd0;

  npu_store #(
    .AxiDataBits(AxiDataBits),
    .ActWords   (ActParts)
  ) i_store (
    .clk_i,
    .rst_ni,
    .clear_i        (clear),
    .stop_i         (stop),
    .cycle_i        (cycles_q),
    .start_valid_i  (start_valid[ENGINE_STORE]),
    .start_ready_o  (start_ready[ENGINE_STORE]),
    .start_cmd_i    (start_cmd[ENGINE_STORE]),
    .start_illegal_o(start_illegal[ENGINE_STORE]),
    .done_o         (engine_done[ENGINE_STORE]),
    .work_o         (work[ENGINE_STORE]),
    .quiet_o        (store_quiet),
    .error_o        (store_error),
    .error_cause_o  (store_cause),
    .aw_valid_o     (m_axi_awvalid),
    .aw_ready_i     (m_axi_awready),
    .aw_addr_o      (m_axi_awaddr),
    .aw_len_o       (m_axi_awlen),
    .w_valid_o      (m_axi_wvalid),
    .w_ready_i      (m_axi_wready),
    .w_data_o       (m_axi_wdata),
    .w_strb_o       (m_axi_wstrb),
    .w_last_o       (m_axi_wlast),
    .b_valid_i      (m_axi_bvalid),
    .b_ready_o      (m_axi_bready),
    .b_resp_i       (m_axi_bresp),
    .read_valid_o   (store_read),
    .read_ready_i   (store_read_ready),
    .read_addr_o    (store_addr),
    .read_data_i    (store_data)
  );

  // ---------------------------------------------------------------- compute
  logic op_re, res_we, weight_re, param_re, mac_cycle, mac_beat;
  logic [ActBits-1:0] op_addr, res_addr;
  logic [Config.rows*8-1:0] op_data;
  logic [PartBits-1:0] res_part;
  logic [127:0] res_data, param_data;
  logic [WeightBits-1:0] weight_addr;
  logic [255:0] weight_data;
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
    .ParamWords (ParamWords)
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
    .error_o        (compute_error),
    .error_cause_o  (compute_cause),
    .op_re_o        (op_re),
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
    .op_re_i      (op_re),
    .op_addr_i    (op_addr),
    .op_data_o    (op_data),
    .res_we_i     (res_we),
    .res_addr_i   (res_addr),
    .res_part_i   (res_part),
    .res_data_i   (res_data),
    .load_valid_i (load_write[TARGET_ACTIVATIONS]),
    .load_ready_o (load_act_ready),
    .load_addr_i  (ActBits'(load_addr >> PartShift)),
    .load_part_i  (PartBits'(load_addr & 20'(Parts - 1))),
    .load_data_i  (load_data),
    .store_valid_i(store_read),
    .store_ready_o(store_read_ready),
    .store_addr_i (ActBits'(store_addr >> PartShift)),
    .store_part_i (PartBits'(store_addr & 20'(Parts - 1))),
    .store_data_o (store_data)
  );

  npu_sram #(
    .WordBits(256),
    .Depth   (WeightWords),
    .LaneBits(128)
  ) i_weight_spm (
    .clk_i,
    .re_i   (weight_re),
    .raddr_i(weight_addr),
    .rdata_o(weight_data),
    .we_i   ({load_write[TARGET_WEIGHTS] && load_addr[0], load_write[TARGET_WEIGHTS] && !load_addr[0]}),
    .waddr_i(WeightBits'(load_addr >> 1)),
    .wdata_i({2{load_data}})
  );

  npu_sram #(
    .WordBits(128),
    .Depth   (ParamWords),
    .LaneBits(128)
  ) i_param_spm (
    .clk_i,
    .re_i   (param_re),
    .raddr_i(param_addr),
    .rdata_o(param_data),
    .we_i   (load_write[TARGET_PARAMETERS]),
    .waddr_i(ParamBits'(load_addr)),
    .wdata_i(load_data)
  );

  // ---------------------------------------------------------------- errors: the first one counts
  logic [31:0] error_index, error_index_q;
  error_e error_cause, error_cause_q;
  engine_e error_engine, error_engine_q;
  always_comb begin
    error        = 1'b1;
    error_cause  = ERROR_ILLEGAL_COMMAND;
    error_engine = ENGINE_FETCH;
    error_index  = fetch_index;
    if (compute_error) begin
      error_cause  = compute_cause;
      error_engine = ENGINE_COMPUTE;
      error_index  = error_oldest[ENGINE_COMPUTE];
    end else if (load_error) begin
      error_cause  = load_cause;
      error_engine = ENGINE_LOAD;
      error_index  = error_oldest[ENGINE_LOAD];
    end else if (store_error) begin
      error_cause  = store_cause;
      error_engine = ENGINE_STORE;
      error_index  = error_oldest[ENGINE_STORE];
    end else if (illegal[ENGINE_COMPUTE]) begin
      error_engine = ENGINE_COMPUTE;
      error_index  = oldest[ENGINE_COMPUTE];
    end else if (illegal[ENGINE_LOAD]) begin
      error_engine = ENGINE_LOAD;
      error_index  = oldest[ENGINE_LOAD];
    end else if (illegal[ENGINE_STORE]) begin
      error_engine = ENGINE_STORE;
      error_index  = oldest[ENGINE_STORE];
    end else if (fetch_error) begin
      error_cause = fetch_cause;
    end else begin
      error = 1'b0;
    end
  end

  // ---------------------------------------------------------------- control
  assign soft_reset   = hwif_out.ctrl.soft_reset.value;
  assign start        = hwif_out.ctrl.start.value && state_q == READY && !soft_reset;
  assign stop         = state_q != RUN && state_q != READY;
  assign quiet        = fetch_quiet && load_quiet && store_quiet;
  assign clear        = state_q == STOP_RESET && quiet;
  assign finished     = fetch_idle && engine_idle == '1;
  assign busy_o       = state_q != READY;
  assign soft_reset_o = clear;

  logic done_q;
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      state_q        <= READY;
      done_q         <= 1'b0;
      error_index_q  <= '0;
      error_cause_q  <= ERROR_NONE;
      error_engine_q <= ENGINE_LOAD;
    end else begin
      unique case (state_q)
        READY: if (start) state_q <= RUN;
        RUN: begin
          if (error) state_q <= STOP_ERROR;
          else if (finished) state_q <= READY;
        end
        STOP_ERROR: if (quiet) state_q <= ERROR;
        STOP_RESET: if (quiet) state_q <= READY;
        default: ;
      endcase
      if (soft_reset) state_q <= STOP_RESET;
      if (start || soft_reset) done_q <= 1'b0;
      else if (state_q == RUN && !error && finished) done_q <= 1'b1;
      if (start || clear) begin
        error_cause_q  <= ERROR_NONE;
        error_engine_q <= ENGINE_LOAD;
        error_index_q  <= '0;
      end else if (state_q == RUN && error) begin
        error_cause_q  <= error_cause;
        error_engine_q <= error_engine;
        error_index_q  <= error_index;
      end
    end
  end

  // ---------------------------------------------------------------- counters: they run with the command list
  logic [2:0][4:0][31:0] state_count_q;  // [engine][state]
  logic [31:0] read_beats_q, write_beats_q, array_first_q, array_last_q;
  logic [63:0] useful_q, offered_q;
  logic array_seen_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      cycles_q      <= '0;
      state_count_q <= '0;
      read_beats_q  <= '0;
      write_beats_q <= '0;
      array_first_q <= '0;
      array_last_q  <= '0;
      array_seen_q  <= 1'b0;
      useful_q      <= '0;
      offered_q     <= '0;
    end else if (start) begin
      cycles_q      <= '0;
      state_count_q <= '0;
      read_beats_q  <= '0;
      write_beats_q <= '0;
      array_first_q <= '0;
      array_last_q  <= '0;
      array_seen_q  <= 1'b0;
      useful_q      <= '0;
      offered_q     <= '0;
    end else if (state_q == RUN) begin
      cycles_q <= cycles_q + 64'd1;
      for (int e = 0; e < 3; e++) state_count_q[e][engine_state[e]] <= state_count_q[e][engine_state[e]] + 32'd1;
      read_beats_q  <= read_beats_q + 32'(m_axi_rvalid && m_axi_rready);
      write_beats_q <= write_beats_q + 32'(m_axi_wvalid && m_axi_wready);
      useful_q      <= useful_q + 64'(useful_macs);
      if (mac_cycle) offered_q <= offered_q + 64'(Config.rows * Config.cols);
      if (mac_beat) begin
        array_seen_q <= 1'b1;
        array_last_q <= cycles_q[31:0];
        if (!array_seen_q) array_first_q <= cycles_q[31:0];
      end
    end
  end

  // ---------------------------------------------------------------- registers
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
    hwif_in.status.busy.next = state_q == RUN;
    hwif_in.status.done.next = done_q;
    hwif_in.status.error.next = state_q == ERROR;
    hwif_in.status.stopping.next = state_q == STOP_ERROR || state_q == STOP_RESET;
    hwif_in.irq_status.done.hwset = state_q == RUN && !error && finished && !soft_reset;
    hwif_in.irq_status.error.hwset = state_q == STOP_ERROR && quiet && !soft_reset;
    hwif_in.error_cause.cause.next = error_cause_q;
    hwif_in.error_cause.engine.next = error_engine_q;
    hwif_in.error_command.index.next = error_index_q;
    hwif_in.diag_load.state.next = engine_state[ENGINE_LOAD];
    hwif_in.diag_load.tokens.next = diag_tokens[ENGINE_LOAD];
    hwif_in.diag_load.on_event.next = diag_on_event[ENGINE_LOAD];
    hwif_in.diag_load.event_id.next = diag_event[ENGINE_LOAD];
    hwif_in.diag_load.command.next = oldest[ENGINE_LOAD][16:0];
    hwif_in.diag_compute.state.next = engine_state[ENGINE_COMPUTE];
    hwif_in.diag_compute.tokens.next = diag_tokens[ENGINE_COMPUTE];
    hwif_in.diag_compute.on_event.next = diag_on_event[ENGINE_COMPUTE];
    hwif_in.diag_compute.event_id.next = diag_event[ENGINE_COMPUTE];
    hwif_in.diag_compute.command.next = oldest[ENGINE_COMPUTE][16:0];
    hwif_in.diag_store.state.next = engine_state[ENGINE_STORE];
    hwif_in.diag_store.tokens.next = diag_tokens[ENGINE_STORE];
    hwif_in.diag_store.on_event.next = diag_on_event[ENGINE_STORE];
    hwif_in.diag_store.event_id.next = diag_event[ENGINE_STORE];
    hwif_in.diag_store.command.next = oldest[ENGINE_STORE][16:0];
    hwif_in.diag_fetch.dispatched.next = dispatched[30:0];
    hwif_in.diag_fetch.blocked.next = fetch_blocked;
    hwif_in.cycles.value.next = cycles_q[31:0];
    hwif_in.load_run.value.next = state_count_q[ENGINE_LOAD][STATE_RUN];
    hwif_in.load_wait_token.value.next = state_count_q[ENGINE_LOAD][STATE_WAIT_TOKEN];
    hwif_in.load_wait_memory.value.next = state_count_q[ENGINE_LOAD][STATE_WAIT_MEMORY];
    hwif_in.load_idle.value.next = state_count_q[ENGINE_LOAD][STATE_IDLE];
    hwif_in.compute_run.value.next = state_count_q[ENGINE_COMPUTE][STATE_RUN];
    hwif_in.compute_wait_token.value.next = state_count_q[ENGINE_COMPUTE][STATE_WAIT_TOKEN];
    hwif_in.compute_wait_memory.value.next = state_count_q[ENGINE_COMPUTE][STATE_WAIT_MEMORY];
    hwif_in.compute_wait_drain.value.next = state_count_q[ENGINE_COMPUTE][STATE_WAIT_DRAIN];
    hwif_in.compute_idle.value.next = state_count_q[ENGINE_COMPUTE][STATE_IDLE];
    hwif_in.store_run.value.next = state_count_q[ENGINE_STORE][STATE_RUN];
    hwif_in.store_wait_token.value.next = state_count_q[ENGINE_STORE][STATE_WAIT_TOKEN];
    hwif_in.store_wait_memory.value.next = state_count_q[ENGINE_STORE][STATE_WAIT_MEMORY];
    hwif_in.store_idle.value.next = state_count_q[ENGINE_STORE][STATE_IDLE];
    hwif_in.read_beats.value.next = read_beats_q;
    hwif_in.write_beats.value.next = write_beats_q;
    hwif_in.array_first.value.next = array_first_q;
    hwif_in.array_last.value.next = array_last_q;
    hwif_in.macs_useful.low.value.next = useful_q[31:0];
    hwif_in.macs_useful.high.value.next = useful_q[63:32];
    hwif_in.macs_offered.low.value.next = offered_q[31:0];
    hwif_in.macs_offered.high.value.next = offered_q[63:32];
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

  assign irq_o = (hwif_out.irq_status.done.value && hwif_out.irq_enable.done.value)
      || (hwif_out.irq_status.error.value && hwif_out.irq_enable.error.value);

  if (Config.rows == 0 || Config.cols == 0 || (Parts & (Parts - 1)) != 0
      || (Config.axi_bits != 64 && Config.axi_bits != 128)) begin : gen_check_array
    $fatal(1, "npu_core: Config must give rows (16 times a power of two), cols, and axi_bits 64 or 128");
  end
  if (Config.act_kib < 1 || Config.act_kib > 4095 || Config.weight_kib < 1 || Config.weight_kib > 4095
      || Config.param_kib < 1 || Config.param_kib > 255) begin : gen_check_memory
    $fatal(1, "npu_core: act_kib and weight_kib must be 1 to 4095, param_kib 1 to 255");
  end

  // Exactly one state for each engine and cycle: the counters of an engine sum to the cycles.
  for (genvar e = 0; e < 3; e++) begin : gen_assert
    assert property (@(posedge clk_i) disable iff (!rst_ni)
        engine_state[e] inside {STATE_IDLE, STATE_RUN, STATE_WAIT_TOKEN, STATE_WAIT_MEMORY, STATE_WAIT_DRAIN});
  end
endmodule
