"""The embedded real input: digits through both units."""

from __future__ import annotations

import pytest

from mapping import demo


@pytest.fixture(scope="module")
def reports() -> list[demo.VariantReport]:
    return demo.run_digits(8)


def test_the_hardware_computes_every_layer_of_both_variants_exactly(
    reports: list[demo.VariantReport],
) -> None:
    assert [(r.unit, r.network.variant) for r in reports] == [("npu8", "int8"), ("npu_lb", "ternary")]
    for report in reports:
        assert len(report.layers) == len(report.network.nodes) >= 6
        assert report.mismatches_by_layer == (0,) * len(report.layers)


def test_the_hardwares_predictions_are_the_golden_networks(reports: list[demo.VariantReport]) -> None:
    for report in reports:
        images, labels = report.network.test_set()
        golden = sum(report.network.predict(images[i]) == labels[i] for i in range(report.images))
        assert report.correct == golden >= 7


def test_the_report_names_unit_cycles_utilisation_and_accuracy(reports: list[demo.VariantReport]) -> None:
    data = demo.as_json(reports[1])
    assert data["unit"] == "npu_lb"
    assert all(layer["cycles"] > 0 for layer in data["layers"])
    assert any(layer["utilisation"] > 0.4 for layer in data["layers"])
    assert "digits right" in demo.verdict(reports[1])
