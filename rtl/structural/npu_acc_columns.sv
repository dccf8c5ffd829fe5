// SPDX-License-Identifier: Apache-2.0
/// Accumulators of some columns: two banks of `Depth` words in registers, and what adds to them.
///
/// `read_i` takes the word of a bank that `select_i` chooses into a register, or with `forward_i` the sum of this cycle. One
/// cycle later `add_i` makes the word of `write_select_i` and `bank_i` the value, the maximum of both, or their sum. Every word
/// has an enable of its own, so that clock gating leaves all others at rest.
module npu_acc_columns #(
  parameter int unsigned Columns = 4,
  parameter int unsigned Bits    = 32,
  parameter int unsigned Depth   = 32
) (
  input  logic                         clk_i,
  // first cycle
  input  logic [1:0]                   read_i,          // by bank
  input  logic [1:0][Depth-1:0]        select_i,        // one bit of a bank that is read
  input  logic [1:0]                   forward_i,       // by bank: the word that is read is being written
  // second cycle
  input  logic                         bank_i,
  input  logic [Depth-1:0]             write_select_i,  // one bit
  input  logic                         first_i,
  input  logic                         add_i,
  input  logic                         max_i,
  input  logic [Columns-1:0][Bits-1:0] value_i,
  // drain
  input  logic                         drain_bank_i,
  output logic [Columns-1:0][Bits-1:0] drain_o
);
  logic [1:0][Depth-1:0][Columns*Bits-1:0] word_q;
  logic [1:0][Columns*Bits-1:0] chosen, read_q;
  logic [Columns-1:0][Bits-1:0] old, sum;

  always_comb begin
    chosen = '0;
    for (int unsigned b = 0; b < 2; b++) begin
      for (int unsigned p = 0; p < Depth; p++) chosen[b] |= word_q[b][p] & {Columns * Bits{select_i[b][p]}};
    end
  end

  assign old     = read_q[bank_i];
  assign drain_o = read_q[drain_bank_i];

  always_comb begin
    for (int unsigned c = 0; c < Columns; c++) begin
      if (first_i) sum[c] = value_i[c];
      else if (max_i) sum[c] = signed'(value_i[c]) > signed'(old[c]) ? value_i[c] : old[c];
      else sum[c] = value_i[c] + old[c];
    end
  end

  for (genvar b = 0; b < 2; b++) begin : gen_bank
    always_ff @(posedge clk_i) begin
      if (read_i[b]) read_q[b] <= forward_i[b] ? sum : chosen[b];
    end

    for (genvar p = 0; p < Depth; p++) begin : gen_word
      always_ff @(posedge clk_i) begin
        if (add_i && bank_i == 1'(b) && write_select_i[p]) word_q[b][p] <= sum;
      end
    end
  end
endmodule
