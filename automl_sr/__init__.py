"""automl-sr: plugin-based AutoML for image super-resolution."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_sr.presentation.study_results import Study

__version__ = "0.1.0"


def open_study(url: str, name: str) -> Study:
    """Return a study of a store, to read its trials, front and curves.

    For instance `open_study(url, name).trials()`. `url` is a database such as
    `sqlite:///runs/automl-sr.db`. Raises StoreError where it, or the study, is not there.
    """
    # By name: everything imports this module for its version, and `import automl_sr` loads no
    # database.
    results = importlib.import_module("automl_sr.presentation.study_results")
    study: Study = results.open_study(url, name)
    return study
