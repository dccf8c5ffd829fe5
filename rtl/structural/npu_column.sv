// SPDX-License-Identifier: Apache-2.0
/// One column of the array: Rows weights, their products with the operands, and the sum.
///
/// `swap_i` takes the weights from the shadow tile; `mac_i` stores the sum of this cycle's products. A column with `Tap`
/// multiplies `tap_i` in depthwise beats and shows its products; one with `RowSum` then stores `row_sum_i`.
module npu_column #(
  parameter  int unsigned ABits       = 8,
  parameter  int unsigned WBits       = 8,
  parameter  int unsigned Rows        = 16,
  parameter  bit          Tap         = 1'b0,
  parameter  bit          RowSum      = 1'b0,
  localparam int unsigned ProductBits = ABits + WBits,
  localparam int unsigned SumBits     = ProductBits + $clog2(Rows)
) (
  input  logic                        clk_i,
  input  logic                        swap_i,
  input  logic [Rows*WBits-1:0]       tile_i,
  input  logic                        mac_i,
  input  logic                        depthwise_i,
  input  logic [Rows*ABits-1:0]       operand_i,
  input  logic [Rows*ABits-1:0]       tap_i,
  input  logic [SumBits-1:0]          row_sum_i,
  output logic [Rows*ProductBits-1:0] product_o,
  output logic [SumBits-1:0]          sum_o
);
  logic [Rows*WBits-1:0] weight_q;
  logic [Rows*ABits-1:0] operand;
  logic [Rows*ProductBits-1:0] product;
  logic [SumBits-1:0] sum, sum_q;

  assign operand   = Tap && depthwise_i ? tap_i : operand_i;
  assign product_o = Tap ? product : '0;
  assign sum_o     = sum_q;

  always_comb begin
    for (int unsigned r = 0; r < Rows; r++) begin
      product[r*ProductBits+:ProductBits] =
          ProductBits'(signed'(operand[r*ABits+:ABits])) * ProductBits'(signed'(weight_q[r*WBits+:WBits]));
    end
    sum = '0;
    for (int unsigned r = 0; r < Rows; r++) sum += SumBits'(signed'(product[r*ProductBits+:ProductBits]));
  end

  always_ff @(posedge clk_i) begin
    if (swap_i) weight_q <= tile_i;
    if (mac_i && (RowSum || !depthwise_i)) sum_q <= RowSum && depthwise_i ? row_sum_i : sum;
  end
endmodule
