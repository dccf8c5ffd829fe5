// SPDX-License-Identifier: Apache-2.0
/// Empties accumulator banks: reads the sums, sends them through the requantiser and writes int8 to the scratchpad.
///
///   stripe -> parameters of the next group (9 words, ahead) -.
///          -> accumulators, one pixel and group per 16/Lanes cycles -> requantiser -> 16-byte word -> scratchpad
///
/// Groups of 16 channels one after the other, all pixels of the stripe in each: the result of a group is contiguous. Stripes are
/// announced when the array begins them (so that parameters are read ahead) and start when `bank_full_i` says that their
/// bank is complete. `done_o` pulses when the last word of a command is written.
module npu_drain
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  int unsigned Rows       = 16,
  parameter  int unsigned Cols       = 16,
  parameter  int unsigned Lanes      = 16,    // divides 16
  parameter  int unsigned ActWords   = 8192,  // words of ROWS bytes
  parameter  int unsigned ParamWords = 1024,  // 16-byte words
  localparam int unsigned Parts      = Rows / ChannelBlock,
  localparam int unsigned PartBits   = Parts > 1 ? $clog2(Parts) : 1,
  localparam int unsigned Groups     = Cols / ChannelBlock,
  localparam int unsigned GroupBits  = Groups > 1 ? $clog2(Groups) : 1,
  localparam int unsigned ActBits    = $clog2(ActWords),
  localparam int unsigned ParamBits  = $clog2(ParamWords)
) (
  input  logic                                 clk_i,
  input  logic                                 rst_ni,
  input  logic                                 clear_i,
  input  logic                                 stop_i,
  // stripes
  input  logic                                 stripe_valid_i,
  output logic                                 stripe_ready_o,
  input  stripe_t                              stripe_i,
  input  logic [1:0]                           bank_full_i,
  output logic [1:0]                           bank_free_o,      // pulse: the bank has been read
  output logic                                 done_o,
  output logic                                 error_o,
  // parameters, data one cycle after the request
  output logic                                 param_re_o,
  output logic [ParamBits-1:0]                 param_addr_o,
  input  logic [WordBits-1:0]                  param_data_i,
  // accumulators, data one cycle after the request
  output logic                                 acc_re_o,
  output logic                                 acc_bank_o,
  output logic [7:0]                           acc_pixel_o,
  output logic [GroupBits-1:0]                 acc_slice_o,      // with the request: whose sums these are
  output logic [GroupBits-1:0]                 acc_group_o,      // with the data
  input  logic [ChannelBlock-1:0][AccBits-1:0] acc_data_i,
  // requantiser
  output logic                                 requant_valid_o,
  output logic                                 requant_store_o,  // tag: ends a 16-byte word
  output logic                                 requant_last_o,   // tag: ends a command
  output logic [LocalAddrBits-1:0]             requant_addr_o,   // tag
  output logic [PartBits-1:0]                  requant_part_o,   // tag
  output logic [Lanes-1:0][AccBits-1:0]        requant_sum_o,
  output logic [Lanes-1:0][AccBits-1:0]        requant_bias_o,
  output logic [Lanes-1:0][AccBits-1:0]        requant_multiplier_o,
  output logic [Lanes-1:0][7:0]                requant_shift_o,
  output logic                                 requant_single_o,
  output logic [7:0]                           requant_zero_point_o,
  output logic [7:0]                           requant_act_min_o,
  output logic [7:0]                           requant_act_max_o,
  // results, with their tags
  input  logic                                 result_valid_i,
  input  logic                                 result_store_i,
  input  logic                                 result_last_i,
  input  logic [LocalAddrBits-1:0]             result_addr_i,
  input  logic [PartBits-1:0]                  result_part_i,
  input  logic [Lanes-1:0][7:0]                result_i,
  // activation scratchpad
  output logic                                 write_o,
  output logic [ActBits-1:0]                   write_addr_o,
  output logic [PartBits-1:0]                  write_part_o,
  output logic [WordBits-1:0]                  write_data_o
);
  localparam int unsigned Subs = ChannelBlock / Lanes;  // cycles for a channel block
  localparam int unsigned SubBits = Subs > 1 ? $clog2(Subs) : 1;
  localparam int unsigned MultiplierBase = ChannelBlock * AccBits;  // bits of a group's parameters: biases, multipliers, shifts
  localparam int unsigned ShiftBase = 2 * ChannelBlock * AccBits;

  // ---------------------------------------------------------------- stripes, for the parameter loader and the reader
  logic ahead_ready, ahead_valid, ahead_pop, now_ready, now_valid, now_pop;
  stripe_t now;
  logic [LocalAddrBits-1:0] ahead_param;
  logic [7:0] ahead_groups;
  logic ahead_skip;

  assign stripe_ready_o = ahead_ready && now_ready;

  npu_fifo #(
    .Width(1 + 8 + LocalAddrBits),
    .Depth(2)
  ) i_ahead (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i(stripe_valid_i && stripe_ready_o),
    .ready_o(ahead_ready),
    .data_i ({stripe_i.keep || stripe_i.reuse, stripe_i.groups, stripe_i.param_addr}),
    .valid_o(ahead_valid),
    .ready_i(ahead_pop),
    .data_o ({ahead_skip, ahead_groups, ahead_param})
  );

  npu_fifo #(
    .Width($bits(stripe_t)),
    .Depth(2)
  ) i_now (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i(stripe_valid_i && stripe_ready_o),
    .ready_o(now_ready),
    .data_i (stripe_i),
    .valid_o(now_valid),
    .ready_i(now_pop),
    .data_o (now)
  );

  // ---------------------------------------------------------------- parameters: two sets, filled in turn
  logic [1:0][ParamGroupWords*WordBits-1:0] set_q;
  logic [1:0] set_full_q;          // filled, or in use: the current set always is
  logic fill_q;                    // set to fill next
  logic [3:0] word_q, arrive_q;    // word to read next; word that arrives
  logic [7:0] group_ahead_q;
  logic [LocalAddrBits-1:0] param_addr_q;       // offset from the stripe's first word
  logic reading, arrive_valid_q, arrive_set_q, param_range;
  logic [LocalAddrBits-1:0] param_addr;
  logic take;                      // the reader goes on to the next set
  logic current_q;

  assign reading     = ahead_valid && !ahead_skip && !set_full_q[fill_q] && !stop_i;
  assign param_addr  = ahead_param + param_addr_q;
  assign param_range = 32'(param_addr) < ParamWords;
  assign param_re_o  = reading && param_range;
  assign param_addr_o = param_addr[ParamBits-1:0];
  assign ahead_pop   = ahead_valid
      && (ahead_skip || (param_re_o && word_q == 4'(ParamGroupWords - 1) && group_ahead_q == ahead_groups - 8'd1));

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      set_full_q     <= 2'b10;  // the set that counts as current is not filled
      fill_q         <= 1'b0;
      current_q      <= 1'b1;
      word_q         <= '0;
      arrive_q       <= '0;
      arrive_valid_q <= 1'b0;
      arrive_set_q   <= 1'b0;
      group_ahead_q  <= '0;
      param_addr_q   <= '0;
    end else if (clear_i) begin
      set_full_q     <= 2'b10;
      fill_q         <= 1'b0;
      current_q      <= 1'b1;
      word_q         <= '0;
      arrive_valid_q <= 1'b0;
      group_ahead_q  <= '0;
      param_addr_q   <= '0;
    end else begin
      arrive_valid_q <= param_re_o;
      arrive_q       <= word_q;
      arrive_set_q   <= fill_q;
      if (take) begin
        set_full_q[current_q] <= 1'b0;
        current_q             <= !current_q;
      end
      if (param_re_o) begin
        param_addr_q <= ahead_pop ? '0 : param_addr_q + LocalAddrBits'(1);
        if (word_q == 4'(ParamGroupWords - 1)) begin
          word_q             <= '0;
          fill_q             <= !fill_q;
          set_full_q[fill_q] <= 1'b1;  // its last word arrives before the first sums that need it
          group_ahead_q      <= ahead_pop ? '0 : group_ahead_q + 8'd1;
        end else begin
          word_q <= word_q + 4'd1;
        end
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (arrive_valid_q) begin
      for (int unsigned w = 0; w < ParamGroupWords; w++) begin
        if (arrive_q == 4'(w)) set_q[arrive_set_q][w*WordBits+:WordBits] <= param_data_i;
      end
    end
  end

  // ---------------------------------------------------------------- read the sums
  logic [7:0] group_q, pixel_q;
  logic [SubBits-1:0] sub_q;
  logic [LocalAddrBits-1:0] group_addr_q, out_addr;
  logic [MaxPartBits-1:0] group_part_q, part;
  logic issue, first_of_group, set_ready, last_sub, last_pixel, last_group, out_range, keep_done;
  logic [3:0] in_pipe_q;  // words between the accumulators and the scratchpad

  assign last_sub       = sub_q == SubBits'(Subs - 1);
  assign last_pixel     = pixel_q == now.pixels - 8'd1;
  assign last_group     = group_q == now.groups - 8'd1;
  assign first_of_group = pixel_q == '0 && sub_q == '0;
  assign set_ready      = !first_of_group || (group_q == '0 && now.reuse) || set_full_q[!current_q];
  assign out_addr       = now.out_addr + group_addr_q + LocalAddrBits'(pixel_q);
  assign part           = group_part_q + now.out_part;
  assign out_range      = 32'(out_addr) < ActWords;
  assign issue          = now_valid && !now.keep && bank_full_i[now.bank] && set_ready && out_range && !stop_i;
  assign take           = issue && first_of_group && !(group_q == '0 && now.reuse);
  assign keep_done      = now_valid && now.keep && bank_full_i[now.bank] && in_pipe_q == '0 && !stop_i;
  assign now_pop        = (issue && last_sub && last_pixel && last_group) || keep_done;
  // errors count when all words before are written: the command is then the oldest
  assign error_o        = now_valid && !now.keep && bank_full_i[now.bank] && in_pipe_q == '0 && !stop_i
      && (!out_range || (!set_ready && reading && !param_range));

  assign acc_re_o    = issue && sub_q == '0;
  assign acc_bank_o  = now.bank;
  assign acc_pixel_o = pixel_q;
  assign acc_slice_o = GroupBits'(group_q);

  always_comb begin
    bank_free_o = '0;
    bank_free_o[now.bank] = now_pop;
  end

  // one cycle later: the sums, and what belongs to them
  logic sum_valid_q, sum_store_q, sum_last_q, sum_set_q, sum_single_q;
  logic [SubBits-1:0] sum_sub_q;
  logic [GroupBits-1:0] sum_group_q;
  logic [LocalAddrBits-1:0] sum_addr_q;
  logic [PartBits-1:0] sum_part_q;
  logic [7:0] sum_zero_point_q, sum_act_min_q, sum_act_max_q;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      group_q          <= '0;
      pixel_q          <= '0;
      sub_q            <= '0;
      group_addr_q     <= '0;
      group_part_q     <= '0;
      in_pipe_q        <= '0;
      sum_valid_q      <= 1'b0;
      sum_store_q      <= 1'b0;
      sum_last_q       <= 1'b0;
      sum_set_q        <= 1'b0;
      sum_sub_q        <= '0;
      sum_group_q      <= '0;
      sum_addr_q       <= '0;
      sum_part_q       <= '0;
      sum_single_q     <= 1'b0;
      sum_zero_point_q <= '0;
      sum_act_min_q    <= '0;
      sum_act_max_q    <= '0;
    end else if (clear_i) begin
      group_q      <= '0;
      pixel_q      <= '0;
      sub_q        <= '0;
      group_addr_q <= '0;
      group_part_q <= '0;
      in_pipe_q    <= '0;
      sum_valid_q  <= 1'b0;
    end else begin
      in_pipe_q   <= in_pipe_q + 4'(issue && last_sub) - 4'(write_o);
      sum_valid_q <= issue;
      if (issue) begin
        sum_store_q      <= last_sub;
        sum_last_q       <= now.last && last_sub && last_pixel && last_group;
        sum_set_q        <= take ? !current_q : current_q;
        sum_sub_q        <= sub_q;
        sum_group_q      <= GroupBits'(group_q);
        sum_addr_q       <= out_addr;
        sum_part_q       <= PartBits'(part);
        sum_single_q     <= now.single;
        sum_zero_point_q <= now.zero_point;
        sum_act_min_q    <= now.act_min;
        sum_act_max_q    <= now.act_max;
        sub_q            <= last_sub ? '0 : sub_q + 1'b1;
        if (last_sub) begin
          pixel_q <= last_pixel ? '0 : pixel_q + 8'd1;
          if (last_pixel) begin
            group_q <= last_group ? '0 : group_q + 8'd1;
            if (last_group) begin
              group_addr_q <= '0;
              group_part_q <= '0;
            end else if (part == MaxPartBits'(Parts - 1)) begin
              group_addr_q <= group_addr_q + LocalAddrBits'(now.out_plane);
              group_part_q <= MaxPartBits'(0) - now.out_part;
            end else begin
              group_part_q <= group_part_q + MaxPartBits'(1);
            end
          end
        end
      end
    end
  end

  assign acc_group_o          = sum_group_q;
  assign requant_valid_o      = sum_valid_q;
  assign requant_store_o      = sum_store_q;
  assign requant_last_o       = sum_last_q;
  assign requant_addr_o       = sum_addr_q;
  assign requant_part_o       = sum_part_q;
  assign requant_single_o     = sum_single_q;
  assign requant_zero_point_o = sum_zero_point_q;
  assign requant_act_min_o    = sum_act_min_q;
  assign requant_act_max_o    = sum_act_max_q;

  always_comb begin
    for (int unsigned l = 0; l < Lanes; l++) begin
      requant_sum_o[l]        = '0;
      requant_bias_o[l]       = '0;
      requant_multiplier_o[l] = '0;
      requant_shift_o[l]      = '0;
      for (int unsigned s = 0; s < Subs; s++) begin
        if (sum_sub_q == SubBits'(s)) begin
          requant_sum_o[l]        = acc_data_i[s*Lanes+l];
          requant_bias_o[l]       = set_q[sum_set_q][AccBits*(s*Lanes+l)+:AccBits];
          requant_multiplier_o[l] = set_q[sum_set_q][MultiplierBase+AccBits*(s*Lanes+l)+:AccBits];
          requant_shift_o[l]      = set_q[sum_set_q][ShiftBase+8*(s*Lanes+l)+:8];
        end
      end
    end
  end

  // ---------------------------------------------------------------- collect 16 channels and write them
  if (Subs == 1) begin : gen_whole
    assign write_data_o = result_i;
  end else begin : gen_collect
    logic [WordBits-Lanes*8-1:0] earlier_q;
    always_ff @(posedge clk_i) begin
      if (result_valid_i) earlier_q <= (WordBits - Lanes * 8)'({result_i, earlier_q} >> (Lanes * 8));
    end
    assign write_data_o = {result_i, earlier_q};
  end

  assign write_o      = result_valid_i && result_store_i;
  assign write_addr_o = result_addr_i[ActBits-1:0];
  assign write_part_o = result_part_i;
  assign done_o       = (write_o && result_last_i) || (keep_done && now.last);

  if (ChannelBlock % Lanes != 0 || Cols % ChannelBlock != 0) begin : gen_LanesDivideABlock
    $fatal(1, "npu_drain: Lanes must divide 16, and 16 divide Cols");
  end

  CurrentSetStaysFull : assert property (@(posedge clk_i) disable iff (!rst_ni) set_full_q[current_q])
  else $error("The current set stays as it is while it is in use.");

  SetTakenIsFull : assert property (@(posedge clk_i) disable iff (!rst_ni) take |-> set_full_q[!current_q])
  else $error("The reader goes on only to a set of parameters that is filled.");
endmodule
