"""`LesionLibrary`: real lesion masks without images, bit-packed in memory, chosen by volume.

A scene keeps (set, index) only; the order is that of the sorted file names, so that the same folder gives the same mask
again. Reading the folder takes a minute or two, hence a prepared file beside it in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InputError
from strokeseg_training.generator.template import cache_folder

FORMAT = 1
MARGIN = 2
"""Empty voxels kept around each mask, so that it can be blurred in its box."""

SMALLEST_ML, LARGEST_ML = 0.01, 570.0
"""Masks outside are never chosen: single voxels, and masks that cover half a brain (README of the masks)."""


@dataclass(frozen=True, eq=False)
class LibraryMask:
    """One real lesion in its own box.

    Args:
        voxels: (x, y, z) float32, 0 or 1, with an empty margin.
        affine: 4x4, voxel index of the box to template mm (RAS).
        volume_ml: Volume in the template.
        centre_mm: Middle of its bounding box, template mm.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    volume_ml: float
    centre_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class MaskSet:
    """The masks of one folder.

    Args:
        names: File names, sorted; a mask's index is its place here.
        volumes_ml: (n,) float64.
        affines: (n, 4, 4) float64, voxel index of the mask's box to template mm.
        shapes: (n, 3) int64, the boxes' voxels.
        starts: (n + 1,) int64, the first byte of each mask in `bits`.
        bits: All boxes, bit-packed one after the other.
    """

    names: tuple[str, ...]
    volumes_ml: NDArray[np.float64]
    affines: NDArray[np.float64]
    shapes: NDArray[np.int64]
    starts: NDArray[np.int64]
    bits: NDArray[np.uint8]


class LesionLibrary:
    """Sets of real lesion masks, "soop" (acute) and "lesymap" (chronic) for instance.

    Args:
        sets: Name of the sub-folder to its masks.
    """

    def __init__(self, sets: Mapping[str, MaskSet]) -> None:
        self._sets = dict(sets)

    @classmethod
    def open(cls, path: str | Path) -> LesionLibrary:
        """The masks of a folder with one sub-folder a set, or of a file written by `save`.

        A folder is read once; later calls take the prepared file in the user's cache, as long as no mask changed.

        Args:
            path: Folder of folders of `*.nii.gz` or `*.nii`, or the prepared file.

        Raises:
            InputError: Nothing there, no mask in it, or a mask that is no 3D volume.
        """
        path = Path(path)
        if path.is_file():
            return cls(_load(path))
        files = {
            f.name: sorted([*f.glob("*.nii.gz"), *f.glob("*.nii")])
            for f in (sorted(path.iterdir()) if path.is_dir() else ())
            if f.is_dir()
        }
        files = {name: found for name, found in files.items() if found}
        if not files:
            raise InputError(
                "There are no lesion masks.",
                f"{path} is no folder with sub-folders of NIfTI masks.",
                "Name the folder that holds soop/ and lesymap/, or leave the masks out: lesions are then drawn.",
            )
        cached = cache_folder() / f"lesion-masks-{_key(files)}.npz"
        if cached.is_file():
            return cls(_load(cached))
        library = cls({name: _read_set(found) for name, found in files.items()})
        library.save(cached)
        return library

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets, sorted."""
        return tuple(sorted(self._sets))

    def volumes_ml(self, name: str) -> NDArray[np.float64]:
        """(n,) volumes of a set's masks in ml, in index order."""
        return self._set(name).volumes_ml

    def draw(self, rng: np.random.Generator, name: str, small_bias: float) -> int:
        """An index, a mask of V ml with weight (V + 0.1)^-small_bias: 0 keeps the patients' own frequencies."""
        volumes = self.volumes_ml(name)
        return self._draw(rng, volumes, (volumes + 0.1) ** -small_bias)

    def draw_near(self, rng: np.random.Generator, name: str, volume_ml: float) -> int:
        """The index of a mask of about `volume_ml`: weight falls with the distance of the logarithms."""
        volumes = self.volumes_ml(name)
        # The far tail keeps every weight above 0 where no mask is near.
        far = np.log(np.maximum(volumes, 1e-3) / volume_ml) / 0.35
        return self._draw(rng, volumes, np.exp(-0.5 * far**2) + 1e-6 / (1.0 + far**2))

    def mask(self, name: str, index: int) -> LibraryMask:
        """One mask, unpacked.

        Raises:
            InputError: No such set or index: the scene was drawn with other masks.
        """
        masks = self._set(name)
        if not 0 <= index < len(masks.names):
            raise InputError(
                "The scene's lesion mask is missing.",
                f"It is number {index} of '{name}', which holds {len(masks.names)}.",
                "Give the folder of masks that the scene was drawn with.",
            )
        shape = tuple(int(n) for n in masks.shapes[index])
        bits = masks.bits[masks.starts[index] : masks.starts[index + 1]]
        voxels = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(np.float32)
        affine = masks.affines[index]
        middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
        centre = (float(middle[0]), float(middle[1]), float(middle[2]))
        return LibraryMask(voxels, affine, float(masks.volumes_ml[index]), centre)

    def save(self, path: str | Path) -> None:
        """All sets as one file, which appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[np.generic]] = {"format": np.array(FORMAT), "sets": np.array(self.sets)}
        for name, masks in self._sets.items():
            arrays[f"{name}/names"] = np.array(masks.names)
            for part in ("volumes_ml", "affines", "shapes", "starts", "bits"):
                arrays[f"{name}/{part}"] = getattr(masks, part)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _set(self, name: str) -> MaskSet:
        if name not in self._sets:
            raise InputError(
                "A set of lesion masks is missing.",
                f"'{name}' was asked for; the folder holds {', '.join(self.sets)}.",
                "Give the folder of masks that the recipe or scene was made with.",
            )
        return self._sets[name]

    @staticmethod
    def _draw(rng: np.random.Generator, volumes: NDArray[np.float64], weight: NDArray[np.float64]) -> int:
        weight = np.where((volumes >= SMALLEST_ML) & (volumes <= LARGEST_ML), weight, 0.0)
        return int(rng.choice(len(weight), p=weight / weight.sum()))


def _read_set(files: list[Path]) -> MaskSet:
    volumes, affines, shapes, packed = [], [], [], []
    for file in files:
        image = nib.load(file)
        voxels = np.asarray(image.dataobj) > 0
        if voxels.ndim != 3:
            raise InputError(
                "A lesion mask has the wrong number of axes.",
                f"{file} has {voxels.ndim} axes; a mask has three.",
                "Take it out of the folder, or split it.",
            )
        box, corner = _box(voxels)
        affine = np.array(image.affine, dtype=np.float64)
        volumes.append(voxels.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000.0)
        affine[:3, 3] += affine[:3, :3] @ corner
        affines.append(affine)
        shapes.append(box.shape)
        packed.append(np.packbits(box))
    starts = np.cumsum([0, *(len(bits) for bits in packed)])
    return MaskSet(
        tuple(file.name for file in files),
        np.array(volumes),
        np.stack(affines),
        np.array(shapes, dtype=np.int64),
        starts.astype(np.int64),
        np.concatenate(packed),
    )


def _box(voxels: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The mask's bounding box with its margin, and the box's first index in the whole, which may be negative."""
    ranges = []
    for axis in range(3):
        hit = np.flatnonzero(voxels.any(axis=tuple(a for a in range(3) if a != axis)))
        ranges.append((int(hit[0]), int(hit[-1]) + 1) if hit.size else (0, 1))
    inner = voxels[tuple(slice(low, high) for low, high in ranges)]
    return np.pad(inner, MARGIN), np.array([low - MARGIN for low, _ in ranges], dtype=np.float64)


def _key(files: Mapping[str, list[Path]]) -> str:
    told = [(FORMAT, MARGIN)]
    lines = [
        f"{name}/{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for name, found in files.items() for f in found
    ]
    return hashlib.sha256(repr((told, lines)).encode()).hexdigest()[:16]


def _load(path: Path) -> dict[str, MaskSet]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            if int(stored["format"]) != FORMAT:
                raise InputError(
                    "The prepared file of lesion masks is of another version.",
                    f"{path} has format {int(stored['format'])}; this program reads {FORMAT}.",
                    "Write it again from the folder of masks.",
                )
            return {str(name): _stored_set(stored, str(name)) for name in stored["sets"]}
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(
            "The prepared file of lesion masks cannot be read.",
            f"{path}: {error}.",
            "Delete it; it is written again from the folder of masks.",
        ) from error


def _stored_set(stored: Mapping[str, NDArray[np.generic]], name: str) -> MaskSet:
    return MaskSet(
        tuple(str(n) for n in stored[f"{name}/names"]),
        np.asarray(stored[f"{name}/volumes_ml"], dtype=np.float64),
        np.asarray(stored[f"{name}/affines"], dtype=np.float64),
        np.asarray(stored[f"{name}/shapes"], dtype=np.int64),
        np.asarray(stored[f"{name}/starts"], dtype=np.int64),
        np.asarray(stored[f"{name}/bits"], dtype=np.uint8),
    )
