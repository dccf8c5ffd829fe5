# SPDX-License-Identifier: Apache-2.0
"""Systems as files, and single parameters of a system as a command line gives them.

    npuloop_system: 1                     # version of the format
    axi_bits: 128                         # width of the memory port; 64 or 128
    memory_mib: 16                        # size of the test memory; a power of two
    units:                                # in the order of their registers
      - {name: big}                       # every parameter that is not given has the core's default
      - {name: little, w_bits: 2, rows: 32, cols: 32, act_kib: 64, count: 2}    # little_0 and little_1
      - {name: spare, type: npu_lb, lanes: 8}    # the parameters of a preset core are the defaults

docs/reference/systems.md says more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from common.errors import ConfigError
from common.files import read_yaml
from hw.core import CoreConfig, default_cols, default_rows
from hw.system import MAX_CORES, PRESET_CORES, PRESETS, System

FORMAT_VERSION = 1
KEYS = ("npuloop_system", "axi_bits", "memory_mib", "units")
PARAMETERS = tuple(field.name for field in fields(CoreConfig) if field.name != "name")
UNIT_KEYS = ("name", "type", "count", *PARAMETERS)
PORT = "axi_bits"
"""The parameter that all units of a system share."""


# ------------------------------------------------------------------------------------------------------ file
def load_system(name_or_path: str | Path) -> System:
    """Return a preset system by its name, or the system of a file.

    Raises:
        ConfigError: one message that names the file, the unit, what is wrong and what to write.
    """
    if str(name_or_path) in PRESETS:
        return PRESETS[str(name_or_path)]
    path = Path(name_or_path)
    if not path.exists():
        raise ConfigError(
            f"{path}: no such file, and no preset; presets are {', '.join(PRESETS)}; "
            "docs/reference/systems.md says how to write a file"
        )
    document = read_yaml(path, ConfigError, "system file")
    if not isinstance(document, dict) or document.get("npuloop_system") != FORMAT_VERSION:
        raise ConfigError(f"{path}: no system file; it begins with `npuloop_system: {FORMAT_VERSION}`")
    for key in document:
        if key not in KEYS:
            raise ConfigError(f"{path}: unknown key {key!r}; there are {', '.join(KEYS)}")
    entries = document.get("units")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: units is {entries!r}; write a list: units: [{{name: big}}]")
    cores = [core for number, entry in enumerate(entries, 1) for core in _cores(path, number, entry)]
    for core in cores:
        if [other.name for other in cores].count(core.name) > 1:
            raise ConfigError(f"{path}: two units are called {core.name!r}; rename one")
    if len(cores) > MAX_CORES:
        raise ConfigError(
            f"{path}: units has {len(cores)} cores; a system has 1 to {MAX_CORES}: leave some out"
        )
    memory = _integer(path, "memory_mib", document.get("memory_mib", System.mem_bytes >> 20))
    if not 1 <= memory <= 2048 or memory & (memory - 1):
        raise ConfigError(f"{path}: memory_mib is {memory}; write a power of two, 1 to 2048")
    port = _integer(path, PORT, document.get(PORT, System.axi_bits))
    try:
        return System(tuple(cores), axi_bits=port, mem_bytes=memory << 20)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _integer(where: object, key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise ConfigError(f"{where}: {key} is {value!r}; write an integer")
    return value


def _cores(path: Path, number: int, entry: object) -> list[CoreConfig]:
    """Return the cores of an entry of `units`."""
    where = f"{path}, unit {number}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: is {entry!r}; write {{name: big, w_bits: 8}}")
    name = entry.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"{where}: name is {name!r}; write a name, as in name: big")
    where = f"{where} ({name!r})"
    for key in entry:
        if key not in UNIT_KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}; there are {', '.join(UNIT_KEYS)}")
    kind = entry.get("type")
    if kind is not None and (not isinstance(kind, str) or kind not in PRESET_CORES):
        raise ConfigError(
            f"{where}: no core {kind!r}; write type: {' or '.join(PRESET_CORES)}, or leave it out"
        )
    values = {key: _integer(where, key, entry[key]) for key in PARAMETERS if key in entry}
    try:
        core = _changed(replace(PRESET_CORES[kind], name=name) if kind else CoreConfig(name), values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if "count" not in entry:
        return [core]
    count = _integer(where, "count", entry["count"])
    if not 1 <= count <= MAX_CORES:
        raise ConfigError(f"{where}: count is {count}; write 1 to {MAX_CORES}, or leave the unit out")
    return [replace(core, name=f"{name}_{i}") for i in range(count)] if count > 1 else [core]


def system_text(system: System) -> str:
    """Return the file of a system.

    Raises:
        ConfigError: its memory is no whole number of MiB.
    """
    memory_mib, rest = divmod(system.mem_bytes, 1 << 20)
    if rest:
        raise ConfigError(f"mem_bytes = {system.mem_bytes}: a system file gives the memory in whole MiB")
    document = {
        "npuloop_system": FORMAT_VERSION,
        PORT: system.axi_bits,
        "memory_mib": memory_mib,
        "units": [_entry(core) for core in system.cores],
    }
    return yaml.safe_dump(document, sort_keys=False, width=110, default_flow_style=None)


def _entry(core: CoreConfig) -> dict[str, Any]:
    """Return a core's entry: its name and what is not the default."""
    defaults = {field.name: field.default for field in fields(core)}
    defaults |= {"rows": default_rows(core.w_bits), "cols": default_cols(core.w_bits, core.rows)}
    changed = {name: getattr(core, name) for name in PARAMETERS if getattr(core, name) != defaults[name]}
    return {"name": core.name, **changed}


# -------------------------------------------------------------------------------------------------- settings
def with_settings(system: System, settings: Iterable[str]) -> System:
    """Return a system with some parameters changed, later settings over earlier ones.

    Other weight widths or rows have other columns, unless these are given too.

    Args:
        system: the system.
        settings: "UNIT.PARAM=VALUE", such as "npu_lb.W_BITS=4"; without "UNIT." if the system has one unit.
            "AXI_BITS=64" is the port's, which all units share.

    Raises:
        ConfigError: an unknown unit or parameter, a value that is no integer or cannot be built, or no unit
            where there are several.
    """
    port = system.axi_bits
    changes: dict[str, dict[str, int]] = {}
    for setting in settings:
        left, _, text = setting.partition("=")
        unit, dot, parameter = left.rpartition(".")
        name = parameter.lower()
        if name == PORT and dot:
            raise ConfigError(f"{setting!r}: the port belongs to no unit; write {PORT.upper()}={text or 64}")
        if name != PORT and name not in PARAMETERS:
            known = ", ".join(item.upper() for item in (*PARAMETERS, PORT))
            raise ConfigError(f"no parameter {parameter!r} in {setting!r}; there are {known}")
        try:
            value = int(text)
        except ValueError:
            raise ConfigError(f"{setting!r}: give an integer, as in {left}=4") from None
        if name == PORT:
            port = value
            continue
        if not dot:
            if len(system.cores) > 1:
                forms = " or ".join(f"{item}.{parameter.upper()}={value}" for item in system.units)
                raise ConfigError(
                    f"{setting!r} does not say of which unit; the system has {', '.join(system.units)}: "
                    f"write {forms}"
                )
            (unit,) = system.units
        system.index(unit)  # refuses an unknown one
        changes.setdefault(unit, {})[name] = value
    cores = tuple(_changed(core, changes.get(core.name, {})) for core in system.cores)
    return replace(system, cores=cores, axi_bits=port)


def _changed(core: CoreConfig, values: Mapping[str, int]) -> CoreConfig:
    """Return a core with other parameters; rows and columns follow the width unless they are given."""
    shape: dict[str, Any] = {"cols": None} if {"w_bits", "rows"} & set(values) else {}
    if "w_bits" in values:
        shape["rows"] = 0
    return replace(core, **(shape | dict(values)))
