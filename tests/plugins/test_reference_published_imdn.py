"""IMDN as its authors published it: how their weights are read, and contrast on flat patches."""

from __future__ import annotations

import torch

from automl_sr_plugins.reference import published
from automl_sr_plugins.reference.imdn import ContrastAttention, imdn
from automl_sr_plugins.reference.published import Asked

RGB_X2 = Asked(channels=3, scale=2)


def test_every_name_of_the_authors_has_one_of_ours() -> None:
    net = imdn(channels=3, scale=2, width=32, blocks=3, skip="none")
    theirs = {}
    for name, tensor in net.state_dict().items():
        renamed = name.replace("lr_conv", "LR_conv")
        for place in range(3):
            renamed = renamed.replace(f"blocks.{place}.", f"IMDB{place + 1}.")
        theirs[f"module.{renamed}"] = tensor
    assert {"module.IMDB1.c1.weight", "module.IMDB3.cca.conv_du.2.bias"} <= theirs.keys()
    assert {"module.LR_conv.weight", "module.c.0.bias"} <= theirs.keys()
    found = published.imdn(theirs, RGB_X2)
    assert found is not None
    fields, ours = found
    assert fields == {"width": 32, "blocks": 3, "skip": "none"}
    assert ours.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(ours[name], tensor), name


def test_a_file_of_another_net_is_none_of_imdn() -> None:
    assert published.imdn({"conv_first.weight": torch.zeros(1)}, RGB_X2) is None


def test_contrast_is_the_standard_deviation_and_the_mean_of_each_channel() -> None:
    attention = ContrastAttention(16)
    features = torch.rand(2, 16, 9, 7, generator=torch.Generator().manual_seed(0))
    contrast = features.std(dim=(2, 3), unbiased=False, keepdim=True)
    contrast = contrast + features.mean(dim=(2, 3), keepdim=True)
    expected = features * attention.conv_du(contrast)
    torch.testing.assert_close(attention(features), expected, rtol=1e-5, atol=1e-6)


def test_flat_patches_have_finite_gradients() -> None:
    attention = ContrastAttention(16)
    flat = torch.full((2, 16, 8, 8), 0.5, requires_grad=True)
    attention(flat).sum().backward()
    assert torch.isfinite(flat.grad).all()
    assert flat.grad.abs().max() > 0
