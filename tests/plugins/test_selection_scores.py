"""Core-sets of real photographs, with outliers planted among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch

from automl_sr.data.images import read, to_rgb8
from automl_sr.plugin.none import NoSelection
from automl_sr.tasks.image_sr.batches import to_color
from automl_sr.tasks.image_sr.pixel_store import PixelStore
from automl_sr.tasks.image_sr.resize import downscale
from automl_sr.tasks.image_sr.samples import SRSamples
from automl_sr.testing.tiny import TinyNet, TinyTrial, contract_registry, tiny_recipe, tiny_task
from automl_sr_plugins.reference import SRCNN, nets
from automl_sr_plugins.selection import (
    LossSelection,
    RandomSelection,
    SobelSelection,
    ranking,
    scoring,
)

SIDE, NATURAL, NOISE = 48, 196, 4
CONSTANT = NATURAL + NOISE
WINDOWS = {"size": SIDE // 2, "step": SIDE // 2}


def natural_crops() -> list[np.ndarray]:
    folder = Path(skimage.__file__).parent / "data"
    crops = []
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        image = to_rgb8(read(folder / name))
        corners = [
            (y, x)
            for y in range(0, image.shape[0] - SIDE, SIDE)
            for x in range(0, image.shape[1] - SIDE, SIDE)
        ]
        chosen = np.random.default_rng(0).permutation(len(corners))[: NATURAL // 4]
        crops += [image[y : y + SIDE, x : x + SIDE] for y, x in (corners[i] for i in chosen)]
    return crops


@pytest.fixture(scope="module")
def data() -> SRSamples:
    generator = np.random.default_rng(1)
    noise = [generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(NOISE)]
    hr = [*natural_crops(), *noise, np.full((SIDE, SIDE, 3), 90, np.uint8)]

    def store(images):
        return PixelStore.from_images(
            [torch.from_numpy(np.ascontiguousarray(i)).permute(2, 0, 1) for i in images]
        )

    names = tuple(str(i) for i in range(len(hr)))
    return SRSamples.whole(store(hr), store([downscale(image, 2) for image in hr]), 2, names)


@pytest.fixture(scope="module")
def trial(data, tmp_path_factory) -> TinyTrial:
    registry = contract_registry([LossSelection, SRCNN])
    folder = tmp_path_factory.mktemp("trial")
    return TinyTrial(registry, tiny_task(), data, (TinyNet(),), 12, folder, tiny_recipe())


@pytest.fixture(scope="module")
def loss() -> LossSelection:
    return LossSelection(scorer_steps=120, **WINDOWS)


@pytest.fixture(scope="module")
def scores(data, trial, loss) -> np.ndarray:
    cut = scoring.sub_images(data, trial.context(loss), loss.size, loss.step)
    return scoring.loss_scores(cut, trial.context(loss), loss.scorer_steps).numpy()


def images_of(samples: SRSamples) -> list[int]:
    return samples.windows[:, 0].tolist()


def chosen(technique, trial, data) -> list[int]:
    return images_of(technique.select_data(data, trial.context(technique)))


def test_planted_noise_takes_exactly_the_hardest_ranks(scores):
    assert set(ranking.hardest_first(scores)[:NOISE]) == set(range(NATURAL, NATURAL + NOISE))


def test_a_constant_patch_is_among_the_easiest_tenth(scores):
    rank = list(ranking.hardest_first(scores)).index(CONSTANT)
    assert rank >= 0.9 * len(scores)


def test_the_refined_core_set_holds_no_planted_noise_and_the_plain_one_all_of_it(trial, data, loss):
    refined = chosen(loss, trial, data)
    plain = chosen(loss.model_copy(update={"drop_hardest": 0.0}), trial, data)
    assert len(refined) == len(plain) == ranking.count_of(0.5, len(data))
    noise = set(range(NATURAL, NATURAL + NOISE))
    assert not noise & set(refined)
    assert noise <= set(plain)
    assert refined == sorted(refined)


def test_hard_core_sets_score_above_random_ones_and_those_above_easy_ones(
    trial, data, loss, scores
):
    hard = scores[chosen(loss.model_copy(update={"drop_hardest": 0.0}), trial, data)].mean()
    chance = scores[chosen(RandomSelection(**WINDOWS), trial, data)].mean()
    easy = scores[chosen(loss.model_copy(update={"order": "ascending"}), trial, data)].mean()
    assert hard > chance > easy


def test_scores_are_mean_squared_errors_whatever_the_batch_and_the_order(data):
    torch.manual_seed(0)
    scorer = nets.srcnn(channels=1, scale=2, kernels="9-1-5", width=8, skip="none").eval()
    scores = scoring.errors_of(scorer, data, 1, "cpu")
    backwards = scoring.errors_of(scorer, data.subset(range(len(data) - 1, -1, -1)), 1, "cpu").flip(
        0
    )
    torch.testing.assert_close(scores, backwards, atol=1e-9, rtol=1e-6)
    with torch.no_grad():
        for index in (0, 77, CONSTANT):
            lr, hr = (to_color(store.image(index), "y")[None] for store in (data.lr, data.hr))
            assert float(scores[index]) == pytest.approx(
                float((scorer(lr) - hr).square().mean()), rel=1e-5
            )


@pytest.mark.parametrize(("channels", "color"), [(1, "y"), (3, "rgb")])
def test_a_scorer_sees_what_a_trained_net_sees(data, channels, color):
    pixels = data.lr.image(3)
    torch.testing.assert_close(
        scoring.as_input(pixels[None], channels)[0], to_color(pixels, color), atol=1e-6, rtol=0
    )


def test_scores_are_computed_once_for_all_trials_on_the_same_data(trial, data, loss, scores):
    context = trial.context(loss)
    loss.select_data(data, context)
    assert context.cache.misses == []


def test_random_core_sets_depend_on_the_trial_alone(trial, data):
    technique = RandomSelection(keep=0.25, **WINDOWS)
    assert chosen(technique, trial, data) == chosen(technique, trial, data)
    other = technique.select_data(data, replace(trial.context(technique), seed=6))
    assert images_of(other) != chosen(technique, trial, data)
    assert len(other) == ranking.count_of(0.25, len(data))


def test_texture_alone_keeps_the_patches_with_the_steepest_gradients(trial, data):
    technique = SobelSelection(keep=0.25, pool=1.0, **WINDOWS)
    features, _ = scoring.texture_features(data, trial.context(technique))
    assert set(chosen(technique, trial, data)) == set(
        ranking.hardest(features.numpy(), ranking.count_of(0.25, len(data)))
    )


def test_clusters_bring_in_patches_that_texture_alone_would_leave_out(trial, data):
    plain = set(chosen(SobelSelection(keep=0.25, pool=1.0, **WINDOWS), trial, data))
    varied = set(chosen(SobelSelection(keep=0.25, pool=2.0, clusters=8, **WINDOWS), trial, data))
    assert len(varied) == len(plain)
    assert varied - plain


def test_no_image_gives_more_than_its_share(trial, data):
    technique = LossSelection(keep=0.25, per_image=0.5, size=16, step=8, scorer_steps=20)
    images = chosen(technique, trial, data)
    assert (
        max(images.count(image) for image in set(images)) == 2
    )  # half of the four sub-images of each


def test_training_on_everything_hands_the_images_through(trial, data):
    technique = NoSelection()
    assert technique.select_data(data, trial.context(technique)) is data


def test_smaller_images_stay_whole(trial, data):
    technique = RandomSelection(keep=1.0, size=200, step=100)
    assert len(technique.select_data(data, trial.context(technique))) == len(data)
