"""What core expects of a task."""

# ruff: noqa: S101 - tests assert, also those that are inherited
from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from automl_sr.compression.export import TOLERANCE, verify
from automl_sr.errors import DataError
from automl_sr.evaluation.cost import count_macs, training_bytes
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.task import Interface, NoSamples, Runner, Task, TaskData, as_inputs
from automl_sr.plugin.technique import NAME, Technique
from automl_sr.testing.tiny import SEED, TinyTrial, contract_registry
from automl_sr.training.randomness import generator
from automl_sr.training.recipe import Recipe
from automl_sr.trial.ship import export_module

if TYPE_CHECKING:
    from automl_sr.plugin.task import Array, Feed

SIZE = (24, 32)
"""Height and width that `device.input` asks for here."""
NO_SET = "no set of this name"


class Kept:
    """Keeps what is shared between loads, and counts how often it was made."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.made = 0

    def __call__(
        self,
        name: str,
        parts: Mapping[str, Any],
        make: Any,
        /,
    ) -> dict[str, Tensor]:
        """Return the kept tensors of these parts, which have to be JSON."""
        key = json.dumps([name, parts], sort_keys=True)
        if key not in self.kept:
            self.made += 1
            self.kept[key] = make()
        return self.kept[key]


class TaskContract:
    """Inherit in a class whose name begins with `Test`, and set `task` and `architecture`.

    The task reads its data once, so give it few and small samples; the architecture is any small
    one that serves it.
    """

    task: ClassVar[Any] = None
    """The task, as a study file would make it, or a function without arguments that makes it."""
    architecture: ClassVar[Any] = None
    """A technique of the slot `architecture` that gives a small net."""
    recipe: ClassVar[Mapping[str, Any]] = {}
    """Fields of the recipe, besides those that the task fixes."""
    test_set: ClassVar[str | None] = None
    """A named set that `load_test` can read."""

    def __init_subclass__(cls) -> None:
        """Leave out the tests about what the task does not do."""
        # Left out and not skipped: pytest would list them.
        super().__init_subclass__()
        if cls.test_set is None:
            cls.test_a_file_alone_can_be_evaluated = None  # type: ignore[assignment, method-assign]
        if isinstance(cls.task, Task) and type(cls.task).show is Task.show:
            cls.test_it_shows_examples = None  # type: ignore[assignment, method-assign]

    # ---- what is under test ----------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def made_task(cls) -> Task:
        """The task under test."""
        if cls.task is None or cls.architecture is None:
            raise TypeError(
                f"{cls.__name__} inherits a contract: set `task` and `architecture` in it."
            )
        if isinstance(cls.task, Task):
            made = cls.task
        else:
            made = cls.task()
        assert isinstance(made, Task)
        return made

    @pytest.fixture(scope="class")
    @staticmethod
    def data(made_task: Task) -> TaskData:
        """Its data, read once."""
        return made_task.load(SEED)

    @pytest.fixture(scope="class")
    @classmethod
    def made_recipe(cls, made_task: Task) -> Recipe:
        """The recipe of the trial runs."""
        fields: dict[str, Any] = {
            "batch": 2,
            "patch": 12,
            "precision": "fp32",
        }
        fields.update(cls.recipe)
        fields.update(made_task.fixes)
        return Recipe.model_validate(fields)

    @pytest.fixture(scope="class")
    @classmethod
    def net(
        cls,
        made_task: Task,
        data: TaskData,
        made_recipe: Recipe,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[tuple[nn.Module, nn.Module, Path]]:
        """A net with fresh weights, the same on the meta device, and its exported file."""
        technique: Technique = cls.architecture
        folder = tmp_path_factory.mktemp("task")
        registry = contract_registry([type(technique)])
        trial = TinyTrial(
            registry=registry,
            task=made_task,
            data=data.train,
            techniques=(technique,),
            steps=2,
            folder=folder,
            recipe=made_recipe,
            device="cpu",
        )
        blueprint = technique.blueprint(made_task, trial.context(technique))
        before = torch.get_num_threads()
        # Small nets are slower with more, and other tests run beside these.
        torch.set_num_threads(1)
        torch.manual_seed(SEED)
        model = build(blueprint, registry)
        with torch.device("meta"):
            outline = build(blueprint, registry)
        path = folder / "model.onnx"
        export_module(model, blueprint, made_task, path)
        yield model, outline, path
        torch.set_num_threads(before)

    @pytest.fixture
    def runner(self, net: tuple[nn.Module, nn.Module, Path]) -> OnnxModel:
        """The exported file."""
        _, _, path = net
        return OnnxModel(path)

    # ---- declaration -----------------------------------------------------------------------------

    def test_its_declaration_is_valid(self, made_task: Task) -> None:
        """A kind for study files, one sentence about it, metrics with help, and a recipe."""
        assert NAME.match(made_task.kind.replace("-", "_"))
        title, *_ = (made_task.__doc__ or "").strip().split("\n")
        assert title.endswith(".")
        assert made_task.metrics
        for metric in made_task.metrics:
            assert metric.level == "quality"
            assert metric.help.endswith(".")
        assert set(made_task.fixes) <= set(Recipe.model_fields)

    def test_it_survives_json(self, made_task: Task) -> None:
        """Studies are stored as JSON."""
        dumped = made_task.model_dump(mode="json")
        written = json.loads(json.dumps(dumped, allow_nan=False))
        assert type(made_task).model_validate(written) == made_task

    # ---- data ------------------------------------------------------------------------------------

    def test_it_loads_the_same_data_each_time(self, made_task: Task, data: TaskData) -> None:
        """A study goes on with the data with which it began: alone, and with what others made."""
        shared = Kept()
        cold = made_task.load(SEED, shared)
        made = shared.made
        warm = made_task.load(SEED, shared)
        assert shared.made == made, "what is shared was made again"
        assert cold.fingerprint == warm.fingerprint == data.fingerprint
        assert cold.train.fingerprint == warm.train.fingerprint == data.train.fingerprint
        assert data.fingerprint != ""
        assert data.train.fingerprint != ""

    def test_its_samples_can_be_chosen_from(self, data: TaskData) -> None:
        """Selections keep some of them, and are told apart by their fingerprint."""
        count = len(data.train)
        assert count > 1
        every_second = list(range(0, count, 2))
        some = data.train.subset(every_second)
        assert len(some) == len(every_second)
        assert some.fingerprint != data.train.fingerprint
        moved = data.train.to("cpu")
        assert moved.fingerprint == data.train.fingerprint

    def test_a_test_set_that_is_missing_is_an_error_that_says_so(self, made_task: Task) -> None:
        """`refine` leaves such a set out before it trains."""
        with pytest.raises(DataError):
            made_task.find_test(NO_SET)
        with pytest.raises(DataError):
            made_task.load_test(NO_SET)

    # ---- training --------------------------------------------------------------------------------

    def test_a_batch_depends_on_the_generator_alone(
        self,
        made_task: Task,
        data: TaskData,
        made_recipe: Recipe,
    ) -> None:
        """Else a trial would not go on bit for bit after an interruption."""
        made_task.check_training(data.train, patch=made_recipe.patch)

        def drawn(seed: int, process: int) -> list[Tensor]:
            # The process's own generators stand elsewhere after an interruption.
            torch.manual_seed(process)
            np.random.seed(process)
            numbers = generator(seed, "contract")
            batch = made_task.draw(
                data.train,
                numbers,
                batch=made_recipe.batch,
                patch=made_recipe.patch,
            )
            return [*as_inputs(batch.inputs), batch.target]

        first = drawn(1, process=5)
        again = drawn(1, process=6)
        other = drawn(2, process=5)
        assert equal(first, again)
        assert not equal(first, other)

    def test_every_parameter_gets_a_gradient(
        self,
        made_task: Task,
        data: TaskData,
        made_recipe: Recipe,
        net: tuple[nn.Module, nn.Module, Path],
    ) -> None:
        """By each loss that a recipe can ask for."""
        model, _, _ = net
        losses = ["l1", "charbonnier", "mse"]
        if "loss" in made_task.fixes:
            losses = [made_task.fixes["loss"]]
        batch = made_task.draw(
            data.train,
            generator(1, "contract"),
            batch=made_recipe.batch,
            patch=made_recipe.patch,
        )
        for kind in losses:
            model.zero_grad()
            output = made_task.forward(model, batch)
            loss = made_task.loss(output, batch, kind)
            assert loss.shape == ()
            loss.backward()  # type: ignore[no-untyped-call]

            dead = []
            for name, value in model.named_parameters():
                if value.grad is None or not value.grad.any():
                    dead.append(name)
            assert dead == []

    # ---- before training -------------------------------------------------------------------------

    def test_costs_are_known_before_training(
        self,
        made_task: Task,
        made_recipe: Recipe,
        net: tuple[nn.Module, nn.Module, Path],
    ) -> None:
        """Examples fit a model on the meta device, and cost what they cost on the real one."""
        model, outline, _ = net
        example = as_inputs(made_task.cost_example(outline))
        assert all(tensor.is_meta for tensor in example)
        assert count_macs(outline, *example) == count_macs(model, *example) > 0

        needed = []
        for count in (1, 8):
            batch = made_task.training_example(outline, batch=count, patch=made_recipe.patch)
            needed.append(training_bytes(outline, *as_inputs(batch)))
        small, large = needed
        assert 0 < small < large

    # ---- the shipped file ------------------------------------------------------------------------

    def test_its_interface_names_what_the_file_takes_and_gives(
        self,
        made_task: Task,
        net: tuple[nn.Module, nn.Module, Path],
        runner: OnnxModel,
    ) -> None:
        """In that order; the file gives what the module gives on inputs of two sizes."""
        model, _, path = net
        interface: Interface = made_task.interface()
        inputs = [port.name for port in runner.inputs]
        outputs = [port.name for port in runner.outputs]
        assert inputs == list(interface.inputs)
        assert outputs == list(interface.outputs)
        assert set(interface.ranges) <= set(interface.inputs)

        examples = made_task.examples(model)
        sizes = set()
        for example in examples:
            shapes = [tensor.shape for tensor in as_inputs(example)]
            sizes.add(tuple(shapes))
        assert len(sizes) > 1
        assert verify(path, model, examples) <= TOLERANCE

    def test_the_file_says_of_which_task_it_is(self, made_task: Task, runner: OnnxModel) -> None:
        """By that `evaluate` knows what to do with it."""
        assert runner.metadata["task"] == made_task.kind
        told = made_task.metadata()
        assert told.items() <= runner.metadata.items()
        assert all(isinstance(value, str) for value in told.values())

    def test_quality_is_measured_on_the_file_and_the_same_each_time(
        self,
        made_task: Task,
        data: TaskData,
        runner: OnnxModel,
    ) -> None:
        """Every metric of the task, as one number; no training samples are needed for it."""
        found = made_task.measure_quality(runner, data, made_task.metrics)
        names = [metric.name for metric in made_task.metrics]
        assert found.keys() == set(names)
        for value in found.values():
            assert math.isfinite(value)
        alone = TaskData(NoSamples(), data.valid)
        assert made_task.measure_quality(runner, alone, made_task.metrics) == found
        reference = made_task.reference(data, made_task.metrics)
        assert reference.keys() <= found.keys()

    def test_a_file_alone_can_be_evaluated(self, made_task: Task, runner: OnnxModel) -> None:
        """From what it tells, on a named set, as `refine` measures on a test set."""
        assert self.test_set is not None
        measured = []
        for task in (made_task, type(made_task).of_file(runner.metadata)):
            data = TaskData(NoSamples(), task.load_test(self.test_set))
            measured.append(task.measure_quality(runner, data, task.metrics))
        own, again = measured
        assert own == again

    def test_calibration_inputs_fit_the_file(
        self,
        made_task: Task,
        data: TaskData,
        runner: OnnxModel,
    ) -> None:
        """As many as are asked for, the same ones each time, as the file takes them."""
        first = list(made_task.calibration(data.train, runner, 3, SEED))
        again = list(made_task.calibration(data.train, runner, 3, SEED))
        assert len(first) == 3
        name = made_task.interface().inputs[0]
        for one, other in zip(first, again, strict=True):
            feed = named(one, name)
            same = named(other, name)
            for key, value in feed.items():
                assert np.array_equal(value, same[key])
            self.runs(runner, feed)

    def test_each_timed_file_gets_its_own_example(self, made_task: Task, runner: OnnxModel) -> None:
        """The reference net too, where there is one."""
        timed: list[Runner] = [runner]
        if made_task.has_reference_net():
            timed.append(OnnxModel(made_task.reference_net()))
        for file in timed:
            example = made_task.latency_example(file, SIZE)
            self.runs(file, named(example, file.inputs[0].name))

    def test_it_shows_examples(self, made_task: Task, runner: OnnxModel) -> None:
        """In pictures or texts, with a piece of each model, and with what JSON can hold."""
        data = made_task.load_examples(SEED, 1)
        gallery = made_task.show({"7": runner}, data, 1)
        assert gallery.caption.endswith(".")
        [example] = gallery.examples

        runners = []
        values = []
        for piece in example.pieces:
            if piece.runner is not None:
                runners.append(piece.runner)
            values.append(dict(piece.values))
            assert (piece.picture is None) == bool(piece.text)
            if piece.picture is not None:
                assert piece.picture.dtype == np.uint8
                assert piece.picture.shape[2:] == (3,)
        assert runners == ["7"]
        json.dumps([gallery.about, example.about, values], allow_nan=False)

    @staticmethod
    def runs(runner: Runner, feed: Feed) -> None:
        """Assert that a file takes a feed and gives numbers."""
        found = runner.run(feed)
        assert found
        for value in found.values():
            assert np.isfinite(value).all()


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    """Return whether two lists hold the same tensors; other shapes are other tensors."""
    for one, other in zip(left, right, strict=True):
        if one.shape != other.shape or not torch.equal(one, other):
            return False
    return True


def named(example: Array | Feed, name: str) -> Feed:
    """Return an example by the names of inputs: a single array is that of the named one."""
    if isinstance(example, Mapping):
        return example
    return {name: example}
