// SPDX-License-Identifier: Apache-2.0
/// Scratchpad with one reader, which is always served, and one writer, on interleaved banks of single-port SRAM.
///
/// The writer gets the banks that the reader leaves free (`write_ready_o`). Words are interleaved, so that a reader that goes
/// through them in their order leaves the writer's bank in the next cycle. Read data comes one cycle after the request.
/// Addresses must lie inside (the requesters check).
module npu_banked_spm #(
  parameter  int unsigned WordBits = 256,
  parameter  int unsigned Words    = 1024,  // a multiple of Banks
  parameter  int unsigned LaneBits = 128,   // bits per write enable; divides WordBits
  parameter  int unsigned Banks    = 2,     // a power of two; 1: the writer waits for every read
  localparam int unsigned Lanes    = WordBits / LaneBits,
  localparam int unsigned AddrBits = $clog2(Words),
  localparam int unsigned BankBits = Banks > 1 ? $clog2(Banks) : 1
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  // read
  input  logic                re_i,
  input  logic [AddrBits-1:0] raddr_i,
  output logic [WordBits-1:0] rdata_o,
  // write
  input  logic                write_valid_i,
  output logic                write_ready_o,
  input  logic [Lanes-1:0]    we_i,
  input  logic [AddrBits-1:0] waddr_i,
  input  logic [WordBits-1:0] wdata_i
);
  localparam int unsigned RowBits = $clog2(Banks);  // address bits that choose the bank
  localparam int unsigned Depth = Words / Banks;
  localparam int unsigned DepthBits = Depth > 1 ? $clog2(Depth) : 1;

  logic [BankBits-1:0] read_bank, write_bank, read_bank_q;
  logic [Banks-1:0][WordBits-1:0] rdata;

  assign read_bank     = Banks > 1 ? BankBits'(raddr_i) : '0;
  assign write_bank    = Banks > 1 ? BankBits'(waddr_i) : '0;
  assign write_ready_o = !(re_i && read_bank == write_bank);

  for (genvar b = 0; b < Banks; b++) begin : gen_bank
    logic read, write;
    assign read  = re_i && read_bank == BankBits'(b);
    assign write = write_valid_i && write_ready_o && write_bank == BankBits'(b);

    npu_sram #(
      .WordBits(WordBits),
      .Depth   (Depth),
      .LaneBits(LaneBits)
    ) i_sram (
      .clk_i,
      .valid_i(read || write),
      .we_i   (write ? we_i : '0),
      .addr_i (DepthBits'((read ? raddr_i : waddr_i) >> RowBits)),
      .wdata_i,
      .rdata_o(rdata[b])
    );
  end

  always_ff @(posedge clk_i) begin
    if (re_i) read_bank_q <= read_bank;
  end

  assign rdata_o = rdata[read_bank_q];

  if (Words % Banks != 0) begin : gen_WordsFillTheBanks
    $fatal(1, "npu_banked_spm: Words must be a multiple of Banks");
  end

  ReadInside : assert property (@(posedge clk_i) disable iff (!rst_ni) re_i |-> 32'(raddr_i) < Words)
  else $error("A word is read inside the scratchpad: its reader checks the address.");

  WriteInside : assert property (@(posedge clk_i) disable iff (!rst_ni) write_valid_i |-> 32'(waddr_i) < Words)
  else $error("A word is written inside the scratchpad: the load engine checks its address.");
endmodule
