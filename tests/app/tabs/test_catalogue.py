"""What is said of installed plugins: fields with types and limits, what fits a search, cards; none
of it is markup.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar

import pytest
import space_toys
from pydantic import Field

from automl_sr.app.tabs.catalogue import (
    method_card,
    method_cards,
    searched,
    tasks_html,
    techniques_html,
    type_words,
    unavailable_html,
)
from automl_sr.plugin.registry import Registry, Unavailable, installed
from automl_sr.plugin.technique import Each, Float, Int, Pick, Slot, Technique, When, search_fields
from automl_sr.study.schema import field_schema

SCRIPT = "<script>alert('x')</script>"


class Example(Technique):
    """Do <b>something</b> of every kind.

    The second paragraph says more.
    """

    slot = Slot.SELECTION
    name = "example"
    provides = frozenset({"int8"})
    whole: Annotated[
        int, Int(2, 8, step=2), Field(ge=1, le=64, description=f"how many {SCRIPT}")
    ] = 4
    share: Annotated[float, Float(0.1, 0.9), Field(gt=0, lt=1)] = 0.5
    mode: bool = True
    only: Annotated[float, Float(1e-4, 1e-2, log=True), When(mode=[True])] = 1e-3
    places: Annotated[tuple[int, ...], Each(Int(1, 3), count=2, max=2)] = (1, 2)
    inner: Annotated[Technique | None, Pick(Slot.ARCHITECTURE)] = None
    limit: float | None = Field(default=None, ge=0)
    word: str = "plain"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return space_toys.registry([*space_toys.TECHNIQUES, Example])


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_types_and_hard_limits_are_words() -> None:
    found = {spec.name: type_words(field_schema(Example, spec)) for spec in search_fields(Example)}
    assert found["whole"] == "whole number from 1 to 64"
    assert found["share"] == "number above 0 to below 1"
    assert found["mode"] == "true or false"
    assert found["places"] == "list of whole number"
    assert found["limit"] == "number from 0 or null"
    assert found["word"] == "text"


def test_search_ranges_and_conditions_are_words() -> None:
    found = {spec.name: searched(spec) for spec in search_fields(Example)}
    assert found == {
        "whole": "2 .. 8, step 2",
        "share": "0.1 .. 0.9",
        "mode": "false | true",
        "only": "0.0001 .. 0.01, log, if mode is true",
        "places": "(1 .. 3) x 2 places",
        "inner": "a nested architecture",
        "limit": "fixed",
        "word": "fixed",
    }


def test_a_technique_is_described_in_full_and_nothing_of_it_is_markup(registry: Registry) -> None:
    html = techniques_html(registry, "example", "")
    assert "<script>" not in html
    assert "<b>something</b>" not in html
    assert "<details class='technique' open>" in html, "what is found alone is unfolded"
    for part in ("Do <b>", "The second paragraph says more.", "provides: int8", "plugin: toys"):
        assert part.replace("<b>", "&lt;b&gt;") in html


def test_the_baseline_stands_first_in_its_slot(registry: Registry) -> None:
    found = text(techniques_html(registry, "", "selection"))
    assert found.startswith("3 techniques selection none (trial 0): Train on everything.")
    assert "architecture" not in found.split("example")[0]


def test_what_a_study_has_to_name_is_marked() -> None:
    class Dear(space_toys.Edsr):
        """A larger network."""

        name = "dear"
        asked_only = True

    found = text(techniques_html(space_toys.registry([Dear]), "dear", "architecture"))
    assert "dear (only if named): A larger network." in found


@pytest.mark.parametrize(
    ("asked", "slot", "names"),
    [
        ("", "pruning", ["none", "sparse"]),
        ("sparse_weights", "", ["sparse", "int8_ptq", "packed"]),
        ("drop_hardest", "", ["loss"]),
        ("HARDEST train", "", ["loss"]),
        ("nothing-like-it", "", []),
        ("none", "architecture", []),
    ],
)
def test_every_word_that_is_asked_for_has_to_occur(
    registry: Registry, asked: str, slot: str, names: list[str]
) -> None:
    assert re.findall(r"<summary><b>([^<]*)</b>", techniques_html(registry, asked, slot)) == names


def test_tasks_and_metrics_are_listed_with_what_they_are(registry: Registry) -> None:
    found = text(tasks_html(registry))
    assert "image-sr Enlarge toy images. scale, train" in found
    assert "psnr_y maximize, dB quality Peak signal-to-noise ratio" in found


def test_what_is_unavailable_is_listed_with_its_reason() -> None:
    broken = space_toys.registry()
    assert "can be used" in unavailable_html(broken)
    broken.unavailable.append(Unavailable("far", "cells", f"ImportError: {SCRIPT}"))
    found = unavailable_html(broken)
    assert "<script>" not in found
    assert "far cells ImportError" in text(found)


def test_the_built_in_families_have_their_cards() -> None:
    cards = method_cards(installed())
    assert {"quantization", "reference", "selection"} <= set(cards)
    assert cards["quantization"].startswith("# quantization")


class Carded(Technique):
    """Has a card."""

    slot = Slot.SELECTION
    name = "carded"
    tasks: ClassVar = frozenset({"*"})


def carded(folder: Path, monkeypatch: pytest.MonkeyPatch, card: bytes | None) -> Any:
    """A technique in a package of its own, with a card or without."""
    name = f"carded_{folder.name}"
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("")
    if card is not None:
        (folder / name / "README.md").write_bytes(card)
    monkeypatch.syspath_prepend(str(folder))
    importlib.import_module(name)
    monkeypatch.setattr(Carded, "__module__", name)
    return Carded


def test_links_of_a_card_that_lead_nowhere_are_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = b"See [paper](https://arxiv.org/abs/1) and [code](impl.py), ![picture](https://example.org/a.png)."
    found = method_card(carded(tmp_path, monkeypatch, card))
    assert found == "See [paper](https://arxiv.org/abs/1) and code, picture."


@pytest.mark.parametrize("card", [None, b"\xff\xfe\x00"])
def test_a_package_without_a_readable_card_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: bytes | None
) -> None:
    assert method_card(carded(tmp_path, monkeypatch, card)) is None


def test_a_technique_outside_of_a_package_has_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "alone", ModuleType("alone"))
    monkeypatch.setattr(Carded, "__module__", "alone")
    assert method_card(Carded) is None
