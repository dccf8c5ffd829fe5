# SPDX-License-Identifier: Apache-2.0
"""Which shapes are measured: distinct, reproducible, runnable, and those that teach the fit most."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from common.arrays import Floats
from hw.core import CoreConfig
from hw.system import System
from hw.system_file import with_settings
from mapping.calibration import design
from mapping.calibration.design import choose, corners, random_shape, random_shapes, runs, visits
from mapping.cost.model import shape_program
from mapping.cost.real_networks import real_networks
from mapping.cost.shapes import Shape

CONFIG = System()
UNITS = (("npu8",), ("npu_lb",), ("npu8", "npu_lb"))


# ------------------------------------------------------------------------------------------------ random ones
@pytest.mark.parametrize("units", UNITS, ids="+".join)
def test_random_shapes_are_distinct_runnable_and_within_limits(units: tuple[str, ...]) -> None:
    taken: set[str] = set()
    shapes = random_shapes(CONFIG, units, 60, 5, taken, "r")
    assert [shape.name for shape in shapes] == [f"r_{i}" for i in range(60)]
    assert taken == {shape.key for shape in shapes}
    assert len(taken) == 60
    for shape in shapes:
        assert shape_program(shape, units[0], CONFIG).lists
        assert shape.macs <= design.MOST_MACS
        assert shape.in_height * shape.in_width * shape.in_channels <= design.MOST_VALUES
        assert shape.out_height * shape.out_width * shape.out_channels <= design.MOST_VALUES
        assert (shape.split is not None) == (len(units) > 1)


@pytest.mark.parametrize("units", UNITS, ids="+".join)
def test_equal_seeds_give_equal_shapes_and_others_give_others(units: tuple[str, ...]) -> None:
    first, again, other = (
        [shape.key for shape in random_shapes(CONFIG, units, 20, seed, set(), "r")] for seed in (5, 5, 6)
    )
    assert first == again
    assert len(set(first) & set(other)) < 5


def test_shapes_that_are_taken_are_not_drawn_again() -> None:
    taken: set[str] = set()
    first = random_shapes(CONFIG, ("npu8",), 20, 5, taken, "a")
    second = random_shapes(CONFIG, ("npu8",), 20, 5, taken, "b")
    assert len({shape.key for shape in (*first, *second)}) == 40 == len(taken)


def test_random_shapes_have_every_operator_about_as_often_as_they_should() -> None:
    rng = np.random.default_rng(1)
    shapes = [random_shape(rng, f"s{i}") for i in range(600)]
    counts = Counter(shape.op for shape in shapes)
    for op, share in zip(design.OPERATORS, design.SHARES, strict=True):
        assert 0.5 * share < counts[op] / 600 < 1.6 * share, op
    strides = Counter(shape.stride for shape in shapes)
    assert strides[1, 1] > strides[2, 2] > 20
    assert {shape.padding for shape in shapes} == {"same", "valid"}
    assert any(shape.out_channels % 16 for shape in shapes)
    assert {shape.kernel[0] for shape in shapes} == {1, 3, 5, 7}


def test_splits_are_on_edges_of_blocks_and_elsewhere() -> None:
    shapes = random_shapes(CONFIG, CONFIG.units, 60, 5, set(), "r")
    splits = [shape.split for shape in shapes]
    assert all(split and list(split) == ["npu8", "npu_lb"] and min(split.values()) > 0 for split in splits)
    whole = sum(split["npu8"] % 16 == 0 for split in splits if split)
    assert 20 < whole < 60


def test_three_units_share_every_shape() -> None:
    system = System((*CONFIG.cores, CoreConfig("third", w_bits=4)))
    for shape in random_shapes(system, system.units, 20, 5, set(), "r"):
        assert shape.split
        assert tuple(shape.split) == tuple(shape_program(shape, None, system).lists) == system.units


# ---------------------------------------------------------------------------------------------------- corners
@pytest.mark.parametrize(
    "settings", [(), ("npu_lb.W_BITS=4",), ("npu_lb.ROWS=32", "npu_lb.COLS=64")], ids=str
)
def test_corners_lie_on_both_sides_of_the_edges_of_the_tile_loops(settings: tuple[str, ...]) -> None:
    config = with_settings(System(), settings)
    for core in config.cores:
        shapes = list(corners(core))
        assert len({shape.name for shape in shapes}) == len(shapes)
        assert len({shape.key for shape in shapes}) >= len(shapes) - 2  # an edge may be another's, too
        convs = [shape for shape in shapes if shape.op == "conv2d"]
        assert {core.columns, core.columns + 1} <= {shape.out_channels for shape in convs}
        assert {core.rows, core.rows + 1} <= {shape.in_channels for shape in convs}
        depth = core.stripe_depth
        assert {depth - 1, depth, depth + 1} <= {shape.out_height * shape.out_width for shape in convs}
        assert {shape.op for shape in shapes} == set(design.OPERATORS)
        assert sum(runs(config, shape, core.name) for shape in shapes) >= 0.9 * len(shapes)


def test_what_a_unit_cannot_run_does_not_run() -> None:
    assert runs(CONFIG, Shape("s", "add", 16, 16, 4, 4), "npu8")
    assert not runs(CONFIG, Shape("wide", "average_pool", 16, 16, 99, 99, (99, 99), (1, 1), "valid"), "npu8")
    assert not runs(CONFIG, Shape("s", "add", 16, 16, 4, 4))  # no unit, and no split


# ----------------------------------------------------------------------------------------------------- visits
def test_layers_of_real_networks_are_visited_more_than_strange_ones() -> None:
    common = Shape("common", "conv2d", 64, 64, 8, 8, (3, 3), (1, 1), "same")
    strange = Shape("strange", "conv2d", 1, 500, 60, 2, (7, 1), (1, 1), "same")
    frequencies = visits([common, strange])
    assert frequencies[0] > 5 * frequencies[1]
    assert frequencies.max() == pytest.approx(1 + design.RARE)
    assert frequencies.min() >= design.RARE


def test_visits_count_the_real_layers_nearby() -> None:
    """A single shape of a kind is visited most, by definition; one without a kin least."""
    real = [layer for layers in real_networks().values() for layer in layers]
    seen = Counter(layer.op for layer in real)
    assert seen["max_pool"] <= 1 or seen["max_pool"] < seen["conv2d"]
    near = real[0]
    far = Shape("far", "max_pool", 65536, 65536, 1, 1, (1, 1), (1, 1), "same")
    assert visits([near, far]).tolist() == pytest.approx([1 + design.RARE, design.RARE])
    assert visits([far]).tolist() == pytest.approx([design.RARE], abs=1e-3)


# ----------------------------------------------------------------------------------------------------- choice
def spread_of(*sizes: float) -> Floats:
    """Coefficients of a bootstrap that disagree by so much about each."""
    rng = np.random.default_rng(0)
    coefficients: Floats = 10 + rng.standard_normal((200, len(sizes))) * np.array(sizes)
    return coefficients


def test_what_the_fit_is_least_sure_of_is_chosen_first() -> None:
    counts = np.eye(3) * 10 + 1
    assert choose(counts, np.full(3, 100.0), np.ones(3), spread_of(0.1, 1.0, 0.3), 3) == [1, 2, 0]


def test_the_disagreement_counts_relative_to_the_cycles() -> None:
    counts = np.array([[10.0, 0], [0, 10.0]])
    chosen = choose(counts, np.array([1000.0, 10.0]), np.ones(2), spread_of(1.0, 0.2), 1)
    assert chosen == [1]


def test_what_real_networks_visit_is_chosen_before_what_they_do_not() -> None:
    counts, cycles = np.eye(2) * 10, np.full(2, 100.0)
    resampled = spread_of(1.0, 1.1)
    assert choose(counts, cycles, np.array([1.0, 1.0]), resampled, 1) == [1]
    assert choose(counts, cycles, np.array([1.1, 0.1]), resampled, 1) == [0]


def test_nothing_is_chosen_twice_nor_more_than_there_is() -> None:
    rng = np.random.default_rng(2)
    counts, cycles, weights = rng.uniform(0, 9, (12, 4)), rng.uniform(50, 99, 12), rng.uniform(0.1, 1, 12)
    resampled = spread_of(1, 2, 3, 4)
    chosen = choose(counts, cycles, weights, resampled, 8)
    assert len(set(chosen)) == 8
    assert chosen == choose(counts, cycles, weights, resampled, 20)[:8]
    assert sorted(choose(counts, cycles, weights, resampled, 20)) == list(range(12))
    assert choose(counts, cycles, weights, resampled, 0) == []
    assert sorted(choose(counts, cycles, weights, spread_of(0, 0, 0, 0), 5)) == list(range(5))


def test_what_a_choice_teaches_is_not_asked_again() -> None:
    """Two candidates that measure the same, and a third that is a little less unsure: one of each first."""
    counts = np.array([[10.0, 0], [10.0, 0], [0, 8.0]])
    chosen = choose(counts, np.full(3, 100.0), np.ones(3), spread_of(1.0, 1.0), 2)
    assert sorted(chosen) == [0, 2]
