"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) through SimpleITK."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  the name that its own documentation uses
from numpy.typing import NDArray

from strokeseg.volume.grid import Affine
from strokeseg.volume.placement import affine_from_lps, check_placement
from strokeseg.volume.source import ImageSource, Payload, check_promise, combined_hash, damaged, unusable
from strokeseg.volume.text_header import DataPart, read_metaimage_header, read_nrrd_header

# ITK prints its warnings to the terminal, where they would break the lines of a program that reads ours.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def open_itk(path: Path) -> ImageSource:
    """Read and check the header of a NRRD or MetaImage file; several components or a fourth axis are volumes.

    Raises:
        InputError: Damaged, without orientation, not three- or four-dimensional, or no grey-valued image.
    """
    name = path.name
    nrrd = path.suffix.lower() in {".nrrd", ".nhdr"}
    data = read_nrrd_header(path) if nrrd else read_metaimage_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise damaged(name, "Its header could not be read: a field is missing or has a wrong value.") from None
    size = tuple(int(s) for s in reader.GetSize())
    components = int(reader.GetNumberOfComponents())
    shape, volumes = _shape(name, size, components)
    data_bytes = math.prod(size) * components * _voxel_bytes(name, reader.GetPixelIDValue())
    check_promise(name, math.prod(size) * components, data_bytes, data.held_bytes, compressed=data.compressed)
    affine = _affine(reader)

    def payload() -> Payload:
        data.verify(name, data_bytes)
        voxels = _voxels(name, reader, components)
        return Payload(lambda index: voxels[..., index], combined_hash(data.hashes(path)))

    return ImageSource(
        name, shape, volumes, affine, payload, _b_values(data, volumes), check_placement(name, shape, affine)
    )


def _shape(name: str, size: tuple[int, ...], components: int) -> tuple[tuple[int, int, int], int]:
    if len(size) not in {3, 4} or (len(size) == 4 and components > 1):
        raise unusable(
            name,
            f"It has {len(size)} dimensions with {components} value(s) a voxel; a volume or several are needed.",
            "Save it as a three-dimensional image; a flat picture does not say where in the head it lies.",
        )
    return (size[0], size[1], size[2]), components * math.prod(size[3:])


def _voxel_bytes(name: str, pixel_id: int) -> int:
    kind = sitk.GetPixelIDValueAsString(pixel_id)
    bits = re.search(r"(\d+)-bit", kind)
    if kind.startswith("complex"):
        raise unusable(name, "Its voxels are complex numbers.", "Save the magnitude image and use that.")
    if bits is None:
        raise damaged(name, "The type of its voxels is unknown.")
    return int(bits.group(1)) // 8


def _affine(reader: Any) -> Affine:
    dimension = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:3, :3]
    return affine_from_lps(direction, reader.GetSpacing()[:3], reader.GetOrigin()[:3])


def _voxels(name: str, reader: Any, components: int) -> NDArray[Any]:
    """All voxels as (x, y, z, volume)."""
    try:
        array: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        raise damaged(name, "Its voxels could not be read completely.") from None
    # SimpleITK gives (z, y, x), (z, y, x, component) or (volume, z, y, x).
    if components > 1:
        return array.transpose(2, 1, 0, 3)
    return array.T if array.ndim == 4 else array.T[..., np.newaxis]


def _b_values(data: DataPart, volumes: int) -> tuple[float, ...] | None:
    """b-values of a diffusion NRRD; the squared length of a gradient scales the nominal one (NA-MIC convention)."""
    try:
        nominal = float(data.pairs["dwmri_b-value"])
        gradients = [np.array(data.pairs[f"dwmri_gradient_{i:04d}"].split(), dtype=np.float64) for i in range(volumes)]
    except (KeyError, ValueError):
        return None
    squares = np.array([float(g @ g) for g in gradients])
    if not (np.isfinite(squares).all() and squares.max(initial=0.0) > 0 and math.isfinite(nominal) and nominal > 0):
        return None
    return tuple(float(round(b)) for b in nominal * squares / squares.max())
