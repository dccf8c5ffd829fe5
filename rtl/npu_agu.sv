// SPDX-License-Identifier: Apache-2.0
/// Sequencer and address generator of the compute engine: turns an operator command into one beat per cycle.
///
///   for output block (COLS, ROWS or 16 channels)
///     for stripe (up to `stripe_pixels` output pixels, raster order)
///       for input block, kernel row, kernel column(s)        <- one pass: one weight tile
///         for pixel of the stripe                            <- one beat (depthwise, sliding: one beat per input word)
///
/// No cycle is lost between passes, stripes and blocks. Everything is counted with additions; the products that the loops
/// need (a row step, a plane step) are fields of the command. The beat on the output stays until `ready_i`. While a pass's
/// first beat is offered, `tile_*_o` describe the tile of the pass after it; `first_tile_*_o` belong to `start_i`.
/// Fields must have been checked (`npu_compute`).
module npu_agu
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter int unsigned Rows   = 16,
  parameter int unsigned Cols   = 16,
  parameter int unsigned WBits  = 8,
  parameter int unsigned DwTaps = 5
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic                     clear_i,
  // command
  input  logic                     start_i,
  input  logic [CmdBits-1:0]       cmd_i,
  output logic                     busy_o,
  output opcode_e                  opcode_o,
  // beats
  output logic                     valid_o,
  input  logic                     ready_i,
  output beat_t                    beat_o,
  output stripe_t                  stripe_o,      // with stripe_first
  // weight tiles
  output logic                     tile_valid_o,  // there is a next tile
  output logic [LocalAddrBits-1:0] tile_addr_o,   // 32-byte words
  output logic [7:0]               tile_words_o,
  output logic [LocalAddrBits-1:0] first_tile_addr_o,
  output logic [7:0]               first_tile_words_o
);
  localparam int unsigned Parts = Rows / ChannelBlock;
  localparam int unsigned CoordBits = 20;  // an input row or column, signed: beyond the image where the kernel is

  // 32-byte words of a tile of `taps` columns
  function automatic logic [7:0] words_of(int unsigned taps);
    return 8'((taps * Rows * WBits + WeightWordBits - 1) / WeightWordBits);
  endfunction

  function automatic logic [SizeBits-1:0] least(logic [SizeBits-1:0] a, logic [SizeBits-1:0] b);
    return a < b ? a : b;
  endfunction

  // ---------------------------------------------------------------- command
  cmd_operator_t start_cmd, c;
  cmd_add_t start_add, a;
  assign start_cmd = cmd_operator_t'(cmd_i);
  assign start_add = cmd_add_t'(cmd_i);
  assign a = cmd_add_t'(c);

  logic is_conv, is_depthwise, is_add, is_vector, sliding;
  assign is_conv      = c.opcode == OP_CONV;
  assign is_depthwise = c.opcode == OP_DEPTHWISE;
  assign is_add       = c.opcode == OP_ADD;
  assign is_vector    = !is_conv && !is_depthwise;
  assign sliding      = is_depthwise && c.slide;
  assign opcode_o     = opcode_e'(c.opcode);

  // an addition is a scan over one long row, twice
  logic [SizeBits-1:0] in_height, in_width, out_width, in_row_step;
  logic [7:0] kernel_h, kernel_w, stride_h, stride_w, dilation_w;
  logic signed [31:0] second_input;
  assign in_height    = is_add ? SizeBits'(1) : c.in_height;
  assign in_width     = is_add ? c.out_pixels : c.in_width;
  assign out_width    = is_add ? c.out_pixels : c.out_width;
  assign in_row_step  = is_add ? SizeBits'(0) : c.in_row_step;
  assign kernel_h     = is_add ? 8'd1 : c.kernel_h;
  assign kernel_w     = is_add ? 8'd1 : c.kernel_w;
  assign stride_h     = is_add ? 8'd1 : c.stride_h;
  assign stride_w     = is_add ? 8'd1 : c.stride_w;
  assign dilation_w   = is_add ? 8'd1 : c.dilation_w;
  assign second_input = a.in2_base - c.in_base;

  // ---------------------------------------------------------------- loops
  logic busy_q;
  logic [SizeBits-1:0] out_left_q;   // output channels from this block on
  logic [SizeBits-1:0] in_left_q;    // input channels from this block on
  logic [SizeBits-1:0] pix_left_q;   // output pixels from this stripe on
  logic [7:0] ky_q, kx_q, pixel_q;
  logic phase_q, bank_q, pass_first_q, block_first_q;
  logic [MaxPartBits-1:0] part_q;
  logic signed [31:0] cb_addr_q, ky_addr_q;         // address offset of the input block, of the kernel row
  logic signed [CoordBits-1:0] ky_row_q, kx_col_q;           // input rows and columns of the tap
  logic signed [31:0] block_addr_q;                 // first pixel, tap (0, 0), this output block
  logic [LocalAddrBits-1:0] out_block_q, out_pix_q, param_q;     // where this block's and stripe's results go
  logic [LocalAddrBits-1:0] tile_q, tile_block_q;                // tile of this pass, first tile of this block

  // where the channels begin in a word: only commands of one block have a part other than the first
  logic [MaxPartBits-1:0] in_part, out_part;
  assign in_part  = !is_add ? (is_vector ? c.in_part : '0) : phase_q ? a.in2_part : a.in_part;
  assign out_part = is_add ? a.out_part : c.out_part;

  // pixel position: output column; input column, row and address of the tap; address at the row's first output
  typedef struct packed {
    logic [SizeBits-1:0]        ox;
    logic signed [CoordBits-1:0] ix;
    logic signed [CoordBits-1:0] iy;
    logic signed [31:0] addr;
    logic signed [31:0] row;
  } position_t;
  position_t pos_q;    // now, tap included
  position_t stripe_q; // of the stripe's first pixel, tap (0, 0)
  position_t after_q;  // of the next stripe's first pixel, tap (0, 0)
  position_t step, stripe_d, pass_d, origin;

  logic last_kx, last_ky, last_cb, last_pass, first_pass, last_stripe, last_block, last_pixel;
  logic [7:0] kx_step, taps, taps_next, kx_next;
  logic [SizeBits-1:0] stripe_pixels, block_channels, valid_out, valid_in;

  assign kx_step        = sliding ? 8'(DwTaps) : 8'd1;
  assign kx_next        = kx_q + kx_step;
  assign last_kx        = SizeBits'(kx_q) + SizeBits'(kx_step) >= SizeBits'(kernel_w);
  assign last_ky        = ky_q == kernel_h - 8'd1;
  assign last_cb        = is_conv ? in_left_q <= SizeBits'(Rows) : (!is_add || phase_q);
  assign last_pass      = last_kx && last_ky && last_cb;
  assign first_pass     = kx_q == '0 && ky_q == '0 && !phase_q && in_left_q == c.in_channels;
  assign stripe_pixels  = least(SizeBits'(c.stripe_pixels), pix_left_q);
  assign last_stripe    = pix_left_q <= SizeBits'(c.stripe_pixels);
  assign block_channels = is_conv ? SizeBits'(Cols) : is_depthwise ? SizeBits'(Rows) : SizeBits'(ChannelBlock);
  assign last_block     = out_left_q <= block_channels;
  assign last_pixel     = SizeBits'(pixel_q) == stripe_pixels - SizeBits'(1);
  assign valid_out      = least(out_left_q, block_channels);
  assign valid_in       = least(in_left_q, SizeBits'(Rows));
  assign taps           = sliding ? 8'(least(SizeBits'(DwTaps), SizeBits'(kernel_w - kx_q))) : 8'd1;
  assign taps_next      = !sliding ? 8'd1
      : 8'(least(SizeBits'(DwTaps), SizeBits'(kernel_w) - (last_kx ? SizeBits'(0) : SizeBits'(kx_next))));

  // ---------------------------------------------------------------- position of the next pixel, stripe, pass
  always_comb begin
    step = pos_q;
    if (pos_q.ox == out_width - SizeBits'(1)) begin
      step.ox   = '0;
      step.ix   = (is_add ? CoordBits'(0) : CoordBits'(signed'(c.in_column))) + kx_col_q;
      step.iy   = pos_q.iy + CoordBits'(stride_h);
      step.addr = pos_q.row + 32'(in_row_step);
      step.row  = step.addr;
    end else begin
      step.ox   = pos_q.ox + SizeBits'(1);
      step.ix   = pos_q.ix + CoordBits'(stride_w);
      step.addr = pos_q.addr + 32'(stride_w);
    end
  end

  logic signed [31:0] cb_addr_d, ky_addr_d, block_addr_d;
  logic signed [CoordBits-1:0] ky_row_d, kx_col_d;
  always_comb begin
    cb_addr_d = cb_addr_q;
    ky_addr_d = ky_addr_q;
    ky_row_d  = ky_row_q;
    kx_col_d  = kx_col_q;
    if (!last_kx) begin
      kx_col_d = kx_col_q + (sliding ? CoordBits'(DwTaps) : CoordBits'(dilation_w));
    end else begin
      kx_col_d = '0;
      if (!last_ky) begin
        ky_addr_d = ky_addr_q + 32'(c.tap_row_step);
        ky_row_d  = ky_row_q + CoordBits'(c.dilation_h);
      end else begin
        ky_addr_d = '0;
        ky_row_d  = '0;
        cb_addr_d = last_cb ? '0 : cb_addr_q + (is_add ? second_input : 32'(c.in_plane));
      end
    end
  end

  // the next output block starts a plane further, except for convolutions, and for parts of the same word
  assign block_addr_d = block_addr_q
      + ((is_depthwise || (is_vector && part_q == MaxPartBits'(Parts - 1))) ? 32'(c.in_plane) : 32'sd0);

  always_comb begin
    origin      = '0;
    origin.ix   = is_add ? CoordBits'(0) : CoordBits'(signed'(c.in_column));
    origin.iy   = is_add ? CoordBits'(0) : CoordBits'(signed'(c.in_row));
    origin.addr = block_addr_d;
    origin.row  = block_addr_d;
    stripe_d    = stripe_q;
    if (last_pass) begin
      if (last_stripe) stripe_d = origin;
      else stripe_d = first_pass ? step : after_q;
    end
    pass_d      = stripe_d;
    pass_d.ix   = stripe_d.ix + kx_col_d;
    pass_d.iy   = stripe_d.iy + ky_row_d;
    pass_d.addr = stripe_d.addr + cb_addr_d + ky_addr_d + 32'(kx_col_d);
    pass_d.row  = stripe_d.row + cb_addr_d + ky_addr_d + 32'(kx_col_d);
  end

  // ---------------------------------------------------------------- sliding: the stream of input words
  logic [SizeBits-1:0] word_ix_q;
  logic signed [CoordBits-1:0] word_iy_q;
  logic signed [31:0] word_addr_q, word_row_q;  // this word; the row's word 0
  logic [SizeBits-1:0] need_q;                          // words until the next output, this one included

  // first word of a pass from column `ix` on: those before the input's first column are left out
  function automatic logic signed [CoordBits-1:0] first_word(logic signed [CoordBits-1:0] ix);
    return ix < 0 ? CoordBits'(0) : ix;
  endfunction

  // ---------------------------------------------------------------- the beat
  logic in_row, in_column, fire, go, end_of_pass;
  assign in_row      = pos_q.iy >= 0 && pos_q.iy < CoordBits'(in_height);
  assign in_column   = pos_q.ix >= 0 && pos_q.ix < CoordBits'(in_width);
  assign fire        = !sliding || need_q == SizeBits'(1);
  assign valid_o     = busy_q;
  assign go          = busy_q && ready_i;
  assign end_of_pass = fire && last_pixel;

  always_comb begin
    beat_o              = '0;
    beat_o.read         = sliding ? word_iy_q >= 0 && word_iy_q < CoordBits'(in_height) : in_row && in_column;
    beat_o.addr         = sliding ? word_addr_q : pos_q.addr;
    beat_o.pad          = !sliding && !(in_row && in_column);
    beat_o.fire         = fire;
    beat_o.pixel        = pixel_q;
    beat_o.first        = first_pass && !(is_conv && c.accumulate);
    beat_o.pass_first   = pass_first_q;
    beat_o.pass_last    = end_of_pass;
    beat_o.stripe_first = pass_first_q && first_pass;
    beat_o.stripe_last  = end_of_pass && last_pass;
    beat_o.bank         = bank_q;
    beat_o.part         = part_q | in_part;
    beat_o.phase        = phase_q;
    beat_o.useful_rows  = is_conv ? valid_in : is_depthwise ? valid_out : SizeBits'(0);
    beat_o.useful_cols  = is_conv ? valid_out : SizeBits'(taps);
    // column i holds the tap `taps - 1 - i`: the newest word is in column 0
    for (int unsigned i = 0; i < DwTaps; i++) begin
      automatic logic signed [CoordBits-1:0] column;
      column = pos_q.ix + CoordBits'(taps) - CoordBits'(1) - CoordBits'(i);
      beat_o.tap_mask[i] = i < 32'(taps);
      beat_o.tap_pad[i]  = sliding && !(in_row && column >= 0 && column < CoordBits'(in_width));
    end
  end

  always_comb begin
    stripe_o            = '0;
    stripe_o.out_addr   = out_block_q + out_pix_q;
    stripe_o.out_part   = part_q | out_part;
    stripe_o.out_plane  = c.out_plane;
    stripe_o.groups     = 8'((valid_out + SizeBits'(ChannelBlock - 1)) >> $clog2(ChannelBlock));
    stripe_o.param_addr = param_q;
    stripe_o.reuse      = !block_first_q && valid_out <= SizeBits'(ChannelBlock);
    stripe_o.pixels     = 8'(stripe_pixels);
    stripe_o.bank       = bank_q;
    stripe_o.keep       = is_conv && c.keep;
    stripe_o.last       = last_stripe && last_block;
    stripe_o.single     = !is_add && c.single_rounding;
    stripe_o.zero_point = c.out_zero_point;
    stripe_o.act_min    = c.act_min;
    stripe_o.act_max    = c.act_max;
  end

  // ---------------------------------------------------------------- weight tiles
  logic [7:0] words;
  function automatic logic [7:0] tile_words(logic depthwise, logic [7:0] n);
    logic [7:0] w;
    w = words_of(Cols);
    if (depthwise) begin
      w = words_of(1);
      for (int unsigned i = 2; i <= DwTaps; i++) if (32'(n) == i) w = words_of(i);
    end
    return w;
  endfunction
  assign words        = tile_words(is_depthwise, taps);
  assign tile_valid_o = !is_vector && !(last_pass && last_stripe && last_block);
  assign tile_addr_o  = last_pass && !last_stripe ? tile_block_q : tile_q + LocalAddrBits'(words);
  assign tile_words_o = tile_words(is_depthwise, taps_next);
  assign first_tile_addr_o  = LocalAddrBits'(start_cmd.weight_base);
  assign first_tile_words_o = tile_words(start_cmd.opcode == OP_DEPTHWISE,
      start_cmd.slide ? 8'(least(SizeBits'(DwTaps), SizeBits'(start_cmd.kernel_w))) : 8'd1);

  // ---------------------------------------------------------------- state
  position_t start_pos;
  always_comb begin
    start_pos      = '0;
    start_pos.ix   = start_cmd.opcode == OP_ADD ? CoordBits'(0) : CoordBits'(signed'(start_cmd.in_column));
    start_pos.iy   = start_cmd.opcode == OP_ADD ? CoordBits'(0) : CoordBits'(signed'(start_cmd.in_row));
    start_pos.addr = start_add.in_base;
    start_pos.row  = start_add.in_base;
  end

  // where the next pass starts
  logic signed [CoordBits-1:0] load_ix, load_iy;
  logic signed [31:0] load_addr;
  logic [7:0] load_taps;
  assign load_ix   = start_i ? start_pos.ix : pass_d.ix;
  assign load_iy   = start_i ? start_pos.iy : pass_d.iy;
  assign load_addr = start_i ? start_pos.addr : pass_d.addr;
  assign load_taps = start_i ? 8'(least(SizeBits'(DwTaps), SizeBits'(start_cmd.kernel_w))) : taps_next;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      busy_q        <= 1'b0;
      c             <= '0;
      out_left_q    <= '0;
      in_left_q     <= '0;
      pix_left_q    <= '0;
      ky_q          <= '0;
      kx_q          <= '0;
      pixel_q       <= '0;
      phase_q       <= 1'b0;
      bank_q        <= 1'b0;
      pass_first_q  <= 1'b0;
      block_first_q <= 1'b0;
      part_q        <= '0;
      cb_addr_q     <= '0;
      ky_addr_q     <= '0;
      ky_row_q      <= '0;
      kx_col_q      <= '0;
      block_addr_q  <= '0;
      out_block_q   <= '0;
      out_pix_q     <= '0;
      param_q       <= '0;
      tile_q        <= '0;
      tile_block_q  <= '0;
      pos_q         <= '0;
      stripe_q      <= '0;
      after_q       <= '0;
    end else if (clear_i) begin
      busy_q <= 1'b0;
      bank_q <= 1'b0;
    end else if (start_i) begin
      busy_q        <= 1'b1;
      c             <= start_cmd;
      out_left_q    <= start_cmd.out_channels;
      in_left_q     <= start_cmd.in_channels;
      pix_left_q    <= start_cmd.out_pixels;
      ky_q          <= '0;
      kx_q          <= '0;
      pixel_q       <= '0;
      phase_q       <= 1'b0;
      pass_first_q  <= 1'b1;
      block_first_q <= 1'b1;
      part_q        <= '0;
      cb_addr_q     <= '0;
      ky_addr_q     <= '0;
      ky_row_q      <= '0;
      kx_col_q      <= '0;
      block_addr_q  <= start_add.in_base;
      out_block_q   <= LocalAddrBits'(start_cmd.out_base);
      out_pix_q     <= '0;
      param_q       <= LocalAddrBits'(start_cmd.param_base);
      tile_q        <= LocalAddrBits'(start_cmd.weight_base);
      tile_block_q  <= LocalAddrBits'(start_cmd.weight_base);
      pos_q         <= start_pos;
      stripe_q      <= start_pos;
      after_q       <= start_pos;
    end else if (go) begin
      pass_first_q <= end_of_pass;
      if (fire) begin
        pixel_q <= last_pixel ? '0 : pixel_q + 8'd1;
        pos_q   <= last_pixel ? pass_d : step;
        if (last_pixel && first_pass) after_q <= step;
      end
      if (end_of_pass) begin
        kx_q      <= last_kx ? '0 : kx_next;
        ky_q      <= !last_kx ? ky_q : last_ky ? '0 : ky_q + 8'd1;
        cb_addr_q <= cb_addr_d;
        ky_addr_q <= ky_addr_d;
        ky_row_q  <= ky_row_d;
        kx_col_q  <= kx_col_d;
        stripe_q  <= stripe_d;
        tile_q    <= tile_addr_o;
        if (last_kx && last_ky) begin
          in_left_q <= last_cb ? c.in_channels : in_left_q - SizeBits'(Rows);
          phase_q   <= is_add && !phase_q;
        end
        if (last_pass) begin
          if (!(is_conv && c.keep)) bank_q <= !bank_q;
          block_first_q <= last_stripe;
          pix_left_q    <= last_stripe ? c.out_pixels : pix_left_q - stripe_pixels;
          out_pix_q     <= last_stripe ? '0 : out_pix_q + LocalAddrBits'(stripe_pixels);
          if (last_stripe) begin
            busy_q       <= !last_block;
            out_left_q   <= out_left_q - block_channels;
            tile_block_q <= tile_addr_o;
            block_addr_q <= block_addr_d;
            param_q      <= param_q
                + (is_conv ? LocalAddrBits'(Cols / ChannelBlock) : is_depthwise ? LocalAddrBits'(Parts) : LocalAddrBits'(1))
                    * LocalAddrBits'(ParamGroupWords);
            if (is_vector) begin
              part_q <= part_q == MaxPartBits'(Parts - 1) ? '0 : part_q + MaxPartBits'(1);
              if (part_q == MaxPartBits'(Parts - 1)) out_block_q <= out_block_q + LocalAddrBits'(c.out_plane);
            end else begin
              out_block_q <= out_block_q
                  + LocalAddrBits'(c.out_plane) * (is_conv ? LocalAddrBits'(Cols / Rows) : LocalAddrBits'(1));
            end
          end
        end
      end
    end
  end

  // the stream of words: restarts with every pass, otherwise moves on one word per beat
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      word_ix_q   <= '0;
      word_iy_q   <= '0;
      word_addr_q <= '0;
      word_row_q  <= '0;
      need_q      <= '0;
    end else if (start_i || (go && end_of_pass)) begin
      word_ix_q   <= SizeBits'(first_word(load_ix));
      word_iy_q   <= load_iy;
      word_row_q  <= load_addr - 32'(load_ix);
      word_addr_q <= load_addr - 32'(load_ix) + 32'(first_word(load_ix));
      need_q      <= SizeBits'(CoordBits'(load_taps) - (first_word(load_ix) - load_ix));
    end else if (go) begin
      need_q <= !fire ? need_q - SizeBits'(1) : pos_q.ox == out_width - SizeBits'(1) ? c.row_advance : SizeBits'(stride_w);
      if (word_ix_q == in_width - SizeBits'(1)) begin
        word_ix_q   <= '0;
        word_iy_q   <= word_iy_q + CoordBits'(stride_h);
        word_addr_q <= word_row_q + 32'(in_row_step);
        word_row_q  <= word_row_q + 32'(in_row_step);
      end else begin
        word_ix_q   <= word_ix_q + SizeBits'(1);
        word_addr_q <= word_addr_q + 32'd1;
      end
    end
  end

  assign busy_o = busy_q;

  if (Rows % ChannelBlock != 0 || Cols % Rows != 0) begin : gen_ShapeIsWholeBlocks
    $fatal(1, "npu_agu: Rows must be a multiple of 16, Cols a multiple of Rows");
  end
  if (DwTaps < 1 || DwTaps > MaxTaps || DwTaps > Cols) begin : gen_TapsFitTheColumns
    $fatal(1, "npu_agu: DwTaps must be 1 to min(16, Cols)");
  end

  SlidingPassNeedsAWord : assert property (@(posedge clk_i) disable iff (!rst_ni) busy_q && sliding |-> need_q != '0)
  else $error("A sliding pass always needs at least one word before its next output.");

  PassHasPixels : assert property (@(posedge clk_i) disable iff (!rst_ni) busy_q |-> stripe_pixels != '0)
  else $error("A pass works on at least one pixel.");
endmodule
