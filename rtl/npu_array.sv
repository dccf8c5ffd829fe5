// SPDX-License-Identifier: Apache-2.0
/// Dot-product array in one of its two forms, equal in every cycle: npu_array_behavioural simulates several times faster
/// (docs/decisions/0003-array-form.md), npu_array_structural is what is synthesised (docs/decisions/0014-structural-design.md).
module npu_array
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  bit          Structural = 1'b0,  // the form that is synthesised
  parameter  int unsigned ABits      = 8,
  parameter  int unsigned WBits      = 8,
  parameter  int unsigned Rows       = 16,
  parameter  int unsigned Cols       = 16,
  parameter  int unsigned DwTaps     = 5,
  localparam int unsigned Slices     = Cols / ChannelBlock
) (
  input  logic                         clk_i,
  // weights
  input  logic                         word_valid_i,
  input  logic [7:0]                   word_index_i,
  input  logic [WeightWordBits-1:0]    word_i,
  input  logic [Slices-1:0]            swap_i,       // by slice of 16 columns
  // cycle 1
  input  logic                         shift_i,
  input  logic                         pad_i,
  input  logic [Rows*8-1:0]            act_i,
  input  logic [7:0]                   pad_value_i,
  // cycle 2
  input  logic                         mac_i,
  input  logic [Slices-1:0]            slice_i,      // slices whose sums are wanted; the others rest
  input  logic                         depthwise_i,
  input  logic [DwTaps-1:0]            tap_mask_i,  // columns in use
  input  logic [DwTaps-1:0]            tap_pad_i,   // columns that see the pad value
  // cycle 3; depthwise: sums of the rows in the first ROWS entries
  output logic [Cols-1:0][AccBits-1:0] sum_o
);
  if (Structural) begin : gen_structural
    npu_array_structural #(
      .ABits (ABits),
      .WBits (WBits),
      .Rows  (Rows),
      .Cols  (Cols),
      .DwTaps(DwTaps)
    ) i_form (
      .*
    );
  end else begin : gen_behavioural
    npu_array_behavioural #(
      .ABits (ABits),
      .WBits (WBits),
      .Rows  (Rows),
      .Cols  (Cols),
      .DwTaps(DwTaps)
    ) i_form (
      .*
    );
  end
endmodule
