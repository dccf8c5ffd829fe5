# SPDX-License-Identifier: Apache-2.0
"""Fixtures that tests of all rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hw.system import System
from tb.session import Session

pytest_plugins = ["common.pytest_plugin"]

SEED = 16
"""Of what the shared session's registers and memories hold at power-up."""


@pytest.fixture(scope="session")
def pair() -> Iterator[Session]:
    """A session of the default pair that all tests of a worker share; it starts from random values."""
    with Session(System(), seed=SEED) as session:
        yield session
