"""The examples of the page for plugin authors work, keep to the contracts, and are quoted as they
are.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import masked_psnr
import noise_removal
import numpy as np
import pytest
from PIL import Image

from automl_sr.data.catalog import ImageSet
from automl_sr.plugin.registry import discover
from automl_sr.tasks.image_sr.image_model import evaluate_pairs
from automl_sr.tasks.image_sr.samples import load_pairs
from automl_sr.testing import MetricContract, TaskContract
from automl_sr.testing.metrics import photograph
from automl_sr.testing.observing import heavy_imports_of
from automl_sr.testing.tiny import TinyNet

DOCS = Path(__file__).resolve().parent.parent / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
PAGE = (DOCS / "plugins.md").read_text(encoding="utf-8")
QUOTES = re.findall(
    r"^From \[[^]]+\]\((examples/\w+\.py)\):\n\n```python\n(.*?)```",
    PAGE,
    flags=re.DOTALL | re.MULTILINE,
)


class TestPsnrMasked(MetricContract):
    metric = masked_psnr.PSNR_MASKED


class TestNoiseRemoval(TaskContract):
    task = noise_removal.NoiseRemoval()
    architecture = TinyNet()
    test_set = "photos-valid"


def test_the_mask_beside_an_image_says_where_it_counts(tmp_path: Path) -> None:
    truth = photograph()
    Image.fromarray(truth).save(tmp_path / "a.png")
    mask = np.zeros(truth.shape[:2], np.uint8)
    whole = measured(tmp_path)
    for place in ((slice(None), slice(0, 40)), (slice(None), slice(40, None))):
        Image.fromarray(np.where(marked(mask, place), 255, 0).astype(np.uint8)).save(
            tmp_path / "a-mask.png"
        )
        assert measured(tmp_path) != whole


def marked(mask: Any, place: Any) -> Any:
    found = mask.astype(bool)
    found[place] = True
    return found


def measured(folder: Path) -> float:
    pairs = load_pairs(ImageSet("one", (folder / "a.png",)), 2)
    return float(evaluate_pairs("bicubic", pairs, 2, [masked_psnr.PSNR_MASKED])["psnr_masked"])


# example_nets.py holds the nets of the others.
@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES if path.stem != "example_nets"])
def test_an_example_is_a_plugin_that_is_listed_fast(name: str) -> None:
    assert discover(plugins=[importlib.import_module(name)]).unavailable == discover().unavailable
    assert heavy_imports_of(name) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_imports_nothing_of_core_but_its_api(path: Path) -> None:
    imported = re.findall(
        r"^\s*(?:from|import) (automl_sr[\w.]*)", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(imported) <= {"automl_sr.api"}


def test_the_page_quotes_every_example() -> None:
    assert {name for name, _ in QUOTES} == {f"examples/{path.name}" for path in EXAMPLES}


@pytest.mark.parametrize(("name", "quoted"), QUOTES, ids=[name for name, _ in QUOTES])
def test_what_the_page_quotes_stands_in_the_file(name: str, quoted: str) -> None:
    """Line by line; three dots stand for what is left out."""
    source = (DOCS / name).read_text(encoding="utf-8")
    at = 0
    for part in re.split(r"^ *\.\.\.\n", quoted, flags=re.MULTILINE):
        found = source.find(part, at)
        assert found >= 0, part
        at = found + len(part)
