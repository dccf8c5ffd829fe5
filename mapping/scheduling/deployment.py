# SPDX-License-Identifier: Apache-2.0
"""What a system can run: every version compiled for each unit that takes it, with its cycles and energy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.arrays import Floats
from common.errors import NpuloopError, UnsupportedError
from golden.importers.inputs import first_input, random_input
from golden.importers.models import load_model
from golden.network import Network
from hw.system import System
from mapping.compiler.assignment import Assignment, load_assignment
from mapping.compiler.channels import ChannelAssignment
from mapping.compiler.legalise import legalise_network
from mapping.compiler.plan import CapacityError
from mapping.compiler.program import Program
from mapping.compiler.schedule import Entry
from mapping.cost.execution import Works
from mapping.cost.model import CostModel
from mapping.cost.requests import Request, time_requests
from mapping.cost.sections import choose_cuts
from mapping.energy.events import Events
from mapping.energy.model import VALUE, EnergyModel, UnitCycles
from mapping.energy.statistics import network_statistics
from mapping.energy.tables import GROUPS, EnergyTableError, Group
from mapping.run.networks import compile_network
from mapping.scheduling.versions import Version, check_networks
from mapping.scheduling.workload import Stream, Workload, WorkloadError

OFFSETS = 12
"""Places at which two options meet of which the slow-down is the mean."""
INPUT_SEED = 1
"""Of the random input whose values a version's energy is of."""


_Key = tuple[str | int, ...]


@dataclass(frozen=True, eq=False)
class Option:
    """A way to run a network, or what is left of it: a version on the units that it needs.

    A version that is cut runs section by section: `then` is the option for what is left behind its first one.

    Attributes:
        version: the version.
        units: the units, in the order of the system.
        program: the compiled network, all sections of it.
        cycles: start to last interrupt, alone: of this section and those behind it, without the host's time
            between them.
        events_pj: what the events of all sections take, by part of the hardware; empty where a unit has no
            energy table.
        energy_pj: what all sections take alone: events, and the units' clocks and leakage; None without
            tables.
        network: the network that the version's file holds.
        owners: for each layer the index of the unit of every output channel.
        section: the section with which it begins; those before it are complete.
        then: what is left behind that section; None: nothing.
    """

    version: Version
    units: tuple[str, ...]
    program: Program
    cycles: float
    events_pj: Mapping[Group, float]
    energy_pj: float | None
    network: Network
    owners: Mapping[str, ChannelAssignment]
    section: int = 0
    then: Option | None = None

    @property
    def lists(self) -> Mapping[str, Sequence[Entry]]:
        """Each unit's commands in its section, for those that have work in it."""
        return self.program.sections[self.section].lists

    @property
    def next_units(self) -> tuple[str, ...]:
        """The units that have work in its section."""
        return tuple(unit for unit in self.units if unit in self.lists)

    @property
    def next_cycles(self) -> float:
        """What its section takes alone."""
        return self.cycles - (self.then.cycles if self.then else 0.0)

    @property
    def sections(self) -> tuple[Option, ...]:
        """It and what is left behind each of its sections."""
        return (self, *(self.then.sections if self.then else ()))

    @property
    def begun(self) -> bool:
        """Whether it is what is left of a network that has begun."""
        return self.section > 0

    @property
    def name(self) -> str:
        """The version and its units."""
        return f"{self.version.name} on {'+'.join(self.units)}"


@dataclass(frozen=True, eq=False)
class Deployment:
    """A system with the versions that it can run.

    Attributes:
        system: the system.
        coefficients: of each unit, for the timing model.
        options: the options of each network, in the order of the versions and of the units.
        work_pj: for each unit what its clock and leakage take in a cycle in which it has work; empty where a
            unit has no energy table.
        rest_pj: the same of a cycle in which its root gate has stopped its clock.
        works: what commands ask of the engines, for all clocks.
    """

    system: System
    coefficients: Mapping[str, Floats]
    options: Mapping[str, tuple[Option, ...]]
    work_pj: Mapping[str, float]
    rest_pj: Mapping[str, float]
    works: Works
    _slowdowns: dict[tuple[_Key, _Key], float] = field(default_factory=dict)

    @property
    def port_bytes(self) -> int:
        """Width of the memory's port."""
        return self.system.axi_bits // 8

    def slowdown(self, option: Option, other: Option) -> float:
        """Return how many times as long an option takes while another runs beside it.

        Of networks that are cut it is their sections that meet. Both meet at OFFSETS places, evenly from
        where the other ends just as the option starts to where it starts just as the option ends. In all the
        time that they are together, the option makes 1 / slow-down of its progress.

        Args:
            option, other: options without a unit in common.
        """
        key = (self._cores(option), self._cores(other))
        if key not in self._slowdowns:
            span = option.next_cycles + other.next_cycles
            offsets = [(number + 0.5) / OFFSETS * span - other.next_cycles for number in range(OFFSETS)]
            starts = [3 * span * (number + 1) for number in range(OFFSETS)]
            requests = [Request(option.lists, start) for start in starts]
            requests += [
                Request(other.lists, start + offset) for start, offset in zip(starts, offsets, strict=True)
            ]
            timings = time_requests(
                requests, self.system.cores, self.coefficients, self.port_bytes,
                recording=False, works=self.works,
            )  # fmt: skip
            ours, theirs = timings[:OFFSETS], timings[OFFSETS:]
            together = sum(
                max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a, b in zip(ours, theirs, strict=True)
            )
            extra = sum(max(0.0, timing.service - option.next_cycles) for timing in ours)
            self._slowdowns[key] = together / (together - extra)
        return self._slowdowns[key]

    def _cores(self, option: Option) -> _Key:
        """Return what decides what an option takes: its version, section and the parameters of its units."""
        return (option.version.name, option.section, *(self.system.core(unit).key for unit in option.units))

    def allowed(self, workload: Workload) -> dict[str, tuple[Option, ...]]:
        """Return the options of each stream of a workload, by its name.

        Raises:
            WorkloadError: a stream without any, or with a deadline that none of them can meet.
        """
        allowed = {}
        for stream in workload.streams:
            where = f"{workload.source}, stream {stream.name!r}"
            options = self.options.get(stream.network, ())
            enough = tuple(option for option in options if option.version.allowed(stream, workload))
            if not enough:
                raise WorkloadError(f"{where}: {self._reason(stream, options, workload)}")
            fastest = min(option.cycles for option in enough)
            if stream.deadline is not None and stream.deadline < fastest:
                raise WorkloadError(
                    f"{where}: its deadline of {stream.deadline:,.0f} cycles cannot be met; its fastest "
                    f"version takes {fastest:,.0f} alone: give it more time, or a faster unit"
                )
            allowed[stream.name] = enough
        return allowed

    def _reason(self, stream: Stream, options: Iterable[Option], workload: Workload) -> str:
        names = dict.fromkeys(option.version.name for option in options)
        if not names:
            return (
                f"no unit of this system runs a version of {stream.network!r}; it has "
                f"{', '.join(self.system.units)}: give a version for one of them"
            )
        return (
            f"no version of {stream.network!r} is accurate enough for a limit of {stream.accuracy_limit:g} "
            f"points ({workload.confidence}); there are {', '.join(names)}"
        )


def deploy(system: System, versions: Iterable[Version], costs: CostModel | None = None) -> Deployment:
    """Compile versions for a system and predict what each takes alone.

    A version that names no unit is compiled for every unit; those that cannot run it are left out.

    Args:
        system: the system.
        versions: the versions.
        costs: has the cost tables; by default those of this repository.

    Raises:
        WorkloadError: a version names a unit that is not there, or that cannot run it.
        TableError: a unit has no cost table.
        NpuloopError: a model that cannot be read.
    """
    costs = costs or CostModel(system)
    coefficients, works = costs.coefficients(system.units), Works(system.axi_bits // 8)
    try:
        energies = EnergyModel(system, costs.folder, costs)
    except EnergyTableError:
        energies = None
    work, rest = (
        {unit: energies.energy(unit, Events(), cycles).value_pj for unit in system.units} if energies else {}
        for cycles in (UnitCycles(1, 1, 1), UnitCycles(1, 0, 0))
    )
    models: dict[str, Network] = {}
    chosen: dict[tuple[str, ...], tuple[str, ...]] = {}  # cuts of versions on units of equal parameters
    options: dict[str, list[Option]] = {}
    for version in versions:
        network = models.setdefault(version.file, load_model(version.file))
        made = options.setdefault(version.network, [])
        for assignment, single in _assignments(version, system):
            try:
                cuts = _cuts(network, system, assignment, version, coefficients, chosen)
                compiled = compile_network(network, system, assignment, cuts=cuts)
            except (UnsupportedError, CapacityError) as error:
                if version.unit is None and single:
                    continue
                raise WorkloadError(f"version {version.name!r}: {error}") from None
            except NpuloopError as error:
                raise WorkloadError(f"version {version.name!r}: {error}") from None
            alone = [
                time_requests(
                    [Request(section.lists)], system.cores, coefficients, costs.config.axi_bits // 8,
                    recording=False, works=works,
                )[0]
                for section in compiled.program.sections
            ]  # fmt: skip
            used = {unit for section in compiled.program.sections for unit in section.lists}
            units = tuple(unit for unit in system.units if unit in used)
            spent: dict[Group, float] = {}
            energy = None
            if energies:
                statistics = network_statistics(compiled, first_input(random_input(network, INPUT_SEED)))
                groups = energies.program_energy(compiled.program, 0.0, statistics=statistics).total.groups
                spent = {group: groups[group][VALUE] for group in GROUPS if groups[group][VALUE]}
                energy = sum(spent.values()) + sum(
                    timing.end * sum(work[unit] for unit in section.lists)
                    for timing, section in zip(alone, compiled.program.sections, strict=True)
                )
            option: Option | None = None
            for section, timing in reversed(list(enumerate(alone))):
                left = timing.end + (option.cycles if option else 0.0)
                option = Option(
                    version, units, compiled.program, left, spent, energy, network,
                    compiled.units, section, option,
                )  # fmt: skip
            assert option is not None  # a program has at least one section
            made.append(option)
    kept = {network: tuple(made) for network, made in options.items()}
    return Deployment(system, coefficients, kept, work, rest, works)


def _cuts(
    network: Network,
    system: System,
    assignment: Assignment,
    version: Version,
    coefficients: Mapping[str, Floats],
    chosen: dict[tuple[str, ...], tuple[str, ...]],
) -> tuple[str, ...]:
    """Return where a version is cut; `chosen` remembers it for units of equal parameters."""
    if version.longest_section is None:
        return ()
    graph = legalise_network(network)
    owners = assignment.units(network, graph, system.cores)
    single = assignment.default
    key = (version.name, system.core(single).key if single else "")
    if key not in chosen:
        chosen[key] = choose_cuts(
            graph, system.cores, owners, coefficients, version.longest_section, system.axi_bits // 8
        )
    return chosen[key]


def _assignments(version: Version, system: System) -> list[tuple[Assignment, bool]]:
    """Return which units make what, for each way to run a version, and whether it is one unit alone."""
    if version.mapping is not None:
        return [(load_assignment(version.mapping), False)]
    return [(Assignment(unit, source=f"version {version.name!r}"), True) for unit in version.units(system)]


def deploy_workload(
    system: System,
    workload: Workload,
    versions: Iterable[Version],
    source: str,
    costs: CostModel | None = None,
) -> Deployment:
    """Deploy the versions of the networks that a workload asks for; see `deploy`.

    Args:
        system: the system.
        workload: the workload.
        versions: versions of its networks, and perhaps of others.
        source: where the versions come from, for messages.
        costs: has the cost tables.

    Raises:
        WorkloadError: a network without versions; see `deploy` and `Deployment.allowed`.
    """
    versions = list(versions)
    check_networks(workload, versions, source)
    asked = {stream.network for stream in workload.streams}
    deployment = deploy(system, [version for version in versions if version.network in asked], costs)
    deployment.allowed(workload)
    return deployment
