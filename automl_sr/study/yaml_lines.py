"""Read YAML 1.2 into plain values, with the line on which each of them stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import KeyPath, StudyFileError, located

if TYPE_CHECKING:
    from ruamel.yaml.error import MarkedYAMLError

MAX_BYTES = 200_000
MAX_VALUES = 10_000
"""More keys and values than any study file has; also what a file that repeats aliases may grow
to.
"""
MAX_DEPTH = 40
MAX_TEXT = 10_000
"""Characters of one value."""
MAX_KEY = 200
MAX_DIGITS = 100
MAX_COMPLAINT = 300
"""Characters of what the reader of YAML says, which may quote the file."""

_TAG = "tag:yaml.org,2002:"
_TEXT = ("str", "timestamp", "merge", "value")
"""Tags whose values stay text: dates and `<<` are no part of YAML 1.2."""
_TRUTH = {"true": True, "false": False}


class Lines:
    """Where each value of a file stands: line numbers (from 1) by key path."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._lines: dict[KeyPath, int] = {(): 1}

    def put(self, path: KeyPath, line: int) -> None:
        """Remember where the value (and, for mappings, the key) of a path begins."""
        self._lines[path] = line

    def line(self, path: KeyPath) -> int:
        """Return the line of a path, or of the nearest part of it that is in the file."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def error(
        self,
        path: KeyPath,
        message: str,
        hint: str = "",
    ) -> StudyFileError:
        """Make the error `file:line: key.path: message`."""
        return located(
            path,
            message,
            hint,
            where=f"{self.file}:{self.line(path)}",
        )


def read_text(path: Path) -> str:
    """Read a study file.

    Raises StudyFileError where it is missing, a directory, too large or not text.
    """
    data = _bytes(path)
    if len(data) > MAX_BYTES:
        raise _too_large(str(path))
    not_text = StudyFileError(f"{path} is not a text file in UTF-8.", "A study file is YAML.")
    try:
        # `sig`: editors of Windows write a mark before the first character.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise not_text from None
    if "\0" in text:
        raise not_text
    return text


def _bytes(path: Path) -> bytes:
    """Read the beginning of a file, one byte more than a study file may have."""
    try:
        if path.is_dir():
            raise StudyFileError(
                f"{path} is a directory, not a study file.", "Name the .yaml file in it."
            )
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        hint = _neighbours(path)
        raise StudyFileError(f"There is no study file {path}.", hint) from None
    except OSError as error:
        raise StudyFileError(f"{path} cannot be read: {error.strerror or error}.") from None


def _neighbours(path: Path) -> str:
    """Name some study files of the folder in which one is missing."""
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either."
    names: list[str] = []
    for item in path.parent.iterdir():
        if item.suffix in (".yaml", ".yml"):
            names.append(item.name)
    if not names:
        return ""
    first = sorted(names)[:5]
    return f"In that folder are: {', '.join(first)}."


def parse(text: str, file: str) -> tuple[Any, Lines]:
    """Return the plain value of a YAML text and the lines of its parts. Raises StudyFileError."""
    # The reader of YAML is imported only where a file is read.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    lines = Lines(file)
    if len(text) > MAX_BYTES:
        raise _too_large(file)
    try:
        _check_extent(text, file)
        root = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        parts = [str(part) for part in (error.context, error.problem) if part]
        place = f"{file}:{_line_of(error)}"
        raise _not_yaml(place, " ".join(parts)) from None
    except StudyFileError:
        raise
    except Exception as error:  # noqa: BLE001 - on broken files the reader of YAML fails in many ways
        raise _not_yaml(file, str(error)) from None
    return _Reader(lines).value(root, ()), lines


def _line_of(error: MarkedYAMLError) -> int:
    """Return the line to look at, from 1."""
    mark = error.problem_mark or error.context_mark
    # The bracket that was opened says more than where the end of the file was.
    if "flow" in str(error.context or "") and error.context_mark:
        mark = error.context_mark
    if mark is None:
        return 1
    line: int = mark.line
    return line + 1


def _too_large(file: str) -> StudyFileError:
    return StudyFileError(
        f"{file} is larger than {MAX_BYTES // 1000} kB, which no study file is.",
        "Is it another file?",
    )


def _not_yaml(place: str, problem: str) -> StudyFileError:
    said = " ".join(problem.split())[:MAX_COMPLAINT].rstrip(".")
    return StudyFileError(
        f"{place}: this is not YAML: {said}.", "Check indentation, colons and brackets."
    )


def _check_extent(text: str, file: str) -> None:
    """Refuse what is nested too deeply, or too much, before anything is made of it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

    depth = 0
    values = 0
    # Event by event, so that no more is read than is allowed.
    for event in YAML(typ="rt", pure=True).parse(text):
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if isinstance(event, AliasEvent | CollectionStartEvent | ScalarEvent):
            values += 1

        where = f"{file}:{event.start_mark.line + 1}"
        if depth > MAX_DEPTH:
            raise StudyFileError(
                f"{where}: the file is nested too deeply.", f"{MAX_DEPTH} levels are allowed."
            )
        if values > MAX_VALUES:
            raise StudyFileError(
                f"{where}: the file has more than {MAX_VALUES:,} keys and values.", "Shorten it."
            )
        if isinstance(event, ScalarEvent) and len(event.value) > MAX_TEXT:
            raise StudyFileError(
                f"{where}: a value is {len(event.value):,} characters long.", "Shorten it."
            )


class _Reader:
    """Turns YAML nodes into values; counts them, so that aliases cannot blow up."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.nodes = 0

    def value(
        self,
        node: Any,
        path: KeyPath,
        line: int | None = None,
    ) -> Any:
        from ruamel.yaml.nodes import MappingNode, ScalarNode

        if node is None:
            return None
        if line is None:
            line = node.start_mark.line + 1
        self.lines.put(path, line)
        self.nodes += 1
        # Ten aliases of ten aliases of ten are a thousand values in three lines; one that holds
        # itself never ends.
        if self.nodes > MAX_VALUES or len(path) > MAX_DEPTH:
            raise self.lines.error(
                path[:3],
                "the file grows beyond all bounds here.",
                "Write values out instead of repeating aliases.",
            )
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, MappingNode):
            self._check_tag(node, "map", path)
            return self._mapping(node, path)
        self._check_tag(node, "seq", path)
        return self._list(node, path)

    def _check_tag(
        self,
        node: Any,
        kind: str,
        path: KeyPath,
    ) -> None:
        if node.tag != _TAG + kind:
            raise self._refused(node, path)

    def _list(self, node: Any, path: KeyPath) -> list[Any]:
        found: list[Any] = []
        for index, item in enumerate(node.value):
            found.append(self.value(item, (*path, index)))
        return found

    def _mapping(self, node: Any, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            name = self._key(key, line)
            inner: KeyPath = (*path, name)
            # YAML 1.2 forbids it, but many readers let the last one win in silence.
            if name in result:
                where = f"{self.lines.file}:{line}: {'.'.join(map(str, inner))}"
                first = self.lines.line(inner)
                raise StudyFileError(
                    f"{where}: the key {name!r} is there twice (first on line {first}).",
                    "Keep one of them.",
                )
            result[name] = self.value(item, inner, line)
        return result

    def _key(self, key: Any, line: int) -> str:
        """Return a key as text: `1: a` has the key "1"."""
        from ruamel.yaml.nodes import ScalarNode

        where = f"{self.lines.file}:{line}"
        if not isinstance(key, ScalarNode):
            raise StudyFileError(f"{where}: a key must be a word, not a list or a mapping.")
        name = str(key.value)
        if len(name) > MAX_KEY:
            raise StudyFileError(f"{where}: a key is {len(name):,} characters long.", "Shorten it.")
        return name

    def _scalar(self, node: Any, path: KeyPath) -> Any:
        text = str(node.value)
        tag = str(node.tag)
        kind = tag.removeprefix(_TAG)
        # Without the prefix it is a tag of the file's own, whatever it is called.
        if tag == kind and kind in _TEXT:
            raise self._refused(node, path)
        if kind in _TEXT:
            return text
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return _TRUTH[text.lower()]
                case "int":
                    return _integer(text)
                case "float":
                    return _number(text)
        except (ValueError, KeyError):
            raise self.lines.error(
                path, f"{text[:40]!r} is not a value of the kind {kind}."
            ) from None
        raise self._refused(node, path)

    def _refused(self, node: Any, path: KeyPath) -> StudyFileError:
        tag = str(node.tag).replace(_TAG, "!!")[:MAX_KEY]
        return self.lines.error(
            path,
            f"the tag {tag!r} is not allowed.",
            "A study file has only text, numbers, lists and mappings.",
        )


def _integer(text: str) -> int:
    # Reading takes time in the square of the digits.
    if len(text) > MAX_DIGITS:
        raise ValueError("too many digits")
    digits = text.replace("_", "").lower()
    sign = 1
    if digits.startswith("-"):
        sign = -1
    digits = digits.lstrip("+-")
    for prefix, base in (("0x", 16), ("0o", 8), ("0b", 2)):
        if digits.startswith(prefix):
            return sign * int(digits[2:], base)
    return sign * int(digits)


def _number(text: str) -> float:
    plain = text.replace("_", "")
    # What YAML writes with a dot, Python writes without.
    for written, known in ((".inf", "inf"), (".nan", "nan")):
        plain = plain.replace(written, known)
    return float(plain)
