// SPDX-License-Identifier: Apache-2.0
/// Front of an engine: command queue, tokens, events, completion.
///
///   dispatch -> queue -> [tokens, fence, event] -> start -> datapath -> done_i -> post tokens
///
/// Commands start in order, and several may be in the datapath at once; `done_i` completes the oldest. NOP, SIGNAL and WAIT
/// are executed here, after everything earlier is complete. An illegal command is reported once everything earlier is
/// complete. `stop_i` starts nothing more; what is in the datapath is the datapath's matter.
module npu_engine_ctrl
  import npu_pkg::*;
#(
  parameter engine_e     Engine     = ENGINE_LOAD,
  parameter int unsigned QueueDepth = 4,
  parameter int unsigned InFlight   = 4,  // commands in the datapath
  parameter int unsigned Events     = 16  // events in the SoC
) (
  input  logic                   clk_i,
  input  logic                   rst_ni,
  input  logic                   clear_i,
  input  logic                   stop_i,
  // dispatch
  input  logic                   cmd_valid_i,
  output logic                   cmd_ready_o,
  input  logic [CmdBits-1:0]     cmd_i,
  input  logic [31:0]            cmd_index_i,
  // tokens
  input  logic [NumEngines-1:0]  token_available_i,
  output logic [NumEngines-1:0]  token_take_o,
  output logic                   post_valid_o,
  output logic [NumEngines-1:0]  post_mask_o,
  input  logic                   post_ready_i,
  // events
  output logic                   signal_valid_o,
  output logic [EventIdBits-1:0] signal_event_o,
  input  logic                   signal_ready_i,
  output logic                   wait_valid_o,
  output logic [EventIdBits-1:0] wait_event_o,
  output logic [EventIdBits-1:0] wait_amount_o,
  input  logic                   wait_grant_i,
  // datapath
  output logic                   start_valid_o,
  input  logic                   start_ready_i,
  output logic [CmdBits-1:0]     start_cmd_o,
  input  logic                   start_illegal_i,  // fields of start_cmd_o are out of range
  input  logic                   done_i,
  input  state_e                 work_i,           // what the datapath does, while something is in it
  // status
  output logic                   idle_o,
  output logic                   illegal_o,
  output logic [31:0]            oldest_index_o,   // of the oldest command that has not ended: it may wait to post
  output logic [31:0]            error_index_o,    // of the oldest command that is not complete: a datapath's error is its
  output state_e                 state_o,
  output logic [NumEngines-1:0]  diag_tokens_o,
  output logic                   diag_on_event_o,
  output logic [EventIdBits-1:0] diag_event_o
);
  localparam int unsigned CountBits = $clog2(InFlight + 1);

  logic head_valid, head_pop;
  logic [CmdBits-1:0] head;
  logic [31:0] head_index;
  cmd_header_t header;
  cmd_event_t event_cmd;

  npu_fifo #(
    .Width(CmdBits + 32),
    .Depth(QueueDepth)
  ) i_queue (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i(cmd_valid_i),
    .ready_o(cmd_ready_o),
    .data_i ({cmd_index_i, cmd_i}),
    .valid_o(head_valid),
    .ready_i(head_pop),
    .data_o ({head_index, head})
  );

  assign header    = cmd_header_t'(head);
  assign event_cmd = cmd_event_t'(head);

  // Commands in the datapath: what to post, and their index.
  logic flight_valid, flight_ready, flight_push, flight_pop;
  logic [NumEngines-1:0] flight_mask;
  logic [31:0] flight_index;
  logic [CountBits-1:0] flight_q, finished_q;  // in the datapath or waiting to post; of these, finished

  npu_fifo #(
    .Width(NumEngines + 32),
    .Depth(InFlight)
  ) i_flight (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i(flight_push),
    .ready_o(flight_ready),
    .data_i ({header.post_store, header.post_compute, header.post_load, head_index}),
    .valid_o(flight_valid),
    .ready_i(flight_pop),
    .data_o ({flight_mask, flight_index})
  );

  logic work_valid;
  logic [31:0] work_index;
  npu_fifo #(
    .Width(32),
    .Depth(InFlight)
  ) i_work (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i(flight_push),
    .ready_o(),
    .data_i (head_index),
    .valid_o(work_valid),
    .ready_i(done_i),
    .data_o (work_index)
  );

  logic [NumEngines-1:0] wait_mask, post_mask;
  logic is_control, opcode_ok, legal, tokens_ok, may_start, control_go, start_go;

  assign wait_mask = {header.wait_store, header.wait_compute, header.wait_load};
  assign post_mask = {header.post_store, header.post_compute, header.post_load};

  always_comb begin
    is_control = 1'b0;
    opcode_ok  = 1'b0;
    unique case (opcode_e'(header.opcode))
      OP_NOP: begin
        is_control = 1'b1;
        opcode_ok  = 1'b1;
      end
      OP_SIGNAL, OP_WAIT: begin
        is_control = 1'b1;
        opcode_ok  = 32'(event_cmd.event_id) < Events;
      end
      OP_LOAD: opcode_ok = Engine == ENGINE_LOAD;
      OP_CONV, OP_DEPTHWISE, OP_ADD, OP_AVERAGE_POOL, OP_MAX_POOL: opcode_ok = Engine == ENGINE_COMPUTE;
      OP_STORE, OP_MARK: opcode_ok = Engine == ENGINE_STORE;
      default: opcode_ok = 1'b0;
    endcase
  end

  // an engine neither waits for itself nor posts to itself
  assign legal = opcode_ok && head[31:19] == '0 && head[15] == 1'b0 && head[11] == 1'b0
      && !wait_mask[Engine] && !post_mask[Engine] && (is_control || !start_illegal_i);
  assign tokens_ok = (wait_mask & ~token_available_i) == '0;
  assign may_start = head_valid && legal && !stop_i && tokens_ok && (!flight_valid || !(is_control || header.fence));

  assign start_valid_o = may_start && !is_control && flight_ready;
  assign start_cmd_o   = head;
  assign start_go      = start_valid_o && start_ready_i;
  assign flight_push   = start_go;

  // control commands: all in the cycle in which the event answers and the tokens can be posted
  assign signal_valid_o = may_start && header.opcode == OP_SIGNAL && post_ready_i;
  assign signal_event_o = event_cmd.event_id;
  assign wait_valid_o   = may_start && header.opcode == OP_WAIT && post_ready_i;
  assign wait_event_o   = event_cmd.event_id;
  assign wait_amount_o  = event_cmd.amount;
  assign control_go     = may_start && post_ready_i
      && (header.opcode == OP_NOP || (signal_valid_o && signal_ready_i) || (wait_valid_o && wait_grant_i));

  assign head_pop     = start_go || control_go;
  assign token_take_o = head_pop ? wait_mask : '0;

  // completion, in order
  assign post_mask_o  = flight_valid ? flight_mask : post_mask;
  assign post_valid_o = (finished_q != '0) || control_go;
  assign flight_pop   = finished_q != '0 && post_ready_i;

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      flight_q   <= '0;
      finished_q <= '0;
    end else if (clear_i) begin
      flight_q   <= '0;
      finished_q <= '0;
    end else begin
      flight_q   <= flight_q + CountBits'(flight_push) - CountBits'(flight_pop);
      finished_q <= finished_q + CountBits'(done_i) - CountBits'(flight_pop);
    end
  end

  assign idle_o          = !head_valid && !flight_valid;
  assign illegal_o       = head_valid && !legal && !flight_valid && !stop_i;
  assign oldest_index_o  = flight_valid ? flight_index : head_valid ? head_index : '0;
  assign error_index_o   = work_valid ? work_index : oldest_index_o;
  assign diag_on_event_o = may_start && header.opcode == OP_WAIT && !control_go;
  assign diag_event_o    = head_valid ? event_cmd.event_id : '0;

  always_comb begin
    diag_tokens_o = '0;
    if (flight_valid) begin
      // all finished: the last one posts, or waits for room
      state_o = finished_q != flight_q ? work_i : post_ready_i ? STATE_RUN : STATE_WAIT_TOKEN;
    end else if (head_valid) begin
      state_o = head_pop ? STATE_RUN : STATE_WAIT_TOKEN;
      diag_tokens_o = wait_mask & ~token_available_i;
    end else begin
      state_o = STATE_IDLE;
    end
  end

  CompletionBelongsToACommandInFlight : assert property (@(posedge clk_i) disable iff (!rst_ni)
      done_i && !clear_i |-> finished_q < flight_q)
  else $error("A completion belongs to a command in the datapath.");
endmodule
