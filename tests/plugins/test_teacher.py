"""Teachers: which net teaches, how much it counts when, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import shipped_sets
from torch import Tensor, nn

from automl_sr.api import Phase, Recipe, Slot, Technique, TrialError
from automl_sr.plugin.registry import installed
from automl_sr.testing.tiny import (
    TinyNet,
    TinyTrial,
    contract_registry,
    in_pipeline_order,
    tiny_recipe,
    tiny_samples,
    tiny_task,
)
from automl_sr.training.run import Run
from automl_sr_plugins.teacher import Features, Response, Self, lessons, nets
from automl_sr_plugins.teacher.nets import OnGrey, Teacher

FORMS = ("affinity", "attention", "projection")
WIDE = TinyNet(width=12)


def trial_of(
    technique: Technique,
    folder: Path,
    *others: Technique,
    recipe: Recipe | None = None,
    **more: Any,
) -> TinyTrial:
    members = [technique, *others]
    if not any(item.slot is Slot.ARCHITECTURE for item in members):
        members.append(TinyNet())
    return TinyTrial(
        registry=contract_registry([type(item) for item in others]),
        task=more.pop("task", tiny_task()),
        data=more.pop("data", tiny_samples()),
        techniques=in_pipeline_order(members),
        steps=more.pop("steps", 20),
        folder=folder,
        recipe=recipe or tiny_recipe(),
        **more,
    )


def begun(trial: TinyTrial) -> Run:
    architecture = trial.architecture
    blueprint = architecture.blueprint(trial.task, trial.context(architecture))
    return Run.start(trial.setup(), blueprint)


def terms_of(run: Run) -> dict[str, float]:
    """Give the loss terms of the next step, which is not taken."""
    _, terms = run.loss(run.batch())
    return {name: float(value.detach()) for name, value in terms.items()}


def of_plain(run: Run) -> float:
    """Give the loss that the step has without a teacher."""
    batch = run.batch()
    output = run.forward(batch)
    return float(run.task.loss(output.prediction, batch, run.recipe.loss).detach())


def own_file(net: Technique, folder: Path, scale: Any = 2, color: Any = "y") -> str:
    """Write drawn weights of a net as `torch.save` does, and name the file."""
    task = tiny_task(scale=scale, color=color)
    torch.manual_seed(3)
    from automl_sr.plugin.blueprint import build

    model = build(net.blueprint(task, None), installed())
    path = folder / f"net-{scale}-{color}.pth"
    torch.save(model.state_dict(), path)
    return str(path)


def espcn(**fields: Any) -> Technique:
    return installed().technique(Slot.ARCHITECTURE, "espcn")(width=8, **fields)


# ---- 1, 3: a teacher that is the student, and what it is spared ----


@pytest.mark.parametrize("form", ["none", *FORMS])
def test_a_student_with_the_weights_of_its_teacher_has_nothing_to_learn_from_it(
    form: Any, tmp_path: Path
) -> None:
    run = begun(trial_of(Self(form=form, steps=3), tmp_path))
    teacher = Teacher(run.setup.techniques[0], 3, "same").net(run)
    assert terms_of(run)["teacher"] > 1e-4
    run.model.load_state_dict(teacher.state_dict())
    assert terms_of(run)["teacher"] == pytest.approx(0, abs=1e-6)


def test_a_teacher_gets_no_gradient_and_does_not_change(tmp_path: Path) -> None:
    run = begun(trial_of(Features(architecture=WIDE, steps=3), tmp_path))
    teacher = run.train_step.losses["teacher"].__self__.watched.net
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    for _ in range(3):
        run.advance()
    assert not teacher.training
    for part in teacher.parameters():
        assert part.grad is None
        assert not part.requires_grad
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


# ---- 5: what ships ----


def test_the_student_ships_without_projections(tmp_path: Path) -> None:
    trial = trial_of(Features(architecture=WIDE, form="projection", steps=3), tmp_path)
    branch = trial.train()
    assert [*branch.train_step.aux] == ["teacher"]
    assert any(name.startswith("aux|teacher|") for name in branch.capture().tensors)
    finished = branch.finish(tmp_path)
    plain = trial.registry, finished.blueprint
    from automl_sr.plugin.blueprint import build

    again = build(plain[1], plain[0])
    assert finished.module.state_dict().keys() == again.state_dict().keys()
    again.load_state_dict(branch.evaluation_state())
    image = run_image()
    with torch.no_grad():
        assert torch.equal(again.eval()(image), finished.module(image))


def run_image() -> Tensor:
    return torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def test_a_projection_learns(tmp_path: Path) -> None:
    run = begun(trial_of(Features(architecture=WIDE, form="projection", steps=3), tmp_path))
    first = [value.clone() for value in run.train_step.aux["teacher"].parameters()]
    assert len(first) == 6
    run.advance()
    moved = run.train_step.aux["teacher"].parameters()
    assert not any(torch.equal(one, other) for one, other in zip(first, moved, strict=True))


# ---- 7: how much it counts, and when ----


def test_inner_maps_begin_to_count_from_nothing_and_count_in_full_after_the_warm_up(
    tmp_path: Path,
) -> None:
    lesson = Features(architecture=WIDE, share=0.0, warmup=0.2, weight=1.0, steps=3)
    run = begun(trial_of(lesson, tmp_path))
    terms = terms_of(run)
    assert terms["teacher"] == 0
    assert sum(terms.values()) == of_plain(run)

    of = lesson.lesson().maps
    assert of is not None
    weights = []
    for _ in range(6):
        weights.append(lessons.warming(of, run))
        run.advance()
    assert weights == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert terms_of(run)["teacher"] > 0


def test_a_share_of_the_teacher_is_taken_off_the_data(tmp_path: Path) -> None:
    half = begun(trial_of(Response(architecture=WIDE, share=0.25, steps=3), tmp_path))
    terms = terms_of(half)
    assert terms["task"] == pytest.approx(0.75 * of_plain(half), rel=1e-6)
    whole = begun(trial_of(Response(architecture=WIDE, share=1.0, steps=3), tmp_path))
    assert terms_of(whole)["task"] == 0
    assert terms_of(whole)["teacher"] == pytest.approx(4 * terms["teacher"], rel=1e-6)


def test_a_teacher_can_fade_over_the_cool_down(tmp_path: Path) -> None:
    recipe = tiny_recipe().model_copy(update={"cooldown": 0.25})
    faded = Response(architecture=WIDE, steps=3, fade=True)
    for technique, expected in (
        (faded, [1.0, 0.8, 0.6, 0.4, 0.2]),
        (faded.model_copy(update={"fade": False}), [1.0] * 5),
    ):
        run = begun(trial_of(technique, tmp_path, recipe=recipe))
        while run.step < run.setup.timetable.trunk_steps:
            assert lessons.fading(technique.lesson(), run) == 1
            run.advance()
        branch = run.branch()
        factors = []
        while branch.step < branch.end:
            factors.append(lessons.fading(technique.lesson(), branch))
            branch.advance()
        assert factors == pytest.approx(expected)


class Tail(Technique):
    """Trains on behind the cool-down, as quantization does (2026)."""

    slot = Slot.QUANTIZATION
    name = "tail_of_teachers"

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        return [*phases, Phase("behind", 0.2, tail=True)]


@pytest.mark.parametrize("fade", [True, False])
def test_behind_the_cool_down_a_faded_teacher_is_gone(fade: bool, tmp_path: Path) -> None:
    trial = trial_of(Response(architecture=WIDE, steps=3, fade=fade), tmp_path, Tail())
    branch = trial.train()
    assert branch.span is not None
    assert branch.span.phase.name == "behind"
    assert ("teacher" in branch.train_step.losses) is not fade
    assert (terms_of(branch)["task"] == of_plain(branch)) is fade


def test_without_a_cool_down_nothing_can_fade(tmp_path: Path) -> None:
    recipe = tiny_recipe().model_copy(update={"cooldown": 0.0})
    trial = trial_of(Response(architecture=WIDE, steps=3, fade=True), tmp_path, recipe=recipe)
    with pytest.raises(TrialError, match="fade over the cool-down, and there is none"):
        begun(trial)


class Searching(Technique):
    """Begins with a phase that is no training of what ships (2026)."""

    slot = Slot.PRUNING
    name = "searching_of_teachers"

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        return [Phase("search", 0.5, comparable=False, counts=False), *phases]


def test_a_search_over_nets_learns_from_the_data_alone(tmp_path: Path) -> None:
    run = begun(trial_of(Self(steps=3, form="affinity"), tmp_path, Searching()))
    assert [*run.train_step.losses] == ["task"]
    while run.span is not None and run.span.phase.name == "search":
        run.advance()
    assert [*run.train_step.losses] == ["task", "teacher"]


def test_training_that_goes_on_is_warm_already(tmp_path: Path) -> None:
    lesson = Self(form="affinity", warmup=0.2, steps=3)
    trial = trial_of(lesson, tmp_path)
    run = begun(trial)
    of = lesson.lesson().maps
    assert of is not None
    assert lessons.warming(of, run) == 0
    table = run.setup.timetable
    run.setup = replace(run.setup, timetable=table.going_on("train", 20))
    assert lessons.warming(of, run) == 1


# ---- which net teaches ----


def test_one_teacher_is_trained_once_for_all_techniques_seeds_and_fields(tmp_path: Path) -> None:
    asked = [
        Response(architecture=WIDE, steps=3),
        Response(architecture=WIDE, steps=3, share=1.0),
        Features(architecture=WIDE, steps=3),
    ]
    teachers = []
    for technique in asked:
        run = begun(trial_of(technique, tmp_path))
        teachers.append(technique.teacher(technique).net(run).state_dict())
    files = [*(tmp_path / "cache").glob("*.safetensors")]
    assert len(files) == 1
    for other in teachers[1:]:
        assert all(torch.equal(value, other[name]) for name, value in teachers[0].items())


def test_the_dense_net_teaches_whatever_becomes_of_it(tmp_path: Path) -> None:
    trial = trial_of(Self(steps=3), tmp_path, TinyNet(width=5))
    run = begun(trial)
    teacher = run.train_step.losses["teacher"].__self__.watched.net
    assert teacher.head.out_channels == 5
    assert not torch.equal(teacher.head.weight, run.model.head.weight)


def test_a_checkpoint_teaches_as_it_is(tmp_path: Path) -> None:
    path = own_file(espcn(), tmp_path)
    lesson = Response(architecture=espcn(weights=path), steps=0)
    run = begun(trial_of(lesson, tmp_path))
    found = lesson.teacher(lesson).net(run).state_dict()
    written = torch.load(path, weights_only=True)
    assert found.keys() == written.keys()
    assert all(torch.equal(found[name], value) for name, value in written.items())
    assert not (tmp_path / "cache").exists()


def test_the_gate_is_told_of_the_teacher(tmp_path: Path) -> None:
    for color, channels in (("same", 1), ("rgb", 3)):
        lesson = Features(architecture=WIDE, color=color)
        trial = trial_of(lesson, tmp_path)
        own = TinyNet().blueprint(trial.task, trial.context(lesson))
        [listed] = lesson.companions(own, trial.task, trial.context(lesson))
        assert listed.fields == {"width": 12, "channels": channels, "scale": 2}
        model = trial.context(lesson).model(listed)
        assert model(run_image()).shape == (1, 1, 32, 32)
        # What is trained is told alone: it takes minutes.
        assert not (tmp_path / "cache").exists()


def refused(lesson: Technique, folder: Path, **more: Any) -> str:
    trial = trial_of(lesson, folder, **more)
    context = trial.context(lesson)
    own = TinyNet().blueprint(trial.task, context)
    with pytest.raises(TrialError) as caught:
        lesson.companions(own, trial.task, context)
    return f"{caught.value.message} {caught.value.hint}"


def test_what_cannot_teach_is_refused_in_words_before_anything_is_trained(tmp_path: Path) -> None:
    of_three = espcn(weights=own_file(espcn(), tmp_path, scale=3))
    assert "for this scale" in refused(Response(architecture=of_three, steps=0), tmp_path)
    of_color = espcn(weights=own_file(espcn(), tmp_path, color="rgb"))
    assert "`color: rgb`" in refused(Response(architecture=of_color, steps=0), tmp_path)
    Response(architecture=of_color, steps=0, color="rgb")
    assert "names no file" in refused(Response(architecture=espcn(), steps=0), tmp_path)
    assert "Name one" in refused(Features(), tmp_path)


def test_a_net_that_is_searched_for_cannot_teach(tmp_path: Path) -> None:
    class Searched(TinyNet):
        name = "searched_net"

        def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
            return phases

    assert "phases of its own" in refused(Response(architecture=Searched()), tmp_path)


# ---- luma from a net of colour images ----


class Twice(nn.Module):
    """Enlarges each channel by itself, and makes red brighter."""

    def forward(self, image: Tensor) -> Tensor:
        large = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
        red = torch.zeros(1, 3, 1, 1)
        red[0, 0] = 0.1
        return large + red


def test_a_net_of_colour_images_is_given_the_grey_image_of_a_luma() -> None:
    seen = []
    net = Twice()
    net.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    luma = run_image()
    found = OnGrey(net)(luma)
    [grey] = seen
    assert grey.shape == (1, 3, 16, 16)
    # The luma of that image is the one that was given, and that of a brighter red is brighter.
    weights = torch.tensor([65.481, 128.553, 24.966]).reshape(1, 3, 1, 1)
    luma_of_grey = ((grey * weights).sum(1, keepdim=True) + 16) / 255
    torch.testing.assert_close(luma_of_grey, luma)
    large = luma.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(found, large + 0.1 * 65.481 / 255)


@pytest.fixture(scope="module")
def published() -> Path:
    path = shipped_sets() / "weights" / "imdn" / "IMDN_x2.pth"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return path


def test_a_published_net_of_colour_images_teaches_luma(published: Path, tmp_path: Path) -> None:
    imdn = installed().technique(Slot.ARCHITECTURE, "imdn")
    net = imdn(weights=str(published), width=64, blocks=6, skip="none")
    recipe = tiny_recipe().model_copy(update={"batch": 4, "patch": 24})
    lesson = Response(architecture=net, steps=0, color="rgb")
    run = begun(trial_of(lesson, tmp_path, recipe=recipe))
    batch = run.batch()
    with torch.no_grad():
        taught = run.train_step.losses["teacher"].__self__.watched.net(batch.inputs)
    plain = nn.functional.interpolate(batch.inputs, scale_factor=2, mode="bicubic")
    # A published net is some decibels better: by less it would have been given other images.
    gain = 10 * torch.log10(mse(plain, batch.target) / mse(taught, batch.target))
    assert gain > 2
    assert "another net" in refused(
        Response(architecture=imdn(weights=str(published)), steps=0, color="rgb"), tmp_path
    )


def mse(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().mean()


# ---- 4: a student can become its teacher ----


@pytest.mark.ci
def test_a_student_that_follows_the_teacher_alone_becomes_it(tmp_path: Path) -> None:
    recipe = Recipe(batch=16, patch=16, precision="fp32", ema=0.0, cooldown=0.9, clip=0.0)
    lesson = Self(share=1.0, steps=100)
    run = begun(trial_of(lesson, tmp_path, recipe=recipe, steps=1000))
    crops = run.batch()
    teacher = Teacher(run.setup.techniques[0], 100, "same").net(run)

    def psnr(run: Run) -> float:
        with torch.no_grad():
            return float(-10 * torch.log10(mse(run.model(crops.inputs), teacher(crops.inputs))))

    def on_the_same_crops(run: Run, until: int) -> None:
        run.train_step = replace(run.train_step, batch=lambda run: crops)
        while run.step < until:
            run.advance()

    assert psnr(run) < 30
    on_the_same_crops(run, run.setup.timetable.trunk_steps)
    branch = run.branch()
    on_the_same_crops(branch, branch.end)
    assert psnr(branch) > 45


def test_the_edit_is_that_of_the_declaration() -> None:
    assert nets.ON_GREY in installed().edits
