// SPDX-License-Identifier: Apache-2.0
/// Splits a transfer (planes of lines of 16-byte words) into AXI bursts.
///
/// Gives one burst per `ready_i`, from the cycle after `start_i` until the last. A burst stays in its line, in its 4 KiB page
/// and within 16 beats. `stop_i` withdraws everything but the burst that is already offered.
module npu_bursts
  import npu_pkg::*;
  import npu_axi_pkg::*;
#(
  parameter int unsigned AxiDataBits = 128  // 64 or 128
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   clear_i,
  input  logic                   stop_i,
  // transfer
  input  logic                   start_i,         // while idle
  input  logic [AxiAddrBits-1:0] address_i,       // bytes, multiple of 16
  input  logic [SizeBits-1:0]    line_words_i,    // 1 or more
  input  logic [SizeBits-1:0]    lines_i,         // 1 or more
  input  logic [AxiAddrBits-1:0] line_stride_i,   // bytes, multiple of 16
  input  logic [SizeBits-1:0]    planes_i,        // 1 or more
  input  logic [AxiAddrBits-1:0] plane_stride_i,  // bytes, multiple of 16
  output logic                   idle_o,
  // bursts
  output logic                   valid_o,
  input  logic                   ready_i,
  output logic [AxiAddrBits-1:0] addr_o,
  output logic [AxiLenBits-1:0]  len_o            // beats - 1
);
  localparam int unsigned BeatsPerWord = WordBits / AxiDataBits;
  localparam int unsigned MaxWords = AxiMaxBeats / BeatsPerWord;  // words in the longest burst
  localparam int unsigned WordShift = $clog2(WordBytes);
  localparam int unsigned PageWords = AxiPageBytes / WordBytes;
  localparam int unsigned PageBits = $clog2(PageWords);

  logic active_q, valid_q;
  logic [AxiAddrBits-1:0] addr_q, line_q, plane_q, line_stride_q, plane_stride_q;
  logic [SizeBits-1:0] words_q, lines_q, planes_q, line_words_q, lines_all_q;
  logic [PageBits:0] in_page;  // words up to the end of the page
  logic [SizeBits-1:0] take;

  assign in_page = (PageBits + 1)'(PageWords) - {1'b0, addr_q[WordShift+:PageBits]};
  always_comb begin
    take = words_q;
    if (take > SizeBits'(MaxWords)) take = SizeBits'(MaxWords);
    if (take > SizeBits'(in_page)) take = SizeBits'(in_page);
  end

  assign valid_o = valid_q;
  assign addr_o  = addr_q;
  assign len_o   = AxiLenBits'(take * SizeBits'(BeatsPerWord) - SizeBits'(1));
  assign idle_o  = !active_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      active_q       <= 1'b0;
      valid_q        <= 1'b0;
      addr_q         <= '0;
      line_q         <= '0;
      plane_q        <= '0;
      line_stride_q  <= '0;
      plane_stride_q <= '0;
      words_q        <= '0;
      lines_q        <= '0;
      planes_q       <= '0;
      line_words_q   <= '0;
      lines_all_q    <= '0;
    end else if (clear_i) begin
      active_q <= 1'b0;
      valid_q  <= 1'b0;
    end else if (!active_q) begin
      if (start_i) begin
        active_q       <= 1'b1;
        valid_q        <= 1'b1;
        addr_q         <= address_i;
        line_q         <= address_i;
        plane_q        <= address_i;
        line_stride_q  <= line_stride_i;
        plane_stride_q <= plane_stride_i;
        words_q        <= line_words_i;
        line_words_q   <= line_words_i;
        lines_q        <= lines_i;
        lines_all_q    <= lines_i;
        planes_q       <= planes_i;
      end
    end else if (valid_q && ready_i) begin
      if (words_q != take) begin
        addr_q  <= addr_q + (AxiAddrBits'(take) << WordShift);
        words_q <= words_q - take;
      end else if (lines_q != SizeBits'(1)) begin
        addr_q  <= line_q + line_stride_q;
        line_q  <= line_q + line_stride_q;
        words_q <= line_words_q;
        lines_q <= lines_q - SizeBits'(1);
      end else if (planes_q != SizeBits'(1)) begin
        addr_q   <= plane_q + plane_stride_q;
        line_q   <= plane_q + plane_stride_q;
        plane_q  <= plane_q + plane_stride_q;
        words_q  <= line_words_q;
        lines_q  <= lines_all_q;
        planes_q <= planes_q - SizeBits'(1);
      end else begin
        active_q <= 1'b0;
        valid_q  <= 1'b0;
      end
      if (stop_i) begin
        active_q <= 1'b0;
        valid_q  <= 1'b0;
      end
    end
  end

  BurstStaysInItsPage : assert property (@(posedge clk_i) disable iff (!rst_ni)
      valid_o |-> 32'(addr_o) % AxiPageBytes + (32'(len_o) + 1) * (AxiDataBits / 8) <= AxiPageBytes)
  else $error("A burst never leaves its 4 KiB page (AXI4, A3.4.1).");

  BurstStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni || clear_i)
      valid_o && !ready_i |=> valid_o && $stable(addr_o) && $stable(len_o))
  else $error("An offered burst stays as it is until it is taken.");
endmodule
