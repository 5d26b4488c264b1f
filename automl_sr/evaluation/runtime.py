"""Models as shipped: ONNX Runtime sessions, whatever their task. The exporter tells of a model in `metadata_props`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_sr.compression.onnx_file import first_line
from automl_sr.errors import UseError

Array = NDArray[Any]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxModel:
    """An ONNX file opened with ONNX Runtime: a fixed number of threads, deterministic, no spinning threads.

    Raises UseError for a missing or damaged file, or a provider that is not installed.
    """

    def __init__(self, path: Path | str, threads: int = 1, provider: str = "cpu") -> None:
        self.path = Path(path)
        self.threads = threads
        self.provider = provider
        self._session = _open(self.path, threads, provider)
        self.inputs = self._session.get_inputs()
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, batch: Array, /) -> Array:
        """Run one float32 batch and give the first output. Raises UseError for an input that the net cannot take."""
        feed = {self.inputs[0].name: np.ascontiguousarray(batch, dtype=np.float32)}
        try:
            output: Array = self._session.run(None, feed)[0]
        except Exception as error:  # onnxruntime's exceptions share no other base
            raise UseError(f"{self.path} cannot run on {list(batch.shape)}: {first_line(error)}.") from error
        return output

    def number(self, key: str) -> int:
        """Return a whole number that the exporter wrote into the file. Raises UseError where there is none."""
        try:
            return int(self.metadata[key])
        except (KeyError, ValueError) as error:
            found = self.metadata.get(key, "nothing")
            raise UseError(f"{self.path} does not tell its {key} (found: {found}).", "Export it again.") from error


def _open(path: Path, threads: int, provider: str) -> Any:
    import onnxruntime

    if not path.is_file():
        raise UseError(f"There is no model file {path}.")
    name = _PROVIDERS.get(provider)
    if name not in onnxruntime.get_available_providers():
        raise UseError(
            f"ONNX Runtime has no device {provider!r} here.", "Use cpu, or install onnxruntime-gpu for cuda."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[name])
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise UseError(f"{path} is no ONNX model that ONNX Runtime can run: {first_line(error)}.") from error
    if session.get_providers()[0] != name:  # ONNX Runtime falls back to the CPU without a word
        raise UseError(f"ONNX Runtime cannot start the device {provider!r} here.", "Are CUDA's libraries installed?")
    return session
