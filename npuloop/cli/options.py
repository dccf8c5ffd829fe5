# SPDX-License-Identifier: Apache-2.0
"""Options that mean the same in every sub-command, and the system that they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import UnsupportedError
from common.files import check_output, check_output_folder
from hw.system import PRESETS, System
from hw.system_file import load_system, with_settings
from npuloop.cli.console import reports_errors

SYSTEM = "pair"
"""The system of commands that are not told another."""

SystemName = Annotated[
    str, typer.Option("--system", help=f"the hardware: {', '.join(PRESETS)}, or a file (system.yaml)")
]
Setting = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="parameter of a unit, UNIT.PARAM=VALUE, such as npu_lb.W_BITS=4 (without UNIT. if the system "
        "has one unit), or AXI_BITS=64; repeatable",
    ),
]
Unit = Annotated[str | None, typer.Option(help="unit of the system; default: its first")]
Units = Annotated[
    list[str] | None, typer.Option("--unit", help="unit of the system; repeatable; default: all")
]
Workers = Annotated[
    int | None, typer.Option(min=0, max=1024, help="worker processes; default: one per core; 0: none")
]
Scheduler = Annotated[str | None, typer.Option(help="address of a running Dask scheduler, for its workers")]
Latency = Annotated[int, typer.Option(help="memory latency, cycles")]
TlsAuthority = Annotated[
    Path | None, typer.Option("--tls-ca", help="authority of a scheduler at tls://HOST:PORT (PEM)")
]
TlsCertificate = Annotated[Path | None, typer.Option("--tls-cert", help="our certificate for it (PEM)")]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="the certificate's key (PEM)")]
MAX_SEED = (1 << 63) - 1
Backpressure = Annotated[
    int | None, typer.Option(min=0, max=MAX_SEED, help="seed of random stalls of the memory")
]


@reports_errors
def _check_file(path: Path | None) -> None:
    if path is not None:
        check_output(path)


@reports_errors
def _check_folder(path: Path | None) -> None:
    if path is not None:
        check_output_folder(path)


def checked_file(path: Path | None) -> Path | None:
    """Return a file that a command will write, once it is known that it can be: before the work."""
    _check_file(path)
    return path


def _folder(path: Path | None) -> Path | None:
    """Return a folder that a command will write into, once it is known that it can be."""
    _check_folder(path)
    return path


def written_file(*names: str, what: str) -> Any:
    """Return the option of a file that the command writes; its place is checked before the work."""
    return typer.Option(*names, help=what, callback=checked_file)


def written_folder(*names: str, what: str) -> Any:
    """Return the option of a folder that the command writes into; it is checked before the work."""
    return typer.Option(*names, help=what, callback=_folder)


StoreFile = Annotated[Path | None, written_file(what="file of all measurements; default: beside the builds")]


def tls_files(
    authority: Path | None, certificate: Path | None, key: Path | None
) -> tuple[Path, Path, Path] | None:
    """Return the three files of TLS, or None where none is given.

    Raises:
        UnsupportedError: only some are given.
    """
    if authority is None and certificate is None and key is None:
        return None
    if authority is None or certificate is None or key is None:
        raise UnsupportedError("TLS needs three files: give --tls-ca, --tls-cert and --tls-key")
    return authority, certificate, key


def system_of(name: str | System, settings: Sequence[str]) -> System:
    """Return the system that --system and --set ask for.

    Raises:
        ConfigError: see `load_system`, `with_settings`.
    """
    return with_settings(name if isinstance(name, System) else load_system(name), settings)


def unit_of(system: System, unit: str | None) -> str:
    """Return the unit that --unit asks for.

    Raises:
        ConfigError: the system has no such unit.
    """
    return system.cores[0].name if unit is None else system.core(unit).name


def units_of(system: System, units: Sequence[str] | None) -> tuple[str, ...]:
    """Return the units that a repeatable --unit asks for, in the order of the system.

    Raises:
        ConfigError: the system has no such unit.
    """
    return tuple(sorted(set(units), key=system.index)) if units else system.units


def system_options(name: str, settings: Sequence[str]) -> str:
    """Return --system and --set as a command line has them; nothing for the default system."""
    words = [] if name == SYSTEM else [f"--system {name}"]
    return " ".join([*words, *(f"--set {setting}" for setting in settings)])
