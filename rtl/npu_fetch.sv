// SPDX-License-Identifier: Apache-2.0
/// Reads the command list from memory and hands each command to its engine, in order.
///
/// One burst per command; `Depth` commands are fetched ahead, so that the memory's latency is paid once. A command whose engine's
/// queue is full holds the ones behind it. `stop_i` asks for nothing more; `quiet_o` says that no read is in flight.
module npu_fetch
  import npu_pkg::*;
  import npu_axi_pkg::*;
#(
  parameter  int unsigned AxiDataBits = 128,  // 64 or 128
  parameter  int unsigned Depth       = 4,    // commands fetched ahead
  localparam int unsigned Beats       = CmdBits / AxiDataBits
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  clear_i,
  input  logic                  stop_i,
  // control
  input  logic                  start_i,  // pulse
  input  logic [31:0]           address_i,
  input  logic [31:0]           count_i,
  output logic                  idle_o,   // all commands of the list are dispatched
  output logic                  quiet_o,
  output logic                  error_o,
  output error_e                error_cause_o,
  output logic [31:0]           error_index_o,
  output logic [31:0]           dispatched_o,
  output logic                  blocked_o,
  // memory reads
  output axi_read_req_t         axi_req_o,
  input  axi_read_rsp_t         axi_rsp_i,
  // dispatch: by engine
  output logic [NumEngines-1:0] cmd_valid_o,
  input  logic [NumEngines-1:0] cmd_ready_i,
  output logic [CmdBits-1:0]    cmd_o,
  output logic [31:0]           cmd_index_o
);
  localparam int unsigned CountBits = $clog2(Depth + 1);

  logic [31:0] address_q, to_request_q, to_dispatch_q, received_q, dispatched_q;
  logic [CountBits-1:0] reserved_q;  // commands requested and not yet dispatched
  logic [CountBits-1:0] reading_q;   // bursts in flight
  logic ar_valid_q, misaligned_q;
  logic [CmdBits-AxiDataBits-1:0] partial_q;
  logic ar_ready, ar_go, r_go, burst_done, dispatch_go;
  logic [AxiDataBits-1:0] r_data;
  logic fifo_valid, fifo_pop;
  cmd_header_t header;

  assign axi_req_o  = '{
    ar: '{id: '0, addr: address_q, len: AxiLenBits'(Beats - 1)},
    ar_valid: ar_valid_q,
    r_ready: 1'b1  // room is reserved before the request
  };
  assign ar_ready   = axi_rsp_i.ar_ready;
  assign ar_go      = ar_valid_q && ar_ready;
  assign r_go       = axi_rsp_i.r_valid;
  assign r_data     = axi_rsp_i.r.data[AxiDataBits-1:0];
  assign burst_done = r_go && axi_rsp_i.r.last;

  npu_fifo #(
    .Width(CmdBits),
    .Depth(Depth)
  ) i_ahead (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i(burst_done && !stop_i),
    .ready_o(),
    .data_i ({r_data, partial_q}),
    .valid_o(fifo_valid),
    .ready_i(fifo_pop),
    .data_o (cmd_o)
  );

  assign header      = cmd_header_t'(cmd_o);
  assign cmd_index_o = dispatched_q;
  always_comb begin
    cmd_valid_o = '0;
    for (int e = 0; e < NumEngines; e++) cmd_valid_o[e] = fifo_valid && !stop_i && header.engine == 2'(e);
  end
  assign dispatch_go  = (cmd_valid_o & cmd_ready_i) != '0;
  assign fifo_pop     = dispatch_go;
  assign blocked_o    = fifo_valid && !dispatch_go;
  assign dispatched_o = dispatched_q;
  assign idle_o       = to_dispatch_q == '0;
  assign quiet_o      = !ar_valid_q && reading_q == '0;

  always_comb begin
    error_o       = 1'b0;
    error_cause_o = ERROR_NONE;
    error_index_o = received_q;
    if (r_go && axi_rsp_i.r.resp[1]) begin
      error_o       = 1'b1;
      error_cause_o = axi_rsp_i.r.resp[0] ? ERROR_FETCH_DECERR : ERROR_FETCH_SLVERR;
    end else if (misaligned_q) begin
      error_o       = 1'b1;
      error_cause_o = ERROR_ILLEGAL_COMMAND;
    end else if (fifo_valid && header.engine == ENGINE_FETCH) begin
      error_o       = 1'b1;
      error_cause_o = ERROR_ILLEGAL_COMMAND;
      error_index_o = dispatched_q;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      address_q     <= '0;
      to_request_q  <= '0;
      to_dispatch_q <= '0;
      received_q    <= '0;
      dispatched_q  <= '0;
      reserved_q    <= '0;
      reading_q     <= '0;
      ar_valid_q    <= 1'b0;
      misaligned_q  <= 1'b0;
      partial_q     <= '0;
    end else if (clear_i) begin
      to_request_q  <= '0;
      to_dispatch_q <= '0;
      received_q    <= '0;
      dispatched_q  <= '0;
      reserved_q    <= '0;
      reading_q     <= '0;
      ar_valid_q    <= 1'b0;
      misaligned_q  <= 1'b0;
    end else if (start_i) begin
      address_q     <= address_i;
      misaligned_q  <= address_i[5:0] != '0;
      to_request_q  <= address_i[5:0] != '0 ? '0 : count_i;
      to_dispatch_q <= count_i;
      received_q    <= '0;
      dispatched_q  <= '0;
    end else begin
      // requests: a held request stays until it is taken
      if (ar_go) begin
        ar_valid_q   <= 1'b0;
        address_q    <= address_q + 32'(CmdBits / 8);
        to_request_q <= to_request_q - 1'b1;
      end else if (!ar_valid_q && to_request_q != '0 && reserved_q != CountBits'(Depth) && !stop_i) begin
        ar_valid_q <= 1'b1;
      end
      reserved_q <= reserved_q + CountBits'(ar_go) - CountBits'(dispatch_go);
      reading_q  <= reading_q + CountBits'(ar_go) - CountBits'(burst_done);
      if (r_go && !axi_rsp_i.r.last) partial_q <= (CmdBits - AxiDataBits)'({r_data, partial_q} >> AxiDataBits);
      if (burst_done) received_q <= received_q + 1'b1;
      if (dispatch_go) begin
        to_dispatch_q <= to_dispatch_q - 1'b1;
        dispatched_q  <= dispatched_q + 1'b1;
      end
    end
  end

  if (AxiDataBits != AxiMaxDataBits / 2 && AxiDataBits != AxiMaxDataBits) begin : gen_AxiWidthIsSupported
    $fatal(1, "npu_fetch: AxiDataBits must be 64 or 128");
  end

  CommandsWithinReservedRoom : assert property (@(posedge clk_i) disable iff (!rst_ni) 32'(reserved_q) <= Depth)
  else $error("Room is reserved for every command before it is requested.");

  RequestStaysUntilTaken : assert property (@(posedge clk_i) disable iff (!rst_ni)
      ar_valid_q && !ar_ready |=> ar_valid_q && $stable(address_q))
  else $error("A request stays as it is until it is taken.");
endmodule
