"""A SIMULATED brain small enough for hundreds of runs: DWI, b = 0, ADC and T1 that obey the physics of diffusion.

Nothing here is a scan. The brain is an ellipsoid with cortex, ventricles and one infarct. Every file that is written
carries a patient's name in its header, so that a test can see whether it ever comes out again.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SHAPE = (40, 48, 34)
SPACING_MM = 4.0
B_VALUE = 1000.0
PATIENT = "Quintessa^Zzyzx"
"""Stands in every header that has room for text; must never come out."""
LESION_CENTRE_MM = (32.0, -8.0, 24.0)
LESION_RADIUS_MM = 15.0

# ADC in 1e-3 mm²/s (Helenius et al., AJNR 2002; infarct about half) and b = 0 signal relative to white matter.
_ADC = {"white": 0.72, "gray": 0.86, "fluid": 2.9, "infarct": 0.42}
_B0 = {"white": 1.0, "gray": 1.25, "fluid": 2.6, "infarct": 1.25}
_T1 = {"white": 1.0, "gray": 0.68, "fluid": 0.28, "infarct": 0.85}


@dataclass(frozen=True, eq=False)
class Brain:
    """The images (x, y, z) of the simulated patient, all on one grid.

    Attributes:
        dwi: float32, arbitrary unit, b = 1000 s/mm².
        b0: float32, same unit.
        adc: float32, 1e-3 mm²/s.
        t1: float32, arbitrary unit.
        brain: bool.
        lesion: bool.
        affine: 4x4, voxel index to RAS mm.
    """

    dwi: Array
    b0: Array
    adc: Array
    t1: Array
    brain: Array
    lesion: Array
    affine: Array


def small_brain() -> Brain:
    """The patient; always the same."""
    rng = np.random.default_rng(20)
    affine = np.diag([-SPACING_MM, SPACING_MM, SPACING_MM, 1.0])  # stored left to right, as scanners do
    affine[:3, 3] = np.array([78.0, -94.0, -56.0])
    index = np.indices(SHAPE).reshape(3, -1).T
    x, y, z = (index @ affine[:3, :3].T + affine[:3, 3]).T.reshape(3, *SHAPE)

    def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Array:
        return np.sqrt(sum(((v - c) / r) ** 2 for v, c, r in zip((x, y, z), centre, radii, strict=True)))

    shape = ball((0, 0, 10), (66, 82, 58))
    brain = shape < 1
    tissue = np.full(SHAPE, "white", dtype="U7")
    folds = np.sin(x / 5.0 + np.sin(y / 9.0)) * np.sin(y / 5.5 + np.sin(z / 8.0)) * np.sin(z / 5.0)
    tissue[shape > 0.82] = "gray"
    tissue[(shape > 0.86) & (folds > 0.35)] = "fluid"
    tissue[np.minimum(ball((11, 0, 18), (7, 34, 11)), ball((-11, 0, 18), (7, 34, 11))) < 1] = "fluid"
    lesion = ball(LESION_CENTRE_MM, (LESION_RADIUS_MM,) * 3) < 1
    tissue[lesion] = "infarct"

    def painted(level: dict[str, float], spread: float) -> Array:
        image = np.zeros(SHAPE)
        for name, value in level.items():
            image[tissue == name] = value
        return image * (1 + spread * rng.standard_normal(SHAPE))

    adc, b0, t1 = painted(_ADC, 0.03), painted(_B0, 0.03), painted(_T1, 0.03)
    clean = b0 * np.exp(-B_VALUE * adc / 1000.0)
    noise = 0.01 * rng.standard_normal((2, *SHAPE))
    dwi = np.hypot(clean + noise[0], noise[1])
    images = {"dwi": 800 * dwi, "b0": 800 * b0, "adc": adc, "t1": 600 * t1}
    masked = {name: np.where(brain, image, 0).astype(np.float32) for name, image in images.items()}
    return Brain(**masked, brain=brain, lesion=lesion & brain, affine=affine)


def nifti_bytes(
    array: Array,
    affine: Array,
    *,
    edit: Callable[[Any], None] | None = None,
    kind: Any = nib.Nifti1Image,
    dtype: Any = None,
) -> bytes:
    """An uncompressed NIfTI file with the patient's name wherever its header has room for text.

    Args:
        array: Voxels.
        affine: 4x4.
        edit: Changes the header just before it is written, unchecked.
        kind: Image class of nibabel.
        dtype: Type of the voxels in the file; None: that of the array.
    """
    image = kind(array, affine, dtype=array.dtype if dtype is None else dtype)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    header = image.header
    header["descrip"], header["aux_file"], header["intent_name"] = f"{PATIENT} 1911", PATIENT, PATIENT
    if kind is nib.Nifti1Image:
        header["db_name"] = PATIENT
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"name: {PATIENT}".encode()))
    content = bytearray(image.to_bytes())
    if edit is not None:
        length = kind.header_class.sizeof_hdr
        changed = kind.header_class(bytes(content[:length]), check=False)
        edit(changed)
        content[:length] = changed.binaryblock
    return bytes(content)


def save_nifti(path: Path, array: Array, affine: Array, **how: Any) -> Path:
    """Write a NIfTI file, gzipped when its name says so; `how` as for `nifti_bytes`."""
    content = nifti_bytes(array, affine, **how)
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.name.endswith(".gz") else content)
    return path
