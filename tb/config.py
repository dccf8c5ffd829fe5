"""Which hardware is built: the parameters of the cores and of the system around them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


class TestbenchError(RuntimeError):
    """Something around the simulated hardware is wrong; the message says what and how to fix it."""

    __test__ = False  # not a test class, whatever its name says to pytest


class ConfigError(TestbenchError):
    """A hardware configuration that cannot be built."""


TILE_BITS = 2048
"""Bits of a weight tile with 16 rows: what all default shapes share."""


def default_cols(w_bits: int, rows: int = 16) -> int:
    """Return the columns of the array that fill a weight tile: 128 / w_bits at 16 rows, in steps of 16."""
    return TILE_BITS // w_bits // rows // 16 * 16


@dataclass(frozen=True)
class CoreConfig:
    """Parameters of one NPU core. `name` is the unit's name in jobs and results.

    `cols=None` takes :func:`default_cols`. Sizes: scratchpads in KiB, `stripe_depth` in output pixels.
    """

    name: str
    a_bits: int = 8
    w_bits: int = 8
    rows: int = 16
    cols: int | None = None
    stripe_depth: int = 64
    lanes: int = 16
    dw_taps: int = 5
    act_kib: int = 128
    weight_kib: int = 64
    param_kib: int = 16

    def __post_init__(self) -> None:
        """Check every parameter and fill in the columns."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("name", "cols") and (not isinstance(value, int) or isinstance(value, bool)):
                raise ConfigError(f"core {self.name!r}: {field.name} = {value!r} must be an integer")
        self._check(bool(self.name) and self.name.isidentifier(), "name", "must be an identifier")
        self._check(4 <= self.a_bits <= 8, "a_bits", "must be 4 to 8")
        self._check(2 <= self.w_bits <= 8, "w_bits", "must be 2 to 8")
        self._check(
            self.rows >= 16 and self.rows & (self.rows - 1) == 0,
            "rows",
            "must be a multiple of 16 and a power of two",
        )
        if self.cols is None:
            object.__setattr__(self, "cols", default_cols(self.w_bits, self.rows))
        cols = self.columns
        self._check(
            cols >= self.rows and cols % self.rows == 0 and self.rows * cols * self.w_bits <= 255 * 256,
            "cols",
            f"must be a multiple of rows ({self.rows}), a tile of rows x cols weights at most 65280 bits",
        )
        self._check(1 <= self.stripe_depth <= 255, "stripe_depth", "must be 1 to 255")
        self._check(self.lanes in (1, 2, 4, 8, 16), "lanes", "must be 1, 2, 4, 8 or 16")
        self._check(1 <= self.dw_taps <= 16, "dw_taps", "must be 1 to 16")
        self._check(1 <= self.act_kib <= 4095, "act_kib", "must be 1 to 4095")
        self._check(1 <= self.weight_kib <= 4095, "weight_kib", "must be 1 to 4095")
        self._check(1 <= self.param_kib <= 255, "param_kib", "must be 1 to 255")

    @property
    def columns(self) -> int:
        """Output channels of the array."""
        assert self.cols is not None  # set by __post_init__
        return self.cols

    def _check(self, holds: bool, field: str, rule: str) -> None:
        if not holds:
            raise ConfigError(f"core {self.name!r}: {field} = {getattr(self, field)!r} {rule}")

    def registers(self, axi_bits: int) -> dict[str, dict[str, int]]:
        """Return what the configuration registers of this core must hold: register, field, value."""
        return {
            "config_array": {
                "a_bits": self.a_bits,
                "w_bits": self.w_bits,
                "rows": self.rows,
                "cols": self.columns,
            },
            "config_memory": {
                "act_kib": self.act_kib,
                "weight_kib": self.weight_kib,
                "param_kib": self.param_kib,
            },
            "config_pipeline": {
                "stripe_depth": self.stripe_depth,
                "lanes": self.lanes,
                "dw_taps": self.dw_taps,
                "axi_bits": axi_bits,
            },
        }


NPU8 = CoreConfig("npu8")
"""The 8-bit unit: W8A8 on 16 x 16."""

NPU_LB = CoreConfig("npu_lb", w_bits=2)
"""The low-bit unit: W2A8 on 16 x 64."""


@dataclass(frozen=True)
class SocConfig:
    """A system: its cores in the order of their registers, the AXI data width, and the test memory."""

    cores: tuple[CoreConfig, ...] = (NPU8, NPU_LB)
    axi_bits: int = 128
    mem_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        """Check the parameters that cores share."""
        if not 1 <= len(self.cores) <= 16:
            raise ConfigError(f"{len(self.cores)} cores: a system has 1 to 16")
        names = [core.name for core in self.cores]
        if len(set(names)) != len(names):
            raise ConfigError(f"cores {', '.join(names)}: every core needs its own name")
        if self.axi_bits not in (64, 128):
            raise ConfigError(f"axi_bits = {self.axi_bits!r} must be 64 or 128")
        if self.mem_bytes < 4096 or self.mem_bytes > 1 << 31 or self.mem_bytes & (self.mem_bytes - 1):
            raise ConfigError(f"mem_bytes = {self.mem_bytes!r} must be a power of two, 4 KiB to 2 GiB")

    def index(self, unit: str) -> int:
        """Return the position of a unit, which is also the number of its register block."""
        for i, core in enumerate(self.cores):
            if core.name == unit:
                return i
        known = ", ".join(core.name for core in self.cores)
        raise ConfigError(f"no unit {unit!r} in this system; it has {known}")

    def parameter(self) -> str:
        """Return the cores as one SystemVerilog literal: the value of npu_soc's parameter Cores."""
        members = (
            "a_bits",
            "w_bits",
            "rows",
            "cols",
            "stripe_depth",
            "lanes",
            "dw_taps",
            "act_kib",
            "weight_kib",
            "param_kib",
        )
        words = [
            f"{value:08x}"
            for core in reversed(self.cores)
            for value in (*(getattr(core, name) for name in members), self.axi_bits)
        ]
        return f"{32 * len(words)}'h{''.join(words)}"

    def package(self) -> str:
        """Return the SystemVerilog package that carries this configuration to the test top."""
        lines = [
            "/// Configuration of the test top. Written by tb/build.py.",
            "package npu_config_pkg;",
            f"  localparam int unsigned NumCores = {len(self.cores)};",
            f"  localparam int unsigned AxiDataBits = {self.axi_bits};",
            f"  localparam int unsigned MemBytes = {self.mem_bytes};",
        ]
        for i, core in enumerate(self.cores):
            members: dict[str, Any] = {"axi_bits": self.axi_bits}
            for values in core.registers(self.axi_bits).values():
                members.update(values)
            body = ", ".join(f"{name}: {value}" for name, value in members.items())
            lines.append(f"  localparam npu_pkg::core_cfg_t Core{i} = '{{{body}}};  // {core.name}")
        order = ", ".join(f"Core{i}" for i in reversed(range(len(self.cores))))
        lines += [f"  localparam npu_pkg::core_cfg_t [NumCores-1:0] Cores = {{{order}}};", "endpackage", ""]
        return "\n".join(lines)
