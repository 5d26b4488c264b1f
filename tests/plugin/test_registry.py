"""Plugins: found, checked, and listed with a reason where they cannot be used, which stops nothing
else.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import space_toys
import typer
from pydantic import Field

from automl_sr.errors import PluginError
from automl_sr.plugin.blueprint import Edit
from automl_sr.plugin.hookspecs import hookimpl
from automl_sr.plugin.metric import BUILTIN_METRICS, Metric
from automl_sr.plugin.registry import Registry, Unavailable, discover, instantiate
from automl_sr.plugin.technique import Int, Slot, Technique


@dataclass(frozen=True)
class Point:
    """An entry point that gives an object, or fails as an import does."""

    name: str
    found: Any
    value: str = "some.module"

    def load(self) -> Any:
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


def found(*points: Point) -> Registry:
    toys = space_toys.plugin(space_toys.TECHNIQUES, [space_toys.ToyTask])
    return discover(points, plugins=[toys])


class Good(Technique):
    """A sound technique."""

    slot = Slot.SELECTION
    name = "good"


class EmptyRange(Technique):
    """Searches nothing."""

    slot = Slot.SELECTION
    name = "empty_range"
    keep: Annotated[int, Int(9, 1)] = 5


class BeyondLimits(Technique):
    """Searches what it refuses."""

    slot = Slot.SELECTION
    name = "beyond"
    keep: Annotated[int, Int(1, 9), Field(le=8)] = 5


class Taken(Technique):
    """Has another's name."""

    slot = Slot.SELECTION
    name = "loss"


class SecondBaseline(Technique):
    """Wants to be trial 0."""

    slot = Slot.SELECTION
    name = "second"
    baseline = True


class SecondRecipe(Technique):
    """Wants to replace the recipe."""

    slot = Slot.RECIPE
    name = "second_recipe"


class RaisingHook:
    @hookimpl
    def register_techniques(self) -> list[Any]:
        raise RuntimeError("no\n  GPU")


class WrongHook:
    @hookimpl
    def register_techniques(self, surprise: int) -> list[Any]:
        return [surprise]


class OwnError(BaseException):
    def __str__(self) -> str:
        return str(self.args[0])


class ExitingHook:
    @hookimpl
    def register_techniques(self) -> list[Any]:
        os._exit(0)


class GeneratingHook:
    @hookimpl
    def register_techniques(self) -> Any:
        yield from ()
        raise OwnError("half-way")


class Nameless:
    """A thing that does not even say what it is."""

    def __getattr__(self, name: str) -> Any:
        raise OwnError(name)

    def __repr__(self) -> str:
        raise OwnError("no words")


class NoList:
    @hookimpl
    def register_techniques(self) -> Any:
        return None


def one(*techniques: Any, tasks: Any = (), metrics: Any = ()) -> Any:
    return space_toys.plugin(techniques, tasks, metrics, name="one")


def nameless() -> tuple[Any, str, str]:
    thing = Nameless()
    return one(thing), object.__repr__(thing), "OwnError: no words"


BROKEN = [
    (ImportError("No module named 'nni'"), "broken", "ImportError: No module named 'nni'"),
    (SystemExit(3), "broken", "SystemExit: 3"),
    (KeyboardInterrupt(), "broken", "KeyboardInterrupt"),
    (GeneratorExit(), "broken", "GeneratorExit"),
    (OwnError("mine"), "broken", "OwnError: mine"),
    (ExitingHook(), "register_techniques", "SystemExit: 0"),
    (GeneratingHook(), "register_techniques", "OwnError: half-way"),
    (SyntaxError("invalid syntax"), "broken", "SyntaxError: invalid syntax"),
    (RaisingHook(), "register_techniques", "RuntimeError: no GPU"),
    (WrongHook(), "broken", "surprise"),
    (NoList(), "register_techniques", "TypeError"),
    (one(object), "<class 'object'>", "is not a Technique class"),
    (one("a string"), "a string", "is not a Technique class"),
    pytest.param(*nameless(), id="nameless"),
    (one(EmptyRange), "empty_range", "field 'keep' has an empty range 9..1"),
    (one(BeyondLimits), "beyond", "9 of its range is outside its hard limits"),
    (one(Taken), "loss", "The name 'selection.loss' is already taken by the plugin"),
    (one(SecondBaseline), "second", "already has one"),
    (one(SecondRecipe), "second_recipe", "which cannot be replaced"),
    (one(tasks=[space_toys.ToyTask]), "image-sr", "The task kind 'image-sr' is already taken."),
    (one(tasks=[int]), "<class 'int'>", "is not a Task class"),
    (one(metrics=[BUILTIN_METRICS[0]]), "params", "The metric name 'params' is already taken."),
    (one(metrics=["psnr"]), "psnr", "is not a Metric"),
]


@pytest.mark.parametrize(("plugin", "what", "reason"), BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason(plugin: Any, what: str, reason: str) -> None:
    registry = found(Point("broken", plugin))
    [item] = registry.unavailable
    assert (item.plugin, item.what) == ("broken", what)
    assert reason in item.reason
    assert "\n" not in item.reason


@pytest.mark.parametrize(("plugin", "what", "reason"), BROKEN)
def test_a_broken_plugin_stops_neither_others_nor_a_space_without_it(
    plugin: Any, what: str, reason: str
) -> None:
    registry = found(Point("a_broken", plugin), Point("good", one(Good)))
    assert registry.technique("selection", "good") is Good
    space = space_toys.resolve(None, registry)
    assert "good" in [option.name for option in space.slots[0].options]
    assert space_toys.resolve({"architecture": "edsr"}, registry).count().discrete == 241


def test_one_bad_technique_does_not_take_the_good_ones_of_its_plugin_along() -> None:
    registry = found(Point("mixed", one(EmptyRange, Good)))
    assert registry.technique(Slot.SELECTION, "good") is Good
    assert [item.what for item in registry.unavailable] == ["empty_range"]


def test_asking_for_an_unavailable_technique_gives_the_reason() -> None:
    registry = found(
        Point("broken", one(EmptyRange)), Point("nas", ImportError("No module named 'nni'"))
    )
    with pytest.raises(
        PluginError,
        match=r"The selection technique 'empty_range' is unavailable: field 'keep' has an empty",
    ):
        registry.technique("selection", "empty_range")
    with pytest.raises(
        PluginError, match=r"'nas' is unavailable: ImportError: No module named 'nni'"
    ):
        registry.technique("architecture", "nas")


def test_asking_for_something_unknown_gives_the_nearest_name() -> None:
    registry = found()
    with pytest.raises(PluginError, match=r"technique 'los'\. Did you mean 'loss'\?"):
        registry.technique("selection", "los")
    with pytest.raises(PluginError, match=r"Unknown metric 'psnr'\. Did you mean"):
        registry.metric("psnr")
    with pytest.raises(PluginError, match=r"Unknown task kind 'image'\. Did you mean 'image-sr'\?"):
        registry.task("image")


def test_factories_and_edits_of_one_name_are_refused_unless_they_are_the_same() -> None:
    class First(Technique):
        """Has parts."""

        slot = Slot.ARCHITECTURE
        name = "first"
        factories: ClassVar = {"net": "a:b"}
        edits: ClassVar = {"cut": Edit("a:c")}

    class Same(First):
        """Shares them."""

        name = "same"

    class Other(First):
        """Has others of that name."""

        name = "other"
        factories: ClassVar = {"net": "z:b"}

    registry = found(Point("p", one(First, Same, Other)))
    assert registry.factories["net"] == "a:b"
    assert set(registry.techniques[Slot.ARCHITECTURE]) >= {"first", "same"}
    assert registry.unavailable == [
        Unavailable(
            "p", "other", "The blueprint name 'net' of architecture.other is already taken."
        )
    ]


def test_the_baseline_is_the_marked_technique_else_the_first_by_name() -> None:
    assert found().baseline(Slot.SELECTION) is space_toys.NoSelection
    alone = discover([], plugins=[space_toys.plugin([space_toys.LossSelection, Good])])
    assert alone.baseline(Slot.SELECTION) is Good
    assert alone.baseline(Slot.TEACHER) is None


def test_the_baseline_is_never_what_has_to_be_asked_for() -> None:
    class Dear(Good):
        """Comes before the others by its name."""

        name = "a_dear_one"
        asked_only = True

    found_ones = discover([], plugins=[space_toys.plugin([Dear, space_toys.LossSelection])])
    assert found_ones.baseline(Slot.SELECTION) is space_toys.LossSelection
    dear_alone = discover([], plugins=[space_toys.plugin([Dear])])
    assert dear_alone.baseline(Slot.SELECTION) is None


def test_metrics_of_a_task_are_registered_with_it_once() -> None:
    metric = Metric("accuracy", "maximize", "quality", len)

    class Digits(space_toys.ToyTask):
        kind = "digits"
        metrics = (metric, BUILTIN_METRICS[0])

    registry = found(Point("digits", one(tasks=[Digits])))
    assert registry.unavailable == []
    assert registry.metric("accuracy") is metric


def test_a_technique_is_made_from_what_it_dumped_nested_ones_too() -> None:
    technique = space_toys.Distilled(
        weight=0.3, architecture=space_toys.Cells(layers=1, ops=("skip",))
    )
    again = instantiate(found(), technique.slot, {"technique": technique.name, **technique.dump()})
    assert again == technique
    assert instantiate(found(), "selection", "loss") == space_toys.LossSelection()


def test_plugins_add_commands_and_a_failing_one_is_listed() -> None:
    class Adds:
        @hookimpl
        def register_commands(self, app: typer.Typer) -> None:
            app.command("hello")(lambda: None)

    class Fails:
        @hookimpl
        def register_commands(self, app: typer.Typer) -> None:
            raise ValueError("no")

    registry = found(Point("adds", Adds()), Point("fails", Fails()))
    app = typer.Typer()
    registry.add_commands(app)
    assert [command.name for command in app.registered_commands] == ["hello"]
    assert registry.unavailable == [Unavailable("fails", "register_commands", "ValueError: no")]


def test_ctrl_c_gets_through_while_plugins_are_loaded() -> None:
    class Slow:
        @hookimpl
        def register_techniques(self) -> list[Any]:
            signal.raise_signal(signal.SIGINT)
            return []

    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        found(Point("slow", Slow()))
    assert signal.getsignal(signal.SIGINT) is usual


def test_what_a_plugin_changes_and_prints_while_it_is_loaded_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Careless:
        @hookimpl
        def register_techniques(self) -> list[Any]:
            os.chdir("/")
            sys.setrecursionlimit(200)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.environ["CARELESS"] = "1"
            print("hello")
            return [Good]

    monkeypatch.setenv("CARELESS", "0")
    monkeypatch.chdir(tmp_path)
    usual = signal.getsignal(signal.SIGINT), sys.getrecursionlimit()
    assert found(Point("careless", Careless())).technique("selection", "good") is Good
    assert (signal.getsignal(signal.SIGINT), sys.getrecursionlimit()) == usual
    assert Path.cwd() == tmp_path
    assert os.environ["CARELESS"] == "1", "libraries set variables for themselves"
    assert capsys.readouterr() == ("", "hello\n")


def test_plugins_are_loaded_in_the_order_of_their_names_whatever_is_installed_first(
    monkeypatch: Any,
) -> None:
    points = [Point("b", one(Good)), Point("a", one(Good))]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    registry = discover(plugins=[])
    assert registry.sources["selection.good"].plugin == "a"
    assert [item.plugin for item in registry.unavailable] == ["b"]


def test_a_metric_can_need_only_what_something_gives_to_its_level() -> None:
    registry = Registry()
    for metric in (
        Metric("timed", "minimize", "device", "module:function", needs=("path",)),
        Metric("counted", "minimize", "blueprint", "module:function", needs=("reference_net",)),
    ):
        with pytest.raises(
            PluginError, match=f"The metric '{metric.name}' needs .*, which nothing gives to"
        ):
            registry.add_metric(metric)


def test_a_quality_metric_is_offered_to_its_tasks_alone() -> None:
    registry = found()
    task = registry.task("image-sr")
    for name, tasks in (("here", {"image-sr"}), ("anywhere", {"*"}), ("elsewhere", {"ocr"})):
        registry.add_metric(
            Metric(name, "maximize", "quality", "module:function", tasks=frozenset(tasks))
        )
    names = {metric.name for metric in registry.metrics_of(task)}
    assert names & {"here", "anywhere", "elsewhere"} == {"here", "anywhere"}


def test_a_metric_gets_what_it_needs_of_a_sample_or_says_that_it_is_not_known() -> None:
    metric = Metric(
        "named", "maximize", "quality", lambda value, *, path: value + len(path), needs=("path",)
    )
    assert metric.of_sample(1, path="abc", size=3) == 4.0
    with pytest.raises(
        PluginError, match="The metric 'named' needs the path of a sample, which is not known here"
    ):
        metric.of_sample(1, path=None)
