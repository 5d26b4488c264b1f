"""`automl-sr export`: one trial's model as a folder, with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automl_sr.errors import DataError, UseError, first_line
from automl_sr.files import whole_folder
from automl_sr.presentation.console import print_json, print_lines, warn
from automl_sr.presentation.model_card import CARD, FILES, card, model_files

UNPACKED = "model-unpacked.onnx"
DRAWING = "model.svg"

if TYPE_CHECKING:
    from automl_sr.store.reading import Reader
    from automl_sr.store.records import StudyRecord, TrialRecord
    from automl_sr.store.refinements import RefinementRecord


def export(
    name: Annotated[str, typer.Argument(help="Name of the study", metavar="NAME")],
    trial: Annotated[int, typer.Argument(help="Number of the trial", metavar="NUMBER")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make", metavar="DIR")],
    refined: Annotated[
        bool, typer.Option("--refined", help="The trial's newest refinement instead")
    ] = False,
    unpacked: Annotated[
        bool,
        typer.Option("--unpacked", help="Where weights are packed, write them in plain float too"),
    ] = False,
    store: Annotated[
        str | None, typer.Option(help="Database; default: AUTOML_SR_STORE", metavar="URL")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
) -> None:
    """Write a trial's model.onnx, model.safetensors and model card to a new folder, all or nothing.

    model.svg is a drawing of the net.

    \b
    Examples:
      automl-sr export quickstart 7 -o my-model
      automl-sr export quickstart 7 --refined -o my-model
      automl-sr export quickstart 7 --unpacked -o my-model
    """
    from automl_sr.store.reading import Reader

    opened = Reader.open(store)
    study = opened.study(name)
    found = opened.trial(study, trial)
    chosen = None
    if refined:
        chosen = newest(opened, study, found)
    written = write_folder(study, found, output, chosen, unpacked=unpacked)
    if json:
        print_json({"study": name, "number": trial, "folder": str(output), "files": written})
        return
    print_lines(f"{output}: {', '.join(written)}")
    if unpacked and UNPACKED not in written:
        print_lines(f"Nothing is packed in {FILES['onnx']}: there is no need for {UNPACKED}.")


def newest(
    opened: Reader,
    study: StudyRecord,
    trial: TrialRecord,
) -> RefinementRecord:
    """Return the refinement of a trial that was completed last.

    Raises UseError where there is none.
    """
    from automl_sr.store.refinements import refinements

    complete = []
    for row in refinements(opened, study, trial.number):
        if row.state == "complete":
            complete.append(row)
    if not complete:
        raise UseError(
            f"Trial {trial.number} of {study.name!r} was not refined.",
            f"Refine it with: automl-sr refine {study.name} --trials {trial.number}",
        )
    return max(complete, key=lambda row: row.finished or 0.0)


def write_folder(
    study: StudyRecord,
    trial: TrialRecord,
    target: Path,
    refined: RefinementRecord | None = None,
    *,
    unpacked: bool = False,
) -> list[str]:
    """Write the folder of a model, whole or not at all, and return the names of its files.
    `unpacked`: a model whose weights are packed is there in plain float as well. Raises UseError
    for a trial without a model or a folder that holds something, StoreError for files that are
    gone.
    """
    files = model_files(study, trial, refined)
    from automl_sr.store.artifacts import fetch

    with whole_folder(target) as scratch:
        for kind, file in FILES.items():
            if kind in files:
                fetch(files[kind], scratch / file)
        if unpacked:
            _unpack(scratch / FILES["onnx"], scratch / UNPACKED)
        draw(scratch / FILES["onnx"], scratch / DRAWING)
        (scratch / CARD).write_text(card(study, trial, refined), encoding="utf-8")
        return sorted(path.name for path in scratch.iterdir())


def draw(model: Path, target: Path) -> None:
    """Draw the net; a file that cannot be drawn is a model all the same, and it is said why."""
    from automl_sr.presentation.drawing import net_drawing

    try:
        target.write_text(net_drawing(model, model.name).file(), encoding="utf-8")
    except DataError as error:
        warn(f"There is no {DRAWING}: {first_line(error)}")


def _unpack(packed: Path, target: Path) -> None:
    from automl_sr.compression.packing import is_packed, unpack_weights

    if is_packed(packed):
        unpack_weights(packed, target)
