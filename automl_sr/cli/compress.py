"""`automl-sr compress`: techniques applied to one finished model, without a search."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_sr.cli.export import DRAWING, draw, newest
from automl_sr.cli.search import known_device
from automl_sr.cli.trials import print_layers
from automl_sr.errors import UseError
from automl_sr.files import check_new_folder, whole_folder
from automl_sr.plugin.technique import Slot
from automl_sr.presentation.console import (
    note,
    print_json,
    print_lines,
    print_table,
    warn,
)
from automl_sr.presentation.evidence import COLUMNS, card, evidence_rows
from automl_sr.presentation.model_card import CARD, FILES, model_files
from automl_sr.presentation.numbers import number

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.search.compress.given import Given
    from automl_sr.search.compress.run import Compressed
    from automl_sr.space.plan import TrialPlan
    from automl_sr.trial.types import Point

EVIDENCE = "evidence.json"
SECONDS_APART = 15.0
"""So often it is said where training is."""


@dataclass(frozen=True)
class Model:
    """Which model is meant: a folder, a trial of a store, or a checkpoint of an architecture."""

    name: str | None
    number: int | None
    checkpoint: Path | None
    architecture: str | None
    fields: tuple[str, ...]
    scale: int | None
    refined: bool
    store: str | None

    def check(self) -> None:
        """Raise UseError where it is not one of them."""
        if self.checkpoint is not None:
            if self.name is not None:
                raise UseError(
                    f"{self.name} and --checkpoint both name a model.", "Leave one of them out."
                )
            return
        if self.name is None:
            raise UseError(
                "No model is named.",
                "Name a folder of `automl-sr export`, a study and the number of a trial, or"
                " --architecture NAME --checkpoint FILE.",
            )
        if self.architecture is not None or self.fields or self.scale is not None:
            raise UseError(
                "--architecture, its fields and --scale are for a checkpoint: other models say it"
                " themselves.",
                "Name one with --checkpoint, or leave them out.",
            )
        if self.number is None and self.refined:
            raise UseError("--refined is for a trial.", "Name its study and its number.")


def compress(  # noqa: PLR0913, PLR0917 - one for each option
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make", metavar="DIR")],
    model: Annotated[
        str | None,
        typer.Argument(help="Folder that export wrote, or the name of a study", metavar="DIR|NAME"),
    ] = None,
    trial: Annotated[
        int | None, typer.Argument(help="Number of the trial of a study", metavar="NUMBER")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Published weights instead (.pth, .pt, .safetensors)", metavar="FILE"),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Which net they are of", metavar="NAME")
    ] = None,
    scale: Annotated[
        int | None, typer.Option(help="How many times larger that net makes images: 2, 3 or 4")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Set or folder to train on, calibrate on and, a tenth of it, measure on;"
            " default: the study's. May be repeated",
            metavar="SET",
        ),
    ] = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(help="Set or folder to measure on instead. May be repeated", metavar="SET"),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Technique that teaches the model", metavar="NAME")
    ] = None,
    pruning: Annotated[
        str | None, typer.Option(help="Technique that prunes it", metavar="NAME")
    ] = None,
    quantization: Annotated[
        str | None, typer.Option(help="Technique that quantizes it", metavar="NAME")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A field: SLOT.TECHNIQUE.FIELD=VALUE, recipe.FIELD=VALUE, or, of"
            " --architecture, FIELD=VALUE. May be repeated",
            metavar="FIELD=VALUE",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Steps of training; default: those of the trial, or 1000; 0 where nothing chosen"
            " trains",
            metavar="N",
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate; default: the recipe's", metavar="RATE")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Input with which the files are timed; default: the study's, or 360x640",
            metavar="HxW",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of all randomness; default: the study's, or 0")
    ] = None,
    refined: Annotated[
        bool, typer.Option("--refined", help="The trial's newest refinement instead")
    ] = False,
    store: Annotated[
        str | None, typer.Option(help="Database; default: AUTOML_SR_STORE", metavar="URL")
    ] = None,
    device: Annotated[str, typer.Option(help="Where training runs: auto, cpu or cuda")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of training; default: all cores", metavar="N")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress")] = False,
) -> None:
    """Prune and quantize one finished model, with evidence of what that costs and saves.

    The model goes through what a trial goes through: it is trained for some steps with the chosen
    techniques, compressed, exported and measured as it ships, and so is the model as it was. The
    new folder holds what `export` writes, and evidence.json. Ctrl-C leaves no such folder; the work
    lies hidden beside it, and the same command goes on.

    \b
    Examples:
      automl-sr compress my-model --data photos-train --quantization int8_ptq -o my-model-int8
      automl-sr compress quickstart 7 --quantization int8_ptq --steps 0 -o smaller
      automl-sr compress --architecture imdn --checkpoint imdn_x2.pth --data photos-train \\
        --quantization int8_ptq --set quantization.int8_ptq.keep_float=none -o imdn-int8
    """
    known_device(device)
    own, others = _sorted_settings(settings or ())
    named = Model(model, trial, checkpoint, architecture, own, scale, refined, store)
    named.check()
    check_new_folder(output)
    if lr is not None:
        others = (*others, ("recipe.lr", f"{lr:.12g}"))
    from automl_sr.plugin.registry import installed
    from automl_sr.search.compress.choice import Techniques
    from automl_sr.search.compress.given import Asked
    from automl_sr.search.compress.run import Amount, working_for
    from automl_sr.search.compress.run import compress as run

    registry = installed()
    chosen = _chosen(teacher, pruning, quantization)
    Techniques(chosen, others).check()
    asked = Asked(tuple(data or ()), tuple(valid or ()), _sides(size))
    amount = Amount(steps, seed, device, threads)
    with working_for(output) as work:
        given = _given(named, asked, work / "given", registry)
        _warn_of_compressed(given)
        techniques = Techniques(chosen, others, given.recipe)
        found = run(given, techniques, amount, registry, work, _follower(quiet=quiet))
        evidence = {**found.evidence, "folder": str(output)}
        written = _write(output, found, evidence)
    if json:
        print_json({**evidence, "files": written})
        return
    _print(given, evidence, written)


def _sides(text: str | None) -> tuple[int, int] | None:
    """Return height and width of `360x640`. Raises UseError."""
    if text is None:
        return None
    words = text.lower().split("x")
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise UseError(f"--input {text} is no size.", "Write height and width: 360x640.")
    height, width = map(int, words)
    return height, width


def _chosen(teacher: str | None, pruning: str | None, quantization: str | None) -> dict[Slot, str]:
    named = {Slot.TEACHER: teacher, Slot.PRUNING: pruning, Slot.QUANTIZATION: quantization}
    chosen = {}
    for slot, name in named.items():
        if name is not None:
            chosen[slot] = name
    return chosen


def _sorted_settings(
    settings: Sequence[str],
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Tell fields of the architecture, which have no dot, from those of techniques."""
    own = []
    others = []
    for text in settings:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UseError(
                f"--set {text} names no field with a value.",
                "Write --set SLOT.TECHNIQUE.FIELD=VALUE.",
            )
        if "." in key:
            others.append((key, value))
        else:
            own.append(text)
    return tuple(own), tuple(others)


def _given(named: Model, asked: Any, folder: Path, registry: Registry) -> Given:
    """Find the model that is named, and copy to the folder what does not lie in one."""
    from automl_sr.search.compress.given import from_folder, from_trial

    if named.checkpoint is not None:
        from automl_sr.cli.checkpoint import Asked as Net
        from automl_sr.cli.checkpoint import store_checkpoint

        folder.mkdir(parents=True, exist_ok=True)
        net = Net(named.architecture, named.fields, named.scale)
        store_checkpoint(named.checkpoint, net, registry, folder)
        about = {"checkpoint": str(named.checkpoint), "architecture": named.architecture}
        return from_folder(folder, asked, registry, title=str(named.checkpoint), about=about)

    if named.number is None:
        return from_folder(Path(str(named.name)), asked, registry)

    from automl_sr.store.reading import Reader

    opened = Reader.open(named.store)
    study = opened.study(str(named.name))
    trial = opened.trial(study, named.number)
    refined = None
    if named.refined:
        refined = newest(opened, study, trial)
    files = model_files(study, trial, refined)
    opened.close()
    return from_trial(study, trial, files, folder, asked, registry)


def _warn_of_compressed(given: Given) -> None:
    """Say where the file that ships today is smaller than the weights that are compressed."""
    from automl_sr.compression.stored_weights import is_plain_float

    if given.shipped is not None and not is_plain_float(given.shipped):
        warn(
            f"{given.title} ships compressed weights already: here its float weights are"
            " compressed, and `before` is measured with these"
        )


def _write(output: Path, found: Compressed, evidence: Mapping[str, Any]) -> list[str]:
    """Write the folder of the new model, whole or not at all, and name its files."""
    import json

    from automl_sr.presentation.numbers import plain

    with whole_folder(output) as scratch:
        for kind, name in FILES.items():
            shutil.copyfile(found.files[kind], scratch / name)
        draw(scratch / FILES["onnx"], scratch / DRAWING)
        text = json.dumps(plain(evidence), indent=2)
        (scratch / EVIDENCE).write_text(f"{text}\n", encoding="utf-8")
        (scratch / CARD).write_text(card(evidence, _metrics(evidence)), encoding="utf-8")
        return sorted(path.name for path in scratch.iterdir())


def _metrics(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics that were measured, those that are not installed left out."""
    from automl_sr.plugin.registry import installed

    known = installed().metrics
    return {name: known[name] for name in evidence["after"] if name in known}


def _print(given: Given, evidence: Mapping[str, Any], written: Sequence[str]) -> None:
    rows = evidence_rows(evidence, _metrics(evidence))
    print_table(COLUMNS, rows, title=given.title, right=COLUMNS[1:])
    if evidence["layers"] is not None:
        print_layers(evidence["layers"])
    for text in evidence["notes"]:
        print_lines(text)
    print_lines(f"{evidence['folder']}: {', '.join(written)}")


def _follower(*, quiet: bool) -> Any:
    """Return who follows the work, on standard error."""
    from automl_sr.search.compress.run import CompressCallback

    if quiet:
        return CompressCallback()

    class Lines(CompressCallback):
        """One line for each thing that happens, as logs want it."""

        def __init__(self, show: Callable[[str], None]) -> None:
            self._show = show
            self._said = time.monotonic()
            self._stage = ""

        def began(self, plan: TrialPlan, steps: int, *, goes_on: bool) -> None:
            words = []
            for slot in (Slot.TEACHER, Slot.PRUNING, Slot.QUANTIZATION):
                technique = plan.techniques.get(slot)
                if technique is not None and technique.name != "none":
                    words.append(f"{slot.value} {technique.name}")
            again = ""
            if goes_on:
                again = ", which goes on"
            self._show(f"{', '.join(words)}; {steps:,} steps of training{again}")

        def stage(self, name: str) -> None:
            # A trial enters one again after each rung.
            if name != self._stage:
                self._stage = name
                self._show(f"{name} ...")

        def point(self, point: Point) -> None:
            now = time.monotonic()
            if now - self._said >= SECONDS_APART:
                self._said = now
                loss = number(point.loss)
                self._show(f"step {point.step:,} of {point.steps:,}, loss {loss}")

        def note(self, text: str) -> None:
            self._show(text)

    return Lines(note)
