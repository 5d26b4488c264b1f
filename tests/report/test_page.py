"""The page stands alone, is well formed and accessible, and shows what is in the store as text
only.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_worlds import SCRIPT, collected
from search_world import find, load, run_fast

from automl_sr.presentation.markup import VOID, Markup, el, escape
from automl_sr.report.look import SCRIPT as OUR_SCRIPT
from automl_sr.report.look import STYLE
from automl_sr.report.page import page


class Reading(HTMLParser):
    """Reads a page strictly: what is opened has to be closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def text(report: dict[str, Any]) -> str:
    return page(report)


@pytest.fixture(scope="module")
def read(text: str) -> Reading:
    return Reading(text)


def test_all_sections_are_there_and_linked(read: Reading) -> None:
    sections = [section["id"] for section in read.of("section")]
    assert sections == [
        "summary", "front", "nets", "images", "efficiency-score", "history", "importance",
        "parallel-coordinates", "learning-curves", "early-stopping", "failures", "costs", "study", "environment", "all-trials",
    ]  # fmt: skip
    assert [link["href"] for link in read.of("a")] == [f"#{section}" for section in sections]


def test_nothing_is_fetched(text: str, read: Reading) -> None:
    for _, attributes in read.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/"))
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|importScripts", text)


def test_only_our_script_and_style_may_run(read: Reading) -> None:
    [policy] = [
        meta["content"] or ""
        for meta in read.of("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    for inline in (OUR_SCRIPT, STYLE):
        assert (
            f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
            in policy
        )
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    assert not [
        attributes
        for _, attributes in read.elements
        if "style" in attributes or "onclick" in attributes
    ]


def test_what_comes_from_the_store_is_text(text: str, read: Reading) -> None:
    assert len(read.of("script")) == 1
    assert SCRIPT not in text
    assert html.escape(SCRIPT) in text
    assert "".join(read.words).count(SCRIPT) >= 3, "reason, traceback and study file"


def test_it_can_be_read_by_everyone(text: str, read: Reading) -> None:
    assert read.of("html") == [{"lang": "en"}]
    assert all(image.get("alt") for image in read.of("img"))
    assert all(
        drawing.get("aria-label") or drawing.get("aria-hidden") for drawing in read.of("svg")
    )
    assert all(head.get("scope") in ("col", "row") for head in read.of("th"))
    assert len(read.of("caption")) == len(read.of("table"))
    assert len(read.of("h1")) == 1
    assert {"viewport", "color-scheme"} <= {meta.get("name") for meta in read.of("meta")}
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_ids_are_given_once(read: Reading) -> None:
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_mark_in_a_chart_can_be_explained(report: dict[str, Any], read: Reading) -> None:
    explained = {
        row["data-t"]: row["data-tip"] or "" for row in read.of("tr") if row.get("data-tip")
    }
    marks = {
        attributes["data-t"]
        for tag, attributes in read.elements
        if tag != "tr" and "data-t" in attributes
    }
    assert marks
    assert marks <= set(explained)
    member = report["front"][0]
    assert member["words"] in explained[str(member["number"])]


def test_a_page_of_forty_trials_is_small(text: str) -> None:
    assert len(text.encode()) < 150_000


def test_a_study_without_a_model_has_a_page(tmp_path: Path) -> None:
    def run(*_: Any) -> Any:
        raise ValueError("no luck")

    find(load(trials=2), tmp_path, run)
    read = Reading(page(collected(tmp_path)))
    assert any("there is no front yet" in word for word in read.words)
    assert any("no luck" in word for word in read.words)


@pytest.mark.parametrize("objectives", ["score", "score, params, macs"])
def test_any_number_of_objectives_is_drawn(tmp_path: Path, objectives: str) -> None:
    def run(plan: Any, setting: Any, observer: Any, place: Path) -> Any:
        outcome = run_fast(plan, setting, observer, place)
        outcome.values.update(
            {"macs": 5.0e6 * plan.params["architecture.line.width"]} if "macs" in objectives else {}
        )
        return outcome

    find(load(trials=4, objectives=objectives), tmp_path, run)
    read = Reading(page(collected(tmp_path)))
    names = objectives.split(", ")
    pairs = [
        drawing for drawing in read.of("svg") if "is better" in (drawing.get("aria-label") or "")
    ]
    assert len(pairs) == len(names) * (len(names) - 1) // 2


def test_text_is_escaped_unless_it_is_markup() -> None:
    assert (
        el("p", "<b>", Markup("<i></i>"), None, ["&", 1], title='"', class_="x")
        == '<p title="&quot;" class="x">&lt;b&gt;<i></i>&amp;1</p>'
    )
    assert el("br") == "<br>"
    assert (
        escape("a\x00\x08\ud800b")
        == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"
    )
