"""A task with two named inputs, a state and metrics of its own goes the whole way, from the search
to the app.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import sequence_denoising as toys
from sequence_world import STUDY, command, search, sequence_registry, store_of

from automl_sr.compression.quantize import quantize_static
from automl_sr.errors import StudyFileError
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.store.reading import Reader
from automl_sr.study.spec import parse_study


def results(place: Path) -> list[Any]:
    """Give what does not depend on time: states, values, files, curves and rungs."""
    opened = Reader.open(store_of(place))
    study = opened.study("sequences")
    found = []
    for trial in opened.trials(study):
        values = {name: value for name, value in trial.values.items() if name != "latency_ms"}
        files = {kind: file.sha256 for kind, file in trial.artifacts.items()}
        curve = sorted({(point.phase, point.step, point.loss) for point in opened.curve(trial)})
        found.append((trial.number, trial.state, values, files, curve))
    opened.close()
    return found


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was searched without a break."""
    place = tmp_path_factory.mktemp("whole")
    done = search(place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.timeout(300)
def test_it_is_searched_and_beats_what_needs_no_model(searched: Path) -> None:
    opened = Reader.open(store_of(searched))
    study = opened.study("sequences")
    first = opened.trial(study, 0)
    assert first.state in ("complete", "pruned")
    assert first.values["psnr_frames"] > study.reference["psnr_frames"] + 0.5
    assert first.values["flicker"] < study.reference["flicker"]
    assert first.values["latency_ms"] > 0
    assert first.params["recipe.patch"] == 16
    assert first.params["recipe.loss"] == "mse"
    opened.close()


@pytest.mark.ci
@pytest.mark.timeout(600)
def test_killed_in_every_phase_it_ends_bit_for_bit_as_one_left_alone(
    searched: Path, tmp_path: Path
) -> None:
    for step in (
        2,
        32,
        70,
        110,
    ):  # before the first rung, on its branch, in the trunk behind it, in the last cool-down
        assert search(tmp_path / "parts", kill_at=step).returncode == -signal.SIGKILL
    again = search(tmp_path / "parts")
    assert again.returncode == 0, again.stderr
    assert results(tmp_path / "parts") == results(searched)


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_its_models_are_trained_longer_and_measured_on_the_test_sets(searched: Path) -> None:
    done = command(
        searched,
        "refine",
        "sequences",
        "--trials",
        0,
        "--steps",
        40,
        "--json",
        "-q",
        "--device",
        "cpu",
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["refinements"]
    assert row["state"] == "complete"
    assert row["tests"]["photos-valid"].keys() == {"psnr_frames", "flicker"}


def model_of(place: Path) -> Path:
    """Find the file of trial 0."""
    opened = Reader.open(store_of(place))
    url = opened.trial(opened.study("sequences"), 0).artifacts["onnx"].url
    opened.close()
    return Path(url.removeprefix("file://"))


@pytest.mark.ci
def test_evaluate_hands_a_file_over_to_its_task(searched: Path) -> None:
    done = command(searched, "evaluate", model_of(searched), "--data", "photos-valid", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["model", "task", "data", "psnr_frames", "flicker"]
    (_, _, values, _, _), *_ = results(searched)
    assert {name: found[name] for name in ("psnr_frames", "flicker")} == {
        name: values[name] for name in ("psnr_frames", "flicker")
    }
    table = command(
        searched, "evaluate", model_of(searched), "--data", "photos-valid", "--metrics", "flicker"
    )
    assert "denoise-sequence" in table.stdout
    assert "psnr_frames" not in table.stdout


@pytest.mark.ci
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["upscale", "FILE", "photo.png", "-o", "out"],
            "is a model of the task 'denoise-sequence', not one that",
        ),
        (
            ["evaluate", "FILE", "--data", "photos-valid", "--scale", "3"],
            "which enlarges nothing. Leave --scale out.",
        ),
        (
            ["evaluate", "FILE", "--data", "photos-valid", "--metrics", "psnr_y"],
            "does not measure 'psnr_y'",
        ),
    ],
)
def test_what_is_not_for_it_is_refused_in_one_sentence(
    arguments: list[str], said: str, searched: Path
) -> None:
    done = command(
        searched, *[str(model_of(searched)) if word == "FILE" else word for word in arguments]
    )
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.ci
def test_the_report_shows_its_frames(searched: Path) -> None:
    done = command(searched, "report", "sequences", "-o", "report.json", "--images", 1)
    assert done.returncode == 0, done.stderr
    found = json.loads((searched / "report.json").read_text())
    (row,) = found["images"]["rows"]
    assert [piece["what"] for piece in row["pieces"]][:3] == [
        "clean",
        "noisy",
        f"trial {found['images']['models'][0]}",
    ]
    assert row["pieces"][2]["image"].startswith("data:image/")
    assert "The last frame of each sequence." in report_page(searched)


def report_page(place: Path) -> str:
    """Give the report as a page."""
    assert command(place, "report", "sequences", "-o", "report.html").returncode == 0
    return (place / "report.html").read_text()


def test_without_its_task_a_file_is_named_for_what_it_is(searched: Path) -> None:
    from automl_sr.cli.evaluate import evaluate
    from automl_sr.errors import UseError

    with pytest.raises(
        UseError, match="is a model of the task 'denoise-sequence', which is not installed"
    ):
        evaluate(str(model_of(searched)), "photos-valid")


def test_it_is_quantized_on_states_that_come_from_running_it(
    searched: Path, tmp_path: Path
) -> None:
    task = toys.SequenceDenoising()
    data = task.load(0)
    runner = OnnxModel(model_of(searched))
    feeds = task.calibration(data.train, runner, 16, 0)
    assert any(feed["state"].any() for feed in feeds)
    ranges = {
        name: {"rmin": low, "rmax": high} for name, (low, high) in task.interface().ranges.items()
    }
    made = quantize_static(runner.path, feeds, tmp_path / "int8.onnx", overrides=ranges)
    before, after = (
        task.measure_quality(model, data, task.metrics) for model in (runner, OnnxModel(made.path))
    )
    assert after["psnr_frames"] != before["psnr_frames"]
    assert after["psnr_frames"] > before["psnr_frames"] - 1


def test_a_metric_that_compares_with_a_reference_net_is_refused_in_the_study_file() -> None:
    with pytest.raises(
        StudyFileError, match=r"study\.yaml:4: .* has no reference net, with which 'latency_ratio'"
    ):
        parse_study(
            STUDY.replace("[psnr_frames, params]", "[latency_ratio]"),
            "study.yaml",
            sequence_registry(),
        )


def test_quality_of_super_resolution_is_refused_in_the_study_file() -> None:
    with pytest.raises(
        StudyFileError, match="the task 'denoise-sequence' does not measure 'psnr_y'"
    ):
        parse_study(STUDY.replace("flicker,", "psnr_y,"), "study.yaml", sequence_registry())


def test_what_the_task_fixes_is_neither_searched_nor_taken_from_the_study_file() -> None:
    space = parse_study(STUDY.split("space:")[0], "study.yaml", sequence_registry()).space_request
    (recipe,) = (slot for slot in space if slot.slot == "recipe")
    fixed = {
        field.name: field.domain
        for field in recipe.options[0].fields
        if field.name in ("patch", "loss")
    }
    assert {name: domain.value for name, domain in fixed.items()} == dict(
        toys.SequenceDenoising.fixes
    )
    with pytest.raises(StudyFileError, match="the task 'denoise-sequence' fixes 'patch' at 16"):
        parse_study(STUDY.replace("batch: 4", "patch: 24"), "study.yaml", sequence_registry())
