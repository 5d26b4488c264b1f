"""Weights that somebody trained before: files with nothing but tensors, and whether they fit a net.

Our own files (safetensors) say of which model they are. Others are PyTorch's: read without running
anything that stands in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import UseError, first_line
from automl_sr.files import load_tensors
from automl_sr.plugin.blueprint import Blueprint

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS = ".safetensors"
PYTORCH = (".pth", ".pt")
ENDINGS = (SAFETENSORS, *PYTORCH)
NESTED = ("params_ema", "params", "state_dict", "model")
"""Under which names training programs put a net's tensors beside other things, the best first."""
PARALLEL = "module."
"""What PyTorch puts before all names of a net that was trained on several devices."""
SHOWN = 3


@dataclass(frozen=True)
class StoredWeights:
    """The tensors of a file by name, and what the file says of them, where it does."""

    tensors: dict[str, Tensor]
    header: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blueprint(self) -> Blueprint | None:
        """Return the model that the tensors are of: files that automl-sr wrote say so.

        Raises UseError where the file says it in another way than automl-sr does.
        """
        if "blueprint" not in self.header:
            return None
        try:
            # Text inside of the header's text, so that the header has plain values alone.
            data = json.loads(self.header["blueprint"])
            return Blueprint.from_json(data)
        except (ValueError, TypeError, KeyError) as error:
            raise UseError(
                f"What the checkpoint says of its model cannot be read: {first_line(error)}.",
                "Write it again.",
            ) from error


def read_weights(path: Path) -> StoredWeights:
    """Read a checkpoint onto the CPU: safetensors, or what `torch.save` wrote of tensors alone.

    Raises UseError for a file that is missing, is no checkpoint, or would run code.
    """
    if not path.is_file():
        raise UseError(f"There is no checkpoint {path}.", "Name a .safetensors, .pth or .pt file.")
    if path.suffix == SAFETENSORS:
        return StoredWeights(*load_tensors(path))
    tensors = _tensors_in(_unpickled(path))
    if tensors is None:
        raise UseError(
            f"{path} is no checkpoint of a net: there are no tensors by name in it.",
            "Name a file with a state_dict.",
        )
    return StoredWeights(tensors)


@dataclass(frozen=True)
class Misfit:
    """Which tensors do not fit a net; false where all do, and a list in words as text."""

    missing: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    """With both sizes: `head.weight is 8x1x3x3, not 8x3x3x3`."""

    def __len__(self) -> int:
        return len(self.missing) + len(self.foreign) + len(self.unlike)

    def __str__(self) -> str:
        said = _said("not in the file", self.missing)
        said += _said("not in the net", self.foreign)
        said += _said("of another size", self.unlike)
        return "; ".join(said)


def misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Misfit:
    """Compare given tensors with those that a net wants, by name and size."""
    missing: list[str] = []
    unlike: list[str] = []
    for name, value in wanted.items():
        if name not in given:
            missing.append(name)
        elif given[name].shape != value.shape:
            unlike.append(f"{name} is {_sides(given[name])}, not {_sides(value)}")
    foreign = [name for name in given if name not in wanted]
    return Misfit(tuple(missing), tuple(foreign), tuple(unlike))


def _said(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:SHOWN])
    rest = len(names) - SHOWN
    if rest > 0:
        shown += f" and {rest} more"
    return [f"{what}: {shown}"]


def _sides(tensor: Tensor) -> str:
    # A number has no sides.
    return "x".join(map(str, tensor.shape)) or "one number"


def _unpickled(path: Path) -> Any:
    """Return what is in PyTorch's file, made of tensors, numbers, texts, lists and mappings."""
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UseError(
            f"{path} holds more than tensors, or is no checkpoint: it was not opened, since"
            " loading it could run code.",
            "Save the net's state_dict alone, or as safetensors.",
        ) from error
    except Exception as error:
        raise UseError(
            f"{path} cannot be read as a checkpoint: {first_line(error)}.",
            "Name a .safetensors, .pth or .pt file.",
        ) from error


def _tensors_in(found: Any) -> dict[str, Tensor] | None:
    """Return the tensors of a net, wherever a training program put them, by plain names."""
    tensors = _all_tensors(found)
    if tensors is None:
        tensors = _nested_tensors(found)
    if tensors is None:
        return None
    # Of all, or of none: a net may have a part of that name itself.
    if not all(name.startswith(PARALLEL) for name in tensors):
        return tensors
    plain: dict[str, Tensor] = {}
    for name, value in tensors.items():
        plain[name.removeprefix(PARALLEL)] = value
    return plain


def _nested_tensors(found: Any) -> dict[str, Tensor] | None:
    """Return the tensors that stand beside other things."""
    if not isinstance(found, Mapping):
        return None
    names = [name for name in NESTED if name in found]
    # Under any name where none is known, since every program has its own.
    for name in names or list(found):
        tensors = _all_tensors(found[name])
        if tensors is not None:
            return tensors
    return None


def _all_tensors(found: Any) -> dict[str, Tensor] | None:
    """Return a mapping of names to tensors, or nothing for anything else."""
    import torch

    if not isinstance(found, Mapping) or not found:
        return None
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            return None
    return dict(found)
