// SPDX-License-Identifier: Apache-2.0
/// One 32-byte word of the shadow weight tile.
module npu_tile_word
  import npu_pkg::*;
(
  input  logic                      clk_i,
  input  logic                      write_i,
  input  logic [WeightWordBits-1:0] word_i,
  output logic [WeightWordBits-1:0] word_o
);
  logic [WeightWordBits-1:0] word_q;
  assign word_o = word_q;

  always_ff @(posedge clk_i) begin
    if (write_i) word_q <= word_i;
  end
endmodule
