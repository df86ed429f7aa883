"""A scanner's grid and the matrices to it and back: slices with gaps, in-plane matrix, blur, interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strokeseg_training.generator._rows import (
    Rows,
    linear_rows,
    matrix,
    scanner_positions,
    sinc_rows,
    slice_rows,
    spline_rows,
    tensors,
)


@dataclass(frozen=True)
class SlicingScene:
    """How a scanner samples the head.

    Args:
        slice_axis: Axis across the slices: 2 axial, 1 coronal, 0 sagittal.
        thickness_mm: Of a slice; with `volume` only the spacing across.
        gap: Between slices, share of the thickness.
        acquired_mm: In-plane resolution of the frequencies that are measured.
        stored_mm: In-plane voxel that is written: finer than `acquired_mm` by interpolation.
        offsets_mm: The scanner grid's middle from the working grid's, right, front and top.
        hamming: Window of the frequencies, see `sinc_rows`.
        blur_mm: Standard deviation along the phase axis: decay during the readout.
        volume: Encoded in three dimensions: no slices, frequencies along every axis.
    """

    slice_axis: int
    thickness_mm: float
    gap: float
    acquired_mm: float
    stored_mm: float
    offsets_mm: tuple[float, float, float]
    hamming: float
    blur_mm: float
    volume: bool

    @property
    def pitch_mm(self) -> float:
        """From one slice to the next."""
        return self.thickness_mm * (1.0 + self.gap)


@dataclass(frozen=True, eq=False)
class ScannerGrid:
    """Matrices of one scan along (x, y, z).

    Args:
        sample: Working grid to what the scanner measures.
        place: The same without blur or slice thickness: for masks.
        back: What the scanner measured to the working grid, by way of the written voxels.
    """

    sample: tuple[Tensor, Tensor, Tensor]
    place: tuple[Tensor, Tensor, Tensor]
    back: tuple[Tensor, Tensor, Tensor]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Samples along (x, y, z)."""
        x, y, z = (rows.shape[0] for rows in self.sample)
        return x, y, z


def scanner_grid(
    scene: SlicingScene,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    phase_axis: int,
    device: torch.device,
) -> ScannerGrid:
    """The matrices of one scan.

    Args:
        scene: The scan.
        shape: Working grid.
        spacing_mm: Working grid.
        phase_axis: Along which the readout's decay blurs.
        device: Where the matrices go.
    """
    sample, place, back = [], [], []
    for axis, (size, spacing) in enumerate(zip(shape, spacing_mm, strict=True)):
        offset = scene.offsets_mm[axis]
        across = axis == scene.slice_axis and not scene.volume
        in_plane = axis != scene.slice_axis
        pitch = scene.acquired_mm if in_plane else scene.pitch_mm
        at = scanner_positions(size, spacing, pitch, offset)
        if across:
            sample.append(slice_rows(size, at, scene.thickness_mm / spacing))
        else:
            blur = scene.blur_mm if axis == phase_axis else 0.0
            sample.append(sinc_rows(size, at, pitch / spacing, scene.hamming, blur / spacing))
        place.append(linear_rows(size, at))
        back.append(_back(size, spacing, len(at), pitch, scene.stored_mm if in_plane else pitch, offset))
    return ScannerGrid(*(tensors((m[0], m[1], m[2]), device) for m in (sample, place, back)))


def stretched_rows(
    scene: SlicingScene,
    size: int,
    spacing_mm: float,
    phase_axis: int,
    scale: float,
    shift_mm: float,
    device: torch.device,
) -> Tensor:
    """The phase axis' sampling matrix where eddy currents of the diffusion gradients stretch and shift the image.

    Args:
        scene: The scan; the phase axis is not its slice axis.
        size: Of the working axis.
        spacing_mm: Of the working axis.
        phase_axis: Which it is.
        scale: Stretch about the middle.
        shift_mm: Shift.
        device: Where the matrix goes.
    """
    at = scanner_positions(size, spacing_mm, scene.acquired_mm, scene.offsets_mm[phase_axis])
    middle = (size - 1) / 2.0
    return matrix(
        sinc_rows(
            size,
            (at - middle) * scale + middle + shift_mm / spacing_mm,
            scene.acquired_mm / spacing_mm,
            scene.hamming,
            scene.blur_mm / spacing_mm,
        ),
        device,
    )


def _back(size: int, spacing: float, count: int, pitch: float, stored: float, offset: float) -> Rows:
    """(size, count): interpolation to the written voxels where they are finer, then cubic splines as the engine's."""
    middle = (size - 1) / 2.0
    if stored >= pitch * 0.999:
        at = (np.arange(size, dtype=np.float64) - middle) * spacing
        return spline_rows(count, (at - offset) / pitch + (count - 1) / 2.0)
    written = scanner_positions(size, spacing, stored, offset)
    in_samples = (written - middle - offset / spacing) * spacing / pitch + (count - 1) / 2.0
    zero_filled = sinc_rows(count, in_samples, 1.0, 1.0, 0.0)
    at = ((np.arange(size, dtype=np.float64) - middle) * spacing - offset) / stored + (len(written) - 1) / 2.0
    return spline_rows(len(written), at) @ zero_filled


def label_rows(scene: SlicingScene, size: int, spacing_mm: float) -> tuple[Rows, Rows]:
    """How an expert's mask is seen through slices: what each slice stands for, and the linear way back.

    A slice's mask stands for the gap beside it, too, so that touching boxes of the slices' distance keep volumes.

    Returns:
        (slices, size) and (size, slices) along the slice axis.
    """
    at = scanner_positions(size, spacing_mm, scene.pitch_mm, scene.offsets_mm[scene.slice_axis])
    there = slice_rows(size, at, scene.pitch_mm / spacing_mm)
    middle = (size - 1) / 2.0
    offset = scene.offsets_mm[scene.slice_axis]
    positions = ((np.arange(size, dtype=np.float64) - middle) * spacing_mm - offset) / scene.pitch_mm + (
        len(at) - 1
    ) / 2.0
    return there, linear_rows(len(at), positions)
