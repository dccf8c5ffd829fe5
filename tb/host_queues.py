# SPDX-License-Identifier: Apache-2.0
"""The host's queues at work in a session: they take requests, and go on until units answer or to a cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tb.queues import Ledger, QueuedRequest, UnitAnswer

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

    from tb.session import Session


class HostQueues:
    """The host's queues at work: see `Session.queues`. Leaving them as a context closes them.

    Args:
        session: whose they are.

    Attributes:
        now: the cycle of the queues; cycle 0 is when they were put to work.
    """

    def __init__(self, session: Session) -> None:
        self.now = 0
        self._session = session
        self._ledger = Ledger(session.config)
        self._packed: list[dict[str, Any]] = []
        self._open = 0  # answers that are to come
        self._closed = False

    def add(self, request: QueuedRequest) -> bool:
        """Queue a request, if its units' queues have room; return whether they have.

        Raises:
            JobError: a request that cannot be.
        """
        self._ledger.check(request)
        if not self._ledger.has_room(request):
            return False
        self._packed.append(self._ledger.pack(request))
        self._open += len(request.starts)
        return True

    def run(self, until: int | None = None) -> list[UnitAnswer]:
        """Go on until units have answered, and return their answers: none if a cycle or the end comes before.

        Args:
            until: the cycle; by default the end, when no request is left.

        Raises:
            HostError: a unit's registers do not answer, or it is not ready after a soft reset.
            SimulatorError: the simulator died.
        """
        packed, self._packed = self._packed, []
        answer = self._session._request({"requests": packed, "until": until})
        self.now = answer["now"]
        self._open -= len(answer["answered"])
        return [self._ledger.answered(item) for item in answer["answered"]]

    def close(self) -> None:
        """Let the queues rest; requests that are not complete are given up."""
        if self._closed:
            return
        self._closed = True
        session = self._session
        if session._open:
            session._request({"requests": None})
            if self._open:  # the units may be at work
                session.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
