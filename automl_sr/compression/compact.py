"""The packed weights file: one safetensors file with the tensors and, as JSON texts, what rebuilds the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from automl_sr.compression.onnx_file import first_line, write_atomically
from automl_sr.errors import DataError


def save_weights(path: Path | str, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Write a state dict and metadata (for instance the blueprint's JSON) and give the file's size in bytes.

    Tied weights and views are written as copies, on the CPU and contiguous: safetensors refuses anything else.
    """
    packed: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in state.items():
        flat = tensor.detach().cpu().contiguous()
        storage = flat.untyped_storage()
        shared = storage.data_ptr() in storages or storage.nbytes() != flat.numel() * flat.element_size()
        packed[name] = flat.clone() if shared else flat
        storages.add(packed[name].untyped_storage().data_ptr())
    content = save(packed, metadata=dict(metadata))
    write_atomically(Path(path), content)
    return len(content)


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read (state dict, metadata) onto the CPU; raises DataError where the file is missing or damaged."""
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            # Copies, since safetensors maps the file and a later writer may replace it.
            state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
            return state, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read as safetensors: {first_line(error)}.") from error
