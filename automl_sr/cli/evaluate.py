"""`automl-sr evaluate`: the quality of a shipped model, or of bicubic enlargement, on a named set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_sr.errors import UseError
from automl_sr.evaluation.guard import MOST_THREADS, SECONDS, Guard
from automl_sr.presentation.console import print_json, print_table
from automl_sr.presentation.numbers import number

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.tasks.image_sr.image_model import SRModel

SCALES = (2, 3, 4)


def evaluate(
    model: Annotated[str, typer.Argument(help="ONNX file, or the word `bicubic`", metavar="MODEL|bicubic")],
    data: Annotated[str, typer.Option(help="Named set (see `automl-sr data list`) or folder of images", metavar="SET")],
    scale: Annotated[int, typer.Option(help="How many times larger: 2, 3 or 4")] = 2,
    metrics: Annotated[str, typer.Option(help="Names of quality metrics, separated by commas")] = "",
    threads: Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="Threads of ONNX Runtime")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    seconds: Annotated[float, typer.Option(help="The longest that one image may take")] = SECONDS,
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output")] = False,
) -> None:
    """Measure PSNR and SSIM of a model on a set of images.

    As the literature does: luma for psnr_y and ssim_y, `scale` pixels cut from every border, mean over the images.

    \b
    Examples:
      automl-sr evaluate bicubic --data photos-valid --scale 2
      automl-sr evaluate model.onnx --data photos-valid --json
    """
    if scale not in SCALES:
        raise UseError(f"A scale of {scale} is not supported.", "Use 2, 3 or 4.")
    chosen = _metrics(metrics)
    net = model if model == "bicubic" else _opened(model, threads, device, seconds)
    values = {"model": model, "data": data, "scale": scale, **_evaluate(net, data, scale, chosen)}
    if json:
        print_json(values)
    else:
        _print(values, chosen)


def _opened(model: str, threads: int, device: str, seconds: float) -> SRModel:
    from automl_sr.tasks.image_sr.image_model import OnnxImageModel

    return OnnxImageModel(Path(model), threads, device, Guard(seconds=seconds))


def _evaluate(model: SRModel | str, data: str, scale: int, metrics: Sequence[Metric]) -> dict[str, Any]:
    from automl_sr.data.catalog import Catalog
    from automl_sr.tasks.image_sr.image_model import evaluate_pairs
    from automl_sr.tasks.image_sr.samples import load_pairs

    pairs = load_pairs(Catalog.from_environment().find(data), scale)
    values = evaluate_pairs(model, pairs, scale, metrics)
    rows = values.pop("per_image")
    return {"images": len(rows), **values, "per_image": rows}


def _metrics(names: str) -> list[Metric]:
    from automl_sr.plugin.registry import installed
    from automl_sr.tasks.image_sr.task import ImageSR

    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        return [metric for metric in installed().metrics_of(ImageSR) if metric.level == "quality"]
    found = [installed().metric(name) for name in dict.fromkeys(wanted)]
    for metric in found:
        if metric.level != "quality":
            raise UseError(f"{metric.name!r} is not measured on images.", "Name quality metrics, such as psnr_y.")
    return found


def _print(values: dict[str, Any], metrics: Sequence[Metric]) -> None:
    columns = [f"{metric.name} ({metric.unit})" if metric.unit else metric.name for metric in metrics]
    rows = [[row["name"], *[_shown(row[metric.name], metric) for metric in metrics]] for row in values["per_image"]]
    mean = ["mean", *[_shown(values[metric.name], metric) for metric in metrics]]
    title = f"{values['model']} on {values['data']}, x{values['scale']}, {values['images']} images"
    print_table(["image", *columns], [*rows, mean], title=title, right=columns)


def _shown(value: float, metric: Metric) -> str:
    """Two decimals for dB, four for similarities: as published tables print them."""
    if metric.unit == "dB":
        return f"{value:.2f}"
    return f"{value:.4f}" if abs(value) <= 1 else number(value)
