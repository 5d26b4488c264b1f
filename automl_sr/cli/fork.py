"""`automl-sr fork`: a new study that begins with the trials of an old one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from automl_sr.cli.search import next_command
from automl_sr.presentation.console import note, print_json, print_text


def fork(
    old: Annotated[str, typer.Argument(help="Name of the old study", metavar="OLD")],
    study: Annotated[Path, typer.Argument(help="Study file of the new one", metavar="NEW.yaml")],
    store: Annotated[
        str | None,
        typer.Option(
            help="Database of both; default: AUTOML_SR_STORE, or runs/automl-sr.db", metavar="URL"
        ),
    ] = None,
    artifacts: Annotated[
        str | None,
        typer.Option(
            help=(
                "Artifact location of the new study; default: AUTOML_SR_ARTIFACTS, or"
                " runs/artifacts"
            ),
            metavar="URL",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
) -> None:
    """Begin a study, with a space that grew or shrank, from the trials of an old one.

    Trials whose plans mean the same in the new space are imported with their values and files,
    under the new limits: the sampler learns from them, and the budget does not count them. Task,
    images, steps and versions must be equal. Nothing is trained; `automl-sr search NEW.yaml` goes
    on from there.

    \b
    Examples:
      automl-sr fork quickstart larger.yaml
    """
    from automl_sr.plugin.registry import installed
    from automl_sr.study.spec import load_study

    registry = installed()
    loaded = load_study(study, registry)
    from automl_sr.search.open_study import Options
    from automl_sr.search.results import ORIGIN
    from automl_sr.search.study import fork_study
    from automl_sr.search.warm_start import sentence

    opened = fork_study(
        old,
        loaded,
        registry,
        Options(store, artifacts, file=str(study)),
    )
    opened.store.close()
    origin = opened.record.environment[ORIGIN]
    if json:
        keys = {"study": opened.record.name, "from": origin["study"]}
        print_json({**keys, "imported": origin["imported"], "left_out": origin["left_out"]})
        return
    if opened.resumed:
        note(f"note: {opened.record.name} was there already, begun in this way")
    print_text(f"{opened.record.name}: {sentence(origin)}")
    print_text(
        "Go on with:"
        f" {next_command(f'search {shlex.quote(str(study))}', store, artifacts=artifacts)}"
    )
