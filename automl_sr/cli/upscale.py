"""`automl-sr upscale`: enlarge image files with a shipped model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automl_sr.evaluation.guard import MOST_THREADS, SECONDS, Guard
from automl_sr.presentation.console import note, print_json, print_lines, warn

if TYPE_CHECKING:
    from automl_sr.tasks.image_sr.upscale import Enlarged


def upscale(
    model: Annotated[Path, typer.Argument(help="ONNX file")],
    images: Annotated[
        list[Path], typer.Argument(help="Image files, or folders of them", metavar="IMAGE...")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the results", metavar="DIR")
    ],
    tile: Annotated[
        int | None, typer.Option(min=1, help="Side of a tile in input pixels; chosen from memory")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, max=MOST_THREADS, help="Threads of ONNX Runtime")
    ] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    seconds: Annotated[float, typer.Option(help="The longest that one tile may take")] = SECONDS,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
) -> None:
    """Enlarge images of any size, in tiles without seams.

    Grey, 16 bit, transparency and colour profile are kept. NAME.png becomes DIR/NAME_x2.png. PNG,
    TIFF and WebP keep their format, others become PNG. A file that cannot be read is skipped with
    its reason; the exit code is then 1.

    \b
    Examples:
      automl-sr upscale model.onnx photo.jpg -o enlarged
      automl-sr upscale model.onnx folder-of-images -o enlarged --tile 256
    """
    from automl_sr.tasks.image_sr.image_model import OnnxImageModel
    from automl_sr.tasks.image_sr.upscale import Upscaler, expand, upscale_files

    upscaler = Upscaler(OnnxImageModel(model, threads, device, Guard(seconds=seconds)), tile)
    done = []
    for result in upscale_files(upscaler, expand(images), output):
        done.append(result)
        if result.output is None:
            warn(f"skipped {result.source}: {result.reason}")
        elif not json:
            print_lines(f"{result.output}  {result.width}x{result.height}")
    failed = sum(result.output is None for result in done)
    # Also where some were skipped: a script gets the rows of both, and the exit code.
    if json:
        rows = [_row(result) for result in done]
        print_json(
            {
                "model": model,
                "scale": upscaler.model.scale,
                "images": len(done) - failed,
                "files": rows,
            }
        )
    if failed:
        note(f"{failed} of {len(done)} images were skipped")
        raise typer.Exit(1)


def _row(result: Enlarged) -> dict[str, object]:
    if result.output is None:
        return {"input": result.source, "reason": result.reason}
    return {
        "input": result.source,
        "output": result.output,
        "width": result.width,
        "height": result.height,
    }
