"""What reaches a terminal can be seen, every character of it, and holds no password."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from automl_sr.presentation.terminal import hidden, secrets_of, visible, visible_json

OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Control, format, halves of pairs, separators of lines and paragraphs."""
SECRET = "S3cr3t"


def everything() -> list[str]:
    return [chr(code) for code in range(sys.maxunicode + 1)]


def test_no_character_that_is_obeyed_or_hides_is_left() -> None:
    shown = [
        letter
        for letter in everything()
        if unicodedata.category(letter) in OBEYED and letter in visible(letter)
    ]
    assert shown == []


def test_letters_signs_and_blanks_of_all_scripts_stay() -> None:
    text = (
        "photo déjà 写真 фото صورة תמונה 한글 😀 ½ € x² ‘a’ – …"
        " \N{NARROW NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}."
    )
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\bc", r"a\rb\x08c"),
        ("two\nlines\tand", r"two\nlines\tand"),
        ("gnp.\u202eexe", r"gnp.\u202eexe"),
        ("a\u200bb\u2066c\ufeff", r"a\u200bb\u2066c\ufeff"),
        ("\U000e0041\u3164\u2028", r"\U000e0041\u3164\u2028"),
        ("byte \udcff", r"byte \xff"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_the_others_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown
    assert shown.isprintable()


def test_line_breaks_and_tabs_stay_where_there_are_several_lines() -> None:
    assert visible("a\tb\nc\r\n\x1b", lines=True) == "a\tb\nc\\r\n\\x1b"


def test_json_stays_the_same_document() -> None:
    value = {
        letter: f"a{letter}b" for letter in everything() if unicodedata.category(letter) in OBEYED
    }
    text = visible_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(text) == value
    assert not [letter for letter in set(text) - {"\n"} if unicodedata.category(letter) in OBEYED]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql://ann:pw@host/sr now", "at postgresql://ann:***@host/sr now"),
        ("postgresql+psycopg://ann:p@w@host", "postgresql+psycopg://ann:***@host"),
        ("(postgresql://ann:p:w/x@host)", "(postgresql://ann:***@host)"),
        ("'redis://:pw@host'", "'redis://:***@host'"),
        ("postgresql:/ann:pw@host", "postgresql:/ann:***@host"),
        ("postgresql:ann:pw@host", "postgresql:ann:***@host"),
        ("s3://key:pw@bucket/x s3://a:b@c", "s3://key:***@bucket/x s3://a:***@c"),
        ("sqlite:///x.db?password=pw&timeout=5", "sqlite:///x.db?password=***&timeout=5"),
        ("host=h PASSWORD=pw port=1", "host=h PASSWORD=*** port=1"),
        (
            "?sslpassword=pw&api_key=k&access_token=t",
            "?sslpassword=***&api_key=***&access_token=***",
        ),
        ("no secret: a@b.c, x2@2x.png, mailto:a@b.c", "no secret: a@b.c, x2@2x.png, mailto:a@b.c"),
    ],
)
def test_passwords_in_addresses_and_settings_are_hidden(text: str, shown: str) -> None:
    assert hidden(text) == shown
    assert hidden(shown) == shown


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://ann:{SECRET}@host/sr",
        f"postgresql://ann:a@{SECRET}@host/sr",
        f"postgresql://ann:{SECRET}",
        f"postgresql:/ann:{SECRET}@host",
        f"ann:{SECRET}@host/sr",
        f"//ann:{SECRET}@host/sr",
        f"postgresql://{SECRET}@host/sr",
        f"postgresql://ann: {SECRET}@host/sr",
        f"postgresql://host/sr?password={SECRET}",
        f"postgresql://host/sr?user=ann;PWD={SECRET}",
    ],
)
def test_secrets_are_found_however_an_address_is_written(address: str) -> None:
    for arguments in (["trials", "--store", address], ["trials", f"--store={address}"]):
        assert SECRET not in hidden(f"cannot use '{SECRET}', {SECRET!r}", secrets_of(arguments, {}))
    known = secrets_of([], {"AUTOML_SR_STORE": address})
    assert SECRET not in hidden(f"no host {SECRET}", known)


def test_secrets_are_hidden_in_every_form() -> None:
    known = secrets_of(["--store", "postgresql://ann:a%40b%2Fc d@host"], {})
    for form in ("a%40b%2Fc d", "a@b/c d", "a%40b%2Fc%20d", "a%40b%2Fc+d"):
        assert hidden(f"<{form}>", known) == "<***>"


def test_variables_of_the_environment_are_hidden_by_their_names() -> None:
    known = secrets_of(
        [],
        {"PGPASSWORD": "hunter22", "MY_API_KEY": "abcdef", "HOME": "/home/ann", "NO_TOKEN": "true"},
    )
    assert hidden("hunter22 abcdef /home/ann true", known) == "*** *** /home/ann true"


def test_short_words_are_no_secrets() -> None:
    assert not secrets_of(
        ["--store", "postgresql://ann:@host", "a:b@c"], {"AUTOML_SR_STORE": "postgresql://ann:x@h"}
    )


@pytest.mark.parametrize("word", ["a", "a:", "password", "'a@", "a@", "@", "://:", "\x1b", "a=@"])
def test_long_texts_take_no_longer_than_they_must(word: str) -> None:
    text = word * (200_000 // len(word))
    assert len(visible(hidden(text))) > 0
