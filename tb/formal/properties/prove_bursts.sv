// SPDX-License-Identifier: Apache-2.0
/// npu_bursts: the bursts of a transfer cover its lines exactly, in order, and keep to AXI4's limits.
///
/// Assumed: a transfer starts while the splitter is idle, with sizes of 1 or more and addresses of whole words.
module prove_bursts
  import npu_pkg::*;
  import npu_axi_pkg::*;
#(
  parameter int unsigned AxiDataBits = 128
) (
  input logic                   clk_i,
  input logic                   rst_ni,
  input logic                   clear_i,
  input logic                   stop_i,
  input logic                   start_i,
  input logic [AxiAddrBits-1:0] address_i,
  input logic [SizeBits-1:0]    line_words_i,
  input logic [SizeBits-1:0]    lines_i,
  input logic [AxiAddrBits-1:0] line_stride_i,
  input logic [SizeBits-1:0]    planes_i,
  input logic [AxiAddrBits-1:0] plane_stride_i,
  input logic                   ready_i
);
  localparam int unsigned BeatBytes = AxiDataBits / 8;

  logic idle_o, valid_o;
  logic [AxiAddrBits-1:0] addr_o;
  logic [AxiLenBits-1:0] len_o;
  npu_bursts #(.AxiDataBits(AxiDataBits)) dut (.*);

  logic started_q = 1'b0;
  always_ff @(posedge clk_i) started_q <= 1'b1;
  always_comb begin
    if (!started_q) assume (!rst_ni);
    if (start_i) begin
      assume (idle_o);
      assume (line_words_i != '0 && lines_i != '0 && planes_i != '0);
      assume (address_i[3:0] == '0 && line_stride_i[3:0] == '0 && plane_stride_i[3:0] == '0);
    end
  end

  // the transfer, and how far it is covered: counted up from the first word of the first line
  logic [AxiAddrBits-1:0] line_stride_q, plane_stride_q, line_q, plane_q;  // strides; where line and plane begin
  logic [SizeBits-1:0] words_q, lines_q, planes_q;                         // of the transfer
  logic [SizeBits-1:0] word_q, at_line_q, at_plane_q;                      // the next word to be covered
  logic go, all_q, whole_line;
  logic [SizeBits-1:0] words;  // of the offered burst
  logic [31:0] bytes;
  assign go         = valid_o && ready_i;
  assign bytes      = (32'(len_o) + 32'd1) * BeatBytes;
  assign words      = SizeBits'(bytes / WordBytes);
  assign whole_line = word_q + words == words_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni || clear_i) begin
      all_q <= 1'b1;
    end else if (start_i && idle_o) begin
      line_stride_q  <= line_stride_i;
      plane_stride_q <= plane_stride_i;
      line_q         <= address_i;
      plane_q        <= address_i;
      words_q        <= line_words_i;
      lines_q        <= lines_i;
      planes_q       <= planes_i;
      word_q         <= '0;
      at_line_q      <= '0;
      at_plane_q     <= '0;
      all_q          <= 1'b0;
    end else if (go) begin
      word_q <= word_q + words;
      if (whole_line) begin
        word_q    <= '0;
        at_line_q <= at_line_q + SizeBits'(1);
        line_q    <= line_q + line_stride_q;
        if (at_line_q + SizeBits'(1) == lines_q) begin
          at_line_q  <= '0;
          at_plane_q <= at_plane_q + SizeBits'(1);
          line_q     <= plane_q + plane_stride_q;
          plane_q    <= plane_q + plane_stride_q;
          if (at_plane_q + SizeBits'(1) == planes_q) all_q <= 1'b1;
        end
      end
      if (stop_i) all_q <= 1'b1;  // nothing more is owed
    end
  end

  // the burst before this cycle
  logic held_q;
  logic [AxiAddrBits-1:0] held_addr_q;
  logic [AxiLenBits-1:0] held_len_q;
  always_ff @(posedge clk_i) begin
    held_q      <= rst_ni && !clear_i && valid_o && !ready_i;
    held_addr_q <= addr_o;
    held_len_q  <= len_o;
  end

  always_comb begin
    if (started_q && rst_ni) begin
      // It is busy until every word is covered, and no longer; while it is busy it offers a burst.
      BusyUntilAllIsCovered : assert (idle_o == all_q);
      OffersWhileBusy : assert (valid_o == !idle_o);
      if (held_q) begin
        // An offered burst stays as it is until it is taken.
        BurstStaysUntilTaken : assert (valid_o && addr_o == held_addr_q && len_o == held_len_q);
      end
      if (valid_o) begin
        // A burst never leaves its 4 KiB page (AXI4, A3.4.1).
        BurstStaysInItsPage : assert (32'(addr_o) % AxiPageBytes + bytes <= AxiPageBytes);
        // A burst has 1 to 16 beats, and whole words.
        BurstIsShort : assert (32'(len_o) < AxiMaxBeats && words != '0 && bytes % WordBytes == 0);
        // A burst begins where the one before has ended, or at the next line: every word once, in order.
        BurstCoversTheNextWords : assert (addr_o == line_q + (AxiAddrBits'(word_q) << 4));
        // A burst stays in its line.
        BurstStaysInItsLine : assert (17'(word_q) + 17'(words) <= 17'(words_q));
        WordsAreCounted : assert (dut.words_q == words_q - word_q && word_q < words_q);
        LinesAreCounted : assert (dut.lines_q == lines_q - at_line_q && at_line_q < lines_q);
        PlanesAreCounted : assert (dut.planes_q == planes_q - at_plane_q && at_plane_q < planes_q);
        TransferIsKept : assert (dut.line_words_q == words_q && dut.lines_all_q == lines_q);
        StridesAreKept : assert (dut.line_stride_q == line_stride_q && dut.plane_stride_q == plane_stride_q);
        PlacesAgree : assert (dut.line_q == line_q && dut.plane_q == plane_q);
        AddressesAreWholeWords :
        assert ((line_q[3:0] | plane_q[3:0] | line_stride_q[3:0] | plane_stride_q[3:0]) == '0);
      end
      CutAtAPage : cover (go && addr_o[11:0] != '0 && 13'(addr_o[11:0]) + 13'(bytes) == 13'(AxiPageBytes) && !whole_line);
      LongestBurst : cover (go && 32'(len_o) == AxiMaxBeats - 1 && !whole_line);
      NextPlane : cover (go && at_plane_q == SizeBits'(1) && at_line_q == SizeBits'(1) && planes_q == SizeBits'(2));
      StoppedInTheMiddle : cover (go && stop_i && !whole_line);
    end
  end
endmodule
