"""`automl-sr report`: everything about a study as one page, as Markdown or as JSON."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

from automl_sr.errors import UseError
from automl_sr.presentation.console import print_json, print_lines

FORMATS = ("html", "md", "json")
SUFFIXES = {".html": "html", ".htm": "html", ".md": "md", ".markdown": "md", ".json": "json"}


def report(
    name: Annotated[str, typer.Argument(help="Name of the study", metavar="NAME")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write; default: NAME.html in this folder",
            metavar="FILE",
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="html, md or json; default: by the file's name",
            metavar="FORMAT",
        ),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Database; default: AUTOML_SR_STORE", metavar="URL")
    ] = None,
    images: Annotated[
        int, typer.Option(min=0, max=24, help="Validation images to show", metavar="N")
    ] = 3,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
) -> None:
    """Write a report on a study: front, charts, importance, stopping, failures, costs and example
    images.

    The page needs no network and no other file. A search may go on meanwhile: the store is only
    read.

    \b
    Examples:
      automl-sr report quickstart -o report.html
      automl-sr report quickstart -o report.md --images 0
    """
    # Before the imports and the work: a mistyped name is told at once.
    chosen = _format(form, output)
    from automl_sr.files import write_atomically
    from automl_sr.plugin.registry import installed
    from automl_sr.report.collect import collect
    from automl_sr.store.reading import Reader

    opened = Reader.open(store)
    found = collect(opened, name, installed(), images=images)
    # Half a surrogate pair, which a file's name may hold, has no UTF-8: it becomes a question mark.
    content = _written(found, chosen).encode("utf-8", "replace")
    opened.close()
    target = output or Path(f"{name}.{chosen}")
    try:
        write_atomically(target, content)
    except OSError as error:
        raise UseError(
            f"{target} cannot be written: {error.strerror}.",
            "Choose another -o.",
        ) from error
    if json:
        print_json({"study": name, "file": target, "format": chosen, "bytes": len(content)})
    else:
        print_lines(f"{target}")


def _format(asked: str | None, output: Path | None) -> str:
    """Return the format that was asked for, or that of the file's name.

    Raises UseError, also for a folder.
    """
    if asked is not None and asked not in FORMATS:
        raise UseError(f"Unknown format {asked!r}.", f"Write one of: {', '.join(FORMATS)}.")
    if output is not None and output.is_dir():
        raise UseError(
            f"{output} is a folder.",
            "Name a file in it, which ends in .html, .md or .json.",
        )
    suffix = ""
    if output is not None:
        suffix = output.suffix.lower()
    if asked is None and suffix and suffix not in SUFFIXES:
        raise UseError(
            f"{output} does not say its format: {suffix} is none of {', '.join(SUFFIXES)}.",
            "Choose another ending, or one with --format: html, md, json.",
        )
    return asked or SUFFIXES.get(suffix, "html")


def _written(found: dict[str, Any], form: str) -> str:
    if form == "json":
        # Drawings are for people; programs that read reports find in them what they always found.
        told = {key: value for key, value in found.items() if key != "nets"}
        return json_text.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if form == "md":
        from automl_sr.report.markdown import markdown

        return markdown(found)
    from automl_sr.report.page import page

    return page(found)
