// SPDX-License-Identifier: Apache-2.0
/// Accumulators of some columns: two banks of `Depth` words in registers, and what adds to them.
///
/// `select_i` chooses a word of each bank. With `add_i` the one of `bank_i` becomes `value_i`, the maximum of both, or their sum.
/// Every word's registers have an enable of their own, so that clock gating leaves all others at rest.
module npu_acc_columns #(
  parameter int unsigned Columns = 4,
  parameter int unsigned Bits    = 32,
  parameter int unsigned Depth   = 32
) (
  input  logic                           clk_i,
  input  logic [1:0][Depth-1:0]          select_i,      // one bit of each bank
  input  logic                           bank_i,
  input  logic                           first_i,
  input  logic                           add_i,
  input  logic                           max_i,
  input  logic [Columns-1:0][Bits-1:0]   value_i,
  input  logic                           drain_bank_i,
  output logic [Columns-1:0][Bits-1:0]   drain_o
);
  logic [1:0][Depth-1:0][Columns*Bits-1:0] word_q;
  logic [1:0][Columns*Bits-1:0] shown;
  logic [Columns-1:0][Bits-1:0] old, sum;

  always_comb begin
    shown = '0;
    for (int unsigned b = 0; b < 2; b++) begin
      for (int unsigned p = 0; p < Depth; p++) shown[b] |= word_q[b][p] & {Columns * Bits{select_i[b][p]}};
    end
  end

  assign old     = shown[bank_i];
  assign drain_o = shown[drain_bank_i];

  always_comb begin
    for (int unsigned c = 0; c < Columns; c++) begin
      if (first_i) sum[c] = value_i[c];
      else if (max_i) sum[c] = signed'(value_i[c]) > signed'(old[c]) ? value_i[c] : old[c];
      else sum[c] = value_i[c] + old[c];
    end
  end

  for (genvar b = 0; b < 2; b++) begin : gen_bank
    for (genvar p = 0; p < Depth; p++) begin : gen_word
      always_ff @(posedge clk_i) begin
        if (add_i && bank_i == 1'(b) && select_i[b][p]) word_q[b][p] <= sum;
      end
    end
  end
endmodule
