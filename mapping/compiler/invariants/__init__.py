# SPDX-License-Identifier: Apache-2.0
"""What holds after each pass, as checks: of a compilation, or of one of which a pass was changed.

Each check looks at what its pass has made from outside, without the pass's own helpers where it can.
"""

from __future__ import annotations

from collections.abc import Callable

from mapping.compiler.invariants.graphs import check_folded, check_legalised, check_ordered, check_requantised
from mapping.compiler.invariants.lists import check_emitted, check_linked, check_scheduled
from mapping.compiler.invariants.parts import check_divided, check_packed, check_placed, check_planned
from mapping.compiler.passes import Compilation

CHECKS: tuple[Callable[[Compilation], None], ...] = (
    check_legalised,
    check_requantised,
    check_folded,
    check_ordered,
    check_divided,
    check_packed,
    check_planned,
    check_placed,
    check_emitted,
    check_scheduled,
    check_linked,
)
"""One check for each pass, in their order."""


def check(compilation: Compilation) -> None:
    """Check what holds after every pass.

    Raises:
        InvariantError: something does not hold.
    """
    for check_pass in CHECKS:
        check_pass(compilation)
