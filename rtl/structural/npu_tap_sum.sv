// SPDX-License-Identifier: Apache-2.0
/// Depthwise sum of one row: the products of the first columns; those of columns not in use are zero.
module npu_tap_sum #(
  parameter int unsigned ProductBits = 16,
  parameter int unsigned SumBits     = 20,
  parameter int unsigned DwTaps      = 5
) (
  input  logic [DwTaps-1:0][ProductBits-1:0] product_i,
  output logic [SumBits-1:0]                 sum_o
);
  always_comb begin
    sum_o = '0;
    for (int unsigned i = 0; i < DwTaps; i++) sum_o += SumBits'(signed'(product_i[i]));
  end
endmodule
