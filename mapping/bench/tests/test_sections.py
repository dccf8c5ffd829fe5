# SPDX-License-Identifier: Apache-2.0
"""The bench of sections says what cutting costs, and which outputs differ."""

from __future__ import annotations

import pytest

from common.testing import data_dir, require
from mapping.bench.sections import SHARES, missed_prices, prices, prices_table
from npuloop.cli.console import console
from tb.session import Session


@pytest.mark.rtl
@pytest.mark.data
def test_sections_of_a_network_cost_what_is_predicted(pair: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    require(data_dir() / "models" / "kws_ref_model.tflite")
    monkeypatch.setattr("mapping.bench.sections.LIMITS", {"kws_ref_model": 1.0})
    found = prices(pair)
    assert [item.network for item in found] == ["kws_ref_model"] * len(SHARES)
    for item in found:
        assert item.exact
        assert item.predicted == pytest.approx(item.measured, rel=0.005)
        assert item.whole < item.measured < 1.5 * item.whole
        assert 20 < item.between < 30
        assert item.energy_percent is not None
        assert item.energy_percent > item.price_percent > 0
    assert found[0].sections < found[1].sections < found[2].sections
    assert missed_prices(found) == []
    with console.capture() as capture:
        console.print(prices_table(found))
    assert capture.get().count("kws_ref_model") == len(SHARES)
