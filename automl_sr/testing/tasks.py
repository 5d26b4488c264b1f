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
    from automl_sr.plugin.task import Feed

SIZE = (24, 32)
"""Height and width that `device.input` asks for here."""
NO_SET = "no set of this name"


class Kept:
    """Keeps what is shared between loads, and counts how often it was made."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.made = 0

    def __call__(self, name: str, parts: Mapping[str, Any], make: Any, /) -> dict[str, Tensor]:
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
        """Leave out the tests about what the task does not do: pytest would list them as
        skipped.
        """
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
        small = {"batch": 2, "patch": 12, "precision": "fp32"}
        return Recipe.model_validate({**small, **cls.recipe, **made_task.fixes})

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
            registry, made_task, data.train, (technique,), 2, folder, made_recipe, "cpu"
        )
        blueprint = technique.blueprint(made_task, trial.context(technique))
        before = torch.get_num_threads()
        torch.set_num_threads(
            1
        )  # small nets are slower with more, and other tests run beside these
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
        return OnnxModel(net[2])

    # ---- declaration -----------------------------------------------------------------------------

    def test_its_declaration_is_valid(self, made_task: Task) -> None:
        """A kind for study files, one sentence that says what it is, metrics with help, and a
        recipe that it fixes.
        """
        assert NAME.match(made_task.kind.replace("-", "_"))
        assert (made_task.__doc__ or "").strip().split("\n")[0].endswith(".")
        assert made_task.metrics
        assert all(
            metric.level == "quality" and metric.help.endswith(".") for metric in made_task.metrics
        )
        assert set(made_task.fixes) <= set(Recipe.model_fields)

    def test_it_survives_json(self, made_task: Task) -> None:
        """Studies are stored as JSON."""
        written = json.loads(json.dumps(made_task.model_dump(mode="json"), allow_nan=False))
        assert type(made_task).model_validate(written) == made_task

    # ---- data ------------------------------------------------------------------------------------

    def test_it_loads_the_same_data_each_time(self, made_task: Task, data: TaskData) -> None:
        """A study goes on with the data with which it began: alone, and with what others have
        made.
        """
        shared = Kept()
        cold, made = made_task.load(SEED, shared), shared.made
        warm = made_task.load(SEED, shared)
        assert shared.made == made, "what is shared was made again"
        assert cold.fingerprint == warm.fingerprint == data.fingerprint != ""
        assert cold.train.fingerprint == warm.train.fingerprint == data.train.fingerprint != ""

    def test_its_samples_can_be_chosen_from(self, data: TaskData) -> None:
        """Selections keep some of them, and are told apart by their fingerprint."""
        count = len(data.train)
        assert count > 1
        some = data.train.subset(list(range(0, count, 2)))
        assert len(some) == len(range(0, count, 2))
        assert some.fingerprint != data.train.fingerprint == data.train.to("cpu").fingerprint

    def test_a_test_set_that_is_missing_is_an_error_that_says_so(self, made_task: Task) -> None:
        """`refine` leaves such a set out before it trains."""
        with pytest.raises(DataError):
            made_task.find_test(NO_SET)
        with pytest.raises(DataError):
            made_task.load_test(NO_SET)

    # ---- training --------------------------------------------------------------------------------

    def test_a_batch_depends_on_the_generator_alone(
        self, made_task: Task, data: TaskData, made_recipe: Recipe
    ) -> None:
        """Else a trial would not go on bit for bit after an interruption."""
        made_task.check_training(data.train, patch=made_recipe.patch)
        drawn = []
        for seed, process in ((1, 5), (1, 6), (2, 5)):
            torch.manual_seed(process)
            np.random.seed(process)
            numbers = generator(seed, "contract")
            batch = made_task.draw(
                data.train, numbers, batch=made_recipe.batch, patch=made_recipe.patch
            )
            drawn.append([*as_inputs(batch.inputs), batch.target])
        assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
        assert not all(
            a.shape == b.shape and torch.equal(a, b)
            for a, b in zip(drawn[0], drawn[2], strict=True)
        )

    def test_every_parameter_gets_a_gradient(
        self,
        made_task: Task,
        data: TaskData,
        made_recipe: Recipe,
        net: tuple[nn.Module, nn.Module, Path],
    ) -> None:
        """By each loss that a recipe can ask for."""
        model = net[0]
        if "loss" in made_task.fixes:
            losses = [made_task.fixes["loss"]]
        else:
            losses = ["l1", "charbonnier", "mse"]
        numbers = generator(1, "contract")
        batch = made_task.draw(
            data.train, numbers, batch=made_recipe.batch, patch=made_recipe.patch
        )
        for kind in losses:
            model.zero_grad()
            loss = made_task.loss(made_task.forward(model, batch), batch, kind)
            assert loss.shape == ()
            loss.backward()  # type: ignore[no-untyped-call]
            found = {}
            for name, value in model.named_parameters():
                found[name] = value.grad is not None and bool(value.grad.any())
            assert [name for name, alive in found.items() if not alive] == []

    # ---- before training -------------------------------------------------------------------------

    def test_costs_are_known_before_training(
        self, made_task: Task, made_recipe: Recipe, net: tuple[nn.Module, nn.Module, Path]
    ) -> None:
        """Examples fit a model on the meta device, and cost what they cost on the real one."""
        model, outline, _ = net
        example = as_inputs(made_task.cost_example(outline))
        assert all(tensor.is_meta for tensor in example)
        assert count_macs(outline, *example) == count_macs(model, *example) > 0
        batches = []
        for count in (1, 8):
            batches.append(
                as_inputs(made_task.training_example(outline, batch=count, patch=made_recipe.patch))
            )
        small, large = (training_bytes(outline, *batch) for batch in batches)
        assert 0 < small < large

    # ---- the shipped file ------------------------------------------------------------------------

    def test_its_interface_names_what_the_file_takes_and_gives(
        self, made_task: Task, net: tuple[nn.Module, nn.Module, Path], runner: OnnxModel
    ) -> None:
        """In that order; the file gives what the module gives on inputs of two sizes."""
        model, _, path = net
        interface: Interface = made_task.interface()
        examples = made_task.examples(model)
        assert tuple(port.name for port in runner.inputs) == interface.inputs
        assert tuple(port.name for port in runner.outputs) == interface.outputs
        assert set(interface.ranges) <= set(interface.inputs)
        assert (
            len({tuple(tensor.shape for tensor in as_inputs(example)) for example in examples}) > 1
        )
        assert verify(path, model, examples) <= TOLERANCE

    def test_the_file_says_of_which_task_it_is(self, made_task: Task, runner: OnnxModel) -> None:
        """By that `evaluate` knows what to do with it."""
        assert runner.metadata["task"] == made_task.kind
        told = made_task.metadata()
        assert told.items() <= runner.metadata.items()
        assert all(isinstance(value, str) for value in told.values())

    def test_quality_is_measured_on_the_file_and_the_same_each_time(
        self, made_task: Task, data: TaskData, runner: OnnxModel
    ) -> None:
        """Every metric of the task, as one number; no training samples are needed for it."""
        found = made_task.measure_quality(runner, data, made_task.metrics)
        assert found.keys() == {metric.name for metric in made_task.metrics}
        assert all(math.isfinite(value) for value in found.values())
        alone = TaskData(NoSamples(), data.valid)
        assert made_task.measure_quality(runner, alone, made_task.metrics) == found
        assert made_task.reference(data, made_task.metrics).keys() <= found.keys()

    def test_a_file_alone_can_be_evaluated(self, made_task: Task, runner: OnnxModel) -> None:
        """From what it tells, on a named set, as `refine` measures on a test set."""
        assert self.test_set is not None
        own, again = (
            task.measure_quality(
                runner, TaskData(NoSamples(), task.load_test(self.test_set)), task.metrics
            )
            for task in (made_task, type(made_task).of_file(runner.metadata))
        )
        assert own == again

    def test_calibration_inputs_fit_the_file(
        self, made_task: Task, data: TaskData, runner: OnnxModel
    ) -> None:
        """As many as are asked for, the same ones each time, within the ranges that the interface
        promises.
        """
        first, again = (list(made_task.calibration(data.train, runner, 3, SEED)) for _ in range(2))
        assert len(first) == 3
        name = made_task.interface().inputs[0]
        for one, other in zip(first, again, strict=True):
            feed, same = (
                value if isinstance(value, Mapping) else {name: value} for value in (one, other)
            )
            assert all(np.array_equal(feed[key], same[key]) for key in feed)
            self.runs(runner, feed)

    def test_each_timed_file_gets_its_own_example(self, made_task: Task, runner: OnnxModel) -> None:
        """The reference net too, where there is one."""
        timed: list[Runner] = [runner]
        if made_task.has_reference_net():
            timed.append(OnnxModel(made_task.reference_net()))
        for file in timed:
            example = made_task.latency_example(file, SIZE)
            self.runs(
                file, example if isinstance(example, Mapping) else {file.inputs[0].name: example}
            )

    def test_it_shows_examples(self, made_task: Task, runner: OnnxModel) -> None:
        """In pictures or texts, with a piece of each model, and with what JSON can hold."""
        gallery = made_task.show({"7": runner}, made_task.load_examples(SEED, 1), 1)
        assert gallery.caption.endswith(".")
        (example,) = gallery.examples
        assert [piece.runner for piece in example.pieces if piece.runner is not None] == ["7"]
        for piece in example.pieces:
            assert (piece.picture is None) == bool(piece.text)
            assert piece.picture is None or (
                piece.picture.dtype == np.uint8 and piece.picture.shape[2:] == (3,)
            )
        json.dumps(
            [gallery.about, example.about, [dict(piece.values) for piece in example.pieces]],
            allow_nan=False,
        )

    @staticmethod
    def runs(runner: Runner, feed: Feed) -> None:
        """Assert that a file takes a feed and gives numbers."""
        found = runner.run(feed)
        assert found
        assert all(np.isfinite(value).all() for value in found.values())
