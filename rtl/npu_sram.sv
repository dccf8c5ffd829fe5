// SPDX-License-Identifier: Apache-2.0
/// Memory with one read and one write port, as a two-port SRAM macro offers it.
///
/// Read data comes one cycle after `re_i` and stays until the next read. Reading and writing the same address in one
/// cycle returns the old word. The write port has one enable per lane. Contents are undefined after reset.
module npu_sram #(
  parameter  int unsigned WordBits = 128,   // bits
  parameter  int unsigned Depth    = 1024,  // words
  parameter  int unsigned LaneBits = 128,   // bits per write enable; divides WordBits
  localparam int unsigned AddrBits = Depth > 1 ? $clog2(Depth) : 1,
  localparam int unsigned Lanes    = WordBits / LaneBits
) (
  input  logic                clk_i,
  input  logic                re_i,
  input  logic [AddrBits-1:0] raddr_i,
  output logic [WordBits-1:0] rdata_o,
  input  logic [Lanes-1:0]    we_i,
  input  logic [AddrBits-1:0] waddr_i,
  input  logic [WordBits-1:0] wdata_i
);
  logic [WordBits-1:0] mem[Depth];

  always_ff @(posedge clk_i) begin
    if (re_i) rdata_o <= mem[raddr_i];
    for (int unsigned lane = 0; lane < Lanes; lane++) begin
      if (we_i[lane]) mem[waddr_i][lane*LaneBits+:LaneBits] <= wdata_i[lane*LaneBits+:LaneBits];
    end
  end

  if (WordBits % LaneBits != 0) begin : gen_LanesFillTheWord
    $fatal(1, "npu_sram: LaneBits must divide WordBits");
  end
endmodule
