"""`Lesions`: infarcts on the working grid and what they do to tissue, acute ("dwi-adc") and chronic ("t1").

`draw_lesions` decides, `make_lesions` applies. Shapes are in `lesion_shapes`, the exam's in `lesion_shapes_exam`, their
looks in `lesion_looks` and `chronic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from strokeseg.errors import InputError
from strokeseg_training.generator.chronic import draw_chronic, paint_chronic, widening
from strokeseg_training.generator.lesion_depth import smoothstep
from strokeseg_training.generator.lesion_draw import draw_acute
from strokeseg_training.generator.lesion_head import Head, Lattice
from strokeseg_training.generator.lesion_library import LesionLibrary
from strokeseg_training.generator.lesion_looks import Canvas, paint_acute, paint_embolus
from strokeseg_training.generator.lesion_scene import ChronicLook, LesionPart, LesionRanges, LesionScene, Shower
from strokeseg_training.generator.lesion_shapes import Shape, library_shape, placed_shape, territory_shape
from strokeseg_training.generator.lesion_shapes_exam import exam_shape
from strokeseg_training.generator.lesion_territories import (
    TERRITORIES,
    belonging_coarse,
    line_distance,
    territory_line,
)

if TYPE_CHECKING:
    from strokeseg_training.generator.anatomy import Anatomy

__all__ = ["LesionRanges", "LesionScene", "Lesions", "draw_lesions", "make_lesions", "widening"]


@dataclass(frozen=True, eq=False)
class Lesions:
    """Changed tissue of N patients, all (N, x, y, z) float32.

    Args:
        infarct: Share 0-1 of the voxel's tissue (grey and white matter) that is infarct; 0 where there is no tissue.
        d_factor: Factor of the diffusivity of grey and white matter, 1 where healthy.
        t2_factor: Factor of their T2.
        t1_factor: Factor of their T1-weighted signal.
        cavity: Share 0-1 of their volume that has turned to fluid.
    """

    infarct: Tensor
    d_factor: Tensor
    t2_factor: Tensor
    t1_factor: Tensor
    cavity: Tensor

    @classmethod
    def none(cls, patients: int, shape: Sequence[int], device: torch.device) -> Lesions:
        """Healthy tissue."""
        zero = torch.zeros((2, patients, *shape), device=device)
        one = torch.ones((3, patients, *shape), device=device)
        return cls(zero[0], one[0], one[1], one[2], zero[1])

    def canvas(self, patient: int) -> Canvas:
        """One patient's maps, to be painted on."""
        return Canvas(
            self.infarct[patient],
            self.d_factor[patient],
            self.t2_factor[patient],
            self.t1_factor[patient],
            self.cavity[patient],
        )


def draw_lesions(
    rng: np.random.Generator, ranges: LesionRanges, task: str, library: LesionLibrary | None = None
) -> LesionScene:
    """Decides all lesions of one patient.

    Args:
        rng: Source of every choice.
        ranges: What to choose from; `ranges.style` "exam" draws the exam's shapes.
        task: "dwi-adc" (acute infarcts) or "t1" (chronic scars).
        library: Real masks. A set that it lacks is replaced by procedural shapes.
    """
    if task == "t1":
        return draw_chronic(rng, ranges, library if library and ranges.chronic_set in library.sets else None)
    return draw_acute(rng, ranges, library if library and ranges.acute_set in library.sets else None)


def make_lesions(scenes: Sequence[LesionScene], anatomy: Anatomy, library: LesionLibrary | None = None) -> Lesions:
    """Lesions of N patients.

    Args:
        scenes: One a patient, in the anatomy's order.
        anatomy: The brains that they lie in.
        library: The masks that the scenes were drawn with.

    Raises:
        InputError: A scene uses masks and the library is missing or another one.
    """
    made = Lesions.none(len(scenes), anatomy.shape, anatomy.device)
    for patient, scene in enumerate(scenes):
        if scene.parts or scene.showers:
            _paint(scene, Head.of(anatomy, patient), made.canvas(patient), library)
    return made


def _paint(scene: LesionScene, head: Head, canvas: Canvas, library: LesionLibrary | None) -> None:
    first: Shape | None = None
    for part in scene.parts:
        shape = _shape(head, part, library)
        if shape is None:
            continue
        first = first or shape
        box, depth = shape
        if isinstance(part.look, ChronicLook):
            paint_chronic(canvas, head.cut(box), box, depth, part.look)
        else:
            paint_acute(canvas, head.cut(box), box, depth, part.look)
    for shower in scene.showers:
        likely = _likely(shower, head, first)
        for embolus in shower.emboli:
            voxel = head.voxel_at(likely, embolus.place)
            if voxel is not None:
                paint_embolus(canvas, head, voxel, embolus)


def _shape(head: Head, part: LesionPart, library: LesionLibrary | None) -> Shape | None:
    """The part's box and depth; None where this brain has no such place."""
    if part.kind == "library":
        if library is None:
            raise InputError(
                "The scene's lesion mask is missing.",
                f"It is number {part.library_index} of '{part.library_set}', and no folder of masks was given.",
                "Give the folder of masks that the scene was drawn with.",
            )
        return library_shape(head, part, library.mask(part.library_set, part.library_index))
    if part.kind in {"territory", "scatter"}:
        return territory_shape(head, part)
    if part.kind in {"wedge", "cortex", "lacune"}:
        return placed_shape(head, part)
    return exam_shape(head, part)


def _likely(shower: Shower, head: Head, first: Shape | None) -> Lattice:
    """Where the shower's emboli may lie: (a, b, c) on the coarse lattice."""
    coarse = head.coarse
    # Sulcal cortex, a third of it fluid, is hit as often as cortex without.
    likely = np.clip(coarse.tissue - 0.3, 0.0, 0.3) * (1.0 - shower.grey_share + shower.grey_share * coarse.grey)
    if shower.around == "lesion" and first is not None:
        likely = likely * _nearness(head, first, shower.spread_mm)
    elif shower.around == "territory":
        territory = TERRITORIES[shower.territory]
        sides = (1, -1) if shower.side == 0 else (shower.side,)
        points = torch.from_numpy(coarse.mni_mm)
        bed = np.zeros_like(likely)
        for side in sides:
            distance = line_distance(points, territory_line(shower.territory, side)).numpy() / territory.radius_mm
            bed += np.exp(-0.5 * distance**2) * belonging_coarse(coarse, territory.within, side)
        likely = likely * bed
    return np.asarray(likely, dtype=np.float32)


def _nearness(head: Head, shape: Shape, spread_mm: float) -> Lattice:
    """Falls with the distance from the shape's middle; low within the shape itself."""
    box, depth = shape
    inside = smoothstep(0.5 + depth / 2.0)
    weight = inside.sum().clamp_min(1e-3)
    middle = []
    for axis, part in enumerate(box):
        line = torch.arange(part.start, part.stop, dtype=torch.float32, device=depth.device)
        profile = inside.sum(tuple(a for a in range(3) if a != axis))
        middle.append(float((profile * line).sum() / weight))
    n = head.coarse.stride
    square: Lattice = np.zeros(head.coarse.tissue.shape, dtype=np.float32)
    for axis, size in enumerate(square.shape):
        line_mm = (np.arange(size) * n - middle[axis]) * head.spacing_mm[axis]
        square = square + (line_mm**2).reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
    near = np.exp(-0.5 * square / spread_mm**2)
    # An infarct of some size: its own radius is added, so that its neighbours are not all inside it.
    radius = (float(weight) * float(np.prod(head.spacing_mm)) * 0.75 / np.pi) ** (1.0 / 3.0)
    return np.asarray(near + 0.5 * np.exp(-0.5 * (np.sqrt(square) - radius) ** 2 / 64.0), dtype=np.float32)
