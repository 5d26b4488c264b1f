"""Models that ship packed: searched for real, killed in every phase, exported, measured and used
like any other.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import packing_toys
import pytest
import typer
from packing_toys import FourBits, MostlyZero, SharedWeights
from photographs import write_photographs
from typer.testing import CliRunner

from automl_sr.cli.evaluate import evaluate
from automl_sr.cli.export import export
from automl_sr.cli.upscale import upscale
from automl_sr.compression.packing import is_packed
from automl_sr.plugin.registry import Registry, Source, discover
from automl_sr.search.engine import Options, search
from automl_sr.store.reading import Reader
from automl_sr.study.spec import parse_study
from automl_sr.testing import TechniqueContract
from automl_sr.testing.tiny import DEVICE, TinyNet
from automl_sr.training import loop
from automl_sr.training.run import Run

CI = pytest.mark.ci
DOCS = Path(__file__).parents[2] / "docs" / "plugins.md"
STUDY = """
name: packed
task: {{kind: image-sr, scale: 2, train: {folder}/train, valid: {folder}/valid}}
objectives: [psnr_y, size_bytes]
observe: [params_nonzero]
budget: {{trials: {trials}, steps: 60}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  architecture: {{contract_net: {{width: 24}}}}
  pruning: {pruning}
  quantization: {quantization}
  recipe: {{batch: 4, patch: 12, precision: fp32}}
"""
APP = typer.Typer()
for command in (export, evaluate, upscale):
    APP.command()(command)


class TestPacked(TechniqueContract):
    technique = (FourBits, SharedWeights, MostlyZero)
    companions = (TinyNet(width=24),)
    steps = 24


def registry() -> Registry:
    found = discover()
    found.add_plugin(packing_toys, Source("packing_toys", "packing_toys"))
    found.add_technique(TinyNet, Source("contract", "contract"))
    return found


def find(folder: Path, place: Path, pruning: str, quantization: str, trials: int = 1) -> None:
    text = STUDY.format(folder=folder, pruning=pruning, quantization=quantization, trials=trials)
    where = Options(
        store=f"sqlite:///{place}/store.db", artifacts=str(place / "artifacts"), device=DEVICE
    )
    place.mkdir(exist_ok=True)
    end = search(parse_study(text, "study.yaml", registry()), registry(), where)
    assert end.error is None, [trial.reason for trial in trials_of(place)]


def trials_of(place: Path) -> list[Any]:
    reader = Reader.open(f"sqlite:///{place}/store.db")
    found = reader.trials(reader.study("packed"))
    reader.close()
    return list(found)


def killed(phase: str, search_: Callable[[], None]) -> int:
    """Search in a process of its own, which kills itself after its third step in a phase; gives the
    signal.
    """
    child = os.fork()
    if child == 0:
        loop.CHECKPOINT_SECONDS = 0.0  # after every step
        advance = Run.advance
        steps = []

        def deadly(run: Run) -> None:
            if run.span is not None and run.span.phase.name == phase:
                steps.append(run.step)
            advance(run)
            if len(steps) == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        Run.advance = deadly  # type: ignore[method-assign]
        search_()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("images"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("pruning", "quantization", "phases"),
    [
        pytest.param("none", "four_bits", ["train", "cooldown"], marks=CI),
        pytest.param("none", "shared_weights", ["train", "cooldown", "codebook"], marks=CI),
        pytest.param("mostly_zero", "none", ["train", "sparse", "cooldown"], marks=CI),
        ("mostly_zero", "shared_weights", ["train", "sparse", "cooldown", "codebook"]),
    ],
)
def test_killed_in_every_phase_it_ships_the_same_bytes(
    pruning: str, quantization: str, phases: list[str], photographs: Path, tmp_path: Path
) -> None:
    find(photographs, tmp_path / "whole", pruning, quantization)
    again = partial(find, photographs, tmp_path / "killed", pruning, quantization)
    for phase in phases:
        assert killed(phase, again) == signal.SIGKILL, phase
    again()
    [whole], [resumed] = trials_of(tmp_path / "whole"), trials_of(tmp_path / "killed")
    assert whole.state == resumed.state == "complete"
    assert whole.values == resumed.values
    files = [trial.artifacts["onnx"] for trial in (whole, resumed)]
    assert files[0].sha256 == files[1].sha256
    assert is_packed(files[0].url)


@pytest.fixture(scope="module")
def searched(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("searched")
    pruning = "[none, mostly_zero]"
    find(photographs, place, pruning, "[none, four_bits, shared_weights]", trials=6)
    return place


def by_plan(place: Path) -> dict[tuple[str, str], Any]:
    complete = [trial for trial in trials_of(place) if trial.state == "complete"]
    return {(trial.params["pruning"], trial.params["quantization"]): trial for trial in complete}


def test_the_size_is_that_of_the_packed_file(searched: Path) -> None:
    found = by_plan(searched)
    sizes = {plan: trial.values["size_bytes"] for plan, trial in found.items()}
    assert sizes == {plan: trial.artifacts["onnx"].bytes for plan, trial in found.items()}
    plain = sizes.pop(("none", "none"))
    assert len(sizes) >= 2
    assert all(size < 0.6 * plain for size in sizes.values())


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(
        APP, [str(argument) for argument in arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.ci
def test_it_is_exported_measured_and_used_as_any_other(
    searched: Path, photographs: Path, tmp_path: Path
) -> None:
    for plan, trial in by_plan(searched).items():
        folder = tmp_path / "-".join(plan)
        store = f"sqlite:///{searched}/store.db"
        told = run(
            "export", "packed", trial.number, "--unpacked", "-o", folder, "--store", store, "--json"
        )
        packed = plan != ("none", "none")
        assert ("model-unpacked.onnx" in json.loads(told.stdout)["files"]) is packed
        measured = json.loads(
            run("evaluate", folder / "model.onnx", "--data", photographs / "valid", "--json").stdout
        )
        assert measured["psnr_y"] == pytest.approx(trial.values["psnr_y"], abs=1e-6)
        image = photographs / "valid" / "astronaut.png"
        run("upscale", folder / "model.onnx", image, "-o", folder / "a")
        if packed:
            assert not onnx.load(folder / "model-unpacked.onnx").functions
            run("upscale", folder / "model-unpacked.onnx", image, "-o", folder / "b")
            names = [folder / part / "astronaut_x2.png" for part in "ab"]
            assert names[0].read_bytes() == names[1].read_bytes()


def test_a_plain_model_is_said_to_need_no_second_file(searched: Path, tmp_path: Path) -> None:
    plain = by_plan(searched)["none", "none"]
    store = f"sqlite:///{searched}/store.db"
    where = ["-o", tmp_path / "model", "--store", store]
    told = run("export", "packed", plain.number, "--unpacked", *where)
    assert "Nothing is packed in model.onnx" in told.stdout
    assert not (tmp_path / "model" / "model-unpacked.onnx").exists()


def test_the_page_for_authors_shows_the_technique_that_runs_here() -> None:
    source = inspect.getsource(FourBits)
    shown = source[: source.index("    def predict")].rstrip()
    assert shown in DOCS.read_text(encoding="utf-8")
