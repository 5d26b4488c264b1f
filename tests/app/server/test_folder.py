"""The folder of a running app, and what others have left beside it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from automl_sr.app.server.folder import LOCK, PREFIX, own_folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_the_owners_alone_and_gone_at_the_end(place: Path) -> None:
    with own_folder() as folder:
        (folder / "x").write_text("x")
        assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []


def test_one_that_nobody_holds_is_removed(place: Path) -> None:
    left = place / f"{PREFIX}left"
    (left / "files").mkdir(parents=True)
    (left / LOCK).touch()
    with own_folder() as folder:
        assert [path.name for path in place.iterdir()] == [folder.parent.name]


def test_one_that_is_in_use_is_left_alone() -> None:
    with own_folder() as first, own_folder() as second:
        assert first.is_dir()
        assert second.is_dir()


def test_what_only_has_such_a_name_is_left_alone(place: Path) -> None:
    """A link to somewhere else, a file, and a folder without the mark of an app."""
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).touch()
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    (place / f"{PREFIX}file").touch()
    (place / f"{PREFIX}folder").mkdir()
    before = sorted(place.rglob("*"))
    with own_folder():
        pass
    assert sorted(place.rglob("*")) == before
