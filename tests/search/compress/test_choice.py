"""What is asked of a compression becomes a plan, and what is wrong is said as it was typed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import packing_toys
import pytest
from finished_models import write_model
from rewound_rounds import RewoundRounds

from automl_sr.errors import UseError
from automl_sr.plugin.blueprint import Blueprint
from automl_sr.plugin.registry import Registry, Source, discover
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.search.compress.choice import Techniques
from automl_sr.space.plan import TrialPlan


class NeedsSkips(Technique):
    """Goes with nets alone whose architecture says that they have skips."""

    slot = Slot.PRUNING
    name = "needs_skips"
    requires: ClassVar[frozenset[str]] = frozenset({"skips"})


class Skipping(Technique):
    """An architecture that says so."""

    slot = Slot.ARCHITECTURE
    name = "skipping"
    provides: ClassVar[frozenset[str]] = frozenset({"skips"})
    factories: ClassVar = {"tests.skipping": "automl_sr.testing.tiny_net:contract_net"}


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = discover()
    found.add_plugin(packing_toys, Source("packing_toys", "packing_toys"))
    for cls in (RewoundRounds, NeedsSkips, Skipping):
        found.add_technique(cls, Source("toys", "toys"))
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model") / "model.safetensors"


def plan(weights: Path, registry: Registry, *settings: str, **names: str) -> TrialPlan:
    chosen = {Slot(slot): name for slot, name in names.items()}
    pairs = []
    for text in settings:
        key, _, value = text.partition("=")
        pairs.append((key, value))
    factory = "tests.skipping" if names.get("pruning") == "needs_skips" else "reference.fsrcnn"
    techniques = Techniques(chosen, pairs, {"batch": 2, "lr": 0.002})
    return techniques.plan(weights, Blueprint(factory), "image-sr", registry)


def test_a_plan_has_the_chosen_techniques_with_typed_fields(
    weights: Path, registry: Registry
) -> None:
    made = plan(
        weights,
        registry,
        "pruning.rewound_rounds.rounds=2",
        "quantization.int8_ptq.keep_float=none",
        "recipe.lr=1e-4",
        pruning="rewound_rounds",
        quantization="int8_ptq",
    )
    names = {slot.value: item.name for slot, item in made.techniques.items()}
    assert names["architecture"] == "from_file"
    assert (names["pruning"], names["quantization"]) == ("rewound_rounds", "int8_ptq")
    params = made.params
    assert params["pruning.rewound_rounds.rounds"] == 2
    assert params["quantization.int8_ptq.keep_float"] == "none"
    assert (params["recipe.lr"], params["recipe.batch"]) == (1e-4, 2)


def test_a_technique_that_asks_something_of_the_net_is_told_by_its_architecture(
    weights: Path, registry: Registry
) -> None:
    assert plan(weights, registry, pruning="needs_skips").techniques[Slot.PRUNING]
    techniques = Techniques({Slot.PRUNING: "needs_skips"})
    with pytest.raises(UseError, match="needs_skips, it requires 'skips', which no technique"):
        techniques.plan(weights, Blueprint("reference.fsrcnn"), "image-sr", registry)


INT8 = {"quantization": "int8_ptq"}


@pytest.mark.parametrize(
    ("settings", "names", "said"),
    [
        ([], {}, "Nothing is chosen that could compress the model. Name a technique with"),
        (
            [],
            {"quantization": "int8_pt"},
            "--quantization int8_pt: unknown technique .* 'int8_ptq'",
        ),
        (
            ["quantization.int8_ptq.keep_flot=none"],
            INT8,
            "--set quantization.int8_ptq.keep_flot: unknown field .* Did you mean 'keep_float'",
        ),
        (
            ["quantization.int8_ptq.keep_float=nine"],
            INT8,
            "--set quantization.int8_ptq.keep_float: .*none, last, first_last",
        ),
        (
            ["quantization.int8_ptq.weight_bits=[7, 8]"],
            INT8,
            r"weight_bits: \[7, 8\] is several values. Write one value",
        ),
        (["pruning.l1.ratio=0.3"], INT8, "the pruning is 'none', not 'l1'. Write --pruning l1"),
        (["prunning.l1.ratio=0.3"], INT8, "unknown slot 'prunning'. Did you mean 'pruning'"),
        (["quantization.keep_float=none"], INT8, "names no field of a technique. Write --set SLOT"),
        (["recipe.lr=1", "recipe.lr=2"], INT8, "--set recipe.lr is given twice"),
        (["recipe.lr=-1"], INT8, "--set recipe.lr: .*greater than 0"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_command_line(
    settings: list[str], names: dict[str, str], said: str, weights: Path, registry: Registry
) -> None:
    with pytest.raises(UseError, match=said):
        plan(weights, registry, *settings, **names)
