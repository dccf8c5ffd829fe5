# SPDX-License-Identifier: Apache-2.0
"""The part of a session that runs inside the simulator: a cocotb test that takes requests and answers them.

The model's arrays are numpy views of the simulator's own memory, so nothing is copied signal by signal; the
test sleeps on `wake_o` while the host in tb_host.sv works through its list. It knows no jobs: that is
`tb.session`'s part.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import time
import traceback
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import First, Timer, Trigger
from cocotb.utils import get_sim_time

from common.arrays import Array
from tb.host import RESULT_WORDS
from tb.queues import ANSWER_WORDS, MAX_REQUESTS, REQUEST_WORDS

STEPS = 2
"""Steps of simulated time in a clock cycle: main.cpp."""
BEFORE_FIRST = 1
"""Cycles from the time at which the queues are told to serve to their cycle 0: tb_host.sv."""
CHANNEL_VARIABLE = "NPULOOP_SESSION_FD"
LIFELINE_VARIABLE = "NPULOOP_LIFELINE_FD"


def end_with(lifeline: int) -> None:
    """End this process when the other end of a pipe is closed, be it in the middle of a simulated cycle.

    Nothing is ever written into the pipe; the kernel sends SIGIO, which ends a process, when its last writer
    is gone.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(lifeline, select.POLLHUP)
    if poll.poll(0):  # gone before it was asked for
        os.kill(os.getpid(), signal.SIGKILL)


class Model:
    """The simulated model's arrays, and its traces."""

    def __init__(self) -> None:
        """Find the functions that main.cpp exports in this process."""
        library = ctypes.CDLL(None)
        self._buffer = library.npuloop_buffer
        self._buffer.restype = ctypes.c_void_p
        self._buffer.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64)]
        self._trace_open = library.npuloop_trace_open
        self._trace_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        self._trace_close = library.npuloop_trace_close
        self.memory = self.view("memory", np.uint8)
        self.settings = self.view("settings", np.uint32)
        self.statistics = self.view("statistics", np.uint32)
        self.control = self.view("control", np.uint32)
        self.ops = self.view("ops", np.uint32)
        self.results = self.view("results", np.uint32).reshape(-1, RESULT_WORDS)
        self.head = self.view("head", np.uint32)
        self.tail = self.view("tail", np.uint32)
        units = len(self.head)
        self.requests = self.view("requests", np.uint32).reshape(units, MAX_REQUESTS, REQUEST_WORDS + units)
        self.answers = self.view("answers", np.uint32).reshape(units, MAX_REQUESTS, ANSWER_WORDS)

    def view(self, name: str, dtype: type[np.generic]) -> Array:
        """Return an array of the model without copying it."""
        size = ctypes.c_uint64()
        address = self._buffer(name.encode(), ctypes.byref(size))
        if not address:
            raise RuntimeError(f"the model has no array {name!r}")
        raw = (ctypes.c_uint8 * size.value).from_address(address)
        view: Array = np.ctypeslib.as_array(raw).view(dtype)
        return view

    def trace(self, path: str, scopes: Sequence[str]) -> None:
        """Start to trace the signals of these modules, or all, into a file."""
        if not self._trace_open(path.encode(), "\n".join(scopes).encode()):
            raise RuntimeError(f"cannot trace into {path}: not a wave build, or the file cannot be written")

    def end_trace(self) -> None:
        """Close the trace."""
        self._trace_close()


class Server:
    """State between requests: which part of the memory is not the fill byte."""

    def __init__(self, dut: Any) -> None:
        """Take the test top."""
        self.dut = dut
        self.model = Model()
        self.dirty = (0, len(self.model.memory))
        self.fill: int | None = None

    async def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one list of host operations and return its results."""
        model = self.model
        if not request["keep_memory"]:
            self.clear(request["fill"])
        self.write(request["segments"])
        if request["settings"] is not None:
            model.settings[:] = request["settings"]
        ops = request["ops"]
        model.ops[: len(ops)] = ops
        if request["trace"]:
            model.trace(request["trace"], request["scopes"])
        begin = time.perf_counter()
        model.control[0] += 1
        await self.dut.wake_o.value_change
        seconds = time.perf_counter() - begin
        if request["trace"]:
            model.end_trace()
        count = len(ops) // (len(model.ops) // len(model.results))
        read_beats, write_beats, _, _, outstanding = (int(value) for value in model.statistics[:5])
        self.touch_written()
        return {
            "results": model.results[:count].copy(),
            "read_beats": read_beats,
            "write_beats": write_beats,
            "outstanding": outstanding,
            "seconds": seconds,
            "reads": self.read(request["reads"]),
        }

    async def serve(self, first: dict[str, Any], channel: Connection) -> dict[str, Any]:
        """Run requests through the queues until the other side ends it.

        It sends requests, and a cycle or None. Answers go to it as they come, or none when the cycle has
        come, or when nothing is left to be answered; then it sends the next requests, or None at the end.
        """
        model, queues, message = self.model, Queues(self), first
        model.head[:] = 0
        model.control[1] = 1
        begin = get_sim_time("step")

        def now() -> int:
            return max(0, (get_sim_time("step") - begin) // STEPS - BEFORE_FIRST)

        while message["requests"] is not None:
            queues.add(message["requests"])
            until = message["until"]
            done: list[dict[str, Any]] = []
            while queues.open and not done and (until is None or now() < until):
                triggers: list[Trigger] = [self.dut.wake_o.value_change]
                if until is not None:
                    triggers.append(Timer((until - now()) * STEPS, "step"))
                await First(*triggers)
                done = queues.answered()
            channel.send({"answered": done, "now": now()})
            message = channel.recv()
        model.control[1] = 0
        self.touch_written()
        return {}

    def touch_written(self) -> None:
        """Remember what the units have written since the last list of operations began."""
        _, write_beats, first, last, _ = (int(value) for value in self.model.statistics[:5])
        if write_beats:
            self.touch(first, min(last + 16, len(self.model.memory)))

    def write(self, segments: Sequence[tuple[int, Array]]) -> None:
        """Write into the memory."""
        for address, data in segments:
            self.model.memory[address : address + len(data)] = data
            self.touch(address, address + len(data))

    def read(self, reads: Sequence[tuple[int, int]]) -> list[Array]:
        """Return copies of parts of the memory."""
        return [self.model.memory[address : address + size].copy() for address, size in reads]

    def clear(self, fill: int) -> None:
        """Give the memory the fill byte again where anything was written."""
        low, high = (0, len(self.model.memory)) if fill != self.fill else self.dirty
        self.model.memory[low:high] = fill
        self.dirty = (0, 0)
        self.fill = fill

    def touch(self, low: int, high: int) -> None:
        """Remember that bytes from low up to high were written."""
        old_low, old_high = self.dirty
        self.dirty = (min(low, old_low), max(high, old_high)) if old_high > old_low else (low, high)


class Queues:
    """What has been sent to the host's queues and is not answered."""

    def __init__(self, server: Server) -> None:
        """Begin with empty queues."""
        self.server = server
        self.model = server.model
        self.open: dict[int, dict[str, Any]] = {}
        self.queues: list[deque[int]] = [deque() for _ in self.model.head]
        self.taken = [0] * len(self.queues)  # answers

    def add(self, requests: Sequence[dict[str, Any]]) -> None:
        """Put requests into the rings."""
        for request in requests:
            request["left"] = set(request["words"])
            self.open[request["number"]] = request
            for unit, words in request["words"].items():
                self.model.requests[unit, self.model.head[unit] % MAX_REQUESTS] = words
                self.model.head[unit] += 1
                self.queues[unit].append(request["number"])
        self.write_inputs()

    def answered(self) -> list[dict[str, Any]]:
        """Return the answers since the last call; that of a request's last unit has what is read."""
        done = []
        for unit, queue in enumerate(self.queues):
            while self.taken[unit] < self.model.tail[unit]:
                number = queue.popleft()
                request = self.open[number]
                answer = self.model.answers[unit, self.taken[unit] % MAX_REQUESTS].copy()
                self.taken[unit] += 1
                request["left"].discard(unit)
                reads: list[Array] = []
                if not request["left"]:
                    del self.open[number]
                    reads = self.server.read(request["reads"])
                done.append({"number": number, "unit": unit, "answer": answer, "reads": reads})
        self.write_inputs()
        return done

    def write_inputs(self) -> None:
        """Write what belongs to the requests that come next on all their units."""
        for number in {queue[0] for queue in self.queues if queue}:
            request = self.open[number]
            if request["segments"] and all(
                self.queues[unit] and self.queues[unit][0] == number for unit in request["words"]
            ):
                self.server.write(request["segments"])
                request["segments"] = ()


@cocotb.test()
async def serve(dut: Any) -> None:
    """Answer requests until the other side closes the channel."""
    end_with(int(os.environ[LIFELINE_VARIABLE]))
    channel = Connection(int(os.environ[CHANNEL_VARIABLE]))
    server = Server(dut)
    channel.send({"ready": True})
    while True:
        try:
            request = channel.recv()
        except EOFError:
            return
        if request is None:
            return
        try:
            if "requests" in request:
                answer = await server.serve(request, channel)
            else:
                answer = await server.run(request)
        except Exception:
            channel.send({"failure": traceback.format_exc()})
            raise
        channel.send(answer)
