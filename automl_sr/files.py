"""Files that are written whole or not at all: bytes, and tensors with a JSON header."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

PARTIAL = ".partial"
HEADER = "automl_sr"
DIGEST = "sha256"
"""Key of the header under which the tensors' digest stands: safetensors itself notices no flipped
bit.
"""


def write_atomically(path: Path, content: bytes) -> None:
    """Write bytes to a temporary file beside `path`, then rename it: readers see the old file or
    the whole new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def content_digest(path: Path) -> str:
    """Return the sha256 of a file's content in hexadecimal.

    Raises DataError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = "is not there"
        if not isinstance(error, FileNotFoundError):
            reason = f"cannot be read ({error.strerror})"
        raise DataError(
            f"The file {path} {reason}.", "Put it there, or name another one."
        ) from error


def sweep(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; only for folders with one writer."""
    for leftover in folder.glob(f".*{PARTIAL}"):
        leftover.unlink(missing_ok=True)


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any] | None = None
) -> int:
    """Write tensors and a JSON header as one safetensors file, and give its size in bytes.

    Tied tensors, views and other layouts are written as contiguous copies: safetensors refuses
    anything else. Equal content gives equal bytes, which is why the header is one text: safetensors
    orders several at random.
    """
    from safetensors.torch import save

    plain = {}
    for name, tensor in tensors.items():
        plain[name] = tensor.detach().cpu().contiguous().clone()
    metadata = None
    if header is not None:
        metadata = {HEADER: json.dumps({**header, DIGEST: _digest(plain)}, sort_keys=True)}
    content = save(plain, metadata=metadata)
    write_atomically(path, content)
    return len(content)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors (onto the CPU) and header.

    Raises DataError where the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            # Copies, since safetensors maps the file and a later writer may replace it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
        digest = header.pop(DIGEST, None)
        if digest is not None and digest != _digest(tensors):
            raise ValueError("its tensors are not those that were written")
    except (OSError, SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as safetensors: {reason}.") from error
    return tensors, header
