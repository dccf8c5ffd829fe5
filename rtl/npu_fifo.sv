// SPDX-License-Identifier: Apache-2.0
/// First-in first-out queue.
///
/// Valid/ready on both sides, in any combination; one cycle from input to output; no combinational path from input to
/// output. `clear_i` empties it.
module npu_fifo #(
  parameter int unsigned Width = 32,  // bits
  parameter int unsigned Depth = 4    // entries, 1 or more
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             clear_i,
  // in
  input  logic             valid_i,
  output logic             ready_o,
  input  logic [Width-1:0] data_i,
  // out
  output logic             valid_o,
  input  logic             ready_i,
  output logic [Width-1:0] data_o
);
  localparam int unsigned PtrBits = Depth > 1 ? $clog2(Depth) : 1;
  localparam logic [PtrBits-1:0] Last = PtrBits'(Depth - 1);
  localparam int unsigned CountBits = $clog2(Depth + 1);

  logic [Width-1:0] mem_q[Depth];
  logic [PtrBits-1:0] write_q, read_q;
  logic [CountBits-1:0] count_q;
  logic push, pop;

  assign ready_o = count_q != CountBits'(Depth);
  assign valid_o = count_q != '0;
  assign data_o  = mem_q[read_q];
  assign push    = valid_i && ready_o;
  assign pop     = valid_o && ready_i;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      write_q <= '0;
      read_q  <= '0;
      count_q <= '0;
    end else if (clear_i) begin
      write_q <= '0;
      read_q  <= '0;
      count_q <= '0;
    end else begin
      if (push) write_q <= write_q == Last ? '0 : write_q + 1'b1;
      if (pop) read_q <= read_q == Last ? '0 : read_q + 1'b1;
      count_q <= count_q + CountBits'(push) - CountBits'(pop);
    end
  end

  always_ff @(posedge clk_i) begin
    if (push) mem_q[write_q] <= data_i;
  end

  if (Depth < 1) begin : gen_DepthIsPositive
    $fatal(1, "npu_fifo: Depth must be at least 1");
  end

  CountWithinDepth : assert property (@(posedge clk_i) disable iff (!rst_ni) 32'(count_q) <= Depth)
  else $error("The count stays within the storage: pointers and count agree.");
endmodule
