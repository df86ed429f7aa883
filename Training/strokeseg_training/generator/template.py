"""`load_template`: the MNI brain as maps that a patient is made from, derived once and kept in the user's cache folder.

The template is ICBM 2009a nonlinear symmetric as nilearn ships it (licence in NOTICE). Sharp maps lie at 1 mm, regions
at 2 mm; both are stored point by point, all maps of a point together, because that is how they are read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from strokeseg.errors import DependencyError
from strokeseg_training.generator.regions import soft_maps
from strokeseg_training.generator.surfaces import TemplateImages, sharp_maps

TEMPLATE_VERSION = "2"
"""Rises with every change of what is derived: an older cached file is then not read."""

MARGIN_MM = 16
COARSE = 2


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps on one lattice, read at any point.

    Args:
        values: (x, y, z, C) float16.
        names: The C maps.
        origin_mm: Template mm of voxel (0, 0, 0).
        spacing_mm: Voxel size; the lattice is parallel to the template's axes.
    """

    values: Tensor
    names: tuple[str, ...]
    origin_mm: tuple[float, float, float]
    spacing_mm: float

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4, voxel index to template mm."""
        matrix = np.diag([self.spacing_mm] * 3 + [1.0])
        matrix[:3, 3] = self.origin_mm
        return matrix

    def named(self, name: str) -> Tensor:
        """One map (x, y, z) float32."""
        return self.values[..., self.names.index(name)].float()

    def at(self, points_mm: Tensor) -> Tensor:
        """All maps at points, linear between voxels, the border's value beyond them.

        Args:
            points_mm: (3, P) template mm.

        Returns:
            (P, C) float32.
        """
        shape = self.values.shape[:3]
        strides = (shape[1] * shape[2], shape[2], 1)
        corner = torch.zeros(points_mm.shape[1], dtype=torch.int32, device=points_mm.device)
        parts = []
        for axis, size in enumerate(shape):
            place = ((points_mm[axis] - self.origin_mm[axis]) / self.spacing_mm).clamp_(0, size - 1.001)
            low = place.to(torch.int32)
            corner.add_(low, alpha=strides[axis])
            parts.append((low + 1 - place, place - low))
        x, y, z = parts
        # Corner by corner: products along the points are far faster than along axes of two.
        weights = torch.stack([(a * b * c).to(self.values.dtype) for a in x for b in y for c in z], 1)
        steps = [i * strides[0] + j * strides[1] + k for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        rows = corner[:, None] + torch.tensor(steps, dtype=torch.int32, device=corner.device)
        # Eight corners a point as one weighted sum of rows: far faster on a CPU than sampling map by map.
        table = self.values.flatten(0, 2)
        total = functional.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")
        return total.float()


@dataclass(frozen=True, eq=False)
class Template:
    """The average brain.

    Args:
        surfaces: Sharp maps at 1 mm, see surfaces.sharp_maps.
        regions: Soft maps at 2 mm, see regions.soft_maps, and `reach`, the depth below the dura once more.
        push: At 2 mm, the direction (x, y, z) in which growing ventricles push the tissue; at most of length 1.
    """

    surfaces: Maps
    regions: Maps
    push: Maps

    def to(self, device: torch.device) -> Template:
        """The same on another device."""
        parts = (self.surfaces, self.regions, self.push)
        moved = (Maps(m.values.to(device), m.names, m.origin_mm, m.spacing_mm) for m in parts)
        return Template(*moved)


def load_template(cache: Path | None = None) -> Template:
    """The template's maps; the first call derives them (about half a minute), later ones read the cache.

    Args:
        cache: Folder to keep them in; else `cache_folder`.

    Raises:
        DependencyError: nilearn, which brings the template, is not installed.
    """
    folder = cache or cache_folder()
    path = folder / f"template-{TEMPLATE_VERSION}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        # Several workers may derive at once: each writes its own file, the last one renames over the others' equal one.
        partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
        try:
            save_file(_derive(), partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return _unpack(load_file(path))


def cache_folder() -> Path:
    """Where what the generator derives once is kept: ``$STROKESEG_HOME/cache``, else the system's place for caches.

    Copied to another machine, it spares nilearn and the folder of lesion masks there.
    """
    home = os.environ.get("STROKESEG_HOME")
    return Path(home) / "cache" if home else platformdirs.user_cache_path("strokeseg", appauthor=False)


def _unpack(tensors: dict[str, Tensor]) -> Template:
    parts = []
    for part in ("surfaces", "regions", "push"):
        names = tuple(bytes(tensors[f"{part}.names"].tolist()).decode().split(","))
        x, y, z, spacing = tensors[f"{part}.place"].tolist()
        parts.append(Maps(tensors[f"{part}.values"], names, (x, y, z), spacing))
    return Template(*parts)


def _pack(part: str, maps: dict[str, NDArray[np.float32]], origin: list[float], spacing: float) -> dict[str, Tensor]:
    values = np.stack(list(maps.values()), -1).astype(np.float16)
    return {
        f"{part}.values": torch.from_numpy(values),
        f"{part}.names": torch.tensor(list(",".join(maps).encode()), dtype=torch.uint8),
        f"{part}.place": torch.tensor([*origin, spacing], dtype=torch.float64),
    }


def _derive() -> dict[str, Tensor]:
    images, origin = _read_images()
    sharp = sharp_maps(images)
    thick = [slice(COARSE // 2, None, COARSE)] * 3
    coarse = {name: ndimage.uniform_filter(m, COARSE + 1)[tuple(thick)] for name, m in sharp.items()}
    white = ndimage.uniform_filter(images.white, COARSE + 1)[tuple(thick)]
    x, y, z = (m.ravel()[COARSE // 2 :: COARSE] for m in images.mm)
    mm = (x[:, None, None], y[None, :, None], z[None, None, :])
    soft = soft_maps(mm, coarse, white)
    soft["reach"] = coarse["depth"]
    places = [o + COARSE // 2 for o in origin]
    return (
        _pack("surfaces", sharp, origin, 1.0)
        | _pack("regions", soft, places, float(COARSE))
        | _pack("push", _push(coarse["ventricle"], mm), places, float(COARSE))
    )


def _push(distance: NDArray[np.float32], mm: tuple[NDArray[np.float32], ...]) -> dict[str, NDArray[np.float32]]:
    """Direction away from the ventricles: nothing in their middle, most just outside their walls, fading over 2 cm.

    Smooth, so that tissue between two ventricles is not folded; third and fourth ventricle grow less than the lateral.
    """
    side, y, z = np.abs(mm[0]), mm[1], mm[2]
    fade = np.exp(-np.clip(distance - 3.0, 0, None) / 12.0)
    fade = fade * np.clip((z + 22) / 26, 0.12, 1) * (1 - 0.6 * np.exp(-((side / 7) ** 2)) * (z < 12) * (y < 8))
    slope = np.stack(np.gradient(ndimage.gaussian_filter(distance, 2.0), COARSE))
    field = [ndimage.gaussian_filter(component * fade, 2.0) for component in slope]
    largest = float(np.sqrt(sum(f**2 for f in field)).max())
    return {axis: f / largest for axis, f in zip("xyz", field, strict=True)}


def _read_images() -> tuple[TemplateImages, list[float]]:
    """The template's images around the brain and the mm of their first voxel."""
    try:
        # Imported here: nilearn takes seconds to load and only the first derivation needs it.
        from nilearn import datasets  # noqa: PLC0415
    except ImportError as error:
        raise DependencyError(
            "The brain template is not available.",
            f"It comes with the library nilearn, which could not be loaded: {error}.",
            "Install the training packages with 'pip install strokeseg[train]' and try again.",
        ) from error

    loaders = (
        datasets.load_mni152_template,
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
        datasets.load_mni152_brain_mask,
    )
    images = [load(resolution=1) for load in loaders]
    affine = images[0].affine
    arrays = [np.asarray(image.dataobj, dtype=np.float32) for image in images]
    box = ndimage.find_objects((arrays[3] > 0).astype(np.int8))[0]
    # The brain touches the lower end of the template's own grid.
    arrays = [np.pad(a, MARGIN_MM)[tuple(slice(s.start, s.stop + 2 * MARGIN_MM) for s in box)] for a in arrays]
    origin = [float(affine[k, 3] + s.start - MARGIN_MM) for k, s in enumerate(box)]
    x, y, z = (np.arange(n, dtype=np.float32) + np.float32(o) for n, o in zip(arrays[0].shape, origin, strict=True))
    mm = (x[:, None, None], y[None, :, None], z[None, None, :])
    t1, grey, white, brain = arrays
    return TemplateImages(t1, grey, white, brain > 0, mm), origin
