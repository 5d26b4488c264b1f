"""`automl-sr data`: which image sets there are, whether their files are sound, and how to fetch
one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_sr.errors import DataError, nearest
from automl_sr.presentation.console import console, note, print_json, print_lines, print_table

if TYPE_CHECKING:
    from automl_sr.data.catalog import ImageSet
    from automl_sr.data.download import Progress

SMALL_SIDE = 96
"""HR pixels below which an image has no room for the usual patch of 48 LR pixels at x2."""

app = typer.Typer(help="Image sets: list them, check their files, fetch one.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output")]


@app.command("list")
def list_sets(json: JsonOption = False) -> None:
    """List the sets that a study file can name, from AUTOML_SR_DATA and the photographs that come
    along.
    """
    from automl_sr.data.catalog import Catalog

    catalog = Catalog.from_environment()
    found = []
    for name in catalog.names():
        found.append(_summary(catalog.find(name)))
    if json:
        folders = list(map(str, catalog.folders))
        print_json({"folders": folders, "sets": found})
        return

    rows = []
    for row in found:
        scales = " ".join(f"x{scale}" for scale in row["lr_scales"]) or None
        cells = [
            row["name"],
            row["images"],
            _size(row["smallest"]),
            _size(row["largest"]),
            scales,
            row["folder"],
        ]
        rows.append(cells)
    columns = ("set", "images", "smallest", "largest", "LR scales", "folder")
    print_table(columns, rows, right=("images",))


def _summary(image_set: ImageSet) -> dict[str, Any]:
    """Return what a set holds: images, their sizes, LR scales that come with it, its folder.

    Sizes are [width, height], the smallest and the largest by area.
    """
    from automl_sr.data.images import probe

    sizes: list[tuple[int, int]] = []
    unreadable = 0
    for path in image_set.hr:
        try:
            # From the file's header: nothing is decoded for a list.
            height, width = probe(path)
        except DataError as error:
            unreadable += 1
            note(f"{image_set.name}: {error}")
        else:
            sizes.append((width, height))
    sizes.sort(key=lambda size: size[0] * size[1])
    smallest = None
    largest = None
    if sizes:
        smallest = list(sizes[0])
        largest = list(sizes[-1])
    return {
        "name": image_set.name,
        "images": len(image_set.hr),
        "unreadable": unreadable,
        "smallest": smallest,
        "largest": largest,
        "lr_scales": list(image_set.lr),
        "folder": str(image_set.hr[0].parent),
    }


def _size(size: list[int] | None) -> str | None:
    if size is None:
        return None
    return f"{size[0]}x{size[1]}"


@app.command()
def check(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="A folder of images, or the name of a set")
    ],
    json: JsonOption = False,
) -> None:
    """Read every image of a set; report damaged (exit code 1), small, grey, identical and similar
    ones.
    """
    from automl_sr.data.catalog import Catalog
    from automl_sr.data.check import check_set

    report = check_set(Catalog.from_environment().find(folder), SMALL_SIDE)
    if json:
        print_json(report)
    else:
        _print_report(report)
    if report["unreadable"]:
        note(
            f"{len(report['unreadable'])} of {report['files']} files cannot be used: replace or"
            " remove them."
        )
        raise typer.Exit(1)


def _print_report(report: dict[str, Any]) -> None:
    lines = [
        f"{report['folder']}: {report['images']} images, {report['files']} files with their LR"
        " images"
    ]
    for row in report["unreadable"]:
        lines.append(f"unreadable  {row['reason']}")
    for row in report["misfits"]:
        lines.append(f"wrong size  {row['file']}: {row['reason']}")
    for row in report["small"]:
        lines.append(f"small       {row['file']}: {row['width']}x{row['height']}")
    for file in report["grey"]:
        lines.append(f"grey        {file}")
    for first, second in report["identical"]:
        lines.append(f"identical   {first} = {second}")
    for row in report["similar"]:
        pair = f"{row['first']} ~ {row['second']}"
        lines.append(f"similar     {pair} ({row['distance']} of 256 bits differ)")
    print_lines(*lines)


@app.command()
def get(
    name: Annotated[
        str, typer.Argument(help="A known set, or the name to give to what --url holds")
    ],
    url: Annotated[str, typer.Option(help="Address of a zip or tar archive of images")] = "",
    sha256: Annotated[str, typer.Option(help="Its sha256, needed with --url")] = "",
    json: JsonOption = False,
) -> None:
    """Fetch a set into the first folder of AUTOML_SR_DATA, or ./data; nothing is kept unless its
    sha256 is right.
    """
    from automl_sr.data.catalog import Catalog, ImageSet
    from automl_sr.data.download import fetch

    address, digest = _source(name, url, sha256)
    into = Catalog.from_environment().folders[0]
    note(f"fetching {address} into {into / name}")
    with _shown_progress() as show:
        target = fetch(name, address, digest, into, show)
    images = len(ImageSet.from_folder(target, name).hr)
    if json:
        print_json(
            {
                "name": name,
                "folder": str(target),
                "images": images,
                "url": address,
                "sha256": digest,
            }
        )
    else:
        print_lines(f"{target}: {images} images")


def _source(name: str, url: str, sha256: str) -> tuple[str, str]:
    """Return address and sha256, from the options or the table of known sets."""
    from automl_sr.data.download import KNOWN

    if bool(url) != bool(sha256):
        raise DataError(
            "--url and --sha256 are given together.",
            "The hash makes sure that you get what you expect.",
        )
    if url:
        return url, sha256
    known = KNOWN.get(name)
    if known is None:
        hint = (
            f"{nearest(name, KNOWN)} Known sets: {', '.join(sorted(KNOWN))}; others with --url and"
            " --sha256.".strip()
        )
        raise DataError(f"There is no known set {name!r}.", hint)
    # Some sets are known by name alone: nothing is fetched that could not be checked.
    if not known.url:
        raise DataError(
            f"{name} cannot be fetched automatically: no archive of it with a published sha256 is"
            " known.",
            f"Get it by hand ({known.about}) and put its images into a folder {name}/HR under"
            " AUTOML_SR_DATA.",
        )
    return known.url, known.sha256


@contextmanager
def _shown_progress() -> Iterator[Progress]:
    """Yield what draws a bar on standard error, on terminals only."""
    from rich.progress import Progress as Bar

    target = console()
    # In a log each state of the bar would be a line.
    with Bar(console=target, disable=not target.is_terminal, transient=True) as bar:
        task = bar.add_task("downloading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
