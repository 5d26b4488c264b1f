"""What a study file means, and what a person reads when something in it is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import jsonschema
import pytest
import space_toys
from pydantic import Field
from ruamel.yaml import YAML

from automl_sr.errors import StudyFileError
from automl_sr.plugin.registry import Registry
from automl_sr.plugin.technique import Choice, Float, Int, Slot
from automl_sr.study.schema import study_schema
from automl_sr.study.spec import LoadedStudy, StudySpec, load_study, parse_study

STUDY = """\
name: tiny-x2
task: {kind: image-sr, scale: 2, train: [T91, BSDS200]}
objectives: [psnr_y, latency_ratio]
constraints: {params: {max: 25000}}
device: {provider: cpu, threads: 1, input: [360, 640]}
budget: {trials: 64, minutes: 30, steps: 3000}
search: {sampler: tpe, scheduler: {kind: pareto-asha, rungs: 3, reduction: 3}, seed: 0}
space:                                  # leave it out to search everything that is installed
  selection: {none: {}, loss: {keep: [0.25, 0.75], drop_hardest: 0.05}}
  architecture: {fsrcnn: {}, cells: {layers: {low: 2, high: 6}}}
  quantization: [none, int8_ptq]
"""


HEAD, _, _ = STUDY.partition("space:")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return space_toys.registry()


def read(text: str, registry: Registry) -> LoadedStudy:
    return parse_study(text, "tiny.yaml", registry)


def complaint(text: str, registry: Registry) -> str:
    with pytest.raises(StudyFileError) as caught:
        read(text, registry)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


# ---- what is read ----


def test_the_documented_study_is_read(registry: Registry) -> None:
    loaded = read(STUDY, registry)
    spec = loaded.spec
    assert (spec.name, spec.task.kind, spec.objectives) == (
        "tiny-x2",
        "image-sr",
        ("psnr_y", "latency_ratio"),
    )
    assert (spec.constraints["params"].min, spec.constraints["params"].max) == (None, 25000)
    assert (spec.device.provider, spec.device.threads, spec.device.input) == ("cpu", 1, (360, 640))
    assert (
        spec.budget.trials,
        spec.budget.minutes,
        spec.budget.steps,
        spec.budget.trial_minutes,
    ) == (
        64,
        30,
        3000,
        None,
    )
    assert (spec.search.sampler, spec.search.scheduler.kind, spec.search.seed) == (
        "tpe",
        "pareto-asha",
        0,
    )
    assert loaded.source_text == STUDY
    assert spec.metrics() == ("psnr_y", "latency_ratio", "params")


def test_a_metric_can_be_observed_without_being_an_objective(registry: Registry) -> None:
    spec = read(STUDY.replace("budget:", "observe: [ssim_y, psnr_y]\nbudget:", 1), registry).spec
    assert spec.objectives == ("psnr_y", "latency_ratio")
    assert spec.metrics() == ("psnr_y", "latency_ratio", "params", "ssim_y"), (
        "nothing is measured twice"
    )
    assert StudySpec.from_json(spec.to_json(), registry) == spec
    with pytest.raises(
        StudyFileError, match=r"observe\.0: unknown metric 'ssim'\. Did you mean 'ssim_y'"
    ):
        read(STUDY.replace("budget:", "observe: ssim\nbudget:", 1), registry)


def test_a_short_study_has_the_documented_defaults(registry: Registry) -> None:
    spec = read(
        "name: a\ntask: {kind: image-sr}\nobjectives: psnr_y\nbudget: {trials: 3}\n", registry
    ).spec
    assert spec.objectives == ("psnr_y",)
    assert spec.budget.steps == 3000
    assert (spec.device.provider, spec.device.threads, spec.device.input) == ("cpu", 1, (360, 640))
    assert (spec.search.sampler, spec.search.seed, spec.search.threads) == ("tpe", 0, None)
    assert (
        spec.search.scheduler.kind,
        spec.search.scheduler.rungs,
        spec.search.scheduler.reduction,
    ) == (
        "pareto-asha",
        3,
        3,
    )
    assert spec.space is None


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("scheduler: none", "none"),
        ("scheduler: pareto-asha", "pareto-asha"),
        ("scheduler: {kind: none}", "none"),
    ],
)
def test_a_scheduler_is_a_name_or_a_mapping(written: str, read_as: str, registry: Registry) -> None:
    text = STUDY.replace("scheduler: {kind: pareto-asha, rungs: 3, reduction: 3}", written)
    assert read(text, registry).spec.search.scheduler.kind == read_as


@pytest.mark.parametrize(("written", "read_as"), [("auto", None), ("null", None), ("2", 2)])
def test_threads_are_a_number_or_auto(
    written: str, read_as: int | None, registry: Registry
) -> None:
    assert (
        read(STUDY.replace("seed: 0", f"threads: {written}"), registry).spec.search.threads
        == read_as
    )


def test_numbers_are_those_of_yaml_1_2(registry: Registry) -> None:
    text = STUDY + "  recipe: {lr: [1e-4, 1E-2], batch: 16, ema: .5}\n"
    recipe = {
        item.name: item.domain for item in slot(read(text, registry), Slot.RECIPE).options[0].fields
    }
    assert recipe["lr"] == Float(1e-4, 1e-2, log=True)
    assert read(STUDY.replace("seed: 0", "seed: 010"), registry).spec.search.seed == 10
    assert read(STUDY.replace("seed: 0", "seed: 0x1F"), registry).spec.search.seed == 31


def test_off_and_dates_are_text(registry: Registry) -> None:
    assert read(STUDY.replace("tiny-x2", "off"), registry).spec.name == "off"
    assert read(STUDY.replace("tiny-x2", "2026-11-21"), registry).spec.name == "2026-11-21"


def test_an_anchor_may_be_repeated(registry: Registry) -> None:
    text = STUDY.replace("{none: {}, loss:", "{none: &own {}, loss:").replace(
        "fsrcnn: {}", "fsrcnn: *own"
    )
    assert read(text, registry).spec.space == read(STUDY, registry).spec.space


def test_a_study_survives_json(registry: Registry) -> None:
    spec = read(STUDY, registry).spec
    again = StudySpec.from_json(json.loads(json.dumps(spec.to_json())), registry)
    assert again == spec
    assert spec.to_json()["task"] == {"kind": "image-sr", "scale": 2, "train": ["T91", "BSDS200"]}


def test_a_study_is_read_from_a_file(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + STUDY.replace("\n", "\r\n").encode())
    assert load_study(path, registry).spec == read(STUDY, registry).spec


# ---- what the space says ----


def slot(loaded: LoadedStudy, which: Slot):
    return next(item for item in loaded.space_request if item.slot is which)


def field(loaded: LoadedStudy, which: Slot, technique: str, name: str):
    return next(item for item in slot(loaded, which).option(technique).fields if item.name == name)


def with_space(space: str, registry: Registry) -> LoadedStudy:
    return read(HEAD + "space:\n" + space, registry)


def test_a_list_means_a_range_for_a_number_and_allowed_values_for_a_choice(
    registry: Registry,
) -> None:
    loaded = with_space("  selection: {loss: {keep: [0.25, 0.75], order: [ascending]}}\n", registry)
    assert field(loaded, Slot.SELECTION, "loss", "keep").domain == Float(0.25, 0.75, step=0.05)
    assert field(loaded, Slot.SELECTION, "loss", "order").domain == Choice("ascending")


def test_a_single_value_is_fixed(registry: Registry) -> None:
    loaded = with_space("  selection: {loss: {keep: 0.3}}\n", registry)
    assert field(loaded, Slot.SELECTION, "loss", "keep").domain.value == 0.3


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ("{low: 16, high: 64, step: 16}", Int(16, 64, step=16)),
        ("{high: 32}", Int(8, 32, step=8)),
        ("{low: 4, high: 100, log: true}", Int(4, 100, log=True)),
        ("[8, 1.6e1]", Int(8, 16, step=8)),
        ("{}", Int(8, 64, step=8)),
        ("{low: 10, high: 29}", Int(10, 26, step=8)),
    ],
)
def test_a_range_may_say_step_and_log_and_keeps_the_plugins_otherwise(
    written: str, domain: Int, registry: Registry
) -> None:
    loaded = with_space(f"  architecture: {{fsrcnn: {{width: {written}}}}}\n", registry)
    assert field(loaded, Slot.ARCHITECTURE, "fsrcnn", "width").domain == domain


def test_a_range_that_does_not_end_on_a_step_is_noted(registry: Registry) -> None:
    loaded = with_space("  architecture: {fsrcnn: {width: [10, 29]}}\n", registry)
    assert loaded.notes == (
        "space.architecture.fsrcnn.width: in steps of 8, the range 10..29 ends at 26.",
    )


def test_a_range_may_be_opened_up_to_the_hard_limits(registry: Registry) -> None:
    loaded = with_space("  architecture: {fsrcnn: {width: [1, 128]}}\n", registry)
    assert field(loaded, Slot.ARCHITECTURE, "fsrcnn", "width").domain == Int(1, 121, step=8)


def test_fields_that_are_not_named_keep_the_plugins_own_space(registry: Registry) -> None:
    loaded = with_space("  selection: {loss: {keep: 0.5}}\n", registry)
    assert field(loaded, Slot.SELECTION, "loss", "drop_hardest").domain == Float(0.0, 0.1)


def test_a_field_without_a_marker_is_fixed_until_the_study_opens_it(registry: Registry) -> None:
    closed = with_space("  architecture: edsr\n", registry)
    opened = with_space("  architecture: {edsr: {scaling: [0.1, 1]}}\n", registry)
    assert field(closed, Slot.ARCHITECTURE, "edsr", "scaling").domain.value == 1.0
    assert field(opened, Slot.ARCHITECTURE, "edsr", "scaling").domain == Float(0.1, 1.0)


def test_a_fixed_field_opens_to_its_own_range(registry: Registry) -> None:
    closed = with_space("  architecture: {cells: {}}\n", registry)
    opened = with_space("  architecture: {cells: {gain: {}}}\n", registry)
    assert field(closed, Slot.ARCHITECTURE, "cells", "gain").domain.value == 1e-2
    assert field(opened, Slot.ARCHITECTURE, "cells", "gain").domain == Float(1e-4, 1e-1, log=True)


@pytest.mark.parametrize(
    ("written", "options"), [("[conv3, skip]", ("conv3", "skip")), ("conv5", ("conv5",))]
)
def test_what_stands_for_a_vector_applies_to_every_place(
    written: str, options: tuple[str, ...], registry: Registry
) -> None:
    loaded = with_space(f"  architecture: {{cells: {{ops: {written}}}}}\n", registry)
    assert field(loaded, Slot.ARCHITECTURE, "cells", "ops").domain.item == Choice(*options)


def test_a_nested_technique_is_narrowed_like_a_slot(registry: Registry) -> None:
    loaded = with_space(
        "  teacher: {kd: {architecture: {edsr: {width: [32, 64]}, fsrcnn: {}}}}\n", registry
    )
    domain = field(loaded, Slot.TEACHER, "kd", "architecture").domain
    assert [option.name for option in domain.options] == ["edsr", "fsrcnn"]
    assert domain.option("edsr").fields[0].domain == Int(32, 64, log=True)


def test_a_number_among_choices_may_be_another_one_within_the_hard_limits(
    registry: Registry,
) -> None:
    loaded = with_space("  recipe: {batch: [4, 16]}\n", registry)
    assert {item.name: item.domain for item in slot(loaded, Slot.RECIPE).options[0].fields}[
        "batch"
    ] == Choice(4, 16)


@pytest.mark.parametrize("written", ["none", "[none]", "{none: {}}", "{none: }"])
def test_a_slot_is_a_name_a_list_or_a_mapping(written: str, registry: Registry) -> None:
    loaded = with_space(f"  quantization: {written}\n", registry)
    assert [option.name for option in slot(loaded, Slot.QUANTIZATION).options] == ["none"]


def test_an_empty_slot_mapping_is_everything_installed(registry: Registry) -> None:
    loaded = with_space("  architecture: {}\n", registry)
    assert [option.name for option in slot(loaded, Slot.ARCHITECTURE).options] == [
        "fsrcnn",
        "cells",
        "edsr",
    ]


def test_a_slot_that_is_left_out_is_its_baseline_with_default_fields(registry: Registry) -> None:
    loaded = with_space("  selection: loss\n", registry)
    assert [option.name for option in slot(loaded, Slot.ARCHITECTURE).options] == ["fsrcnn"]
    assert field(loaded, Slot.ARCHITECTURE, "fsrcnn", "width").domain.value == 32
    assert all(not list(option.active()) for option in slot(loaded, Slot.RECIPE).options)


def test_an_empty_recipe_opens_its_own_space(registry: Registry) -> None:
    names = [
        item.name
        for item in slot(with_space("  recipe: {}\n", registry), Slot.RECIPE).options[0].active()
    ]
    assert names == ["lr", "batch"]


def test_without_a_space_everything_installed_is_searched(registry: Registry) -> None:
    loaded = read(HEAD, registry)
    assert [item.slot for item in loaded.space_request] == [
        each for each in Slot if registry.techniques[each]
    ]
    assert [option.name for option in slot(loaded, Slot.QUANTIZATION).options] == [
        "none",
        "int8_ptq",
        "packed",
    ]


def test_techniques_of_other_tasks_are_not_offered() -> None:
    class Video(space_toys.Edsr):
        """Only for video."""

        name = "video"
        tasks = frozenset({"video-sr"})

    registry = space_toys.registry([*space_toys.TECHNIQUES, Video])
    assert "video" not in [
        option.name for option in slot(read(HEAD, registry), Slot.ARCHITECTURE).options
    ]
    text = STUDY.replace("fsrcnn: {}", "video: {}")
    assert "does not serve the task 'image-sr', only video-sr" in complaint(text, registry)


def test_an_unavailable_technique_is_named_with_its_reason() -> None:
    class Broken(space_toys.Edsr):
        """Searches what it refuses."""

        name = "broken"
        width: Annotated[int, Int(16, 256), Field(le=8)] = 8

    registry = space_toys.registry([*space_toys.TECHNIQUES, Broken])
    said = "tiny.yaml:10: space.architecture.broken: The architecture technique 'broken' is unavailable: field 'width'"
    assert complaint(STUDY.replace("fsrcnn: {}", "broken: {}"), registry).startswith(said)


# ---- what is wrong ----

MISTAKES = [
    ("fsrcnn: {}", "fsrcn: {}", "tiny.yaml:10: space.architecture.fsrcn: unknown technique 'fsrcn'. Did you mean 'fsrcnn'?"),
    ("[none, int8_ptq]", "[none, int8]", "tiny.yaml:11: space.quantization.1: unknown technique 'int8'. Did you mean 'int8_ptq'?"),
    ("[none, int8_ptq]", "[none, none]", "tiny.yaml:11: space.quantization.1: 'none' is listed twice."),
    ("[none, int8_ptq]", "[]", "tiny.yaml:11: space.quantization: an empty list names no technique."),
    ("[none, int8_ptq]", "[none, 3]", "tiny.yaml:11: space.quantization.1: 3 is not the name of a technique."),
    ("[none, int8_ptq]", "[{none: {}}]", "tiny.yaml:11: space.quantization.0: {'none': {}} is not the name of a technique. To say something about fields, write a mapping"),
    ("[none, int8_ptq]", "{none: 3}", "tiny.yaml:11: space.quantization.none: 3 is not a mapping of fields."),
    ("  quantization:", "  quantisation:", "tiny.yaml:11: space.quantisation: unknown slot 'quantisation'. Did you mean 'quantization'?"),
    ("scale: 2", "scale: 5", "tiny.yaml:2: task.scale: 5 is not allowed. Allowed: 2, 3, 4."),
    ("scale: 2", "sclae: 2", "tiny.yaml:2: task.sclae: unknown key 'sclae'. Did you mean 'scale'?"),
    ("kind: image-sr", "kind: image-s", "tiny.yaml:2: task.kind: unknown task 'image-s'. Did you mean 'image-sr'?"),
    ("{kind: image-sr, scale: 2, train: [T91, BSDS200]}", "image-sr", "tiny.yaml:2: task: 'image-sr' is not a mapping."),
    ("kind: image-sr, ", "", "tiny.yaml:2: task: 'kind' is missing. Kinds: image-sr."),
    ("psnr_y", "psnr_z", "tiny.yaml:3: objectives.0: unknown metric 'psnr_z'. Did you mean 'psnr_y'?"),
    ("latency_ratio", "psnr_y", "tiny.yaml:3: objectives: 'psnr_y' is listed twice."),
    ("[psnr_y, latency_ratio]", "[]", "tiny.yaml:3: objectives: the list is empty."),
    ("params:", "parms:", "tiny.yaml:4: constraints.parms: unknown metric 'parms'. Did you mean 'params'?"),
    ("{max: 25000}", "{max: 1, min: 2}", "tiny.yaml:4: constraints.params: min 2 is larger than max 1."),
    ("{max: 25000}", "{}", "tiny.yaml:4: constraints.params: a constraint needs min, max or both."),
    ("{max: 25000}", "25000", "tiny.yaml:4: constraints.params: 25000 is not a mapping."),
    ("{max: 25000}", "{mx: 25000}", "tiny.yaml:4: constraints.params.mx: unknown key 'mx'. Did you mean 'max'?"),
    ("{max: 25000}", "{max: .inf}", "tiny.yaml:4: constraints.params.max: inf is not a finite number."),
    ("[360, 640]", "[360]", "tiny.yaml:5: device.input: [360] has too few entries."),
    ("[360, 640]", "[0, 640]", "tiny.yaml:5: device.input: height and width must be from 8 to 8192 pixels."),
    ("provider: cpu", "provider: gpu", "tiny.yaml:5: device.provider: 'gpu' is not allowed. Did you mean 'cpu'?"),
    ("trials: 64", "trials: 0", "tiny.yaml:6: budget.trials: 0 is not allowed: it should be greater than 0."),
    ("minutes: 30", "minutes: -1", "tiny.yaml:6: budget.minutes: -1 is not allowed: it should be greater than 0."),
    ("steps: 3000", "steps: 0", "tiny.yaml:6: budget.steps: 0 is not allowed"),
    ("trials: 64", "trials: many", "tiny.yaml:6: budget.trials: 'many' is not a whole number."),
    ("trials: 64", "trials: '64'", "tiny.yaml:6: budget.trials: '64' is not a whole number."),
    ("trials: 64", "trials: true", "tiny.yaml:6: budget.trials: true is not a whole number."),
    ("trials: 64, minutes: 30, ", "", "tiny.yaml:6: budget: give trials, minutes or both, so that the study ends."),
    ("sampler: tpe", "smpler: tpe", "tiny.yaml:7: search.smpler: unknown key 'smpler'. Did you mean 'sampler'?"),
    ("sampler: tpe", "sampler: tpee", "tiny.yaml:7: search.sampler: 'tpee' is not allowed. Did you mean 'tpe'?"),
    ("{kind: pareto-asha, rungs: 3, reduction: 3}", "asha", "tiny.yaml:7: search.scheduler: 'asha' is not allowed. Did you mean 'pareto-asha'?"),
    ("kind: pareto-asha, rungs", "kind: median, rungs", "tiny.yaml:7: search.scheduler: the scheduler 'median' works for one objective"),
    ("reduction: 3", "reduction: 1", "tiny.yaml:7: search.scheduler.reduction: 1 is not allowed"),
    ("name: tiny-x2", "name: ../x", "tiny.yaml:1: name: a name has up to 64 letters"),
    ("name: tiny-x2", 'name: "a\\n"', "tiny.yaml:1: name: a name has up to 64 letters"),
    ("name: tiny-x2\n", "", "tiny.yaml:1: 'name' is missing."),
    ("name: tiny-x2", "name: tiny-x2\nname: b", "tiny.yaml:2: name: the key 'name' is there twice (first on line 1)."),
    ("none: {}, loss:", "loss: {}, loss:", "tiny.yaml:9: space.selection.loss: the key 'loss' is there twice (first on line 9)."),
    ("objectives:", "objctives:", "tiny.yaml:3: objctives: unknown key 'objctives'. Did you mean 'objectives'?"),
    ("keep:", "keeep:", "tiny.yaml:9: space.selection.loss.keeep: unknown field 'keeep'. Did you mean 'keep'?"),
    ("[0.25, 0.75]", "[0.75, 0.25]", "tiny.yaml:9: space.selection.loss.keep: the range 0.75..0.25 is empty."),
    ("[0.25, 0.75]", "[0.25, 1.75]", "tiny.yaml:9: space.selection.loss.keep: 1.75 is outside the hard limits: it should be less than or equal to 1."),
    ("[0.25, 0.75]", "[0.25, 0.5, 0.75]", "tiny.yaml:9: space.selection.loss.keep: [0.25, 0.5, 0.75] has 3 entries. A list for a number is its range"),
    ("[0.25, 0.75]", "half", "tiny.yaml:9: space.selection.loss.keep: 'half' is not a number."),
    ("[0.25, 0.75]", "true", "tiny.yaml:9: space.selection.loss.keep: true is not a number."),
    ("[0.25, 0.75]", ".nan", "tiny.yaml:9: space.selection.loss.keep: nan is not a number."),
    ("[0.25, 0.75]", "{low: 0.3, high: 0.6, step: 0}", "tiny.yaml:9: space.selection.loss.keep.step: a step of 0.0 leads nowhere."),
    ("[0.25, 0.75]", "{low: 0.3, high: 0.6, step: 0.1, log: true}", "tiny.yaml:9: space.selection.loss.keep.step: a logarithmic range has no step."),
    ("drop_hardest: 0.05", "drop_hardest: {low: 0, high: 0.1, log: true}", "tiny.yaml:9: space.selection.loss.drop_hardest: a logarithmic range cannot begin at 0.0."),
    ("drop_hardest: 0.05", "order: upward", "tiny.yaml:9: space.selection.loss.order: 'upward' is not an allowed value. Allowed: descending, ascending."),
    ("drop_hardest: 0.05", "order: [ascending, descendin]", "tiny.yaml:9: space.selection.loss.order.1: 'descendin' is not an allowed value. Did you mean 'descending'?"),
    ("drop_hardest: 0.05", "order: []", "tiny.yaml:9: space.selection.loss.order: an empty list is not a list of allowed values."),
    ("layers: {low: 2, high: 6}", "layers: {lo: 2}", "tiny.yaml:10: space.architecture.cells.layers.lo: unknown key 'lo' in a range. Did you mean 'low'?"),
    ("layers: {low: 2, high: 6}", "layers: [2, 6.5]", "tiny.yaml:10: space.architecture.cells.layers: 6.5 is not a whole number."),
    ("layers: {low: 2, high: 6}", "layers: 9", "tiny.yaml:10: space.architecture.cells.layers: 9 is outside the hard limits: it should be less than or equal to 8."),
    ("layers: {low: 2, high: 6}", "ops: [conv3, conv7]", "tiny.yaml:10: space.architecture.cells.ops.1: 'conv7' is not an allowed value."),
    ("  quantization: [none, int8_ptq]", "  recipe: [1]", "tiny.yaml:11: space.recipe: [1] is not a mapping of fields. Write its fields directly"),
    ("  quantization: [none, int8_ptq]", "  recipe: {batch: 512}", "tiny.yaml:11: space.recipe.batch: 512 is not an allowed value. Allowed: 8, 16, 32."),
    ("  quantization: [none, int8_ptq]", "  recipe: {ema: 1}", "tiny.yaml:11: space.recipe.ema: 1.0 is outside the hard limits: it should be less than 1."),
    ("  quantization: [none, int8_ptq]", "  pruning: sparse\n  quantization: int8_ptq", "tiny.yaml:8: space: no choice of these techniques goes together"),
    ("seed: 0", "seed: !!python/object:os.system 0", "tiny.yaml:7: search.seed: the tag '!!python/object:os.system' is not allowed."),
    ("seed: 0", "seed: !env HOME", "tiny.yaml:7: search.seed: the tag '!env' is not allowed."),
    ("device: {", "device: [{", "tiny.yaml:5: this is not YAML:"),
    ("  quantization", "\t quantization", "tiny.yaml:11: this is not YAML:"),
    ("seed: 0}", "seed: *nowhere}", "tiny.yaml:7: this is not YAML:"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("right", "wrong", "said"), MISTAKES, ids=[said[10:70] for _, _, said in MISTAKES]
)
def test_a_mistake_is_one_sentence_with_line_key_value_and_hint(
    right: str, wrong: str, said: str, registry: Registry
) -> None:
    assert STUDY.count(right) >= 1
    assert complaint(STUDY.replace(right, wrong, 1), registry).startswith(said)


def test_an_error_from_json_names_the_key_path_alone(registry: Registry) -> None:
    data = read(STUDY, registry).spec.to_json()
    data["budget"]["trials"] = -1
    with pytest.raises(StudyFileError, match=r"^budget\.trials: -1 is not allowed"):
        StudySpec.from_json(data, registry)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "~\n"])
def test_an_empty_file_says_so(text: str, registry: Registry) -> None:
    assert complaint(text, registry).startswith("tiny.yaml: the study file is empty.")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "3\n"])
def test_a_file_that_is_no_mapping_says_so(text: str, registry: Registry) -> None:
    assert "not a mapping of keys" in complaint(text, registry)


def test_two_documents_are_refused(registry: Registry) -> None:
    assert "but found another document" in complaint(STUDY + "---\n" + STUDY, registry)


def test_a_missing_file_names_its_neighbours(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    with pytest.raises(
        StudyFileError,
        match=r"There is no study file .*tiny\.yml\. In that folder are: tiny\.yaml\.",
    ):
        load_study(tmp_path / "tiny.yml", registry)
    with pytest.raises(StudyFileError, match=r"The folder .*nowhere does not exist either"):
        load_study(tmp_path / "nowhere" / "tiny.yml", registry)


def test_a_directory_is_no_study_file(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(StudyFileError, match="is a directory, not a study file"):
        load_study(tmp_path, registry)


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\xff\xfe", b"name: a\0b", "name: ä".encode("latin-1")]
)
def test_a_binary_file_is_no_study_file(content: bytes, tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "picture.yaml"
    path.write_bytes(content)
    with pytest.raises(StudyFileError, match="is not a text file in UTF-8"):
        load_study(path, registry)


def test_a_huge_file_is_refused_unread(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"# " + b"x" * 2_000_000)
    with pytest.raises(StudyFileError, match="larger than 200 kB"):
        load_study(path, registry)


def test_an_alias_bomb_is_refused(registry: Registry) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "grows beyond all bounds" in complaint("\n".join(levels), registry)


def test_an_alias_of_itself_is_refused(registry: Registry) -> None:
    assert "grows beyond all bounds" in complaint("name: &n [*n]\n", registry)


def test_deep_nesting_is_refused(registry: Registry) -> None:
    assert "nested too deeply" in complaint("a: " + "[" * 100_000, registry)


def test_a_quality_metric_of_another_task_is_refused() -> None:
    from automl_sr.plugin.metric import Metric

    class Reading(space_toys.ToyTask):
        kind = "ocr"
        metrics = (Metric("characters", "maximize", "quality", len),)

    registry = space_toys.registry(tasks=[space_toys.ToyTask, Reading])
    assert "the task 'image-sr' does not measure 'characters'" in complaint(
        STUDY.replace("psnr_y", "characters"), registry
    )


# ---- the schema for editors ----


def valid(text: str, registry: Registry) -> bool:
    plain = YAML(typ="safe", pure=True).load(text)
    return jsonschema.Draft202012Validator(study_schema(registry)).is_valid(plain)


def test_the_schema_is_a_json_schema(registry: Registry) -> None:
    schema = study_schema(registry)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_schema_accepts_the_documented_study(registry: Registry) -> None:
    assert valid(STUDY, registry)
    assert valid(HEAD, registry)


@pytest.mark.parametrize(
    "space",
    [
        "recipe: {lr: [1e-4, 1e-2], batch: [4, 8], ema: 0.9}",
        "architecture: {cells: {layers: {}, ops: [conv3], gain: 0.1}, edsr: {width: {low: 8, high: 9, log: true}}}",
        "teacher: {kd: {architecture: {edsr: {width: [32, 64]}}}}",
        "teacher: {kd: {architecture: [edsr, fsrcnn]}}",
        "selection: loss",
        "selection: {loss: {order: [descending], keep: {}}}",
    ],
)
def test_the_schema_accepts_what_is_read(space: str, registry: Registry) -> None:
    text = HEAD + f"space: {{{space}}}\n"
    assert read(text, registry).spec.space
    assert valid(text, registry)


NOT_YAML = ("tag", "not YAML", "is there twice")
BEYOND_A_SCHEMA = (
    *(
        "is larger than max",
        "is empty.",
        "'median' works",
        "goes together",
        "needs min, max",
        "from 8 to 8192",
    ),
    *("a finite number", "nan is not", "a logarithmic range", "a\\n"),
)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (right, wrong)
        for right, wrong, said in MISTAKES
        if not any(part in said + wrong for part in NOT_YAML + BEYOND_A_SCHEMA)
    ],
)
def test_the_schema_refuses_what_a_schema_can_know(
    right: str, wrong: str, registry: Registry
) -> None:
    assert not valid(STUDY.replace(right, wrong, 1), registry)


def test_the_schema_describes_fields_and_their_ranges(registry: Registry) -> None:
    keep = study_schema(registry)["$defs"]["selection.loss"]["properties"]["keep"]
    assert "0.25 .. 1, step 0.05" in keep["description"]
    assert keep["default"] == 0.5
    assert keep["anyOf"][0] == {"type": "number", "exclusiveMinimum": 0.0, "maximum": 1.0}
