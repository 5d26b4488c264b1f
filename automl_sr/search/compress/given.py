"""The finished model that is compressed: its weights, what they are for, how they were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import KeyPath, StudyFileError, UseError, located
from automl_sr.plugin.technique import Slot
from automl_sr.plugin.weights import read_weights
from automl_sr.store.artifacts import fetch
from automl_sr.study.spec import StudySpec, read_spec
from automl_sr.study.yaml_lines import parse

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.plugin.task import Task
    from automl_sr.store.records import ArtifactRecord, StudyRecord, TrialRecord

WEIGHTS, MODEL = "model.safetensors", "model.onnx"
"""What `export` and `compress` write."""
OBSERVED = ("params", "params_nonzero", "macs", "size_bytes", "latency_ms")
"""What is measured before and after besides a study's metrics."""
NEVER = ("train_seconds", "data_bytes")
"""What a finished model has no value of."""
OPTIONS: Mapping[KeyPath, str] = {
    ("task", "train"): "--data",
    ("task", "valid"): "--valid",
    ("device", "input"): "--input",
}


@dataclass(frozen=True)
class Asked:
    """On what a model is trained and measured: what is not named is the model's own."""

    train: Sequence[str] = ()
    valid: Sequence[str] = ()
    input: tuple[int, int] | None = None
    """Height and width of the input with which the files are timed."""

    def device(self) -> dict[str, Any]:
        """Return the part of a study's device that is asked for."""
        if self.input is None:
            return {}
        return {"input": list(self.input)}


@dataclass(frozen=True)
class Given:
    """A finished model, and what it is trained and measured with."""

    weights: Path
    spec: StudySpec
    recipe: Mapping[str, Any]
    about: Mapping[str, Any]
    """Where it comes from, as JSON."""
    title: str
    steps: int | None = None
    """Steps with which it was trained, where that is known."""
    shipped: Path | None = None
    """The file that ships today, where there is one."""


def from_folder(
    folder: Path,
    asked: Asked,
    registry: Registry,
    *,
    title: str = "",
    about: Mapping[str, Any] | None = None,
) -> Given:
    """Return the model in a folder that `export` or `compress` has written.

    Raises UseError where there is none, or where no images are named.
    """
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UseError(
            f"There is no {WEIGHTS} in {folder}.",
            "Name a folder that `automl-sr export` wrote, or a study and the number of a trial.",
        )
    header = read_weights(weights).header
    if "blueprint" not in header or "task" not in header:
        raise UseError(
            f"{weights} does not say which net it holds.",
            "Name its architecture: --architecture NAME --checkpoint FILE.",
        )
    cls = registry.task(str(header["task"]))
    study = {
        "name": "compress",
        "task": _task_of(cls, header, asked),
        "objectives": [metric.name for metric in cls.metrics if metric.level == "quality"],
        "observe": list(OBSERVED),
        "device": asked.device(),
        "budget": {"trials": 1},
        "search": {"scheduler": "none"},
    }
    return Given(
        weights=weights,
        spec=read_spec(study, registry, _told),
        recipe={},
        about=about or {"folder": str(folder)},
        title=title or str(folder),
        shipped=_if_there(folder / MODEL),
    )


def from_trial(
    study: StudyRecord,
    trial: TrialRecord,
    files: Mapping[str, ArtifactRecord],
    folder: Path,
    asked: Asked,
    registry: Registry,
) -> Given:
    """Return the model of a trial; its files are copied to `folder`.

    Its study says on which images it is trained and measured, and on which device. Raises UseError,
    StoreError.
    """
    weights = fetch(files["weights"], folder / WEIGHTS)
    shipped = fetch(files["onnx"], folder / MODEL)
    content = {
        **study.spec,
        "task": {**study.spec["task"], **_named(asked)},
        "device": {**study.spec["device"], **asked.device()},
    }
    names = [*study.spec.get("observe", ())]
    known = {*study.spec["objectives"], *study.spec["constraints"], *names}
    for name in OBSERVED:
        if name not in known:
            names.append(name)
    content["observe"] = names

    plan = trial.plan or {}
    recipe = plan["techniques"][Slot.RECIPE.value]["fields"]
    return Given(
        weights=weights,
        spec=read_spec(content, registry, _told),
        recipe=recipe,
        about={"study": study.name, "number": trial.number},
        title=f"{study.name}, trial {trial.number}",
        steps=study.spec["budget"]["steps"],
        shipped=shipped,
    )


def metrics_of(spec: StudySpec) -> tuple[str, ...]:
    """Name what is measured before and after."""
    return tuple(name for name in spec.metrics() if name not in NEVER)


def _task_of(cls: type[Task], header: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Return the task of a file as a study file has it, with the images of the command line."""
    if "train" not in cls.model_fields:
        raise UseError(
            f"The task {cls.kind!r} does not train on named sets.",
            "Name a study and the number of a trial: its study says what it is trained on.",
        )
    if not asked.train:
        raise UseError(
            "A folder does not say on which images its model is to be trained and measured.",
            "Name a set with --data; `automl-sr data list` shows them.",
        )
    content: dict[str, Any] = {"kind": cls.kind}
    for name in cls.model_fields:
        if name in header:
            # The files of others have texts alone.
            content[name], _ = parse(str(header[name]), name)
    return {**content, **_named(asked)}


def _named(asked: Asked) -> dict[str, list[str]]:
    found = {}
    if asked.train:
        found["train"] = list(asked.train)
    if asked.valid:
        found["valid"] = list(asked.valid)
    return found


def _if_there(path: Path) -> Path | None:
    if path.is_file():
        return path
    return None


def _told(path: KeyPath, message: str, hint: str = "") -> StudyFileError:
    """Say what is wrong with a part of the study in the words of the command line."""
    option = OPTIONS.get(path[:2])
    if option is None:
        return located(path, message, hint)
    return StudyFileError(f"{option}: {message}", hint)
