// SPDX-License-Identifier: Apache-2.0
/// npu_store: AXI4 rules of a writing master: every burst that is offered gets its beats, the last one marked, through a stop
/// too; no word is lost; a command ends when memory has answered.
///
/// Assumed: commands are legal and come only while the engine is not stopped; a stop stays until the engine is cleared, which
/// happens only while it is quiet; memory answers only bursts whose address and data it has taken, each once. And: when the
/// bursts of a command have ended, so has its walk: npu_bursts and npu_walk are proven to cover the same words, each once. The
/// output of the queue of words is cut free and assumed to be what npu_fifo is proven to give.
module prove_store
  import npu_pkg::*;
  import npu_axi_pkg::*;
#(
  parameter int unsigned AxiDataBits = 128,
  parameter int unsigned MaxBursts   = 4
) (
  input logic                clk_i,
  input logic                rst_ni,
  input logic                clear_i,
  input logic                stop_i,
  input logic [63:0]         cycle_i,
  input logic                start_valid_i,
  input logic [CmdBits-1:0]  start_cmd_i,
  input axi_write_rsp_t      axi_rsp_i,
  input logic                read_ready_i,
  input logic [WordBits-1:0] read_data_i,
  input logic                follow_i  // follow the burst that is offered now, if none is followed
);
  localparam int unsigned ActWords = 192;

  logic start_ready_o, start_illegal_o, done_o, quiet_o, error_o, read_valid_o;
  state_e work_o;
  error_e error_cause_o;
  axi_write_req_t axi_req_o;
  logic [LocalAddrBits-1:0] read_addr_o;
  npu_store #(
    .AxiDataBits(AxiDataBits),
    .ActWords   (ActWords),
    .MaxBursts  (MaxBursts)
  ) dut (
    .*
  );

  // bursts: offered and their data not ended; taken, and data ended, and not answered. One of them is followed: its length, how
  // many are before it; beats of the burst whose data goes out
  logic started_q = 1'b0;
  logic running_q, stop_q, stopped_q, aw_waits_q, w_waits_q;
  logic word_stays_q;
  logic [WordBits-1:0] word_q;
  axi_address_t aw_q;
  axi_write_data_t w_q;
  logic [7:0] owed_q, taken_q, ended_q, ahead_q, beats_q;
  logic followed_q;
  logic [AxiLenBits-1:0] length_q;
  logic aw_go, w_go, w_end, offered;
  assign aw_go   = axi_req_o.aw_valid && axi_rsp_i.aw_ready;
  assign w_go    = axi_req_o.w_valid && axi_rsp_i.w_ready;
  assign w_end   = w_go && axi_req_o.w.last;
  assign offered = axi_req_o.aw_valid && !(running_q && aw_waits_q);  // for the first time
  always_ff @(posedge clk_i) begin
    started_q    <= 1'b1;
    running_q    <= rst_ni && !clear_i;
    stop_q       <= rst_ni && stop_i && !clear_i;
    aw_waits_q   <= axi_req_o.aw_valid && !axi_rsp_i.aw_ready;
    w_waits_q    <= axi_req_o.w_valid && !axi_rsp_i.w_ready;
    word_stays_q <= rst_ni && !clear_i && !(dut.word_valid && dut.word_ready) && !(dut.word_push && !dut.word_valid);
    word_q       <= dut.word;
    aw_q         <= axi_req_o.aw;
    w_q          <= axi_req_o.w;
    if (!rst_ni) begin
      owed_q     <= '0;
      taken_q    <= '0;
      ended_q    <= '0;
      beats_q    <= '0;
      followed_q <= 1'b0;
      stopped_q  <= 1'b0;
    end else begin
      stopped_q <= (stopped_q || stop_i) && !clear_i;
      owed_q    <= owed_q + 8'(offered) - 8'(w_end);
      taken_q   <= taken_q + 8'(aw_go) - 8'(axi_rsp_i.b_valid);
      ended_q   <= ended_q + 8'(w_end) - 8'(axi_rsp_i.b_valid);
      if (w_go) beats_q <= axi_req_o.w.last ? '0 : beats_q + 8'd1;
      if (followed_q) begin
        ahead_q <= ahead_q - 8'(w_end);
        if (w_end && ahead_q == '0) followed_q <= 1'b0;
      end else if (offered && follow_i) begin
        followed_q <= 1'b1;
        length_q   <= axi_req_o.aw.len;
        ahead_q    <= owed_q - 8'(w_end);
      end
    end
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    if (start_valid_i) assume (!start_illegal_o && !stop_i);
    if (clear_i) assume (stop_i && quiet_o);
    if (stop_q) assume (stop_i);
    if (axi_rsp_i.b_valid) assume (taken_q != '0 && ended_q != '0);
    if (started_q && word_stays_q) assume (dut.word == word_q);
    if (!dut.busy_q) assume (dut.words_q == '0 && !dut.walk_active);
  end

  logic [31:0] bytes;
  logic [7:0] place;
  assign bytes = (32'(axi_req_o.aw.len) + 32'd1) * (AxiDataBits / 8);
  assign place = 8'((32'(dut.i_lengths.read_q) + 32'(ahead_q)) % MaxBursts);

  always_comb begin
    if (started_q && rst_ni) begin
      if (running_q && aw_waits_q) begin
        // A request stays as it is until it is taken, through a stop too (AXI4, A3.2.1).
        RequestStaysUntilTaken : assert (axi_req_o.aw_valid && axi_req_o.aw == aw_q);
      end
      if (axi_req_o.aw_valid) begin
        // A burst never leaves its 4 KiB page (AXI4, A3.4.1), and has 1 to 16 beats of whole words.
        BurstStaysInItsPage : assert (32'(axi_req_o.aw.addr) % AxiPageBytes + bytes <= AxiPageBytes);
        BurstIsShort : assert (32'(axi_req_o.aw.len) < AxiMaxBeats && axi_req_o.aw.addr[3:0] == '0 && bytes % WordBytes == 0);
      end
      if (running_q && w_waits_q) begin
        // A beat stays as it is until it is taken, through a stop too.
        BeatStaysUntilTaken : assert (axi_req_o.w_valid && axi_req_o.w == w_q);
      end
      // No data without its address.
      NoDataWithoutAddress : assert (!axi_req_o.w_valid || owed_q != '0);
      if (followed_q && ahead_q == '0) begin
        // A burst has as many beats as its address says, and the last one is marked.
        LastBeatIsMarked : assert (beats_q <= length_q && (!axi_req_o.w_valid || axi_req_o.w.last == (beats_q == length_q)));
      end
      // Bytes are written all or, after a stop, none.
      StrobesAreAllOrNone :
      assert (axi_req_o.w.strb == AxiMaxStrbBits'((32'd1 << (AxiDataBits / 8)) - 32'd1)
          || (axi_req_o.w.strb == '0 && stopped_q));
      // After a stop the bursts that are owed end without waiting for words.
      OwedBurstsEnd : assert (!stopped_q || !stop_i || owed_q == '0 || !dut.empty_q || axi_req_o.w_valid);
      StopIsFelt : assert (!running_q || !stopped_q || !stop_q || dut.empty_q || w_waits_q);
      // No more bursts are in flight than there is a counter for.
      BurstsAreCounted : assert (8'(dut.in_flight_q) == taken_q && taken_q <= 8'(MaxBursts));
      RoomForEveryBurst : assert (!axi_req_o.aw_valid || taken_q < 8'(MaxBursts));
      // Every answer can be taken.
      AnswersAreTaken : assert (axi_req_o.b_ready);
      // Quiet means that nothing is offered, owed or unanswered.
      QuietMeansNothingToCome : assert (!quiet_o || (!axi_req_o.aw_valid && owed_q == '0 && taken_q == '0));
      // A command ends with the answer to its last burst.
      DoneWithTheLastAnswer : assert (!done_o || (axi_rsp_i.b_valid && taken_q == 8'd1 && !axi_req_o.aw_valid));
      // A word that is read has a place in the queue.
      NoWordIsLost : assert (!dut.word_push || dut.i_words.ready_o);
      // Reads stay in the scratchpad, and nothing is read after a stop.
      ReadsStayInTheScratchpad : assert (!read_valid_o || (32'(read_addr_o) < ActWords && !stop_i));
      LongBurstEnds : cover (followed_q && ahead_q == '0 && w_end && length_q == 8'd1 && axi_req_o.w.strb != '0);
      OwedBurstEndsEmpty : cover (followed_q && ahead_q == '0 && w_end && stopped_q && axi_req_o.w.strb == '0);
      DataBeforeItsAddress : cover (w_go && running_q && aw_waits_q && owed_q == 8'd1);
      CommandEnds : cover (done_o);
      ClearedAfterAStop : cover (clear_i && dut.empty_q);
    end
  end

  // how the block's registers stand to what is counted here
  always_comb begin
    if (started_q && rst_ni) begin
      LengthsAgree :
      assert (8'(dut.i_lengths.count_q) == owed_q && owed_q <= 8'(MaxBursts) && 32'(dut.i_lengths.read_q) < MaxBursts
          && 32'(dut.i_lengths.write_q) == (32'(dut.i_lengths.read_q) + 32'(owed_q)) % MaxBursts);
      BeatsAgree : assert (dut.beat_q == beats_q && (beats_q == '0 || owed_q != '0));
      OfferedAgrees : assert (dut.aw_offered_q == (running_q && aw_waits_q) && (!dut.aw_offered_q || dut.i_bursts.valid_q));
      // offered = taken or on the port; of these, data ended or owed
      AllBurstsAreAccountedFor : assert (owed_q + ended_q == taken_q + 8'(dut.aw_offered_q));
      if (followed_q) begin
        FollowedIsStored : assert (ahead_q < owed_q && dut.i_lengths.mem_q[place] == length_q);
      end
      WordsAgree :
      assert (8'(dut.i_words.count_q) + 8'(dut.read_q) + 8'(dut.mark_q) == 8'(dut.words_q) && 32'(dut.words_q) <= 32'd8
          && !(dut.read_q && dut.mark_q));
      WordPointersAgree : assert (32'(dut.i_words.write_q) == (32'(dut.i_words.read_q) + 32'(dut.i_words.count_q)) % 8);
      NothingComesAfterAStop : assert (!dut.empty_q || (stopped_q && !dut.word_push));
      StoppedIsStop : assert (stopped_q == stop_q);
      IdleMeansNothing : assert (dut.busy_q || (!dut.i_bursts.active_q && taken_q == '0 && !dut.mark_q));
      MarkIsBusy : assert (!dut.mark_q || dut.busy_q);
      SplitterAgrees :
      assert (dut.i_bursts.valid_q == dut.i_bursts.active_q && (!dut.i_bursts.valid_q || (dut.i_bursts.words_q != '0
          && dut.i_bursts.line_words_q != '0
          && (dut.i_bursts.addr_q[3:0] | dut.i_bursts.line_q[3:0] | dut.i_bursts.plane_q[3:0]) == '0
          && (dut.i_bursts.line_stride_q[3:0] == '0
              || (dut.i_bursts.lines_q == SizeBits'(1) && dut.i_bursts.lines_all_q == SizeBits'(1)))
          && (dut.i_bursts.plane_stride_q[3:0] == '0 || dut.i_bursts.planes_q == SizeBits'(1)))));
    end
  end
endmodule
