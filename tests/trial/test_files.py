"""Files that techniques name: their content counts, wherever they lie, and never changes in
silence.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pytest
import toy_techniques as toys
import training_toys as more
from resuming import registry
from trial_notes import Notes, digits

from automl_sr.api import File, Int, Slot, Technique
from automl_sr.errors import DataError, PluginError, StudyFileError, TrialError
from automl_sr.plugin.declaration import problems_of
from automl_sr.plugin.registry import Source
from automl_sr.space.plan import TrialPlan
from automl_sr.space.search_space import SearchSpace
from automl_sr.study.spec import LoadedStudy, load_study
from automl_sr.testing.tiny import DEVICE
from automl_sr.trial.cache import Cache
from automl_sr.trial.context import Context
from automl_sr.trial.run import run_trial
from automl_sr.trial.setup import make_context

STUDY = """
name: taught
task: {{kind: digits}}
objectives: [accuracy]
budget: {{trials: 2, steps: 60}}
space:
  architecture: [mlp]
  teacher: {{file: {{weights: {weights}}}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return more.write_teacher(tmp_path / "teacher.safetensors", seed=1)


def plan_with(file: Path) -> TrialPlan:
    teacher = more.FileTeacher(weights=str(file))
    return TrialPlan.of({Slot.ARCHITECTURE: toys.Mlp(), Slot.TEACHER: teacher}, {})


def context(folder: Path, technique: Technique) -> Context:
    cache = Cache(folder / "cache")
    made = Context(registry(), toys.DigitsTask(), 1, DEVICE, folder, cache, "some data")
    return made.for_technique(technique)


def test_the_content_counts_for_the_fingerprint_and_the_path_does_not(
    tmp_path: Path, file: Path
) -> None:
    before = plan_with(file)
    elsewhere = plan_with(more.write_teacher(tmp_path / "copy.safetensors", seed=1))
    assert elsewhere.fingerprint == before.fingerprint
    more.write_teacher(file, seed=2)
    assert plan_with(file).fingerprint != before.fingerprint


def test_a_plan_keeps_what_was_in_its_files(file: Path) -> None:
    plan = plan_with(file)
    again = TrialPlan.from_json(json.loads(json.dumps(plan.to_json())), registry())
    assert again == plan
    assert list(again.files) == [str(file)]


def test_plans_without_files_are_written_as_before() -> None:
    plan = TrialPlan.of({Slot.ARCHITECTURE: toys.Mlp(), Slot.TEACHER: more.FileTeacher()}, {})
    assert plan.to_json().keys() == {"techniques", "params", "fingerprint"}


def test_a_plan_with_a_missing_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        TrialError, match=r"^The file \S+gone\.safetensors is not there\."
    ) as refused:
        plan_with(tmp_path / "gone.safetensors")
    assert "\n" not in str(refused.value)


def test_the_content_counts_for_what_trials_share(tmp_path: Path, file: Path) -> None:
    technique = more.FileTeacher(weights=str(file))
    ctx = context(tmp_path, technique)
    made: list[str] = []

    def ask() -> None:
        ctx.cached("key", lambda: made.append("cached") or {})  # type: ignore[func-returns-value]
        ctx.iterate("key", lambda: made.append("iterated") or {}, lambda state, i: state, 1)  # type: ignore[func-returns-value]

    ask()
    ask()
    assert made == ["cached", "iterated"]
    more.write_teacher(file, seed=2)
    ask()
    assert made == ["cached", "iterated"] * 2


class FromFile(toys.Mlp):
    """A net that is described by a file."""

    name = "from_file"
    baseline = False
    source: Annotated[str, File()] = ""


def test_the_content_counts_for_a_helper_model_that_names_the_file(
    tmp_path: Path, file: Path
) -> None:
    ctx = context(tmp_path, toys.TeacherLoss())
    ctx.registry.add_technique(FromFile, Source("toys", "toys", "1"))
    data = ctx.task.load(0).train
    for seed in (1, 1, 2):
        more.write_teacher(file, seed)
        ctx.fit(FromFile(width=4, source=str(file)), data, steps=2)
    assert (len(ctx.cache.misses), len(ctx.cache.hits)) == (2, 1)


def test_a_file_that_no_field_names_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(PluginError, match="No field of the technique names the file"):
        context(tmp_path, more.FileTeacher()).file(str(file))


def test_a_file_that_went_is_told_in_one_sentence(tmp_path: Path, file: Path) -> None:
    ctx = context(tmp_path, more.FileTeacher(weights=str(file)))
    assert ctx.file(str(file)) == file
    file.unlink()
    with pytest.raises(DataError, match=r"^The file \S+ is not there\."):
        ctx.file(str(file))


def test_a_trial_does_not_go_on_with_another_content(tmp_path: Path, file: Path) -> None:
    techniques: list[Technique] = [toys.Mlp(), more.FileTeacher(weights=str(file))]
    plan, setting = digits(tmp_path, techniques, steps=60)
    setting = replace(setting, registry=registry())
    done = run_trial(plan, setting, Notes(), tmp_path / "trial")
    assert done.state == "complete"
    more.write_teacher(file, seed=2)
    with pytest.raises(TrialError, match="has changed since the trial was planned"):
        run_trial(plan, setting, Notes(), tmp_path / "again")
    replanned, _ = digits(tmp_path, techniques, steps=60)
    other = run_trial(replanned, setting, Notes(), tmp_path / "again")
    assert replanned.fingerprint != plan.fingerprint
    assert other.artifacts["weights"].read_bytes() != done.artifacts["weights"].read_bytes()


def test_the_context_of_a_trial_knows_the_content(tmp_path: Path, file: Path) -> None:
    plan, setting = digits(tmp_path, [toys.Mlp(), more.FileTeacher(weights=str(file))])
    assert make_context(plan, setting, tmp_path / "trial").files == plan.files


# ---- in the study file ----


def read(folder: Path, weights: str) -> LoadedStudy:
    path = folder / "study.yaml"
    path.write_text(STUDY.format(weights=weights))
    return load_study(path, registry())


def test_a_path_in_a_study_file_begins_beside_it(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = read(tmp_path, file.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    stored = SearchSpace(loaded.space_request, registry()).to_json()
    plan = SearchSpace.from_json(json.loads(json.dumps(stored)), registry()).default_plan()
    assert plan.params["teacher.file.weights"] == str(file.resolve())
    assert list(plan.files) == [str(file.resolve())]


def test_several_files_are_a_choice(tmp_path: Path, file: Path) -> None:
    other = more.write_teacher(tmp_path / "other.safetensors", seed=2)
    space = SearchSpace(read(tmp_path, f"[{file.name}, {other.name}]").space_request, registry())
    [options] = [item.choices for item in space.parameters().values() if hasattr(item, "choices")]
    assert options == (str(file.resolve()), str(other.resolve()))


def test_a_missing_file_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match=r"study\.yaml:8: .*there is no file \S+gone") as told:
        read(tmp_path, "gone.safetensors")
    assert "\n" not in str(told.value)


class Odd(Technique):
    """Declare files that none can be."""

    slot = Slot.TEACHER
    name = "odd"
    number: Annotated[int, File()] = 3
    ranged: Annotated[int, File(), Int(1, 2)] = 1


def test_a_file_field_is_text() -> None:
    found = problems_of(Odd)
    assert [text.split("'")[1] for text in found] == ["number", "ranged"]
