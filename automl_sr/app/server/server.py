"""Serve the page on this machine: limits on what comes in, and nothing served that was not asked of the store."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr
import plotly
import uvicorn
from fastapi.responses import FileResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from automl_sr.app.figures.chart import PLOTLY
from automl_sr.app.page import make_page, theme
from automl_sr.app.server.assets import asset
from automl_sr.app.server.middleware import RefusingMiddleware
from automl_sr.app.server.uploads import UPLOAD_BYTES
from automl_sr.app.static_files import static_text
from automl_sr.app.store_cache import StoreCache
from automl_sr.errors import UseError

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry

WAITING = 128
"""Connections that wait until the app is ready for them."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Address:
    """Where the app listens, and who may come in."""

    host: str = "127.0.0.1"
    port: int = 7860
    auth: tuple[str, str] | None = None

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_local(self.host)

    @property
    def url(self) -> str:
        """What to open in a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def is_local(host: str) -> bool:
    """Whether a host to listen on is a name of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(store: str | None, address: Address, registry: Registry, tell: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises UseError where the port is taken."""
    listening = _listen(address)
    with tempfile.TemporaryDirectory(prefix="automl-sr-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads and files to download, gone with the app
        cache = StoreCache(store, registry)
        try:
            config = uvicorn.Config(
                make_app(cache, address), log_level="warning", ws="none", timeout_graceful_shutdown=1
            )
            tell(address.url)
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            cache.close()


def make_app(cache: StoreCache, address: Address) -> fastapi.FastAPI:
    """Make the application; on this machine alone it answers to this machine's names alone."""
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"

    @app.get(f"/{PLOTLY}")
    def plotly_script() -> FileResponse:
        return FileResponse(script, headers={"Cache-Control": "public, max-age=86400"})

    app.add_api_route("/assets/{name}", asset, response_model=None)
    app.add_middleware(RefusingMiddleware, upload_bytes=UPLOAD_BYTES, same_origin=address.local)
    if address.local:  # a page of the network must not reach it under a name that it has made up
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL_NAMES, address.host])
    mounted: fastapi.FastAPI = gr.mount_gradio_app(
        app,
        make_page(cache),
        path="/",
        server_name=address.host,
        server_port=address.port,
        auth=address.auth,
        max_file_size=UPLOAD_BYTES,
        show_error=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=theme(),
        css=static_text("page.css"),
    )
    return mounted


def _listen(address: Address) -> socket.socket:
    """Take the port before anything slow is done. Raises UseError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With the protocol named, asyncio sends small answers at once: else each file of the page waits 40 ms for its end.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
        listening.listen(WAITING)  # whoever opens the address as soon as it is told waits here
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UseError(
            f"The app cannot listen on {address.host}, port {address.port}: {reason}.", "Choose another --port."
        ) from error
    return listening


def read_auth(text: str) -> tuple[str, str]:
    """Read `user:password`. Raises UseError."""
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise UseError("--auth is not of the form user:password.")
    return user, password


def check_reach(host: str, auth: Any, no_auth: bool) -> None:
    """Refuse to show a store to a network that nobody meant to show it to. Raises UseError."""
    if not is_local(host) and auth is None and not no_auth:
        raise UseError(
            f"On {host} anybody in the network could look at this store.",
            "Give --auth user:password, or say --no-auth if that is meant.",
        )
