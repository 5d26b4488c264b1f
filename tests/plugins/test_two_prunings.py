"""Two prunings in one trial: filters first, then single weights of what is left."""

from __future__ import annotations

from typing import Any, ClassVar

import pruning_toys
import pytest
from pruning_toys import FewerFilters, OnlyScored

from automl_sr.errors import StudyFileError
from automl_sr.plugin.registry import Registry, Source, discover
from automl_sr.plugin.technique import Slot
from automl_sr.search.decide.gate import shippable
from automl_sr.space.plan import TrialPlan
from automl_sr.space.search_space import SearchSpace
from automl_sr.study.spec import parse_study
from automl_sr.testing import TechniqueContract
from automl_sr.testing.tiny import TinyNet, TinyTrial
from automl_sr_plugins.two_prunings import Both
from automl_sr_plugins.unstructured_pruning import NM, DUPru, UPru
from automl_sr_plugins.unstructured_pruning.masks import masks_of

STUDY = """
name: both
task: {{kind: image-sr, scale: 2, train: photos-train, valid: photos-valid}}
objectives: [psnr_y]
budget: {{trials: 1, steps: 100}}
space: {{architecture: edsr, pruning: {pruning}}}
"""


class TestBoth(TechniqueContract):
    technique = Both
    settings: ClassVar = {
        "first": FewerFilters(kept=4),
        "then": DUPru(rounds=2, rate=0.5, eps=0.05, keep="last"),
    }
    plugins: ClassVar = [pruning_toys]
    steps = 24

    def test_single_weights_are_pruned_of_the_filters_that_are_left(
        self, configured: Any, trained: Any, trial: TinyTrial
    ) -> None:
        finished, _ = trained
        weight = finished.module.get_parameter("conv1.weight")
        assert weight.shape == (4, 8, 3, 3)
        assert int((weight == 0).sum()) == weight.numel() / 2
        assert masks_of(finished.state)["conv1.weight"].shape == weight.shape
        names = [span.phase.name for span in trial.timetable().spans]
        assert names == ["train", "narrow", "narrow round 2"]

    def test_the_gate_knows_the_net_that_ships(self, trained: Any, trial: TinyTrial) -> None:
        finished, _ = trained
        techniques = {item.slot: item for item in trial.techniques}
        context = trial.context(trial.architecture)
        blueprint = trial.architecture.blueprint(trial.task, context)
        bounds = shippable(TrialPlan.of(techniques, {}), blueprint, context)
        assert bounds == (finished.blueprint, finished.blueprint)


def test_one_pruning_is_not_two(tmp_path: Any) -> None:
    trial = TestBoth().trial_of(Both(then=UPru()), tmp_path)
    context = trial.context(trial.architecture)
    blueprint = TinyNet().blueprint(trial.task, context)
    assert "needs two" in str(Both(then=UPru()).refuses(blueprint, trial.task, context))
    both = Both(first=FewerFilters(), then=UPru())
    assert both.refuses(blueprint, trial.task, context) is None


def test_what_the_second_one_refuses_it_refuses_of_the_smaller_net(tmp_path: Any) -> None:
    both = Both(first=FewerFilters(kept=4), then=NM(m=8))
    trial = TestBoth().trial_of(both, tmp_path)
    context = trial.context(both)
    blueprint = TinyNet().blueprint(trial.task, context)
    assert both.refuses(blueprint, trial.task, context) is None, "conv1 still has groups of 8"
    narrow = Both(first=FewerFilters(kept=4), then=NM(m=16))
    words = str(narrow.refuses(blueprint, trial.task, context))
    assert words == (
        "cannot go on: nm finds no groups of 16 input channels: the convolutions have 4, 8"
    )


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = discover()
    found.add_plugin(pruning_toys, Source("pruning_toys", "pruning_toys"))
    return found


def space_of(pruning: str, registry: Registry) -> SearchSpace:
    loaded = parse_study(STUDY.format(pruning=pruning), "study.yaml", registry)
    return SearchSpace(loaded.space_request, registry)


def test_a_study_file_names_both(registry: Registry) -> None:
    pruning = "{both: {first: {fewer_filters: {}}, then: {dupru: {rounds: 3}}}}"
    space = space_of(pruning, registry)
    both = space.default_plan().techniques[Slot.PRUNING]
    assert isinstance(both, Both)
    assert both.first == FewerFilters()
    assert both.then == DUPru(rounds=3)
    assert "pruning.both.then.dupru.eps" in space.parameters()
    written = space.default_plan().to_json()
    assert TrialPlan.from_json(written, registry) == space.default_plan()


def test_each_place_offers_the_prunings_that_fit_there(registry: Registry) -> None:
    parameters = space_of("{both: {}}", registry).parameters()
    assert {"fewer_filters", "only_scored"} <= set(parameters["pruning.both.first"].choices)
    assert "none" not in parameters["pruning.both.first"].choices
    assert set(parameters["pruning.both.then"].choices) >= {"upru", "dupru", "nm", "shrink"}
    assert not {"both", "fewer_filters", "none"} & set(parameters["pruning.both.then"].choices)


@pytest.mark.parametrize(
    ("pruning", "words"),
    [
        ("{both: {first: upru}}", "provides sparse_weights, which 'both' excludes here"),
        ("{both: {then: fewer_filters}}", "does not provide sparse_weights"),
        ("{both: {then: both}}", "cannot be nested in itself"),
        ("{both: {first: none}}", "it does nothing, and 'both' is there already"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    pruning: str, words: str, registry: Registry
) -> None:
    with pytest.raises(StudyFileError, match=words):
        space_of(pruning, registry)


def test_it_is_searched_only_where_a_study_file_names_it(registry: Registry) -> None:
    space = space_of("{}", registry)
    assert "both" not in space.parameters()["pruning"].choices
    assert OnlyScored.name in space.parameters()["pruning"].choices
