"""Named sets of images: folders under AUTOML_SR_DATA, any folder by its path, and photographs that
come along.
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
    """HR files in natural order and, by scale, the shipped LR files in the same order (complete
    ones only).
    """

    name: str
    hr: tuple[Path, ...]
    lr: dict[int, tuple[Path, ...]] = field(default_factory=dict)

    @classmethod
    def from_folder(cls, folder: str | Path, name: str = "") -> ImageSet:
        """A set laid out as `HR` (or `GTmod12`) beside `LRbicx2` (or `LR_bicubic/X2`), or a plain
        folder of images.

        Raises DataError where there is no folder or no image in it.
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
        return cls(name or folder.resolve().name, hr, _lr_images(folder, hr))


@dataclass(frozen=True)
class Catalog:
    """The sets that can be named: subfolders of `folders` (the first one wins) and the photographs
    of scikit-image.
    """

    folders: tuple[Path, ...] = ()

    @classmethod
    def from_environment(cls) -> Catalog:
        """The folders of AUTOML_SR_DATA (a path list); `./data` where it is not set."""
        listed = []
        for part in os.environ.get(VARIABLE, "").split(os.pathsep):
            if part.strip():
                listed.append(Path(part).expanduser())
        return cls(tuple(listed) if listed else (DEFAULT_FOLDER,))

    def names(self) -> list[str]:
        """Names of all sets with at least one image, sorted; nested sets are not listed, `find`
        takes `Vid4/city`.
        """
        if _photo_folder() is not None:
            found = set(PHOTOS)
        else:
            found = set()
        for folder in self.folders:
            if folder.is_dir():
                found.update(
                    child.name for child in folder.iterdir() if child.is_dir() and _hr_images(child)
                )
        return sorted(found, key=str.casefold)

    def find(self, name_or_path: str | Path) -> ImageSet:
        """The set of that name, else the images of that folder.

        Raises DataError that names the nearest set and says how AUTOML_SR_DATA is set.
        """
        name = str(name_or_path)
        if not Path(name).is_absolute():
            for folder in self.folders:
                if (folder / name).is_dir() and _hr_images(folder / name):
                    return ImageSet.from_folder(folder / name, name)
        if name in PHOTOS:
            return _photos(name)
        if Path(name).is_dir():
            return ImageSet.from_folder(name)
        raise DataError(
            f"There is no image set or folder {name!r}.",
            f"{nearest(name, self.names())} {self._where()}".strip(),
        )

    def _where(self) -> str:
        folders = os.pathsep.join(str(folder) for folder in self.folders) or "nowhere"
        return (
            f"Sets are looked for in {folders}; set {VARIABLE} to the folder (or folders, separated"
            f" by {os.pathsep!r}) that holds them, or give the path of a folder of images."
        )


def _hr_images(folder: Path) -> list[Path]:
    """HR images of a set's folder: of its HR subfolder where it has one (the first by name), else
    its own.
    """
    for child in sorted(folder.iterdir()):
        if child.is_dir() and _HR_FOLDER.fullmatch(child.name):
            inside = find_images(child)
            if inside:
                return inside
    return find_images(folder)


def _lr_images(folder: Path, hr: Sequence[Path]) -> dict[int, tuple[Path, ...]]:
    """By scale, the LR file of every HR file (`babyx2.png` or `baby.png`); a scale with one missing
    is left out.
    """
    by_scale: dict[int, tuple[Path, ...]] = {}
    children = [child for child in sorted(folder.iterdir()) if child.is_dir()]
    nested = [inner for child in children for inner in sorted(child.iterdir()) if inner.is_dir()]
    for child in (*children, *nested):
        match = _LR_FOLDER.fullmatch(child.relative_to(folder).as_posix())
        if match is None:
            continue
        scale = int(match[1])
        by_stem = {}
        for path in find_images(child):
            by_stem[path.stem] = path
        found = []
        for path in hr:
            found.append(by_stem.get(f"{path.stem}x{scale}", by_stem.get(path.stem)))
        complete = tuple(path for path in found if path is not None)
        if len(complete) == len(hr):
            by_scale.setdefault(scale, complete)
    return dict(sorted(by_scale.items()))


def _photo_folder() -> Path | None:
    """Where scikit-image keeps its pictures; found without importing it (that takes half a
    second).
    """
    spec = importlib.util.find_spec("skimage")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
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
    return ImageSet(name, tuple(folder / file for file in PHOTOS[name]))
