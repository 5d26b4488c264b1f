"""The page: study and selected trial on top, the tabs, and the address that leads back to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from automl_sr.app.html_text import escaped, trial_line
from automl_sr.app.server.server_rendered import ServerRenderedBlocks
from automl_sr.app.session import Session, listen, numbers, safely, skip, snapshot
from automl_sr.app.static_files import script_with, static_text
from automl_sr.app.store_cache import NOTHING_THERE, StoreCache
from automl_sr.app.tabs import compare, export, front, plugins, preview, studies, trials, why
from automl_sr.errors import AutomlSRError

POLL_SECONDS = 2.0
NOTHING_SELECTED = "<p>Select a trial: click a point or a row, or type its number.</p>"


@dataclass(frozen=True)
class Tab:
    """A tab: its id in addresses, its title, and what fills it with components."""

    id: str
    title: str
    build: Callable[[Session], None]
    follows: tuple[Literal["study", "trial", "version"], ...] = ()
    """Where one of these changes, the tab is filled anew if it is open, or when it is opened
    next.
    """


TABS = (
    Tab("studies", "Studies", studies.build, ("version",)),
    Tab("front", "Front", front.build, ("study", "version")),
    Tab("trials", "Trials", trials.build, ("study", "version", "trial")),
    Tab("compare", "Compare", compare.build, ("study", "version")),
    Tab("why", "Why", why.build, ("study", "version", "trial")),
    Tab("preview", "Preview", preview.build, ("study", "version", "trial")),
    Tab("export", "Export", export.build, ("study", "version", "trial")),
    Tab("plugins", "Plugins", plugins.build),
)

FORMER_IDS = {"takeaway": "export"}
"""Ids of tabs in addresses that were noted when the tabs had other names."""
LINE = "line"
"""The line on top, which is there whichever tab is open."""
FOLLOWS = [(LINE, ("study", "version", "trial")), *((tab.id, tab.follows) for tab in TABS)]
"""What is filled anew, in the order of the cues, and what each of them follows."""


def make_page(cache: StoreCache) -> gr.Blocks:
    """Return the page; each visitor has a session of their own."""
    page: ServerRenderedBlocks
    with ServerRenderedBlocks(
        title="automl-sr",
        analytics_enabled=False,
        # Each hour what is older than an hour: uploads of visitors do not fill the disk.
        delete_cache=(3600, 3600),
    ) as page:
        study, trial = _head()
        line = gr.HTML(NOTHING_SELECTED, elem_id="line")
        compared = gr.State([])
        # Not States, because those never reach the browser.
        version = gr.Textbox("", visible="hidden")
        opened = gr.Textbox("studies", visible="hidden")
        count = gr.Number(0, visible="hidden")
        cues = {}
        for name, _ in FOLLOWS:
            cues[name] = gr.Textbox("", visible="hidden")
        session = Session(
            page,
            cache,
            study,
            trial,
            compared,
            version,
            opened,
            count,
            cues,
        )
        with gr.Tabs(elem_id="tabs") as tabs:
            for tab in TABS:
                _add_tab(session, tab)
        _wire(page, session, tabs, line)
    return page


def _head() -> tuple[gr.Dropdown, gr.Number]:
    """Return what chooses the study and the trial, above all tabs."""
    with gr.Row(elem_id="head", equal_height=True):
        gr.HTML("<h1>automl-sr</h1>", elem_id="brand", min_width=120, scale=1)
        study = gr.Dropdown(
            [],
            label="Study",
            allow_custom_value=True,
            elem_id="study",
            interactive=True,
            scale=3,
            min_width=220,
        )
        trial = gr.Number(
            label="Trial",
            precision=0,
            minimum=0,
            elem_id="trial",
            scale=1,
            min_width=110,
        )
    return study, trial


def _add_tab(session: Session, tab: Tab) -> None:
    with gr.Tab(tab.title, id=tab.id, elem_id=f"tab-{tab.id}") as item:
        tab.build(session)
    # In the browser alone: which tab is open is known there before a request could say it.
    gr.on(
        [item.select],
        None,
        [],
        [session.tab],
        js=f"() => {json.dumps(tab.id)}",
        api_visibility="private",
    )


def _first(names: Sequence[str]) -> str | None:
    if not names:
        return None
    return names[0]


def _asked_study(asked: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Return the study that the address names; the first one where it names none that is there."""
    name = asked.get("study")
    if name in names:
        return name
    if name:
        gr.Warning(escaped(f"There is no study {name!r} in this store."))
    return _first(names)


def _described(cache: StoreCache, name: str | None, chosen: Sequence[int]) -> str:
    """Return a line about the first of the chosen trials."""
    if not chosen:
        return NOTHING_SELECTED
    shown = snapshot(cache, name)
    if shown is None:
        return NOTHING_SELECTED
    try:
        return trial_line(shown, shown.trial(chosen[0]))
    except AutomlSRError as error:
        gr.Warning(escaped(error))
        return NOTHING_SELECTED


def _wire(page: gr.Blocks, session: Session, tabs: gr.Tabs, line: gr.HTML) -> None:
    """Let the page follow the address and the store, and the address the page."""
    cache = session.cache

    def arrive(request: gr.Request) -> tuple[Any, ...]:
        return _arrived(cache, dict(request.query_params))

    def follow(known: str, name: str | None) -> Any:
        return _followed(cache, known, name)

    def describe(name: str | None, chosen: Any) -> str:
        return _described(cache, name, numbers(chosen))

    # The address is read once, when the page is opened; from then on the page writes it.
    page.load(
        safely(arrive),
        None,
        [session.study, session.trial, session.version, tabs, session.tab, session.compared],
        api_visibility="private",
        show_progress="hidden",
    )
    timer = gr.Timer(POLL_SECONDS)
    both = [session.version, session.study]
    # Once: a slow store is not asked again before it has answered.
    listen([timer.tick], follow, both, both, trigger_mode="once")

    shown = [session.study, session.trial, session.tab]
    changes = [session.study.change, session.trial.change, session.tab.change]
    cues = list(session.cues.values())
    asked = [session.tab, session.study, session.trial, session.version, *cues]
    cue = script_with("cues.js", FOLLOWS, LINE)
    # Cues are given in the browser, which knows which tab is open and what each of them has shown.
    gr.on(
        [*changes, session.version.change],
        None,
        asked,
        cues,
        js=cue,
        api_visibility="private",
    )
    gr.on(
        changes,
        None,
        shown,
        None,
        js=static_text("page_address.js"),
        api_visibility="private",
    )
    session.listen_in_order(
        [session.cues[LINE].change],
        describe,
        [session.study, session.trial],
        [line],
    )


def _arrived(cache: StoreCache, asked: Mapping[str, str]) -> tuple[Any, ...]:
    """Return what a page shows at first, from its address."""
    named = asked.get("tab", "")
    tab = FORMER_IDS.get(named, named)
    opened: tuple[Any, Any] = (gr.skip(), gr.skip())
    # Only where the address asks for one: the list can be seen, and another tab opened, before
    # this comes.
    if tab in {item.id for item in TABS}:
        opened = (gr.Tabs(selected=tab), tab)

    version = cache.version()
    names = []
    if not version.startswith(NOTHING_THERE):
        names = cache.names()
    name = _asked_study(asked, names)
    number = next(iter(compare.asked_for(asked.get("trial", ""))), None)
    compared = compare.asked_for(asked.get("compare", ""))
    return gr.Dropdown(choices=names, value=name), number, version, *opened, compared


def _followed(cache: StoreCache, known: str, name: str | None) -> Any:
    """Return the store's version and its studies, where they are others than those known."""
    version = cache.version()
    if version == known:
        return skip(2)
    # The list stays while a database is away for a moment.
    if version.startswith(NOTHING_THERE):
        return version, gr.skip()
    names = cache.names()
    chosen = name
    if name not in names:
        chosen = _first(names)
    return version, gr.Dropdown(choices=names, value=chosen)


def theme() -> gr.themes.Base:
    """Return the look, with the system's fonts: nothing is loaded from a network."""
    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
        text_size="sm",
        spacing_size="sm",
    )
