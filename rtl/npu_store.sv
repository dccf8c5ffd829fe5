/// Store engine: activation scratchpad to memory, and time stamps.
///
///   command -> bursts (AW) -> burst lengths ------.
///           -> walk -> scratchpad read -> queue --+-> W beats ....memory.... -> B
///
/// One 16-byte word per cycle with 128-bit data. A command is complete when memory has answered its last burst; the next
/// starts then. After `stop_i` the bursts already requested are ended with empty write strobes.
module npu_store
  import npu_pkg::*;
#(
  parameter int unsigned AxiDataBits = 128,   // 64 or 128
  parameter int unsigned ActWords    = 8192,  // 16-byte words of the activation scratchpad
  parameter int unsigned MaxBursts   = 8      // bursts in flight
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic                     clear_i,
  input  logic                     stop_i,
  input  logic [             63:0] cycle_i,       // since start, for time stamps
  // command
  input  logic                     start_valid_i,
  output logic                     start_ready_o,
  input  logic [      CmdBits-1:0] start_cmd_i,
  output logic                     start_illegal_o,
  output logic                     done_o,
  output state_e                   work_o,
  output logic                     quiet_o,
  output logic                     error_o,
  output error_e                   error_cause_o,
  // memory writes
  output logic                     aw_valid_o,
  input  logic                     aw_ready_i,
  output logic [             31:0] aw_addr_o,
  output logic [              7:0] aw_len_o,
  output logic                     w_valid_o,
  input  logic                     w_ready_i,
  output logic [  AxiDataBits-1:0] w_data_o,
  output logic [AxiDataBits/8-1:0] w_strb_o,
  output logic                     w_last_o,
  input  logic                     b_valid_i,
  output logic                     b_ready_o,
  input  logic [              1:0] b_resp_i,
  // activation scratchpad, data one cycle after the request
  output logic                     read_valid_o,
  input  logic                     read_ready_i,
  output logic [             19:0] read_addr_o,   // 16-byte words
  input  logic [            127:0] read_data_i
);
  localparam int unsigned BurstBits = $clog2(MaxBursts + 1);
  localparam int unsigned WordDepth = 8;  // words read ahead
  localparam int unsigned WordBits = $clog2(WordDepth + 1);

  cmd_transfer_t cmd;
  cmd_mark_t mark;
  logic is_mark, start_go, bursts_idle, bursts_valid, bursts_ready, aw_go, b_go;
  logic walk_active, walk_next, busy_q;
  logic [24:0] walk_addr;
  logic [BurstBits-1:0] in_flight_q;
  logic [WordBits-1:0] words_q;  // requested from the scratchpad or queued
  logic read_go, read_q, in_range;
  logic word_valid, word_ready, word_push;
  logic [127:0] word, word_in;
  logic lengths_ready, lengths_valid, burst_end, w_go;
  logic [7:0] length, beat_q;
  logic aw_offered_q;  // the burst on the port is among the lengths already
  logic mark_q;
  logic [127:0] stamp_q;

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
    .line_words_i  (is_mark ? 16'd1 : cmd.line_words),
    .lines_i       (is_mark ? 16'd1 : cmd.lines),
    .line_stride_i (cmd.line_stride),
    .planes_i      (is_mark ? 16'd1 : cmd.planes),
    .plane_stride_i(cmd.plane_stride),
    .idle_o        (bursts_idle),
    .valid_o       (bursts_valid),
    .ready_i       (bursts_ready),
    .addr_o        (aw_addr_o),
    .len_o         (aw_len_o)
  );

  // A burst is noted when it is first offered: its data may come before its address is taken (AXI4, A3.3.1). Room only
  // grows while a request is held: a request that is out is never withdrawn.
  assign aw_valid_o   = bursts_valid && in_flight_q != BurstBits'(MaxBursts) && (lengths_ready || aw_offered_q);
  assign bursts_ready = aw_valid_o && aw_ready_i;
  assign aw_go        = bursts_ready;

  npu_fifo #(
    .Width(8),
    .Depth(MaxBursts)
  ) i_lengths (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i(aw_valid_o && !aw_offered_q),
    .ready_o(lengths_ready),
    .data_i (aw_len_o),
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
  assign read_valid_o = walk_active && in_range && !stop_i && words_q != WordBits'(WordDepth);
  assign read_addr_o  = walk_addr[19:0];
  assign read_go      = read_valid_o && read_ready_i;
  assign walk_next    = read_go;
  assign word_push    = read_q || mark_q;
  assign word_in      = mark_q ? stamp_q : read_data_i;

  npu_fifo #(
    .Width(128),
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
  assign w_valid_o = lengths_valid && (word_valid || empty_q);
  assign w_last_o  = beat_q == length;
  assign w_strb_o  = empty_q ? '0 : '1;
  assign w_go      = w_valid_o && w_ready_i;
  assign burst_end = w_go && w_last_o;

  if (AxiDataBits == 128) begin : gen_full
    assign w_data_o   = word;
    assign word_ready = w_go && !empty_q;
  end else begin : gen_half
    logic half_q;
    always_ff @(posedge clk_i or negedge rst_ni) begin
      if (!rst_ni) half_q <= 1'b0;
      else if (clear_i) half_q <= 1'b0;
      else if (w_go) half_q <= !half_q;
    end
    assign w_data_o   = half_q ? word[127:64] : word[63:0];
    assign word_ready = w_go && half_q && !empty_q;
  end

  assign b_ready_o = 1'b1;
  assign b_go      = b_valid_i;
  assign done_o    = busy_q && bursts_idle && !aw_go && in_flight_q == BurstBits'(1) && b_go;

  always_comb begin
    error_o       = 1'b0;
    error_cause_o = ERROR_NONE;
    if (b_go && b_resp_i[1]) begin
      error_o       = 1'b1;
      error_cause_o = b_resp_i[0] ? ERROR_STORE_DECERR : ERROR_STORE_SLVERR;
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
      words_q     <= words_q + WordBits'(read_go || (start_go && is_mark)) - WordBits'(word_ready && word_valid);
      if (w_go) beat_q <= w_last_o ? '0 : beat_q + 8'd1;
      aw_offered_q <= aw_valid_o && !aw_ready_i;
      if (stop_i && !(w_valid_o && !w_ready_i)) empty_q <= 1'b1;
    end
  end

  // An answer belongs to a burst in flight.
  assert property (@(posedge clk_i) disable iff (!rst_ni) b_valid_i |-> in_flight_q != '0);
  // A beat stays as it is until it is taken.
  assert property (@(posedge clk_i) disable iff (!rst_ni || clear_i)
      w_valid_o && !w_ready_i |=> w_valid_o && $stable(w_data_o) && $stable(w_strb_o) && $stable(w_last_o));
endmodule
