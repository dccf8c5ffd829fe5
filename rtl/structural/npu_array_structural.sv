// SPDX-License-Identifier: Apache-2.0
/// Dot-product array, composed of the blocks that are synthesised; cycle for cycle like npu_array_behavioural, which has the timing.
///
///   word --> npu_tile_word (TileWords) --swap--> weights in npu_column (Cols) --> sums
///   act  --> npu_operands --------------------------^   |   ^
///              slide registers --> first DwTaps columns |   |
///                                    their products ----'--> npu_tap_sum (Rows): depthwise, into the first Rows columns
///
/// A depthwise beat uses the multipliers of the first DwTaps columns. The operands of all that has nothing to multiply are zero,
/// so that nothing toggles there: columns without a tap in depthwise beats, and slices of 16 columns without channels.
module npu_array_structural
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  int unsigned ABits       = 8,
  parameter  int unsigned WBits       = 8,
  parameter  int unsigned Rows        = 16,
  parameter  int unsigned Cols        = 16,
  parameter  int unsigned DwTaps      = 5,
  localparam int unsigned Slices      = Cols / ChannelBlock,
  localparam int unsigned ProductBits = ABits + WBits,
  localparam int unsigned SumBits     = ProductBits + $clog2(Rows)
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
  localparam int unsigned ColumnBits = Rows * WBits;
  localparam int unsigned TileWords = (Cols * ColumnBits + WeightWordBits - 1) / WeightWordBits;

  logic [TileWords-1:0][WeightWordBits-1:0] tile;
  logic [Cols*ColumnBits-1:0] weights;
  logic [DwTaps-1:0][Rows*ABits-1:0] slide;
  logic [ABits-1:0] pad_reduced;
  logic [DwTaps-1:0][Rows*ProductBits-1:0] products;
  logic [Rows-1:0][SumBits-1:0] tap_sum;

  assign weights = tile;

  for (genvar w = 0; w < TileWords; w++) begin : gen_word
    npu_tile_word i_word (
      .clk_i,
      .write_i(word_valid_i && word_index_i == 8'(w)),
      .word_i,
      .word_o (tile[w])
    );
  end

  npu_operands #(
    .ABits (ABits),
    .Rows  (Rows),
    .DwTaps(DwTaps)
  ) i_operands (
    .clk_i,
    .shift_i,
    .slide_i      (depthwise_i),
    .pad_i,
    .act_i,
    .pad_value_i,
    .slide_o      (slide),
    .pad_reduced_o(pad_reduced)
  );

  logic [Slices-1:0][Rows*ABits-1:0] operand;
  for (genvar s = 0; s < Slices; s++) begin : gen_operand
    assign operand[s] = slide[0] & {Rows * ABits{slice_i[s] && !depthwise_i}};
  end

  for (genvar k = 0; k < Cols; k++) begin : gen_column
    localparam int unsigned Slice = k / ChannelBlock;
    logic [SumBits-1:0] sum;
    logic [SumBits-1:0] row_sum;
    logic [Rows*ABits-1:0] tap;
    logic [Rows*ProductBits-1:0] product;

    if (k < DwTaps) begin : gen_tap
      assign tap         = (tap_pad_i[k] ? {Rows{pad_reduced}} : slide[k]) & {Rows * ABits{tap_mask_i[k]}};
      assign products[k] = product;
    end else begin : gen_no_tap
      logic unused;
      assign tap    = '0;
      assign unused = ^product;
    end
    if (k < Rows) begin : gen_row_sum
      assign row_sum = tap_sum[k];
    end else begin : gen_no_row_sum
      assign row_sum = '0;
    end

    npu_column #(
      .ABits (ABits),
      .WBits (WBits),
      .Rows  (Rows),
      .Tap   (k < DwTaps),
      .RowSum(k < Rows)
    ) i_column (
      .clk_i,
      .swap_i   (swap_i[Slice]),
      .tile_i   (weights[k*ColumnBits+:ColumnBits]),
      .mac_i    (mac_i && slice_i[Slice]),
      .depthwise_i,
      .operand_i(k < DwTaps ? slide[0] : operand[Slice]),
      .tap_i    (tap),
      .row_sum_i(row_sum),
      .product_o(product),
      .sum_o    (sum)
    );
    assign sum_o[k] = AccBits'(signed'(sum));
  end

  for (genvar r = 0; r < Rows; r++) begin : gen_tap_sum
    logic [DwTaps-1:0][ProductBits-1:0] row;
    for (genvar i = 0; i < DwTaps; i++) begin : gen_row
      assign row[i] = products[i][r*ProductBits+:ProductBits];
    end
    npu_tap_sum #(
      .ProductBits(ProductBits),
      .SumBits    (SumBits),
      .DwTaps     (DwTaps)
    ) i_tap_sum (
      .product_i(row),
      .sum_o    (tap_sum[r])
    );
  end
endmodule
