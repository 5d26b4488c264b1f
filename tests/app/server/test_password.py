"""Where the password comes from, and that it is shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl_sr.app.server.password import AUTH, Secret, given_secret, is_private, read_auth
from automl_sr.cli.main import main
from automl_sr.errors import UseError


def given(
    auth: str | None = None, file: Path | None = None, no_auth: bool = False, env: str | None = None
) -> object:
    return given_secret(auth, file, no_auth, {} if env is None else {AUTH: env})


def test_it_comes_from_a_variable_or_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "login.txt"
    file.write_text("\nme:se:cr\N{LATIN SMALL LETTER E WITH ACUTE}t \r\n", encoding="utf-8")
    assert given(env="me:secret") == Secret("me", "secret")
    assert given(file=file) == Secret("me", "se:cr\N{LATIN SMALL LETTER E WITH ACUTE}t ")
    assert given() is None


def test_the_command_line_goes_before_the_variable(tmp_path: Path) -> None:
    assert given(auth="you:other", env="me:secret") == Secret("you", "other")
    assert given(no_auth=True, env="me:secret") is None


@pytest.mark.parametrize("content", ["", "me", "me:", ":x", "me:a\nyou:b", "x" * 5000])
def test_a_file_that_holds_none_is_a_sentence(content: str, tmp_path: Path) -> None:
    file = tmp_path / "login.txt"
    file.write_text(content)
    with pytest.raises(
        UseError, match=r"--auth-file .*login\.txt (does not hold one line|is not of the form)"
    ) as told:
        given(file=file)
    assert "you:b" not in str(told.value)


def test_a_file_that_others_can_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "login.txt"
    file.write_text("me:secret")
    file.chmod(0o640)
    assert not is_private(file)
    file.chmod(0o600)
    assert is_private(file)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_a_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(UseError, match=r"--auth-file .* cannot be read: "):
        given(file=tmp_path / name)


def test_two_things_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="Both --auth and --auth-file"):
        given(auth="me:x", file=tmp_path)
    with pytest.raises(UseError, match="--no-auth lets everybody in, but"):
        given(auth="me:x", no_auth=True)


def test_a_variable_that_holds_none_does_not_let_everybody_in() -> None:
    with pytest.raises(UseError, match=f"{AUTH} is not of the form user:password"):
        given(env="")


def test_it_is_not_shown() -> None:
    assert "secret" not in repr(read_auth("me:secret"))


@pytest.mark.parametrize(
    ("user", "password", "fits"),
    [
        ("me", "secret", True),
        ("me", "Secret", False),
        ("you", "secret", False),
        ("", "", False),
        ("me", "\ud800", False),
    ],
)
def test_both_must_be_right(user: str, password: str, fits: bool) -> None:
    assert Secret("me", "secret").is_said(user, password) is fits


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--public-name", "https://x"], "--public-name 'https://x' is no name of a machine."),
        (
            ["--public-name", "sr.example.org"],
            "Behind a proxy anybody in the network could look at this store.",
        ),
        (["--proxy", "x", "--public-name", "a"], "--proxy 'x' is no address."),
        (
            ["--proxy", "10.0.0.5"],
            "--proxy needs --public-name, the name under which it serves the app.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_use_is_a_sentence(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(AUTH, raising=False)
    assert main(["app", *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1
