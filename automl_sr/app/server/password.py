"""The name and password that the app asks for, from where no list of processes shows them."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from automl_sr.errors import UseError

AUTH = "AUTOML_SR_APP_AUTH"
AUTH_BYTES = 4096
ON_COMMAND_LINE = (
    f"--auth can be read in the list of processes by everybody on this machine; use {AUTH} or"
    " --auth-file."
)


@dataclass(frozen=True)
class Secret:
    """Who is let in; what it is called nowhere shows it."""

    user: str
    password: str

    def __repr__(self) -> str:
        """Return the name alone."""
        return f"Secret({self.user!r}, ***)"

    def is_said(self, user: str, password: str) -> bool:
        """Return whether both are right, after the same time whatever is wrong with them."""
        name_fits = hmac.compare_digest(_digest(user), _digest(self.user))
        password_fits = hmac.compare_digest(_digest(password), _digest(self.password))
        return name_fits & password_fits


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def read_auth(text: str, where: str = "--auth") -> Secret:
    """Return what stands in `user:password`. Raises UseError, which does not repeat it."""
    user, colon, password = text.partition(":")
    if not (user.strip() and colon and password):
        raise UseError(f"{where} is not of the form user:password.")
    return Secret(user.strip(), password)


def read_auth_file(path: Path) -> Secret:
    """Return what stands in the first line of a file. Raises UseError."""
    try:
        with path.open("rb") as file:
            content = file.read(AUTH_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UseError(f"--auth-file {path} cannot be read: {reason}.") from error
    lines = []
    for line in text.splitlines():
        if line.strip():
            lines.append(line)
    if len(content) > AUTH_BYTES or len(lines) != 1:
        raise UseError(f"--auth-file {path} does not hold one line, user:password.")
    return read_auth(lines[0], f"--auth-file {path}")


def is_private(path: Path) -> bool:
    """Return whether nobody but its owner can read a file."""
    return not path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)


def given_secret(
    auth: str | None,
    file: Path | None,
    no_auth: bool,
    environ: Mapping[str, str] = os.environ,
) -> Secret | None:
    """Return who is let in, if somebody alone is. Raises UseError where two things are said."""
    if auth is not None and file is not None:
        raise UseError("Both --auth and --auth-file are given.", "Leave --auth out.")
    if no_auth and (auth is not None or file is not None):
        raise UseError(
            "--no-auth lets everybody in, but a password is given too.",
            "Leave one out.",
        )
    if auth is not None:
        return read_auth(auth)
    if file is not None:
        return read_auth_file(file)
    if no_auth or AUTH not in environ:
        return None
    return read_auth(environ[AUTH], AUTH)
