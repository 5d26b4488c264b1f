"""Pages of other sites, in a browser that is logged in: they read nothing of the app and do nothing
with it.

The app stands behind a proxy with HTTPS and asks for a password. One attacker has another name, the
other one the same name and another port: cookies know no ports, so that its requests carry the
visitor's cookie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from app_world import App, running_app, wait_drawn
from tls_proxy import Proxy, certificate, empty_site, listening, serving

if TYPE_CHECKING:
    from app_world import SmallStudy
    from playwright.sync_api import Browser, BrowserContext, Page

PASSWORD = "a long one: with a colon"
ATTACK = """async url => {
  const read = [];
  const paths = ['/', '/config', '/gradio_api/info', '/gradio_api/user', '/gradio_api/startup-events', '/login',
    '/gradio_api/queue/data?session_hash=x', '/gradio_api/heartbeat/x', '/theme.css', '/static/plotly.min.js',
    '/gradio_api/file=/etc/passwd', '/logout', '/openapi.json', '/gradio_api/upload_progress?upload_id=x'];
  const event = JSON.stringify({data: [], fn_index: 0, session_hash: 'attack', event_data: null});
  const file = () => { const form = new FormData(); form.append('files', new Blob(['attack']), 'x.png'); return form; };
  const login = () => new URLSearchParams({username: 'attacker', password: 'attacker'});
  const posts = {'/gradio_api/queue/join': () => event, '/gradio_api/upload': file, '/gradio_api/cancel': () => event,
    '/gradio_api/reset': () => event, '/gradio_api/run/0': () => event, '/login': login, '/logout': login,
    '/gradio_api/component_server': () => event};
  const soon = (thing, ...names) => new Promise(done => {
    for (const name of names) thing.addEventListener(name, () => done(name));
    setTimeout(() => done('nothing'), 20000);
  });
  const take = async (how, path, options) => {
    try {
      const answer = await fetch(url + path, {credentials: 'include', signal: AbortSignal.timeout(20000), ...options});
      const text = await answer.text();
      if (answer.type !== 'opaque' || text) read.push([how, path, answer.status, text.slice(0, 80)]);
    } catch (error) { /* as it should be */ }
  };
  const all = [];
  for (const path of paths) for (const mode of ['cors', 'no-cors'])
    for (const method of ['GET', 'HEAD']) all.push(take(`${mode} ${method}`, path, {mode, method}));
  for (const [path, body] of Object.entries(posts)) {
    all.push(take('simple post', path, {mode: 'no-cors', method: 'POST', body: body()}));
    all.push(take('cors post', path, {method: 'POST', body: body(), headers: {'X-Mine': '1'}}));
    all.push(take('json post', path, {method: 'POST', body: event, headers: {'Content-Type': 'application/json'}}));
    navigator.sendBeacon(url + path, body());
  }
  all.push(take('put', '/config', {method: 'PUT', body: 'x'}), take('delete', '/config', {method: 'DELETE'}));
  for (const path of ['/gradio_api/queue/data?session_hash=attack', '/gradio_api/heartbeat/attack']) {
    const source = new EventSource(url + path, {withCredentials: true});
    all.push(soon(source, 'open', 'message', 'error').then(what => {
      source.close();
      if (what !== 'error') read.push(['EventSource', path, what]);
    }));
  }
  const elements = {img: 'src', script: 'src', iframe: 'src', embed: 'src', object: 'data', video: 'src', link: 'href'};
  for (const [tag, name] of Object.entries(elements)) for (const path of ['/', '/config', '/static/plotly.min.js']) {
    const made = document.createElement(tag);
    if (tag === 'link') made.rel = 'stylesheet';
    made[name] = url + path;
    document.body.append(made);
    all.push(soon(made, 'load', 'error', 'loadedmetadata').then(what => {
      let inside = null;
      try { inside = made.contentDocument?.body?.textContent; } catch (error) { /* as it should be */ }
      if (inside || what === 'loadedmetadata') read.push([tag, path, what, inside]);
      if (['img', 'script'].includes(tag) && what === 'load') read.push([tag, path, what]);
    }));
  }
  for (const path of ['/gradio_api/upload', '/gradio_api/queue/join', '/login', '/gradio_api/reset']) {
    const frame = document.createElement('iframe'), form = document.createElement('form');
    frame.name = 'frame' + path; document.body.append(frame);
    form.action = url + path; form.method = 'post'; form.enctype = 'text/plain'; form.target = frame.name;
    const field = document.createElement('input'); field.name = event; field.value = ''; form.append(field);
    document.body.append(form); form.submit();
    all.push(soon(frame, 'load', 'error'));
  }
  try {
    const socket = new WebSocket(url.replace('https', 'wss') + '/gradio_api/queue/join');
    all.push(soon(socket, 'open', 'error').then(what => { if (what === 'open') read.push(['WebSocket']); }));
  } catch (error) { /* as it should be */ }
  await Promise.all(all);
  return read;
}"""


pytestmark = pytest.mark.ci


@dataclass
class Site:
    """The app behind its proxy, with a visitor who is logged in."""

    app: App
    proxy: Proxy
    url: str
    attacker: int
    context: BrowserContext
    folder: Path

    def uploads(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def site(
    small_study: SmallStudy, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder, front, other = tmp_path_factory.mktemp("behind"), listening(), listening()
    keys = certificate(tmp_path_factory.mktemp("keys"))
    name = f"localhost:{front.getsockname()[1]}"
    env = {"AUTOML_SR_APP_AUTH": f"me:{PASSWORD}", "TMPDIR": str(folder)}
    with running_app(small_study.store, "--public-name", name, env=env) as app:
        proxy = Proxy(app.url)
        with serving(proxy.app, front, keys), serving(empty_site(), other, keys) as attacker:
            context = browser.new_context(ignore_https_errors=True)
            context.set_default_timeout(30_000)
            yield Site(app, proxy, f"https://{name}", attacker, context, folder)
            context.close()
        assert "Traceback" not in app.log


@pytest.fixture
def logged_in(site: Site) -> Iterator[Page]:
    """A page of the visitor, who has typed the password."""
    page = site.context.new_page()
    page.goto(f"{site.url}/?study=small&tab=front")
    if page.get_by_label("password").count():
        page.get_by_label("username").fill("me")
        page.get_by_label("password").fill(PASSWORD)
        page.get_by_role("button", name="Login").click()
    wait_drawn(page)
    yield page
    page.close()  # a browser keeps six connections to a server, and each page holds one


@pytest.mark.timeout(300)
def test_who_knows_the_password_works_behind_the_proxy(site: Site, logged_in: Page) -> None:
    """The address is the one that was asked for, and the cookie stays with this site and with
    HTTPS.
    """
    assert logged_in.url.startswith(f"{site.url}/?study=small&tab=front")
    cookies: list[Any] = site.context.cookies()
    [cookie] = [found for found in cookies if "automl-sr" in found["name"]]
    assert cookie["name"].startswith("__Host-")
    assert (cookie["sameSite"], cookie["secure"], cookie["httpOnly"]) == ("Lax", True, True)
    assert len(cookies) == 1, "Gradio's own cookies are not set"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_pages_of_other_sites_get_and_do_nothing(name: str, site: Site, logged_in: Page) -> None:
    before = site.uploads()
    page = site.context.new_page()
    page.goto(f"https://{name}:{site.attacker}/")
    begin = len(site.proxy.asked)
    assert page.evaluate(ATTACK, site.url) == []

    strangers = [
        asked for asked in site.proxy.asked[begin:] if asked.site in ("same-site", "cross-site")
    ]
    assert len(strangers) > 60
    let_in = [(asked.method, asked.path) for asked in strangers if asked.status < 400]
    assert let_in == []
    reflecting = [
        asked for asked in strangers if any("access-control" in header for header in asked.headers)
    ]
    assert reflecting == []
    carried = any(asked.has_cookie for asked in strangers)
    assert carried == (name == "localhost"), "with the same name the cookie alone protects nothing"
    assert site.uploads() == before
    page.close()

    logged_in.reload()
    wait_drawn(logged_in)  # nobody was logged out, and nothing was cancelled


@pytest.mark.timeout(300)
def test_a_link_from_elsewhere_leads_to_the_page(site: Site, logged_in: Page) -> None:
    page = site.context.new_page()
    page.goto(f"https://127.0.0.1:{site.attacker}/")
    page.evaluate("url => { location.href = url; }", f"{site.url}/?study=small&tab=front")
    wait_drawn(page)
    page.close()


@pytest.mark.timeout(300)
def test_a_window_that_another_site_opens_is_not_in_its_hands(site: Site, logged_in: Page) -> None:
    page = site.context.new_page()
    page.goto(f"https://127.0.0.1:{site.attacker}/")
    with page.expect_popup() as opened:
        page.evaluate(
            "url => { window.opened = window.open(url); }", f"{site.url}/?study=small&tab=front"
        )
    wait_drawn(opened.value)
    page.wait_for_function("() => window.opened.closed")
    assert opened.value.evaluate("() => window.opener") is None
    page.close()
