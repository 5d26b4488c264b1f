"""Pairs are decoded once, fit together pixel by pixel, and every window of them has one place in
the fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from folders import shipped_sets
from hypothesis import given
from hypothesis import strategies as st
from sample_sets import made, picture
from torch import Tensor

from automl_sr.data import images
from automl_sr.data.catalog import ImageSet
from automl_sr.data.images import Picture
from automl_sr.errors import DataError
from automl_sr.tasks.image_sr import samples
from automl_sr.tasks.image_sr.pixel_store import PixelStore
from automl_sr.tasks.image_sr.resize import crop_to_multiple, downscale
from automl_sr.tasks.image_sr.samples import SRSamples, load_pairs, load_samples


def folder_of(path: Path, **pictures: np.ndarray) -> ImageSet:
    path.mkdir(exist_ok=True)
    for name, pixels in pictures.items():
        images.write(path / f"{name}.png", Picture(pixels))
    return ImageSet.from_folder(path)


# The store

sizes = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5)


@given(sizes)
def test_every_image_comes_back_from_the_flat_tensor(sizes: list[tuple[int, int]]) -> None:
    given_images = [
        torch.from_numpy(picture(h, w, i)).permute(2, 0, 1) for i, (h, w) in enumerate(sizes)
    ]
    store = PixelStore.from_images(given_images)
    assert store.flat.shape == (3, sum(h * w for h, w in sizes))
    assert len(store) == len(sizes)
    for index, image in enumerate(given_images):
        assert torch.equal(store.image(index), image)


def test_the_digest_depends_on_pixels_and_sizes_and_on_nothing_else() -> None:
    a = torch.arange(24, dtype=torch.uint8).view(3, 2, 4)
    store = PixelStore.from_images([a, a])
    assert PixelStore.from_images([a.clone(), a]).digest == store.digest
    assert store.sealed([1, 0]).digest == store.digest
    assert PixelStore.from_images([a.view(3, 4, 2), a]).digest != store.digest
    assert PixelStore.from_images([a, a + 1]).digest != store.digest
    assert store.sealed([0]).digest == PixelStore.from_images([a]).digest


def test_a_store_larger_than_its_share_of_memory_is_a_nameless_mapped_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    image = torch.from_numpy(picture(20, 30)).permute(2, 0, 1)
    mapped = PixelStore.from_images([image], cache_share=0.0)
    mappings = [region.path for region in psutil.Process().memory_maps(grouped=False)]
    assert any(str(tmp_path) in path for path in mappings)
    assert list(tmp_path.iterdir()) == []
    in_memory = PixelStore.from_images([image])
    assert torch.equal(mapped.flat, in_memory.flat)
    assert mapped.digest == in_memory.digest


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_memory_is_between_0_and_1(share: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        PixelStore.empty([(2, 2)], share)


def test_a_disk_that_is_too_small_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object, **__: object) -> Tensor:
        raise RuntimeError("unable to mmap")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch, "from_file", no_space)
    with pytest.raises(DataError, match="TMPDIR"):
        PixelStore.empty([(8, 8)], 0.0)
    assert list(tmp_path.iterdir()) == []


def test_moving_to_the_same_device_is_free_and_to_another_keeps_the_digest() -> None:
    data = made([(4, 5)])
    assert data.hr.to("cpu") is data.hr
    assert data.to("cpu").fingerprint == data.fingerprint
    assert data.hr.to("meta").digest == data.hr.digest


# Windows


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_sub_images_cover_the_image_and_stay_inside(
    height: int, width: int, size: int, step: int
) -> None:
    step = min(step, size)
    cut = made([(height, width)]).sub_images(2 * size, 2 * step)
    covered = np.zeros((height, width), bool)
    for _, top, left, h, w in cut.windows.tolist():
        assert (h, w) == (min(size, height), min(size, width))
        covered[top : top + h, left : left + w] = True
    assert covered.all()
    assert len({tuple(row) for row in cut.windows.tolist()}) == len(cut)


def test_sub_images_follow_the_div2k_convention() -> None:
    # 2040 x 1356 at 480/240: columns 0, 240, ..., 1440 and 1560 flush; rows 0, 240, 480, 720 and
    # 876 flush
    data = made([(1356 // 2, 2040 // 2)])
    windows = data.sub_images(480, 240).windows
    assert len(windows) == 5 * 8
    assert sorted(set((2 * windows[:, 1]).tolist())) == [0, 240, 480, 720, 876]
    assert sorted(set((2 * windows[:, 2]).tolist())) == [*range(0, 1441, 240), 1560]


def test_sub_images_that_do_not_fit_the_scale_are_refused() -> None:
    with pytest.raises(DataError, match="scale 2"):
        made([(8, 8)]).sub_images(5, 2)


def test_a_subset_keeps_order_and_pixels_and_gets_its_own_fingerprint() -> None:
    data = made([(4, 4), (5, 6), (4, 4)])
    part = data.subset([2, 0])
    assert part.windows[:, 0].tolist() == [2, 0]
    assert part.hr.flat.data_ptr() == data.hr.flat.data_ptr()
    assert len({data.fingerprint, part.fingerprint, data.subset([0, 2]).fingerprint}) == 3
    assert data.subset(range(3)).fingerprint == data.fingerprint
    with pytest.raises(DataError, match="no sample"):
        data.subset([])


def test_the_fingerprint_knows_the_scale() -> None:
    lr = PixelStore.from_images([torch.zeros(3, 2, 2, dtype=torch.uint8)])
    hr = [PixelStore.from_images([torch.zeros(3, 2 * s, 2 * s, dtype=torch.uint8)]) for s in (2, 3)]
    prints = {
        SRSamples.whole(side, lr, s, ["a"]).fingerprint for s, side in zip((2, 3), hr, strict=True)
    }
    assert len(prints) == 2


def test_windows_outside_an_image_and_sides_that_do_not_fit_are_refused() -> None:
    data = made([(4, 4)])
    for row in ([0, 1, 0, 4, 4], [1, 0, 0, 2, 2], [0, 0, -1, 2, 2], [0, 0, 0, 0, 2]):
        with pytest.raises(DataError, match="leaves its image"):
            SRSamples(data.hr, data.lr, 2, torch.tensor([row]), data.names)
    with pytest.raises(DataError, match="3 times"):
        SRSamples.whole(data.hr, data.lr, 3, ["a"])


@given(sizes, st.integers(1, 3), st.randoms(use_true_random=False))
def test_crops_give_every_wanted_window_once_with_equal_sizes_together(
    sizes: list[tuple[int, int]], chunk: int, random: object
) -> None:
    data = made(sizes).sub_images(4, 2)
    wanted = [i for i in range(len(data)) if i % 2 == 0] or [0]
    random.shuffle(wanted)  # type: ignore[attr-defined]
    seen: list[int] = []
    for indices, lr, hr in data.crops(wanted, chunk):
        assert 1 <= len(indices) <= chunk
        for index, low, high in zip(indices.tolist(), lr, hr, strict=True):
            image, top, left, h, w = data.windows[index].tolist()
            assert torch.equal(low, data.lr.image(image)[:, top : top + h, left : left + w])
            assert torch.equal(high, low.repeat_interleave(2, 1).repeat_interleave(2, 2))
        seen += indices.tolist()
    assert sorted(seen) == sorted(wanted)


# Loading


def test_lr_is_made_from_the_whole_image_cut_to_a_multiple(tmp_path: Path) -> None:
    a, b = picture(9, 11), picture(8, 8, 1)
    data = load_samples(folder_of(tmp_path, a=a, b=b), 2)
    assert data.names == ("a", "b")
    assert data.windows.tolist() == [[0, 0, 0, 4, 5], [1, 0, 0, 4, 4]]
    hr = crop_to_multiple(a, 2)
    np.testing.assert_array_equal(data.hr.image(0).permute(1, 2, 0), hr)
    np.testing.assert_array_equal(data.lr.image(0).permute(1, 2, 0), downscale(hr, 2))


def test_shipped_lr_is_used_where_its_size_fits_and_made_where_not(tmp_path: Path) -> None:
    for side, name in (("HR", "{}"), ("LRbicx2", "{}x2")):
        (tmp_path / side).mkdir()
        for stem in ("a", "b"):
            size = 8 if side == "HR" else {"a": 4, "b": 3}[stem]
            images.write(
                tmp_path / side / f"{name.format(stem)}.png", Picture(picture(size, size, size))
            )
    data = load_samples(ImageSet.from_folder(tmp_path), 2)
    np.testing.assert_array_equal(data.lr.image(0).permute(1, 2, 0), picture(4, 4, 4))
    np.testing.assert_array_equal(data.lr.image(1).permute(1, 2, 0), downscale(picture(8, 8, 8), 2))


def test_another_degradation_takes_the_place_of_shipped_lr(tmp_path: Path) -> None:
    class Nearest:
        name = "nearest"

        def __call__(self, hr: np.ndarray, scale: int) -> np.ndarray:
            return hr[::scale, ::scale]

    hr = picture(8, 8)
    for side, name, pixels in (("HR", "a", hr), ("LRbicx2", "ax2", picture(4, 4, 1))):
        (tmp_path / side).mkdir()
        images.write(tmp_path / side / f"{name}.png", Picture(pixels))
    data = load_samples(ImageSet.from_folder(tmp_path), 2, Nearest())
    np.testing.assert_array_equal(data.lr.image(0).permute(1, 2, 0), hr[::2, ::2])


def test_grey_and_16_bit_images_become_rgb(tmp_path: Path) -> None:
    grey, deep = picture(6, 6, channels=1), picture(6, 6, 1).astype(np.uint16) * 257
    data = load_samples(folder_of(tmp_path, deep=deep, grey=grey), 2)
    np.testing.assert_array_equal(data.hr.image(0).permute(1, 2, 0), picture(6, 6, 1))
    np.testing.assert_array_equal(data.hr.image(1).permute(1, 2, 0), np.repeat(grey, 3, 2))


def test_files_that_cannot_be_used_are_named_and_left_out(tmp_path: Path) -> None:
    folder_of(
        tmp_path, a=picture(16, 16), cut=picture(16, 16, 1), tiny=picture(1, 8), z=picture(10, 8, 2)
    )
    cut = tmp_path / "cut.png"
    cut.write_bytes(cut.read_bytes()[:200])
    (tmp_path / "text.png").write_text("text")
    data = load_samples(ImageSet.from_folder(tmp_path), 2)
    assert data.names == ("a", "z")
    assert [path.name for path, _ in data.skipped] == ["cut.png", "text.png", "tiny.png"]
    assert all(path.name in reason for path, reason in data.skipped)
    np.testing.assert_array_equal(data.hr.image(1).permute(1, 2, 0), picture(10, 8, 2))
    clean = load_samples(ImageSet("clean", (tmp_path / "a.png", tmp_path / "z.png")), 2)
    assert clean.fingerprint == data.fingerprint
    with pytest.raises(DataError, match=r"cut\.png"):
        load_pairs(ImageSet("broken", (tmp_path / "a.png", cut)), 2)
    with pytest.raises(DataError, match=r"No image of broken.*cut\.png"):
        load_samples(ImageSet("broken", (cut,)), 2)


def test_every_file_is_decoded_once_and_the_number_of_threads_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_set = folder_of(tmp_path, **{f"p{i}": picture(8 + i, 9, i) for i in range(12)})
    decoded: list[Path] = []
    read = images.read
    monkeypatch.setattr(samples.images, "read", lambda path: (decoded.append(path), read(path))[1])
    prints = {load_samples(image_set, 2, workers=workers).fingerprint for workers in (1, 8)}
    assert len(prints) == 1
    assert sorted(decoded) == sorted(image_set.hr * 2)


class Kept:
    """Keeps results as a cache does, and remembers what was made."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, torch.Tensor]] = {}
        self.made: list[str] = []

    def __call__(
        self, name: str, parts: object, make: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        key = json.dumps([name, parts], sort_keys=True)
        if key not in self.kept:
            self.made.append(name)
            self.kept[key] = {part: tensor.clone() for part, tensor in make().items()}
        return self.kept[key]


def test_low_resolution_images_are_made_once_for_all_who_share(tmp_path: Path) -> None:
    image_set, shared = folder_of(tmp_path / "set", a=picture(9, 11), b=picture(8, 8, 1)), Kept()
    plain = load_samples(image_set, 2)
    first, second = (load_samples(image_set, 2, shared=shared) for _ in range(2))
    assert shared.made == ["degraded/bicubic"]
    assert plain.fingerprint == first.fingerprint == second.fingerprint
    pairs = load_pairs(image_set, 2, shared=shared)
    assert shared.made == ["degraded/bicubic"], "the same images, to evaluate on"
    for pair, index in zip(pairs, range(2), strict=True):
        np.testing.assert_array_equal(pair.lr, plain.lr.image(index).permute(1, 2, 0))


def test_other_images_and_another_scale_are_degraded_anew(tmp_path: Path) -> None:
    shared = Kept()
    load_samples(folder_of(tmp_path / "one", a=picture(12, 12)), 2, shared=shared)
    load_samples(folder_of(tmp_path / "other", a=picture(12, 12, 1)), 2, shared=shared)
    load_samples(folder_of(tmp_path / "one", a=picture(12, 12)), 3, shared=shared)
    assert len(shared.made) == 3


def test_pairs_for_evaluation_match_the_published_files() -> None:
    folder = shipped_sets() / "Set14"
    pairs = load_pairs(ImageSet.from_folder(folder), 4)
    assert len(pairs) == 14
    for pair in pairs:
        assert pair.hr.shape == (4 * pair.lr.shape[0], 4 * pair.lr.shape[1], 3)
        np.testing.assert_array_equal(
            pair.lr, images.to_rgb8(images.read(folder / "LRbicx4" / f"{pair.name}x4.png"))
        )
