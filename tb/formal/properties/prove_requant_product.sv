// SPDX-License-Identifier: Apache-2.0
/// npu_requant, one lane of either form: what is multiplied is the sum with its bias, shifted to the left, and the multiplier.
/// Assumed: multipliers are 0 to 2^31 - 1, and shifts -31 to 30.
module prove_requant_product #(
  parameter int unsigned Structural = 0
) (
  input logic        clk_i,
  input logic        rst_ni,
  input logic        clear_i,
  input logic        valid_i,
  input logic [3:0]  tag_i,
  input logic [31:0] sum_i,
  input logic [31:0] bias_i,
  input logic [31:0] multiplier_i,
  input logic [7:0]  shift_i,
  input logic        single_i,
  input logic [7:0]  zero_point_i,
  input logic [7:0]  act_min_i,
  input logic [7:0]  act_max_i
);
  logic valid_o;
  logic [3:0] tag_o;
  logic [7:0] data_o;
  npu_requant #(
    .Structural(1'(Structural)),
    .Lanes     (1),
    .TagBits   (4)
  ) dut (
    .*
  );

  logic signed [63:0] product;
  logic [31:0] shifted, multiplier;
  if (Structural != 0) begin : gen_structural
    assign product    = 64'(signed'(dut.gen_structural.i_form.gen_lane[0].i_lane.product_q));
    assign shifted    = dut.gen_structural.i_form.gen_lane[0].i_lane.shifted_q;
    assign multiplier = 32'(dut.gen_structural.i_form.gen_lane[0].i_lane.multiplier_q);
  end else begin : gen_behavioural
    assign product    = dut.gen_behavioural.i_form.product_q;
    assign shifted    = dut.gen_behavioural.i_form.shifted_q;
    assign multiplier = 32'(dut.gen_behavioural.i_form.multiplier_q);
  end

  logic started_q = 1'b0;
  logic valid1_q, valid2_q;
  logic signed [31:0] sum_q, bias_q, multiplier_q, a;
  logic signed [7:0] shift_q;
  logic signed [62:0] product_q;
  // bias and left shift wrap modulo 2^32
  assign a = shift_q > 0 ? (sum_q + bias_q) <<< shift_q[4:0] : sum_q + bias_q;
  always_ff @(posedge clk_i) begin
    started_q    <= 1'b1;
    valid1_q     <= rst_ni && !clear_i && valid_i;
    valid2_q     <= rst_ni && !clear_i && valid1_q;
    sum_q        <= sum_i;
    bias_q       <= bias_i;
    multiplier_q <= multiplier_i;
    shift_q      <= shift_i;
    product_q    <= 63'(signed'(shifted)) * 63'(signed'({1'b0, multiplier[30:0]}));
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    assume (!multiplier_i[31]);
    assume (signed'(shift_i) >= -31 && signed'(shift_i) <= 30);
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (valid1_q) begin
        // The sum gets its bias, then moves to the left, both modulo 2^32; the multiplier stays beside it.
        SumIsBiasedAndShifted : assert (signed'(shifted) == a && signed'(multiplier) == multiplier_q);
      end
      if (valid2_q) begin
        // The product is that of both, which has 63 bits.
        ProductIsExact : assert (product[62:0] == product_q);
      end
      Least : cover (valid2_q && product_q < -(63'sd1 <<< 61));
      ShiftedAway : cover (valid1_q && shift_q == 8'sd30 && a == 32'sh4000_0000);
    end
  end
endmodule
