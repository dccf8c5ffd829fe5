// SPDX-License-Identifier: Apache-2.0
/// Operand and slide registers of the array: takes a word of activations, reduced to ABits, or the pad value.
///
/// With `shift_i` the word enters slide register 0, which is every column's operand; with `slide_i` the others move on by one.
module npu_operands #(
  parameter int unsigned ABits  = 8,
  parameter int unsigned Rows   = 16,
  parameter int unsigned DwTaps = 5
) (
  input  logic                              clk_i,
  input  logic                              shift_i,
  input  logic                              slide_i,
  input  logic                              pad_i,
  input  logic [Rows*8-1:0]                 act_i,
  input  logic [7:0]                        pad_value_i,
  output logic [DwTaps-1:0][Rows*ABits-1:0] slide_o,
  output logic [ABits-1:0]                  pad_reduced_o
);
  // int8 rounded half away from zero to ABits, saturated
  function automatic logic [ABits-1:0] reduce(logic signed [7:0] x);
    if (ABits == 8) begin
      return x[ABits-1:0];
    end else begin
      automatic logic signed [8:0] half, moved;
      half  = 9'sd1 <<< (7 - ABits);
      moved = 9'(x) + half - 9'(x < 0);  // then floor: halves go away from zero
      moved = moved >>> (8 - ABits);
      if (moved > 9'((1 << (ABits - 1)) - 1)) return {1'b0, {(ABits - 1) {1'b1}}};
      return moved[ABits-1:0];
    end
  endfunction

  logic [DwTaps-1:0][Rows*ABits-1:0] slide_q;
  logic [Rows*ABits-1:0] operand;

  assign slide_o       = slide_q;
  assign pad_reduced_o = reduce(pad_value_i);

  always_comb begin
    for (int unsigned r = 0; r < Rows; r++) operand[r*ABits+:ABits] = pad_i ? pad_reduced_o : reduce(act_i[r*8+:8]);
  end

  always_ff @(posedge clk_i) begin
    if (shift_i) slide_q[0] <= operand;
    if (shift_i && slide_i) begin
      for (int unsigned i = 1; i < DwTaps; i++) slide_q[i] <= slide_q[i-1];
    end
  end
endmodule
