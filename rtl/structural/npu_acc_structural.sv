// SPDX-License-Identifier: Apache-2.0
/// Accumulators of 16 columns, composed of the blocks that are synthesised; cycle for cycle like npu_acc_behavioural.
module npu_acc_structural
  import npu_pkg::*;
  import npu_compute_pkg::*;
#(
  parameter  int unsigned Depth    = 32,       // pixels, up to 256
  parameter  int unsigned Bits     = AccBits,  // of an accumulator, up to 32
  localparam int unsigned AddrBits = Depth > 1 ? $clog2(Depth) : 1
) (
  input  logic                                 clk_i,
  input  logic                                 rst_ni,
  // first cycle
  input  logic                                 read_i,
  input  logic                                 bank_i,
  input  logic [AddrBits-1:0]                  pixel_i,
  input  logic                                 first_i,
  // second cycle
  input  logic                                 add_i,
  input  logic                                 max_i,
  input  logic [ChannelBlock-1:0][AccBits-1:0] value_i,
  // drain
  input  logic                                 drain_i,
  input  logic                                 drain_bank_i,
  input  logic [AddrBits-1:0]                  drain_pixel_i,
  output logic [ChannelBlock-1:0][AccBits-1:0] drain_o
);
  localparam int unsigned Columns = 4;  // that share a block

  logic bank_q, first_q, drain_bank_q;
  logic [AddrBits-1:0] pixel_q;
  logic [Depth-1:0] read_select, drain_select, write_select_q;
  logic [1:0] read, drain, forward;
  logic [1:0][Depth-1:0] select;

  assign read_select  = Depth'(1) << pixel_i;
  assign drain_select = Depth'(1) << drain_pixel_i;

  for (genvar b = 0; b < 2; b++) begin : gen_bank
    assign drain[b]   = drain_i && drain_bank_i == 1'(b);
    assign read[b]    = drain[b] || (read_i && !first_i && bank_i == 1'(b));
    // what is written in this cycle is not in its register yet
    assign forward[b] = !drain[b] && add_i && bank_q == 1'(b) && pixel_q == pixel_i;
    assign select[b]  = (drain[b] ? drain_select : read_select) & {Depth{read[b]}};
  end

  always_ff @(posedge clk_i) begin
    if (read_i) begin
      bank_q         <= bank_i;
      pixel_q        <= pixel_i;
      first_q        <= first_i;
      write_select_q <= read_select;
    end
    if (drain_i) drain_bank_q <= drain_bank_i;
  end

  for (genvar c = 0; c < ChannelBlock; c += Columns) begin : gen_columns
    logic [Columns-1:0][Bits-1:0] value, sums;

    for (genvar i = 0; i < Columns; i++) begin : gen_column
      assign value[i]     = value_i[c+i][Bits-1:0];
      assign drain_o[c+i] = AccBits'(signed'(sums[i]));
    end

    npu_acc_columns #(
      .Columns(Columns),
      .Bits   (Bits),
      .Depth  (Depth)
    ) i_columns (
      .clk_i,
      .read_i        (read),
      .select_i      (select),
      .forward_i     (forward),
      .bank_i        (bank_q),
      .write_select_i(write_select_q),
      .first_i       (first_q),
      .add_i,
      .max_i,
      .value_i       (value),
      .drain_bank_i  (drain_bank_q),
      .drain_o       (sums)
    );
  end

  BankIsDrainedOrSummedInto : assert property (@(posedge clk_i) disable iff (!rst_ni)
      drain_i && read_i |-> drain_bank_i != bank_i)
  else $error("A bank is drained while the other is summed into: each has one read port.");
endmodule
