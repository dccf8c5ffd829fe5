// SPDX-License-Identifier: Apache-2.0
/// npu_requant, one lane of either form: rounding, zero point and clamp, whatever the product is.
///
/// The product is cut free: it has any value in every cycle that two int32 can give. The specification is steps 3 to 5 of
/// docs/reference/arithmetic.md, written with absolute values and shifts at full width. Assumed: multipliers are 0 to
/// 2^31 - 1, and shifts -31 to 30.
module prove_requant #(
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
  localparam logic signed [63:0] MostProduct = (64'sd1 <<< 62) - (64'sd1 <<< 31);  // 2^31 times the largest multiplier

  logic valid_o;
  logic [3:0] tag_o;
  logic signed [31:0] found;  // before the zero point
  logic [7:0] data_o;
  npu_requant #(
    .Structural(1'(Structural)),
    .Lanes     (1),
    .TagBits   (4)
  ) dut (
    .*
  );

  logic signed [63:0] product;
  if (Structural != 0) begin : gen_structural
    assign product = 64'(signed'(dut.gen_structural.i_form.gen_lane[0].i_lane.product_q));
    assign found   = dut.gen_structural.i_form.gen_lane[0].i_lane.wide_q;
  end else begin : gen_behavioural
    assign product = 64'(signed'(dut.gen_behavioural.i_form.product_q));
    assign found   = dut.gen_behavioural.i_form.wide_q;
  end

  /// (a + nudge) / 2^31, truncated towards zero; nudge = 2^30 where a >= 0, else 1 - 2^30.
  function automatic logic signed [63:0] rounded_high(logic signed [63:0] a);
    logic signed [63:0] nudged;
    nudged = a + (a >= 0 ? 64'sd1 <<< 30 : 64'sd1 - (64'sd1 <<< 30));
    return nudged < 0 ? -(-nudged >>> 31) : nudged >>> 31;
  endfunction

  /// a / 2^places, rounded to the nearest integer, halves away from zero.
  function automatic logic signed [63:0] rounded(logic signed [63:0] a, logic [5:0] places);
    logic [63:0] size, half;
    size = a < 0 ? -a : a;
    half = places == '0 ? 64'd0 : 64'd1 << (places - 6'd1);
    size = (size + half) >> places;
    return a < 0 ? -signed'(size) : signed'(size);
  endfunction

  typedef struct packed {
    logic [3:0] tag;
    logic [4:0] right;
    logic single;
    logic signed [7:0] zero_point;
    logic signed [7:0] act_min;
    logic signed [7:0] act_max;
  } side_t;
  logic started_q = 1'b0;
  logic [5:1] valid_q;
  side_t side1_q, side2_q, side3_q, side4_q, side5_q;
  logic signed [63:0] product3_q, product4_q, wide5_q, wide;
  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    valid_q   <= !rst_ni || clear_i ? '0 : {valid_q[4:1], valid_i};
    side1_q <= '{
        tag: tag_i,
        right: shift_i[7] ? 5'(-shift_i) : 5'd0,
        single: single_i,
        zero_point: zero_point_i,
        act_min: act_min_i,
        act_max: act_max_i
    };
    side2_q    <= side1_q;
    side3_q    <= side2_q;
    side4_q    <= side3_q;
    side5_q    <= side4_q;
    product3_q <= product;
    product4_q <= product3_q;
    wide5_q    <= wide;
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    assume (signed'(shift_i) >= -31 && signed'(shift_i) <= 30);
    assume (product >= -MostProduct && product < MostProduct);
  end

  // the result before the zero point, and after it
  logic signed [63:0] moved, clamped;
  assign wide = side4_q.single ? rounded(product4_q, 6'd31 + 6'(side4_q.right))
      : rounded(rounded_high(product4_q), 6'(side4_q.right));
  assign moved = wide5_q + 64'(side5_q.zero_point);
  always_comb begin
    clamped = moved > 64'(side5_q.act_max) ? 64'(side5_q.act_max) : moved;
    if (moved < 64'(side5_q.act_min)) clamped = 64'(side5_q.act_min);
  end

  always_comb begin
    if (started_q && rst_ni) begin
      // Results come five cycles after their sums.
      ResultsComeInTime : assert (valid_o == valid_q[5]);
      if (valid_q[4]) begin
        // The wide result is the product, rounded as the specification says.
        WideResultIsRounded : assert (64'(found) == wide);
      end
      if (valid_q[5]) begin
        // The result is moved by the zero point without wrapping, and clamped.
        ResultIsMovedAndClamped : assert (64'(signed'(data_o)) == clamped);
        TagIsItsOwn : assert (tag_o == side5_q.tag);
      end
      TieOfANegative : cover (valid_q[4] && !side4_q.single && side4_q.right == 5'd3 && wide == -64'sd3
          && product4_q == -(64'sd20 <<< 31));
      RoundedOnce : cover (valid_q[4] && side4_q.single && side4_q.right == 5'd31 && wide == 64'sd1);
      Least : cover (valid_q[4] && product4_q == -MostProduct && side4_q.right == '0);
      Clamped : cover (valid_q[5] && moved > 64'sd200 && data_o == 8'd77);
    end
  end
endmodule
