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
Trained = tuple[TrainedModel, Trace]
"""The model of a whole trial, and what was seen while it trained."""


@dataclass(frozen=True)
class About:
    """The techniques that a test can find anything about.

    They are those of some slots that have one of some stages.
    """

    stages: frozenset[str]
    slots: frozenset[Slot]

    def holds(self, cls: type[Technique]) -> bool:
        """Return whether this technique is one of them."""
        if getattr(cls, "slot", None) not in self.slots:
            return False
        return overrides(cls, *self.stages)


def about(*stages: str, slots: Iterable[Slot] = Slot) -> Callable[[Test], Test]:
    """Mark a test of a contract as one about these stages.

    A technique that has none of its own is not tried.
    """

    def mark(test: Test) -> Test:
        vars(test)["about"] = About(frozenset(stages), frozenset(slots))
        return test

    return mark


def concerns(test: Any, cls: type[Technique]) -> bool:
    """Return whether a test can find anything about a technique."""
    marked: About | None = getattr(test, "about", None)
    return marked is None or marked.holds(cls)


class TechniqueContract:
    """Inherit in a class whose name begins with `Test`, and set `technique`.

    It is a class, or several. Every technique is tried with its defaults, at both ends of all
    ranges and with each choice; tests about stages that it leaves as they are do not exist for it.
    The optional attributes below fit the tests to what is under test; the optional methods put
    other data or another task in place.
    """

    technique: ClassVar[Any] = None
    """The technique class under test, or a list of them."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Fields to set in all configurations, for instance a short training of a helper model."""
    companions: ClassVar[Sequence[Technique]] = ()
    """Techniques of other slots that it needs.

    Without an architecture among them a tiny net stands in.
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
        """Leave out the tests that concern none of the techniques."""
        # Left out and not skipped: pytest would list them.
        super().__init_subclass__()
        if cls.technique is None:
            return
        techniques = cls.technique_classes()
        for name, test in _tests_of(cls).items():
            wanted = any(concerns(test, technique) for technique in techniques)
            if not wanted:
                setattr(cls, name, None)
            elif getattr(cls, name) is None:
                setattr(cls, name, test)  # a parent has left it out, for techniques of its own

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
            cases = [pytest.param(cls, id=cls.name) for cls in classes]
            metafunc.parametrize("technique_class", cases)

        if "configured" in metafunc.fixturenames:
            cases = []
            for cls in classes:
                for name, technique in configurations(cls, self.settings).items():
                    if name == "default" or matters(cls, metafunc.fixturenames):
                        case_id = f"{cls.name}-{name}"
                        cases.append(pytest.param(technique.canonical(), id=case_id))
            metafunc.parametrize("configured", cases, scope="class")

    def trial_of(self, technique: Technique, folder: Path) -> TinyTrial:
        """Make a trial of the technique with its companions."""
        members = [technique, *self.companions]
        if not any(item.slot is Slot.ARCHITECTURE for item in members):
            members.append(TinyNet())
        techniques = in_pipeline_order(members)
        kinds = [type(item) for item in techniques]
        return TinyTrial(
            registry=contract_registry(kinds, self.plugins),
            task=self.make_task(),
            data=self.make_samples(),
            techniques=techniques,
            steps=self.steps,
            folder=folder,
            recipe=self.make_recipe(),
        )

    @pytest.fixture
    def trial(self, configured: Technique, tmp_path: Path) -> TinyTrial:
        """A trial that has not begun."""
        return self.trial_of(configured, tmp_path)

    @pytest.fixture(scope="class")
    @classmethod
    def trained(
        cls,
        configured: Technique,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Trained:
        """The model of a whole trial, compressed and exported, and what was seen of it."""
        trial = cls().trial_of(configured, tmp_path_factory.mktemp("trained"))
        trace = Trace()
        run = trial.walk(trace)
        return trial.shipped(run), trace

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
        self,
        technique_class: type[Technique],
    ) -> None:
        """A search proposes any combination that the fields allow.

        Say what depends on what with `When`.
        """
        assert refusals(technique_class, self.settings) == {}

    def test_its_canonical_form_is_settled(self, technique_class: type[Technique]) -> None:
        """What plans hold and are compared by is one of its settings, and stays what it is."""
        for name, technique in configurations(technique_class, self.settings).items():
            settled = technique.canonical()
            assert type(settled) is technique_class, name
            again = settled.canonical()
            assert again.dump() == settled.dump(), name
            stored = _validated(settled)
            assert stored.dump() == settled.dump(), name

    def test_its_docstring_says_what_it_does_and_where_it_comes_from(
        self,
        technique_class: type[Technique],
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
        plan = {"technique": configured.name, **configured.dump()}
        written = json.loads(json.dumps(plan, allow_nan=False))
        again = instantiate(trial.registry, configured.slot, written)
        assert again.dump() == configured.dump()
        stored = _validated(again)
        assert stored.dump() == configured.dump()

    # ---- data ------------------------------------------------------------------------------------

    @about("select_data")
    def test_it_chooses_samples_that_can_be_trained_on(
        self,
        configured: Technique,
        trial: TinyTrial,
    ) -> None:
        """Twice the same ones, on a cold cache and on a warm one."""
        chosen = configured.select_data(trial.data, trial.context(configured))
        assert len(chosen) > 0
        trial.task.check_training(chosen, patch=trial.recipe.patch)
        again = configured.select_data(trial.data, trial.context(configured))
        assert again.fingerprint == chosen.fingerprint

        if configured.slot is not Slot.SELECTION or not isinstance(chosen, SRSamples):
            return
        windows = [tuple(window) for window in chosen.windows.tolist()]
        assert len(set(windows)) == len(windows), "a sample was chosen twice"
        assert isinstance(trial.data, SRSamples)
        assert chosen.lr is trial.data.lr, "a selection keeps samples, it does not make new ones"

    @about("select_data")
    def test_its_samples_do_not_depend_on_an_interruption(
        self,
        configured: Technique,
        trial: TinyTrial,
        tmp_path: Path,
    ) -> None:
        """Stopped and killed, it ends with the samples of an undisturbed one."""
        # Both begin with a cold cache of their own.
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
        self,
        configured: Technique,
        trial: TinyTrial,
    ) -> None:
        """Core-sets are compared for the same number of steps, never of epochs."""
        plain = replace(trial, techniques=(TinyNet(),))
        assert trial.timetable().signature() == plain.timetable().signature()

    # ---- training --------------------------------------------------------------------------------

    @about("select_data", *TRAINING_HOOKS)
    def test_every_parameter_learns(self, trained: Trained) -> None:
        """A parameter without a gradient is dead weight in the shipped file."""
        _, trace = trained
        dead = []
        for name, alive in trace.learnt.items():
            expected = any(re.fullmatch(mask, name) for mask in self.not_trained)
            if not alive and not expected:
                dead.append(name)
        assert dead == []

    @about("select_data", *TRAINING_HOOKS)
    def test_it_goes_on_bit_for_bit_after_an_interruption(
        self,
        interrupted: Run,
        trained: Trained,
    ) -> None:
        """Whatever it needs has to be in the run's state, which checkpoints keep."""
        _, trace = trained
        assert_same(interrupted.capture().tensors, trace.snapshot)
        assert_same(interrupted.evaluation_state(), trace.weights)

    @about("select_data", *TRAINING_HOOKS)
    def test_it_goes_on_bit_for_bit_as_studies_train(
        self,
        technique_class: type[Technique],
        tmp_path: Path,
    ) -> None:
        """With the default recipe: bf16 where the processor has it, tensors with channels last."""
        # Training in float32 cannot show kernels that are wrong in bf16 alone.
        technique = technique_class(**self.settings).canonical()
        whole = Trace()
        undisturbed = self.trial_of(technique, tmp_path / "whole")
        undisturbed.as_studies_train().walk(whole)
        disturbed = self.trial_of(technique, tmp_path / "interrupted")
        run = disturbed.as_studies_train().train_interrupted()
        assert_same(run.capture().tensors, whole.snapshot)
        assert_same(run.evaluation_state(), whole.weights)

    # ---- the shipped model -----------------------------------------------------------------------

    @about(*SHIPPING_HOOKS)
    def test_its_blueprint_describes_the_model(
        self,
        trained: Trained,
        trial: TinyTrial,
    ) -> None:
        """Rebuilt from JSON and filled with the saved weights, it is the same model."""
        finished, _ = trained
        written = json.dumps(finished.blueprint.to_json(), allow_nan=False)
        blueprint = Blueprint.from_json(json.loads(written))
        assert blueprint == finished.blueprint

        # On the meta device too, where the gate builds it.
        with torch.device("meta"):
            outline = build(blueprint, trial.registry).state_dict()
        state = finished.module.state_dict()
        assert shapes_of(outline) == shapes_of(state)

        saved = {name: value.contiguous() for name, value in state.items()}
        again = build(blueprint, trial.registry).eval()
        again.load_state_dict(load(save(saved)))
        with torch.no_grad():
            for example in finished.task.examples(finished.module):
                inputs = as_inputs(example)
                outputs = as_inputs(again(*inputs))
                wanted = as_inputs(finished.module(*inputs))
                for one, other in zip(outputs, wanted, strict=True):
                    assert torch.equal(one, other)

    @about(*SHIPPING_HOOKS)
    def test_its_file_gives_what_the_model_gives(self, trained: Trained) -> None:
        """On inputs of two sizes, within `export_tolerance` of the output's range."""
        finished, _ = trained
        assert finished.onnx is not None
        tolerance = 1e-4
        if any(overrides(cls, "export") for cls in self.technique_classes()):
            tolerance = self.export_tolerance
        examples = finished.task.examples(finished.module)
        difference = verify(finished.onnx, finished.module, examples, tolerance)
        assert difference <= tolerance

    @about(*SHIPPING_HOOKS, "predict", slots=set(Slot) - {Slot.ARCHITECTURE})
    def test_what_it_predicts_of_the_cost_is_true(
        self,
        configured: Technique,
        trained: Trained,
        trial: TinyTrial,
        tmp_path: Path,
    ) -> None:
        """A plan is rejected untrained by its lower bound, so the bounds must hold."""
        finished, _ = trained
        least, most = self._costs_before(configured, trial, tmp_path)
        lower, _ = configured.predict(least, trial.task)
        _, upper = configured.predict(most, trial.task)
        assert lower.keys() == upper.keys() == least.keys()
        for name, value in cost_of(finished).items():
            highest = upper[name]
            if name == "size_bytes":
                highest += 1024  # names take room too
            assert lower[name] <= value <= highest, name

    def _costs_before(
        self, technique: Technique, trial: TinyTrial, folder: Path
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return what `predict` is given at the gate: the least and the most without it."""
        if overrides(type(technique), "shipped"):
            # It has said already what becomes of the model: that is what the gate measures.
            smallest, largest = trial.shippable()
            return trial.untrained_cost(smallest), trial.untrained_cost(largest)

        others = [item for item in trial.techniques if item is not technique]
        plain = self.trial_of(TinyNet(), folder / "plain")
        plain = replace(plain, techniques=in_pipeline_order(others))
        before = cost_of(plain.shipped(plain.walk(Trace())))
        return before, before


def _validated(technique: Technique) -> Technique:
    """Return the technique that its own fields give, checked anew."""
    # Not by pydantic's dump, which writes of a nested technique what every technique has: nothing.
    fields = {name: getattr(technique, name) for name in type(technique).model_fields}
    return type(technique).model_validate(fields)


def shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    """Return the shapes of tensors by name."""
    return {name: value.shape for name, value in state.items()}


def _tests_of(suite: type) -> dict[str, Any]:
    """Return the tests of a suite and of all that it inherits, also those that are left out."""
    tests: dict[str, Any] = {}
    # From the oldest: a test of the same name replaces an inherited one.
    for base in reversed(suite.__mro__):
        for name, value in vars(base).items():
            if name.startswith("test_") and value is not None:
                tests[name] = value
    return tests


def matters(cls: type[Technique], fixtures: Sequence[str]) -> bool:
    """Return whether other fields can make a difference to a test that asks for these fixtures."""
    if "interrupted" in fixtures:
        return overrides(cls, *TRAINING_HOOKS)
    if "trained" in fixtures:
        return overrides(cls, *SHIPPING_HOOKS)
    return True
