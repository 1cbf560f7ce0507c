"""The stores under test: every test that asks for `store` runs on each."""

from collections.abc import Generator
from pathlib import Path

import pytest
from spool_builders import spool_folder

from elemta.spool import MemoryStore, SqliteStore, Store


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Store, None, None]:
    store = MemoryStore() if request.param == "memory" else SqliteStore.open(spool_folder(tmp_path))
    yield store
    store.close()
