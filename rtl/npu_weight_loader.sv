// SPDX-License-Identifier: Apache-2.0
/// Reads weight tiles from the weight scratchpad, word by word.
///
/// A request (`start_i`) reads its first word in the same cycle and one word per cycle from then on; words come out one cycle
/// after they are read, with their index in the tile. `ready_o` is up in the cycle in which the last word comes out, and after
/// it: the tile can be taken one cycle later. A new request may come in any such cycle. An address outside the scratchpad is
/// reported and not read.
module npu_weight_loader
  import npu_pkg::*;
#(
  parameter  int unsigned Words    = 2048,  // 32-byte words of the scratchpad
  localparam int unsigned AddrBits = $clog2(Words)
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic                     clear_i,
  // request
  input  logic                     start_i,
  input  logic [LocalAddrBits-1:0] addr_i,
  input  logic [7:0]               words_i,  // 1 or more
  output logic                     ready_o,
  output logic                     error_o,
  // scratchpad
  output logic                     re_o,
  output logic [AddrBits-1:0]      raddr_o,
  // tile
  output logic                     word_valid_o,
  output logic [7:0]               word_index_o
);
  logic [LocalAddrBits-1:0] addr_q, addr;
  logic [7:0] left_q, index_q, index_out_q;
  logic reading, valid_q;

  assign reading = start_i || left_q != '0;
  assign addr    = start_i ? addr_i : addr_q;
  assign error_o = reading && 32'(addr) >= Words;
  assign re_o    = reading && !error_o;
  assign raddr_o = addr[AddrBits-1:0];
  assign ready_o = left_q == '0;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      addr_q      <= '0;
      left_q      <= '0;
      index_q     <= '0;
      index_out_q <= '0;
      valid_q     <= 1'b0;
    end else if (clear_i) begin
      left_q  <= '0;
      valid_q <= 1'b0;
    end else begin
      valid_q <= re_o;
      if (re_o) begin
        addr_q      <= addr + LocalAddrBits'(1);
        left_q      <= (start_i ? words_i : left_q) - 8'd1;
        index_q     <= (start_i ? 8'd0 : index_q) + 8'd1;
        index_out_q <= start_i ? 8'd0 : index_q;
      end
    end
  end

  assign word_valid_o = valid_q;
  assign word_index_o = index_out_q;

  RequestNeverCutsOffTheOneBefore : assert property (@(posedge clk_i) disable iff (!rst_ni || clear_i)
      start_i |-> left_q == '0)
  else $error("A request never cuts off the one before.");
endmodule
