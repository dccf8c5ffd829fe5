// SPDX-License-Identifier: Apache-2.0
/// Scratchpad with one reader, which is always served, and one writer, on two banks of single-port SRAM: even and odd words.
///
/// The writer gets the bank that the reader leaves free; a write that does not get its bank waits in a register. A reader that
/// goes through words in their order leaves a bank in every other cycle: then every cycle takes a write. The last of a transfer
/// (`write_last_i`) is taken only when nothing waits behind it: who is told of its end finds all of it. Read data comes one
/// cycle after the request. Addresses must lie inside (the requesters check).
module npu_paired_spm #(
  parameter  int unsigned WordBits = 256,
  parameter  int unsigned Words    = 1024,  // an even number
  parameter  int unsigned LaneBits = 128,   // bits per write enable; divides WordBits
  localparam int unsigned Lanes    = WordBits / LaneBits,
  localparam int unsigned AddrBits = $clog2(Words)
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
  localparam int unsigned Depth = Words / 2;
  localparam int unsigned DepthBits = Depth > 1 ? $clog2(Depth) : 1;

  typedef struct packed {
    logic [Lanes-1:0]    we;
    logic [AddrBits-1:0] addr;
    logic [LaneBits-1:0] data;
  } write_t;

  write_t now, late_write_q;
  logic late_q, late_go, late_d, free, odd_q;
  logic [1:0][WordBits-1:0] rdata;

  assign now           = '{we: we_i, addr: waddr_i, data: wdata_i};
  assign late_go       = late_q && !(re_i && raddr_i[0] == late_write_q.addr[0]);
  assign free          = !(re_i && raddr_i[0] == waddr_i[0]) && !(late_go && late_write_q.addr[0] == waddr_i[0]);
  assign late_d        = write_valid_i && !write_last_i && !free && (!late_q || late_go);
  assign write_ready_o = write_last_i ? free && (!late_q || late_go) : free || !late_q || late_go;

  for (genvar b = 0; b < 2; b++) begin : gen_bank
    logic read_at, late_at, now_at;
    write_t write;
    assign read_at = re_i && raddr_i[0] == 1'(b);
    assign late_at = late_go && late_write_q.addr[0] == 1'(b);
    assign now_at  = write_valid_i && write_ready_o && free && waddr_i[0] == 1'(b);
    assign write   = late_at ? late_write_q : now;

    npu_sram #(
      .WordBits(WordBits),
      .Depth   (Depth),
      .LaneBits(LaneBits)
    ) i_sram (
      .clk_i,
      .valid_i(read_at || late_at || now_at),
      .we_i   (late_at || now_at ? write.we : '0),
      .addr_i (DepthBits'((read_at ? raddr_i : write.addr) >> 1)),
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
    if (re_i) odd_q <= raddr_i[0];
  end

  assign rdata_o = rdata[odd_q];

  if (Words % 2 != 0) begin : gen_WordsFillTheBanks
    $fatal(1, "npu_paired_spm: Words must be even");
  end

  ReadInside : assert property (@(posedge clk_i) disable iff (!rst_ni) re_i |-> 32'(raddr_i) < Words)
  else $error("A word is read inside the scratchpad: its reader checks the address.");

  WriteInside : assert property (@(posedge clk_i) disable iff (!rst_ni) write_valid_i |-> 32'(waddr_i) < Words)
  else $error("A word is written inside the scratchpad: the load engine checks its address.");
endmodule
