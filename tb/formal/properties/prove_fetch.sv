// SPDX-License-Identifier: Apache-2.0
/// npu_fetch: AXI4 rules of a reading master; every command of the list is asked for once, at its address, and handed on once,
/// in order, to its engine.
///
/// Assumed: a list starts while the unit is idle and quiet; a stop stays until the unit is cleared, which happens only while it is
/// quiet (npu_core_control is proven to do so); memory sends what was asked, two or four beats for each command. The output of the
/// queue is cut free and assumed to be what npu_fifo is proven to give.
module prove_fetch
  import npu_pkg::*;
  import npu_axi_pkg::*;
#(
  parameter  int unsigned AxiDataBits = 128,
  parameter  int unsigned Depth       = 4,
  localparam int unsigned Beats       = CmdBits / AxiDataBits
) (
  input logic                  clk_i,
  input logic                  rst_ni,
  input logic                  clear_i,
  input logic                  stop_i,
  input logic                  start_i,
  input logic [31:0]           address_i,
  input logic [31:0]           count_i,
  input axi_read_rsp_t         axi_rsp_i,
  input logic [NumEngines-1:0] cmd_ready_i,
  input logic                  follow_i  // follow the command whose last beat comes now, if none is followed
);
  logic idle_o, quiet_o, error_o, blocked_o;
  error_e error_cause_o;
  logic [31:0] error_index_o, dispatched_o, cmd_index_o;
  axi_read_req_t axi_req_o;
  logic [NumEngines-1:0] cmd_valid_o;
  logic [CmdBits-1:0] cmd_o;
  npu_fetch #(
    .AxiDataBits(AxiDataBits),
    .Depth      (Depth)
  ) dut (
    .*
  );

  // the list: its next address, commands left to ask for, left to hand on, received, handed on; bursts in flight, beats of the
  // one that comes; a command that is followed
  logic started_q = 1'b0;
  logic running_q, stop_q, ar_waits_q, followed_q;
  axi_address_t ar_q;
  logic [31:0] next_q, count_q, left_q, undone_q, received_q, handed_q, number_q;
  logic [7:0] flying_q, beat_q, stored_q, ahead_q;
  logic [CmdBits-1:0] beats_q, command_q;
  cmd_header_t header;
  logic ar_go, r_go, ends, kept, handed, misaligned_q;
  assign ar_go  = axi_req_o.ar_valid && axi_rsp_i.ar_ready;
  assign r_go   = axi_rsp_i.r_valid && axi_req_o.r_ready;
  assign ends   = r_go && 32'(beat_q) == Beats - 1;
  assign kept   = ends && !stop_i;
  assign handed = (cmd_valid_o & cmd_ready_i) != '0;
  assign header = cmd_header_t'(cmd_o);
  logic [CmdBits-1:0] beats_d;
  assign beats_d = CmdBits'({axi_rsp_i.r.data[AxiDataBits-1:0], beats_q} >> AxiDataBits);
  always_ff @(posedge clk_i) begin
    started_q  <= 1'b1;
    running_q  <= rst_ni && !clear_i;
    stop_q     <= rst_ni && stop_i && !clear_i;
    ar_waits_q <= axi_req_o.ar_valid && !axi_rsp_i.ar_ready;
    ar_q       <= axi_req_o.ar;
    if (r_go) beats_q <= beats_d;
    if (!rst_ni || clear_i) begin
      count_q      <= '0;
      left_q       <= '0;
      undone_q     <= '0;
      received_q   <= '0;
      handed_q     <= '0;
      flying_q     <= '0;
      beat_q       <= '0;
      stored_q     <= '0;
      followed_q   <= 1'b0;
      misaligned_q <= 1'b0;
    end else if (start_i) begin
      next_q       <= address_i;
      misaligned_q <= address_i % (CmdBits / 8) != 0;
      count_q      <= count_i;
      left_q       <= address_i % (CmdBits / 8) != 0 ? '0 : count_i;
      undone_q     <= count_i;
      received_q   <= '0;
      handed_q     <= '0;
    end else begin
      left_q     <= left_q - 32'(ar_go);
      undone_q   <= undone_q - 32'(handed);
      if (ar_go) next_q <= next_q + 32'(CmdBits / 8);
      received_q <= received_q + 32'(kept);
      handed_q   <= handed_q + 32'(handed);
      flying_q   <= flying_q + 8'(ar_go) - 8'(ends);
      stored_q   <= stored_q + 8'(kept) - 8'(handed);
      if (r_go) beat_q <= ends ? '0 : beat_q + 8'd1;
      if (followed_q) begin
        ahead_q <= ahead_q - 8'(handed);
        if (handed && ahead_q == '0) followed_q <= 1'b0;
      end else if (kept && follow_i) begin
        followed_q <= 1'b1;
        command_q  <= beats_d;
        number_q   <= received_q;
        ahead_q    <= stored_q - 8'(handed);
      end
    end
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    if (start_i) assume (idle_o && quiet_o && !stop_i && !clear_i);
    if (clear_i) assume (stop_i && quiet_o);
    if (stop_q) assume (stop_i);
    if (axi_rsp_i.r_valid) assume (flying_q != '0 && axi_rsp_i.r.last == (32'(beat_q) == Beats - 1));
    if (followed_q && ahead_q == '0) assume (cmd_o == command_q);
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (running_q && ar_waits_q) begin
        // A request stays as it is until it is taken, through a stop too (AXI4, A3.2.1).
        RequestStaysUntilTaken : assert (axi_req_o.ar_valid && axi_req_o.ar == ar_q);
      end
      if (axi_req_o.ar_valid) begin
        // A burst is one command: it never leaves its 4 KiB page, as commands are aligned.
        BurstIsOneCommand : assert (32'(axi_req_o.ar.len) == Beats - 1 && axi_req_o.ar.addr % (CmdBits / 8) == 0);
        // Commands are asked for one after the other, from the first, and no more than there are.
        RequestsFollowTheList : assert (axi_req_o.ar.addr == next_q && left_q != '0);
      end
      // Every beat is taken, and every command has a place in the queue: room is reserved before it is asked for.
      BeatsAreTaken : assert (axi_req_o.r_ready);
      NoCommandIsLost : assert (!kept || dut.i_ahead.ready_o);
      CommandsWithinReservedRoom : assert (32'(dut.reserved_q) <= Depth);
      // A command goes to one engine, the one that it names.
      OneEngineAtATime : assert ($onehot0(cmd_valid_o) && (cmd_valid_o == '0 || cmd_valid_o == NumEngines'(1) << header.engine));
      if (followed_q && ahead_q == '0 && handed) begin
        // Commands are handed on in the order of the list, as they are in memory, with their numbers.
        CommandsAreHandedOnInOrder : assert (cmd_o == command_q && cmd_index_o == number_q);
      end
      // What is counted for the host is what was handed on.
      HandedOnIsCounted : assert (dispatched_o == handed_q && handed_q + undone_q == count_q);
      // Idle means that the whole list was handed on.
      IdleMeansAllHandedOn : assert (idle_o == (undone_q == '0));
      // Quiet means that nothing is asked for and nothing is to come.
      QuietMeansNothingToCome : assert (!quiet_o || (!axi_req_o.ar_valid && flying_q == '0));
      // After a stop nothing is handed on.
      StopHandsNothingOn : assert (!stop_i || cmd_valid_o == '0);
      CommandIsHandedOn : cover (handed && cmd_valid_o[1]);
      AllIsHandedOn : cover (idle_o && count_q == 32'd1 && handed_q == 32'd1);
      RequestHeldThroughAStop : cover (running_q && ar_waits_q && stop_q && axi_req_o.ar_valid && flying_q != '0);
    end
  end

  // beats of the command that comes are together already
  for (genvar n = 1; n < Beats; n++) begin : gen_beats
    always_comb begin
      if (started_q && rst_ni && 32'(beat_q) == n) begin
        BeatsAreTogether : assert (dut.partial_q[CmdBits-AxiDataBits-1-:n*AxiDataBits] == beats_q[CmdBits-1-:n*AxiDataBits]);
      end
    end
  end

  // how the block's registers stand to what is counted here
  always_comb begin
    if (started_q && rst_ni) begin
      ReadingAgrees : assert (8'(dut.reading_q) == flying_q);
      StoredAgrees :
      assert (8'(dut.i_ahead.count_q) == stored_q && stored_q <= 8'(Depth)
          && 32'(dut.i_ahead.read_q) < Depth && 32'(dut.i_ahead.write_q) < Depth);
      ReservedIsFlyingAndStored :
      assert (stop_q ? 8'(dut.reserved_q) >= flying_q + stored_q : 8'(dut.reserved_q) == flying_q + stored_q);
      RoomForTheRequest : assert (!axi_req_o.ar_valid || 32'(dut.reserved_q) < Depth);
      AddressAgrees : assert (misaligned_q || undone_q == '0 || (dut.address_q == next_q && next_q[5:0] == '0));
      AlignmentAgrees : assert (dut.misaligned_q == misaligned_q);
      CountsAgree :
      assert (dut.to_request_q == left_q && left_q <= undone_q && (!misaligned_q || (left_q == '0 && !axi_req_o.ar_valid)));
      MisalignedListIsNotRead : assert (!misaligned_q || (handed_q == '0 && stored_q == '0 && flying_q == '0));
      DispatchAgrees : assert (dut.to_dispatch_q == undone_q && dut.dispatched_q == handed_q);
      UndoneIsLeftStoredAndFlying :
      assert (misaligned_q || (flying_q <= 8'(Depth) && (stop_q ? undone_q - left_q >= 32'(stored_q) + 32'(flying_q)
          : undone_q - left_q == 32'(stored_q) + 32'(flying_q))));
      ReceivedIsHandedAndStored : assert (received_q == handed_q + 32'(stored_q));
      RequestIsOfTheList : assert (!axi_req_o.ar_valid || (left_q != '0 && !misaligned_q));
      BeatsAgree : assert (32'(beat_q) < Beats && (beat_q == '0 || flying_q != '0));
      if (followed_q) FollowedIsStored : assert (ahead_q < stored_q && number_q == handed_q + 32'(ahead_q));
      if (kept) QueueGetsTheCommand : assert (dut.i_ahead.data_i == beats_d);
    end
  end
endmodule
