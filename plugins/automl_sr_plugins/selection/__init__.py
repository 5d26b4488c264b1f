"""Core-sets: train on those samples that are worth it, for the same number of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from automl_sr.api import Fixed, Float, Int, Slot, Technique, When, hookimpl

if TYPE_CHECKING:
    from automl_sr.api import Context, Samples

Keep = Annotated[
    float, Float(0.25, 1.0, step=0.05), Field(gt=0, le=1, description="share of the sub-images")
]
Size = Annotated[
    int, Fixed(), Field(ge=16, le=512, description="side of a sub-image, low-resolution px")
]
Step = Annotated[
    int, Fixed(), Field(ge=4, le=512, description="distance between sub-images, low-resolution px")
]
PerImage = Annotated[
    float, Fixed(), Field(gt=0, le=1, description="largest share of one image's sub-images")
]


class RandomSelection(Technique):
    """Train on a random share of the sub-images.

    The control without which no other core-set means anything (Moser et al., A Study in Dataset
    Pruning for Image Super-Resolution, ICANN 2024). The draw depends on the trial's seed.
    """

    slot = Slot.SELECTION
    name = "random"

    keep: Keep = 0.5
    size: Size = 64
    step: Step = 32

    def select_data(self, data: Samples, ctx: Context) -> Samples:
        """Keep a random share."""
        import torch

        from automl_sr_plugins.selection import ranking, scoring

        cut = scoring.sub_images(data, ctx, self.size, self.step)
        order = torch.randperm(len(cut), generator=ctx.generator("selection.random")).numpy()
        return scoring.kept(cut, order[: ranking.count_of(self.keep, len(cut))])


class LossSelection(Technique):
    """Train on the sub-images that a small SRCNN finds hardest, but for the very hardest ones.

    Moser, Raue, Dengel: A Study in Dataset Pruning for Image Super-Resolution, ICANN 2024. Score:
    mean squared error. Easiest first is there as a negative control. The scorer is small and has a
    bicubic skip, which is ours.
    """

    slot = Slot.SELECTION
    name = "loss"

    keep: Keep = 0.5
    order: Literal["descending", "ascending"] = Field(
        "descending", description="hardest or easiest first"
    )
    drop_hardest: Annotated[
        float,
        Float(0.0, 0.10),
        When(order=["descending"]),
        Field(ge=0, lt=1, description="share cut off the top"),
    ] = 0.05
    per_image: PerImage = 1.0
    size: Size = 64
    step: Step = 32
    scorer_steps: Annotated[
        int, Fixed(), Field(ge=20, le=1_000_000, description="training steps of the scorer")
    ] = 400

    def select_data(self, data: Samples, ctx: Context) -> Samples:
        """Keep the share with the largest (or smallest) errors."""
        from automl_sr_plugins.selection import ranking, scoring

        cut = scoring.sub_images(data, ctx, self.size, self.step)
        scores = scoring.loss_scores(cut, ctx, self.scorer_steps).numpy()
        count = ranking.count_of(self.keep, len(cut))
        if self.order == "descending":
            order = ranking.hardest(scores, len(cut), ranking.count_of(self.drop_hardest, len(cut)))
        else:
            order = ranking.easiest(scores, len(cut))
        return scoring.kept(
            cut, ranking.capped(order, scoring.sources_of(cut), count, self.per_image)
        )


class SobelSelection(Technique):
    """Train on textured sub-images that differ from each other.

    Ding et al.: Not All Patches Are Equal: Hierarchical Dataset Condensation for Single Image
    Super-Resolution, IEEE SPL 2023. The paper gives Sobel texture, then clustering; descriptors,
    number of clusters and the size of the pool from which clusters draw are ours. With `pool=1` the
    most textured are kept, as in Moser et al., ICANN 2024.
    """

    slot = Slot.SELECTION
    name = "sobel"

    keep: Keep = 0.5
    pool: Annotated[
        float,
        Float(1.0, 2.0, step=0.25),
        Field(ge=1, le=10, description="textured candidates, in multiples of those kept"),
    ] = 1.5
    clusters: Annotated[int, Int(4, 64, log=True), Field(ge=1, le=1024)] = 16
    size: Size = 64
    step: Step = 32

    def select_data(self, data: Samples, ctx: Context) -> Samples:
        """Keep a share of the most textured, from every cluster its part."""
        from automl_sr_plugins.selection import ranking, scoring, texture

        cut = scoring.sub_images(data, ctx, self.size, self.step)
        scores, features = (values.numpy() for values in scoring.texture_features(cut, ctx))
        count = max(1, ranking.count_of(self.keep, len(cut)))
        pooled = max(1, ranking.count_of(min(1.0, self.pool * self.keep), len(cut)))
        candidates = ranking.hardest(scores, pooled)
        groups = texture.clusters_of(features[candidates], self.clusters)
        return scoring.kept(cut, candidates[ranking.varied(scores[candidates], groups, count)])


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Return the core-sets of this family."""
    return [RandomSelection, LossSelection, SobelSelection]
