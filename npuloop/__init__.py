# SPDX-License-Identifier: Apache-2.0
"""The door: load, quantise, compile, run, predict, serve and search, and the command line in `npuloop.cli`.

    import npuloop

    network = npuloop.load("model.tflite")
    program = npuloop.compile(network, "npu8")
    print(npuloop.predict(program).cycles.cycles, npuloop.run(program)[0].cycles)

The functions are those of `npuloop.api`, which is imported when the first of them is asked for.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npuloop.api import (
        Network,
        Plan,
        Price,
        Service,
        System,
        compile,  # noqa: A004
        load,
        predict,
        quantize,
        run,
        save,
        search,
        serve,
    )

__all__ = [
    "Network",
    "Plan",
    "Price",
    "Service",
    "System",
    "compile",
    "load",
    "predict",
    "quantize",
    "run",
    "save",
    "search",
    "serve",
]

_ROOMS = ("common", "gates", "golden", "hw", "mapping", "tb")


def _check_rooms() -> None:
    """Refuse to run where a package of somebody else stands in the place of one of ours.

    Raises:
        ImportError: naming the two folders.
    """
    home = Path(__file__).resolve().parents[1]
    for room in _ROOMS:
        spec = importlib.util.find_spec(room)
        found = Path(spec.origin).resolve().parents[1] if spec and spec.origin else None
        if found != home:
            raise ImportError(
                f"npuloop in {home} finds the package {room!r} in {found or 'no folder'}: another package or "
                "folder of that name comes first; install npuloop into an environment of its own (pipx), or "
                "run it from another folder"
            )


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from npuloop import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_check_rooms()
