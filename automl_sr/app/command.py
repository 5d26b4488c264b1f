"""`automl-sr app`: look at studies in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from automl_sr.presentation.console import note, print_json


def app(
    store: Annotated[str | None, typer.Option(help="Database; default: AUTOML_SR_STORE", metavar="URL")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on")] = 7860,
    auth: Annotated[
        str | None, typer.Option(help="Let in who knows this name and password", metavar="USER:PASSWORD")
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Let in everybody, on other hosts too")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output")] = False,
) -> None:
    """Open studies in a browser: fronts, trials side by side, previews on your own images. Ctrl-C ends it.

    Searches may run meanwhile: the store is only read.

    \b
    Examples:
      automl-sr app
      automl-sr app --store postgresql://sr@HOST/sr --host 0.0.0.0 --auth me:secret
    """
    from automl_sr.app.server.server import Address, check_reach, read_auth, serve
    from automl_sr.plugin.registry import installed
    from automl_sr.store.database import default_url, masked, parse

    known = read_auth(auth) if auth is not None else None
    check_reach(host, known, no_auth)
    parse(store or default_url())

    def ready(url: str) -> None:
        if json:
            print_json({"url": url, "store": masked(store or default_url())})
        note(f"studies of {masked(store or default_url())} are at {url} (Ctrl-C ends)")

    serve(store, Address(host, port, known), installed(), ready)
