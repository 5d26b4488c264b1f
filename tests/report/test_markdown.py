"""The Markdown says the same, and nothing from the store becomes Markdown or HTML."""

from __future__ import annotations

import re
from typing import Any

import pytest
from report_worlds import SCRIPT

from automl_sr.report.markdown import code, escape, markdown
from automl_sr.report.sections import sections


@pytest.fixture(scope="module")
def text(report: dict[str, Any]) -> str:
    return markdown(report)


def without_fences(text: str) -> str:
    return re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)


def test_it_has_the_sections_of_the_page(text: str, report: dict[str, Any]) -> None:
    drawn = {"Parallel coordinates"}
    told = [section.title for section in sections(report) if section.title not in drawn]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == told


def test_rows_have_as_many_cells_as_columns(text: str) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", without_fences(text), re.MULTILINE)
    assert len(tables) > 10
    for table in tables:
        assert len({len(re.split(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def test_markup_is_text(text: str) -> None:
    assert SCRIPT not in without_fences(text)
    assert escape(SCRIPT) in text
    assert SCRIPT in text, "inside the fence of the study file it is code"


def test_text_keeps_no_meaning() -> None:
    assert escape("a|b *c* <d>\n[e](f) `g`") == r"a\|b \*c\* \<d\> \[e\](f) \`g\`"
    assert code("a|b") == r"`a\|b`"
    assert code("a`b``c") == "``` a`b``c ```"


def test_a_fence_is_longer_than_any_in_the_text(report: dict[str, Any]) -> None:
    study = {**report["study"], "source": "name: x\n```` four\n"}
    written = markdown({**report, "study": study})
    assert "\n`````text\nname: x\n```` four\n`````\n" in written
