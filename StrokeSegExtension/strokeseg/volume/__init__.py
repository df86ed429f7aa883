"""Volumes and grids: reading, writing and resampling of images with their place in the patient.

Imports `strokeseg.errors`, numpy, scipy; nibabel and SimpleITK only when a file of their kind is opened.
"""

from __future__ import annotations

from strokeseg.volume.grid import Affine, Grid, closest_axes
from strokeseg.volume.reading import available_b_values, read_volume
from strokeseg.volume.resampling import Interpolation, resample, resample_mask
from strokeseg.volume.volume import Volume
from strokeseg.volume.writing import write_nifti, write_volume

__all__ = [
    "Affine",
    "Grid",
    "Interpolation",
    "Volume",
    "available_b_values",
    "closest_axes",
    "read_volume",
    "resample",
    "resample_mask",
    "write_nifti",
    "write_volume",
]
