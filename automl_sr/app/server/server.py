"""Serve the page on this machine: limits on what comes in, and nothing served that was not asked of
the store.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr
import plotly
import uvicorn
from fastapi.responses import FileResponse
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from automl_sr.app.figures.chart import PLOTLY
from automl_sr.app.page import make_page, theme
from automl_sr.app.server.assets import asset
from automl_sr.app.server.folder import own_folder
from automl_sr.app.server.login import Login
from automl_sr.app.server.middleware import Door
from automl_sr.app.server.names import Names, Place
from automl_sr.app.server.password import AUTH, Secret
from automl_sr.app.server.quota import Quota
from automl_sr.app.server.uploads import UPLOAD_BYTES
from automl_sr.app.static_files import static_text
from automl_sr.app.store_cache import StoreCache
from automl_sr.errors import UseError

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry

WAITING = 128
"""Connections that wait until the app is ready for them."""
PROXIES = ("127.0.0.1", "::1")
"""Where a proxy is that is not named: on this machine."""


@dataclass(frozen=True)
class Address:
    """Where the app listens, and who may come in."""

    host: str = "127.0.0.1"
    port: int = 7860
    auth: Secret | None = None
    public_names: tuple[Place, ...] = ()
    proxies: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_local(self.host)

    @property
    def url(self) -> str:
        """What to open in a browser."""
        if ":" in self.host:
            host = f"[{self.host}]"
        else:
            host = self.host
        return f"http://{host}:{self.port}"


def is_local(host: str) -> bool:
    """Whether a host to listen on is a name of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    store: str | None,
    address: Address,
    registry: Registry,
    tell: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises UseError where the port is taken."""
    listening = _listen(address)
    with own_folder() as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        cache = StoreCache(store, registry)
        try:
            config = uvicorn.Config(
                make_app(cache, address),
                log_level="warning",
                ws="none",
                proxy_headers=False,  # `make_app` believes those of proxies that are named
                server_header=False,
                timeout_graceful_shutdown=1,
            )
            tell(address.url)
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            cache.close()


def make_app(cache: StoreCache, address: Address) -> fastapi.FastAPI:
    """Make the application, which answers to its own names alone."""
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"

    @app.get(f"/{PLOTLY}")
    def plotly_script() -> FileResponse:
        return FileResponse(script, headers={"Cache-Control": "public, max-age=86400"})

    app.add_api_route("/assets/{name}", asset, response_model=None)
    names = Names(address.host, address.public_names, network=not address.local)
    login = None
    if address.auth is not None:
        login = Login(address.auth, address.port)
    app.add_middleware(
        Door,
        names=names,
        login=login,
        quota=Quota(),
        upload_bytes=UPLOAD_BYTES,
    )
    # Who asks, and whether by HTTPS, is believed where there is a proxy to say it.
    if address.public_names:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=[*PROXIES, *address.proxies])
    mounted: fastapi.FastAPI = gr.mount_gradio_app(
        app,
        make_page(cache),
        path="/",
        server_name=address.host,
        server_port=address.port,
        auth=None,  # the door asks for the password: of Gradio's routes some answer without it
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
    if ":" in address.host:
        family = socket.AF_INET6
    else:
        family = socket.AF_INET
    # With the protocol named, asyncio sends small answers at once: else each file of the page waits
    # 40 ms for its end.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
        listening.listen(WAITING)  # whoever opens the address as soon as it is told waits here
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UseError(
            f"The app cannot listen on {address.host}, port {address.port}: {reason}.",
            "Choose another --port.",
        ) from error
    return listening


def check_proxy(text: str) -> str:
    """Return the address or network of a proxy as it was given. Raises UseError."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise UseError(
            f"--proxy {text!r} is no address.",
            "Give it as in 10.0.0.5 or 10.0.0.0/24.",
        ) from None
    return text


def check_reach(
    host: str,
    auth: Secret | None,
    no_auth: bool,
    public: bool = False,
) -> None:
    """Refuse to show a store to a network that nobody meant to show it to. Raises UseError."""
    if auth is not None or no_auth or (is_local(host) and not public):
        return
    where = "Behind a proxy"
    if not is_local(host):
        where = f"On {host}"
    raise UseError(
        f"{where} anybody in the network could look at this store.",
        f"Give --auth-file FILE or {AUTH} with user:password, or say --no-auth if that is meant.",
    )
