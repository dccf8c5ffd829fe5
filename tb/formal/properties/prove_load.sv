// SPDX-License-Identifier: Apache-2.0
/// npu_load: AXI4 rules of a reading master; what it has asked for is counted, and no word is lost on its way.
///
/// Assumed: commands are legal and come only while the engine is not stopped; a stop stays until the engine is cleared, which
/// happens only while it is quiet (npu_engine_ctrl and npu_core_control are proven to do so); memory sends only what was asked.
module prove_load
  import npu_pkg::*;
  import npu_axi_pkg::*;
#(
  parameter int unsigned AxiDataBits = 128,
  parameter int unsigned MaxBursts   = 8
) (
  input logic               clk_i,
  input logic               rst_ni,
  input logic               clear_i,
  input logic               stop_i,
  input logic               start_valid_i,
  input logic [CmdBits-1:0] start_cmd_i,
  input axi_read_rsp_t      axi_rsp_i,
  input logic [NumTargets-1:0] write_ready_i
);
  localparam int unsigned ActWords = 192;
  localparam int unsigned WeightWords = 128;
  localparam int unsigned ParamWords = 64;

  logic start_ready_o, start_illegal_o, done_o, quiet_o, error_o;
  state_e work_o;
  error_e error_cause_o;
  axi_read_req_t axi_req_o;
  logic [NumTargets-1:0] write_valid_o;
  logic [LocalAddrBits-1:0] write_addr_o;
  logic [WordBits-1:0] write_data_o;
  logic write_last_o;
  npu_load #(
    .AxiDataBits(AxiDataBits),
    .ActWords   (ActWords),
    .WeightWords(WeightWords),
    .ParamWords (ParamWords),
    .MaxBursts  (MaxBursts)
  ) dut (
    .*
  );

  // bursts that were asked for and have not ended
  logic started_q = 1'b0;
  logic [7:0] asked_q;
  logic ar_go, r_go;
  assign ar_go = axi_req_o.ar_valid && axi_rsp_i.ar_ready;
  assign r_go  = axi_rsp_i.r_valid && axi_req_o.r_ready;

  // the cycle before
  logic running_q, stop_q, ar_waits_q, r_go_q;
  logic [NumTargets-1:0] write_waits_q;
  axi_address_t ar_q;
  logic [LocalAddrBits-1:0] write_addr_q;
  logic [WordBits-1:0] write_data_q;
  logic upper_q, complete_q;  // the next beat is the upper half of a word; the last one completed a word
  logic [WordBits-1:0] word_q;
  logic half;
  logic [AxiDataBits-1:0] low;
  if (AxiDataBits < WordBits) begin : gen_half
    assign half = dut.gen_half.half_q;
    assign low  = dut.gen_half.low_q;
  end else begin : gen_full
    assign half = 1'b0;
    assign low  = word_q[WordBits-1-:AxiDataBits];
  end
  always_ff @(posedge clk_i) begin
    started_q     <= 1'b1;
    running_q     <= rst_ni && !clear_i;
    stop_q        <= rst_ni && stop_i && !clear_i;
    asked_q       <= !rst_ni ? '0 : asked_q + 8'(ar_go) - 8'(r_go && axi_rsp_i.r.last);
    ar_waits_q    <= axi_req_o.ar_valid && !axi_rsp_i.ar_ready;
    ar_q          <= axi_req_o.ar;
    write_waits_q <= write_valid_o & ~write_ready_i;
    write_addr_q  <= write_addr_o;
    write_data_q  <= write_data_o;
    r_go_q        <= r_go;
    complete_q    <= r_go && (upper_q || AxiDataBits == WordBits);
    if (r_go) word_q <= WordBits'({axi_rsp_i.r.data[AxiDataBits-1:0], word_q} >> AxiDataBits);
    if (!rst_ni || clear_i) upper_q <= 1'b0;
    else if (r_go) upper_q <= !upper_q && AxiDataBits < WordBits;
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    if (start_valid_i) assume (!start_illegal_o && !stop_i);
    if (clear_i) assume (stop_i && quiet_o);
    if (stop_q) assume (stop_i);
    if (axi_rsp_i.r_valid) assume (asked_q != '0);
  end

  logic [31:0] bytes;
  assign bytes = (32'(axi_req_o.ar.len) + 32'd1) * (AxiDataBits / 8);

  always_comb begin
    if (started_q && rst_ni) begin
      if (running_q && ar_waits_q) begin
        // A request stays as it is until it is taken, through a stop too (AXI4, A3.2.1).
        RequestStaysUntilTaken : assert (axi_req_o.ar_valid && axi_req_o.ar == ar_q);
      end
      if (axi_req_o.ar_valid) begin
        // A burst never leaves its 4 KiB page (AXI4, A3.4.1), and has 1 to 16 beats of whole words.
        BurstStaysInItsPage : assert (32'(axi_req_o.ar.addr) % AxiPageBytes + bytes <= AxiPageBytes);
        BurstIsShort : assert (32'(axi_req_o.ar.len) < AxiMaxBeats && axi_req_o.ar.addr[3:0] == '0 && bytes % WordBytes == 0);
      end
      // No more bursts are in flight than there is a counter for, and the counter is right.
      BurstsAreCounted : assert (8'(dut.in_flight_q) == asked_q && asked_q <= 8'(MaxBursts));
      // No request goes out while the counter is full.
      RoomForEveryBurst : assert (!axi_req_o.ar_valid || asked_q < 8'(MaxBursts));
      // Quiet means that nothing is asked for and nothing is to come.
      QuietMeansNothingToCome : assert (!quiet_o || (!axi_req_o.ar_valid && asked_q == '0));
      // A word goes to one scratchpad, and to an address that it has.
      WordGoesToOnePlace : assert ($onehot0(write_valid_o));
      WordGoesIntoItsScratchpad :
      assert ((!write_valid_o[TARGET_ACTIVATIONS] || 32'(write_addr_o) < ActWords)
          && (!write_valid_o[TARGET_WEIGHTS] || 32'(write_addr_o) < WeightWords)
          && (!write_valid_o[TARGET_PARAMETERS] || 32'(write_addr_o) < ParamWords));
      // A beat is taken only when the word before it has a place, or after a stop.
      NoWordIsOverwritten : assert (!axi_req_o.r_ready || stop_i || !dut.word_valid_q || dut.word_taken);
      // The engine writes nothing after a stop.
      StopWritesNothing : assert (!stop_i || (write_valid_o == '0 && !done_o));
      if (running_q && write_waits_q != '0 && !stop_i) begin
        // A word waits for its scratchpad as it is.
        WordStaysUntilTaken :
        assert (write_valid_o == write_waits_q && write_addr_o == write_addr_q && write_data_o == write_data_q);
      end
      if (running_q && r_go_q && complete_q) begin
        // What comes from memory goes to the scratchpad as it came, the first beat in the low part.
        WordIsWhatCame : assert (dut.word_valid_q && write_data_o == word_q);
      end
      HalvesAgree : assert (half == upper_q && (!upper_q || low == word_q[WordBits-1-:AxiDataBits]));
      SplitterAgrees :
      assert (dut.i_bursts.valid_q == dut.i_bursts.active_q && (!dut.i_bursts.valid_q || (dut.i_bursts.words_q != '0
          && dut.i_bursts.line_words_q != '0 && (dut.i_bursts.addr_q[3:0] | dut.i_bursts.line_q[3:0] | dut.i_bursts.plane_q[3:0]
          | dut.i_bursts.line_stride_q[3:0] | dut.i_bursts.plane_stride_q[3:0]) == '0)));
      AllBurstsInFlight : cover (asked_q == 8'(MaxBursts) && !axi_req_o.ar_valid && dut.i_bursts.valid_q);
      RequestHeldThroughAStop : cover (running_q && ar_waits_q && stop_q && axi_req_o.ar_valid && asked_q != '0);
      CommandEnds : cover (done_o && write_valid_o[TARGET_ACTIVATIONS] && write_addr_o == 20'd6);
      ClearedAfterAStop : cover (clear_i && asked_q == '0 && dut.word_valid_q);
    end
  end
endmodule
