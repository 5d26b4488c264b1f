"""What core expects of any technique, as tests that a plugin author inherits."""

# ruff: noqa: S101 - tests assert, also those that are inherited
from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import torch
from safetensors.torch import load, save

from automl_sr.compression.export import verify
from automl_sr.errors import StopRequestedError
from automl_sr.plugin.blueprint import Blueprint, build
from automl_sr.plugin.declaration import problems_of
from automl_sr.plugin.registry import instantiate
from automl_sr.plugin.task import Samples, Task, as_inputs
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.tasks.image_sr.samples import SRSamples
from automl_sr.testing.configurations import configurations, refusals
from automl_sr.testing.observing import (
    Killed,
    StopThenKill,
    Trace,
    assert_same,
    cost_of,
    heavy_imports_of,
    overrides,
)
from automl_sr.testing.tiny import (
    SEED,
    TinyNet,
    TinyTrial,
    contract_registry,
    in_pipeline_order,
    tiny_recipe,
    tiny_samples,
    tiny_task,
)
from automl_sr.training.randomness import seed_all
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run, TrainedModel

YEAR = re.compile(r"\b(19|20)\d\d\b")
TRAINING_HOOKS = ("blueprint", "phases", "wrap_step")
SHIPPING_HOOKS = (*TRAINING_HOOKS, "compress", "export")

Test = TypeVar("Test", bound=Callable[..., None])


@dataclass(frozen=True)
class About:
    """The techniques that a test can find anything about: those of some slots that have one of some
    stages.
    """

    stages: frozenset[str]
    slots: frozenset[Slot]

    def holds(self, cls: type[Technique]) -> bool:
        """Whether this technique is one of them."""
        return getattr(cls, "slot", None) in self.slots and overrides(cls, *self.stages)


def about(*stages: str, slots: Iterable[Slot] = Slot) -> Callable[[Test], Test]:
    """Mark a test of a contract as one about these stages: a technique that has none of its own is
    not tried.
    """

    def mark(test: Test) -> Test:
        vars(test)["about"] = About(frozenset(stages), frozenset(slots))
        return test

    return mark


def concerns(test: Any, cls: type[Technique]) -> bool:
    """Whether a test can find anything about a technique."""
    found: About | None = getattr(test, "about", None)
    return found is None or found.holds(cls)


class TechniqueContract:
    """Inherit in a class whose name begins with `Test`, and set `technique` to a class or to
    several.

    Every technique is tried with its defaults, at both ends of all ranges and with each choice;
    tests about stages that it leaves as they are do not exist for it. The optional attributes below
    fit the tests to what is under test; the optional methods put other data or another task in
    place.
    """

    technique: ClassVar[Any] = None
    """The technique class under test, or a list of them."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Fields to set in all configurations, for instance a short training of a helper model."""
    companions: ClassVar[Sequence[Technique]] = ()
    """Techniques of other slots that it needs; without an architecture among them a tiny net stands
    in.
    """
    plugins: ClassVar[Sequence[object]] = ()
    """Modules with hooks to register, where they are not installed."""
    steps: ClassVar[int] = 12
    export_tolerance: ClassVar[float] = 1e-4
    """How far the shipped file may be from the trained model, relative to the output's range."""
    not_trained: ClassVar[Sequence[str]] = ()
    """Regular expressions for parameters that get no gradient on purpose."""

    # ---- what is under test ----------------------------------------------------------------------

    def __init_subclass__(cls) -> None:
        """Leave out the tests that concern none of the techniques: pytest would list them as
        skipped.
        """
        super().__init_subclass__()
        if cls.technique is None:
            return
        techniques = cls.technique_classes()
        for name, test in _tests_of(cls).items():
            wanted = any(concerns(test, technique) for technique in techniques)
            if not wanted:
                setattr(cls, name, None)
            elif getattr(cls, name) is None:
                setattr(cls, name, test)

    def make_task(self) -> Task:
        """Return the task; image super-resolution by 2 on luma unless overridden."""
        return tiny_task()

    def make_samples(self) -> Samples:
        """Return training samples of that task."""
        return tiny_samples()

    def make_recipe(self) -> Recipe:
        """Return the recipe of the trial runs."""
        return tiny_recipe()

    @classmethod
    def technique_classes(cls) -> list[type[Technique]]:
        """Return the techniques under test."""
        if cls.technique is None:
            raise TypeError(
                f"{cls.__name__} inherits a contract: set `technique = YourTechnique` in it."
            )
        if isinstance(cls.technique, list | tuple):
            return list(cls.technique)
        return [cls.technique]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for every class or every configuration of it."""
        classes = []
        for cls in self.technique_classes():
            if concerns(metafunc.function, cls):
                classes.append(cls)
        if "technique_class" in metafunc.fixturenames:
            metafunc.parametrize(
                "technique_class", [pytest.param(cls, id=cls.name) for cls in classes]
            )
        if "configured" in metafunc.fixturenames:
            cases = []
            for cls in classes:
                for name, technique in configurations(cls, self.settings).items():
                    if name == "default" or matters(cls, metafunc.fixturenames):
                        cases.append(pytest.param(technique.canonical(), id=f"{cls.name}-{name}"))
            metafunc.parametrize("configured", cases, scope="class")

    def trial_of(self, technique: Technique, folder: Path) -> TinyTrial:
        """Make a trial of the technique with its companions."""
        others = list(self.companions)
        if not any(item.slot is Slot.ARCHITECTURE for item in [technique, *others]):
            others.append(TinyNet())
        techniques = in_pipeline_order([technique, *others])
        registry = contract_registry((type(item) for item in techniques), self.plugins)
        return TinyTrial(
            registry,
            self.make_task(),
            self.make_samples(),
            techniques,
            self.steps,
            folder,
            self.make_recipe(),
        )

    @pytest.fixture
    def trial(self, configured: Technique, tmp_path: Path) -> TinyTrial:
        """A trial that has not begun."""
        return self.trial_of(configured, tmp_path)

    @pytest.fixture(scope="class")
    @classmethod
    def trained(
        cls, configured: Technique, tmp_path_factory: pytest.TempPathFactory
    ) -> tuple[TrainedModel, Trace]:
        """The model of a whole trial, compressed and exported, and what was seen while it
        trained.
        """
        trial = cls().trial_of(configured, tmp_path_factory.mktemp("trained"))
        trace = Trace()
        return trial.shipped(trial.walk(trace)), trace

    @pytest.fixture
    def interrupted(self, trial: TinyTrial) -> Run:
        """A run that was stopped in every phase, each time to go on from its checkpoint."""
        return trial.train_interrupted()

    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def one_thread() -> Iterator[None]:
        """Small nets are slower with more threads, and other tests run beside these."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    # ---- declaration -----------------------------------------------------------------------------

    def test_its_declaration_is_valid(self, technique_class: type[Technique]) -> None:
        """Core refuses a technique with problems."""
        assert problems_of(technique_class) == []

    def test_it_takes_every_corner_of_its_search_space(
        self, technique_class: type[Technique]
    ) -> None:
        """A search proposes any combination that the fields allow; say what depends on what with
        `When`.
        """
        assert refusals(technique_class, self.settings) == {}

    def test_its_canonical_form_is_settled(self, technique_class: type[Technique]) -> None:
        """What plans hold and are compared by is one of its settings, and nothing changes the
        second time.
        """
        for name, technique in configurations(technique_class, self.settings).items():
            settled = technique.canonical()
            assert type(settled) is technique_class, name
            assert settled.canonical().dump() == settled.dump(), name
            assert technique_class.model_validate(settled.model_dump()).dump() == settled.dump(), (
                name
            )

    def test_its_docstring_says_what_it_does_and_where_it_comes_from(
        self, technique_class: type[Technique]
    ) -> None:
        """The first line is its title in lists; a source has a year."""
        assert technique_class.title().endswith("."), (
            "the first line of the docstring is one sentence with a full stop"
        )
        assert YEAR.search(technique_class.__doc__ or ""), (
            "the docstring names no source (authors, title, venue, year)"
        )

    def test_declaring_it_imports_nothing_heavy(self, technique_class: type[Technique]) -> None:
        """Listing plugins must stay fast: torch and the like are imported inside methods."""
        assert heavy_imports_of(technique_class.__module__) == []

    def test_it_survives_json(self, configured: Technique, trial: TinyTrial) -> None:
        """Plans are stored as JSON."""
        written = json.loads(
            json.dumps({"technique": configured.name, **configured.dump()}, allow_nan=False)
        )
        again = instantiate(trial.registry, configured.slot, written)
        assert again.dump() == configured.dump()
        assert type(configured).model_validate(again.model_dump()).dump() == configured.dump()

    # ---- data ------------------------------------------------------------------------------------

    @about("select_data")
    def test_it_chooses_samples_that_can_be_trained_on(
        self, configured: Technique, trial: TinyTrial
    ) -> None:
        """Twice the same ones, on a cold cache and on a warm one."""
        chosen = configured.select_data(trial.data, trial.context(configured))
        assert len(chosen) > 0
        trial.task.check_training(chosen, patch=trial.recipe.patch)
        again = configured.select_data(trial.data, trial.context(configured))
        assert again.fingerprint == chosen.fingerprint
        if configured.slot is Slot.SELECTION and isinstance(chosen, SRSamples):
            windows = []
            for window in chosen.windows.tolist():
                windows.append(tuple(window))
            assert len(set(windows)) == len(windows), "a sample was chosen twice"
            assert isinstance(trial.data, SRSamples)
            assert chosen.lr is trial.data.lr, (
                "a selection keeps samples, it does not make new ones"
            )

    @about("select_data")
    def test_its_samples_do_not_depend_on_an_interruption(
        self, configured: Technique, trial: TinyTrial, tmp_path: Path
    ) -> None:
        """Stopped and killed on a cold cache, it ends with the samples of an undisturbed one on
        another cold cache.
        """
        undisturbed = self.trial_of(configured, tmp_path / "other")
        seed_all(SEED)
        wanted = configured.select_data(undisturbed.data, undisturbed.context(configured))
        disturbed = replace(trial, watching=StopThenKill())
        for _ in range(3):
            seed_all(SEED)
            with contextlib.suppress(StopRequestedError, Killed):
                found = configured.select_data(disturbed.data, disturbed.context(configured))
                break
        else:
            raise AssertionError("It was left alone the third time and gave no samples.")
        assert found.fingerprint == wanted.fingerprint

    @about("phases", slots=[Slot.SELECTION])
    def test_its_selection_leaves_the_number_of_steps_alone(
        self, configured: Technique, trial: TinyTrial
    ) -> None:
        """Core-sets are compared for the same number of steps, never of epochs."""
        plain = replace(trial, techniques=(TinyNet(),))
        assert trial.timetable().signature() == plain.timetable().signature()

    # ---- training --------------------------------------------------------------------------------

    @about("select_data", *TRAINING_HOOKS)
    def test_every_parameter_learns(self, trained: tuple[TrainedModel, Trace]) -> None:
        """A parameter without a gradient is dead weight in the shipped file."""
        _, trace = trained
        dead = []
        for name, alive in trace.learnt.items():
            if not alive:
                dead.append(name)
        assert [
            name for name in dead if not any(re.fullmatch(mask, name) for mask in self.not_trained)
        ] == []

    @about("select_data", *TRAINING_HOOKS)
    def test_it_goes_on_bit_for_bit_after_an_interruption(
        self, interrupted: Run, trained: tuple[TrainedModel, Trace]
    ) -> None:
        """Whatever it needs has to be in the run's state, which checkpoints keep."""
        _, trace = trained
        assert_same(interrupted.capture().tensors, trace.snapshot)
        assert_same(interrupted.evaluation_state(), trace.weights)

    @about("select_data", *TRAINING_HOOKS)
    def test_it_goes_on_bit_for_bit_as_studies_train(
        self, technique_class: type[Technique], tmp_path: Path
    ) -> None:
        """With the default recipe: bf16 where the processor has it, tensors with channels last."""
        technique = technique_class(**self.settings).canonical()
        whole = Trace()
        self.trial_of(technique, tmp_path / "whole").as_studies_train().walk(whole)
        run = (
            self.trial_of(technique, tmp_path / "interrupted")
            .as_studies_train()
            .train_interrupted()
        )
        assert_same(run.capture().tensors, whole.snapshot)
        assert_same(run.evaluation_state(), whole.weights)

    # ---- the shipped model -----------------------------------------------------------------------

    @about(*SHIPPING_HOOKS)
    def test_its_blueprint_describes_the_model(
        self, trained: tuple[TrainedModel, Trace], trial: TinyTrial
    ) -> None:
        """Rebuilt from JSON, on the meta device too, and filled with the saved weights, it is the
        same model.
        """
        finished, _ = trained
        blueprint = Blueprint.from_json(
            json.loads(json.dumps(finished.blueprint.to_json(), allow_nan=False))
        )
        assert blueprint == finished.blueprint
        with torch.device("meta"):
            outline = build(blueprint, trial.registry).state_dict()
        state = finished.module.state_dict()
        assert {name: value.shape for name, value in outline.items()} == {
            k: v.shape for k, v in state.items()
        }
        again = build(blueprint, trial.registry).eval()
        again.load_state_dict(
            load(save({name: value.contiguous() for name, value in state.items()}))
        )
        with torch.no_grad():
            for example in finished.task.examples(finished.module):
                inputs = as_inputs(example)
                assert all(
                    torch.equal(found, wanted)
                    for found, wanted in zip(
                        as_inputs(again(*inputs)), as_inputs(finished.module(*inputs)), strict=True
                    )
                )

    @about(*SHIPPING_HOOKS)
    def test_its_file_gives_what_the_model_gives(self, trained: tuple[TrainedModel, Trace]) -> None:
        """On inputs of two sizes, within `export_tolerance` of the output's range."""
        finished, _ = trained
        assert finished.onnx is not None
        tolerance = 1e-4
        if any(overrides(cls, "export") for cls in self.technique_classes()):
            tolerance = self.export_tolerance
        assert (
            verify(
                finished.onnx, finished.module, finished.task.examples(finished.module), tolerance
            )
            <= tolerance
        )

    @about(
        *SHIPPING_HOOKS, "predict", slots=[slot for slot in Slot if slot is not Slot.ARCHITECTURE]
    )
    def test_what_it_predicts_of_the_cost_is_true(
        self,
        configured: Technique,
        trained: tuple[TrainedModel, Trace],
        trial: TinyTrial,
        tmp_path: Path,
    ) -> None:
        """A plan is rejected untrained by its lower bound, so the bounds must hold."""
        finished, _ = trained
        without = self.trial_of(TinyNet(), tmp_path / "plain")
        others = []
        for item in trial.techniques:
            if item is not configured:
                others.append(item)
        plain = replace(without, techniques=in_pipeline_order(others))
        before = cost_of(plain.shipped(plain.walk(Trace())))
        lower, upper = configured.predict(before, trial.task)
        after = cost_of(finished)
        assert lower.keys() == upper.keys() == before.keys()
        for name, value in after.items():
            assert lower[name] <= value <= upper[name] + 1024 * (name == "size_bytes"), (
                name
            )  # names take room too


def _tests_of(suite: type) -> dict[str, Any]:
    """Return the tests of a suite and of all that it inherits, also those that it or its parents
    leave out.
    """
    found: dict[str, Any] = {}
    for base in reversed(suite.__mro__):
        tests = {}
        for name, value in vars(base).items():
            if name.startswith("test_") and value is not None:
                tests[name] = value
        found.update(tests)
    return found


def matters(cls: type[Technique], fixtures: Sequence[str]) -> bool:
    """Whether other fields can make a difference to a test that asks for these fixtures."""
    if "interrupted" in fixtures:
        return overrides(cls, *TRAINING_HOOKS)
    return "trained" not in fixtures or overrides(cls, *SHIPPING_HOOKS)
