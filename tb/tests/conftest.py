from __future__ import annotations

from collections.abc import Iterator

import pytest

from tb.config import SocConfig
from tb.session import Session


@pytest.fixture(scope="session")
def shared_session() -> Iterator[Session]:
    """A session of the default system that all tests of a worker share; they must leave it alive."""
    with Session(SocConfig()) as session:
        yield session
