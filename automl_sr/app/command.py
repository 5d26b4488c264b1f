"""`automl-sr app`: look at studies in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from automl_sr.presentation.console import note, print_json


def app(
    store: Annotated[
        str | None, typer.Option(help="Database; default: AUTOML_SR_STORE", metavar="URL")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on")] = 7860,
    auth_file: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Let in who knows what this file holds, user:password; default: AUTOML_SR_APP_AUTH"
            ),
            metavar="FILE",
        ),
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            help="The same on the command line, where others on this machine can read it",
            metavar="USER:PASSWORD",
        ),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let in everybody, on other hosts too")
    ] = False,
    public_name: Annotated[
        list[str] | None,
        typer.Option(
            help="Name under which a proxy serves it, NAME[:PORT]; may be repeated",
            metavar="NAME",
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address of that proxy if it is on another machine; may be repeated",
            metavar="ADDRESS",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
) -> None:
    """Open studies in a browser: fronts, trials side by side, previews on your own images. Ctrl-C
    ends it.

    Searches may run meanwhile: the store is only read.

    \b
    Examples:
      automl-sr app
      automl-sr app --store postgresql://sr@HOST/sr --host 0.0.0.0 --auth-file login.txt
      AUTOML_SR_APP_AUTH=... automl-sr app --public-name sr.example.org
    """
    from automl_sr.app.server.names import read_public_name
    from automl_sr.app.server.password import ON_COMMAND_LINE, given_secret, is_private
    from automl_sr.app.server.server import Address, check_proxy, check_reach, serve
    from automl_sr.errors import UseError
    from automl_sr.plugin.registry import installed
    from automl_sr.store.database import default_url, masked, parse

    known = given_secret(auth, auth_file, no_auth)
    names = tuple(map(read_public_name, public_name or []))
    proxies = tuple(map(check_proxy, proxy or []))
    if proxies and not names:
        raise UseError("--proxy needs --public-name, the name under which it serves the app.")
    check_reach(host, known, no_auth, public=bool(names))
    if auth is not None:
        note(ON_COMMAND_LINE)
    if auth_file is not None and not is_private(auth_file):
        note(f"others on this machine can read {auth_file}: chmod 600 {auth_file}")
    parse(store or default_url())

    def ready(url: str) -> None:
        if json:
            print_json({"url": url, "store": masked(store or default_url())})
        note(f"studies of {masked(store or default_url())} are at {url} (Ctrl-C ends)")

    serve(store, Address(host, port, known, names, proxies), installed(), ready)
