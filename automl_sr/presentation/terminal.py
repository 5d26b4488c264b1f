"""What may reach a terminal: text whose every character can be seen, and without passwords.

Names come from stores, files and archives of others. A terminal obeys control characters, direction
marks show a name backwards, and what has no width hides: all of them are written out, as `\\x1b` or
`\\u202e`.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Mapping

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb"
    "\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
"""Control and format characters, separators of lines, blanks without a width, halves of pairs, and
no characters.
"""
_KEPT = "\n\t"
_BEFORE_AT = re.compile(r"(?<![^\s'\"])[^\s'\"]+@")
"""A word up to its last @, which may be an address with a password that holds an @ too."""
_SETTING = re.compile(
    r"(?i)((?:password|passwd|passphrase|pwd|secret|token|api_?key|access_?key)[a-z_]{0,20}(?:=|%3d))[^\s&;'\",]+"
)
_SCHEME = re.compile(r"^[\w+.-]+:/*")
_PARTS = re.compile(r"[@:/?#\s]+")
HIDDEN = "***"
SHORTEST_SECRET = 3
SHORTEST_VARIABLE = 6
"""Shorter ones would be found in every other word, or are no more than `true`."""
_SECRET_NAME = re.compile(r"(?i)password|passwd|secret|token|credential|api_?key|access_?key")
_PLACES = ("AUTOML_SR_STORE", "AUTOML_SR_ARTIFACTS")
_OPTIONS = ("--store", "--artifacts")


def visible(text: str, *, lines: bool = False) -> str:
    """Return the text with what cannot be seen written out; `lines` keeps line breaks and tabs."""
    if lines:
        return _UNSEEN.sub(_kept, text)
    return _UNSEEN.sub(_escape, text)


def visible_json(text: str) -> str:
    """Return a JSON document with what cannot be seen as JSON escapes: it stays the same
    document.
    """
    return _UNSEEN.sub(_json_escape, text)


def hidden(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without passwords, in addresses and settings, and without known secrets."""
    # The longest first: one that is part of another would leave the rest of it readable.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _BEFORE_AT.sub(_without_password, text)
    return _SETTING.sub(rf"\1{HIDDEN}", text)


def secrets_of(arguments: Iterable[str], environment: Mapping[str, str]) -> frozenset[str]:
    """Return what must not be shown of a command line and of the environment."""
    secrets = set()
    for name, value in environment.items():
        if _SECRET_NAME.search(name) and len(value) >= SHORTEST_VARIABLE:
            secrets.add(value)
    for address in _addresses(arguments, environment):
        secrets |= _passwords(address)

    forms = set()
    for secret in secrets:
        for form in _forms(secret):
            if len(form) >= SHORTEST_SECRET:
                forms.add(form)
    return frozenset(forms)


def _addresses(arguments: Iterable[str], environment: Mapping[str, str]) -> Iterable[str]:
    for place in _PLACES:
        if place in environment:
            yield environment[place]
    before = ""
    for argument in arguments:
        name, _, value = argument.partition("=")
        if before in _OPTIONS:
            yield argument
        elif name in _OPTIONS:
            yield value
        elif "://" in argument:  # an address in the wrong place is quoted by the error about it
            yield argument
        before = argument


def _passwords(address: str) -> set[str]:
    """Return what may be a password in an address, however malformed it is."""
    rest = _SCHEME.sub("", address.strip())
    password = _before_host(rest)
    # Its parts too: errors quote parts of an address that could not be read.
    found = {password, *_PARTS.split(password)}

    _, _, query = address.partition("?")
    for setting in re.split(r"[&;?]", query):
        name, _, value = setting.partition("=")
        named = _SECRET_NAME.search(name)
        if named or name.lower() in ("pwd", "pass"):
            found.add(value)
    return found


def _before_host(rest: str) -> str:
    """Return what stands where a password belongs; an empty text for none."""
    front, at, _ = rest.rpartition("@")
    if not at:
        # Then a password may stand where the port belongs.
        host, _, _ = rest.partition("/")
        _, _, port = host.partition(":")
        if port.isdecimal():
            return ""
        return port
    user, colon, password = front.partition(":")
    if colon:
        return password
    if "/" in user:  # a folder, whose name may hold an @
        return ""
    return user


def _without_password(match: re.Match[str]) -> str:
    """Hide what stands between the user's name and the last @ of an address."""
    scheme, slashes, rest = match[0].partition("://")
    if not slashes:  # an address may lack them
        scheme, slashes, rest = match[0].partition(":")
    user, colon, _ = rest.partition(":")
    if colon:
        return f"{scheme}{slashes}{user}:{HIDDEN}@"
    return match[0]


def _forms(secret: str) -> set[str]:
    """Return a secret as programs write it: as it is, decoded, encoded, and quoted by Python."""
    plain = {
        secret,
        urllib.parse.unquote(secret),
        urllib.parse.unquote_plus(secret),
    }
    texts = set(plain)
    for form in plain:
        # What is no UTF-8 comes from the environment as halves of pairs, which `quote` refuses.
        texts.add(urllib.parse.quote(form, safe="", errors="surrogatepass"))
        texts.add(urllib.parse.quote_plus(form, safe="", errors="surrogatepass"))
    found = set(texts)
    for text in texts:
        found.add(repr(text)[1:-1])
    return found


def _kept(match: re.Match[str]) -> str:
    if match[0] in _KEPT:
        return match[0]
    return _escape(match)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is no UTF-8
        code -= 0xDC00
    if match[0] in "\t\n\r":
        return match[0].encode("unicode_escape").decode()
    return _written(code)


def _written(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    return f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    if match[0] in _KEPT:
        return match[0]
    code = ord(match[0])
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    # JSON knows four digits only: the rest is written as a surrogate pair.
    code -= 0x10000
    high = 0xD800 + (code >> 10)
    low = 0xDC00 + (code & 0x3FF)
    return f"\\u{high:04x}\\u{low:04x}"
