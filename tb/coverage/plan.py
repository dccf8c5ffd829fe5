# SPDX-License-Identifier: Apache-2.0
"""The functional coverage plan: points, crosses and states as data, and sampling them.

cocotb-coverage does the counting. What a process has sampled lies in a file of its own in the folder that
collects; :func:`merged` adds the files up.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import TestbenchError
from common.files import read_json, read_yaml, write_json
from hw.interface import REGISTERS

PLAN = Path(__file__).with_name("plan.yaml")
Bins = dict[str, dict[str, int]]
"""Hits of each bin of each item; a bin of a cross is the bins of its points, joined."""

JOIN = ", "
_seen: set[tuple[object, ...]] = set()
"""What `sample_once` has sampled."""


class PlanError(TestbenchError):
    """The functional plan is wrong, or what is sampled is not in it."""


@dataclass(frozen=True)
class Cross:
    """Combinations of points' bins that must be seen; `excluded` says of the others why not."""

    of: tuple[str, ...]
    bins: tuple[tuple[str, ...], ...]
    excluded: Mapping[tuple[str, ...], str]

    @property
    def name(self) -> str:
        """The points' names, joined."""
        return " x ".join(self.of)


@dataclass(frozen=True)
class Group:
    """Points that are sampled together, and their crosses."""

    name: str
    where: str
    points: Mapping[str, tuple[str, ...]]
    crosses: tuple[Cross, ...]


@dataclass(frozen=True)
class States:
    """States of a module of the RTL that must be seen.

    Attributes:
        name: of this part of the plan.
        where: in words.
        module: of the RTL.
        watch: signals of the module by name, with their types.
        past: values of the cycle before, NAME_q for a watched NAME, with their types.
        parameters: parameters of the module that the types name, with default values.
        covers: each state's name and its condition in SystemVerilog.
        excluded: states that cannot be, each with the reason.
    """

    name: str
    where: str
    module: str
    watch: Mapping[str, str]
    past: Mapping[str, str]
    parameters: Mapping[str, int]
    covers: Mapping[str, str]
    excluded: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """The whole plan."""

    groups: Mapping[str, Group]
    states: tuple[States, ...] = field(default=())


def _matches(rule: Mapping[str, Any], bins: Mapping[str, str]) -> bool:
    """Return whether a rule leaves a combination of bins out: all the points that it names match."""
    return all(
        bins[name] in (value if isinstance(value, list) else [value])
        for name, value in rule.items()
        if name != "because"
    )


def _split(
    axes: Mapping[str, Sequence[str]], rules: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[str, ...]], dict[tuple[str, ...], str]]:
    """Return the combinations of axes that must be seen, and the others with their reasons."""
    used: set[int] = set()
    bins, excluded = [], {}
    for values in itertools.product(*axes.values()):
        named = dict(zip(axes, values, strict=True))
        matching = [i for i, rule in enumerate(rules) if _matches(rule, named)]
        used.update(matching)
        if matching:
            excluded[values] = str(rules[matching[0]]["because"])
        else:
            bins.append(values)
    idle = [rule for i, rule in enumerate(rules) if i not in used]
    if idle:
        raise PlanError(f"{PLAN.name}: the rule {idle[0]} leaves nothing out of {' x '.join(axes)}")
    return bins, excluded


def _group(name: str, data: Mapping[str, Any]) -> Group:
    points = {point: tuple(str(value) for value in bins) for point, bins in data["points"].items()}
    crosses = []
    for cross in data.get("crosses", []):
        axes = {
            point: [str(value) for value in cross.get("only", {}).get(point, points[point])]
            for point in cross["of"]
        }
        bins, excluded = _split(axes, cross.get("without", []))
        crosses.append(Cross(tuple(cross["of"]), tuple(bins), excluded))
    return Group(name, data["where"], points, tuple(crosses))


def _registers() -> dict[str, str]:
    """Return the address of every register as a literal."""
    return {name: f"8'h{address:02x}" for name, (address, _) in REGISTERS.items()}


def _states(name: str, data: Mapping[str, Any]) -> States:
    axes: dict[str, dict[str, Any]] = {
        axis: _registers() if values == "registers" else values for axis, values in data["axes"].items()
    }
    bins, excluded = _split({axis: list(values) for axis, values in axes.items()}, data.get("without", []))

    def text(template: str, values: tuple[str, ...]) -> str:
        return template.format(**dict(zip(axes, values, strict=True)))

    def term(values: tuple[str, ...]) -> str:
        terms = {axis: axes[axis][value] for axis, value in zip(axes, values, strict=True)}
        return str(data["when"]).format(**terms)

    return States(
        name=name,
        where=data["where"],
        module=data["module"],
        watch=data["watch"],
        past={f"{signal}_q": data["watch"][signal] for signal in data.get("past", [])},
        parameters=data.get("parameters", {}),
        covers={text(data["state"], values): term(values) for values in bins},
        excluded={text(data["state"], values): reason for values, reason in excluded.items()},
    )


@functools.cache
def load_plan() -> Plan:
    """Return the plan of `plan.yaml`.

    Raises:
        PlanError: it cannot be read, or a rule leaves nothing out.
    """
    data = read_yaml(PLAN, PlanError, "functional coverage plan")
    groups = {name: _group(name, group) for name, group in data["groups"].items()}
    return Plan(groups, tuple(_states(name, states) for name, states in data["states"].items()))


@functools.cache
def _sampler(group: str) -> Callable[[Mapping[str, str | None]], None]:
    """Return a function that cocotb-coverage counts the calls of."""
    from cocotb_coverage.coverage import CoverCross, CoverPoint, coverage_section

    plan = load_plan().groups[group]

    def value_of(point: str) -> Callable[[Mapping[str, str | None]], str | None]:
        return lambda values: values.get(point)

    items: list[Any] = [
        CoverPoint(f"{group}.{point}", xf=value_of(point), bins=list(bins))
        for point, bins in plan.points.items()
    ]
    items += [
        CoverCross(
            f"{group}.{cross.name}",
            items=[f"{group}.{point}" for point in cross.of],
            ign_bins=[
                values
                for values in itertools.product(*(plan.points[point] for point in cross.of))
                if values not in set(cross.bins)
            ],
        )
        for cross in plan.crosses
    ]

    def hit(values: Mapping[str, str | None]) -> None:
        del values

    decorated: Callable[[Mapping[str, str | None]], None] = coverage_section(*items)(hit)
    return decorated


def sample(group: str, **values: object) -> None:
    """Count one sample of a group of the plan.

    Args:
        group: its name.
        values: for each point its bin; None where it has none in this sample.

    Raises:
        PlanError: the plan has no such group or point, or the point no such bin.
    """
    plan = load_plan().groups.get(group)
    if plan is None:
        raise PlanError(f"{PLAN.name} has no group {group!r}")
    named = {point: None if value is None else str(value) for point, value in values.items()}
    for point, value in named.items():
        if point not in plan.points or (value is not None and value not in plan.points[point]):
            raise PlanError(f"{PLAN.name}: group {group} has no bin {value!r} of a point {point!r}")
    _sampler(group)(named)


def sample_once(group: str, **values: object) -> bool:
    """Sample what this process has not sampled before; return whether it was new.

    A network repeats itself, and so does a bench; the library is slow. Errors are those of `sample`.
    """
    key = (group, *values.items())
    if key in _seen:
        return False
    sample(group, **values)
    _seen.add(key)
    return True


def sampled() -> Bins:
    """Return what this process has sampled."""
    from cocotb_coverage.coverage import coverage_db

    plan = load_plan()
    bins: Bins = {}
    for group in plan.groups.values():
        for item in (*group.points, *(cross.name for cross in group.crosses)):
            counter = coverage_db.get(f"{group.name}.{item}")
            if counter is not None:
                counts = counter.detailed_coverage.items()
                bins[f"{group.name}.{item}"] = {
                    (JOIN.join(label) if isinstance(label, tuple) else str(label)): count
                    for label, count in counts
                    if count
                }
    return bins


def save(folder: Path, name: str) -> None:
    """Write what this process has sampled so far into the folder that collects."""
    bins = sampled()
    if bins:
        write_json(folder / "plan" / f"{name}-{os.getpid()}.json", bins)


def merged(folder: Path) -> Bins:
    """Return the sum of what all processes have sampled."""
    total: Bins = {}
    for file in sorted((folder / "plan").glob("*.json")):
        for item, bins in read_json(file, PlanError, "list of samples").items():
            counts = total.setdefault(item, {})
            for label, count in bins.items():
                counts[label] = counts.get(label, 0) + count
    return total
