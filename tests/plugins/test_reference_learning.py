"""The reference nets can learn one image by heart, from their default start."""

from __future__ import annotations

from pathlib import Path

import pytest
import skimage
import torch
from torch.nn import functional

from automl_sr.data.images import read, to_rgb8
from automl_sr.tasks.image_sr.batches import to_color
from automl_sr.tasks.image_sr.resize import downscale
from automl_sr_plugins.reference import nets
from automl_sr_plugins.reference.bicubic import BicubicUpsample
from automl_sr_plugins.reference.drrn import drrn
from automl_sr_plugins.reference.idn import idn
from automl_sr_plugins.reference.imdn import imdn
from automl_sr_plugins.reference.rdn import rdn
from automl_sr_plugins.reference.swinir_light import swinir_light

FSRCNN = {"d": 32, "s": 12, "m": 2, "skip": "bicubic"}
ESPCN = {"width": 32, "activation": "relu", "skip": "bicubic"}
SRCNN = {"kernels": "9-1-5", "width": 32, "skip": "bicubic"}
IMDN = {"width": 16, "blocks": 2, "skip": "bicubic"}
RDN = {"blocks": 2, "layers": 3, "growth": 8, "width": 16, "skip": "bicubic"}
SWINIR = {"width": 24, "stages": 1, "depth": 2, "heads": 3, "window": 8, "skip": "bicubic"}
EDSR = {"width": 16, "blocks": 4, "res_scale": 1.0, "tail": "lite", "skip": "bicubic"}


def crop_pair():
    """48 x 48 px of a cat's face and its bicubic half, luma in 0..1."""
    hr = to_rgb8(read(Path(skimage.__file__).parent / "data" / "chelsea.png"))[96:144, 160:208]
    pair = (torch.from_numpy(image.copy()).permute(2, 0, 1) for image in (downscale(hr, 2), hr))
    return tuple(to_color(image, "y")[None] for image in pair)


def psnr(output, target) -> float:
    return float(-10 * torch.log10(functional.mse_loss(output, target)))


@pytest.mark.parametrize(
    ("factory", "fields", "gain"),
    [
        (nets.msrresnet, {"width": 16, "blocks": 4}, 6.0),
        (nets.edsr, EDSR, 3.0),
        (nets.fsrcnn, FSRCNN, 0.3),
        (nets.espcn, ESPCN, 0.3),
        (nets.srcnn, SRCNN, 0.3),
        pytest.param(drrn, {"width": 16, "units": 3}, 0.3, marks=pytest.mark.ci),
        pytest.param(idn, {"width": 16, "blocks": 1}, 0.3, marks=pytest.mark.ci),
        pytest.param(imdn, IMDN, 0.3, marks=pytest.mark.ci),
        pytest.param(rdn, RDN, 0.3, marks=pytest.mark.ci),
        pytest.param(swinir_light, SWINIR, 0.3, marks=pytest.mark.ci),
    ],
)
def test_a_net_learns_one_crop_far_better_than_bicubic(factory, fields, gain):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lr, hr = crop_pair()
    net = factory(channels=1, scale=2, **fields)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        optimizer.zero_grad()
        functional.mse_loss(net(lr), hr).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        assert psnr(net(lr), hr) > psnr(BicubicUpsample(1, 2)(lr), hr) + gain
