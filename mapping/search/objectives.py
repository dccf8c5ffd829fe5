"""What a search pays for: prices of compiled command lists.

An objective is a function from a system to a price. A new one, such as energy when its tables are there, is
one more entry of OBJECTIVES.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from mapping.cost.model import CostModel
from mapping.cost.tables import TableError, table_path
from mapping.search.costs import MapError, Price
from tb.build import rtl_hash
from tb.config import CoreConfig, SocConfig
from tb.job import MemoryModel


def current_model(config: SocConfig) -> CostModel:
    """Return the cost model of a system, whose tables are of the present RTL.

    Raises:
        TableError: a table that is missing, or stale.
    """
    model = CostModel(config, memory=MemoryModel())
    for cores in _units_with_tables(config):
        table = model.table(*(core.name for core in cores))
        if table.rtl_sha256 != rtl_hash():
            raise TableError(
                f"{table_path(cores, config)}: stale: it was calibrated on other RTL; run `npuloop calibrate "
                "--all`"
            )
    return model


def tables_digest(config: SocConfig) -> str:
    """Return a hash of the tables of a system.

    Raises:
        TableError: one is missing.
    """
    current_model(config)
    content = b"".join(table_path(cores, config).read_bytes() for cores in _units_with_tables(config))
    return hashlib.sha256(content).hexdigest()


def _units_with_tables(config: SocConfig) -> list[list[CoreConfig]]:
    """Return the units that have a table: each, and all together."""
    return [[core] for core in config.cores] + [list(config.cores)]


def latency(config: SocConfig) -> Price:
    """Return the price in predicted cycles, first start to last interrupt."""
    model = current_model(config)
    return lambda program: model.program(program).cycles


OBJECTIVES: dict[str, Callable[[SocConfig], Price]] = {"latency": latency}
"""Objectives by name."""


def price_of(objective: str, config: SocConfig) -> Price:
    """Return the price of an objective on a system.

    Raises:
        MapError: an objective that does not exist.
        TableError: tables that are missing or stale.
    """
    if objective in ("energy", "both"):
        raise MapError(
            f"objective {objective!r}: there are no energy tables; objectives are {', '.join(OBJECTIVES)}"
        )
    if objective not in OBJECTIVES:
        raise MapError(f"there is no objective {objective!r}; there are {', '.join(OBJECTIVES)}")
    return OBJECTIVES[objective](config)
