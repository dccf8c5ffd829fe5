// SPDX-License-Identifier: Apache-2.0
/// Store engine: activation scratchpad to memory, and time stamps.
///
///   command -> bursts (AW) -> burst lengths ------.
///           -> walk -> scratchpad read -> queue --+-> W beats ....memory.... -> B
///
/// One 16-byte word per cycle with 128-bit data. A command is complete when memory has answered its last burst; the next
/// starts then. After `stop_i` the bursts already requested are ended with empty write strobes.
module npu_store
  import npu_pkg::*;
  import npu_axi_pkg::*;
  import npu_core_pkg::*;
#(
  parameter int unsigned AxiDataBits = 128,   // 64 or 128
  parameter int unsigned ActWords    = 8192,  // 16-byte words of the activation scratchpad
  parameter int unsigned MaxBursts   = 8      // bursts in flight
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic                     clear_i,
  input  logic                     stop_i,
  input  logic [63:0]              cycle_i,      // since start, for time stamps
  // command
  input  logic                     start_valid_i,
  output logic                     start_ready_o,
  input  logic [CmdBits-1:0]       start_cmd_i,
  output logic                     start_illegal_o,
  output logic                     done_o,
  output state_e                   work_o,
  output logic                     quiet_o,
  output logic                     error_o,
  output error_e                   error_cause_o,
  // memory writes
  output axi_write_req_t           axi_req_o,
  input  axi_write_rsp_t           axi_rsp_i,
  // activation scratchpad, data one cycle after the request
  output logic                     read_valid_o,
  input  logic                     read_ready_i,
  output logic [LocalAddrBits-1:0] read_addr_o,  // 16-byte words
  input  logic [WordBits-1:0]      read_data_i
);
  localparam int unsigned BurstBits = $clog2(MaxBursts + 1);
  localparam int unsigned WordDepth = 8;  // words read ahead
  localparam int unsigned CountBits = $clog2(WordDepth + 1);

  cmd_transfer_t cmd;
  cmd_mark_t mark;
  logic is_mark, start_go, bursts_idle, bursts_valid, bursts_ready, aw_go, b_go;
  logic walk_active, walk_next, busy_q;
  logic [WalkBits-1:0] walk_addr;
  logic [BurstBits-1:0] in_flight_q;
  logic [CountBits-1:0] words_q;  // requested from the scratchpad or queued
  logic read_go, read_q, in_range;
  logic word_valid, word_ready, word_push;
  logic [WordBits-1:0] word, word_in;
  logic lengths_ready, lengths_valid, burst_end;
  logic aw_valid, w_valid, w_ready, w_last, w_go;
  logic [AxiAddrBits-1:0] aw_addr;
  logic [AxiLenBits-1:0] aw_len;
  logic [AxiDataBits-1:0] w_data;
  logic [AxiDataBits/8-1:0] w_strb;
  logic [AxiLenBits-1:0] length, beat_q;
  logic aw_offered_q;  // the burst on the port is among the lengths already
  logic mark_q;
  logic [WordBits-1:0] stamp_q;

  assign cmd = cmd_transfer_t'(start_cmd_i);
  assign mark = cmd_mark_t'(start_cmd_i);
  assign is_mark = cmd.opcode == OP_MARK;
  assign start_illegal_o = cmd.mem_address[3:0] != '0
      || (!is_mark && (cmd.line_stride[3:0] != '0 || cmd.plane_stride[3:0] != '0
          || cmd.line_words == '0 || cmd.lines == '0 || cmd.planes == '0 || cmd.target != TARGET_ACTIVATIONS));
  assign start_ready_o = !busy_q;
  assign start_go = start_valid_i && start_ready_o;

  npu_bursts #(
    .AxiDataBits(AxiDataBits)
  ) i_bursts (
    .clk_i,
    .rst_ni,
    .clear_i,
    .stop_i,
    .start_i       (start_go),
    .address_i     (cmd.mem_address),
    .line_words_i  (is_mark ? SizeBits'(1) : cmd.line_words),
    .lines_i       (is_mark ? SizeBits'(1) : cmd.lines),
    .line_stride_i (cmd.line_stride),
    .planes_i      (is_mark ? SizeBits'(1) : cmd.planes),
    .plane_stride_i(cmd.plane_stride),
    .idle_o        (bursts_idle),
    .valid_o       (bursts_valid),
    .ready_i       (bursts_ready),
    .addr_o        (aw_addr),
    .len_o         (aw_len)
  );

  // A burst is noted when it is first offered: its data may come before its address is taken (AXI4, A3.3.1). Room only
  // grows while a request is held: a request that is out is never withdrawn.
  assign aw_valid     = bursts_valid && in_flight_q != BurstBits'(MaxBursts) && (lengths_ready || aw_offered_q);
  assign bursts_ready = aw_valid && axi_rsp_i.aw_ready;
  assign aw_go        = bursts_ready;

  npu_fifo #(
    .Width(AxiLenBits),
    .Depth(MaxBursts)
  ) i_lengths (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i(aw_valid && !aw_offered_q),
    .ready_o(lengths_ready),
    .data_i (aw_len),
    .valid_o(lengths_valid),
    .ready_i(burst_end),
    .data_o (length)
  );

  npu_walk i_walk (
    .clk_i,
    .rst_ni,
    .clear_i,
    .start_i       (start_go && !is_mark),
    .address_i     (cmd.local_address),
    .line_words_i  (cmd.line_words),
    .lines_i       (cmd.lines),
    .planes_i      (cmd.planes),
    .step_i        (cmd.local_step),
    .plane_stride_i(cmd.local_plane_stride),
    .active_o      (walk_active),
    .addr_o        (walk_addr),
    .last_o        (),
    .next_i        (walk_next)
  );

  assign in_range     = 32'(walk_addr) < ActWords;
  assign read_valid_o = walk_active && in_range && !stop_i && words_q != CountBits'(WordDepth);
  assign read_addr_o  = walk_addr[LocalAddrBits-1:0];
  assign read_go      = read_valid_o && read_ready_i;
  assign walk_next    = read_go;
  assign word_push    = read_q || mark_q;
  assign word_in      = mark_q ? stamp_q : read_data_i;

  npu_fifo #(
    .Width(WordBits),
    .Depth(WordDepth)
  ) i_words (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i(word_push),
    .ready_o(),
    .data_i (word_in),
    .valid_o(word_valid),
    .ready_i(word_ready),
    .data_o (word)
  );

  // W beats. A beat on the bus stays as it is until it is taken, so a stop changes the strobes only between beats.
  logic empty_q;  // beats of the bursts still owed carry no data
  assign w_valid   = lengths_valid && (word_valid || empty_q);
  assign w_last    = beat_q == length;
  assign w_strb    = empty_q ? '0 : '1;
  assign w_ready   = axi_rsp_i.w_ready;
  assign w_go      = w_valid && w_ready;
  assign burst_end = w_go && w_last;

  if (AxiDataBits == WordBits) begin : gen_full
    assign w_data     = word;
    assign word_ready = w_go && !empty_q;
  end else begin : gen_half
    logic half_q;
    always_ff @(posedge clk_i or negedge rst_ni) begin
      if (!rst_ni) half_q <= 1'b0;
      else if (clear_i) half_q <= 1'b0;
      else if (w_go) half_q <= !half_q;
    end
    assign w_data     = half_q ? word[AxiDataBits+:AxiDataBits] : word[AxiDataBits-1:0];
    assign word_ready = w_go && half_q && !empty_q;
  end

  assign axi_req_o = '{
    aw: '{id: '0, addr: aw_addr, len: aw_len},
    aw_valid: aw_valid,
    w_valid: w_valid,
    b_ready: 1'b1,
    w: '{strb: AxiMaxStrbBits'(w_strb), last: w_last, data: AxiMaxDataBits'(w_data)}
  };
  assign b_go   = axi_rsp_i.b_valid;
  assign done_o = busy_q && bursts_idle && !aw_go && in_flight_q == BurstBits'(1) && b_go;

  always_comb begin
    error_o       = 1'b0;
    error_cause_o = ERROR_NONE;
    if (b_go && axi_rsp_i.b_resp[1]) begin
      error_o       = 1'b1;
      error_cause_o = axi_rsp_i.b_resp[0] ? ERROR_STORE_DECERR : ERROR_STORE_SLVERR;
    end else if (walk_active && !in_range && !stop_i) begin
      error_o       = 1'b1;
      error_cause_o = ERROR_SCRATCHPAD_RANGE;
    end
  end

  assign work_o  = w_go ? STATE_RUN : STATE_WAIT_MEMORY;
  assign quiet_o = bursts_idle && in_flight_q == '0 && !lengths_valid;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      busy_q      <= 1'b0;
      in_flight_q <= '0;
      words_q     <= '0;
      read_q      <= 1'b0;
      beat_q      <= '0;
      aw_offered_q <= 1'b0;
      mark_q      <= 1'b0;
      stamp_q     <= '0;
      empty_q     <= 1'b0;
    end else if (clear_i) begin
      busy_q      <= 1'b0;
      in_flight_q <= '0;
      words_q     <= '0;
      read_q      <= 1'b0;
      beat_q      <= '0;
      aw_offered_q <= 1'b0;
      mark_q      <= 1'b0;
      empty_q     <= 1'b0;
    end else begin
      if (start_go) busy_q <= 1'b1;
      else if (done_o) busy_q <= 1'b0;
      mark_q <= start_go && is_mark;
      if (start_go) stamp_q <= {32'd0, mark.id, cycle_i};
      in_flight_q <= in_flight_q + BurstBits'(aw_go) - BurstBits'(b_go);
      read_q      <= read_go;
      words_q     <= words_q + CountBits'(read_go || (start_go && is_mark)) - CountBits'(word_ready && word_valid);
      if (w_go) beat_q <= w_last ? '0 : beat_q + AxiLenBits'(1);
      aw_offered_q <= aw_valid && !axi_rsp_i.aw_ready;
      if (stop_i && !(w_valid && !w_ready)) empty_q <= 1'b1;
    end
  end

  AnswerBelongsToABurstInFlight : assert property (@(posedge clk_i) disable iff (!rst_ni)
      b_go |-> in_flight_q != '0)
  else $error("An answer belongs to a burst in flight.");

  BeatStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni || clear_i)
      w_valid && !w_ready |=> w_valid && $stable(w_data) && $stable(w_strb) && $stable(w_last))
  else $error("A beat stays as it is until it is taken.");
endmodule
