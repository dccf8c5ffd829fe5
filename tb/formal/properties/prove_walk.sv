// SPDX-License-Identifier: Apache-2.0
/// npu_walk: it gives the address of every word of a transfer once, in order, and ends with the last.
///
/// Assumed: sizes are 1 or more; a transfer starts while the one before is over, or with its last word.
module prove_walk
  import npu_pkg::*;
  import npu_core_pkg::*;
(
  input logic                     clk_i,
  input logic                     rst_ni,
  input logic                     clear_i,
  input logic                     start_i,
  input logic [LocalAddrBits-1:0] address_i,
  input logic [SizeBits-1:0]      line_words_i,
  input logic [SizeBits-1:0]      lines_i,
  input logic [SizeBits-1:0]      planes_i,
  input logic [7:0]               step_i,
  input logic [LocalAddrBits-1:0] plane_stride_i,
  input logic                     next_i
);
  logic active_o, last_o;
  logic [WalkBits-1:0] addr_o;
  npu_walk dut (.*);

  // the transfer, and the word whose address is out: counted up from the first
  logic started_q = 1'b0;
  logic [SizeBits-1:0] words_q, lines_q, planes_q, word_q, line_q, plane_q;
  logic [WalkBits-1:0] address_q, plane_address_q;
  logic [LocalAddrBits-1:0] plane_stride_q;
  logic [7:0] step_q;
  logic over_q, end_of_line, end_of_plane, end_of_all;
  assign end_of_line  = word_q + SizeBits'(1) == words_q;
  assign end_of_plane = end_of_line && line_q + SizeBits'(1) == lines_q;
  assign end_of_all   = end_of_plane && plane_q + SizeBits'(1) == planes_q;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    if (!rst_ni || clear_i) begin
      over_q <= 1'b1;
    end else if (start_i) begin
      over_q          <= 1'b0;
      words_q         <= line_words_i;
      lines_q         <= lines_i;
      planes_q        <= planes_i;
      step_q          <= step_i;
      plane_stride_q  <= plane_stride_i;
      address_q       <= WalkBits'(address_i);
      plane_address_q <= WalkBits'(address_i);
      word_q          <= '0;
      line_q          <= '0;
      plane_q         <= '0;
    end else if (active_o && next_i) begin
      word_q    <= end_of_line ? '0 : word_q + SizeBits'(1);
      address_q <= address_q + WalkBits'(step_q);
      if (end_of_line) line_q <= end_of_plane ? '0 : line_q + SizeBits'(1);
      if (end_of_plane) begin
        plane_q         <= plane_q + SizeBits'(1);
        address_q       <= plane_address_q + WalkBits'(plane_stride_q);
        plane_address_q <= plane_address_q + WalkBits'(plane_stride_q);
      end
      if (end_of_all) over_q <= 1'b1;
    end
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    if (start_i) begin
      assume (line_words_i != '0 && lines_i != '0 && planes_i != '0);
      assume (!active_o || (next_i && last_o));
    end
  end

  always_comb begin
    if (started_q && rst_ni) begin
      // It is active until the last word, and no longer.
      ActiveUntilTheLastWord : assert (active_o == !over_q);
      if (active_o) begin
        // Every word's address comes once, in order.
        AddressIsOfTheNextWord : assert (addr_o == address_q);
        // The last word is marked.
        LastIsMarked : assert (last_o == end_of_all);
        WordsAreCounted : assert (dut.words_q == words_q - word_q && word_q < words_q && dut.line_words_q == words_q);
        LinesAreCounted : assert (dut.lines_q == lines_q - line_q && line_q < lines_q && dut.lines_all_q == lines_q);
        PlanesAreCounted : assert (dut.planes_q == planes_q - plane_q && plane_q < planes_q);
        PlacesAgree : assert (dut.plane_q == plane_address_q && dut.step_q == step_q && dut.plane_stride_q == plane_stride_q);
      end
      SecondPlane : cover (active_o && plane_q == SizeBits'(1) && line_q == SizeBits'(1) && planes_q == SizeBits'(2));
      RightAfterTheLast : cover (active_o && last_o && next_i && start_i && plane_q == SizeBits'(1));
    end
  end
endmodule
