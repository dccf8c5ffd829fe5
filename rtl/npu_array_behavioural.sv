// SPDX-License-Identifier: Apache-2.0
/// Dot-product array in the form that simulates fast: ROWS activations times COLS x ROWS weights in a cycle.
///
///   act_i -> pad, reduce -> [slide register 0] -> [1] -> ... -> [DwTaps - 1]
///                                |                 depthwise (only then they move): column i works on slide register i
///                                v                 and the products are summed per row
///          shadow tile -> active tile -> products -> sums
///
/// Cycle 1 takes an activation word (`shift_i`), and with `swap_i` the shadow tile becomes active; cycle 2 (`mac_i`, one cycle
/// after the word) multiplies; the sums are on `sum_o` in cycle 3. The shadow tile is filled word by word behind the active
/// one. Slices of 16 columns that have no channels keep their weights and sums. Weight k of row c is value k * Rows + c of a tile, W_BITS each, low bits first. Activations are int8 and are rounded to
/// ABits here (golden.arithmetic.reduce_activation). Data is not reset: the tile and the slide registers are written before use.
///
/// Operands are held sign-extended in 32-bit lanes: the C++ compiler then vectorises the simulated array
/// (docs/decisions/0003-array-form.md); synthesis merges the copies of a sign bit.
module npu_array_behavioural
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  int unsigned ABits  = 8,
  parameter  int unsigned WBits  = 8,
  parameter  int unsigned Rows   = 16,
  parameter  int unsigned Cols   = 16,
  parameter  int unsigned DwTaps = 5,
  localparam int unsigned Slices = Cols / ChannelBlock
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
  localparam int unsigned SliceWeights = ChannelBlock * Rows;
  localparam int unsigned TileBits = Rows * Cols * WBits;
  localparam int unsigned TileWords = (TileBits + WeightWordBits - 1) / WeightWordBits;

  logic [TileWords-1:0][WeightWordBits-1:0] shadow_q;
  logic signed [AccBits-1:0] weight_q[Cols*Rows];                   // active tile
  logic signed [AccBits-1:0] operand_q[Rows];                       // slide register 0
  logic [DwTaps-1:0][Rows*ABits-1:0] slide_q, slide_d;
  logic signed [AccBits-1:0] sum_q[Cols];

  // int8 rounded half away from zero to ABits, saturated
  function automatic logic [ABits-1:0] reduce(logic signed [7:0] x);
    if (ABits == 8) begin
      return x[ABits-1:0];
    end else begin
      automatic logic signed [8:0] half, moved;
      half  = 9'sd1 <<< (7 - ABits);
      moved = 9'(x) + half - 9'(x < 0);  // then floor: halves go away from zero
      moved = moved >>> (8 - ABits);
      if (moved > 9'((1 << (ABits - 1)) - 1)) return {1'b0, {(ABits - 1) {1'b1}}};
      return moved[ABits-1:0];
    end
  endfunction

  logic [TileWords*WeightWordBits-1:0] tile;
  assign tile = shadow_q;

  logic [ABits-1:0] pad_reduced;
  assign pad_reduced = reduce(pad_value_i);

  always_ff @(posedge clk_i) begin
    if (word_valid_i) begin
      for (int unsigned w = 0; w < TileWords; w++) if (32'(word_index_i) == w) shadow_q[w] <= word_i;
    end
    for (int unsigned s = 0; s < Slices; s++) begin
      if (swap_i[s]) begin
        for (int unsigned i = s * SliceWeights; i < (s + 1) * SliceWeights; i++) begin
          weight_q[i] <= AccBits'(signed'(tile[i*WBits+:WBits]));
        end
      end
    end
  end

  always_comb begin
    slide_d = slide_q;
    for (int unsigned i = 1; i < DwTaps; i++) slide_d[i] = slide_q[i-1];
    for (int unsigned r = 0; r < Rows; r++) slide_d[0][r*ABits+:ABits] = pad_i ? pad_reduced : reduce(act_i[r*8+:8]);
  end

  always_ff @(posedge clk_i) begin
    if (shift_i) begin
      slide_q[0] <= slide_d[0];
      for (int unsigned i = 1; i < DwTaps; i++) if (depthwise_i) slide_q[i] <= slide_d[i];
      for (int unsigned r = 0; r < Rows; r++) operand_q[r] <= AccBits'(signed'(slide_d[0][r*ABits+:ABits]));
    end
  end

  always_ff @(posedge clk_i) begin
    if (mac_i) begin
      for (int unsigned s = 0; s < Slices; s++) begin
        if (slice_i[s] && !depthwise_i) begin
          for (int unsigned k = s * ChannelBlock; k < (s + 1) * ChannelBlock; k++) begin
            automatic logic signed [AccBits-1:0] sum;
            sum = '0;
            for (int unsigned r = 0; r < Rows; r++) sum += operand_q[r] * weight_q[k*Rows+r];
            sum_q[k] <= sum;
          end
        end
        if (slice_i[s] && depthwise_i && s < Rows / ChannelBlock) begin
          for (int unsigned r = s * ChannelBlock; r < (s + 1) * ChannelBlock; r++) begin
            automatic logic signed [AccBits-1:0] sum;
            sum = '0;
            for (int unsigned i = 0; i < DwTaps; i++) begin
              if (tap_mask_i[i]) begin
                sum += AccBits'(signed'(tap_pad_i[i] ? pad_reduced : slide_q[i][r*ABits+:ABits])) * weight_q[i*Rows+r];
              end
            end
            sum_q[r] <= sum;
          end
        end
      end
    end
  end

  for (genvar k = 0; k < Cols; k++) begin : gen_sum
    assign sum_o[k] = sum_q[k];
  end

  if (ABits < 4 || ABits > 8 || WBits < 2 || WBits > 8) begin : gen_WidthsAreSupported
    $fatal(1, "npu_array_behavioural: ABits must be 4 to 8, WBits 2 to 8");
  end
  if (TileBits % WeightWordBits != 0 || TileWords > 255) begin : gen_TileIsWholeWords
    $fatal(1, "npu_array_behavioural: the tile must be whole 32-byte words, 255 at most");
  end
endmodule
