// SPDX-License-Identifier: Apache-2.0
/// Scratchpad with one reader, which is always served, and one writer, on interleaved banks of single-port SRAM.
///
/// The writer gets the banks that the reader leaves free (`write_ready_o`). Words are interleaved, so that a reader that goes
/// through them in their order leaves the writer's bank in the next cycle. With `Late` a write that does not get its bank waits
/// in a register: beside such a reader every cycle takes a write. The last of a transfer (`write_last_i`) is taken only when
/// nothing waits behind it: who is told of its end finds all of it. Read data comes one cycle after the request. Addresses must
/// lie inside (the requesters check).
module npu_banked_spm #(
  parameter  int unsigned WordBits = 256,
  parameter  int unsigned Words    = 1024,  // a multiple of Banks
  parameter  int unsigned LaneBits = 128,   // bits per write enable; divides WordBits
  parameter  int unsigned Banks    = 2,     // a power of two; 1: the writer waits for every read
  parameter  bit          Late     = 1'b0,  // a write that does not get its bank waits in a register
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
  input  logic                write_last_i,  // of a transfer
  input  logic [Lanes-1:0]    we_i,
  input  logic [AddrBits-1:0] waddr_i,
  input  logic [LaneBits-1:0] wdata_i        // of every lane
);
  localparam int unsigned RowBits = $clog2(Banks);  // address bits that choose the bank
  localparam int unsigned Depth = Words / Banks;
  localparam int unsigned DepthBits = Depth > 1 ? $clog2(Depth) : 1;

  typedef struct packed {
    logic [Lanes-1:0]    we;
    logic [AddrBits-1:0] addr;
    logic [LaneBits-1:0] data;
  } write_t;

  write_t now, late_write_q;
  logic late_q, late_go, late_d, free;
  logic [BankBits-1:0] read_bank, now_bank, late_bank, read_bank_q;
  logic [Banks-1:0] read_at, now_at, late_at;  // who has a bank
  logic [Banks-1:0][WordBits-1:0] rdata;

  assign now       = '{we: we_i, addr: waddr_i, data: wdata_i};
  assign read_bank = Banks > 1 ? BankBits'(raddr_i) : '0;
  assign now_bank  = Banks > 1 ? BankBits'(waddr_i) : '0;
  assign late_bank = Banks > 1 ? BankBits'(late_write_q.addr) : '0;

  assign late_go       = late_q && !(re_i && read_bank == late_bank);
  assign free          = !(re_i && read_bank == now_bank) && !(late_go && late_bank == now_bank);
  assign late_d        = Late && write_valid_i && !write_last_i && !free && (!late_q || late_go);
  assign write_ready_o = write_last_i || !Late ? free && (!late_q || late_go) : free || !late_q || late_go;

  assign read_at = Banks'(re_i) << read_bank;
  assign late_at = Banks'(late_go) << late_bank;
  assign now_at  = Banks'(write_valid_i && write_ready_o && free) << now_bank;

  for (genvar b = 0; b < Banks; b++) begin : gen_bank
    write_t write;
    assign write = late_at[b] ? late_write_q : now;

    npu_sram #(
      .WordBits(WordBits),
      .Depth   (Depth),
      .LaneBits(LaneBits)
    ) i_sram (
      .clk_i,
      .valid_i(read_at[b] || late_at[b] || now_at[b]),
      .we_i   (late_at[b] || now_at[b] ? write.we : '0),
      .addr_i (DepthBits'((read_at[b] ? raddr_i : write.addr) >> RowBits)),
      .wdata_i({Lanes{write.data}}),
      .rdata_o(rdata[b])
    );
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) late_q <= 1'b0;
    else late_q <= late_d || (late_q && !late_go);
  end

  always_ff @(posedge clk_i) begin
    if (late_d) late_write_q <= now;
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
