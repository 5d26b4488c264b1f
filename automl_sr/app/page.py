"""The page: study and selected trial on top, then the tabs, and the address that leads back to what
is shown.
"""

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
    """Make the page; each visitor has a session of their own."""
    page: ServerRenderedBlocks
    with ServerRenderedBlocks(
        title="automl-sr", analytics_enabled=False, delete_cache=(3600, 3600)
    ) as page:
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
                label="Trial", precision=0, minimum=0, elem_id="trial", scale=1, min_width=110
            )
        line = gr.HTML(NOTHING_SELECTED, elem_id="line")
        compared = gr.State([])
        # not States, because those never reach the browser
        version, opened = gr.Textbox("", visible="hidden"), gr.Textbox("studies", visible="hidden")
        count = gr.Number(0, visible="hidden")
        cues = {}
        for name, _ in FOLLOWS:
            cues[name] = gr.Textbox("", visible="hidden")
        session = Session(page, cache, study, trial, compared, version, opened, count, cues)
        with gr.Tabs(elem_id="tabs") as tabs:
            for tab in TABS:
                with gr.Tab(tab.title, id=tab.id, elem_id=f"tab-{tab.id}") as item:
                    tab.build(session)
                gr.on(
                    [item.select],
                    None,
                    [],
                    [opened],
                    js=f"() => {json.dumps(tab.id)}",
                    api_visibility="private",
                )
        _wire(page, session, tabs, line)
    return page


def _first(names: Sequence[str]) -> str | None:
    return next(iter(names), None)


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
    shown = None
    if chosen:
        shown = snapshot(cache, name)
    if shown is None:
        return NOTHING_SELECTED
    try:
        return trial_line(shown, shown.trial(chosen[0]))
    except AutomlSRError as error:
        gr.Warning(escaped(error))
        return NOTHING_SELECTED


def _wire(page: gr.Blocks, session: Session, tabs: gr.Tabs, line: gr.HTML) -> None:
    """Let the page follow the address when it is opened, the store while it changes, and the
    address the page.
    """
    cache = session.cache

    def arrive(request: gr.Request) -> tuple[Any, ...]:
        asked = dict(request.query_params)
        named = asked.get("tab", "")
        tab = FORMER_IDS.get(named, named)
        # only where the address asks for one: the list can be seen, and another tab opened, before
        # this comes
        if tab in {item.id for item in TABS}:
            opened = (gr.Tabs(selected=tab), tab)
        else:
            opened = (gr.skip(), gr.skip())
        version = cache.version()
        names = []
        if not version.startswith(NOTHING_THERE):
            names = cache.names()
        name = _asked_study(asked, names)
        number = next(iter(compare.asked_for(asked.get("trial", ""))), None)
        compared = compare.asked_for(asked.get("compare", ""))
        return gr.Dropdown(choices=names, value=name), number, version, *opened, compared

    def follow(known: str, name: str | None) -> Any:
        version = cache.version()
        if version == known:
            return skip(2)
        if version.startswith(NOTHING_THERE):
            return version, gr.skip()
        names = cache.names()
        chosen = name
        if name not in names:
            chosen = _first(names)
        return version, gr.Dropdown(choices=names, value=chosen)

    def describe(name: str | None, chosen: Any) -> str:
        return _described(cache, name, numbers(chosen))

    page.load(
        safely(arrive),
        None,
        [session.study, session.trial, session.version, tabs, session.tab, session.compared],
        api_visibility="private",
        show_progress="hidden",
    )
    timer = gr.Timer(POLL_SECONDS)
    both = [session.version, session.study]
    listen([timer.tick], follow, both, both, trigger_mode="once")
    changes = []
    for item in (session.study, session.trial, session.tab):
        changes.append(item.change)
    cues, shown = list(session.cues.values()), [session.study, session.trial, session.tab]
    asked = [session.tab, session.study, session.trial, session.version, *cues]
    cue = script_with("cues.js", FOLLOWS, LINE)
    gr.on([*changes, session.version.change], None, asked, cues, js=cue, api_visibility="private")
    gr.on(changes, None, shown, None, js=static_text("page_address.js"), api_visibility="private")
    session.listen_in_order(
        [session.cues[LINE].change], describe, [session.study, session.trial], [line]
    )


def theme() -> gr.themes.Base:
    """Return the look, with the system's fonts: nothing is loaded from a network."""
    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
        text_size="sm",
        spacing_size="sm",
    )
