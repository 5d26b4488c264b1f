"""Every error that automl-sr raises on purpose.

    AutomlSRError                    something went wrong; exit code 1
    |-- UseError                     the person can put it right by asking differently; exit code 2
    |   |-- StudyFileError           a study file: names file, line, value, what is allowed
    |   |-- DataError                images or sets that are missing, unreadable or overlap
    |   |-- ModelError               an ONNX file that cannot be opened, hangs or lies
    |   |-- PluginError              a technique or plugin that is missing, broken or refused
    |   `-- StoreError               a store that cannot be opened, read or written
    |       `-- StoreUnreachableError   a database that does not answer for now; exit code 1
    |-- TrialError                   one trial fails, the search goes on
    |   |-- InfeasibleError          its model can no longer keep to the constraints
    |   `-- NotFiniteError           a loss or a weight became NaN or infinite
    |-- CheckpointError              a checkpoint that does not belong to this run or is damaged
    |-- ExportError                  the exported model is not the trained model
    `-- StopRequestedError           Ctrl-C or SIGTERM; work is checkpointed; exit code 130 or 143

Outside of the tree, because no technique may swallow it: `search.watchdog.OverdueError`, which
stops a trial from outside.

An error says what, where and why; its `hint` says what to do. A command that it offers to run next
is an `Offer`: only who prints it knows how the person has named the store.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]
"""Where a value stands in a study file: keys of mappings and indices of lists, from the outside
in.
"""


PROGRAM = "automl-sr"


@dataclass(frozen=True)
class Offer:
    """A command that an error offers to run next, and the words before it."""

    words: str
    command: str
    """Without the name of the program: `trials STUDY`."""
    quoted: bool = False
    """Whether the command is a part of the sentence, and not what it ends with."""

    def sentence(self, typed: str = "", remark: str = "") -> str:
        """Return the offer as people read it.

        `typed` is the command as it is to be typed, where that is more than the command itself; a
        `remark` follows it.
        """
        typed = typed or f"{PROGRAM} {self.command}"
        if self.quoted:
            return f"{self.words} `{typed}`{remark}."
        return f"{self.words} {typed}{remark}"


class AutomlSRError(Exception):
    """An error with a sentence for the person who reads it and, where there is one, the way out."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, offer: Offer | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.offer = offer
        if offer is not None:
            self.hint = offer.sentence()

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UseError(AutomlSRError):
    """Bad input: a file, name or option that has to be changed."""

    exit_code = 2


class StudyFileError(UseError):
    """A study file that cannot be used; the message begins with `file:line:`."""


Fail = Callable[[KeyPath, str, str], StudyFileError]
"""Make the error of a place in a study file, from its key path, what is wrong and what to do."""


class DataError(UseError):
    """Images or named sets that are missing, unreadable or overlap."""


class ModelError(UseError):
    """An ONNX file that cannot be opened, that hangs, or that is not what it says.

    No image can be given to it.
    """


class PluginError(UseError):
    """A technique or plugin that is missing, broken or refused."""


class StoreError(UseError):
    """A store that cannot be opened, read or written."""


class StoreUnreachableError(StoreError):
    """The database does not answer for now.

    It restarts, the connection was lost, or another writer holds it.
    """

    exit_code = 1


class TrialError(AutomlSRError):
    """One trial failed; its reason is recorded and the search goes on."""


class InfeasibleError(TrialError):
    """A trial's model can no longer keep to the constraints, whatever is still done to it."""

    def __init__(self, message: str, violations: Mapping[str, float]) -> None:
        super().__init__(message)
        self.violations = dict(violations)
        """By how much each constraint is broken at best, relative to its limit."""


class NotFiniteError(TrialError):
    """A loss became NaN or infinite."""


class CheckpointError(AutomlSRError):
    """A checkpoint is damaged or belongs to another run."""


class ExportError(AutomlSRError):
    """The exported model cannot be made, or its output is not that of the trained model."""


class StopRequestedError(AutomlSRError):
    """A signal asked the work to stop; everything up to the last checkpoint is kept."""

    def __init__(self, message: str, hint: str = "", *, signal_number: int = 2) -> None:
        super().__init__(message, hint)
        # As shells say it of a program that a signal ended.
        self.exit_code = 128 + signal_number


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, for a message of one line."""
    lines = str(error).strip().splitlines()
    # Some errors have no text, as a bare `assert`.
    if not lines:
        return type(error).__name__
    return lines[0][:300].rstrip(".")


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant: `Did you mean 'fsrcnn'?`, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if matches:
        return f"Did you mean {matches[0]!r}?"
    return ""


def located(path: KeyPath, message: str, hint: str = "", *, where: str = "") -> StudyFileError:
    """Make an error that names the key path, and the file and line where they are known."""
    key = ".".join(map(str, path))
    parts: list[str] = []
    for part in (where, key, message):
        if part:
            parts.append(part)
    # Values of strangers' files stand in messages, and may be of any length.
    return StudyFileError(shortened(": ".join(parts)), hint)


def shortened(text: str, most: int = 500) -> str:
    """Leave out the middle of a long text, so that its beginning and its end can be read."""
    if len(text) <= most:
        return text
    half = most // 2
    begin = text[:half]
    end = text[-half:]
    return f"{begin} [...] {end}"


def shown(value: object) -> str:
    """Write a value for a sentence, as a study file does; long ones are cut."""
    if value is None:
        return "an empty value"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value == []:
        return "an empty list"
    if value == {}:
        return "an empty mapping"
    text = repr(value)
    if len(text) <= 60:
        return text
    return f"{text[:57]}..."
