"""What is written whole or not at all: bytes, tensors with a JSON header, and folders."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import DataError, UseError

if TYPE_CHECKING:
    from torch import Tensor

PARTIAL = ".partial"
HEADER = "automl_sr"
DIGEST = "sha256"
"""Key of the header under which the tensors' digest stands: safetensors itself notices no flipped
bit.
"""


def write_atomically(path: Path, content: bytes) -> None:
    """Write bytes so that readers see the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target: a file can be renamed only inside of its file system.
    handle, name = tempfile.mkstemp(
        dir=path.parent,
        prefix=f".{path.name}.",
        suffix=PARTIAL,
    )
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            # Before the name: after a crash of the machine it could stand for an empty file.
            os.fsync(file.fileno())
        # Temporary files are for their owner alone, what is shared is not.
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_new_folder(target: Path) -> None:
    """Raise UseError where a folder cannot be made anew: something is there already."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UseError(
            f"{target} is there already and is not an empty folder.", "Choose another -o."
        )
    if target.resolve() == Path.cwd():
        raise UseError("The current folder cannot be replaced.", "Name a new folder with -o.")


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a folder to fill, which takes the place of `target` when the `with` ends well.

    Raises UseError for one that holds something, or that cannot be made.
    """
    check_new_folder(target)
    # "." and links have no parent in which a folder could take their place.
    target = target.resolve()
    # Written beside its place and renamed: who looks meanwhile sees nothing half-written.
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise UseError(
            f"{target} cannot be made: {error.strerror}.", "Choose another -o."
        ) from error
    try:
        yield scratch
        # mkdtemp makes folders that nobody else may read.
        scratch.chmod(0o755)
        os.replace(scratch, target)  # noqa: PTH105 - an empty folder may stand there, which os.replace takes the place of
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def content_digest(path: Path) -> str:
    """Return the sha256 of a file's content in hexadecimal.

    Raises DataError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        if isinstance(error, FileNotFoundError):
            reason = "is not there"
        raise DataError(
            f"The file {path} {reason}.", "Put it there, or name another one."
        ) from error


def sweep(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; only for folders with one writer."""
    # Another writer's may be half written, and about to be renamed.
    for leftover in folder.glob(f".*{PARTIAL}"):
        leftover.unlink(missing_ok=True)


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    header: Mapping[str, Any] | None = None,
) -> int:
    """Write tensors and a JSON header as one safetensors file, and return its size in bytes.

    Equal content gives equal bytes.
    """
    from safetensors.torch import save

    # Tied tensors, views and other layouts become contiguous copies: safetensors refuses anything
    # else.
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        on_cpu = tensor.detach().cpu()
        plain[name] = on_cpu.contiguous().clone()
    # The header is one text, since safetensors puts several in an order of chance.
    metadata: dict[str, str] | None = None
    if header is not None:
        noted = {**header, DIGEST: _digest(plain)}
        metadata = {HEADER: json.dumps(noted, sort_keys=True)}
    content = save(plain, metadata=metadata)
    write_atomically(path, content)
    return len(content)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        # As bytes: NumPy has no bfloat16.
        content = tensors[name].reshape(-1).view(torch.uint8)
        digest.update(name.encode())
        digest.update(content.numpy().tobytes())
    return digest.hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors (onto the CPU) and header.

    Raises DataError where the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                # Copies, since safetensors maps the file and a later writer may replace it.
                tensors[name] = file.get_tensor(name).clone()
            metadata = file.metadata() or {}
        header = json.loads(metadata.get(HEADER, "{}"))
        # Files of others, such as published weights, have no digest.
        digest = header.pop(DIGEST, None)
        if digest is not None and digest != _digest(tensors):
            raise ValueError("its tensors are not those that were written")
    except (OSError, SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as safetensors: {reason}.") from error
    return tensors, header
