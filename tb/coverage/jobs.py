# SPDX-License-Identifier: Apache-2.0
"""What a job of a session adds to the functional plan: its commands, its units, its memory, its end."""

from __future__ import annotations

from collections.abc import Iterator

from hw.commands import CommandError, decode
from hw.core import CoreConfig
from hw.interface import COMMANDS, ENGINES, TARGETS
from hw.memory import MemoryModel
from hw.system import System
from tb.coverage.plan import sample_once
from tb.job import Job, JobResult

WINDOWED = ("conv", "depthwise", "average_pool", "max_pool")
_POOL_PARTS = ("in_part", "out_part")
_PARTS = {"add": ("in_part", "in2_part", "out_part"), "average_pool": _POOL_PARTS, "max_pool": _POOL_PARTS}
"""Fields of operators that may work on a part of words other than the first; others have an output part."""


def sample_job(config: System, job: Job, result: JobResult) -> bool:
    """Sample a job that has run, whatever its end; return whether it was of a kind not sampled before."""
    return sum(sample_once(group, **values) for group, values in _samples(config, job, result)) > 0


def _samples(config: System, job: Job, result: JobResult) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield groups of the plan with what a job says of them."""
    yield "job", _job(config, job, result)
    memory = _memory(job.memory)
    for unit, outcome in result.units.items():
        core = config.core(unit)
        of_unit = _unit(core, config.axi_bits)
        yield "unit", of_unit
        if outcome.error is not None:
            yield (
                "error",
                {
                    "cause": outcome.error.cause,
                    "engine": outcome.error.engine,
                    "backpressure": memory["backpressure"],
                    "axi_bits": config.axi_bits,
                },
            )
        elif outcome.done:  # else which of its commands have run is not known
            for command in _commands(job, unit):
                yield "command", _command(command, core) | of_unit | memory


def _commands(job: Job, unit: str) -> Iterator[dict[str, int | str]]:
    """Return the decoded commands of a unit's list, each kind once."""
    blocks: set[bytes] = set()
    for index in range(job.starts[unit][1]):
        block = job.command_at(unit, index)
        if block is None or block.tobytes() in blocks:
            continue
        blocks.add(block.tobytes())
        try:
            yield decode(block)
        except CommandError:
            continue


def _job(config: System, job: Job, result: JobResult) -> dict[str, object]:
    if job.reset_after is not None:
        end = "soft reset"
    elif result.timed_out:
        end = "given up"
    else:
        end = "error" if any(unit.error for unit in result.units.values()) else "done"
    keys = {config.core(unit).key for unit in job.starts}
    return {
        "units": min(len(job.starts), 4) if job.starts else None,
        "kinds": None if len(job.starts) < 2 else ("different" if len(keys) == len(job.starts) else "equal"),
        "end": end,
        "axi_bits": config.axi_bits,
        **_memory(job.memory),
    }


def _memory(memory: MemoryModel) -> dict[str, object]:
    percent = memory.backpressure_percent
    slow = memory.beats < memory.per_cycles
    return {
        "backpressure": "none" if percent == 0 else "up to half" if percent <= 50 else "more than half",
        "latency": "short" if memory.latency < 20 else "20" if memory.latency == 20 else "long",
        "bandwidth": "limited" if slow else "full",
        "address": "with data" if memory.data_first else "before data",
    }


def _unit(core: CoreConfig, axi_bits: int) -> dict[str, object]:
    tile = core.rows * core.columns * core.w_bits
    return {
        "w_bits": core.w_bits,
        "a_bits": core.a_bits,
        "rows": core.rows if core.rows <= 32 else "64 or more",
        "cols": "as rows" if core.columns == core.rows else "more than rows",
        "tile": "2048 bits" if tile == 2048 else "fewer" if tile < 2048 else "more",
        "lanes": core.lanes,
        "dw_taps": "1" if core.dw_taps == 1 else "2 to 4" if core.dw_taps < 5 else "5 or more",
        "stripe_depth": "below 32"
        if core.stripe_depth < 32
        else "32"
        if core.stripe_depth == 32
        else "above 32",
        "axi_bits": axi_bits,
    }


def _command(command: dict[str, int | str], core: CoreConfig) -> dict[str, object]:
    name = str(command["command"])
    fields = {key: int(value) for key, value in command.items() if key not in ("command", "engine")}
    layout = COMMANDS[name][1]
    values: dict[str, object] = {
        "operator": name,
        "engine": command["engine"],
        "fence": "yes" if fields.get("fence") else "no",
        **{f"waits_{engine}": "yes" if fields.get(f"wait_{engine}") else "no" for engine in ENGINES},
        **{f"posts_{engine}": "yes" if fields.get(f"post_{engine}") else "no" for engine in ENGINES},
    }
    if layout == "transfer":
        values |= _transfer(fields)
    elif layout in ("operator", "add"):
        values |= _compute(name, fields, core)
    elif name == "wait":
        amount = fields.get("amount", 0)
        values["amount"] = "0" if amount == 0 else "1" if amount == 1 else "2 or more"
    return values


def _transfer(fields: dict[str, int]) -> dict[str, object]:
    words = fields["line_words"]
    address = fields.get("mem_address", 0)
    line_gap = fields.get("line_stride", 0) != 16 * words
    return {
        "target": TARGETS[fields.get("target", 0)],
        "line": "1 word" if words == 1 else "within a burst" if words <= 256 else "several bursts",
        "page": "within" if address % 4096 + 16 * words <= 4096 else "crossed",
        "lines": "1" if fields["lines"] == 1 else "apart" if line_gap else "one behind the other",
        "planes": "1" if fields["planes"] == 1 else "several",
        "step": {0: "0", 1: "1"}.get(fields.get("local_step", 0), "more"),
    }


def _amount(value: int, whole: int) -> str:
    """Return how many wholes a value is: a part of one, one, several, or several and a part."""
    if value <= whole:
        return "one" if value == whole else "part"
    return "several and a part" if value % whole else "several"


def _pair(height: int, width: int, large: int) -> str:
    """Return the bin of a stride or dilation; those of `large` and more are one."""
    if height != width:
        return "unequal"
    return str(height) if height < large else f"{large} or more"


def _kernel(height: int, width: int) -> str:
    if height != width:
        return "row" if height == 1 else "column" if width == 1 else "oblong"
    return f"{height}x{height}" if height in (1, 2, 3, 5) else "larger"


def _compute(name: str, fields: dict[str, int], core: CoreConfig) -> dict[str, object]:
    low, high = fields.get("act_min", 0), fields.get("act_max", 0)
    values: dict[str, object] = {
        "clamp": "none" if (low, high) == (-128, 127) else "narrow",
        "zero_point": "0" if fields.get("out_zero_point", 0) == 0 else "other",
        "stripes": _amount(fields["out_pixels"], fields["stripe_pixels"]),
        "out_channels": _amount(fields["out_channels"], core.columns if name == "conv" else core.rows),
    }
    for part in _PARTS.get(name, ("out_part",)):
        values[part] = "other" if fields.get(part) else "first"
    if name not in WINDOWED:
        return values
    kernel = fields["kernel_h"], fields["kernel_w"]
    stride = fields["stride_h"], fields["stride_w"]
    dilation = fields["dilation_h"], fields["dilation_w"]
    top, left = fields.get("in_row", 0), fields.get("in_column", 0)
    rows = -(-fields["out_pixels"] // fields["out_width"])
    bottom = top + (rows - 1) * stride[0] + (kernel[0] - 1) * dilation[0]
    right = left + (fields["out_width"] - 1) * stride[1] + (kernel[1] - 1) * dilation[1]
    before = top < 0 or left < 0
    after = bottom >= fields["in_height"] or right >= fields["in_width"]
    values |= {
        "kernel": _kernel(*kernel),
        "stride": _pair(*stride, 3),
        "dilation": _pair(*dilation, 3),
        "padding": ("both" if after else "before") if before else "after" if after else "none",
        "in_channels": _amount(fields["in_channels"], core.rows),
    }
    if name == "depthwise":
        values["slide"] = "yes" if fields.get("slide") else "no"
    if name == "conv":
        start = "kept sums" if fields.get("accumulate") else "zero"
        values["accumulators"] = f"from {start}, {'kept' if fields.get('keep') else 'written'}"
    if name in ("conv", "depthwise"):
        values["rounding"] = "single" if fields.get("single_rounding") else "double"
    return values
