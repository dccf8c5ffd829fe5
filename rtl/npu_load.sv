// SPDX-License-Identifier: Apache-2.0
/// Load engine: memory to scratchpads.
///
///   command -> bursts (AR) ....memory.... -> R beats -> 16-byte words -> scratchpad
///           -> queue ----------------------> walk (scratchpad addresses)
///
/// Requests of the next command go out while the data of this one still comes. One word per cycle with 128-bit data. Commands
/// complete in order, when their last word is in the scratchpad. `stop_i` asks for nothing more and drops what still comes.
module npu_load
  import npu_pkg::*;
  import npu_axi_pkg::*;
  import npu_core_pkg::*;
#(
  parameter int unsigned AxiDataBits = 128,   // 64 or 128
  parameter int unsigned ActWords    = 8192,  // 16-byte words of each scratchpad
  parameter int unsigned WeightWords = 4096,
  parameter int unsigned ParamWords  = 1024,
  parameter int unsigned MaxBursts   = 8      // bursts in flight
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic                     clear_i,
  input  logic                     stop_i,
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
  // memory reads
  output axi_read_req_t            axi_req_o,
  input  axi_read_rsp_t            axi_rsp_i,
  // scratchpads
  output logic [NumTargets-1:0]    write_valid_o,  // by target
  input  logic [NumTargets-1:0]    write_ready_i,
  output logic                     write_last_o,   // of a command
  output logic [LocalAddrBits-1:0] write_addr_o,   // 16-byte words
  output logic [WordBits-1:0]      write_data_o
);
  localparam int unsigned BurstBits = $clog2(MaxBursts + 1);

  cmd_transfer_t cmd, walk_cmd;
  logic start_go, bursts_idle, bursts_valid, bursts_ready;
  logic queue_ready, queue_valid, walk_start, walk_active, walk_last, walk_next;
  logic [WalkBits-1:0] walk_addr;
  logic [1:0] target_q;
  logic [BurstBits-1:0] in_flight_q;
  logic ar_valid, ar_go, r_valid, r_ready, r_go, burst_done;
  logic [AxiAddrBits-1:0] ar_addr;
  logic [AxiLenBits-1:0] ar_len;
  logic [AxiDataBits-1:0] r_data;

  assign cmd = cmd_transfer_t'(start_cmd_i);
  assign start_illegal_o = cmd.mem_address[3:0] != '0 || cmd.line_stride[3:0] != '0 || cmd.plane_stride[3:0] != '0
      || cmd.line_words == '0 || cmd.lines == '0 || cmd.planes == '0 || cmd.target > TARGET_PARAMETERS;
  assign start_ready_o = bursts_idle && queue_ready;
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
    .line_words_i  (cmd.line_words),
    .lines_i       (cmd.lines),
    .line_stride_i (cmd.line_stride),
    .planes_i      (cmd.planes),
    .plane_stride_i(cmd.plane_stride),
    .idle_o        (bursts_idle),
    .valid_o       (bursts_valid),
    .ready_i       (bursts_ready),
    .addr_o        (ar_addr),
    .len_o         (ar_len)
  );

  // The count of bursts in flight only falls while a request is held: a request that is out is never withdrawn.
  assign ar_valid     = bursts_valid && in_flight_q != BurstBits'(MaxBursts);
  assign bursts_ready = ar_valid && axi_rsp_i.ar_ready;
  assign ar_go        = bursts_ready;

  npu_fifo #(
    .Width(CmdBits),
    .Depth(2)
  ) i_queue (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i(start_go),
    .ready_o(queue_ready),
    .data_i (start_cmd_i),
    .valid_o(queue_valid),
    .ready_i(walk_start),
    .data_o (walk_cmd)
  );

  assign walk_start = queue_valid && (!walk_active || (walk_next && walk_last));

  npu_walk i_walk (
    .clk_i,
    .rst_ni,
    .clear_i,
    .start_i       (walk_start),
    .address_i     (walk_cmd.local_address),
    .line_words_i  (walk_cmd.line_words),
    .lines_i       (walk_cmd.lines),
    .planes_i      (walk_cmd.planes),
    .step_i        (walk_cmd.local_step),
    .plane_stride_i(walk_cmd.local_plane_stride),
    .active_o      (walk_active),
    .addr_o        (walk_addr),
    .last_o        (walk_last),
    .next_i        (walk_next)
  );

  // Beats become words; a complete word waits in `word_q` until its scratchpad takes it.
  logic word_valid_q, word_taken, word_complete;
  logic [WordBits-1:0] word_q, word_d;
  logic [1:0] resp_q, resp_d;  // of the word: the first bad response of its beats
  assign r_valid    = axi_rsp_i.r_valid;
  assign r_go       = r_valid && r_ready;
  assign r_data     = axi_rsp_i.r.data[AxiDataBits-1:0];
  assign burst_done = r_go && axi_rsp_i.r.last;
  assign r_ready    = stop_i || !word_valid_q || word_taken;

  assign axi_req_o  = '{ar: '{id: '0, addr: ar_addr, len: ar_len}, ar_valid: ar_valid, r_ready: r_ready};

  if (AxiDataBits == WordBits) begin : gen_full
    assign word_complete = 1'b1;
    assign word_d = r_data;
    assign resp_d = axi_rsp_i.r.resp;
  end else begin : gen_half
    logic half_q;
    logic [AxiDataBits-1:0] low_q;
    logic [1:0] low_resp_q;
    always_ff @(posedge clk_i or negedge rst_ni) begin
      if (!rst_ni) begin
        half_q     <= 1'b0;
        low_q      <= '0;
        low_resp_q <= '0;
      end else if (clear_i) begin
        half_q <= 1'b0;
      end else if (r_go) begin
        half_q <= !half_q;
        low_q  <= r_data;
        low_resp_q <= axi_rsp_i.r.resp;
      end
    end
    assign word_complete = half_q;
    assign word_d = {r_data, low_q};
    assign resp_d = low_resp_q[1] ? low_resp_q : axi_rsp_i.r.resp;
  end

  logic in_range, word_go;
  always_comb begin
    unique case (target_q)
      TARGET_ACTIVATIONS: in_range = 32'(walk_addr) < ActWords;
      TARGET_WEIGHTS: in_range = 32'(walk_addr) < WeightWords;
      default: in_range = 32'(walk_addr) < ParamWords;
    endcase
  end

  assign word_go = word_valid_q && walk_active && !stop_i;
  always_comb begin
    write_valid_o = '0;
    for (int t = 0; t < NumTargets; t++) write_valid_o[t] = word_go && in_range && !resp_q[1] && target_q == 2'(t);
  end
  assign write_addr_o = walk_addr[LocalAddrBits-1:0];
  assign write_data_o = word_q;
  assign write_last_o = walk_last;
  assign word_taken   = (write_valid_o & write_ready_i) != '0;
  assign walk_next    = word_taken;
  assign done_o       = word_taken && walk_last;

  always_comb begin
    error_o       = 1'b0;
    error_cause_o = ERROR_NONE;
    // both wait at the word until its command is the one that is walked
    if (word_go && resp_q[1]) begin
      error_o       = 1'b1;
      error_cause_o = resp_q[0] ? ERROR_LOAD_DECERR : ERROR_LOAD_SLVERR;
    end else if (word_go && !in_range) begin
      error_o       = 1'b1;
      error_cause_o = ERROR_SCRATCHPAD_RANGE;
    end
  end

  assign work_o  = word_taken ? STATE_RUN : STATE_WAIT_MEMORY;
  assign quiet_o = bursts_idle && in_flight_q == '0;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      in_flight_q  <= '0;
      word_valid_q <= 1'b0;
      word_q       <= '0;
      resp_q       <= '0;
      target_q     <= '0;
    end else if (clear_i) begin
      in_flight_q  <= '0;
      word_valid_q <= 1'b0;
    end else begin
      in_flight_q <= in_flight_q + BurstBits'(ar_go) - BurstBits'(burst_done);
      if (walk_start) target_q <= walk_cmd.target;
      if (r_go && word_complete) begin
        word_valid_q <= 1'b1;
        word_q       <= word_d;
        resp_q       <= resp_d;
      end else if (word_taken) begin
        word_valid_q <= 1'b0;
      end
    end
  end

  DataComesForWhatWasAsked : assert property (@(posedge clk_i) disable iff (!rst_ni)
      r_valid |-> in_flight_q != '0)
  else $error("Data comes only for what was asked.");
endmodule
