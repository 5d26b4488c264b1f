"""`automl-sr worker`: join a study that is in a store, from any machine."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_sr.cli.search import at_least_one, known_device, next_command, show_end
from automl_sr.errors import UseError
from automl_sr.presentation.console import print_text

if TYPE_CHECKING:
    from automl_sr.errors import AutomlSRError
    from automl_sr.search.engine import SearchEnd


def worker(
    name: Annotated[str, typer.Argument(help="Name of the study", metavar="NAME")],
    store: Annotated[
        str | None, typer.Option(help="Database; default: AUTOML_SR_STORE", metavar="URL")
    ] = None,
    device: Annotated[str, typer.Option(help="Where training runs: auto, cpu or cuda")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of training; default: the study's, or all cores", metavar="N"),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache", help="Share nothing between trials: slower, with the same results"
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress")] = False,
    attended: Annotated[bool, typer.Option("--attended", hidden=True)] = False,
) -> None:
    """Join a study that `automl-sr search` has begun; study file, space and seeds come from the
    store.

    Plugins and images must be those with which the study was begun. Ctrl-C checkpoints the running
    trial, with which another worker, or the same command, goes on.

    \b
    Examples:
      automl-sr worker quickstart
      AUTOML_SR_STORE=postgresql://user:password@host/automl_sr automl-sr worker quickstart
    """
    if attended:
        _obey_standard_input()
    known_device(device)
    if threads is not None:
        at_least_one("threads", threads)
    from automl_sr.cli.live import make_callback
    from automl_sr.plugin.registry import installed
    from automl_sr.search.engine import Options, join_study, work
    from automl_sr.store.writer import PATIENCE_SECONDS, retry

    options = Options(
        store=store,
        device=device,
        threads=threads,
        no_cache=no_cache,
    )
    with make_callback(quiet=quiet or attended) as callback:
        # One that takes the place of another may come while the database restarts; people learn of
        # a wrong URL at once.
        patience = 0.0
        if attended:
            patience = PATIENCE_SECONDS
        try:
            study = retry(lambda: join_study(name, installed(), options), patience)
        except UseError as error:
            # What no other worker does better: the supervisor need not begin another one.
            if attended and error.exit_code == UseError.exit_code:
                _tell_supervisor("", error)
            raise
        fixed = study.spec.search.threads
        if threads is not None and fixed is not None and threads != fixed:
            callback.note(
                f"note: training uses {threads} threads here and {fixed} elsewhere"
                " (search.threads): curves will not equal those of other workers bit by bit"
            )
        end = work(study, options, callback=callback)
    if attended:
        _say_how_it_ended(end)
    else:
        named_device = None
        if device != "auto":
            named_device = device
        again = next_command(
            f"worker {name}",
            store,
            device=named_device,
            threads=threads,
            no_cache=no_cache,
        )
        show_end(end, study.spec, json=json, again=again, store=store)


def _say_how_it_ended(end: SearchEnd) -> None:
    _tell_supervisor(end.note, end.error)
    if end.error is not None:
        raise typer.Exit(end.error.exit_code)


def _tell_supervisor(note: str, error: AutomlSRError | None) -> None:
    """Tell the supervisor how it ended; who says nothing has died.

    What was found the supervisor shows itself.
    """
    import json

    said: dict[str, Any] = {"note": note, "error": str(error or "")}
    if error is not None and error.offer is not None:
        said |= {"error": error.message, "offer": dataclasses.asdict(error.offer)}
    print_text(json.dumps(said))


def _obey_standard_input() -> None:
    """Stop as on SIGTERM when standard input ends: the supervisor asks for that, or has died."""
    # A copy: a technique may close the one that all know, as `exit()` does.
    standard_input = os.dup(sys.stdin.fileno())
    # Signals are written into a pipe, on which a thread can wait together with standard input.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_obey, args=(standard_input, reading), daemon=True).start()


def _obey(standard_input: int, signals: int) -> None:
    """Wait for the end of standard input, or for a signal, in a thread."""
    # Descriptors alone: the lock of the file `sys.stdin` would be held when the process ends.
    stopping = {int(signal.SIGINT), int(signal.SIGTERM)}
    while True:
        ready, _, _ = select.select([standard_input, signals], [], [])
        if signals in ready and stopping & set(os.read(signals, 64)):
            # The process is stopping already: a second signal would end it without a checkpoint.
            return
        if standard_input in ready:
            with contextlib.suppress(OSError):
                if os.read(standard_input, 4096):
                    continue
            os.kill(os.getpid(), signal.SIGTERM)
            return
