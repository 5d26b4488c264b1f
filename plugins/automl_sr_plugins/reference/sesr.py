"""SESR: linear blocks with short skips, a long one, and the image on every map of the output."""

from __future__ import annotations

from torch import Tensor, nn

from automl_sr_plugins.reference.checks import check_choice, check_image, check_positive
from automl_sr_plugins.reference.reparam import LinearBlock
from automl_sr_plugins.reference.skips import Base, ShuffledOnto

GREY = 0.5
"""What the first layer takes for zero, and so for what lies outside the image."""


class SESR(nn.Module):
    """m residual 3x3 layers between two of 5x5 (Bhardwaj et al., MLSys 2022).

    Enlarging by 4 shuffles once: published are two shuffles by 2, which give the same net with the
    16 last channels in another order. The output is not clipped: who makes an image of it does
    that, and a clipped pixel has no gradient. The last layer starts at zero, which is ours: wide
    blocks are sensitive to the learning rate, and less so from there.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        m: int,
        f: int,
        p: int,
        activation: str,
        biases: bool,
        skip: Base,
    ) -> None:
        super().__init__()
        self.first = LinearBlock(channels, f, 5, p, bias=biases)
        layers: list[nn.Module] = []
        for _ in range(m):
            layers.append(LinearBlock(f, f, 3, p, bias=biases, identity=True))
            if activation == "prelu":
                layers.append(nn.PReLU(f))
            else:
                layers.append(nn.ReLU())

        self.body = nn.Sequential(*layers)
        self.last = LinearBlock(f, channels * scale * scale, 5, p, bias=biases)
        self.last.start_at_zero()
        self.tail = ShuffledOnto(channels, scale, skip)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        shallow = self.first(image - GREY)
        output: Tensor = self.tail(self.last(self.body(shallow) + shallow), image)
        return output


def sesr(
    *,
    channels: int,
    scale: int,
    m: int,
    f: int,
    p: int,
    activation: str,
    biases: bool,
    skip: Base,
) -> SESR:
    """Make a SESR(m, f, p), in the form in which it is trained."""
    check_image("sesr", channels, scale)
    check_positive("sesr", m=m, f=f, p=p)
    check_choice("sesr", "activation", activation, ("prelu", "relu"))
    check_choice("sesr", "skip", skip, ("nearest", "bicubic"))
    return SESR(channels, scale, m, f, p, activation, biases, skip)
