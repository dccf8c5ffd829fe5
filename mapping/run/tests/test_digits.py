# SPDX-License-Identifier: Apache-2.0
"""The embedded real input: digits through both units."""

from __future__ import annotations

import pytest

from mapping.report import digits as digits_report
from mapping.run import digits as demo

pytestmark = pytest.mark.rtl


@pytest.fixture(scope="module")
def reports() -> list[demo.VariantReport]:
    return demo.run_digits(8)


def test_the_hardware_computes_every_tensor_of_both_variants_exactly(
    reports: list[demo.VariantReport],
) -> None:
    assert [(r.unit, r.digits.variant) for r in reports] == [("npu8", "int8"), ("npu_lb", "ternary")]
    for report in reports:
        for run in report.runs:
            assert len(run.mismatches) >= 6
            assert run.exact


def test_the_hardwares_predictions_are_the_golden_networks(reports: list[demo.VariantReport]) -> None:
    for report in reports:
        images, labels = report.digits.test_set()
        golden = report.digits.predictions(images[: report.images])
        assert report.correct == int((golden == labels[: report.images]).sum()) >= 7


def test_the_report_names_unit_cycles_utilisation_and_accuracy(reports: list[demo.VariantReport]) -> None:
    data = digits_report.as_json(reports[1])
    assert data["unit"] == "npu_lb"
    assert data["mismatches"] == 0
    assert 0 < data["total_cycles"] < 5000
    assert all(layer["cycles"] > 0 for layer in data["layers"])
    assert any(layer["utilisation"] > 0.2 for layer in data["layers"])
    assert "digits right" in digits_report.verdict(reports[1])
