// SPDX-License-Identifier: Apache-2.0
/// Compute engine: sequencer, array, accumulators, requantiser and drain.
///
///   cycle 0          1              2                3                  later
///   npu_agu beat --> operand -----> products ------> accumulate ------> npu_drain -> npu_requant -> scratchpad
///    (scratchpad     pad, reduce,   (npu_array)      (npu_acc)
///     read)          slide, swap    vector operators: (x - zero point) << left shift,
///                                   addition: through the requantiser, then accumulate
///
/// A beat goes when its weight tile is in the shadow registers (first beat of a pass), its accumulator bank is free
/// (first beat of a stripe) and no result is written to the bank of the scratchpad that it reads. The next command
/// starts as soon as the pipeline up to the accumulators is empty; its stripes queue behind those still being drained.
/// A command is done when its last word is in the scratchpad.
module npu_compute
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  int unsigned ABits       = 8,
  parameter  int unsigned WBits       = 8,
  parameter  int unsigned Rows        = 16,
  parameter  int unsigned Cols        = 16,
  parameter  int unsigned StripeDepth = 32,
  parameter  int unsigned Lanes       = 16,
  parameter  int unsigned DwTaps      = 5,
  parameter  int unsigned ActWords    = 4096,  // words of ROWS bytes
  parameter  int unsigned WeightWords = 1024,  // 32-byte words
  parameter  int unsigned ParamWords  = 256,   // 16-byte words
  parameter  bit          Structural  = 1'b0,  // array, accumulators and requantiser in the form that is synthesised
  localparam int unsigned Parts       = Rows / ChannelBlock,
  localparam int unsigned PartBits    = Parts > 1 ? $clog2(Parts) : 1,
  localparam int unsigned ActBits     = $clog2(ActWords),
  localparam int unsigned WeightBits  = $clog2(WeightWords),
  localparam int unsigned ParamBits   = $clog2(ParamWords)
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  input  logic                      clear_i,
  input  logic                      stop_i,
  // command
  input  logic                      start_valid_i,
  output logic                      start_ready_o,
  input  logic [CmdBits-1:0]        start_cmd_i,
  output logic                      start_illegal_o,
  output logic                      done_o,
  output state_e                    work_o,
  output logic                      error_o,
  output error_e                    error_cause_o,
  // activation scratchpad, data one cycle after the read
  output logic                      op_valid_o,
  input  logic                      op_ready_i,
  output logic [ActBits-1:0]        op_addr_o,
  input  logic [Rows*8-1:0]         op_data_i,
  output logic                      res_we_o,
  output logic [ActBits-1:0]        res_addr_o,
  output logic [PartBits-1:0]       res_part_o,
  output logic [WordBits-1:0]       res_data_o,
  // weight scratchpad, data one cycle after the read
  output logic                      weight_re_o,
  output logic [WeightBits-1:0]     weight_addr_o,
  input  logic [WeightWordBits-1:0] weight_data_i,
  // parameter scratchpad, data one cycle after the read
  output logic                      param_re_o,
  output logic [ParamBits-1:0]      param_addr_o,
  input  logic [WordBits-1:0]       param_data_i,
  // activity
  output logic                      mac_cycle_o,   // a multiplying command is in the engine
  output logic                      mac_beat_o,    // the array multiplies
  output logic [31:0]               useful_macs_o  // of this beat
);
  localparam int unsigned DepthBits = StripeDepth > 1 ? $clog2(StripeDepth) : 1;
  localparam int unsigned Slices = Cols / ChannelBlock;
  localparam int unsigned SliceBits = Slices > 1 ? $clog2(Slices) : 1;
  // Weights of up to 5 bits sum in 24 bits; the compiler proves it of every layer. The first slice has vector operators too.
  localparam int unsigned SliceAccBits = WBits <= 5 ? 24 : AccBits;

  // ---------------------------------------------------------------- command
  cmd_operator_t cmd;
  logic cmd_vector;
  assign cmd        = cmd_operator_t'(start_cmd_i);
  assign cmd_vector = cmd.opcode != OP_CONV && cmd.opcode != OP_DEPTHWISE;

  npu_operator_check #(
    .Rows       (Rows),
    .Cols       (Cols),
    .StripeDepth(StripeDepth),
    .DwTaps     (DwTaps)
  ) i_check (
    .cmd_i    (start_cmd_i),
    .illegal_o(start_illegal_o)
  );

  // ---------------------------------------------------------------- cycle 0: beats
  logic agu_busy, agu_valid, agu_start, tile_valid, beat_ready, beat_go;
  opcode_e opcode;
  beat_t beat, beat1_q, beat2_q;
  stripe_t stripe;
  logic [LocalAddrBits-1:0] tile_addr, first_tile_addr;
  logic [7:0] tile_words, first_tile_words;
  logic is_mac, is_add;
  logic valid1_q, valid2_q, valid3_q, fire3_q, stripe_last3_q, bank3_q;
  logic loader_ready, loader_error, drain_ready, drain_error, drain_done;
  logic [1:0] bank_full_q, bank_free;
  logic add_busy;  // operands of an addition are on their way to the accumulators
  logic pipe_empty;

  assign is_mac = opcode == OP_CONV || opcode == OP_DEPTHWISE;
  assign is_add = opcode == OP_ADD;
  assign pipe_empty = !valid1_q && !valid2_q && !valid3_q && !add_busy;
  assign start_ready_o = !agu_busy && pipe_empty && loader_ready;
  assign agu_start = start_valid_i && start_ready_o;

  npu_agu #(
    .Rows  (Rows),
    .Cols  (Cols),
    .WBits (WBits),
    .DwTaps(DwTaps)
  ) i_agu (
    .clk_i,
    .rst_ni,
    .clear_i,
    .start_i           (agu_start),
    .cmd_i             (start_cmd_i),
    .busy_o            (agu_busy),
    .opcode_o          (opcode),
    .valid_o           (agu_valid),
    .ready_i           (beat_go),
    .beat_o            (beat),
    .stripe_o          (stripe),
    .tile_valid_o      (tile_valid),
    .tile_addr_o       (tile_addr),
    .tile_words_o      (tile_words),
    .first_tile_addr_o (first_tile_addr),
    .first_tile_words_o(first_tile_words)
  );

  logic wait_tile, wait_bank, address_error, loader_error_q;
  assign wait_tile     = is_mac && beat.pass_first && !loader_ready;
  assign wait_bank     = beat.stripe_first && (bank_full_q[beat.bank] || !drain_ready);
  assign address_error = agu_valid && beat.read && beat.addr >= ActWords;
  assign beat_ready    = agu_valid && !wait_tile && !wait_bank && !address_error && !loader_error_q && !stop_i;
  assign beat_go       = beat_ready && (!beat.read || op_ready_i);

  assign op_valid_o = beat_ready && beat.read;
  assign op_addr_o  = beat.addr[ActBits-1:0];

  // The tile of the next pass is read behind this one; a command's first tile as soon as the command starts.
  logic next_tile, first_tile;
  assign next_tile  = beat_go && is_mac && beat.pass_first && tile_valid;
  assign first_tile = agu_start && !cmd_vector;

  logic word_valid;
  logic [7:0] word_index;
  npu_weight_loader #(
    .Words(WeightWords)
  ) i_loader (
    .clk_i,
    .rst_ni,
    .clear_i,
    .start_i     (next_tile || first_tile),
    .addr_i      (first_tile ? first_tile_addr : tile_addr),
    .words_i     (first_tile ? first_tile_words : tile_words),
    .ready_o     (loader_ready),
    .error_o     (loader_error),
    .re_o        (weight_re_o),
    .raddr_o     (weight_addr_o),
    .word_valid_o(word_valid),
    .word_index_o(word_index)
  );

  // ---------------------------------------------------------------- cycles 1 and 2: operands, products
  // slices of 16 columns (depthwise: rows) that have channels in a beat; a vector operator's are in the first
  function automatic logic [Slices-1:0] slices_of(opcode_e op, beat_t beat);
    logic [SizeBits-1:0] channels;
    channels = op == OP_CONV ? beat.useful_cols : op == OP_DEPTHWISE ? beat.useful_rows : '0;
    for (int unsigned s = 0; s < Slices; s++) slices_of[s] = s == 0 || channels > SizeBits'(s * ChannelBlock);
  endfunction

  logic [Slices-1:0] swap, slices, slices3_q;  // a depthwise pass's taps are in the first slice
  assign swap   = opcode == OP_CONV ? slices_of(opcode, beat1_q) : Slices'(1);
  assign slices = slices_of(opcode, beat2_q);

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      {valid1_q, valid2_q, valid3_q} <= '0;
      beat1_q  <= '0;
      beat2_q  <= '0;
      fire3_q        <= 1'b0;
      slices3_q      <= '0;
      stripe_last3_q <= 1'b0;
      bank3_q        <= 1'b0;
    end else if (clear_i) begin
      {valid1_q, valid2_q, valid3_q} <= '0;
    end else begin
      valid1_q <= beat_go;
      valid2_q <= valid1_q;
      valid3_q <= valid2_q;
      if (beat_go) beat1_q <= beat;
      if (valid1_q) beat2_q <= beat1_q;
      if (valid2_q) begin
        fire3_q        <= beat2_q.fire;
        slices3_q      <= slices;
        stripe_last3_q <= beat2_q.stripe_last;
        bank3_q        <= beat2_q.bank;
      end
    end
  end

  // the command's constants stay while its beats are in the pipeline: the next starts when it is empty
  cmd_operator_t c_q;
  cmd_add_t a_q;
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) c_q <= '0;
    else if (agu_start) c_q <= cmd;
  end
  assign a_q = cmd_add_t'(c_q);

  logic [Cols-1:0][31:0] sums;
  npu_array #(
    .Structural(Structural),
    .ABits     (ABits),
    .WBits     (WBits),
    .Rows      (Rows),
    .Cols      (Cols),
    .DwTaps    (DwTaps)
  ) i_array (
    .clk_i,
    .word_valid_i(word_valid),
    .word_index_i(word_index),
    .word_i      (weight_data_i),
    .swap_i      (swap & {Slices{valid1_q && is_mac && beat1_q.pass_first}}),
    .shift_i     (valid1_q && is_mac),
    .pad_i       (beat1_q.pad),
    .act_i       (op_data_i),
    .pad_value_i (c_q.pad_value),
    .mac_i       (valid2_q && is_mac && beat2_q.fire),
    .slice_i     (slices),
    .depthwise_i (opcode == OP_DEPTHWISE),
    .tap_mask_i  (beat2_q.tap_mask[DwTaps-1:0]),
    .tap_pad_i   (beat2_q.tap_pad[DwTaps-1:0]),
    .sum_o       (sums)
  );

  assign mac_cycle_o   = agu_busy && is_mac;
  assign mac_beat_o    = beat_go && is_mac;
  assign useful_macs_o = beat_go && is_mac && beat.fire ? 32'(beat.useful_rows) * 32'(beat.useful_cols) : '0;

  // vector operators: 16 channels of the word
  logic [ChannelBlock-1:0][7:0] lane_word;
  logic [ChannelBlock-1:0][AccBits-1:0] vector_q, vector3_q;
  logic [7:0] lane_zero_point;
  always_comb begin
    lane_word = op_data_i[WordBits-1:0];
    for (int unsigned part = 1; part < Parts; part++) begin
      if (beat1_q.part == MaxPartBits'(part)) lane_word = op_data_i[part*WordBits+:WordBits];
    end
    if (beat1_q.pad) lane_word = {ChannelBlock{c_q.pad_value}};
    lane_zero_point = !is_add ? 8'd0 : beat1_q.phase ? a_q.zero_point2 : a_q.zero_point1;
  end

  always_ff @(posedge clk_i) begin
    if (valid1_q && !is_mac) begin
      for (int unsigned l = 0; l < ChannelBlock; l++) begin
        vector_q[l] <= (AccBits'(signed'(lane_word[l])) - AccBits'(signed'(lane_zero_point)))
            << (opcode == OP_AVERAGE_POOL ? c_q.left_shift : 5'd0);
      end
    end
    if (valid2_q && !is_mac) vector3_q <= vector_q;
  end

  // ---------------------------------------------------------------- addition: operands are rescaled on their way
  logic [ChannelBlock-1:0][8:0] add_operand;
  logic [ChannelBlock-1:0][AccBits-1:0] add_sum;
  logic [7:0] add_shift;  // signed

  assign add_shift = beat2_q.phase ? a_q.shift2 : a_q.shift1;
  for (genvar l = 0; l < ChannelBlock; l++) begin : gen_operand
    assign add_operand[l] = vector_q[l][8:0];
  end

  npu_addition i_addition (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i     (valid2_q && is_add),
    .operand_i   (add_operand),
    .multiplier_i(beat2_q.phase ? a_q.multiplier2[AccBits-2:0] : a_q.multiplier1[AccBits-2:0]),
    .left_i      (a_q.left_shift + (add_shift[7] ? 5'd0 : add_shift[4:0])),
    .right_i     (add_shift[7] ? 5'(-add_shift) : 5'd0),
    .busy_o      (add_busy),
    .sum_o       (add_sum)
  );

  // where a rescaled operand goes: its place in cycles 3 and 4, the end of its stripe in cycle 5
  logic add4_q, add5_q, add_last5_q, add_bank5_q;
  place_t add_place3_q, add_place4_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      add4_q <= 1'b0;
      add5_q <= 1'b0;
    end else if (clear_i) begin
      add4_q <= 1'b0;
      add5_q <= 1'b0;
    end else begin
      add4_q <= valid3_q && is_add;
      add5_q <= add4_q;
    end
  end

  always_ff @(posedge clk_i) begin
    if (valid2_q && is_add) begin
      add_place3_q <= '{stripe_last: beat2_q.stripe_last, bank: beat2_q.bank, first: beat2_q.first, pixel: beat2_q.pixel};
    end
    if (valid3_q && is_add) add_place4_q <= add_place3_q;
    if (add4_q) begin
      add_last5_q <= add_place4_q.stripe_last;
      add_bank5_q <= add_place4_q.bank;
    end
  end

  // ---------------------------------------------------------------- requantiser
  localparam int unsigned TagBits = 1 + 1 + LocalAddrBits + PartBits;  // of a value: store, last, address, part
  logic drain_valid, drain_store, drain_last, result_valid, result_store, result_last;
  logic [LocalAddrBits-1:0] drain_addr, result_addr;
  logic [PartBits-1:0] drain_part, result_part;
  logic [Lanes-1:0][AccBits-1:0] drain_sum, drain_bias, drain_multiplier;
  logic [Lanes-1:0][7:0] drain_shift, result;
  logic drain_single;
  logic [7:0] drain_zero_point, drain_act_min, drain_act_max;

  npu_requant #(
    .Structural(Structural),
    .Lanes     (Lanes),
    .TagBits   (TagBits)
  ) i_requant (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i     (drain_valid),
    .tag_i       ({drain_store, drain_last, drain_addr, drain_part}),
    .sum_i       (drain_sum),
    .bias_i      (drain_bias),
    .multiplier_i(drain_multiplier),
    .shift_i     (drain_shift),
    .single_i    (drain_single),
    .zero_point_i(drain_zero_point),
    .act_min_i   (drain_act_min),
    .act_max_i   (drain_act_max),
    .valid_o     (result_valid),
    .tag_o       ({result_store, result_last, result_addr, result_part}),
    .data_o      (result)
  );

  // ---------------------------------------------------------------- cycles 2 and 3: accumulate
  logic acc_read, acc_bank, acc_first, acc_add;
  logic [PixelBits-1:0] acc_pixel;
  assign acc_read  = is_add ? add4_q : valid2_q && beat2_q.fire;
  assign acc_bank  = is_add ? add_place4_q.bank : beat2_q.bank;
  assign acc_first = is_add ? add_place4_q.first : beat2_q.first;
  assign acc_pixel = is_add ? add_place4_q.pixel : beat2_q.pixel;
  assign acc_add   = is_add ? add5_q : valid3_q && fire3_q;

  logic drain_re, drain_bank;
  logic [PixelBits-1:0] drain_pixel;
  logic [SliceBits-1:0] drain_slice, drain_group;
  logic [Slices-1:0][ChannelBlock-1:0][AccBits-1:0] slice_data;

  for (genvar s = 0; s < Slices; s++) begin : gen_acc
    logic [ChannelBlock-1:0][AccBits-1:0] value;
    // a vector operator's channels are in slice 0, a depthwise word's in the first ROWS columns
    if (s == 0) begin : gen_first
      assign value = is_add ? add_sum : is_mac ? sums[ChannelBlock-1:0] : vector3_q;
    end else begin : gen_other
      assign value = sums[s*ChannelBlock+:ChannelBlock];
    end
    npu_acc #(
      .Structural(Structural),
      .Depth     (StripeDepth),
      .Bits      (s == 0 ? AccBits : SliceAccBits)
    ) i_acc (
      .clk_i,
      .rst_ni,
      .read_i       (acc_read && (s == 0 || slices[s])),
      .bank_i       (acc_bank),
      .pixel_i      (acc_pixel[DepthBits-1:0]),
      .first_i      (acc_first),
      .add_i        (acc_add && (s == 0 || slices3_q[s])),
      .max_i        (opcode == OP_MAX_POOL),
      .value_i      (value),
      .drain_i      (drain_re && drain_slice == SliceBits'(s)),
      .drain_bank_i (drain_bank),
      .drain_pixel_i(drain_pixel[DepthBits-1:0]),
      .drain_o      (slice_data[s])
    );
  end

  // a bank is full when its stripe's last contribution is written
  logic handover, handover_bank;
  assign handover      = is_add ? add5_q && add_last5_q : valid3_q && stripe_last3_q;
  assign handover_bank = is_add ? add_bank5_q : bank3_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      bank_full_q <= '0;
    end else if (clear_i) begin
      bank_full_q <= '0;
    end else begin
      for (int b = 0; b < 2; b++) begin
        if (handover && handover_bank == 1'(b)) bank_full_q[b] <= 1'b1;
        else if (bank_free[b]) bank_full_q[b] <= 1'b0;
      end
    end
  end

  // ---------------------------------------------------------------- drain
  npu_drain #(
    .Rows      (Rows),
    .Cols      (Cols),
    .Lanes     (Lanes),
    .ActWords  (ActWords),
    .ParamWords(ParamWords)
  ) i_drain (
    .clk_i,
    .rst_ni,
    .clear_i,
    .stop_i,
    .stripe_valid_i      (beat_go && beat.stripe_first),
    .stripe_ready_o      (drain_ready),
    .stripe_i            (stripe),
    .bank_full_i         (bank_full_q),
    .bank_free_o         (bank_free),
    .done_o              (drain_done),
    .error_o             (drain_error),
    .param_re_o,
    .param_addr_o,
    .param_data_i,
    .acc_re_o            (drain_re),
    .acc_bank_o          (drain_bank),
    .acc_pixel_o         (drain_pixel),
    .acc_slice_o         (drain_slice),
    .acc_group_o         (drain_group),
    .acc_data_i          (slice_data[drain_group]),
    .requant_valid_o     (drain_valid),
    .requant_store_o     (drain_store),
    .requant_last_o      (drain_last),
    .requant_addr_o      (drain_addr),
    .requant_part_o      (drain_part),
    .requant_sum_o       (drain_sum),
    .requant_bias_o      (drain_bias),
    .requant_multiplier_o(drain_multiplier),
    .requant_shift_o     (drain_shift),
    .requant_single_o    (drain_single),
    .requant_zero_point_o(drain_zero_point),
    .requant_act_min_o   (drain_act_min),
    .requant_act_max_o   (drain_act_max),
    .result_valid_i      (result_valid),
    .result_store_i      (result_store),
    .result_last_i       (result_last),
    .result_addr_i       (result_addr),
    .result_part_i       (result_part),
    .result_i            (result),
    .write_o             (res_we_o),
    .write_addr_o        (res_addr_o),
    .write_part_o        (res_part_o),
    .write_data_o        (res_data_o)
  );

  // ---------------------------------------------------------------- status
  assign done_o        = drain_done;
  // The sequencer works on the newest command: its errors wait until the commands before are complete.
  logic [2:0] commands_q;
  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      commands_q     <= '0;
      loader_error_q <= 1'b0;
    end else if (clear_i) begin
      commands_q     <= '0;
      loader_error_q <= 1'b0;
    end else begin
      commands_q <= commands_q + 3'(agu_start) - 3'(drain_done);
      if (loader_error) loader_error_q <= 1'b1;
    end
  end
  assign error_o       = ((address_error || loader_error_q) && commands_q == 3'd1 && !stop_i) || drain_error;
  assign error_cause_o = ERROR_SCRATCHPAD_RANGE;

  always_comb begin
    if (beat_go) work_o = STATE_RUN;
    else if (agu_valid && wait_tile) work_o = STATE_WAIT_MEMORY;
    else work_o = STATE_WAIT_DRAIN;
  end

  if (StripeDepth < 1 || StripeDepth > 255) begin : gen_StripeFitsItsField
    $fatal(1, "npu_compute: StripeDepth must be 1 to 255");
  end

  BankHandedOverIsEmpty : assert property (@(posedge clk_i) disable iff (!rst_ni)
      handover |-> !bank_full_q[handover_bank])
  else $error("A bank is handed over only when the drain has emptied it.");
endmodule
