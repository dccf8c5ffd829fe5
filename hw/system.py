# SPDX-License-Identifier: Apache-2.0
"""Which hardware is built: any list of cores on a memory port. `hw.system_file` reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.errors import ConfigError
from hw.core import CoreConfig

NPU8 = CoreConfig("npu8")
"""The 8-bit unit: W8A8 on 16 x 16."""

NPU_LB = CoreConfig("npu_lb", w_bits=2, stripe_depth=16, weight_kib=16)
"""The low-bit unit: W2A8 on 32 x 32."""

PRESET_CORES = {core.name: core for core in (NPU8, NPU_LB)}
"""Cores that a system can name as the type of a unit."""
MAX_CORES = 16


@dataclass(frozen=True)
class System:
    """A system: its cores in the order of their registers, the AXI data width, and the test memory.

    Attributes:
        cores: the units; by default those of the preset `pair`.
        axi_bits: width of the memory port.
        mem_bytes: size of the test memory.
    """

    cores: tuple[CoreConfig, ...] = (NPU8, NPU_LB)
    axi_bits: int = 128
    mem_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        """Check the parameters that cores share."""
        if not 1 <= len(self.cores) <= MAX_CORES:
            raise ConfigError(f"{len(self.cores)} cores: a system has 1 to {MAX_CORES}")
        names = [core.name for core in self.cores]
        if len(set(names)) != len(names):
            raise ConfigError(f"cores {', '.join(names)}: every core needs its own name")
        if self.axi_bits not in (64, 128):
            raise ConfigError(f"axi_bits = {self.axi_bits!r} must be 64 or 128")
        if self.mem_bytes < 4096 or self.mem_bytes > 1 << 31 or self.mem_bytes & (self.mem_bytes - 1):
            raise ConfigError(f"mem_bytes = {self.mem_bytes!r} must be a power of two, 4 KiB to 2 GiB")

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the units, in their order."""
        return tuple(core.name for core in self.cores)

    def index(self, unit: str) -> int:
        """Return the position of a unit, which is also the number of its register block.

        Raises:
            ConfigError: the system has no such unit.
        """
        if unit not in self.units:
            raise ConfigError(f"no unit {unit!r} in this system; it has {', '.join(self.units)}")
        return self.units.index(unit)

    def core(self, unit: str) -> CoreConfig:
        """Return a unit's parameters.

        Raises:
            ConfigError: the system has no such unit.
        """
        return self.cores[self.index(unit)]

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
            lines.append(f"  localparam npu_pkg::core_cfg_t Core{i} = '{{{body}}};")
        order = ", ".join(f"Core{i}" for i in reversed(range(len(self.cores))))
        lines += [f"  localparam npu_pkg::core_cfg_t [NumCores-1:0] Cores = {{{order}}};", "endpackage", ""]
        return "\n".join(lines)


PRESETS = {**{name: System((core,)) for name, core in PRESET_CORES.items()}, "pair": System()}
"""Systems that have a name: each preset core alone, and both."""
