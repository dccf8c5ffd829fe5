// SPDX-License-Identifier: Apache-2.0
/// Scratchpad addresses of a transfer, word by word: planes of equally spaced 16-byte words.
///
/// After `start_i` the address of the current word is on `addr_o` until `next_i` moves on; `last_o` marks the last word.
module npu_walk
  import npu_pkg::*;
  import npu_core_pkg::*;
(
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic                     clear_i,
  input  logic                     start_i,
  input  logic [LocalAddrBits-1:0] address_i,       // 16-byte words
  input  logic [SizeBits-1:0]      line_words_i,
  input  logic [SizeBits-1:0]      lines_i,
  input  logic [SizeBits-1:0]      planes_i,
  input  logic [7:0]               step_i,          // 16-byte words
  input  logic [LocalAddrBits-1:0] plane_stride_i,  // 16-byte words
  output logic                     active_o,
  output logic [WalkBits-1:0]      addr_o,
  output logic                     last_o,
  input  logic                     next_i
);
  logic active_q;
  logic [WalkBits-1:0] addr_q, plane_q;
  logic [LocalAddrBits-1:0] plane_stride_q;
  logic [7:0] step_q;
  logic [SizeBits-1:0] words_q, lines_q, planes_q, line_words_q, lines_all_q;

  assign active_o = active_q;
  assign addr_o   = addr_q;
  assign last_o   = words_q == SizeBits'(1) && lines_q == SizeBits'(1) && planes_q == SizeBits'(1);

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      active_q       <= 1'b0;
      addr_q         <= '0;
      plane_q        <= '0;
      plane_stride_q <= '0;
      step_q         <= '0;
      words_q        <= '0;
      lines_q        <= '0;
      planes_q       <= '0;
      line_words_q   <= '0;
      lines_all_q    <= '0;
    end else if (clear_i) begin
      active_q <= 1'b0;
    end else if (start_i) begin
      active_q       <= 1'b1;
      addr_q         <= WalkBits'(address_i);
      plane_q        <= WalkBits'(address_i);
      plane_stride_q <= plane_stride_i;
      step_q         <= step_i;
      words_q        <= line_words_i;
      line_words_q   <= line_words_i;
      lines_q        <= lines_i;
      lines_all_q    <= lines_i;
      planes_q       <= planes_i;
    end else if (active_q && next_i) begin
      addr_q <= addr_q + WalkBits'(step_q);
      if (words_q != SizeBits'(1)) begin
        words_q <= words_q - SizeBits'(1);
      end else begin
        words_q <= line_words_q;
        if (lines_q != SizeBits'(1)) begin
          lines_q <= lines_q - SizeBits'(1);
        end else begin
          lines_q <= lines_all_q;
          addr_q  <= plane_q + WalkBits'(plane_stride_q);
          plane_q <= plane_q + WalkBits'(plane_stride_q);
          if (planes_q != SizeBits'(1)) planes_q <= planes_q - SizeBits'(1);
          else active_q <= 1'b0;
        end
      end
    end
  end
endmodule
