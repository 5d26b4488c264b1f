"""What techniques share between trials: computed once, keyed by content, resumed where they were
killed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import toy_techniques as toys
from torch import Tensor, nn

from automl_sr.errors import StopRequestedError
from automl_sr.plugin.registry import Source, discover
from automl_sr.training.phases import ModelUpdate, Phase
from automl_sr.training.recipe import Recipe
from automl_sr.trial.cache import Cache
from automl_sr.trial.context import Context


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    torch.set_num_threads(1)
    registry = discover(entry_points=[])
    registry.add_task(toys.DigitsTask)
    for cls in toys.ALL:
        registry.add_technique(cls, Source("toys", "toys", "1"))
    task = toys.DigitsTask()
    cache = Cache(tmp_path / "cache")
    context = Context(
        registry, task, 1, "cpu", tmp_path / "scratch", cache, "some data", precision="fp32"
    )
    return context.for_technique(toys.TeacherLoss())


class Count:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        return {"value": torch.tensor([float(self.calls)])}


def test_a_cached_result_is_computed_once(ctx: Context) -> None:
    make = Count()
    values = [ctx.cached("scores", make)["value"] for _ in range(3)]
    assert make.calls == 1
    assert all(torch.equal(value, torch.ones(1)) for value in values)
    name = f"teacher/{toys.TeacherLoss.name}/scores"
    assert (ctx.cache.misses, ctx.cache.hits) == ([name], [name, name])


def test_the_trial_seed_does_not_divide_what_is_shared(ctx: Context) -> None:
    make = Count()
    ctx.cached("scores", make)
    replace(ctx, seed=99).cached("scores", make)
    assert make.calls == 1


class NewerLoss(toys.TeacherLoss):
    """The same technique after a change of its code."""

    version: ClassVar[str] = "another"


def of_plugin(ctx: Context, version: str) -> Context:
    """Give the same surroundings with the technique from another release of its plugin."""
    registry = discover(entry_points=[])
    registry.add_task(toys.DigitsTask)
    for cls in toys.ALL:
        registry.add_technique(cls, Source("toys", "toys", version))
    return replace(ctx, registry=registry)


def newer(ctx: Context) -> Context:
    """Give the same surroundings with a technique of another version."""
    registry = discover(entry_points=[])
    registry.add_technique(NewerLoss, Source("toys", "toys", "1"))
    return replace(ctx, registry=registry).for_technique(NewerLoss())


OTHERS: dict[str, Callable[[Context], Context]] = {
    "data": lambda ctx: replace(ctx, data_fingerprint="other data"),
    "task": lambda ctx: replace(ctx, task=toys.DigitsTask(train_size=1000)),
    "technique": lambda ctx: ctx.for_technique(toys.Growth()),
    "version of the technique": newer,
    "version of the plugin": lambda ctx: of_plugin(ctx, "2"),
    "number format": lambda ctx: replace(ctx, precision="bf16"),
}


@pytest.mark.parametrize("change", OTHERS)
def test_whatever_the_result_depends_on_makes_it_another_one(ctx: Context, change: str) -> None:
    make = Count()
    ctx.cached("scores", make)
    OTHERS[change](ctx).cached("scores", make)
    assert make.calls == 2


def test_so_does_another_release_of_automl_sr(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Count()
    ctx.cached("scores", make)
    monkeypatch.setattr("automl_sr.trial.context.__version__", "99.0")
    ctx.cached("scores", make)
    assert make.calls == 2


def test_so_does_another_key(ctx: Context) -> None:
    make = Count()
    ctx.cached("scores", make)
    ctx.cached("other scores", make)
    assert make.calls == 2


def test_an_equal_registry_in_another_process_finds_the_same_result(ctx: Context) -> None:
    make = Count()
    ctx.cached("scores", make)
    of_plugin(ctx, "1").cached("scores", make)
    assert make.calls == 1


@pytest.mark.parametrize("change", ["steps", "recipe", "key", "architecture", "data"])
def test_a_helper_model_is_another_one_where_a_setting_differs(ctx: Context, change: str) -> None:
    data = ctx.task.load(0).train
    usual: dict[str, Any] = {"steps": 2, "recipe": Recipe(batch=4), "key": "teacher"}
    other = {"steps": 3, "recipe": Recipe(batch=5), "key": "scorer"}
    ctx.fit(ctx.build("architecture", "mlp", width=8), data, **usual)
    ctx.fit(
        ctx.build("architecture", "mlp", width=9 if change == "architecture" else 8),
        data.subset(range(100)) if change == "data" else data,
        **{**usual, **{key: value for key, value in other.items() if key == change}},
    )
    assert len(ctx.cache.misses) == 2


def test_results_are_named_for_people(ctx: Context) -> None:
    make = Count()
    ctx.cached(f"loss-scores/{'0123abcd' * 8}/" + '{"steps": 400}', make)
    ctx.cached('{"steps": 400}', make)
    ctx.fit(
        ctx.build("architecture", "mlp", width=8), ctx.task.load(0).train, steps=2, key="selection"
    )
    ctx.fit(ctx.build("architecture", "mlp", width=9), ctx.task.load(0).train, steps=2)
    ctx.iterate("distil", lambda: {"x": torch.zeros(1)}, lambda state, i: state, 2)
    names = [
        "teacher/scores/loss-scores",
        "teacher/scores",
        "fit/mlp/selection",
        "fit/mlp",
        "teacher/scores/distil",
    ]
    assert list(ctx.cache.shared()) == names


def _hold(ctx: Context, pipe: Connection) -> None:
    def make() -> dict[str, Tensor]:
        pipe.send("making")
        pipe.recv()
        return {"x": torch.ones(1)}

    ctx.cached("slow", make)


def test_waiting_for_another_worker_ends_when_the_trial_is_to_stop(ctx: Context) -> None:
    """On Ctrl-C, a lost lease or a time limit; each look also tells the watchdog that the trial
    lives.
    """
    fork = multiprocessing.get_context("fork")
    pipe, theirs = fork.Pipe()
    holder = fork.Process(target=_hold, args=(ctx, theirs))
    holder.start()
    assert pipe.recv() == "making"
    observer = Impatient(3)
    with pytest.raises(StopRequestedError, match="another worker makes 'teacher/scores/slow'"):
        replace(ctx, observer=observer).cached("slow", Count())
    assert observer.left == 0
    pipe.send("go")
    holder.join()
    assert holder.exitcode == 0


def test_a_long_loop_inside_a_result_can_be_stopped_and_leaves_nothing_behind(ctx: Context) -> None:
    stopping = replace(ctx, observer=Impatient(3))
    turns = []

    def make() -> dict[str, Tensor]:
        for turn in range(5):
            turns.append(turn)
            stopping.stop_if_asked()
        return {"x": torch.ones(1)}

    with pytest.raises(StopRequestedError):
        stopping.cached("slow", make)
    assert turns == [0, 1, 2]
    assert [path.name for path in ctx.cache.folder.iterdir()] == ["door.lock"]


class Impatient:
    """Asks to stop after some number of looks."""

    def __init__(self, left: int) -> None:
        self.left = left

    def progress(self, run: object, images_per_second: float) -> None: ...

    def saved(self) -> None: ...

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left == 0


def test_a_damaged_result_is_made_again(ctx: Context) -> None:
    make = Count()
    ctx.cached("scores", make)
    (path,) = ctx.cache.folder.glob("*.safetensors")
    path.write_bytes(b"half a file")
    assert ctx.cached("scores", make)["value"].item() == 2


def _ask(ctx: Context, log: Path) -> None:
    def make() -> dict[str, Tensor]:
        with log.open("a") as file:
            file.write("made\n")
        return {"value": torch.ones(1)}

    ctx.cached("slow", make)


def test_workers_that_ask_at_the_same_moment_compute_once(ctx: Context, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_ask, args=(ctx, tmp_path / "log")) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert (tmp_path / "log").read_text() == "made\n"


def test_fit_trains_a_helper_once_and_freezes_it(ctx: Context) -> None:
    data = ctx.task.load(0).train
    architecture = ctx.build("architecture", "mlp", width=24)
    model = ctx.fit(architecture, data, steps=200, recipe=Recipe(lr=3e-3, batch=32), key="teacher")
    again = ctx.fit(architecture, data, steps=200, recipe=Recipe(lr=3e-3, batch=32), key="teacher")
    right = (model(data.x).argmax(1) == data.y).float().mean()
    assert right > 0.8
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert ctx.cache.hits == ["fit/mlp/teacher"]
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_fit_trains_in_the_format_of_the_study(ctx: Context) -> None:
    data = ctx.task.load(0).train
    architecture = ctx.build("architecture", "mlp", width=24)
    exact, rounded, again = (
        replace(ctx, precision=precision).fit(architecture, data, steps=20)
        for precision in ("fp32", "bf16", "fp32")
    )
    assert weights_of(exact) == weights_of(again) != weights_of(rounded)


def weights_of(model: nn.Module) -> list[list[float]]:
    return [value.flatten().tolist() for value in model.state_dict().values()]


def test_fit_goes_on_where_it_was_stopped(ctx: Context, tmp_path: Path) -> None:
    data = ctx.task.load(0).train
    architecture = ctx.build("architecture", "mlp")
    elsewhere = replace(ctx, cache=Cache(tmp_path / "elsewhere"))
    whole = ctx.fit(architecture, data, steps=90)

    stops = 0
    while True:
        try:
            parts = replace(elsewhere, observer=Impatient(25)).fit(architecture, data, steps=90)
        except StopRequestedError:
            stops += 1
            continue
        break
    assert stops == 3
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True)
    )


def test_iterate_is_resumed_after_sigkill_from_the_last_state_that_was_kept(
    ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States are kept by time: here after every step."""
    monkeypatch.setattr("automl_sr.trial.context.ITERATE_SECONDS", 0.0)
    log = tmp_path / "log"

    def run(deadly: bool) -> dict[str, Tensor]:
        def step(state: dict[str, Tensor], i: int) -> dict[str, Tensor]:
            with log.open("a") as file:
                file.write(".")
            if deadly and i == 20:
                os.kill(os.getpid(), signal.SIGKILL)
            return {"x": state["x"] * 0.9 + i}

        return ctx.iterate("distil", lambda: {"x": torch.zeros(1, dtype=torch.float64)}, step, 40)

    child = multiprocessing.get_context("fork").Process(target=run, args=(True,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    expected = 0.0
    for i in range(40):
        expected = expected * 0.9 + i
    assert run(False)["x"].item() == pytest.approx(expected, rel=1e-12)
    assert len(log.read_text()) == 21 + 20  # the second went on from step 20


@pytest.mark.parametrize("kept", [0.0, 1e9])
def test_random_nets_inside_an_iteration_are_the_same_after_any_interruption(
    ctx: Context, tmp_path: Path, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl_sr.trial.context.ITERATE_SECONDS", kept)

    def init() -> dict[str, Tensor]:
        return {"x": torch.rand(4)}

    def step(state: dict[str, Tensor], i: int) -> dict[str, Tensor]:
        net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
        return {"x": net(state["x"]).detach()}

    straight = ctx.iterate("match", init, step, 12)
    other = replace(ctx, seed=99, cache=Cache(tmp_path / "other"), observer=Impatient(3))
    for _ in range(12):
        torch.rand(7)  # what a trial drew before has no part in it
        try:
            parts = other.iterate("match", init, step, 12)
        except StopRequestedError:
            other = replace(other, observer=Impatient(3))
            continue
        break
    assert torch.equal(parts["x"], straight["x"])


def test_a_helper_model_can_be_trained_in_phases_of_its_own(ctx: Context) -> None:
    data = ctx.task.load(0).train
    entered: list[str] = []
    phases = [
        Phase(name, 1.0).entering(lambda run, name=name: entered.append(name))  # type: ignore[misc]
        for name in ("first", "second")
    ]
    ctx.fit(toys.Mlp(width=4), data, steps=20, phases=phases, key="in two phases")
    ctx.fit(toys.Mlp(width=4), data, steps=20, phases=phases, key="in two phases")
    assert entered == ["first", "second"], "and it is made once"


def test_what_trials_share_is_drawn_without_their_seed(ctx: Context) -> None:
    one, other = (replace(ctx, seed=seed).shared_generator("patches") for seed in (1, 2))
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))


def default_generators() -> list[Any]:
    """What code without a generator of its own would draw next."""
    state = np.random.get_state()
    return [random.getstate(), state[1].tolist(), state[2], torch.random.get_rng_state().tolist()]


def draw_everywhere() -> dict[str, Tensor]:
    return {"value": torch.rand(2) + random.random() + float(np.random.rand())}


def fitted(ctx: Context) -> None:
    ctx.fit(toys.Mlp(width=4), ctx.task.load(0).train, steps=3)


MADE: dict[str, Callable[[Context], Any]] = {
    "cached": lambda ctx: ctx.cached("drawn", draw_everywhere),
    "iterate": lambda ctx: ctx.iterate(
        "drawn", draw_everywhere, lambda state, i: draw_everywhere(), 2
    ),
}


@pytest.mark.parametrize("way", MADE)
def test_making_a_shared_result_draws_nothing_from_those_that_come_later(
    way: str, ctx: Context
) -> None:
    """A trial that finds a result goes on as the one that made it."""
    before = default_generators()
    MADE[way](ctx)
    assert default_generators() == before


def test_a_helper_model_leaves_what_is_drawn_later_as_it_is(ctx: Context) -> None:
    torch.manual_seed(3)
    fitted(ctx)
    cold = default_generators()
    torch.manual_seed(3)
    fitted(ctx)
    assert ctx.cache.hits
    assert default_generators() == cold


def test_a_helper_model_need_not_keep_to_the_limits_of_what_ships(ctx: Context) -> None:
    def refuse(blueprint: object) -> None:
        raise AssertionError("a helper does not ship")

    again = Phase("again", 1.0).entering(lambda run: ModelUpdate(blueprint=run.blueprint))
    data = ctx.task.load(0).train
    model = replace(ctx, fits=refuse).fit(
        toys.Mlp(width=4), data, steps=5, phases=[again], key="rebuilt"
    )
    assert model[0].out_features == 4


def test_a_helper_model_leaves_its_last_phase_before_it_is_cooled_down(ctx: Context) -> None:
    left: list[int] = []
    phase = Phase("only", 1.0).leaving(lambda run: left.append(run.step))
    ctx.fit(toys.Mlp(width=4), ctx.task.load(0).train, steps=20, phases=[phase], key="left once")
    assert len(left) == 1
    assert left[0] < 20
