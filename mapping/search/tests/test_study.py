# SPDX-License-Identifier: Apache-2.0
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.workers import Workers
from golden.network import run_network
from golden.quantize.qat import quantize_input
from hw.system import System
from mapping.compiler.assignment import load_assignment
from mapping.cost.tables import TableError
from mapping.energy.testing import write_tables
from mapping.report.search import write_report
from mapping.report.search_study import load_study
from mapping.run.networks import compile_network, run_inputs
from mapping.search import objectives, training
from mapping.search.baselines import cheapest
from mapping.search.costs import MapError
from mapping.search.data import load_data
from mapping.search.jobs import costs_of, train_mapped, warmed_up
from mapping.search.models import build_model
from mapping.search.plan import Plan
from mapping.search.points import COLUMNS, Point
from mapping.search.study import run_study
from mapping.search.study_folder import Folder
from mapping.search.training import Recipe, TrainingRun
from tb.session import Session

pytestmark = pytest.mark.rtl

RECIPE = Recipe(warmup_epochs=6, search_epochs=3, finetune_epochs=2, integer_epochs=1)
PLAN = Plan(
    strengths=(0.3,), targets=(1500.0,), recipe=RECIPE, baselines=("npu8", "cheapest", "layerwise", "random"),
    verification_images=1,
)  # fmt: skip
IMAGES = 20


def in_this_process(jobs: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> Iterator[tuple[int, Any]]:
    with Workers(0) as workers:
        yield from workers.run(jobs)


VALUES = {"control_idle": 100.0, "mac.one": 1.0, "accumulate": 1.25, "external_byte": 10.0}


@pytest.fixture(autouse=True, scope="module")
def no_energies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever energy tables there are, these studies do not see them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectives, "ENERGY_FOLDER", tmp_path_factory.mktemp("empty"))
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, no_energies: None) -> tuple[Path, list[Point]]:
    folder = tmp_path_factory.mktemp("study")
    return folder, run_study(PLAN, folder, in_this_process)


def test_every_specification_becomes_a_point_that_is_exact_and_predicted(
    study: tuple[Path, list[Point]],
) -> None:
    _, points = study
    assert [point.name for point in points] == [
        "searched-0.3-s1", "searched-t1500-s1", "npu8-s1", "cheapest-s1", "layerwise-0.3-s1",
        "layerwise-t1500-s1", "random-0.3-s1", "random-t1500-s1",
    ]  # fmt: skip
    for point in points:
        assert point.exact_in_rtl
        assert point.accuracy_percent > 50
        assert point.energy_pj is point.predicted_energy_pj is None
        # what training decides may be one of the few mappings of digits that are predicted less well
        given = point.kind in ("npu8", "cheapest") or point.name == "searched-t1500-s1"
        assert abs(point.predicted_cycles / point.measured_cycles - 1) < (0.02 if given else 0.06)
    named = {point.name: point for point in points}
    assert named["cheapest-s1"].measured_cycles == min(point.measured_cycles for point in points)
    assert 0.97 * 1500 < named["searched-t1500-s1"].measured_cycles < 1.02 * 1500


def test_whole_layer_mappings_do_not_split_layers(study: tuple[Path, list[Point]]) -> None:
    whole = [point for point in study[1] if point.kind == "layerwise"]
    assert len(whole) == 2
    for point in whole:
        for layer in point.layers:
            assert min(layer["channels"].values()) == 0


def test_the_table_of_points_has_the_columns_and_its_files_run_again(study: tuple[Path, list[Point]]) -> None:
    from golden.network_file import load_network

    folder, points = study
    with (folder / "pareto.csv").open() as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames is not None
    assert tuple(reader.fieldnames) == COLUMNS
    assert [row["name"] for row in rows] == [point.name for point in points]
    row = next(row for row in rows if row["name"] == "searched-t1500-s1")
    assert row["exact_in_rtl"] == "true"
    assert row["energy_pj"] == row["predicted_energy_pj"] == ""
    network = load_network(folder / row["network"])
    program = compile_network(network, System(), load_assignment(folder / row["mapping"]))
    data = load_data("digits")
    images = quantize_input(network, data.test_images)
    with Session(System()) as session:
        (run,) = run_inputs(session, program, images[:1])
    assert run.exact
    assert run.cycles == int(row["measured_cycles"])
    outputs = run_network(network, images, program.a_bits)[network.output_name]
    accuracy = 100 * float((outputs.argmax(axis=1) == data.test_labels.numpy()).mean())
    assert f"{accuracy:.2f}" == row["accuracy_percent"]


def test_one_mapping_is_trained_once_and_is_one_network_under_all_its_names(
    study: tuple[Path, list[Point]],
) -> None:
    mappings: dict[str, set[tuple[str, float]]] = {}
    for point in study[1]:
        units = json.dumps(
            json.loads((study[0] / "work" / f"{point.name}.mapping.json").read_text())["units"]
        )
        mappings.setdefault(units, set()).add((point.network, point.accuracy_percent))
    assert all(len(networks) == 1 for networks in mappings.values())


def test_fake_quantised_forward_golden_and_rtl_agree_on_every_layer_of_a_split_network(
    study: tuple[Path, list[Point]],
) -> None:
    data = load_data("digits")
    config = System()
    costs = costs_of(PLAN, data)
    state = tuple((first, total - first) for first, total in zip((1, 0, 1, 1, 0), costs.totals, strict=True))
    units = costs.mapping(state)
    assert any(len(np.unique(owner)) == 2 for owner in units.values())
    with training.one_thread():
        model = warmed_up(PLAN, Folder(study[0]), data, 1)
        qat, network = train_mapped(
            model, units, config, data, RECIPE, TrainingRun("tune", 1), TrainingRun("refine", 1), "digits"
        )
        forward = qat.integers(data.test_images[:IMAGES])
    images = quantize_input(network, data.test_images[:IMAGES])
    program = compile_network(network, config, units, observe=True)
    golden = run_network(network, images, program.a_bits)
    assert forward.keys() == golden.keys()
    assert all(np.array_equal(forward[name], golden[name]) for name in golden)
    with Session(config) as session:
        runs = list(run_inputs(session, program, images, "layers"))
    assert len(runs) == IMAGES
    assert all(run.exact for run in runs)
    assert {op.name for op in program.program.graph.ops} == set(runs[0].mismatches)


def test_a_study_that_lost_its_end_is_picked_up_with_the_same_result(
    study: tuple[Path, list[Point]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(PLAN, targets=(), baselines=("npu8",))
    undisturbed = run_study(plan, tmp_path / "a", in_this_process)
    save, epochs = TrainingRun.save, 0

    def dying(self: TrainingRun, *arguments: Any) -> None:
        nonlocal epochs
        save(self, *arguments)
        epochs += 1
        if epochs in (2, 7, 10):
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingRun, "save", dying)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run_study(plan, tmp_path / "b", in_this_process)
    resumed = run_study(plan, tmp_path / "b", in_this_process)
    assert resumed == undisturbed
    for name in ("pareto.csv", "study.json", "points/npu8-s1.yaml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for name in ("searched-0.3-s1", "npu8-s1"):
        one, other = (np.load(tmp_path / folder / "points" / f"{name}.npz") for folder in "ab")
        assert sorted(one.files) == sorted(other.files)
        assert all(np.array_equal(one[key], other[key]) for key in one.files)


def test_the_plan_of_a_folder_keeps_the_names_that_files_have_always_had() -> None:
    fingerprint = replace(PLAN, recipe=Recipe(cost_evaluations=7)).fingerprint
    assert (fingerprint["proof_images"], fingerprint["recipe"]["looks"]) == (1, 7)
    assert "verification_images" not in fingerprint
    assert "cost_evaluations" not in fingerprint["recipe"]


def test_a_folder_with_another_study_is_refused(study: tuple[Path, list[Point]]) -> None:
    with pytest.raises(MapError, match=r"holds a study with other seeds; choose another --out"):
        run_study(replace(PLAN, seeds=(2,)), study[0], in_this_process)


@pytest.mark.parametrize("target", [900.0, 9000.0])
def test_a_target_out_of_reach_says_what_is_in_reach_before_anything_is_trained(
    target: float, tmp_path: Path
) -> None:
    with pytest.raises(MapError, match=r"cannot be met: .*1,0\d\d to 2,0\d\d"):
        run_study(replace(PLAN, targets=(target,)), tmp_path / "out", in_this_process)
    assert not (tmp_path / "out").exists()


def test_tables_of_other_rtl_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(objectives, "rtl_hash", lambda: "other")
    with pytest.raises(TableError, match=r"w8a8_16x16\.yaml: stale.*npuloop calibrate"):
        run_study(PLAN, tmp_path / "out", in_this_process)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "speed"}, "no objective 'speed'; there are latency, energy, both"),
        ({"baselines": ("best",)}, "no baseline 'best'; there are npu8, npu_lb, first_last"),
        ({"strengths": (), "targets": (), "baselines": ()}, "nothing to do"),
        ({"strengths": (-1.0,)}, "strength -1: it must be above 0"),
        ({"pins": {"conv9": "npu8"}}, "no layer 'conv9'"),
        ({"pins": {"conv1": "gpu"}}, "no unit 'gpu'"),
        ({"seeds": ()}, "at least one seed"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_one_message(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(MapError, match=message):
        run_study(replace(PLAN, **change), tmp_path / "out", in_this_process)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("objective", ["energy", "both"])
def test_without_energy_tables_energy_is_no_objective(objective: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"w8a8_16x16\.energy\.yaml: there is no energy table; make it with"):
        run_study(replace(PLAN, objective=objective), tmp_path / "out", in_this_process)
    assert not (tmp_path / "out").exists()


def test_a_study_of_energy_meets_its_target_and_measures_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, "ENERGY_FOLDER", write_tables(tmp_path / "tables", VALUES))
    with pytest.raises(MapError, match="target of 1e-05 µJ cannot be met"):
        run_study(replace(PLAN, objective="energy", targets=(1e-5,)), tmp_path / "out", in_this_process)
    costs = costs_of(replace(PLAN, objective="energy"), load_data("digits"))
    target = round(1.01 * costs.cost(cheapest(costs)), 3)
    plan = replace(PLAN, objective="energy", strengths=(), targets=(target,), baselines=("npu8",))
    points = run_study(plan, tmp_path / "out", in_this_process)
    searched, base = points
    assert searched.predicted_energy_pj is not None
    assert base.energy_pj is not None
    # the search prices lists without weights, the point is compiled with them: the same commands
    assert 0.98 * target < searched.predicted_energy_pj / 1e6 <= target * 1.0001
    for point in points:
        assert point.energy_pj is not None
        assert point.predicted_energy_pj is not None
        awake = {unit for layer in point.layers for unit, count in layer["channels"].items() if count}
        cycles = point.measured_cycles - point.predicted_cycles
        more = point.energy_pj - point.predicted_energy_pj
        assert more == pytest.approx(VALUES["control_idle"] * len(awake) * cycles, abs=1e-3)
    with (tmp_path / "out" / "pareto.csv").open() as file:
        (row, _) = csv.DictReader(file)
    assert row["energy_pj"] == f"{searched.energy_pj:.0f}"
    document = load_study(tmp_path / "out")
    assert document["study"]["objective"] == "energy"
    write_report(document, tmp_path / "report.html")
    assert "<h2>Energy</h2>" in (tmp_path / "report.html").read_text()


def test_pinned_layers_stay_on_their_unit(tmp_path: Path) -> None:
    plan = replace(PLAN, pins={"conv2": "npu8", "conv1": "npu_lb"}, targets=(), baselines=("cheapest",))
    for point in run_study(plan, tmp_path, in_this_process):
        channels = {layer["name"]: layer["channels"] for layer in point.layers}
        assert channels["conv2"] == {"npu8": 32, "npu_lb": 0}
        assert channels["conv1"] == {"npu8": 0, "npu_lb": 16}


def test_jobs_that_fail_are_reported_by_name_after_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm_up = training.warm_up

    def failing(model: torch.nn.Module, data: Any, recipe: Recipe, run: TrainingRun) -> None:
        if run.seed == 2:
            raise ValueError("out of luck")
        warm_up(model, data, recipe, run)

    monkeypatch.setattr(training, "warm_up", failing)
    with pytest.raises(MapError, match="warm-up of seed 2: ValueError: out of luck"):
        run_study(replace(PLAN, seeds=(1, 2, 3)), tmp_path, in_this_process)
    assert (tmp_path / "work" / "warm-up-s3.json").exists()


def test_the_model_of_the_study_is_the_one_that_was_asked_for(study: tuple[Path, list[Point]]) -> None:
    data = load_data("digits")
    model = build_model("digits", data, 1)
    trained = warmed_up(PLAN, Folder(study[0]), data, 1)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in trained.named_parameters()]
    accuracy = json.loads((study[0] / "work" / "warm-up-s1.json").read_text())["float_accuracy_percent"]
    assert training.accuracy(trained, data) == accuracy
