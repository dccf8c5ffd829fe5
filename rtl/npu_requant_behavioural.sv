// SPDX-License-Identifier: Apache-2.0
/// Requantiser in the form that simulates fast. Rescales int32 sums to int8: a bank of lanes, one result per lane and cycle, five cycles of latency.
///
///   cycle 1        2               3                        4                         5
///   + bias, << --> x multiplier -> rounding high half -->   rounding right shift -->  + zero point, clamp
///
/// With `single_i` the high half is not rounded: cycle 4 rounds once, with what the high half has left behind. Multipliers are 0 to
/// 2^31 - 1: for these the rounded high half of twice the product, for which TensorFlow Lite distinguishes signs, is
/// (a * m + 2^30) >> 31 for both (docs/decisions/0027-one-rounding-for-both-signs.md).
/// Follows golden.arithmetic.requantize bit for bit (see docs/reference/arithmetic.md): sums and left shifts wrap modulo 2^32. No
/// back-pressure: the caller takes every result. The tag travels with its data.
module npu_requant_behavioural
  import npu_compute_pkg::*;
#(
  parameter int unsigned Lanes   = 16,
  parameter int unsigned TagBits = 1
) (
  input  logic                          clk_i,
  input  logic                          rst_ni,
  input  logic                          clear_i,
  // in
  input  logic                          valid_i,
  input  logic [TagBits-1:0]            tag_i,
  input  logic [Lanes-1:0][AccBits-1:0] sum_i,
  input  logic [Lanes-1:0][AccBits-1:0] bias_i,
  input  logic [Lanes-1:0][AccBits-1:0] multiplier_i,
  input  logic [Lanes-1:0][7:0]         shift_i,       // signed, -31..30
  input  logic                          single_i,      // round once
  input  logic [7:0]                    zero_point_i,  // signed
  input  logic [7:0]                    act_min_i,     // signed
  input  logic [7:0]                    act_max_i,     // signed
  // out
  output logic                          valid_o,
  output logic [TagBits-1:0]            tag_o,
  output logic [Lanes-1:0][7:0]         data_o
);
  typedef struct packed {
    logic [TagBits-1:0] tag;
    logic [7:0] zero_point;
    logic [7:0] act_min;
    logic [7:0] act_max;
  } side_t;

  logic [5:1] valid_q;
  side_t side1_q, side2_q, side3_q, side4_q;
  logic single1_q, single2_q, single3_q;
  logic [TagBits-1:0] tag5_q;
  logic [Lanes-1:0][AccBits-1:0] shifted_q, high_q, wide_q;
  logic [Lanes-1:0][AccBits-2:0] multiplier_q;
  logic [Lanes-1:0][4:0] right1_q, right2_q, right3_q;
  logic [Lanes-1:0][63:0] product_q;
  logic [Lanes-1:0] half_q, rest_q;  // of the high half's remainder: its first bit, any other
  logic [Lanes-1:0][7:0] data_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) valid_q <= '0;
    else if (clear_i) valid_q <= '0;
    else valid_q <= {valid_q[4:1], valid_i};
  end

  always_ff @(posedge clk_i) begin
    // 1: bias and left shift
    if (valid_i) begin
      single1_q <= single_i;
      side1_q   <= '{tag: tag_i, zero_point: zero_point_i, act_min: act_min_i, act_max: act_max_i};
      for (int unsigned l = 0; l < Lanes; l++) begin
        shifted_q[l]    <= (sum_i[l] + bias_i[l]) << (shift_i[l][7] ? 5'd0 : shift_i[l][4:0]);
        right1_q[l]     <= shift_i[l][7] ? 5'(-shift_i[l]) : 5'd0;
        multiplier_q[l] <= multiplier_i[l][AccBits-2:0];
      end
    end
    // 2: product
    if (valid_q[1]) begin
      single2_q <= single1_q;
      side2_q   <= side1_q;
      right2_q  <= right1_q;
      for (int unsigned l = 0; l < Lanes; l++) begin
        product_q[l] <= 64'(signed'(shifted_q[l])) * 64'(signed'({1'b0, multiplier_q[l]}));
      end
    end
    // 3: high half of twice the product, rounded
    if (valid_q[2]) begin
      single3_q <= single2_q;
      side3_q   <= side2_q;
      right3_q  <= right2_q;
      for (int unsigned l = 0; l < Lanes; l++) begin
        high_q[l] <= AccBits'((product_q[l] + (single2_q ? 64'd0 : 64'h4000_0000)) >> 31);
        half_q[l] <= product_q[l][30];
        rest_q[l] <= product_q[l][29:0] != '0;
      end
    end
    // 4: right shift, rounded half away from zero
    if (valid_q[3]) begin
      side4_q <= side3_q;
      for (int unsigned l = 0; l < Lanes; l++) begin
        automatic logic [31:0] mask, threshold, remainder;
        automatic logic negative, up;
        negative  = high_q[l][31];
        mask      = ~(32'hFFFF_FFFF << right3_q[l]);
        remainder = high_q[l] & mask;
        // a negative remainder of exactly one half rounds down, unless the high half has left something behind
        threshold = (mask >> 1) + 32'(negative && !(single3_q && (half_q[l] || rest_q[l])));
        up        = remainder > threshold;
        if (single3_q && right3_q[l] == 5'd0) up = half_q[l] && (!negative || rest_q[l]);
        wide_q[l] <= 32'(signed'(high_q[l]) >>> right3_q[l]) + 32'(up);
      end
    end
    // 5: zero point and clamp
    if (valid_q[4]) begin
      tag5_q <= side4_q.tag;
      for (int unsigned l = 0; l < Lanes; l++) begin
        automatic logic signed [32:0] moved;
        moved = 33'(signed'(wide_q[l])) + 33'(signed'(side4_q.zero_point));
        if (moved < 33'(signed'(side4_q.act_min))) data_q[l] <= side4_q.act_min;
        else if (moved > 33'(signed'(side4_q.act_max))) data_q[l] <= side4_q.act_max;
        else data_q[l] <= moved[7:0];
      end
    end
  end

  assign valid_o      = valid_q[5];
  assign tag_o        = tag5_q;
  assign data_o       = data_q;
endmodule
