"""Named sets of images.

They are folders under AUTOML_SR_DATA, any folder by its path, and photographs that come along.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from automl_sr.data.images import find_images
from automl_sr.errors import DataError, nearest

VARIABLE = "AUTOML_SR_DATA"
DEFAULT_FOLDER = Path("data")

# Photographs that scikit-image ships. motorcycle_right.png shows the scene of motorcycle_left.png
# once more, and microscope images, renderings and scans are no natural photographs.
PHOTOS_TRAIN = (
    "astronaut.png", "brick.png", "camera.png", "coins.png", "grass.png", "gravel.png",
    "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip
PHOTOS_VALID = ("chelsea.png", "coffee.png")
PHOTOS = {
    "photos-train": PHOTOS_TRAIN,
    "photos-valid": PHOTOS_VALID,
    "photos": tuple(sorted(PHOTOS_TRAIN + PHOTOS_VALID)),
}

_HR_FOLDER = re.compile(r"(HR|GT|GTmod\d+|original)", re.IGNORECASE)
_LR_FOLDER = re.compile(r"(?:LRbicx|LR_?bicubic[/_]?x)(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class ImageSet:
    """The files of a set."""

    name: str
    hr: tuple[Path, ...]
    """In natural order."""
    lr: dict[int, tuple[Path, ...]] = field(default_factory=dict)
    """By scale, the LR files that came along, in the same order; complete ones only."""

    @classmethod
    def from_folder(cls, folder: str | Path, name: str = "") -> ImageSet:
        """Return the set of a folder with `HR` beside `LRbicx2`, or of a plain folder of images.

        `GTmod12` is as good as `HR`, and `LR_bicubic/X2` as `LRbicx2`. Raises DataError where
        there is no folder or no image in it.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}.", "Check the path.")
        hr = tuple(_hr_images(folder))
        if not hr:
            raise DataError(
                f"{folder} holds no images.",
                "Put images into it or into its subfolder HR (png, jpg, bmp, webp or tif).",
            )
        return cls(
            name or folder.resolve().name,
            hr,
            _lr_images(folder, hr),
        )


@dataclass(frozen=True)
class Catalog:
    """The sets that can be named.

    They are the subfolders of `folders` (the first one wins) and the photographs of scikit-image.
    """

    folders: tuple[Path, ...] = ()

    @classmethod
    def from_environment(cls) -> Catalog:
        """Return the folders of AUTOML_SR_DATA (a path list); `./data` where it is not set."""
        listed: list[Path] = []
        for part in os.environ.get(VARIABLE, "").split(os.pathsep):
            if part.strip():
                listed.append(Path(part).expanduser())
        if not listed:
            listed.append(DEFAULT_FOLDER)
        return cls(tuple(listed))

    def names(self) -> list[str]:
        """Return the names of all sets with at least one image, sorted.

        Nested sets are not listed; `find` takes `Vid4/city`.
        """
        found: set[str] = set()
        if _photo_folder() is not None:
            found.update(PHOTOS)
        for folder in self.folders:
            if not folder.is_dir():
                continue
            for child in folder.iterdir():
                if child.is_dir() and _hr_images(child):
                    found.add(child.name)
        return sorted(found, key=str.casefold)

    def find(self, name_or_path: str | Path) -> ImageSet:
        """Return the set of that name, else the images of that folder.

        Raises DataError that names the nearest set and says how AUTOML_SR_DATA is set.
        """
        name = str(name_or_path)
        # A folder joined with an absolute path is that path: it would be found under any of them.
        if not Path(name).is_absolute():
            for folder in self.folders:
                inside = folder / name
                if inside.is_dir() and _hr_images(inside):
                    return ImageSet.from_folder(inside, name)
        if name in PHOTOS:
            return _photos(name)
        if Path(name).is_dir():
            return ImageSet.from_folder(name)
        hint = f"{nearest(name, self.names())} {self._where()}".strip()
        raise DataError(f"There is no image set or folder {name!r}.", hint)

    def _where(self) -> str:
        folders = os.pathsep.join(str(folder) for folder in self.folders) or "nowhere"
        return (
            f"Sets are looked for in {folders}; set {VARIABLE} to the folder (or folders, separated"
            f" by {os.pathsep!r}) that holds them, or give the path of a folder of images."
        )


def _hr_images(folder: Path) -> list[Path]:
    """Return the HR images of a set's folder.

    They are those of its HR subfolder where it has one (the first by name), else its own.
    """
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or not _HR_FOLDER.fullmatch(child.name):
            continue
        inside = find_images(child)
        # An empty `GT` beside a full `HR` does not count.
        if inside:
            return inside
    return find_images(folder)


def _lr_images(folder: Path, hr: Sequence[Path]) -> dict[int, tuple[Path, ...]]:
    """Return by scale the LR file of every HR file (`babyx2.png` or `baby.png`).

    A scale with one missing is left out.
    """
    by_scale: dict[int, tuple[Path, ...]] = {}
    for child in _two_levels(folder):
        match = _LR_FOLDER.fullmatch(child.relative_to(folder).as_posix())
        if match is None:
            continue
        scale = int(match[1])
        found = _of_scale(child, hr, scale)
        if len(found) == len(hr):
            # The first complete one: `LRbicx2` wins over `LR_bicubic/X2`.
            by_scale.setdefault(scale, tuple(found))
    return dict(sorted(by_scale.items()))


def _two_levels(folder: Path) -> list[Path]:
    """Return the folders in a folder, then those in them, each level by name."""
    children = _folders_in(folder)
    nested: list[Path] = []
    for child in children:
        nested += _folders_in(child)
    return [*children, *nested]


def _folders_in(folder: Path) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if child.is_dir()]


def _of_scale(
    folder: Path,
    hr: Sequence[Path],
    scale: int,
) -> list[Path]:
    """Return the LR files of HR files, as far as they are there."""
    by_stem: dict[str, Path] = {}
    for path in find_images(folder):
        by_stem[path.stem] = path
    found: list[Path] = []
    for path in hr:
        low = by_stem.get(f"{path.stem}x{scale}", by_stem.get(path.stem))
        if low is not None:
            found.append(low)
    return found


def _photo_folder() -> Path | None:
    """Return where scikit-image keeps its pictures."""
    # Without importing it, which takes half a second.
    spec = importlib.util.find_spec("skimage")
    if spec is None:
        return None
    for location in spec.submodule_search_locations or []:
        folder = Path(location) / "data"
        if all((folder / name).is_file() for name in PHOTOS["photos"]):
            return folder
    return None


def _photos(name: str) -> ImageSet:
    folder = _photo_folder()
    if folder is None:
        raise DataError(
            f"{name} needs the photographs of scikit-image, which were not found.",
            "pip install scikit-image",
        )
    files = [folder / file for file in PHOTOS[name]]
    return ImageSet(name, tuple(files))
