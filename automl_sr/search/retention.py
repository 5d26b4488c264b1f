"""Which files of a study stay: those of the front, of refinements and of what has not ended.

The rest is removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from automl_sr.errors import PluginError
from automl_sr.files import PARTIAL
from automl_sr.search.results import front_of
from automl_sr.search.workers.trial_folder import work_folder
from automl_sr.store.artifacts import Artifacts, delete
from automl_sr.store.imports import named_elsewhere
from automl_sr.store.records import UNFINISHED
from automl_sr.store.refinements import WORK as WORK_OF_REFINEMENTS
from automl_sr.store.refinements import refinements

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.store.reading import Reader
    from automl_sr.store.records import StudyRecord, TrialRecord
    from automl_sr.store.refinements import RefinementRecord
    from automl_sr.store.repository import Store

HALF, UNNAMED, WORK = "partial", "unnamed", "work"
"""Kinds of files that go, besides those of artefacts."""


@dataclass(frozen=True)
class StudyFile:
    """A file in one of a study's folders, and why it goes: a kind of artefact, partial, unnamed or
    work.
    """

    url: str
    bytes: int
    kind: str


@dataclass(frozen=True)
class Leftovers:
    """What of a study is not needed any more, and how much stays."""

    study: StudyRecord
    files: tuple[StudyFile, ...]
    trials: tuple[int, ...]
    """Ids of trials whose files are forgotten."""
    folders: tuple[tuple[Artifacts, str], ...]
    """Where folders may be empty afterwards."""
    kept_files: int
    kept_bytes: int
    unreachable: tuple[str, ...] = ()
    """Places that cannot be looked into from here; what lies there stays, with its rows."""

    @property
    def bytes(self) -> int:
        """How much is freed."""
        return sum(file.bytes for file in self.files)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Return number and bytes of the files that go, by kind."""
        numbers, sizes = Counter[str](), Counter[str]()
        for file in self.files:
            numbers[file.kind] += 1
            sizes[file.kind] += file.bytes
        found: dict[str, tuple[int, int]] = {}
        for kind in sorted(numbers):
            found[kind] = (numbers[kind], sizes[kind])
        return found


def find_leftovers(store: Reader, study: StudyRecord, metrics: Mapping[str, Metric]) -> Leftovers:
    """Look for what a study no longer needs; workers may go on meanwhile. Raises PluginError,
    StoreError.

    The files are listed between two looks at the rows. Trials that had not ended at the first one,
    or began after it, are left alone, whatever becomes of them meanwhile; what the others' rows
    name is complete at the second one.
    """
    _check_metrics(study, metrics)
    before, refined_before = store.trials(study), refinements(store, study)
    places = _places(study, before, refined_before)
    reachable = []
    for place in places:
        if place.there:
            reachable.append(place)
    listed = []
    for place in reachable:
        listed.append((place, place.files(study.folder)))
    works = _distinct(
        Artifacts(str(work_folder(place, study.folder).parent)) for place in reachable
    )
    worked = []
    for place in works:
        worked.append((place, place.files(study.folder)))
    trials = store.trials(study)
    refined = _Refined(study, refined_before, refinements(store, study))

    rules = _Rules(
        study,
        before,
        trials,
        front_of(study, trials, metrics),
        reachable,
        refined,
        named_elsewhere(store, study),
    )
    verdicts = [
        *(
            (place, name, size, rules.artefact(name))
            for place, files in listed
            for name, size in files.items()
        ),
        *(
            (place, name, size, rules.work(name))
            for place, files in worked
            for name, size in files.items()
        ),
    ]
    kept = []
    for _, _, size, kind in verdicts:
        if kind is None:
            kept.append(size)
    gone = []
    for place, name, size, kind in verdicts:
        if kind is not None:
            gone.append((place, name, size, kind))
    return Leftovers(
        study,
        tuple(
            StudyFile(place.url_of(study.folder, name), size, kind)
            for place, name, size, kind in gone
        ),
        tuple(sorted(trial.id for trial in rules.forgotten)),
        tuple(
            (place, f"{number:05d}")
            for place in (*reachable, *works)
            for number in sorted(rules.ended)
        ),
        len(kept),
        sum(kept),
        tuple(place.url for place in places if not place.there),
    )


def remove(store: Store, found: Leftovers) -> None:
    """Remove leftovers: rows first, so that a crash in between leaves files that no row names, for
    the next time.
    """
    store.forget_artifacts(found.study, found.trials)
    # From here on no other study can import these files: what has not been imported by now may go.
    needed = set()
    for url in named_elsewhere(store, found.study):
        needed.add(_name_of(found.study, url))
    for file in found.files:
        if _name_of(found.study, file.url) not in needed:
            delete(file.url)
    for place, folder in found.folders:
        place.prune(found.study.folder, folder)


class _Refined:
    """What refinements need: the files that their rows name, and everything of those that had not
    ended.
    """

    def __init__(
        self,
        study: StudyRecord,
        before: Sequence[RefinementRecord],
        now: Sequence[RefinementRecord],
    ) -> None:
        ended = set()
        for row in before:
            if row.state not in UNFINISHED:
                ended.add((row.id, row.fence))
        goes_on = []
        for row in now:
            if row.state in UNFINISHED or (row.id, row.fence) not in ended:
                goes_on.append(row)
        self.trials = {row.trial_id for row in goes_on}
        """Trials whose checkpoints are needed."""
        self.named = {_name_of(study, file.url) for row in now for file in row.artifacts.values()}
        self._folders = tuple(f"{folder}/" for row in goes_on for folder in (row.folder, row.work))

    def needs(self, name: str) -> bool:
        """Whether a file belongs to one that had not ended when the files were listed."""
        return name.startswith(self._folders)


class _Rules:
    """What stays and what goes; gives the kind of a file that goes, and nothing for one that
    stays.
    """

    def __init__(
        self,
        study: StudyRecord,
        before: Sequence[TrialRecord],
        trials: Sequence[TrialRecord],
        front: Sequence[TrialRecord],
        reachable: Sequence[Artifacts],
        refined: _Refined,
        elsewhere: Iterable[str],
    ) -> None:
        self._refined = refined
        members = {trial.id for trial in front}
        self.ended = {trial.number for trial in before if trial.state not in UNFINISHED}
        self._known = {trial.number for trial in trials}
        self._front = {trial.number for trial in front}
        here = {place.identity for place in reachable}
        kept = members | refined.trials
        others = []
        for trial in trials:
            if trial.number in self.ended and trial.id not in kept:
                others.append(trial)
        self.forgotten = [
            trial
            for trial in others
            if trial.artifacts
            and (
                trial.origin is not None
                or all(_place_of(study, url) in here for url in _urls(trial))
            )
        ]
        lost = {trial.id for trial in self.forgotten}
        self._named = {
            _name_of(study, url) for trial in trials if trial.id not in lost for url in _urls(trial)
        }
        self._named |= refined.named
        self._named |= {_name_of(study, url) for url in elsewhere}
        self._kinds = {
            _name_of(study, file.url): file.kind
            for trial in self.forgotten
            for file in trial.artifacts.values()
        }

    def artefact(self, name: str) -> str | None:
        """Judge a file beside the models."""
        if self._left_alone(name) or name in self._named:
            return None
        return self._kinds.get(name, HALF if name.endswith(PARTIAL) else UNNAMED)

    def work(self, name: str) -> str | None:
        """Judge a file in the folder for checkpoints."""
        number, _, rest = name.partition("/")
        if not (number.isdigit() or number == WORK_OF_REFINEMENTS) or self._left_alone(name):
            return None
        if number.isdigit() and int(number) in self._front and rest.startswith("trunk/"):
            # versions that knew no attempts left a member's last checkpoint here, to go on from
            return None
        if name.endswith(PARTIAL):
            return HALF
        return WORK

    def _left_alone(self, name: str) -> bool:
        """Whether a file belongs to a trial or refinement that had not ended when the files were
        listed.
        """
        if self._refined.needs(name):
            return True
        number = name.partition("/")[0]
        return number.isdigit() and int(number) in self._known - self.ended


def _places(
    study: StudyRecord, trials: Sequence[TrialRecord], refined: Sequence[RefinementRecord]
) -> list[Artifacts]:
    """Return the places in which the study's files lie: that of now, and those of before it was
    moved elsewhere.
    """
    named = [
        *(url for trial in trials for url in _urls(trial)),
        *(url for row in refined for url in _urls(row)),
    ]
    urls = [study.artifacts, *(root for url in named if (root := _root_of(study, url)))]
    return _distinct(Artifacts(url) for url in dict.fromkeys(urls))


def _distinct(places: Iterable[Artifacts]) -> list[Artifacts]:
    return list({place.identity: place for place in places}.values())


def _urls(owner: TrialRecord | RefinementRecord) -> list[str]:
    found: list[str] = []
    for file in owner.artifacts.values():
        found.append(file.url)
    return found


def _root_of(study: StudyRecord, url: str) -> str:
    """Return the place of a file: what comes before the study's folder."""
    return url.rpartition(f"/{study.folder}/")[0]


def _name_of(study: StudyRecord, url: str) -> str:
    """Return the name of a file within the study's folder: its disk may be mounted elsewhere."""
    return url.rpartition(f"/{study.folder}/")[2]


def _place_of(study: StudyRecord, url: str) -> object:
    root = _root_of(study, url)
    if root:
        return Artifacts(root).identity
    return None


def _check_metrics(study: StudyRecord, metrics: Mapping[str, Metric]) -> None:
    missing = []
    for name in study.objectives:
        if name not in metrics:
            missing.append(name)
    if missing:
        raise PluginError(
            f"The front of {study.name!r} cannot be told: no plugin that is installed measures"
            f" {', '.join(missing)}.",
            "Install the plugin with which the study was begun.",
        )
