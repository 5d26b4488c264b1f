"""Latency is measured in turns, by one process at a time, against a net that is the same everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout

from automl_sr.compression.export import layer_nodes
from automl_sr.evaluation import latency as module
from automl_sr.evaluation.latency import Latency, latency, latency_ms, latency_ratio, reference_net, timed_in_turns
from automl_sr.evaluation.runtime import OnnxModel


def test_models_take_turns_and_the_order_alternates() -> None:
    order: list[str] = []
    timed_in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, warmup=1, runs=3)
    assert "".join(order) == "abbaabba"


def test_times_are_those_of_the_clock_without_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    takes = iter([9.0, 0.001, 0.005, 0.002, 0.004, 0.003])
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock["now"])

    def work() -> None:
        clock["now"] += next(takes)

    measured = timed_in_turns({"net": work}, warmup=1, runs=5)["net"]
    assert measured.median_ms == pytest.approx(3)
    assert measured.fastest_ms == pytest.approx(1)
    assert measured.p90_ms == pytest.approx(4.6)
    assert measured.runs == 5


def test_only_one_process_measures_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    other = FileLock(tmp_path / "automl-sr-measuring.lock")

    def blocked() -> None:
        with pytest.raises(Timeout):
            other.acquire(timeout=0)

    timed_in_turns({"net": blocked}, warmup=0, runs=1)
    with other.acquire(timeout=0):
        assert other.is_locked


def test_metrics_are_taken_from_the_medians() -> None:
    own, reference = Latency(30.0, 28.0, 33.0, 20), Latency(20.0, 19.0, 25.0, 20)
    assert latency_ms(own, reference) == 30
    assert latency_ratio(own, reference) == 1.5


@pytest.mark.parametrize(("scale", "channels"), [(2, 1), (3, 3), (4, 1)])
def test_the_reference_net_enlarges_and_is_made_once(scale: int, channels: int, tmp_path: Path) -> None:
    path = reference_net(scale, channels, tmp_path)
    model = OnnxModel(path)
    assert model(model.example(9, 11)).shape == (1, channels, 9 * scale, 11 * scale)
    assert (model.scale, model.channels) == (scale, channels)
    written = path.stat().st_mtime_ns
    assert reference_net(scale, channels, tmp_path) == path
    assert path.stat().st_mtime_ns == written


def test_the_reference_net_is_the_same_on_every_machine(tmp_path: Path) -> None:
    first, second = reference_net(2, 1, tmp_path / "a"), reference_net(2, 1, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    digest = hashlib.sha256()
    model = OnnxModel(first)
    digest.update(np.rint(model(model.example(16, 16)) * 1000).astype(np.int32).tobytes())
    assert [operator for _, operator in layer_nodes(first)] == ["Conv"] * 4 + ["ConvTranspose"]
    assert digest.hexdigest()[:16] == "f0f70621cd1b1a02"


def test_a_net_takes_as_long_as_itself(tmp_path: Path) -> None:
    path = reference_net(2, 1, tmp_path)
    times = latency({"one": OnnxModel(path), "two": OnnxModel(path)}, (48, 64), warmup=3, runs=15)
    assert latency_ratio(times["one"], times["two"]) == pytest.approx(1, rel=0.5)
    assert times["one"].fastest_ms <= times["one"].median_ms <= times["one"].p90_ms
