// SPDX-License-Identifier: Apache-2.0
/// Requantiser, composed of the blocks that are synthesised; cycle for cycle like npu_requant_behavioural, which has the stages.
///
/// What all lanes share (valid bits, tags, zero point, clamp) is here, the data path of a lane in npu_requant_lane.
module npu_requant_structural
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

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) valid_q <= '0;
    else if (clear_i) valid_q <= '0;
    else valid_q <= {valid_q[4:1], valid_i};
  end

  always_ff @(posedge clk_i) begin
    if (valid_i) begin
      single1_q <= single_i;
      side1_q   <= '{tag: tag_i, zero_point: zero_point_i, act_min: act_min_i, act_max: act_max_i};
    end
    if (valid_q[1]) begin
      single2_q <= single1_q;
      side2_q   <= side1_q;
    end
    if (valid_q[2]) begin
      single3_q <= single2_q;
      side3_q   <= side2_q;
    end
    if (valid_q[3]) side4_q <= side3_q;
    if (valid_q[4]) tag5_q <= side4_q.tag;
  end

  for (genvar l = 0; l < Lanes; l++) begin : gen_lane
    npu_requant_lane i_lane (
      .clk_i,
      .valid_i     ({valid_q[4:1], valid_i}),
      .sum_i       (sum_i[l]),
      .bias_i      (bias_i[l]),
      .multiplier_i(multiplier_i[l][AccBits-2:0]),
      .shift_i     (shift_i[l]),
      .single3_i   (single2_q),
      .single4_i   (single3_q),
      .zero_point_i(side4_q.zero_point),
      .act_min_i   (side4_q.act_min),
      .act_max_i   (side4_q.act_max),
      .data_o      (data_o[l])
    );
  end

  assign valid_o      = valid_q[5];
  assign tag_o        = tag5_q;
endmodule
