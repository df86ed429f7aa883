"""One patient on a grid whose axes run to the right, the front and the top, whatever it came from.

Real scans pass through the engine's own preparation, synthetic samples are taken as they are: from here on both are
measured by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.case import Case, CaseFiles, discover
from strokeseg.errors import InputError
from strokeseg.evaluation import read_reference, reference_on
from strokeseg.events import Monitor
from strokeseg.models import ModelStore
from strokeseg.models.card import Preparation
from strokeseg.prepare import prepare
from strokeseg.prepare.channels import ModelSpace
from strokeseg.symmetry import Midplane
from strokeseg.volume import Grid

if TYPE_CHECKING:
    from strokeseg_training.sample import Sample

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

# The grid of the model `dwi-adc`.
MODEL_GRID = Preparation(spacing_mm=(2.0, 2.0, 2.0), margin_voxels=4, multiple=16, channels=("brain",))


@dataclass(frozen=True, eq=False)
class Scan:
    """A patient on one grid.

    Args:
        name: Of the case.
        grid: Axes close to (R, A, S).
        images: Role to image (x, y, z); ADC in 1e-3 mm²/s.
        brain: Boolean (x, y, z).
        midplane: The brain's mid-sagittal plane in the grid's world.
        lesion: Reference mask (x, y, z); None where there is no reference.
    """

    name: str
    grid: Grid
    images: Mapping[str, Image]
    brain: Mask
    midplane: Midplane
    lesion: Mask | None = None

    @cached_property
    def space(self) -> ModelSpace:
        """The engine's input channels of this patient."""
        return ModelSpace(self.grid, self.images, self.brain, self.midplane)


def find_cases(folders: Sequence[Path]) -> list[CaseFiles]:
    """All cases of several folders; a folder whose cases repeat a name gets its own name in front.

    Raises:
        InputError: A folder holds no case.
    """
    found = [(folder, case) for folder in folders for case in discover(folder)]
    names = [case.name for _, case in found]
    return [
        case if names.count(case.name) == 1 else replace(case, name=f"{folder.name}/{case.name}")
        for folder, case in found
    ]


def reference_of(files: CaseFiles, grid: Grid) -> Mask | None:
    """The union of a case's reference masks on `grid`; None where there is none."""
    if files.reference is None:
        return None
    union = np.zeros(grid.shape, bool)
    for path in (files.reference, *files.extra_references):
        union |= reference_on(read_reference(path), grid)
    return union


def open_case(files: CaseFiles) -> Case:
    """The volumes of a case, without its reference.

    Raises:
        InputError: A file cannot be read.
    """
    paths: dict[str, Any] = dict(files.files)
    return Case.from_files(**paths, name=files.name)


def read_scan(files: CaseFiles) -> Scan:
    """A case with DWI and ADC, prepared by the engine for the 2 mm grid of the model `dwi-adc`.

    Raises:
        InputError: It cannot be read, or DWI or ADC is missing.
    """
    rule = ModelStore().card("adc-threshold")  # what it wants to be given is what `dwi-adc` wants: DWI and ADC
    prepared = prepare(open_case(files), replace(rule, preparation=MODEL_GRID), Monitor())
    grid = prepared.model_grid
    lesion = reference_of(files, prepared.reference.grid)
    images = {
        role: grid.forward(volume.array, volume.grid)
        for role, volume in prepared.corrected.volumes.items()
        if role in ("dwi", "adc")
    }
    return Scan(
        files.name,
        grid.grid,
        images,
        prepared.channels[0] > 0.5,
        prepared.midplane,
        None if lesion is None else grid.forward(lesion, interpolation="linear") >= 0.5,
    )


def scans_of(sample: Sample) -> Iterator[Scan]:
    """The patients of a synthetic sample; lesion is where at least half of a voxel is."""
    spacing, shape = np.asarray(sample.spacing_mm), np.asarray(sample.shape)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (shape - 1) / 2
    for k, seed in enumerate(sample.seeds):
        right, front, top, offset = (float(v) for v in sample.midplane[k])
        yield Scan(
            f"seed {seed}",
            Grid(sample.shape, affine),
            {role: _array(image[k]) for role, image in sample.images.items()},
            _array(sample.brain[k]) > 0,
            Midplane((right, front, top), offset, 1.0, "the sample's own"),
            _array(sample.lesion[k]) >= 0.5,
        )


def read_scans(folders: Sequence[Path]) -> tuple[list[Scan], list[str]]:
    """All cases with DWI and ADC in `folders`, and a sentence for each that could not be used."""
    scans, left_out = [], []
    for files in find_cases(folders):
        try:
            scans.append(read_scan(files))
        except InputError as error:
            left_out.append(f"{files.name}: {error.title} {error.cause}")
    return scans, left_out


def _array(tensor: Any) -> NDArray[Any]:
    return np.asarray(tensor.cpu().numpy())
