"""Published checkpoints fill our nets to the last tensor, and give the published quality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from folders import shipped_sets

from automl_sr.cli.checkpoint import Asked, export_checkpoint
from automl_sr.plugin.registry import installed
from automl_sr.tasks.image_sr.image_model import OnnxImageModel, evaluate_pairs
from automl_sr.tasks.image_sr.metrics import IMAGE_METRICS
from automl_sr.tasks.image_sr.samples import load_pairs

pytestmark = pytest.mark.ci


@dataclass(frozen=True)
class Checkpoint:
    """A file of the folder `weights`, and what it gives on Set5 by that folder's own page."""

    file: str
    net: str
    scale: int
    psnr_y: float
    fields: dict[str, object]

    def __str__(self) -> str:
        return f"{self.net}-x{self.scale}"


CARN_M = {"width": 64, "blocks": 3, "groups": 4}
PAN = {"width": 40, "tail": 24, "blocks": 16}
BSRN = {"width": 64, "blocks": 8}
RLFN = {"width": 46, "middle": 48, "blocks": 4, "attention": 16}
SAFMN = {"width": 36, "blocks": 8, "form": "ntire"}
IMDN = {"width": 64, "blocks": 6, "skip": "none"}
CHECKPOINTS = [
    Checkpoint("imdn/IMDN_x2.pth", "imdn", 2, 38.00, IMDN),
    Checkpoint("carn/carn_m.pth", "carn_m", 2, 37.68, CARN_M),
    Checkpoint("carn/carn_m.pth", "carn_m", 3, 34.06, CARN_M),
    Checkpoint("carn/carn_m.pth", "carn_m", 4, 31.88, CARN_M),
    Checkpoint("pan/PANx2_DF2K.pth", "pan", 2, 38.00, PAN),
    Checkpoint("pan/PANx4_DF2K.pth", "pan", 4, 32.13, PAN),
    Checkpoint("bsrn/net_g_BSRN_x2.pth", "bsrn", 2, 38.08, BSRN),
    Checkpoint("bsrn/net_g_BSRN_x4.pth", "bsrn", 4, 32.35, BSRN),
    Checkpoint("rlfn/rlfn_ntire_x4.pth", "rlfn", 4, 32.10, RLFN),
    Checkpoint("safmn/team15_SAFMN.pth", "safmn", 4, 32.17, SAFMN),
]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=str)
def test_it_gives_what_its_authors_published_on_set5(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shipped_sets()
    path = data / "weights" / checkpoint.file
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    monkeypatch.setenv("AUTOML_SR_DATA", str(data))
    from automl_sr.data.catalog import Catalog

    asked = Asked(checkpoint.net, scale=checkpoint.scale)
    exported = export_checkpoint(path, asked, installed(), tmp_path)
    shape = {"channels": 3, "scale": checkpoint.scale}
    assert exported.blueprint.fields == {**checkpoint.fields, **shape}
    pairs = load_pairs(Catalog.from_environment().find("Set5"), checkpoint.scale)
    psnr = [metric for metric in IMAGE_METRICS if metric.name == "psnr_y"]
    found = evaluate_pairs(OnnxImageModel(exported.path), pairs, checkpoint.scale, psnr)
    assert found["psnr_y"] == pytest.approx(checkpoint.psnr_y, abs=0.02)
