// SPDX-License-Identifier: Apache-2.0
/// Memory with one port to read or write, as a single-port SRAM macro offers it.
///
/// An access (`valid_i`) reads a word, or with any bit of `we_i` writes those lanes. Read data comes one cycle later and stays
/// until the next read. Contents are undefined after reset.
module npu_sram #(
  parameter  int unsigned WordBits = 128,   // bits
  parameter  int unsigned Depth    = 1024,  // words
  parameter  int unsigned LaneBits = 128,   // bits per write enable; divides WordBits
  localparam int unsigned AddrBits = Depth > 1 ? $clog2(Depth) : 1,
  localparam int unsigned Lanes    = WordBits / LaneBits
) (
  input  logic                clk_i,
  input  logic                valid_i,
  input  logic [Lanes-1:0]    we_i,
  input  logic [AddrBits-1:0] addr_i,
  input  logic [WordBits-1:0] wdata_i,
  output logic [WordBits-1:0] rdata_o
);
  logic [WordBits-1:0] mem[Depth];

  always_ff @(posedge clk_i) begin
    if (valid_i) begin
      if (we_i == '0) rdata_o <= mem[addr_i];
      for (int unsigned lane = 0; lane < Lanes; lane++) begin
        if (we_i[lane]) mem[addr_i][lane*LaneBits+:LaneBits] <= wdata_i[lane*LaneBits+:LaneBits];
      end
    end
  end

  if (WordBits % LaneBits != 0) begin : gen_LanesFillTheWord
    $fatal(1, "npu_sram: LaneBits must divide WordBits");
  end
endmodule
