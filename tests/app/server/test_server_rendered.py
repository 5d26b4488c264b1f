"""The list of studies comes with the page: a browser shows it before any event has been
answered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import app_world
import pytest

from automl_sr.app.page import make_page
from automl_sr.app.store_cache import StoreCache
from automl_sr.errors import StoreError
from automl_sr.plugin.registry import installed


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def cache(url: str) -> Any:
    made = StoreCache(url, installed())
    yield made
    made.close()


def listed(page: Any) -> str:
    """What the page says of the studies when a browser gets it."""
    [value] = [
        item["props"].get("value")
        for item in page.config["components"]
        if item["props"].get("elem_id") == "studies"
    ]
    return str(value)


def test_each_visitor_gets_the_list_as_it_is_now(
    small_study: app_world.SmallStudy, tmp_path: Path, url: str, cache: StoreCache
) -> None:
    page = make_page(cache)
    assert "Nothing to show yet" in listed(page)
    assert "There is no store at" in listed(page)
    app_world.copied(small_study, tmp_path / "store.db")
    assert 'data-study="small"' in listed(page)
    assert f'<td class="right">{len(small_study.complete)}</td>' in listed(page)
    before = listed(page)
    app_world.add_failed(url, small_study.name)
    assert listed(page) != before


def test_a_store_that_fails_in_between_leaves_the_list_to_the_event(
    cache: StoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = make_page(cache)

    def unreachable(_: Any) -> str:
        raise StoreError("The database does not answer.")

    monkeypatch.setattr(StoreCache, "version", unreachable)
    assert listed(page) == "None"
    assert len(page.config["components"]) > 100
