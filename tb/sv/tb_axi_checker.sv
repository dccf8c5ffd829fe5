// SPDX-License-Identifier: Apache-2.0
/// Assertions on one AXI4 port: what the protocol demands of both sides, and what npu_soc promises beyond it.
///
/// Watches only. Every property here is on in every run.
module tb_axi_checker #(
  parameter int unsigned DataBits = 128,
  parameter int unsigned IdBits   = 3,
  parameter int unsigned MaxBeats = 16    // longest burst that the master may issue
) (
  input logic                  clk_i,
  input logic                  rst_ni,
  input logic [IdBits-1:0]     awid,
  input logic [31:0]           awaddr,
  input logic [7:0]            awlen,
  input logic [2:0]            awsize,
  input logic [1:0]            awburst,
  input logic                  awvalid,
  input logic                  awready,
  input logic [DataBits-1:0]   wdata,
  input logic [DataBits/8-1:0] wstrb,
  input logic                  wlast,
  input logic                  wvalid,
  input logic                  wready,
  input logic [IdBits-1:0]     bid,
  input logic [1:0]            bresp,
  input logic                  bvalid,
  input logic                  bready,
  input logic [IdBits-1:0]     arid,
  input logic [31:0]           araddr,
  input logic [7:0]            arlen,
  input logic [2:0]            arsize,
  input logic [1:0]            arburst,
  input logic                  arvalid,
  input logic                  arready,
  input logic [IdBits-1:0]     rid,
  input logic [DataBits-1:0]   rdata,
  input logic [1:0]            rresp,
  input logic                  rlast,
  input logic                  rvalid,
  input logic                  rready
);
  localparam int unsigned Size = $clog2(DataBits / 8);
  localparam logic [1:0] BurstIncr = 2'd1;

  // First byte after the burst, counted from the start of the burst's 4 KiB page.
  function automatic logic [13:0] end_in_page(logic [31:0] address, logic [7:0] len);
    return 14'(address[11:0]) + ((14'(len) + 14'd1) << Size);
  endfunction

  WriteAddressStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
    awvalid && !awready |=> awvalid && $stable({awid, awaddr, awlen, awsize, awburst}))
  else $error("A write address stays as it is until it is taken (AXI4 A3.2.1).");

  WriteDataStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
    wvalid && !wready |=> wvalid && $stable({wdata, wstrb, wlast}))
  else $error("Write data stays as it is until it is taken (AXI4 A3.2.1).");

  WriteAnswerStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
    bvalid && !bready |=> bvalid && $stable({bid, bresp}))
  else $error("A write answer stays as it is until it is taken (AXI4 A3.2.1).");

  ReadAddressStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
    arvalid && !arready |=> arvalid && $stable({arid, araddr, arlen, arsize, arburst}))
  else $error("A read address stays as it is until it is taken (AXI4 A3.2.1).");

  ReadDataStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
    rvalid && !rready |=> rvalid && $stable({rid, rdata, rresp, rlast}))
  else $error("Read data stays as it is until it is taken (AXI4 A3.2.1).");

  WriteBurstStaysInItsPage : assert property (@(posedge clk_i) disable iff (!rst_ni)
    awvalid |-> end_in_page(awaddr, awlen) <= 14'd4096)
  else $error("A write burst does not cross a 4 KiB boundary (AXI4 A3.4.1).");

  ReadBurstStaysInItsPage : assert property (@(posedge clk_i) disable iff (!rst_ni)
    arvalid |-> end_in_page(araddr, arlen) <= 14'd4096)
  else $error("A read burst does not cross a 4 KiB boundary (AXI4 A3.4.1).");

  WriteBurstIsAlignedAndFullWidth : assert property (@(posedge clk_i) disable iff (!rst_ni)
    awvalid |-> awsize == 3'(Size) && awburst == BurstIncr && awaddr[Size-1:0] == '0 && 32'(awlen) < MaxBeats)
  else $error("npu_soc writes in aligned INCR bursts of the full width, of at most MaxBeats beats.");

  ReadBurstIsAlignedAndFullWidth : assert property (@(posedge clk_i) disable iff (!rst_ni)
    arvalid |-> arsize == 3'(Size) && arburst == BurstIncr && araddr[Size-1:0] == '0 && 32'(arlen) < MaxBeats)
  else $error("npu_soc reads in aligned INCR bursts of the full width, of at most MaxBeats beats.");

  // Signals are sampled, so this holds from the second cycle of reset on.
  NothingIsRequestedInReset : assert property (@(posedge clk_i)
    !rst_ni && $past(!rst_ni) |-> !awvalid && !wvalid && !arvalid)
  else $error("Nothing is requested while reset is held (AXI4 A3.1.2).");
endmodule
