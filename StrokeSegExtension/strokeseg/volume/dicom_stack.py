"""How the slices of a DICOM series stand in space: sorted by place, split into volumes, refused when they make up none.

Works on positions and numbers only; reads no file. All directions and positions are in LPS mm, as in DICOM.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InputError
from strokeseg.volume.source import unusable

_SAME_PLACE_MM = 0.01
_CONVERT = (
    "Convert the series to NIfTI with a program that knows the scanner, for example dcm2niix, and give the result."
)
_EXPORT = "Export the whole series again from the archive."


@dataclass(frozen=True)
class Frame:
    """One slice.

    Args:
        path: The file that it lies in.
        index: Which of the file's frames it is.
        position: LPS mm of the centre of its first voxel.
        orientation: Unit vectors along a row and along a column, six numbers.
        order: What tells apart slices of one place: numbers of time point, acquisition and image.
        b_value: s/mm² where the header says it.
    """

    path: Path
    index: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    order: tuple[int, ...]
    b_value: float | None = None


@dataclass(frozen=True)
class Stacks:
    """The volumes of a series, all on one grid.

    Args:
        volumes: For each volume its slices in order of place.
        origin: LPS mm of the first voxel of the first slice.
        direction: 3x3, columns: along a row, along a column, from slice to slice (unit vectors, LPS).
        slice_spacing_mm: From slice to slice.
        b_values: One a volume where every slice says it.
    """

    volumes: tuple[tuple[Frame, ...], ...]
    origin: tuple[float, ...]
    direction: NDArray[np.float64]
    slice_spacing_mm: float
    b_values: tuple[float, ...] | None


def arrange(name: str, frames: list[Frame], thickness_mm: float | None) -> Stacks:
    """Sort the slices of a series into volumes.

    Args:
        name: The series' name for messages.
        frames: All slices.
        thickness_mm: Thickness of a slice, used when there is a single one.

    Raises:
        InputError: Slices are missing, doubled, tilted, unevenly spaced or of several orientations.
    """
    rows, normal = _axes(name, frames)
    known = all(f.b_value is not None for f in frames)
    groups: dict[float, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[frame.b_value if known and frame.b_value is not None else -1.0].append(frame)
    volumes: list[tuple[Frame, ...]] = []
    b_values: list[float] = []
    for b_value in sorted(groups):
        split = _volumes(name, groups[b_value], normal)
        volumes.extend(split)
        b_values.extend([b_value] * len(split))
    step = _step(name, volumes[0], normal, thickness_mm)
    for volume in volumes[1:]:
        _check_same_places(name, volumes[0], volume)
    length = float(np.linalg.norm(step))
    direction = np.column_stack([*rows, step / length])
    return Stacks(tuple(volumes), volumes[0][0].position, direction, length, tuple(b_values) if known else None)


def _axes(name: str, frames: list[Frame]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column direction (2, 3) and the normal of the slices."""
    orientations = np.array([f.orientation for f in frames])
    # Rounding of the numbers in the header stays below 1e-4; slices of a localizer stand at right angles.
    distinct = np.unique(np.round(orientations, 3), axis=0)
    if np.abs(orientations - orientations[0]).max() > 1e-3:
        raise unusable(
            name,
            f"Its {len(frames)} slices stand in {len(distinct)} different orientations, as those of a localizer do.",
            "Choose a series whose slices are parallel.",
        )
    rows = orientations[0].reshape(2, 3)
    lengths = np.linalg.norm(rows, axis=1)
    if not np.allclose(lengths, 1.0, atol=1e-2) or abs(float(rows[0] @ rows[1])) > 1e-2:
        raise unusable(
            name, "The directions of its rows and columns in the header are not perpendicular unit vectors.", _CONVERT
        )
    rows = rows / lengths[:, np.newaxis]
    normal = np.cross(rows[0], rows[1])
    return rows, normal / np.linalg.norm(normal)


def _volumes(name: str, frames: list[Frame], normal: NDArray[np.float64]) -> list[tuple[Frame, ...]]:
    """Split slices of one b-value: when every place occurs k times, there are k volumes, told apart by their order."""
    places: list[list[Frame]] = []
    previous = -np.inf
    for frame in sorted(frames, key=lambda f: float(normal @ f.position)):
        distance = float(normal @ frame.position)
        if distance - previous > _SAME_PLACE_MM:
            places.append([])
            previous = distance
        places[-1].append(frame)
    counts = sorted({len(place) for place in places})
    if len(counts) > 1:
        often = max(len(place) for place in places)
        odd = sum(len(place) == often for place in places)
        raise unusable(
            name,
            f"Its {len(frames)} slices lie at {len(places)} places, but not evenly: {odd} place(s) are there "
            f"{often} times, others {counts[0]} time(s). Slices are missing or doubled.",
            _EXPORT,
        )
    for place in places:
        place.sort(key=lambda f: (f.order, f.path.name, f.index))
    return [tuple(place[k] for place in places) for k in range(counts[0])]


def _step(
    name: str, volume: tuple[Frame, ...], normal: NDArray[np.float64], thickness_mm: float | None
) -> NDArray[np.float64]:
    """The vector from one slice to the next."""
    if len(volume) == 1:
        if thickness_mm is None or not thickness_mm > 0:
            raise unusable(
                name, "It has a single slice whose thickness the header does not say.", "Give the whole series."
            )
        return normal * thickness_mm
    positions = np.array([f.position for f in volume])
    distances = positions @ normal
    _check_gaps(name, np.diff(distances))
    whole = positions[-1] - positions[0]
    along = float(whole @ normal)
    aside = float(np.linalg.norm(whole - along * normal))
    # 0.05 mm is what rounded positions may make; a tilt of 0.1 degrees is seen from there on.
    if aside > 0.05 + 1.7e-3 * along:
        degrees = float(np.degrees(np.arctan2(aside, along)))
        raise unusable(
            name,
            f"Its slices are shifted against each other by {aside:.1f} mm in all: the scanner was tilted "
            f"by {degrees:.1f} degrees.",
            _CONVERT,
        )
    return whole / (len(volume) - 1)


def _check_gaps(name: str, gaps: NDArray[np.float64]) -> None:
    usual = float(np.median(gaps))
    # Positions rounded to 0.01 mm move a gap by up to 0.02 mm; a missing slice doubles it.
    if np.abs(gaps - usual).max() <= max(0.03, 0.01 * usual):
        return
    least = float(gaps.min())
    multiples = gaps / least
    if np.abs(multiples - np.round(multiples)).max() < 0.05:
        missing = int(np.round(multiples).sum()) - len(gaps)
        after = int(np.argmax(gaps)) + 1
        raise unusable(
            name,
            f"{missing} slice(s) are missing: after slice {after} comes a gap of {gaps.max():.2f} mm, "
            f"elsewhere it is {least:.2f} mm.",
            _EXPORT,
        )
    raise _uneven(name, gaps)


def _uneven(name: str, gaps: NDArray[np.float64]) -> InputError:
    return unusable(
        name, f"Its slices are not evenly spaced: from {gaps.min():.2f} to {gaps.max():.2f} mm apart.", _CONVERT
    )


def _check_same_places(name: str, first: tuple[Frame, ...], other: tuple[Frame, ...]) -> None:
    if len(first) != len(other):
        raise unusable(
            name,
            f"Its volumes have {len(first)} and {len(other)} slices. Slices are missing or doubled.",
            _EXPORT,
        )
    apart = np.linalg.norm(np.array([f.position for f in first]) - np.array([f.position for f in other]), axis=1)
    if apart.max() > 0.05:
        raise unusable(
            name, f"Its volumes lie up to {apart.max():.2f} mm apart.", "Give each of them as a series of its own."
        )
