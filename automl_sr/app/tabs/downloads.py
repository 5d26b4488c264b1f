"""What a visitor downloads of a trial: files in the app's own folder, checked as they arrive."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from automl_sr.errors import AutomlSRError
from automl_sr.files import write_atomically
from automl_sr.presentation.model_card import CARD, FILES, card, model_files
from automl_sr.search.trial_study_file import study_name, trial_study_file
from automl_sr.store.artifacts import fetch

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.store.records import ArtifactRecord, StudyRecord, TrialRecord
    from automl_sr.store.refinements import RefinementRecord

log = logging.getLogger(__name__)
STUDY = "study.yaml"
EVERYTHING = "everything"
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of members of an archive: equal files make an equal archive."""


@dataclass(frozen=True)
class Downloads:
    """Files by the name under which they are downloaded, `everything` for all in one, and what is
    not there and why.
    """

    files: Mapping[str, Path]
    problems: tuple[str, ...]

    @property
    def study_file(self) -> str:
        """The text of the study file, if there is one."""
        path = self.files.get(STUDY)
        if path is None:
            return ""
        return path.read_text(encoding="utf-8")


def downloads_of(
    study: StudyRecord,
    trial: TrialRecord,
    refined: RefinementRecord | None,
    registry: Registry,
    folder: Path,
) -> Downloads:
    """Fetch a trial's model, or that of its refinement, and write its card and study file beside
    it.
    """
    found: dict[str, Path] = {}
    problems: list[str] = []
    try:
        stored = model_files(study, trial, refined)
    except AutomlSRError as error:
        stored = {}
        problems.append(str(error))
    for kind, name in FILES.items():
        if kind in stored:
            try:
                found[name] = fetched(stored[kind], folder, name)
            except AutomlSRError as error:
                problems.append(f"{name} cannot be had: {error}")
            except Exception as error:
                log.exception("%s cannot be fetched", stored[kind].url)
                problems.append(
                    f"{name} cannot be had: {type(error).__name__}, see the log of the app."
                )
    if stored:
        found[CARD] = kept(card(study, trial, refined).encode(), folder, CARD)
    try:
        found[STUDY] = kept(trial_study_file(study, trial, registry).encode(), folder, STUDY)
    except AutomlSRError as error:
        problems.append(f"There is no study file of this plan: {error}")
    if stored:
        ending = ""
        if refined is not None:
            ending = f"-refined-{refined.steps}-{refined.seed}"
        name = f"{study_name(study.name, trial.number)}{ending}"
        found[EVERYTHING] = kept(_archive(name, found), folder, f"{name}.zip")
    return Downloads(found, tuple(problems))


def fetched(record: ArtifactRecord, folder: Path, name: str) -> Path:
    """Return a stored file, from the folder if it was fetched before.

    Raises StoreError where it is gone or altered.
    """
    path = _place(folder, record.sha256, name)
    if _renewed(path):
        return path
    return fetch(record, path)


def kept(content: bytes, folder: Path, name: str) -> Path:
    """Put content into the folder, if it is not there."""
    path = _place(folder, hashlib.sha256(content).hexdigest(), name)
    if not _renewed(path):
        write_atomically(path, content)
    return path


def _place(folder: Path, digest: str, name: str) -> Path:
    """Put files of one name into a folder for each content; a digest comes from the store, and may
    be anything.
    """
    return folder / hashlib.sha256(digest.encode()).hexdigest()[:32] / name


def _renewed(path: Path) -> bool:
    """Whether a file is there; then it is young again: old ones are removed."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _archive(folder: str, files: Mapping[str, Path]) -> bytes:
    """Put files into one archive, in a folder of their own."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            member = zipfile.ZipInfo(f"{folder}/{name}", _DATE)
            member.external_attr = 0o644 << 16
            archive.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return written.getvalue()
