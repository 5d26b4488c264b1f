"""`automl-sr gc`: remove files that nothing needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_sr.errors import PluginError, StoreError, StoreUnreachableError
from automl_sr.presentation.console import print_json, print_lines, warn
from automl_sr.presentation.numbers import size

if TYPE_CHECKING:
    from automl_sr.search.retention import Leftovers
    from automl_sr.store.reading import Reader


def gc(
    name: Annotated[
        str | None, typer.Argument(help="Name of the study; default: all", metavar="NAME")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed")
    ] = False,
    store: Annotated[
        str | None, typer.Option(help="Database; default: AUTOML_SR_STORE", metavar="URL")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
) -> None:
    """Remove the files of trials outside the Pareto front, and what killed workers left. Values and
    curves stay.

    Kept are the models of the front and everything of trials that have not ended, so searches may
    go on meanwhile.

    \b
    Examples:
      automl-sr gc quickstart --dry-run
      automl-sr gc
    """
    from automl_sr.search.retention import remove
    from automl_sr.store.reading import Reader
    from automl_sr.store.repository import Store

    reader = Reader.open(store)  # a mistyped place makes no new store
    found = _find(reader, name)
    # Opened for writing only now: --dry-run needs no right to write.
    if not dry_run:
        writer = Store.open(store)
        for one in found:
            remove(writer, one)
        writer.close()
    for one in found:
        for place in one.unreachable:
            warn(f"{one.study.name}: {place} cannot be reached from here; what lies there stays")
    if json:
        print_json({"studies": list(map(_row, found)), "dry_run": dry_run})
        return
    for one in found:
        print_lines(_sentence(one, dry_run=dry_run))
    if not found and not reader.studies():
        print_lines(f"There are no studies in {reader.name} yet.")


def _find(reader: Reader, name: str | None) -> list[Leftovers]:
    """Return what can be removed of one study, or of all."""
    from automl_sr.plugin.registry import installed
    from automl_sr.search.retention import find_leftovers

    metrics = installed().metrics
    if name is not None:
        return [find_leftovers(reader, reader.study(name), metrics)]
    found = []
    for study in reader.studies():
        try:
            found.append(find_leftovers(reader, study, metrics))
        except StoreUnreachableError:
            raise  # the database itself: the next study would fare no better
        except (PluginError, StoreError) as error:
            # One whose plugins or files are out of reach stops none of the others.
            warn(f"{study.name} is left alone. {error}")
    return found


def _row(found: Leftovers) -> dict[str, Any]:
    return {
        "study": found.study.name,
        "files": len(found.files),
        "bytes": found.bytes,
        "kept_files": found.kept_files,
        "kept_bytes": found.kept_bytes,
    }


def _sentence(found: Leftovers, *, dry_run: bool) -> str:
    verb = "removed"
    if dry_run:
        verb = "would remove"
    kinds = []
    for kind, (number, amount) in found.by_kind().items():
        kinds.append(f"{number} {kind}, {size(amount)}")
    listed = ""
    if kinds:
        listed = f" ({'; '.join(kinds)})"
    removed = f"{_files(len(found.files))}, {size(found.bytes)}{listed}"
    kept = f"{_files(found.kept_files)}, {size(found.kept_bytes)}"
    return f"{found.study.name}: {verb} {removed}; kept {kept}"


def _files(number: int) -> str:
    if number == 1:
        return f"{number} file"
    return f"{number} files"
