"""Files of others run in a process of their own: it is ended when it takes too long, too much, or
is not wanted.
"""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from onnx_files import EMPTY_LOOP, ENDLESS, TWICE, endless, write_net

from automl_sr.errors import ModelError, StopRequestedError, UseError
from automl_sr.evaluation import guarded
from automl_sr.evaluation.runtime import Guard, OnnxModel

BATCH = np.random.default_rng(0).random((1, 1, 9, 7), dtype=np.float32)
ADD_LARGEST = f"{TWICE.replace('y =', 'z =')} k = ReduceMax<keepdims = 0>(c) y = Add(z, k)"
FOLDED = [
    "c0 = Expand(one, side)",
    *(f"c{i + 1} = MatMul(c{i}, c{i})" for i in range(100)),
    "c = Identity(c100)",
]
HOURS_TO_OPEN = f"{' '.join(FOLDED)} {ADD_LARGEST}"
SQUARE = "int64[2] side = {3000, 3000}, float[1] one = {1}"


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_it_gives_what_a_session_of_this_process_gives(tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.onnx", metadata={"scale": "2"})
    here, apart = OnnxModel(path), OnnxModel(path, guard=Guard())
    assert (apart.inputs, apart.metadata) == (here.inputs, here.metadata)
    assert apart.number("scale") == 2
    larger = np.ones((1, 1, 40, 30), np.float32)
    for batch in (BATCH, larger, BATCH):
        assert np.array_equal(apart(batch), here(batch))


SEVERAL = {
    "body": "y = Add(x, state) lengths = Identity(n) low = Less(x, state)",
    "takes": "float[1, 1, h, w] x, float[1, 1, h, w] state, int64[k] n",
    "gives": "float[1, 1, h, w] y, int64[k] lengths, bool[1, 1, h, w] low",
}


@pytest.mark.parametrize("guard", [None, Guard()], ids=["here", "apart"])
def test_several_inputs_and_outputs_go_by_name_in_their_types(
    guard: Guard | None, tmp_path: Path
) -> None:
    model = OnnxModel(write_net(tmp_path / "net.onnx", **SEVERAL), guard=guard)
    feed = {"n": np.array([3, 2**40]), "state": 1 - BATCH, "x": BATCH.astype(np.float64)}
    found = model.run(feed)
    assert [(name, value.dtype.name) for name, value in found.items()] == [
        ("y", "float32"), ("lengths", "int64"), ("low", "bool"),
    ]  # fmt: skip
    assert np.allclose(found["y"], 1)
    assert found["lengths"].tolist() == [3, 2**40]
    assert np.array_equal(found["low"], BATCH < 1 - BATCH)
    with pytest.raises(UseError, match=r"net\.onnx takes x, state, n, not x"):
        model.run({"x": BATCH})
    with pytest.raises(
        UseError, match=r"cannot run on x \[1, 1, 9, 7\], state \[1, 1, 3, 7\], n \[2\]"
    ):
        model.run({**feed, "state": BATCH[:, :, :3]})
    with pytest.raises(ModelError, match=r"takes 3 inputs \(x, state, n\)"):
        model(BATCH)


def test_what_is_no_number_is_not_read(tmp_path: Path) -> None:
    path = write_net(
        tmp_path / "net.onnx", "y = SequenceConstruct(x, x)", gives="seq(float[1, 1, h, w]) y"
    )
    with pytest.raises(ModelError, match=r"has y of the type seq\(tensor\(float\)\)"):
        OnnxModel(path, guard=Guard()).run({"x": BATCH})


def test_an_output_stays_as_it_is_when_another_batch_is_run(tmp_path: Path) -> None:
    model = OnnxModel(write_net(tmp_path / "net.onnx"), guard=Guard())
    first = model(BATCH)
    model(1 - BATCH)
    assert np.array_equal(first, BATCH.repeat(2, 2).repeat(2, 3))


def test_a_batch_that_does_not_fit_is_an_error_and_the_next_one_is_run(tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.onnx")
    model = OnnxModel(path, guard=Guard())
    with pytest.raises(
        UseError, match=r"net\.onnx cannot run on \[1, 3, 9, 7\]: Got invalid dimensions"
    ):
        model(BATCH.repeat(3, axis=1))
    assert model(BATCH).shape == (1, 1, 18, 14)


def test_a_function_is_called_where_the_file_is_open(tmp_path: Path) -> None:
    from automl_sr.tasks.image_sr.tiling import largest_tensor_bytes

    path = write_net(tmp_path / "net.onnx")
    assert OnnxModel(path, guard=Guard()).apart(largest_tensor_bytes, 1) == largest_tensor_bytes(
        path, 1
    )


@pytest.mark.ci
@pytest.mark.parametrize(
    ("body", "constants"),
    [
        (EMPTY_LOOP, ENDLESS),
        (EMPTY_LOOP.replace("{}", "{ more = Identity(go) w = Identity(v) }").replace("=> (bool go, float[] v)",
                                                                                 "=> (bool more, float[] w)"), ENDLESS),
        (HOURS_TO_OPEN, SQUARE),
    ],
    ids=["a loop that never looks up", "a loop", "constants that are folded while it is opened"],
)  # fmt: skip
def test_what_takes_too_long_is_ended(body: str, constants: str, tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.onnx", body, constants=constants)
    before = children()
    with pytest.raises(
        ModelError, match=r"net\.onnx was still at work after 1 seconds, and was ended"
    ):
        OnnxModel(path, guard=Guard(seconds=1))(BATCH)
    assert children() == before


@pytest.mark.parametrize(
    "body", [EMPTY_LOOP, HOURS_TO_OPEN], ids=["in a run", "while it is opened"]
)
def test_what_is_not_wanted_any_more_is_ended(body: str, tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.onnx", body, constants=f"{ENDLESS}, {SQUARE}")
    before = children()
    with pytest.raises(StopRequestedError, match=r"Stopped while .*net\.onnx was at work"):
        OnnxModel(path, guard=Guard(stop=lambda: True))(BATCH)
    assert children() == before


def test_what_the_question_raises_ends_it_too(tmp_path: Path) -> None:
    class LeftError(Exception):
        pass

    def left() -> bool:
        raise LeftError

    with pytest.raises(LeftError):
        OnnxModel(endless(tmp_path / "net.onnx"), guard=Guard(stop=left))(BATCH)


@pytest.mark.parametrize("count", [10**12, 10**18], ids=["4 TB", "4 EB"])
def test_what_needs_too_much_memory_is_refused(count: int, tmp_path: Path) -> None:
    body = f"c = Expand(one, side) {ADD_LARGEST}"
    path = write_net(
        tmp_path / "net.onnx", body, constants=f"int64[1] side = {{{count}}}, float[1] one = {{1}}"
    )
    with pytest.raises(UseError, match=r"net\.onnx needs more memory .* than is free"):
        OnnxModel(path, guard=Guard())(BATCH)


def test_it_gets_a_share_of_the_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_net(tmp_path / "net.onnx", f"c = Expand(one, side) {ADD_LARGEST}",
                     constants="int64[1] side = {100000000}, float[1] one = {1}")  # fmt: skip
    monkeypatch.setattr(guarded, "_free_memory", lambda: 300_000_000)
    with pytest.raises(UseError, match="needs more memory"):
        OnnxModel(path, guard=Guard())(BATCH)


def test_an_output_of_absurd_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_net(tmp_path / "net.onnx", "y = Expand(x, side)", constants="int64[1] side = {40000000}",
                     takes="float[1, 1, h, 1] x")  # fmt: skip
    monkeypatch.setattr(guarded, "_free_memory", lambda: 600_000_000)
    with pytest.raises(
        ModelError, match=r"net\.onnx gives 0\.16 GB .* more than there is room for"
    ):
        OnnxModel(path, guard=Guard())(BATCH[:, :, :1, :1])


def test_a_process_that_breaks_down_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.onnx")
    before = children()
    model = OnnxModel(path, guard=Guard())
    (process,) = children() - before
    psutil.Process(process).send_signal(signal.SIGSEGV)
    with pytest.raises(ModelError, match=r"net\.onnx made ONNX Runtime break down \(SIGSEGV\)"):
        model(BATCH)
    with pytest.raises(ModelError, match="break down"):
        model(BATCH)


def test_the_process_ends_with_the_model(tmp_path: Path) -> None:
    before = children()
    closed, dropped = (OnnxModel(write_net(tmp_path / "net.onnx"), guard=Guard()) for _ in range(2))
    assert len(children() - before) == 2
    closed.close()
    closed.close()
    assert len(children() - before) == 1
    del dropped
    gc.collect()
    assert children() == before


def test_it_is_gone_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    endless(tmp_path / "net.onnx")
    code = """
import sys, numpy, psutil
from automl_sr.evaluation.runtime import Guard, OnnxModel
told = []
def tell():
    told or print(psutil.Process().children()[0].pid, flush=True)
    told.append(True)
OnnxModel(sys.argv[1], guard=Guard(stop=tell))(numpy.ones((1, 1, 9, 7), numpy.float32))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "net.onnx")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        process = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
        process.wait(timeout=30)


def test_seconds_that_are_no_time_are_refused() -> None:
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UseError, match="cannot be given"):
            Guard(seconds=seconds)
