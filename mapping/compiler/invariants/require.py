# SPDX-License-Identifier: Apache-2.0
"""How a check says what does not hold."""

from __future__ import annotations

from common.errors import NpuloopError


class InvariantError(NpuloopError):
    """A pass has left something that must not be."""


def require(condition: object, message: str) -> None:
    """Raise InvariantError with a message, unless the condition is true."""
    if not condition:
        raise InvariantError(message)
