// SPDX-License-Identifier: Apache-2.0
/// What travels between the parts of a core.
package npu_core_pkg;
  import npu_pkg::*;

  /// Bits of an address while a transfer walks: no overflow wraps into the scratchpad unseen.
  localparam int unsigned WalkBits = LocalAddrBits + 5;

  typedef enum logic [2:0] {
    CORE_READY,
    CORE_RUN,
    CORE_STOP_ERROR,  // on the way to CORE_ERROR
    CORE_ERROR,
    CORE_STOP_RESET   // on the way to CORE_READY
  } core_state_e;
endpackage
