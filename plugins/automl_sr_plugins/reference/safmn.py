"""SAFMN: features gated by themselves at four sizes (Sun et al., ICCV 2023), in the paper's form
and in that of the NTIRE 2023 challenge.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.checks import check_choice, check_image, check_positive
from automl_sr_plugins.reference.sizes import Share, at_least, cut_to

Form = Literal["ntire", "iccv"]
LEVELS = 4
EPSILON = 1e-6
SHARES: dict[str, tuple[int, ...]] = {"ntire": (4, 8, 16), "iccv": (2, 4, 8)}
"""To what share of the sides every level but the first is pooled; images are as large as the last
one at least."""


class GlobalResponse(nn.Module):
    """Add every channel times its share of the response of all (the challenge's form alone)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Weigh features."""
        response = torch.linalg.vector_norm(features.float(), dim=(2, 3), keepdim=True)
        share = response / (response.mean(1, keepdim=True) + EPSILON)
        weighed: Tensor = features + self.beta + self.gamma * features * share
        return weighed


class ChannelNorm(nn.Module):
    """Normalise every pixel over its channels (the paper's form alone)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features."""
        exact = features.float()
        away = exact - exact.mean(1, keepdim=True)
        spread = (away.square().mean(1, keepdim=True) + EPSILON).sqrt()
        return away / spread * self.weight[:, None, None] + self.bias[:, None, None]


class Modulation(nn.Module):
    """Multiply by depthwise convolutions of a quarter of the channels each, three of them pooled:
    the paper's SAFM.
    """

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        part = width // LEVELS
        convs = [nn.Conv2d(part, part, 3, padding=1, groups=part, bias=bias) for _ in range(LEVELS)]
        self.mfr = nn.ModuleList(convs)
        self.aggr = nn.Conv2d(width, width, 1, bias=bias)

    def forward(self, features: Tensor, shares: list[Share]) -> Tensor:
        """Gate features."""
        first, *others = features.chunk(LEVELS, dim=1)
        made = [self.mfr[0](first)]
        for conv, part, share in zip(self.mfr[1:], others, shares, strict=True):
            made.append(share.enlarge(conv(share.pool(part))))
        return functional.gelu(self.aggr(torch.cat(made, dim=1))) * features


class Mixer(nn.Module):
    """Widen by a convolution of 3x3 and narrow by one of 1x1: the paper's CCM."""

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.ccm = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=bias),
            nn.GELU(),
            nn.Conv2d(2 * width, width, 1, bias=bias),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Mix features."""
        output: Tensor = self.ccm(features)
        return output


class Block(nn.Module):
    """Modulation and mixer, each added to its input; normalised before them in the paper's form."""

    def __init__(self, width: int, form: Form) -> None:
        super().__init__()
        paper = form == "iccv"
        self.norm1 = ChannelNorm(width) if paper else nn.Identity()
        self.norm2 = ChannelNorm(width) if paper else nn.Identity()
        self.safm = Modulation(width, bias=paper)
        self.ccm = Mixer(width, bias=paper)

    def forward(self, features: Tensor, shares: list[Share]) -> Tensor:
        """Refine features."""
        features = features + self.safm(self.norm1(features), shares)
        mixed: Tensor = self.ccm(self.norm2(features))
        return features + mixed


class SAFMN(nn.Module):
    """Blocks, one convolution and a pixel shuffle.

    The challenge's form is added to a bilinear enlargement, the paper's has a long skip over its
    blocks.
    """

    def __init__(self, channels: int, scale: int, width: int, blocks: int, form: Form) -> None:
        super().__init__()
        self.scale, self.paper = scale, form == "iccv"
        self.shares = SHARES[form]
        self.norm = nn.Identity() if self.paper else GlobalResponse(width)
        self.to_feat = nn.Conv2d(channels, width, 3, padding=1)
        self.feats = nn.ModuleList(Block(width, form) for _ in range(blocks))
        last = nn.Conv2d(width, channels * scale * scale, 3, padding=1)
        self.to_img = nn.Sequential(last, nn.PixelShuffle(scale))

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch; one that is too small has its last row and column repeated."""
        whole = at_least(image, self.shares[-1])
        shares = [Share(whole, share) for share in self.shares]
        shallow = self.norm(self.to_feat(whole))
        features = shallow
        for block in self.feats:
            features = block(features, shares)
        if self.paper:
            return cut_to(self.to_img(features + shallow), image, self.scale)
        # Python's floats, not sizes, so that the exported file takes any height and width.
        base = functional.interpolate(whole, scale_factor=float(self.scale), mode="bilinear")
        return cut_to(self.to_img(features) + base, image, self.scale)


def safmn(*, channels: int, scale: int, width: int, blocks: int, form: Form) -> SAFMN:
    """Make a SAFMN; its four levels have a quarter of the width each."""
    check_image("safmn", channels, scale)
    check_choice("safmn", "form", form, tuple(SHARES))
    check_positive("safmn", width=width // LEVELS, blocks=blocks)
    return SAFMN(channels, scale, width, blocks, form)
