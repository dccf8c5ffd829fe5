// SPDX-License-Identifier: Apache-2.0
/// What the host and its queues share: the words of requests and answers, and what went wrong. See tb/host.py and tb/queues.py.
package tb_host_pkg;
  localparam int unsigned UnitBytes = 'h400;  // distance between the register blocks of two units
  localparam int unsigned MaxUnits = 16;

  // Infos of operations and answers; below are AXI responses.
  localparam logic [31:0] InfoTimeout = 32'd8;
  localparam logic [31:0] InfoUnitError = 32'd9;
  localparam logic [31:0] InfoNoAnswer = 32'd10;
  localparam logic [31:0] InfoPartnerFailed = 32'd11;  // a unit that it had joined
  localparam logic [31:0] InfoStuck = 32'd12;          // not ready after a soft reset

  // Words of a request
  localparam int unsigned RequestArrival = 0;  // cycle before which it does not start
  localparam int unsigned RequestAddress = 1;  // command list
  localparam int unsigned RequestCount = 2;
  localparam int unsigned RequestLimit = 3;    // cycles after which it is given up
  localparam int unsigned RequestJoin = 4;     // its number of a split in [31:16] and its units in [15:0]; 0: none
  localparam int unsigned RequestWords = 5;    // and for each unit how many of its requests must be complete before

  // Words of an answer
  localparam int unsigned AnswerInfo = 0;
  localparam int unsigned AnswerIrqStatus = 1;
  localparam int unsigned AnswerStart = 2;     // cycle in which the unit's start was answered
  localparam int unsigned AnswerEnd = 3;       // cycle of its interrupt
  localparam int unsigned AnswerCycles = 4;    // register `cycles`
  localparam int unsigned AnswerCause = 5;     // registers `error_cause` and `error_command`
  localparam int unsigned AnswerCommand = 6;
  localparam int unsigned AnswerResponse = 7;  // the worst AXI response to an access
  localparam int unsigned AnswerWords = 8;
endpackage
