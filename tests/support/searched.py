"""Searches that many tests begin with: made once, and copied for each test."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, update

from automl_sr.store.models import Artifact, Study
from automl_sr.store.repository import Store


class Once:
    """Makes each search once, in a folder of its own, and gives copies of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[object, Path] = {}

    def __call__(self, what: object, search: Callable[[Path], object], folder: Path) -> None:
        """Put into a folder what a search leaves in it: `store.db`, and files in `artifacts`."""
        if what not in self._made:
            made = self._folder / str(len(self._made))
            made.mkdir()
            search(made)
            self._made[what] = made
        copy_searched(self._made[what], folder)


def copy_searched(made: Path, folder: Path) -> None:
    """Copy a store and the files that it names, as if the search had been made in the other
    folder.
    """
    shutil.copytree(made, folder, dirs_exist_ok=True)
    with (
        contextlib.closing(Store.open(f"sqlite:///{folder}/store.db")) as store,
        store.writing() as session,
    ):
        for column in (Study.artifacts, Artifact.url):
            session.execute(
                update(column.class_).values({column: func.replace(column, str(made), str(folder))})
            )
