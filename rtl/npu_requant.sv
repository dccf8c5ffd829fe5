// SPDX-License-Identifier: Apache-2.0
/// Requantiser in one of its two forms, equal in every cycle: npu_requant_behavioural simulates faster, npu_requant_structural is
/// what is synthesised.
module npu_requant
  import npu_compute_pkg::*;
#(
  parameter bit          Structural = 1'b0,  // the form that is synthesised
  parameter int unsigned Lanes      = 16,
  parameter int unsigned TagBits    = 1
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
  if (Structural) begin : gen_structural
    npu_requant_structural #(
      .Lanes  (Lanes),
      .TagBits(TagBits)
    ) i_form (
      .*
    );
  end else begin : gen_behavioural
    npu_requant_behavioural #(
      .Lanes  (Lanes),
      .TagBits(TagBits)
    ) i_form (
      .*
    );
  end
endmodule
