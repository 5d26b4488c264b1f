"""What a worker works on: a study with its store, space and setting, and what was asked for on the
command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import optuna
    from optuna.storages import BaseStorage

    from automl_sr.plugin.metric import Metric
    from automl_sr.plugin.registry import Registry
    from automl_sr.space.search_space import SearchSpace
    from automl_sr.store.artifacts import Artifacts
    from automl_sr.store.records import StudyRecord
    from automl_sr.store.repository import Store
    from automl_sr.study.spec import StudySpec
    from automl_sr.trial.types import Setting


@dataclass(frozen=True)
class OpenStudy:
    """A study with everything that a worker needs."""

    record: StudyRecord
    spec: StudySpec
    space: SearchSpace
    registry: Registry
    store: Store
    optuna: optuna.study.Study
    storage: BaseStorage
    setting: Setting
    artifacts: Artifacts
    folder: Path
    """Where trials keep what a resume needs: one folder for each number."""
    resumed: bool
    notes: tuple[str, ...] = ()

    @property
    def objectives(self) -> list[Metric]:
        """The metrics that are optimised."""
        found: list[Metric] = []
        for name in self.spec.objectives:
            found.append(self.registry.metric(name))
        return found


@dataclass(frozen=True)
class Options:
    """What a person adds to a study file on the command line; `file` is how they named it, for
    messages.
    """

    store: str | None = None
    artifacts: str | None = None
    trials: int | None = None
    minutes: float | None = None
    """Like `trials`, the study's total over all resumes; both replace the file's budget."""
    device: str = "auto"
    """Where training runs: auto, cpu or cuda."""
    file: str = "STUDY.yaml"
    threads: int | None = None
    """Threads that training uses here; None takes those of the study, or all cores."""
    no_cache: bool = False
    """Whether every trial makes its core-sets and helper models itself; the results are the
    same.
    """
    warm_start: str | None = None
    """The study of which a new one imports the trials that fit."""
