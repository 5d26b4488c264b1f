"""Sessions of shipped models: the same output each time, and errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nets import IMAGE_AXES, Espcn, seeded

from automl_sr.compression.export import export_onnx
from automl_sr.errors import UseError
from automl_sr.evaluation.runtime import OnnxModel


def exported(folder: Path) -> Path:
    path = folder / "model.onnx"
    export_onnx(seeded(Espcn), path, (torch.rand(1, 1, 12, 14),), dynamic_axes=IMAGE_AXES)
    return path


def test_the_session_gives_the_modules_output_bit_for_bit_each_time(tmp_path: Path) -> None:
    batch = torch.rand(2, 1, 20, 31)
    with torch.no_grad():
        wanted = seeded(Espcn)(batch).numpy()
    first, second = OnnxModel(exported(tmp_path)), OnnxModel(tmp_path / "model.onnx")
    assert np.allclose(first(batch.numpy()), wanted, atol=1e-5)
    assert np.array_equal(first(batch.numpy()), second(batch.numpy()))


def test_a_missing_or_damaged_file_or_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(UseError, match=r"no model file .*missing\.onnx"):
        OnnxModel(tmp_path / "missing.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(UseError, match=r"broken\.onnx is no ONNX model"):
        OnnxModel(tmp_path / "broken.onnx")
    with pytest.raises(UseError, match="no device 'tpu'"):
        OnnxModel(exported(tmp_path), provider="tpu")
