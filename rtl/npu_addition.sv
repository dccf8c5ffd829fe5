// SPDX-License-Identifier: Apache-2.0
/// Rescales the operands of an addition on their way to the accumulators: a channel block in every cycle, three cycles of latency.
///
///   cycle 1                  2                                 3
///   operand x multiplier --> rounding high half -----------> rounding right shift
///
/// Follows golden.arithmetic.multiply_by_quantized_multiplier bit for bit for operands of 9 bits that are shifted left by up to 23
/// bits and multipliers of 0 to 2^31 - 1 (npu_operator_check refuses others): then nothing wraps, and the rounded high half of twice
/// the product, for which TensorFlow Lite distinguishes signs, is (a * m + 2^30) >> 31 for both.
module npu_addition
  import npu_pkg::*;
  import npu_compute_pkg::*;
(
  input  logic                                 clk_i,
  input  logic                                 rst_ni,
  input  logic                                 clear_i,
  // operands
  input  logic                                 valid_i,
  input  logic [ChannelBlock-1:0][8:0]         operand_i,     // signed
  input  logic [AccBits-2:0]                   multiplier_i,
  input  logic [4:0]                           left_i,        // at most 23
  input  logic [4:0]                           right_i,
  // to the accumulators
  output logic                                 busy_o,
  output logic [ChannelBlock-1:0][AccBits-1:0] sum_o
);
  localparam int unsigned ProductBits = 9 + AccBits;

  logic [3:1] valid_q;
  logic [4:0] left_q, right1_q, right2_q;
  logic [ChannelBlock-1:0][ProductBits-1:0] product_q;
  logic [ChannelBlock-1:0][AccBits-1:0] high_q, sum_q;

  assign busy_o = valid_q != '0;
  assign sum_o  = sum_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) valid_q <= '0;
    else if (clear_i) valid_q <= '0;
    else valid_q <= {valid_q[2:1], valid_i};
  end

  always_ff @(posedge clk_i) begin
    if (valid_i) begin
      left_q   <= left_i;
      right1_q <= right_i;
      for (int unsigned l = 0; l < ChannelBlock; l++) begin
        product_q[l] <= ProductBits'(signed'(operand_i[l])) * ProductBits'(signed'({1'b0, multiplier_i}));
      end
    end
    if (valid_q[1]) begin
      right2_q <= right1_q;
      for (int unsigned l = 0; l < ChannelBlock; l++) begin
        automatic logic signed [ProductBits-1:0] nudged;
        nudged = product_q[l] + (ProductBits'(1) << (5'd30 - left_q));
        high_q[l] <= AccBits'(nudged >>> (5'd31 - left_q));
      end
    end
    // half away from zero
    if (valid_q[2]) begin
      for (int unsigned l = 0; l < ChannelBlock; l++) begin
        automatic logic [AccBits-1:0] mask;
        automatic logic up;
        mask = ~({AccBits{1'b1}} << right2_q);
        up   = (high_q[l] & mask) > (mask >> 1) + AccBits'(high_q[l][AccBits-1]);
        sum_q[l] <= AccBits'(signed'(high_q[l]) >>> right2_q) + AccBits'(up);
      end
    end
  end

  ShiftLeavesTheSignAlone : assert property (@(posedge clk_i) disable iff (!rst_ni) valid_i |-> left_i <= 5'd23)
  else $error("Operands are not shifted out of 32 bits: the command's fields have been checked.");
endmodule
