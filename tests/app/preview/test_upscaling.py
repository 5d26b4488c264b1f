"""Previews show what `automl-sr evaluate` measures and what `automl-sr upscale` writes; one broken
model stops none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from nets import IMAGE_AXES, Espcn, Fsrcnn, seeded
from onnx_files import endless
from photos import photo

from automl_sr.app.preview import upscaling
from automl_sr.app.preview.pictures import Subject, as_original, chosen, sets_of, to_upscale
from automl_sr.app.preview.upscaling import Result, upscaled
from automl_sr.app.server.background import Stopped
from automl_sr.compression.export import export_onnx
from automl_sr.data.images import Picture, to_rgb8
from automl_sr.presentation.stored_models import StoredModels
from automl_sr.store.records import ArtifactRecord, TrialRecord
from automl_sr.tasks.image_sr.image_model import OnnxImageModel, evaluate_pairs
from automl_sr.tasks.image_sr.task import ImageSR
from automl_sr.tasks.image_sr.upscale import Upscaler


def trial(number: int, path: Path | None) -> TrialRecord:
    files = {}
    if path is not None:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files = {"onnx": ArtifactRecord("onnx", str(path), digest, path.stat().st_size)}
    return cast("TrialRecord", SimpleNamespace(number=number, artifacts=files))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A net on luma, one on RGB, and one of another scale."""
    folder = tmp_path_factory.mktemp("models")
    made = {"y": (Espcn, 1, {}), "rgb": (Fsrcnn, 3, {}), "x3": (Espcn, 1, {"scale": 3})}
    for name, (kind, channels, fields) in made.items():
        example = (torch.rand(1, channels, 12, 14),)
        export_onnx(
            seeded(cast("Any", kind), **fields),
            folder / f"{name}.onnx",
            example,
            dynamic_axes=IMAGE_AXES,
        )
    return {name: folder / f"{name}.onnx" for name in made}


@pytest.fixture
def models() -> Iterator[StoredModels]:
    with StoredModels() as opened:
        yield opened


def ignore(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def run(subject: Subject, trials: list[TrialRecord], models: StoredModels) -> dict[str, Result]:
    return {result.key: result for result in upscaled(subject, trials, models, ignore)}


def test_values_are_those_of_evaluate(files: dict[str, Path], models: StoredModels) -> None:
    sets = sets_of(ImageSR(train="photos-train", valid="photos-valid"), "valid", 0)
    subject = chosen(sets, "0/0", 2, "cut")
    results = run(subject, [trial(1, files["y"]), trial(2, files["rgb"])], models)
    assert list(results) == ["original", "bicubic", "1", "2"]
    pair: Any = SimpleNamespace(name="chelsea", lr=subject.lr, hr=subject.original, path=None)
    for key, net in (
        ("bicubic", "bicubic"),
        ("1", OnnxImageModel(files["y"])),
        ("2", OnnxImageModel(files["rgb"])),
    ):
        expected = evaluate_pairs(cast("Any", net), [pair], 2)
        assert results[key].psnr_y == pytest.approx(expected["psnr_y"], abs=1e-9)
        assert results[key].ssim_y == pytest.approx(expected["ssim_y"], abs=1e-9)
        assert results[key].seconds is not None
        image = results[key].image
        assert image is not None
        assert image.shape == subject.original.shape  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["y", "rgb"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_without_an_original_are_those_of_upscale(
    kind: str, channels: int, files: dict[str, Path], models: StoredModels
) -> None:
    picture = Picture(photo()[:, :, :channels])
    results = run(to_upscale("a", picture, 2, "cut"), [trial(1, files[kind])], models)
    assert list(results) == ["bicubic", "1"]
    assert results["1"].psnr_y is None
    expected = to_rgb8(Upscaler(OnnxImageModel(files[kind]))(picture))
    assert (results["1"].image == expected).all()


def test_tiles_are_told_and_end_the_work(
    files: dict[str, Path], models: StoredModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upscaling, "TILE", 64)
    told: list[tuple[str, int, int]] = []

    def watch(*place: Any) -> None:
        told.append(place)
        if place[0] == "trial 1" and place[1] == 2:
            raise Stopped

    subject = to_upscale("a", Picture(photo()), 2, "cut")
    found = []
    with pytest.raises(Stopped):
        found.extend(upscaled(subject, [trial(1, files["y"]), trial(2, files["y"])], models, watch))
    assert told[0] == ("bicubic", 0, 1)
    assert told[-1][:2] == ("trial 1", 2)
    assert told[-1][2] > 2


def test_a_model_without_an_end_is_ended_when_nobody_listens(
    models: StoredModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upscaling, "LOOK_SECONDS", 0.0)
    told: list[tuple[str, int, int]] = []

    def watch(*place: Any) -> None:
        told.append(place)
        if told.count(("trial 1", 0, 1)) > 2:
            raise Stopped

    subject = to_upscale("a", Picture(photo()), 2, "cut")
    results = upscaled(subject, [trial(1, endless(tmp_path / "loop.onnx"))], models, watch)
    assert next(results).key == "bicubic"
    with pytest.raises(Stopped):
        next(results)


def test_a_broken_model_gives_a_sentence_and_the_others_run(
    files: dict[str, Path], models: StoredModels, tmp_path: Path
) -> None:
    garbage, changed, gone = (tmp_path / f"{name}.onnx" for name in ("garbage", "changed", "gone"))
    garbage.write_bytes(b"no model")
    changed.write_bytes(files["y"].read_bytes())
    gone.write_bytes(b"")
    trials = [
        trial(1, garbage),
        trial(2, changed),
        trial(3, gone),
        trial(4, files["x3"]),
        trial(5, None),
    ]
    changed.write_bytes(changed.read_bytes() + b" ")
    gone.unlink()
    results = run(
        as_original("a", Picture(photo()), 2, "cut"), [*trials, trial(6, files["y"])], models
    )
    assert results["1"].error.startswith("Its ONNX file is no ONNX model")
    assert "content has changed" in results["2"].error
    assert "is gone" in results["3"].error
    assert "enlarges 3 times, not 2 times" in results["4"].error
    assert "left no ONNX file" in results["5"].error
    assert all(results[str(number)].image is None for number in range(1, 6))
    assert results["6"].error == ""
    assert results["6"].image is not None


def test_equal_pictures_have_infinite_psnr_in_words() -> None:
    from automl_sr.app.preview.viewer import words

    assert words(Result("a", "a", np.zeros((2, 2, 3), np.uint8), float("inf"), 1.0, 0.0123)) == (
        "PSNR-Y infinite, SSIM-Y 1.0000, 12 ms"
    )
