"""What `automl-sr gc` keeps: models of the front and everything of unfinished trials, whatever
happens meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from search_world import find as search_in
from search_world import load, registry, run_fast
from searched import Once

from automl_sr.errors import PluginError
from automl_sr.search.engine import Options, search
from automl_sr.search.results import front_of
from automl_sr.search.retention import Leftovers, find_leftovers, remove
from automl_sr.search.workers.trial_folder import TrialFolder, work_folder
from automl_sr.store.artifacts import Artifacts
from automl_sr.store.records import Claim, Result, StudyRecord, TrialRecord
from automl_sr.store.repository import Store

METRICS = registry().metrics


def run_with_weights(plan: Any, setting: Any, observer: Any, folder: Path) -> Any:
    """Leave two files, and fail where the model would be narrow."""
    if plan.params["architecture.line.width"] < 10:
        raise ValueError("too narrow")
    outcome = run_fast(plan, setting, observer, folder)
    weights = folder / "model.safetensors"
    weights.write_text("weights")
    return replace(outcome, artifacts={**outcome.artifacts, "weights": weights})


@dataclass
class World:
    """A study that was searched, with its store and its folders."""

    store: Store
    study: StudyRecord
    place: Artifacts

    @property
    def models(self) -> Path:
        return Path(self.place.url) / self.study.folder

    @property
    def work(self) -> Path:
        return work_folder(self.place, self.study.folder)

    def trials(self) -> list[TrialRecord]:
        return self.store.trials(self.study)

    def front(self) -> list[TrialRecord]:
        return front_of(self.study, self.trials(), METRICS)

    def others(self) -> list[TrialRecord]:
        members = {trial.id for trial in self.front()}
        return [trial for trial in self.trials() if trial.id not in members and trial.artifacts]

    def find(self) -> Leftovers:
        return find_leftovers(self.store, self.store.study(self.study.name), METRICS)

    def clean(self) -> Leftovers:
        found = self.find()
        remove(self.store, found)
        return found

    def running(self) -> Claim:
        claim = self.store.claim_new(self.study, "somewhere:1", None)
        assert claim is not None
        return claim

    def put(self, folder: Path, *name: str) -> Path:
        source = folder / "source"
        source.write_text("content")
        return Path(self.place.put(source, "onnx", self.study.folder, *name).url)


def world(folder: Path, name: str = "world") -> World:
    """Open what was searched in a folder."""
    store = Store.open(f"sqlite:///{folder}/store.db")
    study = store.study(name)
    made = World(store, study, Artifacts(study.artifacts))
    states = {trial.state for trial in made.trials()}
    assert states == {"complete", "failed"}
    assert len(made.front()) > 1
    assert made.others()
    return made


def make(folder: Path, name: str = "world") -> None:
    search_in(load(name=name, trials=10, seed=1), folder, run_with_weights)


@pytest.fixture
def here(once: Once, tmp_path: Path) -> Iterator[World]:
    once("one", make, tmp_path)
    made = world(tmp_path)
    yield made
    made.store.close()


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def write(path: Path, content: str = "content") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


# ---- what stays and what goes --------------------------------------------------------------------


def test_the_front_keeps_its_files_and_the_others_their_values(here: World) -> None:
    front, others, before = here.front(), here.others(), here.trials()
    kept = {Path(file.url) for trial in front for file in trial.artifacts.values()}
    lost = {Path(file.url) for trial in others for file in trial.artifacts.values()}
    assert all(path.is_file() for path in kept | lost)
    found = here.clean()
    assert {path for path in here.models.rglob("*") if path.is_file()} == kept
    assert found.by_kind() == {
        "onnx": (len(others), sum(trial.artifacts["onnx"].bytes for trial in others)),
        "weights": (len(others), 7 * len(others)),
    }
    assert (found.kept_files, found.kept_bytes) == (
        len(kept),
        sum(path.stat().st_size for path in kept),
    )
    after = {trial.number: trial for trial in here.trials()}
    assert [trial.values for trial in before] == [after[trial.number].values for trial in before]
    assert {number for number, trial in after.items() if trial.artifacts} == {
        trial.number for trial in front
    }
    assert not any((here.models / f"{trial.number:05d}").exists() for trial in others)


def test_the_second_time_nothing_is_left_to_do(here: World) -> None:
    first = here.clean()
    second = here.clean()
    assert first.files
    assert (second.files, second.trials) == ((), ())
    assert (second.kept_files, second.kept_bytes) == (first.kept_files, first.kept_bytes)


def test_looking_changes_nothing(here: World) -> None:
    before = files(here.models), here.trials()
    assert here.find().files
    assert (files(here.models), here.trials()) == before


def test_everything_of_unfinished_trials_stays(here: World, tmp_path: Path) -> None:
    running, waiting = here.running(), here.running()
    here.store.release(waiting, 1.0, waiting_for=running.number)
    for claim in (running, waiting):
        for fence in (1, 2):
            TrialFolder.open(here.work, here.study.folder, claim.number, fence, here.place, None)
            write(
                here.work
                / f"{claim.number:05d}"
                / f"attempt-{fence}"
                / "trunk"
                / "step-1.safetensors"
            )
        here.put(tmp_path, f"{claim.number:05d}", "model.onnx")
        write(here.models / f"{claim.number:05d}" / "model.onnx.12.partial")
    theirs = {name for name in files(here.models) if int(name[:5]) >= running.number}
    work = files(here.work)
    here.clean()
    assert theirs <= files(here.models)
    assert files(here.work) == work


def test_what_ended_trials_left_in_the_work_folder_goes(here: World) -> None:
    for trial in (here.front()[0], here.others()[0]):
        for name in (
            "attempt-1/trunk/step-1.safetensors",
            "attempt-2/seconds.json",
            "attempt-3.partial/x",
            "steps",
        ):
            write(here.work / f"{trial.number:05d}" / name)
    gate = write(here.work / "gate" / "tmp1" / "model.onnx")
    found = here.clean()
    assert found.by_kind()["work"] == (8, 8 * 7)
    assert files(here.work) == {"gate/tmp1/model.onnx"}
    assert [path.name for path in here.work.iterdir()] == ["gate"]
    assert gate.exists(), "another worker may be at the gate"


def test_the_checkpoints_that_older_versions_left_for_members_stay(here: World) -> None:
    for trial in (here.front()[0], here.others()[0]):
        write(here.work / f"{trial.number:05d}" / "trunk" / "step-1.safetensors")
    here.clean()
    assert files(here.work) == {f"{here.front()[0].number:05d}/trunk/step-1.safetensors"}


def test_half_files_and_files_that_no_row_names_go(here: World, tmp_path: Path) -> None:
    member = here.front()[0].number
    here.put(tmp_path, f"{member:05d}", "attempt-1", "model.onnx")
    here.put(tmp_path, "00999", "model.onnx")
    write(here.models / f"{member:05d}" / "model.onnx.12.partial", "half")
    found = here.clean()
    assert found.by_kind()["unnamed"] == (2, 14)
    assert found.by_kind()["partial"] == (1, 4)
    named = {Path(file.url) for trial in here.front() for file in trial.artifacts.values()}
    assert {here.models / name for name in files(here.models)} == named


@pytest.mark.ci
def test_copies_of_checkpoints_stay_as_long_as_the_trial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # work lies in `runs` where files are remote
    memory = fsspec.filesystem("memory")
    if memory.exists("/retention"):
        memory.rm("/retention", recursive=True)
    options = Options(f"sqlite:///{tmp_path}/store.db", "memory://retention")
    search(load(trials=10, seed=1), registry(), options, run=run_with_weights)
    there = world(tmp_path)
    claim = there.running()
    trial_folder = TrialFolder.open(
        tmp_path / "work", there.study.folder, claim.number, 1, there.place, None
    )
    write(trial_folder.folder / "trunk" / "step-1.safetensors")
    assert trial_folder.mirror() is not None
    kept = {
        memory._strip_protocol(file.url)
        for trial in there.front()
        for file in trial.artifacts.values()
    }
    there.clean()
    [copy] = set(memory.find("/retention")) - kept
    assert "/checkpoints/attempt-1/trunk/step-1.safetensors" in copy
    there.store.finish(claim, Result("failed", reason="no luck"), 1.0)
    assert there.clean().by_kind() == {"unnamed": (1, 7)}
    assert set(memory.find("/retention")) == kept
    there.store.close()


# ---- what is not the study's ---------------------------------------------------------------------


@pytest.mark.ci
def test_other_studies_and_other_files_are_not_touched(here: World, tmp_path: Path) -> None:
    make(tmp_path, "another")
    other = world(tmp_path, "another")
    theirs = files(other.models)
    root = Path(here.place.url)
    strangers = [
        root / "notes.txt",
        root / "cache" / "x.safetensors",
        root / f"{here.study.folder}-2" / "00000" / "model.onnx",
        root / "work" / other.study.folder / "00000" / "steps",
    ]
    for path in strangers:
        write(path)
    here.clean()
    assert files(other.models) == theirs
    assert all(path.is_file() for path in strangers)
    other.store.close()


# ---- while workers go on -------------------------------------------------------------------------


def while_listing(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None], *, after: bool
) -> None:
    """Let something happen once, just before or just after the artefacts are listed."""

    def listed(place: Artifacts, *folder: str) -> dict[str, int]:
        found = None if not after else real(place, *folder)
        if not done:
            done.append(True)
            happens()
        return real(place, *folder) if found is None else found

    done: list[bool] = []
    real = Artifacts.files
    monkeypatch.setattr(Artifacts, "files", listed)


def dominated(claim: Claim, world: World, folder: Path) -> Result:
    """Give the result of a trial that is not in the front."""
    source = write(folder / "source")
    record = world.place.put(
        source, "onnx", world.study.folder, f"{claim.number:05d}", "model.onnx"
    )
    return Result("complete", {"score": 0.0, "params": 1e9}, artifacts=(record,))


@pytest.mark.parametrize("after", [False, True])
def test_a_trial_that_ends_in_between_keeps_its_files_for_now(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    claim = here.running()
    write(here.work / f"{claim.number:05d}" / "attempt-1" / "seconds.json")
    result = dominated(claim, here, tmp_path)
    with monkeypatch.context() as patched:
        while_listing(patched, lambda: here.store.finish(claim, result, 1.0), after=after)
        here.clean()
    assert {trial.number: trial for trial in here.trials()}[claim.number].artifacts
    assert (here.models / f"{claim.number:05d}" / "model.onnx").is_file()
    assert files(here.work) == {f"{claim.number:05d}/attempt-1/seconds.json"}
    assert here.clean().by_kind() == {"onnx": (1, 7), "work": (1, 7)}


@pytest.mark.parametrize("ends", [False, True])
def test_a_trial_that_begins_in_between_keeps_its_files(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    def begins() -> None:
        claim = here.running()
        write(here.work / f"{claim.number:05d}" / "attempt-1" / "seconds.json")
        result = dominated(claim, here, tmp_path)
        if ends:
            here.store.finish(claim, result, 1.0)

    while_listing(monkeypatch, begins, after=False)
    here.clean()
    number = max(trial.number for trial in here.trials())
    assert (here.models / f"{number:05d}" / "model.onnx").is_file()
    assert files(here.work) == {f"{number:05d}/attempt-1/seconds.json"}


def test_a_member_that_is_dominated_in_between_keeps_files_that_its_rows_name(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front is that of the second look, and what is forgotten then is what goes."""
    claim = here.running()
    result = replace(dominated(claim, here, tmp_path), values={"score": 1e9, "params": 0.0})
    while_listing(monkeypatch, lambda: here.store.finish(claim, result, 1.0), after=False)
    here.clean()
    assert [trial.number for trial in here.front()] == [claim.number]
    assert {trial.number for trial in here.trials() if trial.artifacts} == {claim.number}
    assert files(here.models) == {f"{claim.number:05d}/model.onnx"}


def test_a_file_that_is_gone_already_stops_nothing(here: World) -> None:
    found = here.find()
    Path(found.files[0].url).unlink()
    remove(here.store, found)
    assert here.clean().files == ()


def test_one_that_is_killed_leaves_only_files_that_the_next_one_removes(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(url: str) -> None:
        raise KeyboardInterrupt

    found = here.find()
    with monkeypatch.context() as patched:
        patched.setattr("automl_sr.search.retention.delete", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(here.store, found)
    assert all(
        Path(file.url).is_file() for trial in here.trials() for file in trial.artifacts.values()
    )
    again = here.clean()
    assert {file.url for file in again.files} == {file.url for file in found.files}
    assert set(again.by_kind()) == {"unnamed"}


# ---- places --------------------------------------------------------------------------------------


def moved(here: World, artifacts: str) -> World:
    here.store.update_study(here.study, {"artifacts": artifacts})
    return replace(here, study=here.store.study(here.study.name))


def test_files_from_before_the_study_got_another_place_are_cleaned_up_there(
    here: World, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    named = {file.url for trial in here.front() for file in trial.artifacts.values()}
    found = moved(here, str(tmp_path / "new")).clean()
    assert found.files
    assert {str(here.models / name) for name in files(here.models)} == named


def test_a_place_under_another_name_loses_nothing(here: World, tmp_path: Path) -> None:
    """Rows name files by the path of the machine that made them."""
    (tmp_path / "link").symlink_to(here.place.url)
    named = {file.url for trial in here.front() for file in trial.artifacts.values()}
    found = moved(here, str(tmp_path / "link")).clean()
    assert {str(here.models / name) for name in files(here.models)} == named
    assert found.kept_files == len(named), "each file is counted once"


def test_a_place_that_is_out_of_reach_keeps_its_rows(here: World, tmp_path: Path) -> None:
    """A folder of another machine: without the rows nobody would find the files again."""
    Path(here.place.url).rename(tmp_path / "unmounted")
    rows = here.trials()
    found = here.clean()
    assert (found.files, found.trials, found.unreachable) == ((), (), (here.place.url,))
    assert here.trials() == rows


def test_without_the_plugin_that_measures_the_front_cannot_be_told(here: World) -> None:
    metrics = {name: metric for name, metric in METRICS.items() if name != "score"}
    with pytest.raises(PluginError, match="no plugin that is installed measures score"):
        find_leftovers(here.store, here.study, metrics)
