// SPDX-License-Identifier: Apache-2.0
/// Data path of one requantiser lane; npu_requant_behavioural has the stages and their meaning.
///
/// `valid_i[n]` is up while stage n + 1 takes its data. `single3_i` and `single4_i` are those of the values in stages 3 and 4;
/// zero point and clamp those of the value in stage 5.
module npu_requant_lane (
  input  logic        clk_i,
  input  logic [4:0]  valid_i,
  input  logic [31:0] sum_i,
  input  logic [31:0] bias_i,
  input  logic [30:0] multiplier_i,
  input  logic [7:0]  shift_i,       // signed, -31..30
  input  logic        single3_i,
  input  logic        single4_i,
  input  logic [7:0]  zero_point_i,  // signed
  input  logic [7:0]  act_min_i,     // signed
  input  logic [7:0]  act_max_i,     // signed
  output logic [7:0]  data_o
);
  logic [31:0] shifted_q, high_q, wide_q;
  logic [30:0] multiplier_q;
  logic [4:0] right1_q, right2_q, right3_q;
  logic [62:0] product_q;
  logic half_q, rest_q;  // of the high half's remainder: its first bit, any other
  logic [7:0] data_q;

  // 4: rounding of the right shift
  logic [31:0] mask, threshold;
  logic negative, up;
  always_comb begin
    negative  = high_q[31];
    mask      = ~(32'hFFFF_FFFF << right3_q);
    // a negative remainder of exactly one half rounds down, unless the high half has left something behind
    threshold = (mask >> 1) + 32'(negative && !(single4_i && (half_q || rest_q)));
    up        = (high_q & mask) > threshold;
    if (single4_i && right3_q == 5'd0) up = half_q && (!negative || rest_q);
  end

  // 5: zero point
  logic signed [32:0] moved;
  assign moved = 33'(signed'(wide_q)) + 33'(signed'(zero_point_i));

  always_ff @(posedge clk_i) begin
    if (valid_i[0]) begin
      shifted_q    <= (sum_i + bias_i) << (shift_i[7] ? 5'd0 : shift_i[4:0]);
      right1_q     <= shift_i[7] ? 5'(-shift_i) : 5'd0;
      multiplier_q <= multiplier_i;
    end
    if (valid_i[1]) begin
      right2_q  <= right1_q;
      product_q <= 63'(signed'(shifted_q)) * 63'(signed'({1'b0, multiplier_q}));
    end
    if (valid_i[2]) begin
      right3_q <= right2_q;
      high_q   <= 32'((product_q + (single3_i ? 63'd0 : 63'h4000_0000)) >> 31);
      half_q   <= product_q[30];
      rest_q   <= product_q[29:0] != '0;
    end
    if (valid_i[3]) wide_q <= 32'(signed'(high_q) >>> right3_q) + 32'(up);
    if (valid_i[4]) begin
      if (moved < 33'(signed'(act_min_i))) data_q <= act_min_i;
      else if (moved > 33'(signed'(act_max_i))) data_q <= act_max_i;
      else data_q <= moved[7:0];
    end
  end

  assign data_o = data_q;
endmodule
