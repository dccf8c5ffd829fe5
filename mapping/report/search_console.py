# SPDX-License-Identifier: Apache-2.0
"""What `npuloop map` prints: the points of a study."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from mapping.search.objectives import PJ_PER_UJ
from mapping.search.points import Point


def point_table(points: Sequence[Point], title: str) -> Table:
    """Return the table of points; of several seeds the means."""
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.kind, point.setting].append(point)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("kind")
    energies = all(point.energy_pj is not None for point in points)
    energy = ["energy, µJ"] if energies else []
    for name in ("setting", "seeds", "predicted", "measured cycles", *energy, "accuracy %", "float %"):
        table.add_column(name, justify="right")
    table.add_column("exact in RTL")

    def mean(seeds: list[Point], name: str) -> float:
        return sum(float(getattr(point, name)) for point in seeds) / len(seeds)

    for (kind, setting), seeds in sorted(groups.items(), key=lambda item: mean(item[1], "measured_cycles")):
        table.add_row(
            kind, setting, str(len(seeds)), f"{mean(seeds, 'predicted_cycles'):,.0f}",
            f"{mean(seeds, 'measured_cycles'):,.0f}",
            *([f"{mean(seeds, 'energy_pj') / PJ_PER_UJ:,.2f}"] if energies else []),
            f"{mean(seeds, 'accuracy_percent'):.2f}",
            f"{mean(seeds, 'float_accuracy_percent'):.2f}",
            "yes" if all(point.exact_in_rtl for point in seeds) else Text("no", style="red"),
        )  # fmt: skip
    return table
