"""A study that trained for real: pictures and scores come from its own files, and their loss spoils
nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import skimage.data
from PIL import Image

from automl_sr.plugin.registry import installed
from automl_sr.report.collect import collect
from automl_sr.report.markdown import markdown
from automl_sr.report.page import page
from automl_sr.search.engine import Options, search
from automl_sr.store.reading import Reader
from automl_sr.study.spec import parse_study

pytestmark = pytest.mark.timeout(300)
STUDY = """
name: real
task: {{kind: image-sr, scale: 2, train: {folder}/train, valid: {folder}/valid}}
objectives: [psnr_y, latency_ratio]
device: {{input: [32, 32]}}
budget: {{trials: 2, steps: 30}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  architecture: {{espcn: {{width: [8, 16]}}}}
  recipe: {{batch: 8, patch: 16, precision: fp32}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("real")
    for part, name in (
        ("train", "chelsea"),
        ("train", "coffee"),
        ("valid", "astronaut"),
        ("valid", "rocket"),
    ):
        (made / part).mkdir(exist_ok=True)
        Image.fromarray(getattr(skimage.data, name)()[100:260, 100:260]).save(
            made / part / f"{name}.png"
        )
    loaded = parse_study(STUDY.format(folder=made), "study.yaml", installed())
    end = search(
        loaded,
        installed(),
        Options(store=f"sqlite:///{made}/store.db", artifacts=str(made / "artifacts")),
    )
    assert end.summary["trials"]["complete"] == 2
    return made


def report(folder: Path, **options: Any) -> dict[str, Any]:
    return collect(Reader.open(f"sqlite:///{folder}/store.db"), "real", installed(), **options)


def test_pictures_come_from_the_models_as_exported(folder: Path) -> None:
    found = report(folder)
    images = found["images"]
    assert [row["name"] for row in images["rows"]] == ["astronaut", "rocket"]
    for piece in range(2, 2 + len(images["models"])):
        pieces = [row["pieces"][piece] for row in images["rows"]]
        [member] = [row for row in found["front"] if row["number"] == pieces[0]["number"]]
        mean = sum(piece["psnr_y"] for piece in pieces) / len(pieces)
        assert mean == pytest.approx(member["values"]["psnr_y"], abs=1e-6), (
            "what the search measured, image by image"
        )
    bicubic = sum(row["pieces"][1]["psnr_y"] for row in images["rows"]) / 2
    assert bicubic == pytest.approx(found["study"]["reference"]["psnr_y"])
    assert page(found).count("<img ") == 2 * (2 + len(images["models"]))


def test_the_efficiency_score_is_that_of_the_files(folder: Path) -> None:
    found = report(folder, images=0)
    score = found["efficiency"]
    assert score["baseline"]["number"] == 0
    params = {row["number"]: row["costs"]["params"] for row in found["trials"]}
    for row in score["rows"]:
        assert row["params"] == params[row["number"]]
        assert row["ratios"]["params"] == row["params"] / params[0]
        member = next(member for member in found["front"] if member["number"] == row["number"])
        assert row["passes"] == (member["values"]["psnr_y"] >= score["floor"])
    assert [row["score"] for row in score["rows"] if row["number"] == 0] in (
        [],
        [pytest.approx(7.3891, abs=5e-5)],
    )


def test_the_nets_of_the_front_are_drawn_in_folded_sections(folder: Path) -> None:
    found = report(folder, images=0)
    rows = found["nets"]["rows"]
    assert sorted(number for row in rows for number in row["trials"]) == sorted(
        member["number"] for member in found["front"]
    )
    text = page(found)
    for row in rows:
        assert row["caption"].startswith("4 layers, ")
        assert f"<details><summary>Trial {row['trials'][0]}: {row['caption']}</summary>" in text
        assert row["svg"] in text
    assert "Conv 5×5 · tanh" in text
    # A page's policy allows its own style alone, which has to know drawings.
    assert ".net .shape" in text.split("</style>")[0]
    assert "Conv 5×5 · tanh, 1 → " in markdown(found)


def test_fewer_pictures_can_be_asked_for(folder: Path) -> None:
    assert len(report(folder, images=1)["images"]["rows"]) == 1
    assert report(folder, images=0)["images"] == {"reason": "No images were asked for."}


def test_lost_images_and_files_are_told_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = folder / "valid"
    hidden.rename(folder / "elsewhere")
    try:
        assert "There is no image set" in report(folder)["images"]["reason"]
    finally:
        (folder / "elsewhere").rename(hidden)
    models = list((folder / "artifacts").rglob("model.onnx"))
    contents = {path: path.read_bytes() for path in models}
    try:
        for path in models:
            path.write_bytes(b"not a model")
        found = report(folder)
        assert "content has changed" in found["images"]["reason"]
        assert "content has changed" in found["efficiency"]["reason"]
        for path in models:
            path.unlink()
        found = report(folder)
        assert "is gone" in found["images"]["reason"]
        assert "There are no pictures: The stored file" in page(found)
    finally:
        for path, content in contents.items():
            path.write_bytes(content)
