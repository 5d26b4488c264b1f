"""Reference architectures: small published nets that serve as baselines, scorers, teachers and
students.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from automl_sr.api import Blueprint, Fixed, Float, Int, Slot, Technique, hookimpl

if TYPE_CHECKING:
    from automl_sr.api import Context, Task

NETS = "automl_sr_plugins.reference.nets"


class _Reference(Technique):
    """An architecture whose blueprint is its fields and what the task asks for."""

    slot = Slot.ARCHITECTURE

    def blueprint(self, task: Task, ctx: Context) -> Blueprint:
        return Blueprint(f"reference.{self.name}", {**self.dump(), **task.dims()})


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


class FSRCNN(_Reference):
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


class EDSR(_Reference):
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


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Return the architectures of this family."""
    return [SRCNN, FSRCNN, ESPCN, MSRResNet, EDSR]
