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
    # The first look at the rows ...
    before = store.trials(study)
    refined_before = refinements(store, study)
    reachable = []
    unreachable = []
    for place in _places(study, before, refined_before):
        if place.there:
            reachable.append(place)
        else:
            unreachable.append(place.url)

    # ... then the files ...
    works = _work_places(study, reachable)
    artefacts = _listed(study, reachable)
    work = _listed(study, works)

    # ... then the second look.
    trials = store.trials(study)
    refined = _Refined(study, refined_before, refinements(store, study))
    front = front_of(study, trials, metrics)
    elsewhere = named_elsewhere(store, study)
    rules = _Rules(study, before, trials, front, reachable, refined, elsewhere)

    sorted_out = _SortedOut(study)
    for place, name, size in artefacts:
        sorted_out.add(place, name, size, rules.artefact(name))
    for place, name, size in work:
        sorted_out.add(place, name, size, rules.work(name))

    folders = []
    for place in (*reachable, *works):
        for number in sorted(rules.ended):
            folders.append((place, f"{number:05d}"))
    forgotten = sorted(trial.id for trial in rules.forgotten)
    return Leftovers(
        study,
        tuple(sorted_out.gone),
        tuple(forgotten),
        tuple(folders),
        sorted_out.kept_files,
        sorted_out.kept_bytes,
        tuple(unreachable),
    )


class _SortedOut:
    """Files as they are judged, one after the other."""

    def __init__(self, study: StudyRecord) -> None:
        self.gone: list[StudyFile] = []
        self.kept_files = 0
        self.kept_bytes = 0
        self._folder = study.folder

    def add(self, place: Artifacts, name: str, size: int, kind: str | None) -> None:
        """Take a file in; one without a kind stays."""
        if kind is None:
            self.kept_files += 1
            self.kept_bytes += size
        else:
            self.gone.append(StudyFile(place.url_of(self._folder, name), size, kind))


def _listed(study: StudyRecord, places: Iterable[Artifacts]) -> list[tuple[Artifacts, str, int]]:
    """List a study's files in some places: place, name within the study's folder, bytes."""
    found = []
    for place in places:
        for name, size in place.files(study.folder).items():
            found.append((place, name, size))
    return found


def remove(store: Store, found: Leftovers) -> None:
    """Remove leftovers: files and, where they may be empty then, folders."""
    # Rows first: a crash in between leaves files that no row names, for the next time.
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
        # With the fence: one that was asked for again, and has ended anew meanwhile, was at work
        # when the files were listed.
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
        self.named: set[str] = set()
        """Files that the rows name, within the study's folder."""
        for row in now:
            self.named |= _names(study, row)
        folders = []
        for row in goes_on:
            folders += [f"{row.folder}/", f"{row.work}/"]
        self._folders = tuple(folders)

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
        self._study = study
        self._refined = refined
        self._here = {place.identity for place in reachable}
        self._known = {trial.number for trial in trials}
        self._front = {trial.number for trial in front}
        self.ended: set[int] = set()
        """Numbers of the trials that had ended when the files were listed."""
        for trial in before:
            if trial.state not in UNFINISHED:
                self.ended.add(trial.number)

        self.forgotten: list[TrialRecord] = []
        """Trials whose files go."""
        self._kinds: dict[str, str] = {}
        """Kinds of the files that go, by name."""
        self._named: set[str] = set(refined.named)
        """Files that a row needs."""
        needed = refined.trials | {trial.id for trial in front}
        for trial in trials:
            if trial.id not in needed and self._may_be_forgotten(trial):
                self.forgotten.append(trial)
                for file in trial.artifacts.values():
                    self._kinds[_name_of(study, file.url)] = file.kind
            else:
                self._named |= _names(study, trial)
        for url in elsewhere:
            self._named.add(_name_of(study, url))

    def _may_be_forgotten(self, trial: TrialRecord) -> bool:
        """Return whether the rows of a trial's files may go, if nothing needs them."""
        if trial.number not in self.ended or not trial.artifacts:
            return False
        if trial.origin is not None:
            return True  # the files are those of the study from which it was imported
        # A row whose file cannot be removed from here stays, or nobody would find it again.
        return all(_place_of(self._study, url) in self._here for url in _urls(trial))

    def artefact(self, name: str) -> str | None:
        """Judge a file beside the models."""
        if self._left_alone(name) or name in self._named:
            return None
        if name in self._kinds:
            return self._kinds[name]
        if name.endswith(PARTIAL):
            return HALF
        return UNNAMED

    def work(self, name: str) -> str | None:
        """Judge a file in the folder for checkpoints."""
        number, _, rest = name.partition("/")
        of_trial = number.isdigit()
        if not of_trial and number != WORK_OF_REFINEMENTS:
            return None
        if self._left_alone(name):
            return None
        # Versions that knew no attempts left a member's last checkpoint here, to go on from.
        if of_trial and int(number) in self._front and rest.startswith("trunk/"):
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
    roots = {study.artifacts: None}  # a dictionary keeps the order, a set does not
    owners: list[TrialRecord | RefinementRecord] = [*trials, *refined]
    for owner in owners:
        for url in _urls(owner):
            root = _root_of(study, url)
            if root:
                roots[root] = None
    return _distinct(Artifacts(root) for root in roots)


def _work_places(study: StudyRecord, places: Iterable[Artifacts]) -> list[Artifacts]:
    """Return the folders beside some places in which checkpoints lie."""
    found = []
    for place in places:
        folder = work_folder(place, study.folder).parent
        found.append(Artifacts(str(folder)))
    return _distinct(found)


def _distinct(places: Iterable[Artifacts]) -> list[Artifacts]:
    """Return each place once, by whatever names it was given."""
    found = {}
    for place in places:
        found[place.identity] = place
    return list(found.values())


def _names(study: StudyRecord, owner: TrialRecord | RefinementRecord) -> set[str]:
    """Return the names of an owner's files within the study's folder."""
    return {_name_of(study, url) for url in _urls(owner)}


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
