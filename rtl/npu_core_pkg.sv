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

  /// What an engine does now, for the host's diagnosis.
  typedef struct packed {
    state_e                  state;
    logic [NumEngines-1:0]   tokens;    // those it waits for, by posting engine
    logic                    on_event;  // it waits for an event
    logic [EventIdBits-1:0]  event_id;
    logic [31:0]             oldest;    // index of its oldest unfinished command
  } engine_diag_t;
endpackage
