/// One 32-byte word of the shadow weight tile.
module npu_tile_word (
  input  logic         clk_i,
  input  logic         write_i,
  input  logic [255:0] word_i,
  output logic [255:0] word_o
);
  logic [255:0] word_q;
  assign word_o = word_q;

  always_ff @(posedge clk_i) begin
    if (write_i) word_q <= word_i;
  end
endmodule
