"""Reference architectures: small published nets that serve as baselines, scorers, teachers and
students; some are trained wider than they ship.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field

from automl_sr.api import (
    Blueprint,
    Edit,
    File,
    Fixed,
    Float,
    Int,
    Later,
    Slot,
    Technique,
    When,
    hookimpl,
)

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.api import Context, Task, TrainedModel

FAMILY = "automl_sr_plugins.reference"
NETS = f"{FAMILY}.nets"
FOLD = "reference.fold"
"""The edit that puts one convolution in the place of each block that is trained wider."""


class _Reference(Technique):
    """An architecture whose blueprint is its fields and what the task asks for.

    Training begins with the weights in a file where one is named: a published one, or the
    `model.safetensors` of a trial.
    """

    slot = Slot.ARCHITECTURE

    weights: Annotated[
        str, File(), Field(description="checkpoint of the same net to begin with; else drawn")
    ] = ""

    def blueprint(self, task: Task, ctx: Context) -> Blueprint:
        fields = self.dump()
        del fields["weights"]
        return Blueprint(f"reference.{self.name}", {**fields, **task.dims()})

    def first_weights(self, blueprint: Blueprint, ctx: Context) -> Mapping[str, Tensor] | None:
        return ctx.weights(self.weights, blueprint) if self.weights else None

    def read_checkpoint(
        self, tensors: Mapping[str, Tensor], task: Task
    ) -> tuple[Technique, dict[str, Tensor]] | None:
        from automl_sr_plugins.reference.published import READERS, Asked

        if self.name not in READERS:
            return super().read_checkpoint(tensors, task)
        found = READERS[self.name](tensors, Asked(**task.dims()))
        if found is None:
            return None
        fields, ours = found
        return type(self)(**{**self.model_dump(), **fields}), ours


class _Folding(_Reference):
    """An architecture whose convolutions can be trained wide: they ship folded into plain ones.

    Checkpoints, from which training goes on, hold the wide net; the gate, each rung and the export
    see the folded one.
    """

    edits: ClassVar = {FOLD: Edit(f"{FAMILY}.reparam:fold")}

    def is_wide(self) -> bool:
        """Return whether what is trained differs from what ships."""
        return True

    def shipped(
        self, blueprint: Blueprint, task: Task, ctx: Context
    ) -> tuple[Blueprint, Blueprint]:
        if not self.is_wide() or _is_folded(blueprint):
            return blueprint, blueprint
        folded = blueprint.edited(FOLD)
        return folded, folded

    def compress(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        if not self.is_wide() or _is_folded(finished.blueprint):
            return finished
        from automl_sr_plugins.reference.reparam import fold

        module = fold(copy.deepcopy(finished.module))
        return replace(finished, module=module, blueprint=finished.blueprint.edited(FOLD))


def _is_folded(blueprint: Blueprint) -> bool:
    """Return whether training has gone on with the plain net, as prunings and roundings do."""
    return any(name == FOLD for name, _ in blueprint.edits)


class SRCNN(_Reference):
    """Three convolutions on the bicubically enlarged image.

    Dong, Loy, He, Tang: Image Super-Resolution Using Deep Convolutional Networks, TPAMI 2016. The
    paper's net is `width=64, skip="none"`; the skip, and the zero start of the last layer with it,
    are ours.
    """

    name = "srcnn"
    factories: ClassVar = {"reference.srcnn": f"{NETS}:srcnn"}

    kernels: Literal["9-1-5", "9-5-5"] = Field(
        "9-1-5", description="kernel sizes of the three layers"
    )
    width: Annotated[int, Int(8, 64, step=8), Field(ge=2, le=512, multiple_of=2)] = 32
    skip: Annotated[Literal["bicubic", "none"], Fixed()] = "bicubic"


class FSRCNN(_Folding):
    """Extract d features, shrink to s, map m times, expand and deconvolve.

    Dong, Loy, Tang: Accelerating the Super-Resolution Convolutional Neural Network, ECCV 2016. The
    paper's net is `d=56, s=12, m=4, skip="none"`; the skip, and the zero start of the last layer
    with it, are ours.
    """

    name = "fsrcnn"
    baseline = True
    factories: ClassVar = {"reference.fsrcnn": f"{NETS}:fsrcnn"}

    d: Annotated[int, Int(24, 64, step=8), Field(ge=1, le=512, description="features")] = 32
    s: Annotated[
        int, Int(6, 24, step=2), Field(ge=1, le=256, description="features while mapping")
    ] = 12
    m: Annotated[int, Int(1, 6), Field(ge=1, le=32, description="mapping layers")] = 2
    skip: Annotated[Literal["bicubic", "none"], Fixed()] = "bicubic"
    reparam: Annotated[
        Literal["none", "linear", "edge"],
        Later(),
        Field(description="what the mapping layers are trained as: SESR's blocks, ECBSR's or none"),
    ] = "none"

    def is_wide(self) -> bool:
        """Return whether any layer is trained as a block."""
        return self.reparam != "none"


class ESPCN(_Reference):
    """Two convolutions at low resolution and a sub-pixel convolution.

    Shi et al.: Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel CNN,
    CVPR 2016. The paper's net is `width=64, activation="tanh", skip="none"`; the skip, and the zero
    start with it, are ours.
    """

    name = "espcn"
    factories: ClassVar = {"reference.espcn": f"{NETS}:espcn"}

    width: Annotated[int, Int(8, 64, step=8), Field(ge=2, le=512, multiple_of=2)] = 32
    activation: Literal["relu", "tanh"] = "relu"
    skip: Annotated[Literal["bicubic", "none"], Fixed()] = "bicubic"


class MSRResNet(_Reference):
    """Residual blocks without normalisation, pixel shuffles, added to a bilinear base.

    SRResNet (Ledig et al., CVPR 2017) as modified in Wang et al., ESRGAN, ECCVW 2018. The published
    net is `width=64, blocks=16`.
    """

    name = "msrresnet"
    factories: ClassVar = {"reference.msrresnet": f"{NETS}:msrresnet"}

    width: Annotated[int, Int(8, 64, step=8), Field(ge=1, le=512)] = 16
    blocks: Annotated[int, Int(1, 16), Field(ge=1, le=128)] = 4


class EDSR(_Folding):
    """Residual blocks without normalisation and a long skip, with a full or a lite tail.

    Lim et al.: Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPRW 2017. The
    baseline net is `width=64, blocks=16, tail="full", skip="none"`, the large one `width=256,
    blocks=32, res_scale=0.1`; the lite tail is that of Zhang et al., SRP, ICLR 2022. The bicubic
    skip, and the zero start with it, are ours.
    """

    name = "edsr"
    factories: ClassVar = {"reference.edsr": f"{NETS}:edsr"}

    width: Annotated[int, Int(8, 64, step=8), Field(ge=1, le=512)] = 16
    blocks: Annotated[int, Int(1, 16), Field(ge=1, le=128)] = 4
    res_scale: Annotated[float, Fixed(), Float(0.1, 1.0), Field(gt=0, le=1)] = 1.0
    tail: Literal["lite", "full"] = "lite"
    skip: Annotated[Literal["bicubic", "none"], Fixed()] = "bicubic"
    reparam: Annotated[
        Literal["none", "linear", "edge"],
        Later(),
        Field(description="what all layers are trained as: SESR's blocks, ECBSR's or none"),
    ] = "none"

    def is_wide(self) -> bool:
        """Return whether any layer is trained as a block."""
        return self.reparam != "none"


class DRRN(_Reference):
    """One residual unit, applied again and again to the bicubically enlarged image.

    Tai, Yang, Liu: Image Super-Resolution via Deep Recursive Residual Network, CVPR 2017, with one
    recursive block. The published net B1U25 is `width=128, units=25`, and B1U9 has `units=9`. As in
    the widely used port there is no batch normalisation. The zero start of the last layer is ours.
    """

    name = "drrn"
    asked_only = True
    factories: ClassVar = {"reference.drrn": f"{FAMILY}.drrn:drrn"}

    width: Annotated[int, Int(16, 64, step=16), Field(ge=1, le=512)] = 32
    units: Annotated[
        int, Int(1, 9), Field(ge=1, le=64, description="how often the shared unit is applied")
    ] = 5


class IDN(_Reference):
    """Blocks that refine most channels further and keep the rest, and a deconvolution.

    Hui, Wang, Gao: Fast and Accurate Single Image Super-Resolution via Information Distillation
    Network, CVPR 2018. The published net is `width=64, blocks=4`. The zero start of the
    deconvolution is ours.
    """

    name = "idn"
    factories: ClassVar = {"reference.idn": f"{FAMILY}.idn:idn"}

    width: Annotated[int, Int(16, 64, step=16), Field(ge=16, le=512, multiple_of=16)] = 16
    blocks: Annotated[int, Int(1, 4), Field(ge=1, le=32)] = 2


class IMDN(_Reference):
    """Blocks that put a quarter of the channels aside at each step, weighed by contrast.

    Hui, Gao, Yang, Wang: Lightweight Image Super-Resolution with Information Multi-distillation
    Network, ACM MM 2019. The published net is `width=64, blocks=6, skip="none"`; the skip, and the
    zero start with it, are ours.
    """

    name = "imdn"
    factories: ClassVar = {"reference.imdn": f"{FAMILY}.imdn:imdn"}

    width: Annotated[int, Int(16, 64, step=16), Field(ge=16, le=512, multiple_of=16)] = 16
    blocks: Annotated[int, Int(1, 6), Field(ge=1, le=32)] = 3
    skip: Annotated[Literal["bicubic", "none"], Fixed()] = "bicubic"


class RDN(_Reference):
    """Dense blocks with a skip each, whose outputs are fused, and a long skip.

    Zhang, Tian, Kong, Zhong, Fu: Residual Dense Network for Image Super-Resolution, CVPR 2018.
    The published nets are A, `blocks=20, layers=6, growth=32, width=64, skip="none"`, and B,
    `blocks=16, layers=8, growth=64, width=64, skip="none"`. The light default, the bicubic skip and
    the zero start with it are ours.
    """

    name = "rdn"
    asked_only = True
    factories: ClassVar = {"reference.rdn": f"{FAMILY}.rdn:rdn"}

    blocks: Annotated[int, Int(2, 8), Field(ge=1, le=64, description="the paper's D")] = 6
    layers: Annotated[
        int, Int(2, 6), Field(ge=1, le=32, description="the paper's C: convolutions of a block")
    ] = 4
    growth: Annotated[
        int,
        Int(8, 32, step=8),
        Field(ge=1, le=256, description="the paper's G: channels that a convolution adds"),
    ] = 16
    width: Annotated[
        int, Int(16, 64, step=16), Field(ge=1, le=512, description="the paper's G0")
    ] = 32
    skip: Annotated[Literal["bicubic", "none"], Fixed()] = "bicubic"


class SwinIRLight(_Reference):
    """Self-attention within windows, plain ones and shifted ones in turns, between convolutions.

    Liang, Cao, Sun, Zhang, Van Gool, Timofte: SwinIR: Image Restoration Using Swin Transformer,
    ICCVW 2021. The published light net is `width=60, stages=4, depth=6, heads=6, skip="none"`;
    the skip, and the zero start with it, are ours. Layers are never dropped at random.
    """

    name = "swinir_light"
    asked_only = True
    factories: ClassVar = {"reference.swinir_light": f"{FAMILY}.swinir_light:swinir_light"}

    width: Annotated[int, Int(24, 60, step=12), Field(ge=12, le=240, multiple_of=12)] = 36
    stages: Annotated[
        int, Int(1, 4), Field(ge=1, le=16, description="groups of layers with a skip each")
    ] = 2
    depth: Annotated[
        int, Int(2, 6, step=2), Field(ge=1, le=16, description="Swin layers of a stage")
    ] = 2
    heads: Literal[2, 3, 4, 6] = 3
    window: Annotated[
        int,
        Fixed(),
        Int(4, 8, step=4),
        Field(ge=2, le=32, multiple_of=2, description="side of a window in low-resolution px"),
    ] = 8
    skip: Annotated[Literal["bicubic", "none"], Fixed()] = "bicubic"


class CARNM(_Reference):
    """A cascade of cascading blocks, whose units share their weights, with grouped convolutions.

    Ahn, Kang, Sohn: Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual
    Network, ECCV 2018. The published net is `width=64, blocks=3`.
    """

    name = "carn_m"
    asked_only = True
    factories: ClassVar = {"reference.carn_m": f"{FAMILY}.carn_m:carn_m"}

    width: Annotated[int, Int(8, 64, step=8), Field(ge=4, le=512, multiple_of=4)] = 16
    blocks: Annotated[int, Int(1, 3), Field(ge=1, le=16)] = 2
    groups: Annotated[Literal[1, 2, 4], Fixed()] = 4


class PAN(_Reference):
    """Self-calibrated blocks and a tail with pixel attention, added to a bilinear enlargement.

    Zhao, Kong, He, Qiao, Dong: Efficient Image Super-Resolution Using Pixel Attention, ECCV
    Workshops 2020. The published net is `width=40, tail=24, blocks=16`.
    """

    name = "pan"
    asked_only = True
    factories: ClassVar = {"reference.pan": f"{FAMILY}.pan:pan"}

    width: Annotated[int, Int(8, 40, step=8), Field(ge=2, le=512, multiple_of=2)] = 16
    tail: Annotated[
        int, Int(8, 24, step=8), Field(ge=1, le=256, description="width where it enlarges")
    ] = 8
    blocks: Annotated[int, Int(1, 16), Field(ge=1, le=128)] = 4


class BSRN(_Reference):
    """Distillation blocks of blueprint-separable convolutions with two kinds of attention.

    Li et al.: Blueprint Separable Residual Network for Efficient Image Super-Resolution, CVPR
    Workshops 2022. The published net is `width=64, blocks=8`.
    """

    name = "bsrn"
    asked_only = True
    factories: ClassVar = {"reference.bsrn": f"{FAMILY}.bsrn:bsrn"}

    width: Annotated[int, Int(8, 64, step=8), Field(ge=2, le=512, multiple_of=2)] = 16
    blocks: Annotated[int, Int(1, 8), Field(ge=1, le=64)] = 3


class RLFN(_Reference):
    """Blocks of three convolutions and one attention, made for speed.

    Kong et al.: Residual Local Feature Network for Efficient Super-Resolution, CVPR Workshops 2022.
    The challenge's net is `width=46, middle=48, blocks=4, attention=16`; the paper's has 52, 52, 6
    and 16, its small one 48, 48, 6 and 16.
    """

    name = "rlfn"
    factories: ClassVar = {"reference.rlfn": f"{FAMILY}.rlfn:rlfn"}

    width: Annotated[int, Int(8, 52, step=2), Field(ge=1, le=512)] = 16
    middle: Annotated[
        int, Int(8, 52, step=2), Field(ge=1, le=512, description="width inside of blocks")
    ] = 16
    blocks: Annotated[int, Int(1, 6), Field(ge=1, le=64)] = 2
    attention: Annotated[
        int, Int(4, 16, step=4), Field(ge=1, le=256, description="width of the attention")
    ] = 8


class SAFMN(_Reference):
    """Features gated by their own convolutions at four sizes, and convolutional mixers.

    Sun, Dong, Tang, Pan: Spatially-Adaptive Feature Modulation for Efficient Image
    Super-Resolution, ICCV 2023. The paper's net is `width=36, blocks=8, form="iccv"`, that of the
    NTIRE 2023 challenge `form="ntire"`.
    """

    name = "safmn"
    factories: ClassVar = {"reference.safmn": f"{FAMILY}.safmn:safmn"}

    width: Annotated[int, Int(8, 36, step=4), Field(ge=4, le=512, multiple_of=4)] = 16
    blocks: Annotated[int, Int(1, 8), Field(ge=1, le=64)] = 3
    form: Literal["ntire", "iccv"] = "ntire"


class SESR(_Folding):
    """Residual 3x3 convolutions between two of 5x5, each trained as a product of two layers.

    Bhardwaj et al.: Collapsible Linear Blocks for Super-Efficient Super Resolution, MLSys 2022.
    The paper's nets are `m=3`, `m=5` and `m=7` with `f=16, p=256`, M11 `m=11, f=16, p=64` and XL
    `m=11, f=32, p=64`, all with `activation="prelu", skip="nearest"`. The zero start of the last
    layer is ours.
    """

    name = "sesr"
    factories: ClassVar = {"reference.sesr": f"{FAMILY}.sesr:sesr"}

    m: Annotated[int, Int(1, 11), Field(ge=1, le=64, description="residual layers")] = 5
    f: Annotated[int, Int(8, 32, step=8), Field(ge=1, le=512, description="features")] = 16
    p: Annotated[
        int,
        Int(32, 256, log=True),
        Field(ge=1, le=1024, description="features inside a block while it is trained"),
    ] = 64
    activation: Literal["prelu", "relu"] = "prelu"
    biases: Annotated[bool, Fixed()] = False
    skip: Annotated[Literal["nearest", "bicubic"], Fixed()] = "nearest"


class ECBSR(_Folding):
    """Plain 3x3 convolutions, each trained as a sum with branches that look for edges.

    Zhang, Zeng, Zhang: Edge-oriented Convolution Block for Real-time Super Resolution on Mobile
    Devices, ACM MM 2021. The paper's nets are `m=4` with `c=8` and `c=16`, both with
    `skip="nearest"`. The zero start of the last layer is ours.
    """

    name = "ecbsr"
    factories: ClassVar = {"reference.ecbsr": f"{FAMILY}.ecbsr:ecbsr"}

    m: Annotated[
        int, Int(1, 8), Field(ge=1, le=64, description="layers between first and last")
    ] = 4
    c: Annotated[int, Int(8, 32, step=8), Field(ge=1, le=512, description="features")] = 16
    identity: Annotated[bool, Fixed()] = False
    skip: Annotated[Literal["nearest", "bicubic"], Fixed()] = "nearest"


class SPAN(_Folding):
    """Features that weigh themselves, in blocks of three convolutions, each trained as three.

    Wan et al.: Swift Parameter-free Attention Network for Efficient Super-Resolution, CVPRW 2024.
    The paper's nets are `blocks=6, skip="none"` with `width=48` and `width=52`, the winner of NTIRE
    2024 is that with `width=28`. The bicubic skip, and the zero start with it, are ours.
    """

    name = "span"
    factories: ClassVar = {"reference.span": f"{FAMILY}.span:span"}

    width: Annotated[int, Int(8, 24, step=4), Field(ge=1, le=256)] = 12
    blocks: Annotated[int, Int(1, 6), Field(ge=1, le=32)] = 4
    skip: Annotated[Literal["bicubic", "none"], Fixed()] = "bicubic"


class PlainUSR(_Folding):
    """Plain convolutions on a part of the channels, each trained as several, with cheap attentions.

    Wang et al.: PlainUSR: Chasing Faster ConvNet for Efficient Super-Resolution, ACCV 2024. The
    paper's nets are U `kind="ultra", n=16, w2=8`, T `ultra, 32, 16`, S `general, 32, 16, w3=8,
    f=4`, M `general, 48, 32, 16, 8`, base `general, 64, 48, 32, 16`, L `large, 80, 64, 48, 16`. The
    start at exactly the image with its pixels repeated is ours.
    """

    name = "plainusr"
    factories: ClassVar = {"reference.plainusr": f"{FAMILY}.plainusr:plainusr"}

    kind: Literal["ultra", "general", "large"] = "ultra"
    n: Annotated[
        int, Int(8, 32, step=4), Field(ge=2, le=256, description="width of the outer blocks")
    ] = 16
    w2: Annotated[
        int, Int(4, 32, step=4), Field(ge=2, le=256, description="width of those inside; n at most")
    ] = 8
    w3: Annotated[
        int,
        Int(4, 16, step=4),
        Field(ge=2, le=256, description="width of the innermost block; n at most"),
        When(kind=["general", "large"]),
    ] = 4
    f: Annotated[
        int,
        Int(2, 8, step=2),
        Field(ge=1, le=128, description="features of an attention"),
        When(kind=["general", "large"]),
    ] = 4

    def canonical(self) -> Self:
        """Return the net in which no block is wider than the outer ones: they take all channels."""
        settled = super().canonical()
        narrowed = {"w2": min(settled.w2, settled.n)}
        if settled.kind != "ultra":
            narrowed["w3"] = min(settled.w3, settled.n)
        return settled.model_copy(update=narrowed)


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Return the architectures of this family."""
    return [
        SRCNN,
        FSRCNN,
        ESPCN,
        MSRResNet,
        EDSR,
        DRRN,
        IDN,
        IMDN,
        RDN,
        SwinIRLight,
        CARNM,
        PAN,
        BSRN,
        RLFN,
        SAFMN,
        SESR,
        ECBSR,
        SPAN,
        PlainUSR,
    ]
