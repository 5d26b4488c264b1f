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
    return _UNSEEN.sub(_kept if lines else _escape, text)


def visible_json(text: str) -> str:
    """Return a JSON document with what cannot be seen as JSON escapes: it stays the same
    document.
    """
    return _UNSEEN.sub(_json_escape, text)


def hidden(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without passwords: those in addresses and settings, and what is known to be
    secret.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _BEFORE_AT.sub(_without_password, text)
    return _SETTING.sub(rf"\1{HIDDEN}", text)


def secrets_of(arguments: Iterable[str], environment: Mapping[str, str]) -> frozenset[str]:
    """Find what must not be shown: passwords in the addresses of a command line, and of the
    environment.
    """
    variables = (value for name, value in environment.items() if _SECRET_NAME.search(name))
    found = set()
    for value in variables:
        if len(value) >= SHORTEST_VARIABLE:
            found.add(value)
    for address in _addresses(arguments, environment):
        found |= _passwords(address)
    known = set()
    for secret in found:
        for form in _forms(secret):
            known.add(form)
    return frozenset(form for form in known if len(form) >= SHORTEST_SECRET)


def _addresses(arguments: Iterable[str], environment: Mapping[str, str]) -> Iterable[str]:
    yield from (environment[name] for name in _PLACES if name in environment)
    before = ""
    for argument in arguments:
        name, _, value = argument.partition("=")
        if before in _OPTIONS:
            yield argument
        elif name in _OPTIONS:
            yield value
        elif "://" in argument:
            yield argument
        before = argument


def _passwords(address: str) -> set[str]:
    """Find what may be a password in an address, however malformed it is, and the parts that an
    error may quote.
    """
    rest = _SCHEME.sub("", address.strip())
    front, at, _ = rest.rpartition("@")
    if at:
        user, colon, password = front.partition(":")
        folder = not colon and "/" in user  # whose name may hold an @
        if folder:
            found = set()
        else:
            found = {password if colon else user}
    else:  # then a password may stand where the port belongs
        port = rest.partition("/")[0].partition(":")[2]
        if port.isdecimal():
            found = set()
        else:
            found = {port}
    found |= {part for password in found for part in _PARTS.split(password)}
    _, _, query = address.partition("?")
    for setting in re.split(r"[&;?]", query):
        name, _, value = setting.partition("=")
        if _SECRET_NAME.search(name) or name.lower() in ("pwd", "pass"):
            found.add(value)
    return found


def _without_password(match: re.Match[str]) -> str:
    """Hide what stands between the user's name and the last @ of an address, slashes or none."""
    scheme, slashes, rest = match[0].partition("://")
    if not slashes:
        scheme, slashes, rest = match[0].partition(":")
    user, colon, _ = rest.partition(":")
    if colon:
        return f"{scheme}{slashes}{user}:{HIDDEN}@"
    return match[0]


def _forms(secret: str) -> set[str]:
    """Write a secret as programs do: as it is, decoded, encoded, and quoted by Python."""
    plain = {secret, urllib.parse.unquote(secret), urllib.parse.unquote_plus(secret)}
    encoded = set()
    for form in plain:
        for quote in (urllib.parse.quote, urllib.parse.quote_plus):
            encoded.add(quote(form, safe="", errors="surrogatepass"))
    found: set[str] = set()
    for text in plain | encoded:
        for form in (text, repr(text)[1:-1]):
            found.add(form)
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
    code = ord(match[0])
    if match[0] in _KEPT:
        return match[0]
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
