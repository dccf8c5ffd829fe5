// SPDX-License-Identifier: Apache-2.0
/// npu_engine_ctrl: commands start and end in the order in which they came, each once, and wait for what they say and no more.
///
/// One command, any, is followed from its dispatch to its end. Assumed: the datapath completes only what it has been given, and
/// tokens stay until they are taken (npu_tokens is proven to keep them). The outputs of the block's three queues are cut free,
/// and assumed to be what npu_fifo is proven to give: the followed command when all before it have left, a word until it is taken.
module prove_engine_ctrl
  import npu_pkg::*;
#(
  parameter int unsigned Engine     = 0,
  parameter int unsigned QueueDepth = 4,
  parameter int unsigned InFlight   = 4,
  parameter int unsigned Events     = 16
) (
  input logic                  clk_i,
  input logic                  rst_ni,
  input logic                  clear_i,
  input logic                  stop_i,
  input logic                  cmd_valid_i,
  input logic [CmdBits-1:0]    cmd_i,
  input logic [31:0]           cmd_index_i,
  input logic [NumEngines-1:0] token_available_i,
  input logic                  post_ready_i,
  input logic                  signal_ready_i,
  input logic                  wait_grant_i,
  input logic                  start_ready_i,
  input logic                  start_illegal_i,
  input logic                  done_i,
  input state_e                work_i,
  input logic                  follow_i  // follow the command that is dispatched now, if none is followed
);
  logic cmd_ready_o, post_valid_o, signal_valid_o, wait_valid_o, start_valid_o, idle_o, illegal_o, diag_on_event_o;
  logic [NumEngines-1:0] token_take_o, post_mask_o, diag_tokens_o;
  logic [EventIdBits-1:0] signal_event_o, wait_event_o, wait_amount_o, diag_event_o;
  logic [CmdBits-1:0] start_cmd_o;
  logic [31:0] oldest_index_o, error_index_o;
  state_e state_o;
  npu_engine_ctrl #(
    .Engine    (engine_e'(Engine)),
    .QueueDepth(QueueDepth),
    .InFlight  (InFlight),
    .Events    (Events)
  ) dut (
    .*
  );

  // commands in the queue and in the datapath, of these the completed; the followed command: what is before it
  logic started_q = 1'b0;
  logic [7:0] queued_q, flying_q, finished_q, before_q, ahead_q;
  logic followed_q, in_queue_q;
  cmd_header_t f_q;
  cmd_event_t f_event;
  logic [31:0] index_q;
  assign f_event = cmd_event_t'(f_q);

  // what happens: a command is dispatched, given to the datapath, ends (it posts); a control command ends as it leaves the queue
  logic dispatch, start, ended, control, leaves;
  assign dispatch = cmd_valid_i && cmd_ready_o;
  assign start    = start_valid_o && start_ready_i;
  assign ended    = post_valid_o && post_ready_i;
  assign control  = ended && flying_q == '0;
  assign leaves   = start || control;

  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    if (!rst_ni || clear_i) begin
      queued_q   <= '0;
      flying_q   <= '0;
      finished_q <= '0;
      followed_q <= 1'b0;
    end else begin
      queued_q   <= queued_q + 8'(dispatch) - 8'(leaves);
      flying_q   <= flying_q + 8'(start) - 8'(ended && !control);
      finished_q <= finished_q + 8'(done_i) - 8'(ended && !control);
      if (followed_q) begin
        if (in_queue_q && leaves) begin
          before_q <= before_q - 8'd1;
          if (before_q == '0) in_queue_q <= 1'b0;
        end
        ahead_q <= ahead_q - 8'(ended);
        if (ended && ahead_q == '0) followed_q <= 1'b0;
      end else if (dispatch && follow_i) begin
        followed_q <= 1'b1;
        in_queue_q <= 1'b1;
        f_q        <= cmd_header_t'(cmd_i);
        index_q    <= cmd_index_i;
        before_q   <= queued_q - 8'(leaves);
        ahead_q    <= queued_q + flying_q - 8'(ended);
      end
    end
  end

  // the cycle before
  logic running_q, post_waits_q, start_waits_q, stop_q;
  logic [NumEngines-1:0] available_q, post_mask_q;
  logic [CmdBits-1:0] start_cmd_q;
  logic start_illegal_q;
  always_ff @(posedge clk_i) begin
    running_q       <= rst_ni && !clear_i;
    available_q     <= token_available_i & ~token_take_o;
    post_waits_q    <= post_valid_o && !post_ready_i;
    post_mask_q     <= post_mask_o;
    start_waits_q   <= start_valid_o && !start_ready_i;
    start_cmd_q     <= start_cmd_o;
    start_illegal_q <= start_illegal_i;
  end

  always_comb begin
    if (!started_q) assume (!rst_ni);
    if (done_i) assume (finished_q < flying_q);
    if (started_q && running_q) begin
      assume ((available_q & ~token_available_i) == '0);
      // whether a command's fields are in range follows from the command
      if (start_cmd_o == start_cmd_q) assume (start_illegal_i == start_illegal_q);
    end
  end

  // what the followed command is
  logic is_control, exists, legal, head;
  logic [NumEngines-1:0] waits, posts;
  assign waits = {f_q.wait_store, f_q.wait_compute, f_q.wait_load};
  assign posts = {f_q.post_store, f_q.post_compute, f_q.post_load};
  assign is_control = f_q.opcode inside {OP_NOP, OP_SIGNAL, OP_WAIT};
  always_comb begin
    exists = is_control && (f_q.opcode == OP_NOP || 32'(f_event.event_id) < Events);
    case (Engine)
      0: exists = exists || f_q.opcode == OP_LOAD;
      1: exists = exists || f_q.opcode inside {OP_CONV, OP_DEPTHWISE, OP_ADD, OP_AVERAGE_POOL, OP_MAX_POOL};
      default: exists = exists || f_q.opcode inside {OP_STORE, OP_MARK};
    endcase
  end
  assign legal = exists && f_q[31:19] == '0 && !f_q.reserved_15 && !f_q.reserved_11 && !waits[Engine] && !posts[Engine]
      && (is_control || !start_illegal_i);
  assign head = followed_q && in_queue_q && before_q == '0;  // it is the next to leave the queue

  // what the queues give
  logic [CmdBits+31:0] queue_q;
  logic [NumEngines+31:0] flight_q;
  logic [31:0] work_q;
  logic queue_stays_q, flight_stays_q, work_stays_q;
  always_ff @(posedge clk_i) begin
    queue_q        <= {dut.head_index, dut.head};
    flight_q       <= {dut.flight_mask, dut.flight_index};
    work_q         <= dut.work_index;
    queue_stays_q  <= queued_q != '0 && !leaves;
    flight_stays_q <= flying_q != '0 && !(ended && !control);
    work_stays_q   <= flying_q != finished_q && !done_i;
  end
  always_comb begin
    if (started_q && running_q) begin
      if (queue_stays_q) assume ({dut.head_index, dut.head} == queue_q);
      if (flight_stays_q) assume ({dut.flight_mask, dut.flight_index} == flight_q);
      if (work_stays_q) assume (dut.work_index == work_q);
    end
    if (head) assume ({dut.head_index, dut.head} == {index_q, f_q});
    if (followed_q && !in_queue_q && ahead_q == '0) assume ({dut.flight_mask, dut.flight_index} == {posts, index_q});
    if (followed_q && !in_queue_q && ahead_q == finished_q) assume (dut.work_index == index_q);
  end

  always_comb begin
    if (started_q && rst_ni) begin
      if (head) begin
        // Commands start in the order of their dispatch, as they came.
        StartsAreInOrder : assert (!start_valid_o || start_cmd_o == f_q);
        // A command leaves the queue only if it is one of this engine, in its form and range.
        OnlyLegalCommandsLeave : assert (!leaves || legal);
        // A command leaves the queue only with all the tokens that it waits for, and takes just these.
        WaitsForItsTokens : assert (!leaves || ((waits & ~token_available_i) == '0 && token_take_o == waits));
        // Control commands, and those with a fence, leave when everything earlier has ended.
        FenceWaitsForEarlierCommands : assert (!leaves || !(is_control || f_q.fence) || flying_q == '0);
        // A control command never reaches the datapath; the others leave through it only.
        WorkGoesThroughTheDatapath : assert (!leaves || start == !is_control);
        // A WAIT ends only when its own event grants its own amount.
        if (f_q.opcode == OP_WAIT && leaves) begin
          WaitEndsByItsEvent :
          assert (wait_valid_o && wait_grant_i && wait_event_o == f_event.event_id && wait_amount_o == f_event.amount);
        end
        // A SIGNAL ends when its own event has counted it.
        if (f_q.opcode == OP_SIGNAL && leaves) begin
          SignalEndsWhenCounted : assert (signal_valid_o && signal_ready_i && signal_event_o == f_event.event_id);
        end
        // An event is asked only by a command for it, and answers end the command: no grant or count is spent twice.
        EventsAreAskedByTheirCommands :
        assert ((!wait_valid_o || (f_q.opcode == OP_WAIT && (!wait_grant_i || leaves)))
            && (!signal_valid_o || (f_q.opcode == OP_SIGNAL && (!signal_ready_i || leaves))));
        // A command that can go does: nothing else holds it.
        if (legal && !stop_i && (waits & ~token_available_i) == '0 && flying_q == '0) begin
          NothingElseHoldsACommand :
          assert (is_control ? (!post_ready_i || f_q.opcode != OP_NOP || leaves) : start_valid_o);
        end
        // An illegal command is reported when everything earlier has ended.
        IllegalIsReported : assert (illegal_o == (!legal && flying_q == '0 && !stop_i));
      end
      // A stop starts nothing more.
      StopStartsNothing : assert (!stop_i || (!start_valid_o && !leaves && !wait_valid_o && !signal_valid_o));
      // Tokens are taken only where there are some, and only by a command that leaves the queue.
      TokensAreThereWhenTaken : assert ((token_take_o & ~token_available_i) == '0 && (leaves || token_take_o == '0));
      if (followed_q && ahead_q == '0 && ended) begin
        // Commands end in their order, and each posts the tokens that it says.
        EndsAreInOrder : assert (post_mask_o == posts);
      end
      // A command ends once: the datapath's ends are as many as its completions.
      EndsAreCompletions : assert (control || !ended || finished_q != '0);
      ControlEndsAsItLeaves : assert (!control || queued_q != '0);
      if (running_q) begin
        // A post stays as it is until there is room for it.
        PostStaysUntilTaken : assert (!post_waits_q || (post_valid_o && post_mask_o == post_mask_q));
        // A command that is offered to the datapath stays until it is taken, unless the engine is stopped.
        StartStaysUntilTaken : assert (!start_waits_q || stop_i || (start_valid_o && start_cmd_o == start_cmd_q));
      end
      // Idle means that nothing is queued or in the datapath.
      IdleMeansNothingLeft : assert (idle_o == (queued_q == '0 && flying_q == '0));
      // The oldest command that has not ended, and the oldest that is not complete, are named.
      if (followed_q && ahead_q == '0) OldestIsNamed : assert (oldest_index_o == index_q);
      if (followed_q && !in_queue_q && ahead_q == finished_q) OldestIncompleteIsNamed : assert (error_index_o == index_q);
    end
  end

  // how the block's registers stand to what is counted here
  always_comb begin
    if (started_q && rst_ni) begin
      QueueAgrees :
      assert (8'(dut.i_queue.count_q) == queued_q && queued_q <= 8'(QueueDepth) && 32'(dut.i_queue.read_q) < QueueDepth
          && 32'(dut.i_queue.write_q) == (32'(dut.i_queue.read_q) + 32'(queued_q)) % QueueDepth);
      FlightAgrees :
      assert (8'(dut.i_flight.count_q) == flying_q && flying_q <= 8'(InFlight) && 32'(dut.i_flight.read_q) < InFlight
          && 32'(dut.i_flight.write_q) == (32'(dut.i_flight.read_q) + 32'(flying_q)) % InFlight);
      WorkAgrees :
      assert (8'(dut.i_work.count_q) == flying_q - finished_q && finished_q <= flying_q && 32'(dut.i_work.read_q) < InFlight
          && 32'(dut.i_work.write_q) == (32'(dut.i_work.read_q) + 32'(flying_q) - 32'(finished_q)) % InFlight);
      CountersAgree : assert (8'(dut.flight_q) == flying_q && 8'(dut.finished_q) == finished_q);
      if (followed_q && in_queue_q) begin
        FollowedIsQueued : assert (before_q < queued_q && ahead_q == flying_q + before_q);
      end
      if (followed_q && !in_queue_q) FollowedIsFlying : assert (ahead_q < flying_q);
      // What goes into the queues is the command: whole, and then what it posts and its number.
      QueueGetsTheCommand : assert (dut.i_queue.data_i == {cmd_index_i, cmd_i} && dut.i_queue.valid_i == cmd_valid_i);
      if (head && start) begin
        QueuesGetWhatItPosts : assert (dut.i_flight.data_i == {posts, index_q} && dut.i_work.data_i == index_q);
      end
      QueuesMoveTogether :
      assert (dut.i_flight.valid_i == start && dut.i_work.valid_i == start && (!start || dut.i_flight.ready_o)
          && dut.i_queue.ready_i == leaves && dut.i_flight.ready_i == (ended && !control) && dut.i_work.ready_i == done_i);
      FullDatapath : cover (flying_q == 8'(InFlight) && head);
      EndsWithTokens : cover (followed_q && !in_queue_q && ended && ahead_q == '0 && posts != '0 && waits != '0);
      WaitEnds : cover (head && leaves && f_q.opcode == OP_WAIT && f_event.amount == 8'd3 && index_q == 32'd5);
      IllegalBehindWork : cover (head && !legal && flying_q == 8'd1);
    end
  end
endmodule
