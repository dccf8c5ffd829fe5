// SPDX-License-Identifier: Apache-2.0
/// The first error of a core: which engine met it, why, and at which command.
///
/// `error_o` is up in every cycle in which something is wrong; the error of the first such cycle of a run (`run_i`) is
/// kept on `first_*_o` until `clear_i`. Of several in one cycle the order below decides: what an engine met at work before
/// what its front refuses, fetch last.
module npu_core_errors
  import npu_pkg::*;
(
  input  logic                        clk_i,
  input  logic                        rst_ni,
  input  logic                        run_i,
  input  logic                        clear_i,
  // of a command in an engine's datapath, by engine; the command is the engine's oldest that is not complete
  input  logic [NumEngines-1:0]       work_i,
  input  error_e                      work_cause_i[NumEngines],
  input  logic [NumEngines-1:0][31:0] work_index_i,
  // of a command that an engine refuses
  input  logic [NumEngines-1:0]       illegal_i,
  input  logic [NumEngines-1:0][31:0] illegal_index_i,
  // of the fetch unit
  input  logic                        fetch_i,
  input  error_e                      fetch_cause_i,
  input  logic [31:0]                 fetch_index_i,
  // first error
  output logic                        error_o,
  output error_e                      first_cause_o,
  output engine_e                     first_engine_o,
  output logic [31:0]                 first_index_o
);
  error_e cause;
  engine_e engine;
  logic [31:0] index;

  always_comb begin
    error_o = 1'b1;
    cause   = ERROR_ILLEGAL_COMMAND;
    engine  = ENGINE_FETCH;
    index   = fetch_index_i;
    if (work_i[ENGINE_COMPUTE]) begin
      cause  = work_cause_i[ENGINE_COMPUTE];
      engine = ENGINE_COMPUTE;
      index  = work_index_i[ENGINE_COMPUTE];
    end else if (work_i[ENGINE_LOAD]) begin
      cause  = work_cause_i[ENGINE_LOAD];
      engine = ENGINE_LOAD;
      index  = work_index_i[ENGINE_LOAD];
    end else if (work_i[ENGINE_STORE]) begin
      cause  = work_cause_i[ENGINE_STORE];
      engine = ENGINE_STORE;
      index  = work_index_i[ENGINE_STORE];
    end else if (illegal_i[ENGINE_COMPUTE]) begin
      engine = ENGINE_COMPUTE;
      index  = illegal_index_i[ENGINE_COMPUTE];
    end else if (illegal_i[ENGINE_LOAD]) begin
      engine = ENGINE_LOAD;
      index  = illegal_index_i[ENGINE_LOAD];
    end else if (illegal_i[ENGINE_STORE]) begin
      engine = ENGINE_STORE;
      index  = illegal_index_i[ENGINE_STORE];
    end else if (fetch_i) begin
      cause = fetch_cause_i;
    end else begin
      error_o = 1'b0;
    end
  end

  always_ff @(posedge clk_i or negedge rst_ni) begin
    if (!rst_ni) begin
      first_cause_o  <= ERROR_NONE;
      first_engine_o <= ENGINE_LOAD;
      first_index_o  <= '0;
    end else if (clear_i) begin
      first_cause_o  <= ERROR_NONE;
      first_engine_o <= ENGINE_LOAD;
      first_index_o  <= '0;
    end else if (run_i && error_o) begin
      first_cause_o  <= cause;
      first_engine_o <= engine;
      first_index_o  <= index;
    end
  end

  AnErrorHasACause : assert property (@(posedge clk_i) disable iff (!rst_ni) error_o |-> cause != ERROR_NONE)
  else $error("Whoever reports an error says why.");
endmodule
