"""One proposal, frozen.

It is the technique of every slot with its fields, and a fingerprint of what that means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from automl_sr.errors import DataError, TrialError
from automl_sr.files import content_digest
from automl_sr.plugin.none import says_nothing
from automl_sr.plugin.registry import instantiate
from automl_sr.plugin.technique import (
    JSON,
    Slot,
    Technique,
    as_json,
    files_of,
    meant_fields,
    search_fields,
)
from automl_sr.space.domains import installed_version

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry


@dataclass(frozen=True)
class TrialPlan:
    """What one trial does.

    Plans that mean the same have the same fingerprint, whatever their inactive fields were.
    """

    techniques: Mapping[Slot, Technique]
    params: Mapping[str, JSON]
    """Flat by parameter name (`selection.loss.keep`): all that is active, fixed fields too."""
    fingerprint: str
    files: Mapping[str, str] = field(default_factory=dict)
    """The files that techniques name: path to the sha256 of what was in it when the plan was
    made.
    """

    @classmethod
    def of(cls, techniques: Mapping[Slot, Technique], params: Mapping[str, JSON]) -> TrialPlan:
        """Freeze the chosen techniques in their canonical form, in the order of the pipeline.

        Raises TrialError for a file that cannot be read.
        """
        ordered: dict[Slot, Technique] = {}
        for slot in Slot:
            if slot in techniques:
                ordered[slot] = techniques[slot].canonical()

        paths: set[str] = set()
        for technique in ordered.values():
            paths.update(files_of(technique).values())
        files: dict[str, str] = {}
        for path in sorted(paths):
            files[path] = _content(path)
        return cls(
            MappingProxyType(ordered),
            MappingProxyType(dict(params)),
            fingerprint(ordered),
            MappingProxyType(files),
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def to_json(self) -> dict[str, Any]:
        """Write the plan as JSON."""
        techniques: dict[str, Any] = {}
        for slot, item in self.techniques.items():
            techniques[slot.value] = {
                "technique": item.name,
                "version": item.version,
                "fields": item.dump(),
            }
        plan: dict[str, Any] = {
            "techniques": techniques,
            "params": dict(self.params),
            "fingerprint": self.fingerprint,
        }
        # Plans without files are stored as before techniques could name any.
        if self.files:
            plan["files"] = dict(self.files)
        return plan

    @classmethod
    def from_json(cls, data: Mapping[str, Any], registry: Registry) -> TrialPlan:
        """Read what `to_json` wrote.

        Raises PluginError for a technique that is missing or of another version.
        """
        techniques: dict[Slot, Technique] = {}
        for name, item in data["techniques"].items():
            slot = Slot(name)
            technique = item["technique"]
            installed_version(
                registry,
                slot,
                technique,
                item["version"],
            )
            fields = {"technique": technique, **item["fields"]}
            techniques[slot] = instantiate(
                registry,
                slot,
                fields,
            )
        params = MappingProxyType(dict(data["params"]))
        files = MappingProxyType(dict(data.get("files", {})))
        # The stored fingerprint, not a new one: a file may have changed since, and be read nowhere
        # on this machine.
        return cls(
            MappingProxyType(techniques),
            params,
            data["fingerprint"],
            files,
        )


def fingerprint(techniques: Mapping[Slot, Technique]) -> str:
    """Hash name, version and active fields of every technique in its canonical form.

    Nested techniques count too, and the content of a file does, not its path. Raises TrialError
    for one that cannot be read.
    """
    content: dict[str, Any] = {}
    for slot, technique in techniques.items():
        # A slot that nothing fills is left out: a plan means the same before a plugin could fill
        # it and afterwards.
        if not says_nothing(technique):
            content[slot.value] = _identity(technique.canonical())
    text = json.dumps(
        content,
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _identity(technique: Technique) -> dict[str, Any]:
    files = set()
    for spec in search_fields(type(technique)):
        if spec.is_file:
            files.add(spec.name)

    fields: dict[str, Any] = {}
    for name, value in meant_fields(technique).items():
        if isinstance(value, Technique):
            fields[name] = _identity(value)
        elif name not in files:
            fields[name] = as_json(value)
        # A field that names no file is left out: a plan means the same before its technique could
        # read one and afterwards.
        elif value:
            fields[name] = {"sha256": _content(value)}
    return {
        "technique": technique.name,
        "version": technique.version,
        "fields": fields,
    }


def _content(path: str) -> str:
    """Return the sha256 of a file that a plan names. Raises TrialError where it cannot be read."""
    try:
        return content_digest(Path(path))
    except DataError as error:
        raise TrialError(error.message, error.hint) from error
