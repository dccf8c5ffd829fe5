from __future__ import annotations

from collections.abc import Iterator

import pytest

from tb.config import SocConfig
from tb.session import Session


@pytest.fixture(scope="session")
def pair() -> Iterator[Session]:
    """A session of the default pair that all tests of a worker share."""
    with Session(SocConfig()) as session:
        yield session
