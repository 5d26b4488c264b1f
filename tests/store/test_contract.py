"""What the store promises, on both kinds of database."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl_sr.testing import StoreContract


class TestSQLite(StoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/store.db"


class TestPostgreSQL(StoreContract):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url
