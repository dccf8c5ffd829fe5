# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that break a unit and check that it recovers."""

from __future__ import annotations

import pytest

from hw.system import System
from tb.session import Session
from tb.testing import UNITS
from tb.tests.faults import Bench, Reference, measure_reference


@pytest.fixture(scope="session")
def references() -> dict[str, Reference]:
    """The reference layer of both units, each on a system that has just been powered up."""
    measured = {}
    for name in UNITS:
        with Session(System()) as session:
            measured[name] = measure_reference(session, session.config.core(name))
    return measured


@pytest.fixture(params=UNITS)
def bench(request: pytest.FixtureRequest, pair: Session, references: dict[str, Reference]) -> Bench:
    """One unit of the pair, and what its reference layer must give."""
    name = str(request.param)
    return Bench(pair, pair.config.core(name), references[name])
