"""`automl-sr evaluate`: the quality of a shipped model, or of bicubic enlargement, on a named
set.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_sr.cli.checkpoint import Asked, export_checkpoint
from automl_sr.errors import UseError
from automl_sr.evaluation.guard import MOST_THREADS, SECONDS, Guard
from automl_sr.presentation.console import print_json, print_table
from automl_sr.presentation.numbers import number

if TYPE_CHECKING:
    from automl_sr.evaluation.runtime import OnnxModel
    from automl_sr.plugin.metric import Metric
    from automl_sr.plugin.task import Task
    from automl_sr.tasks.image_sr.image_model import SRModel

SCALES = (2, 3, 4)


def evaluate(  # noqa: PLR0913, PLR0917 - one for each option
    model: Annotated[
        str,
        typer.Argument(
            help="ONNX file, checkpoint (.safetensors, .pth, .pt), or the word `bicubic`",
            metavar="MODEL|bicubic",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Named set (see `automl-sr data list`) or folder of images", metavar="SET"
        ),
    ],
    scale: Annotated[
        int | None,
        typer.Option(help="How many times larger: 2 (unless said), 3 or 4; super-resolution alone"),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(help="Which net a checkpoint of others holds", metavar="NAME"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A field of that net, where its file does not tell", metavar="FIELD=VALUE"
        ),
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="Names of quality metrics, separated by commas")
    ] = "",
    threads: Annotated[
        int, typer.Option(min=1, max=MOST_THREADS, help="Threads of ONNX Runtime")
    ] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    seconds: Annotated[float, typer.Option(help="The longest that one image may take")] = SECONDS,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
) -> None:
    """Measure PSNR and SSIM of a model on a set of images.

    As the literature does: luma for psnr_y and ssim_y, `scale` pixels cut from every border, mean
    over the images. A model of another task, as its file says, is measured by that task where it is
    installed. A checkpoint is exported first, so that it is measured as shipped models are: the
    model.safetensors of a trial, or a published one, of which the architecture is named.

    \b
    Examples:
      automl-sr evaluate bicubic --data photos-valid --scale 2
      automl-sr evaluate model.onnx --data photos-valid --json
      automl-sr evaluate carn_m.pth --architecture carn_m --scale 4 --data photos-valid
    """
    if scale is not None and scale not in SCALES:
        raise UseError(f"A scale of {scale} is not supported.", "Use 2, 3 or 4.")
    asked = Asked(architecture, tuple(settings or ()), scale)
    with tempfile.TemporaryDirectory(prefix="automl-sr-") as folder:
        path, about = _file_of(model, asked, Path(folder))
        opened = _opened(path, threads, device, seconds)
        values, chosen = _measured(model, opened, data, scale, metrics)
        if opened is not None:
            opened.close()
    values |= about
    if json:
        print_json(values)
    elif "per_image" in values:
        _print(values, chosen)
    else:
        _print_whole(values, chosen, title=f"{model} ({values['task']}) on {data}")


def _file_of(model: str, asked: Asked, folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return the ONNX file to measure, if any, and what is to be said of its net.

    Raises UseError for a checkpoint that is none, or of another net.
    """
    from automl_sr.plugin.registry import installed
    from automl_sr.plugin.weights import ENDINGS

    if Path(model).suffix in ENDINGS:
        found = export_checkpoint(Path(model), asked, installed(), folder)
        return found.path, {"net": found.about()}
    if asked.architecture is not None or asked.fields:
        raise UseError(
            f"{model} is no checkpoint: --architecture and --set say which net one holds.",
            f"Name a file that ends in {', '.join(ENDINGS)}, or leave them out.",
        )
    if model == "bicubic":
        return None, {}
    return Path(model), {}


def _opened(path: Path | None, threads: int, device: str, seconds: float) -> OnnxModel | None:
    from automl_sr.evaluation.runtime import OnnxModel

    if path is None:
        return None
    return OnnxModel(path, threads, device, Guard(seconds=seconds))


def _measured(
    model: str,
    opened: OnnxModel | None,
    data: str,
    scale: int | None,
    metrics: str,
) -> tuple[dict[str, Any], list[Metric]]:
    """Return what is printed as JSON, and the metrics that were measured."""
    from automl_sr.tasks.image_sr.task import ImageSR

    values: dict[str, Any] = {"model": model}
    if opened is not None:
        # Files of other programs do not say it: they are taken for image models.
        kind = opened.metadata.get("task", ImageSR.kind)
        if kind != ImageSR.kind:
            cls = _task_of(model, kind, scale)
            chosen = _metrics(metrics, cls)
            values |= {"task": kind, "data": data}
            values |= _by_task(cls, opened, data, chosen)
            return values, chosen

    chosen = _metrics(metrics, ImageSR)
    net: SRModel | str = "bicubic"
    if opened is not None:
        net = _image_model(opened)
    scale = scale or SCALES[0]
    values |= {"data": data, "scale": scale}
    values |= _evaluate(net, data, scale, chosen)
    return values, chosen


def _task_of(model: str, kind: str, scale: int | None) -> type[Task]:
    """Find the task of a model.

    Raises UseError where it is not installed, or where a scale was asked for.
    """
    from automl_sr.plugin.registry import installed

    known = installed().tasks
    if kind not in known:
        raise UseError(
            f"{model} is a model of the task {kind[:40]!r}, which is not installed.",
            f"Install its plugin; there are: {', '.join(sorted(known))}.",
        )
    if scale is not None:
        raise UseError(
            f"{model} is a model of the task {kind!r}, which enlarges nothing.",
            "Leave --scale out.",
        )
    return known[kind]


def _by_task(
    cls: type[Task], opened: OnnxModel, data: str, metrics: Sequence[Metric]
) -> dict[str, float]:
    """Let the task that a file names measure it on a named set. Raises DataError."""
    from automl_sr.plugin.task import NoSamples, TaskData

    task = cls.of_file(opened.metadata)
    return dict(task.measure_quality(opened, TaskData(NoSamples(), task.load_test(data)), metrics))


def _image_model(opened: OnnxModel) -> SRModel:
    from automl_sr.tasks.image_sr.image_model import OnnxImageModel

    # With the session that is open already: the file is not loaded twice.
    return OnnxImageModel(
        opened.path,
        opened.threads,
        opened.provider,
        session=opened.session,
    )


def _evaluate(
    model: SRModel | str, data: str, scale: int, metrics: Sequence[Metric]
) -> dict[str, Any]:
    from automl_sr.data.catalog import Catalog
    from automl_sr.tasks.image_sr.image_model import evaluate_pairs
    from automl_sr.tasks.image_sr.samples import load_pairs

    pairs = load_pairs(Catalog.from_environment().find(data), scale)
    values = evaluate_pairs(model, pairs, scale, metrics)
    rows = values.pop("per_image")
    return {"images": len(rows), **values, "per_image": rows}


def _metrics(names: str, task: type[Task]) -> list[Metric]:
    """Return the metrics that are asked for, or all that a task can be measured by.

    Raises UseError.
    """
    from automl_sr.plugin.registry import installed

    registry = installed()
    wanted: dict[str, None] = {}  # a set that keeps the order
    for name in names.split(","):
        if name.strip():
            wanted[name.strip()] = None
    usable = [metric for metric in registry.metrics_of(task) if metric.level == "quality"]
    if not wanted:
        return usable
    # All are looked up before one is judged: a mistyped name is told first.
    found = list(map(registry.metric, wanted))
    for metric in found:
        if metric.level != "quality":
            raise UseError(
                f"{metric.name!r} is not measured on images.",
                "Name quality metrics, such as psnr_y.",
            )
        reason = registry.why_not(metric, task)
        if reason is not None:
            raise UseError(
                f"{reason[0].upper()}{reason[1:]}.",
                f"Metrics: {', '.join(item.name for item in usable)}.",
            )
    return found


def _print(values: dict[str, Any], metrics: Sequence[Metric]) -> None:
    columns = []
    for metric in metrics:
        if metric.unit:
            columns.append(f"{metric.name} ({metric.unit})")
        else:
            columns.append(metric.name)
    rows = []
    for row in values["per_image"]:
        rows.append([row["name"], *_cells(row, metrics)])
    rows.append(["mean", *_cells(values, metrics)])
    title = f"{values['model']} on {values['data']}, x{values['scale']}, {values['images']} images"
    print_table(["image", *columns], rows, title=title, right=columns)


def _print_whole(
    values: dict[str, Any],
    metrics: Sequence[Metric],
    title: str,
) -> None:
    """Print what another task measured: its values are those of the set, not of single images."""
    rows = []
    for metric in metrics:
        rows.append([metric.name, _shown(values[metric.name], metric), metric.unit])
    print_table(["metric", "value", "unit"], rows, title=title, right=["value"])


def _cells(values: dict[str, Any], metrics: Sequence[Metric]) -> list[str]:
    return [_shown(values[metric.name], metric) for metric in metrics]


def _shown(value: float, metric: Metric) -> str:
    """Return a value as published tables print it: two decimals for dB, four for similarities."""
    if metric.unit == "dB":
        return f"{value:.2f}"
    if abs(value) <= 1:
        return f"{value:.4f}"
    return number(value)
