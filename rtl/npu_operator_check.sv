// SPDX-License-Identifier: Apache-2.0
/// Says whether the fields of an operator command are out of range. Combinational; the opcode has been checked.
module npu_operator_check
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter int unsigned Rows        = 16,
  parameter int unsigned Cols        = 16,
  parameter int unsigned StripeDepth = 64,
  parameter int unsigned DwTaps      = 5
) (
  input  logic [CmdBits-1:0] cmd_i,
  output logic               illegal_o
);
  cmd_operator_t cmd;
  cmd_add_t add;
  assign cmd = cmd_operator_t'(cmd_i);
  assign add = cmd_add_t'(cmd_i);

  // whether an addition can rescale an operand so: see npu_addition
  function automatic logic rescales(logic negative, logic [7:0] shift, logic [4:0] left_shift);
    logic signed [8:0] left;
    left = 9'(signed'(shift)) + 9'(left_shift);
    return !negative && (shift[7] ? signed'(shift) >= -8'sd31 && left_shift <= 5'd23 : left <= 9'sd23);
  endfunction

  // a part other than the first: of words that have it, for channels that fit it, and not of what the array reads
  logic [MaxPartBits-1:0] in_part, in2_part, out_part;
  logic illegal_part;
  assign in_part  = cmd.opcode == OP_ADD ? add.in_part : cmd.in_part;
  assign in2_part = cmd.opcode == OP_ADD ? add.in2_part : '0;
  assign out_part = cmd.opcode == OP_ADD ? add.out_part : cmd.out_part;
  assign illegal_part = 32'(in_part) >= Rows / ChannelBlock || 32'(in2_part) >= Rows / ChannelBlock
      || 32'(out_part) >= Rows / ChannelBlock
      || ((in_part != '0 || in2_part != '0 || out_part != '0) && 32'(cmd.out_channels) > ChannelBlock)
      || (in_part != '0 && (cmd.opcode == OP_CONV || cmd.opcode == OP_DEPTHWISE));

  always_comb begin
    illegal_o = illegal_part || cmd.out_channels == '0 || cmd.out_pixels == '0
        || cmd.stripe_pixels == '0 || 32'(cmd.stripe_pixels) > StripeDepth;
    if (cmd.opcode != OP_ADD) begin
      if (cmd.in_height == '0 || cmd.in_width == '0 || cmd.in_channels == '0 || cmd.kernel_h == '0
          || cmd.kernel_w == '0 || cmd.stride_h == '0 || cmd.stride_w == '0 || cmd.dilation_h == '0
          || cmd.dilation_w == '0 || cmd.out_width == '0) begin
        illegal_o = 1'b1;
      end
      // sliding: the first output of a row needs at least one word of the row
      if (cmd.slide && (cmd.opcode != OP_DEPTHWISE || cmd.dilation_w != 8'd1 || cmd.row_advance == '0
          || 32'(signed'(cmd.in_column)) + signed'(32'(cmd.kernel_w)) <= 0
          || 32'(signed'(cmd.in_column)) + signed'(32'(DwTaps)) <= 0
          // ... and the first tap of every pass lies in its row
          || 32'(signed'(cmd.in_column)) + signed'((32'(cmd.kernel_w) - 32'd1) / DwTaps * DwTaps)
              >= signed'(32'(cmd.row_advance)))) begin
        illegal_o = 1'b1;
      end
      if ((cmd.accumulate || cmd.keep) && (cmd.opcode != OP_CONV || cmd.out_pixels > SizeBits'(cmd.stripe_pixels)
          || 32'(cmd.out_channels) > Cols)) begin
        illegal_o = 1'b1;
      end
    end else if (!rescales(add.multiplier1[31], add.shift1, add.left_shift)
        || !rescales(add.multiplier2[31], add.shift2, add.left_shift)) begin
      illegal_o = 1'b1;
    end
  end
endmodule
