"""Study files that mean harm: one sentence with the line, before anything is composed of them."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from automl_sr.errors import StudyFileError
from automl_sr.study import yaml_lines
from automl_sr.study.yaml_lines import MAX_BYTES, parse

MANY = MAX_BYTES - 100

EXTENT = {
    "brackets": ("a: " + "[" * 20_000, "f.yaml:1: the file is nested too deeply"),
    "closed brackets": ("a: " + "[" * 50 + "]" * 50, "f.yaml:1: the file is nested too deeply"),
    "braces": ("a: " + "{b: " * 50, "f.yaml:1: the file is nested too deeply"),
    "indentation": (
        "\n".join(" " * depth + "a:" for depth in range(300)),
        "f.yaml:41: the file is nested too deeply",
    ),
    "dashes": ("- " * 20_000, "f.yaml:1: the file is nested too deeply"),
    "question marks": ("? " * 20_000, "f.yaml:1: the file is nested too deeply"),
    "a long list": (
        "a: [" + "1," * (MANY // 2) + "]",
        "f.yaml:1: the file has more than 10,000 keys and values",
    ),
    "many mappings": (
        "a: [" + "{b: 1}," * (MANY // 7) + "]",
        "f.yaml:1: the file has more than 10,000 keys",
    ),
    "many keys": (
        "\n".join(f"k{i}: 1" for i in range(20_000)),
        "f.yaml:5000: the file has more than 10,000 keys",
    ),
    "many anchors": (
        "\n".join(f"k{i}: &a 1" for i in range(15_000)),
        "f.yaml:5000: the file has more than 10,000",
    ),
    "many documents": (
        "---\n" * 20_000,
        "f.yaml:10002: the file has more than 10,000 keys and values",
    ),
    "a long word": ("a: " + "x" * MANY, "f.yaml:1: a value is 199,900 characters long"),
    "long text": (
        "\na: |\n" + "  words\n" * 20_000,
        "f.yaml:2: a value is 120,000 characters long",
    ),
    "a long key": ("? " + "x" * MANY, "f.yaml:1: a value is 199,900 characters long"),
    "a long number": ("a: " + "9" * MANY, "f.yaml:1: a value is 199,900 characters long"),
    "too large": ("# " + "x" * MAX_BYTES, "f.yaml is larger than 200 kB, which no study file is"),
}


@pytest.mark.parametrize("name", list(EXTENT))
def test_what_is_too_much_is_refused_before_it_is_composed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def composed(*_: object) -> None:
        raise AssertionError("it was composed")

    monkeypatch.setattr(YAML, "compose", composed)
    text, said = EXTENT[name]
    assert complaint(text).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [*a]", "f.yaml:1: a.0.0: the file grows beyond all bounds here"),
        ("a: &a {b: *a}", "f.yaml:1: a.b.b: the file grows beyond all bounds here"),
        ("a: &a 1\nb: &a 2\nc: *gone", "f.yaml:3: this is not YAML: found undefined alias 'gone'"),
        ("a: *" + "x" * 9000, "f.yaml:1: this is not YAML: found undefined alias 'xxxx"),
        ("a: 1" + "0" * 4500, "f.yaml:1: a: '100000"),
        ("a: 0x" + "f" * 9000, "f.yaml:1: a: '0xfff"),
        ("x" * 900 + ": 1", "f.yaml:1: a key is 900 characters long"),
        ("[a, b]: 1", "f.yaml:1: a key must be a word"),
        ("a: !" + "x" * 9000 + " 1", "f.yaml:1: a: the tag '!xxx"),
        ("%YAML " + "1" * 9000 + ".2\n---\na: 1", "f.yaml: this is not YAML: Exceeds the limit"),
        (
            "%TAG ! tag:a,1:\n%TAG ! tag:a,1:\n---\na: 1",
            "f.yaml:2: this is not YAML: duplicate tag handle",
        ),
        ('a: "' + "x" * 900, "f.yaml:1: this is not YAML: while scanning a quoted scalar"),
        ("a: \x1b[31m", "f.yaml: this is not YAML: unacceptable character"),
        (":" * 9000, "f.yaml:1: this is not YAML"),
        ("{", "f.yaml:1: this is not YAML"),
        ("\x85\u2028a: [", "f.yaml"),
    ],
)
def test_what_is_wrong_is_one_short_sentence(text: str, said: str) -> None:
    assert complaint(text).startswith(said)


def test_aliases_are_counted_as_what_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_lines, "MAX_VALUES", 20)
    assert parse("a: &a [1, 2, 3, 4, 5]\nb: *a", "f.yaml")[0] == {
        "a": [1, 2, 3, 4, 5],
        "b": [1, 2, 3, 4, 5],
    }
    assert "grows beyond all bounds" in complaint("a: &a [1, 2, 3, 4, 5]\nb: [*a, *a, *a]")


def test_comments_and_blank_lines_cost_nothing() -> None:
    assert parse("# words\n\n" * 15_000 + "a: 1", "f.yaml")[0] == {"a": 1}


def complaint(text: str) -> str:
    with pytest.raises(StudyFileError) as refused:
        parse(text, "f.yaml")
    said = str(refused.value)
    assert "\n" not in said
    assert len(said) < 700
    return said
