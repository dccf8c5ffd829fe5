// SPDX-License-Identifier: Apache-2.0
/// npu_weight_loader with its address as the loader itself has it.
module tb_weight_loader #(
  parameter  int unsigned Words    = 2048,
  localparam int unsigned AddrBits = $clog2(Words)
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  input  logic                clear_i,
  input  logic                start_i,
  input  logic [        19:0] addr_i,
  input  logic [         7:0] words_i,
  output logic                ready_o,
  output logic                error_o,
  output logic                re_o,
  output logic [AddrBits-1:0] raddr_o,
  output logic                word_valid_o,
  output logic [         7:0] word_index_o
);
  npu_weight_loader #(.Words(Words)) i_loader (.*);
endmodule
